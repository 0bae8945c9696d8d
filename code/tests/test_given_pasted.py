"""What is pasted from programs is told, with what to write in its place."""

from __future__ import annotations

import ast
import os
import pprint
import subprocess
from pathlib import Path

import pytest
from hypothesis import strategies as st
from turns import in_turn

from conftest import PROGRAM, fuzz
from dispatch.given.filters import parse_filter
from flags_helpers import refusal

PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
OLD = [path / "bin" / "python" for path in sorted(PYENV.glob("3.*")) if path.name < "3.11"]
OLD = [python for python in OLD if not python.parts[-3].startswith(("3.6", "3.5"))]


@pytest.mark.parametrize(
    ("query", "words", "way"),
    in_turn([
        ('[{"$match": {"name": "a"}}]', "give what stands behind $match"),
        ("[{'$match': {'name': 'a'}}, {'$limit': 3}]", "give what stands behind $match"),
        ('{"$match": {"name": "a"}}', "give what stands behind $match"),
        ('query = {"name": "a"}', "take away 'query ='"),
        ('filter_query={"name": "a"}', "take away 'filter_query='"),
        ("filter = {\n  'name': 'a',\n}", "take away 'filter ='"),
        ('{"name": "a"},', "take away the ',' at the end"),
        ("{'name': 'a'},", "take away the ',' at the end"),
        ('{"subject.subject_id": str(774659)}', "write the value itself, in place of str(...)"),
        ('{"subject.subject_id": subject_id}', "write the value itself, in place of subject_id"),
        ("{'a': {'$in': subjects}}", "write the value itself, in place of subjects"),
        ("{'a': f'{subject}_x'}", "write a plain string, with the values in it"),
        ("{'a': 'x'\n 'b': 'y'}", "a comma is missing between two strings, before 'b'"),
        ("{'a': ['x' 'y']}", "a comma is missing between two strings, before 'y'"),
        ("{'a': ['x'\n'y']}", "a comma is missing between two strings, before 'y'"),
    ], ["flag", "file"]),
)  # fmt: skip
def test_what_a_filter_is_not_is_told(way: str, query: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "query.json").write_text(query)
    value = query if way == "flag" else "query.json"
    assert words in refusal(f"--query={value}", f"--input_directory={tmp_path}")


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
def test_what_programs_and_shells_write_is_named(string: str, words: str) -> None:
    said = refusal(f"--query={string}")
    assert words in said
    assert said.startswith("--query: write ")


def test_what_stands_in_quotes_is_not_advised_on() -> None:
    assert "write" not in refusal('--query={"name": "a date(1) and true, b: ObjectId(", "x" 5}')


def test_a_filter_that_pprint_has_split_is_the_same_filter() -> None:
    def check(value: list[str], width: int) -> None:
        query = {"name": {"$in": value}, "$comment": " ".join(value)}
        string = pprint.pformat(query, width=width)
        assert ast.literal_eval(string) == query
        assert parse_filter(string, "--query") == query

    words = st.lists(st.text("ab: ,{}\t'\"\n\\", max_size=9), max_size=6).map(" ".join)
    fuzz(check, value=st.lists(words, max_size=4), width=st.integers(1, 80))


def test_a_value_over_lines_is_one_string() -> None:
    query = "{'name': {'$regex': '^ecephys'\n   '.*sorted'}}"
    assert parse_filter(query, "--query") == {"name": {"$regex": "^ecephys.*sorted"}}


def test_the_program_can_be_read_by_a_python_that_cannot_run_it() -> None:
    ast.parse(PROGRAM.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("python", OLD or [pytest.param("", marks=pytest.mark.skip("no old one"))])
def test_an_old_python_is_told_in_a_line(python: Path) -> None:
    done = subprocess.run(
        [python, PROGRAM, "--query={}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: Python 3.11 or newer is needed, and this is 3.")
    assert done.stderr.count("\n") == 1
