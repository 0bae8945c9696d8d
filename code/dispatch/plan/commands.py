"""The commands that a page shows: one that asks for the same anew, one that takes the plan's tasks.

Knows flags as words, what the environment says, and the folder that holds the plan.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dispatch.assets.asset_list import AssetList
from dispatch.given.values import Record
from dispatch.tasks.analysis_code import PIPELINE
from dispatch.tasks.results import RESULTS_STORE
from dispatch.tasks.tasks import MOST_WORKERS
from dispatch.terminal.secrets import SECRETS

PROGRAM = Path(__file__).parents[2] / "run_capsule.py"
PLAN_FILE = "dispatch_plan.jsonl"
# what says which records match and where, on whatever machine
ASKED = (*RESULTS_STORE, "DOCDB_VERSION")
FOLDERS_AND_SAFETY = ("input_directory", "output_directory", "overwrite")  # are each machine's own
WITH_A_PLAN = (*FOLDERS_AND_SAFETY, "strict", "timeout")  # which stay where its tasks are taken


@dataclass(frozen=True)
class Request:
    """What was asked for, as far as the page speaks of it."""

    query: Record | None  # the filter; None: the assets come from a list
    argv: tuple[str, ...] = ()  # the flags as they were given
    choosing_flags: tuple[str, ...] = ()  # those in place of which the page gives others
    limiting_flags: tuple[str, ...] = ()  # those that leave tasks out
    asset_list: AssetList | None = None
    keeps_latest: bool = False
    max_jobs: int | None = None
    tasks_per_job: int | None = None
    by_size: bool = False  # as --balance_by has it
    group_by: tuple[str, ...] = ()
    unwound: tuple[str, ...] = ()  # the fields whose lists are
    input_folder: Path = Path("data")
    output: Path = Path("results")
    overwrite: bool = False

    @property
    def takes_plan(self) -> bool:
        """Whether the tasks are those of a plan, so that nothing was asked."""
        return bool(flags_without_others(self.argv, "from_plan"))

    def sharing_flags(self, *, says_code: bool) -> list[str]:
        """Return the flags that share tasks out as here, whatever is in use without them."""
        flags = []
        if self.max_jobs:
            flags += ["--max_jobs", str(self.max_jobs)]
        if self.tasks_per_job:
            flags += ["--tasks_per_job", str(self.tasks_per_job)]
        if not flags:
            flags = ["--max_jobs", str(MOST_WORKERS)]
            if says_code:
                flags = ["--tasks_per_job", "1"]
        if self.by_size:
            flags += ["--balance_by", "size"]
        return flags


def command_of(argv: Sequence[str], *left_out: str) -> str:
    """Return the command that these flags make, without some of them, wherever it is pasted."""
    environment = words_of_environment((*ASKED, "CODEOCEAN_DOMAIN", *PIPELINE))
    return command_here([*environment, *program_here(), *flags_without(argv, *left_out)])


def portable_command_of(argv: Sequence[str], *left_out: str) -> str:
    """Return the command as it is run in a clone of this capsule on any machine.

    Files are those of that name there.
    """
    words = []
    for word in flags_without(argv, *left_out, *FOLDERS_AND_SAFETY):
        name, sign, value = word.rpartition("=") if word.startswith("--") else ("", "", word)
        if is_path_here(value):
            value = os.path.basename(value)
        words.append(f"{name}{sign}{value}")
    return shlex.join([*words_of_environment(ASKED), *program_anywhere(), *words])


def exact_command_of(request: Request) -> str:
    """Return the command that dispatches the tasks of the plan, which asks nobody for anything."""
    words = flags_without_others(request.argv, *WITH_A_PLAN)
    file = request.output.absolute() / PLAN_FILE
    return command_here([*program_here(), *words, "--from_plan", str(file)])


def exact_portable_command() -> str:
    """Return the command that does so on any machine, with the plan's file in the folder there."""
    return shlex.join([*program_anywhere(), "--from_plan", PLAN_FILE])


def command_here(words: Sequence[str]) -> str:
    """Return words as a command of a shell, in the folder in which the program runs."""
    return f"cd {shlex.quote(os.getcwd())} && {shlex.join(words)}"


def program_here() -> list[str]:
    """Return the words that start the program on this machine."""
    return [sys.executable, str(PROGRAM)]


def program_anywhere() -> list[str]:
    """Return the words that start the program in a clone of this capsule."""
    return ["bash", "environment/run.sh"]


def words_of_environment(names: Sequence[str]) -> list[str]:
    """Return the words that set these variables as they are set here; none if none is."""
    words = []
    for name in names:
        if os.environ.get(name) and name not in SECRETS:
            words.append(f"{name}={os.environ[name]}")
    return ["env", *words] if words else []


def is_path_here(value: str) -> bool:
    """Return whether the value of a flag is the path of a file on this machine."""
    return os.sep in value and not value.startswith("{") and os.path.isfile(value)


def flags_without(argv: Sequence[str], *left_out: str) -> list[str]:
    """Return these flags without some of them."""
    words = list(argv)
    for name in left_out:
        while f"--{name}" in words:
            start = words.index(f"--{name}")
            del words[start : start + 2]
        words = [word for word in words if not word.startswith(f"--{name}=")]
    return words


def flags_without_others(argv: Sequence[str], *kept: str) -> list[str]:
    """Return some of these flags, without all others."""
    words: list[str] = []
    for place, word in enumerate(argv):
        name, sign, _ = word.partition("=")
        if name.startswith("--") and name.removeprefix("--") in kept:
            words += [word] if sign else argv[place : place + 2]
    return words
