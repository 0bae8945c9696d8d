"""Plans of dispatches in Python, as in a notebook: made, looked at, kept, dispatched.

    from plans import load_plan, make_plan  # with the folder code on the path

    plan = make_plan(project_name="Example Foraging", file_extension=".nwb")
    plan.tasks  # a DataFrame, as plan.skipped is
    plan.save("plan.jsonl")
    plan.dispatch("jobs", max_jobs=20)
    load_plan("jobs")  # what was dispatched

The program runs as a process of its own, with the packages of the folder .venv where there is one:
it shares neither packages nor signals, threads or settings with the caller, who needs pandas alone.
What it logs goes to the logger `plans`, what it ends with is raised as BadInput or FailedRun.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeAlias

    import pandas as pd

    Filter: TypeAlias = Mapping[str, Any] | str | Path | None
    Names: TypeAlias = str | Path | Iterable[str | int | Path] | None  # one, or several
    Text: TypeAlias = str | int | date | None
    Folder: TypeAlias = str | Path | None
    Number: TypeAlias = int | None
    Switch: TypeAlias = bool | None

__all__ = ["BadInput", "FailedRun", "Plan", "load_plan", "make_plan"]

PROGRAM = Path(__file__).resolve().with_name("run_capsule.py")
PLAN = "dispatch_plan.jsonl"  # in an output folder: a dry run's, and hidden a dispatch's
FORMAT = 1
LONGEST_FLAG = 100_000  # characters; Linux takes 131,071 bytes
PATIENCE = 5.0  # seconds in which a process that is stopped cleans up
SHOWN = ["asset_name", "file_location", "bytes", "worker"]  # of the first tasks, in a notebook
COLUMNS = [
    *("task_id", "worker", "asset_name", "file_location", "bytes", "distributed_parameters"),
    *("group_metadata", "result", "s3_location", "asset_id", "docdb_record_id", "query"),
    "analysis_code",
]
LOG_LINE = re.compile(r"\d\d:\d\d:\d\d ([A-Z]+) (.*)")
PROGRESS = re.compile(r".* ([\d,]+) of ([\d,]+) assets listed")

log = logging.getLogger("plans")
log.addHandler(logging.NullHandler())  # nothing is printed unless the caller wants a log


class BadInput(ValueError):
    """What was given is wrong; the message says what, and what to do."""


class FailedRun(RuntimeError):
    """What was given is fine, but the run could not be completed."""


# fmt: off
def make_plan(*,
    # [[[cog import generated; cog.outl(generated.keywords()) ]]]
    query: Filter = None, project_name: Text = None, subject_id: Names = None,
    modality: Names = None, data_level: Text = None, session_from: Text = None,
    session_to: Text = None, use_data_asset_csv: Switch = None, asset: Names = None,
    session_lacks: Filter = None, session_has: Filter = None, docdb_version: Text = None,
    records: Folder = None, filter_latest: Text = None, filter_by: Names = None,
    group_by: Names = None, unwind_list_fields: Names = None, drop_null_groups: Switch = None,
    file_extension: Names = None, sidecar: Names = None, include: Names = None,
    exclude: Names = None, min_size: Text = None, split_files: Switch = None,
    max_connections: Number = None, no_sign_request: Switch = None, keys_in_order: Switch = None,
    timeout: Number = None, analysis_code: Folder = None, analysis_capsule: Text = None,
    skip_processed: Switch = None, from_plan: Folder = None, task_id: Names = None,
    compare_with: Folder = None, skip_dispatched: Names = None, max_tasks: Number = None,
    max_jobs: Number = None, tasks_per_job: Number = None, balance_by: Text = None,
    input_directory: Folder = None, strict: Switch = None,
    # [[[end]]]
) -> Plan:
    """Return the plan of what the keywords ask for; nothing is dispatched.

    They are the flags that docs/flags.md lists, with values as Python has them: a dict for a
    filter, a list for several values, True or False for a switch, None for the default.
    Raise BadInput, FailedRun.
    """
    keywords = dict(locals())
    with tempfile.TemporaryDirectory(prefix="dispatch-") as name:
        folder, output = Path(name), Path(name) / "plan"
        flags = as_flags(keywords, folder)
        run_program([*flags, "--dry_run=1", f"--output_directory={output}"])
        return Plan(output / PLAN)
# fmt: on


def load_plan(path: str | Path) -> Plan:
    """Return the plan in a file, or what was dispatched to an output folder; raise BadInput.

    In a folder to which nothing was dispatched, it is the plan of its dry run.
    """
    found = Path(os.path.expanduser(path))
    if found.is_dir():
        hidden = found / f".{PLAN}"
        found = hidden if hidden.is_file() else found / PLAN
    if not found.is_file():
        raise BadInput(f"there is no plan {found}")
    return Plan(found)


class Plan:
    """What a dispatch is to do, or has done: its tasks, and what is skipped.

    It is read once, from a file that it has for itself: what later becomes of the one that it was
    loaded from, and what is changed in its tables, does not change what it dispatches.
    """

    def __init__(self, path: Path) -> None:
        folder = tempfile.mkdtemp(prefix="plan-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._path = Path(folder) / PLAN
        shutil.copyfile(path, self._path)
        head, *self._lines = read_lines(self._path, path)
        self.counts: dict[str, int | None] = head["counts"]
        self.flags: list[str] = head["flags"]
        self.filter: dict[str, Any] | None = head["filter"]
        self.made: str = head["made"]

    @cached_property
    def tasks(self) -> pd.DataFrame:
        """The tasks, one a row: its id, worker folder, bytes and result's name, and what it says.

        Lists are lists, here too, and bytes a number that may be missing.
        """
        rows = []
        for line in self._lines:
            if line["kind"] == "task":
                about = {"task_id": line["id"], "worker": line["worker"]}
                about |= {"bytes": line["bytes"], "result": line["result"]}
                rows.append({**json.loads(line["json"]), **about})
        return in_table(rows, COLUMNS).astype({"worker": "Int64", "bytes": "Int64"})

    @cached_property
    def skipped(self) -> pd.DataFrame:
        """What no task stands for, with the reason."""
        return in_table(
            [line for line in self._lines if line["kind"] == "skip"], ["name", "reason"]
        )

    def save(self, path: str | Path) -> None:
        """Write the plan into a file, which is replaced if it is there."""
        shutil.copyfile(self._path, os.path.expanduser(path))

    def dispatch(
        self,
        output_directory: str | Path,
        *,
        task_id: Names = None,
        max_tasks: Number = None,
        max_jobs: Number = None,
        tasks_per_job: Number = None,
        balance_by: Text = None,
        skip_processed: Switch = None,
        skip_dispatched: Names = None,
        overwrite: Switch = None,
        strict: Switch = None,
        timeout: Number = None,
    ) -> Plan | None:
        """Write the tasks, or those with some ids, into worker folders; return what was dispatched.

        The keywords are flags. Tasks stay with the workers that the plan gave them, unless a flag
        shares them out. Return None if none of them was new. Raise BadInput, FailedRun; then
        nothing is written.
        """
        keywords = dict(locals())
        del keywords["self"], keywords["task_id"]
        written = Path(os.path.expanduser(output_directory), f".{PLAN}")
        before = stamp(written)
        with tempfile.TemporaryDirectory(prefix="dispatch-") as folder:
            flags = as_flags(keywords, Path(folder))
            if task_id is not None:
                chosen = Path(folder) / "task_id.txt"  # in which there may be any number
                chosen.write_text("\n".join(names_in("task_id", task_id)), encoding="utf-8")
                flags.append(f"--task_id={chosen}")
            run_program([*flags, f"--from_plan={self._path}"])
        return Plan(written) if stamp(written) != before else None

    def __len__(self) -> int:
        """Return the number of tasks."""
        return self.counts["tasks"] or 0

    def in_words(self) -> str:
        """Return the counts, in a line."""
        counts = self.counts
        parts = [
            counted(counts["records"], "record", "s matched", " matched"),
            counted(counts["tasks"], "task", "s"),
            counted(counts["workers"], "worker", "s"),
            counted(counts["files"], "file", "s"),
        ]
        for name, words in {
            "skips": "skipped",
            "processed": "processed already",
            "dispatched": "dispatched already",
            "left_out": "left out by max_tasks",
        }.items():
            if counts[name]:
                parts.append(f"{counts[name]:,} {words}")
        return f"Plan of {self.made}: {', '.join(filter(None, parts))}"

    def __repr__(self) -> str:
        """Return the counts and the first tasks."""
        return f"{self.in_words()}\n{self.tasks[SHOWN].head()}"

    def _repr_html_(self) -> str:
        """Return the same for a notebook."""
        return f"<p>{escape(self.in_words())}</p>\n{self.tasks[SHOWN].head().to_html()}"


def counted(number: int | None, noun: str, more: str, one: str = "") -> str:
    """Return a number with its noun, "" if it is not known."""
    if number is None:
        return ""
    return f"{number:,} {noun}{one if number == 1 else more}"


def in_table(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """Return some columns of rows as a table, in which what is missing is None."""
    import pandas as pd

    return pd.DataFrame(
        {name: pd.Series([row.get(name) for row in rows], dtype=object) for name in columns}
    )


# ----------------------------------------------------------------------------- the file of a plan


def stamp(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from one that replaces it; None if there is none."""
    if not path.is_file():
        return None
    about = path.stat()
    return about.st_ino, about.st_mtime_ns


def read_lines(path: Path, name: Path) -> list[dict[str, Any]]:
    """Return the lines of a plan, its head first; raise BadInput for what is no whole plan."""
    try:
        with open(path, encoding="ascii") as file:
            lines = [json.loads(line) for line in file]
        head = lines[0]
        if head["kind"] != "plan":
            raise ValueError("its first line is none of a plan")
        if head["format"] != FORMAT:
            raise ValueError(f"it has the format {head['format']}, and this reads {FORMAT}")
        for kind, counted in (("task", "tasks"), ("skip", "skips")):
            number = [line["kind"] for line in lines].count(kind)
            if number != head["counts"][counted]:
                raise ValueError(f"it has {number} of {head['counts'][counted]} {counted}")
    except (ValueError, LookupError, TypeError) as error:
        raise BadInput(f"{name} is not a whole plan: {error}") from None
    return lines


# ------------------------------------------------------------------------------------- its process


def as_flags(keywords: Mapping[str, Any], folder: Path) -> list[str]:
    """Return keywords as the flags of a command; raise BadInput.

    What a flag cannot hold, a file in the folder does.
    """
    words = []
    for name, value in keywords.items():
        for word in flag_values(name, value):
            if isinstance(value, Mapping) and len(word) > LONGEST_FLAG:
                (folder / f"{name}.json").write_text(word, encoding="utf-8")
                word = str(folder / f"{name}.json")
            words.append(f"--{name}={word}")
    return words


def flag_values(name: str, value: Any) -> Iterator[str]:
    """Yield how the value of a keyword is written, in parts where it is a long list."""
    if value is None:
        return
    if isinstance(value, Mapping):
        try:
            yield json.dumps(value)
        except (TypeError, ValueError) as error:
            raise BadInput(f"{name}: {error}; records hold dates as strings") from None
    elif isinstance(value, bool):
        yield str(int(value))
    elif isinstance(value, datetime):
        yield value.date().isoformat()
    elif isinstance(value, Iterable) and not isinstance(value, str):
        yield from in_parts(names_in(name, value))
    else:
        yield str(value)


def names_in(name: str, value: Any) -> list[str]:
    """Return the names in a list, a column of a table or the like; raise BadInput for none."""
    if name in getattr(value, "columns", ()):
        value = value[name]
    names = [value] if isinstance(value, str | Path) else list(value)
    if not names:
        raise BadInput(f"{name}: the list is empty; leave the keyword out to mean all")
    return list(map(str, names))


def in_parts(names: list[str]) -> Iterator[str]:
    """Yield lists of names in JSON, each short enough for a flag: given twice, lists are joined."""
    part: list[str] = []
    length = 0
    for name in names:
        length += len(json.dumps(name)) + 2
        if part and length > LONGEST_FLAG:
            yield json.dumps(part)
            part, length = [], len(json.dumps(name)) + 2
        part.append(name)
    yield json.dumps(part)


def run_program(flags: list[str]) -> None:
    """Run the program to its end, and pass on what it says; raise BadInput, FailedRun.

    Where the caller is interrupted, the process is stopped, and leaves nothing behind.
    """
    python, environment = find_python()
    try:
        process = subprocess.Popen(  # noqa: S603  (no shell reads the values)
            [python, str(PROGRAM), *flags],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:  # the values are longer than a command may be, say
        raise BadInput(f"the program cannot be started with these values: {error}") from None
    try:
        fault = pass_on(process.stderr or [])
        status = process.wait()
    except BaseException:
        stop(process)
        raise
    finally:
        if process.stderr:
            process.stderr.close()
    if status:
        error_class = BadInput if status == 2 else FailedRun
        raise error_class(fault or f"the program ended with status {status}, and did not say why")


def find_python() -> tuple[str, dict[str, str]]:
    """Return the Python that has the program's packages, and the environment to start it in."""
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:backslashreplace"}
    environment.setdefault("PROGRESS_SECONDS", "1")
    own = PROGRAM.parent.parent / ".venv" / "bin" / "python"
    if not own.exists():
        return sys.executable, environment
    for name in ("PYTHONHOME", "PYTHONPATH"):  # which lead to the packages of the caller
        environment.pop(name, None)
    return str(own), environment


def stop(process: subprocess.Popen[str]) -> None:
    """End a process, which gets the time to clean up."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def pass_on(lines: Iterable[str]) -> str:
    """Log the lines of the program as they come, show its progress; return its error, if any.

    It is its last line: where there is none of its own, what Python says.
    """
    fault = ""
    bar: Any = None
    try:
        for line in lines:
            text = line.rstrip("\n")
            if text.startswith("error: "):
                fault = text.removeprefix("error: ")
                continue
            level, message = "DEBUG", text  # of a traceback, say
            found = LOG_LINE.match(text)
            if found:
                level, message = found.groups()
            else:
                fault = text.strip()
            log.log(getattr(logging, level, logging.INFO), "%s", message)
            progress = PROGRESS.match(message)
            if progress:
                number, total = (int(part.replace(",", "")) for part in progress.groups())
                if bar is None:
                    bar = make_bar(total)
                show_progress(bar, number, total)
    finally:
        if bar is not None:
            bar.close()
    return fault


def make_bar(total: int) -> Any:
    """Return a bar that fits where it is shown; None without tqdm."""
    try:
        with warnings.catch_warnings():  # that a notebook would have a finer one with ipywidgets
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm(total=total, desc="assets listed", unit="asset", leave=False)


def show_progress(bar: Any, number: int, total: int) -> None:
    """Show how far the program is; there may be more assets than a moment ago."""
    if bar is not None:
        bar.total = total
        bar.update(number - bar.n)
