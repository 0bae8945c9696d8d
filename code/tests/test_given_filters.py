"""Filters as they are pasted: what no filter can hold gets what to write in its place."""

from __future__ import annotations

import pytest

from conftest import Run


@pytest.mark.parametrize(
    ("string", "words"),
    [
        ("{'created': {'$gt': datetime.datetime(2025, 3, 1)}}",
         "write the date as a string, such as \"2025-03-04T09:12:33\", in place of"
         " datetime.datetime(...)"),
        ('{"created": {"$gt": ISODate("2025-03-01")}}', "in place of ISODate(...)"),
        ('{"created": new Date(2025)}', "in place of new Date(...)"),
        ("{'_id': ObjectId('5f')}", "write the id as a string, in quotes, in place of ObjectId("),
        ("{'name': re.compile('^ecephys')}", '{"$regex": "..."}, in place of re.compile(...)'),
        ('{"name": /^ecephys/}', '{"$regex": "..."}'),
        ('{"n": NumberLong(5)}', "write the number alone, in place of NumberLong(...)"),
        ("{\u201cname\u201d: \u201ca\u201d}", "write straight quotes, in place of \u201c"),
        ('{name: "a"}', 'write names in quotes, such as {"name": ...}, in place of name:'),
        ('{"a": {subject_id: "a"}}', "in place of subject_id:"),
        ("{'a': true}", "in place of true"),
    ],
)  # fmt: skip
def test_what_programs_and_shells_write_is_named(string: str, words: str, run: Run) -> None:
    result = run(f"--query={string}")
    assert result.status == 2
    assert words in result.error
    assert result.error.startswith("error: --query: write ")


def test_what_stands_in_quotes_is_not_advised_on(run: Run) -> None:
    result = run('--query={"name": "a date(1) and true, b: ObjectId(", "x" 5}')
    assert result.status == 2
    assert "write" not in result.error
