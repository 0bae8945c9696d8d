"""Values that are nested deeper than any in a database of records."""

from __future__ import annotations

import json

import pytest
from turns import in_turn

from conftest import Run, fails, some
from standins import BUCKET, S3, DocDB, record

FLAGS = ("--query={}", "--file_extension=nwb")
KINDS = {"lists": ("[", "]"), "objects": ('{"a":', "}")}
ASKED = {
    "group": ["--group_by=v"],
    "unwound": ["--group_by=v", "--unwind_list_fields=v"],
    "latest": ["--filter_latest=v", "--filter_by=name"],
    "by": ["--filter_latest=name", "--filter_by=v.a"],
    "plan": ["--group_by=v", "--dry_run=1"],
}


@pytest.mark.parametrize(("asked", "kind"), in_turn(ASKED, list(KINDS)))
def test_a_value_that_is_nested_too_deeply_is_told_as_what_it_is(
    kind: str, asked: str, run: Run, docdb: DocDB, s3: S3
) -> None:
    s3.put(BUCKET, ["a/1.nwb", "b/1.nwb"])
    begin, end = KINDS[kind]
    for depth in (*some((100, 300, 500, 900), 2), 99):
        records = json.dumps([record("a", v="deep"), record("b", v={"a": "flat"})])
        body = records.replace('"deep"', f"{begin * depth}1{end * depth}").encode()
        docdb.faults.append((200, {}, body))
        result = run(*FLAGS, *ASKED[asked])
        if depth > 99:  # in a field of a record
            fails(result, "answers with a record that is nested more than 100 deep")
        else:
            assert result.status == 0, result.log
            assert "2 records matched" in result.log


@pytest.mark.parametrize("field", ["name", "location", "external_links", "subject", "_id"])
def test_a_field_that_is_nested_too_deeply_ends_in_no_words_of_pythons(
    field: str, run: Run, docdb: DocDB, s3: S3
) -> None:
    s3.put(BUCKET, ["a/1.nwb", "b/1.nwb"])
    for depth in some((50, 300, 900), 2):
        body = json.dumps([{**record("a"), field: "deep"}, record("b")])
        docdb.faults.append((200, {}, body.replace('"deep"', "[" * depth + "]" * depth).encode()))
        result = run(*FLAGS, "--dry_run=1")
        assert "Error" not in result.log, result.log
