"""Full disks, links, and two dispatches at once."""

from __future__ import annotations

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conftest import NIGHT, Run, fails
from faults import FLAGS, all_of_many, completes, many, whole, world  # noqa: F401  (a fixture)


@pytest.mark.usefixtures("many")
def test_a_full_disk_leaves_what_was_there(run: Run, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        before = run('--query={"name": "0001"}', output=small)  # a mount point is a folder, too
        assert before.status == 0, before.log
        result = run("--query={}", "--overwrite=1", output=small)
        assert result.status == 1
        assert str(small) in result.error
        assert "No space left" in result.error
        assert "Traceback" not in result.log
        assert result.files() == before.files()
        assert sorted(path.name for path in small.iterdir()) == [".dispatch_plan.jsonl", "0"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_link_to_a_folder_is_a_folder(run: Run, whole: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    completes(run(*FLAGS, output=tmp_path / "link"), whole)
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "broken").symlink_to("nowhere")
    fails(run(*FLAGS, output=tmp_path / "broken"), "is not a folder", status=2)


def test_two_dispatches_at_once_do_not_mix(
    run: Run, all_of_many: dict[str, bytes], tmp_path: Path
) -> None:
    with ThreadPoolExecutor(2) as pool:
        for turn in range(4 if NIGHT else 2):
            output = tmp_path / f"shared{turn}"
            runs = [pool.submit(run, "--query={}", output=output) for _ in range(2)]
            won, lost = sorted((each.result() for each in runs), key=lambda one: one.status)
            completes(won, all_of_many)
            assert lost.status == 2
            assert re.search("another dispatch is writing|of an earlier run", lost.error)
