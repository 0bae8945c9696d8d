"""The output: names, bytes and worker folders, all or nothing, whatever ends the run."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, cycle, product, repeat
from pathlib import Path

import pytest
from analysis_pipeline_utils.analysis_dispatch_model import AnalysisDispatchModel

from conftest import NIGHT, Run, a_task, fails, hooked
from dispatch.assets.assets import Asset
from dispatch.tasks.lock import lock
from dispatch.tasks.output import check_output, recover, write_workers
from dispatch.tasks.tasks import Task, render_tasks
from dispatch.terminal.messages import BadInput, FailedRun
from faults import FLAGS, all_of_many, completes, many, whole, world  # noqa: F401  (a fixture)
from standins import BUCKET, S3, DocDB, record

PLAN = ".dispatch_plan.jsonl"


def test_tasks_validate_and_have_the_keys_in_order(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put(BUCKET, ["a/x.nwb", "a/y.nwb"])
    docdb.put(record("a"))
    result = run("--query={}", "--file_extension=nwb", "--split_files=0")
    [path] = result.output.glob("*/*.json")
    content = path.read_text()
    task = AnalysisDispatchModel.model_validate_json(content)
    assert task.file_location == [f"s3://{BUCKET}/a/x.nwb", f"s3://{BUCKET}/a/y.nwb"]
    assert list(json.loads(content)) == [
        "s3_location", "asset_id", "asset_name", "docdb_record_id", "file_location", "query",
    ]  # fmt: skip
    assert content.startswith('{\n    "s3_location": [\n        "s3://')
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", path.stem
    )


@pytest.mark.parametrize("length", [8_000, 8_001])
def test_a_query_past_8000_characters_is_left_out(length: int, run: Run, docdb: DocDB) -> None:
    docdb.put(record("a"))
    query = {"name": {"$in": ["a", ""]}}
    query["name"]["$in"][1] = "x" * (length - len(json.dumps(query, separators=(",", ":"))))
    result = run(f"--query={json.dumps(query)}")
    assert result.status == 0, result.log
    assert ("query" in result.tasks()[0]) == (length == 8_000)
    assert ("left out of the tasks" in result.log) == (length == 8_001)


def test_the_same_input_gives_the_same_bytes(run: Run, docdb: DocDB, tmp_path: Path) -> None:
    docdb.put(*(record(f"{n}") for n in range(7)))
    first = run("--query={}", "--max_jobs=3")
    again = run("--query={}", "--max_jobs=3", output=tmp_path / "again")
    assert first.files() == again.files()
    replaced = run("--query={}", "--max_jobs=3", "--overwrite=1")
    assert replaced.files() == first.files()


def test_worker_folders_of_an_earlier_run_are_refused_or_replaced(run: Run, docdb: DocDB) -> None:
    docdb.put(*(record(f"{n}") for n in range(5)))
    first = run("--query={}")
    before = first.files()
    refused = run("--query={}")
    assert refused.status == 2
    assert "--overwrite 1" in refused.error
    assert refused.files() == before
    fewer = run('--query={"name": "3"}', "--overwrite=1")
    assert fewer.status == 0
    assert fewer.names() == ["0"]
    assert sorted(path.name for path in fewer.output.iterdir()) == [PLAN, "0"]


def test_nothing_but_worker_folders_may_lie_in_the_output(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"))
    output = tmp_path / "results"
    output.mkdir()
    (output / ".gitkeep").touch()
    assert run("--query={}").names() == ["0"]
    for stray in ("notes.txt", "0/data.h5", "0/mine.json", "1/deep/er", "01/x.json"):
        shutil.rmtree(output)
        (output / stray).parent.mkdir(parents=True)
        (output / stray).write_text("mine")
        result = run("--query={}", "--overwrite=1")
        assert result.status == 2
        assert stray.split("/")[0] in result.error
        assert (output / stray).read_text() == "mine"
    shutil.rmtree(output)
    output.write_text("a file")
    assert run("--query={}").status == 2


def test_a_run_that_was_killed_while_moving_is_cleaned_up_after(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(*(record(f"{n}") for n in range(3)))
    output = tmp_path / "results"
    staging = output / ".dispatch-moving-2-x"
    name = f"{uuid.uuid4()}.json"
    for path in (staging / "new" / "1" / name, staging / "old" / "0" / name, output / "0" / name):
        path.parent.mkdir(parents=True)
        path.write_text(str(path.parent.parent.name))
    refused = run("--query={}")
    assert refused.status == 2
    assert "killed" in refused.log
    assert refused.files() == {f"0/{name}": b"old"}
    result = run("--query={}", "--overwrite=1")
    assert result.status == 0
    assert sorted(path.name for path in output.iterdir()) == [PLAN, "0", "1", "2"]


def test_a_failing_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [[a_task(0)] for _ in range(2)]
    write_workers(old, tmp_path / "out", overwrite=False)
    before = sorted(tmp_path.rglob("*"))
    rename = Path.rename

    def break_once(self: Path, target: Path) -> Path:
        if next(breaks):
            raise OSError("no space left")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", break_once)
    for number in range(6):  # all moves of two new worker folders in place of two
        breaks = chain([False] * number, [True], repeat(False))
        with pytest.raises(OSError, match="no space"):
            write_workers([[a_task(0)], [a_task(0)]], tmp_path / "out", overwrite=True)
        assert sorted(tmp_path.rglob("*")) == before


def test_an_output_that_cannot_be_a_folder_is_told_at_once(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    result = run("--query={}", output=tmp_path / "file" / "below")
    assert result.status == 2
    assert f"{tmp_path / 'file'} is not a folder" in result.error
    assert docdb.requests == []


@pytest.mark.parametrize(
    ("denied", "words"),
    [(os.W_OK, "cannot be written to"), (os.X_OK, "cannot be written to"), (os.R_OK, "be read")],
)
def test_what_may_not_be_done_to_the_output_is_told(
    denied: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & denied)  # root may do all
    with pytest.raises(FailedRun, match=words):
        check_output(tmp_path, overwrite=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_that_may_not_be_written_is_told_at_once(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    result = run("--query={}", output=tmp_path / "locked" / "below")
    assert result.status == 1
    assert "cannot be written to" in result.error
    assert docdb.requests == []


def test_a_folder_that_another_dispatch_writes_into_is_left_to_it(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"))
    (tmp_path / "results").mkdir()
    with lock(tmp_path / "results"):
        result = run("--query={}")
    assert result.status == 2
    assert "another dispatch" in result.error
    assert result.files() == {}
    assert run("--query={}").status == 0


def test_a_task_that_the_model_refuses_is_not_written() -> None:
    asset = Asset("s3://bucket/x", "x", "x", None, {})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="docdb_record_id"):
        render_tasks([Task([asset], None, 0, None, None)])


# -------------------------------------------------------------------------------------------- moves

DRY_RUN = ("dispatch_plan.csv", "dispatch_plan.html", "dispatch_plan.jsonl")
KEPT = (".dispatch_plan.csv", ".dispatch_plan.html", ".dispatch_plan.dry_run.jsonl")
MOST = 4 if NIGHT else 2  # worker folders


def what_is_in(output: Path) -> dict[str, bytes]:
    """Return all files of an output folder, hidden or not, but for what a run has staged."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in output.rglob("*")
        if path.is_file() and not re.match(r"\.dispatch-", str(path.relative_to(output)))
    }


def copies_before_moves(output: Path, do: Callable[[], None]) -> list[Path]:
    """Do something; return copies of a folder before each rename, as a kill there leaves it."""
    copies: list[Path] = []
    move = Path.rename

    def copy_and_move(self: Path, target: Path) -> Path:
        copies.append(output.with_name(f"{output.name}-{len(copies)}"))
        shutil.copytree(output, copies[-1])
        return move(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", copy_and_move)
        do()
    return copies


def fill(output: Path, workers: int, word: str) -> None:
    """Dispatch into a folder, then put the files of a dry run there."""
    tasks = [[a_task(0)] for _ in range(workers)]
    write_workers(tasks, output, overwrite=True, write_plan=lambda path: note(path, word))
    for name in DRY_RUN:
        (output / name).write_text(f"{name} of {word}")


def note(path: Path, word: str) -> None:
    path.write_text(f"plan of {word}")


@pytest.mark.parametrize(("old", "new"), [(MOST, 1), (1, MOST), (1, 0), (0, 1)])
@pytest.mark.parametrize("has_kept", [False, True])
def test_a_kill_at_any_move_leaves_what_was_there(
    old: int, new: int, has_kept: bool, tmp_path: Path
) -> None:
    tasks = [[a_task(0)] for _ in range(new)]
    output = tmp_path / "output"
    fill(output, old, "old")
    if has_kept:  # by an earlier dispatch
        fill(output, old, "newer")
    before = what_is_in(output)

    def dispatch(to: Path) -> None:
        write_workers(tasks, to, overwrite=True, write_plan=lambda path: note(path, "new"))

    killed = copies_before_moves(output, partial(dispatch, output))
    assert len(killed) > old + new + len(DRY_RUN) + len(KEPT)
    assert not copies_before_moves(output, partial(recover, output))
    for number, left in enumerate(killed):
        again = copies_before_moves(left, partial(recover, left))  # a kill of what cleans up
        recovered = again[number % 3] if number % 3 < len(again) else left
        recover(recovered)
        assert not list(recovered.glob(".dispatch-moving*"))
        assert what_is_in(recovered) == before
        dispatch(recovered)
        assert what_is_in(recovered) == what_is_in(output)
    after = what_is_in(output)
    expected = {f"{n}/{tasks[n][0].id}.json" for n in range(new)} | {PLAN, *KEPT}
    assert after.keys() == expected
    assert after[PLAN] == (b"plan of new" if new else before[PLAN])
    word = "newer" if has_kept else "old"
    assert after[KEPT[0]] == f"{DRY_RUN[0]} of {word}".encode()
    assert after[KEPT[2]] == f"{DRY_RUN[2]} of {word}".encode()


@pytest.mark.parametrize("name", [PLAN, *KEPT])
def test_a_folder_that_is_called_as_a_hidden_plan_is_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine").write_text("mine")
    with pytest.raises(BadInput, match=re.escape(name)):
        write_workers([[a_task(0)]], tmp_path, overwrite=True)
    assert (tmp_path / name / "mine").read_text() == "mine"


# ------------------------------------------------------------------------------------------ signals

# Sends a signal right after a call has made something.
AFTER = """
import fcntl, os, re, tempfile

def refuse(*_):
    raise OSError(9, "no locks here")

def signal_after(module, name, pattern):
    real = getattr(module, name)
    def call(*values, **more):
        made = real(*values, **more)
        if re.search(pattern, str(values[0] if values else made)):
            setattr(module, name, real)
            os.kill(os.getpid(), {number})
        return made
    setattr(module, name, call)

{what}
"""
MADE = {
    "staging": 'signal_after(tempfile, "mkdtemp", "dispatch-staging")',
    "lock": 'fcntl.flock = refuse; signal_after(os, "open", "dispatch-lock$")',
    "unlocked": 'fcntl.flock = refuse; signal_after(os, "unlink", "dispatch-lock$")',
}


SIGNALS = (signal.SIGTERM, signal.SIGINT)
BY_DAY = list(zip(cycle(SIGNALS), MADE, strict=False))


@pytest.mark.parametrize(("number", "made"), product(SIGNALS, MADE) if NIGHT else BY_DAY)
def test_a_signal_right_after_something_is_made_leaves_nothing_of_it(
    number: signal.Signals, made: str, run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"))
    env = hooked(tmp_path, AFTER.format(number=int(number), what=MADE[made]))
    result = run("--query={}", env=env)
    if made == "unlocked":  # all is in place
        assert result.status == 0, result.log
        assert result.names() == ["0"]
        assert not [*result.output.glob(".dispatch-*")]
        return
    fails(result, number.name, status=128 + number)
    assert list(result.output.iterdir()) == []


# Sends a signal while threads write, on a disk on which to make or to remove something takes long.
SLOW = """
import os, re, sys, threading, time

def slow(name, seconds):
    real = getattr(os, name)
    def call(path, *values, **more):
        if "dispatch-staging" in str(path) or more.get("dir_fd") is not None:
            time.sleep(seconds)
        return real(path, *values, **more)
    setattr(os, name, call)

slow("mkdir", 0.004)
slow("rmdir", 0.0005)
slow("open", 0.0005)

def signal_once(event, values):
    if event == "os.mkdir" and re.search("/new/300$", str(values[0])):
        assert threading.current_thread() is not threading.main_thread()
        os.kill(os.getpid(), 15)

sys.addaudithook(signal_once)
"""


@pytest.mark.usefixtures("many")
def test_what_threads_write_while_a_signal_ends_the_run_is_removed(
    run: Run, tmp_path: Path
) -> None:
    env = hooked(tmp_path, SLOW)
    for _ in range(3 if NIGHT else 1):
        result = run("--query={}", "--max_jobs=1000", env=env)
        fails(result, "SIGTERM", status=143)
        assert list(result.output.iterdir()) == []


# -------------------------------------------------------------------------------------------- disks


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


def test_where_no_file_may_hold_anything_the_last_line_says_so(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a"))
    for dry in (0, 1):
        result = run("--query={}", f"--dry_run={dry}", prefix="ulimit -f 0; exec ")
        fails(result, "cannot write to", "File too large")
        assert list(result.output.iterdir()) == []


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
