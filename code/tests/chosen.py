"""Records and snapshots for the tests that choose."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from conftest import Result
from standins import record

Record = dict[str, Any]


def names(result: Result) -> list[str]:
    return [name for task in result.tasks() for name in task["asset_name"]]


def write_snapshot(folder: Path, records: Iterable[Record]) -> str:
    """Write a snapshot of records into a folder; return the flag that asks it from there."""
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, records)))
    return "--docdb_snapshot=records.jsonl"


def put_on_disk(folder: Path, assets: Iterable[str], keys: Iterable[str]) -> str:
    """Make files below a folder, with a snapshot of their assets; return the flag that asks it."""
    for key in keys:
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_text("")
    return write_snapshot(folder, ({**record(name), "location": name} for name in assets))
