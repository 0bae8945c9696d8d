"""All of it combined."""

from __future__ import annotations

import json
from pathlib import Path

from cohorts import MODALITY, SUBJECT, Record, reference_groups, reference_latest
from conftest import Run
from standins import S3, DocDB


def test_all_of_it_combines(
    run: Run, docdb: DocDB, s3: S3, real_records: list[Record], tmp_path: Path
) -> None:
    docdb.put(*real_records)
    for real in real_records:
        bucket, _, prefix = real["location"].removeprefix("s3://").partition("/")
        s3.put(bucket, [f"{prefix}/x.nwb", f"{prefix}/y/z.nwb/0"])
    sets = [{"w": 1}, {"w": 2}]
    (tmp_path / "data" / "analysis_parameters.json").write_text(
        json.dumps({"distributed_parameters": sets})
    )
    flags = [
        "--query={}", "--data_level=raw", "--filter_latest=created", f"--filter_by={SUBJECT}",
        f"--group_by={MODALITY}", f"--unwind_list_fields={MODALITY}", "--file_extension=nwb",
        "--max_tasks=5", "--tasks_per_job=2", "--balance_by=size",
    ]  # fmt: skip
    result = run(*flags)
    assert result.status == 0, result.log
    raw = [r for r in real_records if r["data_description"]["data_level"] == "raw"]
    latest = reference_latest(raw, "created", [SUBJECT], [], True)
    by_id = {real["_id"]: real for real in real_records}
    files = ("x.nwb", "y/z.nwb")
    groups = sorted(reference_groups(latest, [MODALITY], [MODALITY], True).items())
    expected = [
        (metadata, ids, one, [f"{by_id[i]['location']}/{f}" for i in ids for f in files])
        for metadata, ids in groups
        for one in sets
    ]  # fmt: skip
    found = [
        (json.dumps(task["group_metadata"], sort_keys=True), task["docdb_record_id"],
         task["distributed_parameters"], task["file_location"])
        for task in result.tasks()
    ]  # fmt: skip
    assert sorted(found, key=str) == sorted(expected[:5], key=str)
    assert len(expected) > 5
    assert result.names() == ["0", "1", "2"]  # two in each, and one
