"""What one more asset, record, task and row of the page costs, by the benchmark's stand-ins."""

from __future__ import annotations

import sys
import tempfile
import timeit
from pathlib import Path

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "code" / "benchmarks"))

from benchmark import PROGRAM, Figure, Services, measure, run_program, services
from servers import World, asset_name

from dispatch.stores.s3 import read_page

MEMORY = Path("/dev/shm")  # noqa: S108 - where files cost next to nothing
FEW, MANY = 1_000, 5_000  # assets of 20 objects, with one file each
# What one more may cost: so many times what it takes to read a page of 20 objects, and so many
# bytes; behind it, what it does.
MOST = {
    "asset": (12, 6_000),  # 8; 4,000
    "record": (2, 4_000),  # 0.7; 2,000
    "task": (2, 1_500),  # 0.6; 0
    "row": (5, 4_000),  # 2; 1,500
}


def run_without_files(at: Services, *flags: str) -> Figure:
    """Return what a run takes that lists nothing, with a task for each record or with one task."""
    with tempfile.TemporaryDirectory(dir=at.folder) as output:
        command = [sys.executable, PROGRAM, "--query={}", f"--output_directory={output}", *flags]
        figure = measure(at, command)
    assert not figure.fault
    return figure


@pytest.mark.skipif(not MEMORY.is_dir(), reason=f"there is no {MEMORY}: a disk takes its own time")
def test_one_more_asset_record_task_or_row_costs_as_little_as_it_did(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(MEMORY))
    one, dry = "--max_tasks=1", "--dry_run=1"
    with services("small", FEW, latency=0.01) as at:
        few, few_records = run_program(at, PROGRAM), run_without_files(at, one)
    with services("small", MANY, latency=0.01) as at:
        many, many_records = run_program(at, PROGRAM), run_without_files(at, one)
        tasks = run_without_files(at)
        rows, one_row = run_without_files(at, dry), run_without_files(at, dry, one)
    assert not few.fault
    assert not many.fault
    top = f"{asset_name(0)}/"
    page = World("small", 1).listing({"prefix": top})
    turns = timeit.repeat(lambda: read_page(page, "", len(top), top), number=1_000, repeat=5)
    seconds_of_a_page = min(turns) / 1_000
    for what, less, more, number in (
        ("asset", few, many, MANY - FEW),
        ("record", few_records, many_records, MANY - FEW),
        ("task", many_records, tasks, MANY - 1),
        ("row", one_row, rows, MANY - 1),
    ):
        pages, most_bytes = MOST[what]
        seconds = (more.processor - less.processor) / number
        assert seconds < pages * seconds_of_a_page, what
        assert (more.memory - less.memory) * 2**20 / number < most_bytes, what
