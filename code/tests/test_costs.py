"""What an asset costs in time and memory, by the stand-ins of the benchmark."""

from __future__ import annotations

import sys
import tempfile
import timeit
from pathlib import Path

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "code" / "benchmarks"))

from benchmark import PROGRAM, Figure, run_program, services
from servers import World, asset_name

from dispatch.stores.s3 import read_page

MEMORY = Path("/dev/shm")  # noqa: S108 - where files cost next to nothing
FEW, MANY = 1_000, 6_000  # assets of 20 objects, with one file each
MOST_MEMORY = 6_000  # bytes an asset; it takes some 3,000
MOST_PAGES = 12  # as long as it takes to read so many pages; it takes some eight


def run_with(assets: int) -> Figure:
    """Return what a dispatch of so many assets takes."""
    with services("small", assets, latency=0.01) as at:
        figure = run_program(at, PROGRAM)
    assert not figure.fault
    return figure


@pytest.mark.skipif(not MEMORY.is_dir(), reason=f"there is no {MEMORY}: a disk takes its own time")
def test_one_more_asset_costs_as_little_as_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(MEMORY))
    few, many = run_with(FEW), run_with(MANY)
    top = f"{asset_name(0)}/"
    page = World("small", 1).listing({"prefix": top})
    turns = timeit.repeat(lambda: read_page(page, "", len(top), top), number=1_000, repeat=5)
    seconds = (many.processor - few.processor) / (MANY - FEW)
    assert seconds < MOST_PAGES * min(turns) / 1_000
    assert (many.memory - few.memory) * 2**20 / (MANY - FEW) < MOST_MEMORY
