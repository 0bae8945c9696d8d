"""Locations lead nowhere but where they may."""

from __future__ import annotations

from conftest import Run
from standins import BUCKET, S3, DocDB, record


def test_locations_lead_nowhere_but_to_s3(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put(BUCKET, ["../x/a.nwb", "x/b.nwb", "good/c.nwb"])
    odd = ["file:///etc", f"s3://{BUCKET}", f"s3://{BUCKET}/", "/etc", "etc", "s3:///x", 5, None,
           ["s3://a/b"], "", "https://x/y", f"s3://{BUCKET}//x"]  # fmt: skip
    docdb.put(*({**record(f"odd{n:02}"), "location": at} for n, at in enumerate(odd)))
    docdb.put({**record("up"), "location": f"s3://{BUCKET}/../x"}, record("good"))
    docdb.put({**record("number"), "_id": 5}, {**record("list"), "_id": {"a": 1}})
    result = run("--query={}", "--file_extension=nwb")
    assert result.status == 0, result.log
    assert [task["file_location"] for task in result.tasks()] == [
        [f"s3://{BUCKET}/good/c.nwb"],
        [f"s3://{BUCKET}/../x/a.nwb"],
    ]
    for n in range(len(odd)):
        assert f"skipped, location is not s3://bucket/prefix: odd{n:02}" in result.log
    assert "record id is not a string: 2" in result.error
