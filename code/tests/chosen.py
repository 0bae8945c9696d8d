"""Records and snapshots for the tests that choose."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from conftest import NIGHT, Result, Run
from standins import DocDB, record

Record = dict[str, Any]
Ask = Callable[..., Result]
WAYS = ("gateway", "snapshot")


@pytest.fixture(params=WAYS if NIGHT else WAYS[1:])
def ask(request: pytest.FixtureRequest, run: Run, docdb: DocDB, tmp_path: Path) -> Ask:
    """Return a function that runs the program on records, without those of runs before.

    By day they are those of a file, but where a test says otherwise: the same filter is asked.
    """

    def ask(records: list[Record], *flags: str) -> Result:
        shutil.rmtree(tmp_path / "results", ignore_errors=True)
        where = []
        if request.param == "snapshot":
            where.append(write_snapshot(tmp_path, records))
        docdb.clear()
        for version in ("v1", "v2"):
            docdb.put(*records, version=version)
        return run(*flags, *where)

    return ask


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
