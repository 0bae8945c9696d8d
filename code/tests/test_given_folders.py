"""Folders that flags name: what is no folder of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import ROOT, Run
from standins import DocDB, record

ADDRESSES = ("s3://bucket/jobs", "S3://b/j/", "file:///tmp/jobs", "gs://b/jobs", "https://x.org/j")


@pytest.mark.parametrize("flag", ["input_directory", "output_directory", "skip_dispatched"])
@pytest.mark.parametrize("address", ADDRESSES)
def test_the_address_of_another_place_is_no_folder(
    flag: str, address: str, run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"))
    before = sorted(tmp_path.iterdir())
    given = f"{address},other" if flag == "skip_dispatched" else address
    result = run("--query={}", f"--{flag}={given}")
    assert result.status == 2, result.log
    assert result.error.startswith(f"error: argument --{flag}: must be the path of a folder")
    assert "aws s3 cp --recursive" in result.error
    assert address in result.error
    assert sorted(tmp_path.iterdir()) == before
    assert not (ROOT / "s3:").exists()


def test_folders_with_colons_and_of_home_are_folders(
    run: Run, docdb: DocDB, services: dict[str, str], tmp_path: Path
) -> None:
    docdb.put(*map(record, "ab"))
    colon = tmp_path / "2025-03-01T10:00"
    assert run("--query={}", f"--output_directory={colon}", output=colon).status == 0
    home = Path(services["HOME"]) / "earlier"
    assert run("--query={}", "--max_tasks=1", "--output_directory=~/earlier", output=home).names()
    result = run("--query={}", "--skip_dispatched=~/earlier")
    assert [task["asset_name"] for task in result.tasks()] == [["b"]]
    none = run("--query={}", f'--skip_dispatched=["{colon}", "~/earlier"]', "--overwrite=1")
    assert none.status == 0, none.log
    assert none.names() == []


@pytest.mark.parametrize("flag", ["records", "analysis_code", "compare_with", "from_plan"])
def test_a_file_elsewhere_is_to_be_copied_first(flag: str, run: Run) -> None:
    chosen = [] if flag == "from_plan" else ["--project_name=any"]
    result = run(*chosen, f"--{flag}=s3://bucket/folder/file.json")
    assert result.status == 2, result.log
    assert "there is no file 's3://bucket/folder/file.json'" in result.error
    assert "copy it to this machine first: aws s3 cp" in result.error
    assert "aws s3 cp --recursive for a folder" in result.error
