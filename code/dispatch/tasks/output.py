"""The output folder: what may lie in it, and how all of it changes at once."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event

from dispatch.tasks.lock import lock
from dispatch.tasks.tasks import Task
from dispatch.terminal import signals
from dispatch.terminal.messages import BadInput, FailedRun, first_of, log, plural
from dispatch.terminal.waiting import result_of

STAGING = ".dispatch-staging-"
MOVING = ".dispatch-moving-"  # instead, while so many worker folders are moved into place
NUMBER = "0|[1-9][0-9]{0,8}"  # of a worker folder
IN_MOVE = re.compile(rf"{re.escape(MOVING)}({NUMBER})-(\w{{1,64}})")
PLAN_FILES = ("dispatch_plan.csv", "dispatch_plan.html", "dispatch_plan.jsonl")  # of a dry run
KEPT_AS = {  # by the next dispatch, where no * matches them
    "dispatch_plan.csv": ".dispatch_plan.csv",
    "dispatch_plan.html": ".dispatch_plan.html",
    "dispatch_plan.jsonl": ".dispatch_plan.dry_run.jsonl",
}
DISPATCHED_PLAN = ".dispatch_plan.jsonl"  # what was dispatched
HIDDEN_FILES = (DISPATCHED_PLAN, *KEPT_AS.values())
HIDDEN_LIST = "hidden"  # in the folder of a move: which hidden files move, too
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
FILES_TO_TRY = 200
SLOW_FILE = 0.00005  # seconds; in memory a file takes 0.01 ms, and threads are in each other's way
WRITERS = 4  # threads; on a disk two halve the time, on a network file system each hides latency
ABANDONED = Event()  # from then on nothing more is written
LONGEST_REMOVAL = 1.0  # seconds, of what threads still write while a run is stopped


@contextmanager
def writing_to(output: Path) -> Iterator[None]:
    """Raise FailedRun for what the file system refuses meanwhile."""
    try:
        yield
    except OSError as error:
        raise FailedRun(f"cannot write to {output}: {error}") from error


def check_output(output: Path, overwrite: bool) -> None:
    """Raise BadInput unless worker folders, and nothing else, can be what the folder shows.

    Whatever a `*` matches in there starts a worker of the pipeline's next step.
    """
    option = "--output_directory"
    there = output
    if not os.path.lexists(there):
        there = next(filter(os.path.lexists, output.absolute().parents))
    if not there.is_dir():
        raise BadInput(f"{option}: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise FailedRun(f"{option}: {there} cannot be written to")
    if there != output:
        return
    if not os.access(output, os.R_OK):
        raise FailedRun(f"{option}: what is in {output} cannot be read")
    workers, others = [], []
    for path in sorted(output.iterdir()):
        is_ours = path.name in HIDDEN_FILES
        if is_plan(path) or (path.name.startswith(".") and not is_ours):
            continue
        if is_worker(path):
            workers.append(path)
        else:
            others.append(path.name)
    if others:
        raise BadInput(
            f"{option}: {output} holds {first_of(others)}, which no dispatch wrote and which would"
            " start a worker: move it away, or choose another folder"
        )
    if workers and not overwrite:
        raise BadInput(
            f"{option}: {output} holds {plural(len(workers), 'worker folder')} of an earlier run:"
            " replace them with --overwrite 1, or choose another folder"
        )


def is_worker(path: Path) -> bool:
    """Return whether this is a folder that an earlier dispatch can have written."""
    if not re.fullmatch(NUMBER, path.name) or not is_folder(path):
        return False
    return all(re.fullmatch(r"[0-9a-f-]{36}\.json", entry.name) for entry in os.scandir(path))


def is_folder(path: Path) -> bool:
    """Return whether this is a folder, and no link to one."""
    return path.is_dir() and not path.is_symlink()


def is_file(path: Path) -> bool:
    """Return whether this is a file, and no link to one."""
    return path.is_file() and not path.is_symlink()


def is_plan(path: Path) -> bool:
    """Return whether this is a file of a plan that an earlier run can have written."""
    return path.name in (*PLAN_FILES, *HIDDEN_FILES) and is_file(path)


def count_workers(output: Path) -> int:
    """Return how many worker folders of an earlier run there are."""
    return sum(map(is_worker, output.glob("*")))


def write_workers(
    workers: Sequence[Sequence[Task]],
    output: Path,
    overwrite: bool,
    write_plan: Callable[[Path], None] | None = None,
) -> None:
    """Write one folder of files per worker, and their plan, all of them or none.

    They are written into a hidden folder and moved into place at the end, what an earlier run left
    out of their way before that. The files of a dry run are kept, hidden; where there is nothing
    new, so is the plan of what was dispatched before.
    """
    with staged(output, overwrite) as staging:
        for name in ("old", "new"):
            (staging / name).mkdir()
        write_side_by_side(workers, staging / "new")
        if write_plan and workers:
            write_plan(staging / "new" / DISPATCHED_PLAN)
        keep_dry_run(output, staging)
        with signals.moving():
            try:
                move_workers(len(workers), staging, output)
            finally:
                roll_back(output)
            signals.done()


def move_workers(number: int, staging: Path, output: Path) -> None:
    """Move so many new worker folders into place; a hidden folder tells that it is under way."""
    moving = output / staging.name.replace(STAGING, f"{MOVING}{number}-")
    staging.rename(moving)
    hidden = hidden_in_move(moving)
    for path in list(output.iterdir()):
        if path.name in hidden or not path.name.startswith("."):
            path.rename(moving / "old" / path.name)
    for name in [*map(str, range(number)), *hidden]:
        (moving / "new" / name).rename(output / name)
    moving.rename(staging)


def keep_dry_run(output: Path, staging: Path) -> None:
    """Stage the files of a dry run under their hidden names, and a list of all hidden files."""
    kept = []
    for name, hidden in KEPT_AS.items():
        if is_plan(output / name):
            copy(output / name, staging / "new" / hidden)
            kept.append(hidden)
    if kept:
        log.info("%s: the files of the dry run are kept, as %s", output, ", ".join(kept))
    new = []
    for name in HIDDEN_FILES:
        if os.path.lexists(staging / "new" / name):
            new.append(name)
    (staging / HIDDEN_LIST).write_text("\n".join(new))


def copy(path: Path, to: Path) -> None:
    """Give a file another name as well, or copy it where a file can have one name alone."""
    try:
        os.link(path, to)
    except OSError:
        shutil.copyfile(path, to)


def hidden_in_move(moving: Path) -> list[str]:
    """Return the names of the hidden files that a run moves into place with the worker folders."""
    listed = moving / HIDDEN_LIST
    names = listed.read_text().splitlines() if is_file(listed) else []
    return [name for name in names if name in HIDDEN_FILES]


def write_side_by_side(workers: Sequence[Sequence[Task]], folder: Path) -> None:
    """Make a folder for each worker; in several threads, as soon as files turn out to be slow."""
    started = time.monotonic()
    written = number = 0
    while number < len(workers):
        is_slow = time.monotonic() - started > SLOW_FILE * written
        if written >= FILES_TO_TRY and is_slow:
            break
        write_tasks(workers[number], f"{folder}/{number}")
        written += len(workers[number])
        number += 1
    if number == len(workers):
        return
    with ThreadPoolExecutor(WRITERS) as pool:
        writing = []
        for later in range(number, len(workers)):
            writing.append(pool.submit(write_tasks, workers[later], f"{folder}/{later}"))
        for future in writing:
            result_of(future)


def write_tasks(tasks: Sequence[Task], folder: str) -> None:
    """Make a worker folder with a file for each of its tasks."""
    if ABANDONED.is_set():
        return
    os.mkdir(folder)
    for task in tasks:
        if ABANDONED.is_set():
            return
        # three calls of the system: open() and its buffer took half as long again
        descriptor = os.open(f"{folder}/{task.id}.json", NEW_FILE, 0o666)
        try:
            rest = memoryview(task.content)
            while rest:  # on a disk that is nearly full, less may be written
                rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)


def move_plan(staging: Path, output: Path) -> None:
    """Move the files of a dry run into place."""
    with signals.moving():
        for name in PLAN_FILES:
            (staging / name).replace(output / name)


@contextmanager
def staged(output: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a hidden folder in the output folder, which is this process's own and checked."""
    output.mkdir(parents=True, exist_ok=True)
    with lock(output):
        clean_up(output)
        check_output(output, overwrite)
        with signals.held():
            staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=output))
            signals.clean_ups.append(partial(abandon, staging))
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            signals.clean_ups.pop()


def abandon(staging: Path) -> None:
    """Remove what a run that is to be stopped has staged.

    Each thread that writes may make one more file in a folder that is still there, which is then
    removed once more; where the folders are gone, none can.
    """
    ABANDONED.set()
    shutil.rmtree(staging, ignore_errors=True)
    end = time.monotonic() + LONGEST_REMOVAL
    while os.path.lexists(staging) and time.monotonic() < end:
        shutil.rmtree(staging, ignore_errors=True)


# ------------------------------------------------------------------------- after a run was killed


def recover(output: Path) -> None:
    """Clean up after a run that was killed while it moved folders, if there was one."""
    if unfinished_moves(output):
        with lock(output):
            clean_up(output)


def clean_up(output: Path) -> None:
    """Remove what a run that was killed has left in the output folder."""
    if roll_back(output):
        log.warning("%s: rolled back an interrupted move of worker folders", output)
    for staging in output.glob(f"{STAGING}*"):
        if is_folder(staging):
            shutil.rmtree(staging, ignore_errors=True)
            done = "cannot be removed" if os.path.lexists(staging) else "removed"
            log.warning("%s: %s, left by a run that was killed", staging, done)


def unfinished_moves(output: Path) -> list[Path]:
    """Return the hidden folders that tell of worker folders that were being moved."""
    found = []
    for path in sorted(output.glob(f"{MOVING}*")):
        if IN_MOVE.fullmatch(path.name) and is_folder(path):
            found.append(path)
    return found


def roll_back(output: Path) -> bool:
    """Put back what a run has moved but not finished to move; return whether there is such a run.

    Every step can be repeated: a new worker folder that is missing from the staging folder is the
    one in the output folder, and old ones come back when the last new one is out of their way.
    """
    unfinished = unfinished_moves(output)
    for moving in unfinished:
        workers, name = IN_MOVE.fullmatch(moving.name).groups()  # type: ignore[union-attr]
        old, new, hidden = moving / "old", moving / "new", hidden_in_move(moving)
        for path in list(output.iterdir()):
            is_moved = is_worker(path) and int(path.name) < int(workers)
            is_moved = is_moved or path.name in hidden
            if is_moved and is_folder(new) and not os.path.lexists(new / path.name):
                path.rename(new / path.name)
        if is_folder(old):
            put_back(old, output)
        aside = output / f"{STAGING}{name}"
        if os.path.lexists(aside):
            aside = Path(tempfile.mkdtemp(prefix=STAGING, dir=output))
        moving.rename(aside)  # with what is left, to be removed
    return bool(unfinished)


def put_back(old: Path, output: Path) -> None:
    """Move what was in the way of new worker folders to where it was."""
    for path in sorted(old.iterdir()):
        where = output / path.name
        if os.path.lexists(where):
            log.warning(
                "%s: cannot be put back from an interrupted move, something is there", where
            )
        elif is_worker(path) or is_plan(path):
            path.rename(where)
        else:
            log.warning("%s: is not put back, since no dispatch wrote it", where)
