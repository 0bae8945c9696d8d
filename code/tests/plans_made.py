"""Plans for the tests of the page and the table."""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import NIGHT, Visit
from dispatch.assets.assets import Asset, Entry, Skip
from dispatch.plan.commands import Request, program_here
from dispatch.plan.page import write_page
from dispatch.plan.plan import Plan, assets_of
from dispatch.plan.table import write_table
from dispatch.settings import CHOOSING_FLAGS, ROOT
from dispatch.tasks.tasks import Task
from forks import run_in_a_fork

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


SHOTS = os.environ.get("PLAN_SHOTS")  # a folder to put pictures of the page into


QUERY = {
    "data_description.project_name": "Cognitive flexibility in patch foraging",
    "data_description.data_level": "derived",
    "data_description.modality.abbreviation": {"$in": ["ecephys", "behavior"]},
}


PROJECTS = ["Cognitive flexibility in patch foraging", "Dynamic Routing", "Striatum"]


FLAGS = ("--query", json.dumps(QUERY), "--file_extension", ".nwb")


REQUEST = Request(
    query=QUERY,
    argv=FLAGS,
    choosing_flags=CHOOSING_FLAGS,
    output=ROOT / "results",
)


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "</script><script>alert(1)</script>",
    "</title><!-- --><h1>no</h1>",
    "--!><b>no</b>]]>",
    "$\\frac{no}$",
    "{{ 7 * 7 }}{% raw %}",
    "px; font-family: <b>; fill: #000001",
    "javascript:alert(1)",
    "quote \" comma , semicolon ; apostrophe '",
    "two\nlines\r\nthree\r",
    "tab\tnul\0bell\x07",
    "[1, 2]",
    "=1+1",
    " spaces ",
    "é 漢字 🐁",
    "\u202eright to left",
    "\ud800",
    "",
]


def make_plan(
    assets: int = 300, subjects: int = 40, days: int = 120, tasks: int = 900, workers: int = 50
) -> Plan:
    """Return a plan that looks like a real one."""
    dice = random.Random(6)  # noqa: S311
    held = []
    for number in range(assets):
        place = int(dice.triangular(0, subjects, subjects * 0.4))
        subject = str(771200 + 37 * place)
        later = min(days - 1, max(0, int(dice.gauss(place / subjects * days, days / 8))))
        day = str(date(2025, 1, 6) + timedelta(later))
        kind = dice.choice(["ecephys", "behavior", "multiplane-ophys"])
        clock = f"{dice.randrange(8, 18):02}-{dice.randrange(60):02}-{dice.randrange(60):02}"
        lacks_subject, lacks_date = number % 90 == 89, number % 120 == 77
        name = f"{kind}_{subject}_{clock}" if lacks_date else f"{kind}_{subject}_{day}_{clock}"
        held.append(
            make_asset(name, None if lacks_subject else subject, None if lacks_date else day, kind)
        )
    held.sort(key=lambda asset: asset.name)
    made = [make_task(held[n * assets // tasks], n, dice) for n in range(tasks)]
    ends = [tasks * number // workers for number in range(workers + 1)]
    lost = [f"behavior_{n}_2025-02-01" for n in range(772001, 772009)]
    skips = [Skip("no .nwb file", f"{name} (s3://aind-open-data/{name})") for name in lost]
    skips += [Skip("no S3 location", f"ecephys_{n}_2025-03-01") for n in range(773001, 773005)]
    return plan_of([made[ends[n] : ends[n + 1]] for n in range(workers)], skips)


def plan_of(workers: list[list[Task]], skips: list[Skip] | None = None) -> Plan:
    """Return the plan in which these workers have these tasks."""
    entries: list[Entry] = [*assets_of([*chain(*workers)]), *(skips or [])]
    return Plan(len(entries), entries, None, workers, processed=[], left_out=0)


def make_asset(name: str, subject: str | None, day: str | None, kind: str = "behavior") -> Asset:
    """Return an asset that its record tells all of."""
    record = {
        "data_description": {
            "project_name": PROJECTS[sum(map(ord, subject or "")) % len(PROJECTS)],
            "data_level": "derived",
            "modality": [{"abbreviation": kind}, {"abbreviation": "behavior-videos"}],
        },
        "subject": {"subject_id": subject},
        "session": {"session_start_time": day and f"{day}T09:00:00-08:00"},
    }
    return Asset(f"s3://aind-open-data/{name}", name, name, name, record)


def make_task(asset: Asset, number: int, dice: random.Random) -> Task:
    """Return a task of one asset."""
    return Task(
        assets=[asset],
        files=[f"s3://aind-open-data/{asset.name}/nwb/experiment1_recording{number % 3 + 1}.nwb"],
        size=int(dice.lognormvariate(21, 1)),
        parameters={"threshold": [3.5, 4.0, 5.0][number % 3], "method": "kilosort4"},
        query=None,
        id=str(uuid.UUID(int=dice.getrandbits(128))),
    )


def make_named_plan(names: list[str]) -> Plan:
    """Return a plan that has these names wherever it can."""
    tasks = []
    for number, name in enumerate(names):
        asset = make_asset(name, name, "2025-01-06", name)
        tasks.append(Task([asset], [name, "b"], number, {name: name}, None, id=str(number)))
    return plan_of([tasks], [Skip(name, name) for name in names])


def make_named_request(names: list[str]) -> Request:
    """Return a request that has these names wherever they can."""
    query = {name: name for name in names}
    return replace(REQUEST, query=query, argv=tuple(names))


def write(plan: Plan, request: Request, folder: Path) -> None:
    """Write what a dry run writes."""
    write_table(plan, folder / "dispatch_plan.csv")
    write_page(plan, request, folder / "dispatch_plan.html")


Show = Callable[..., Any]


@pytest.fixture(scope="session")
def only_tab(browser: Browser) -> Iterator[Visit]:
    """Return the page that all tests open their plans in."""
    visit = Visit(browser)
    yield visit
    visit.context.close()


@pytest.fixture
def tab(only_tab: Visit) -> Iterator[Visit]:
    """Return a page to open plans in, which is to complain about nothing."""
    yield only_tab
    only_tab.check()


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the page of a plan of 300 assets and 900 tasks."""
    folder = tmp_path_factory.mktemp("cohort")
    write(make_plan(), REQUEST, folder)
    return folder


@pytest.fixture
def show(tab: Visit, cohort: Path, tmp_path: Path) -> Show:
    """Return a function that writes a plan, if it is not the usual one, and opens its page."""

    def show(plan: Plan | None = None, request: Request = REQUEST, **options: Any) -> Page:
        if plan is None and request is REQUEST:
            return tab.open(cohort, **options)
        write(plan or make_plan(), request, tmp_path)
        return tab.open(tmp_path, **options)

    return show


def read_cell(text: str) -> list[str]:
    values: list[str] = json.loads(text) if text.startswith("[") else [text.removeprefix("'")]
    return values


def figures(page: Page) -> dict[str, str]:
    """Return the figures that a page shows, by what they are, such as "77 of 300"."""
    rows = page.locator(".numbers div").all_inner_texts()
    return dict(row.split("\n") for row in rows)


def figure(page: Page, name: str) -> int:
    """Return how many of something are chosen."""
    return int(figures(page)[name].partition(" of ")[0].replace(",", ""))


TELL = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]))"


def paste(command: str, services: dict[str, str], *, real: bool = NIGHT) -> None:
    """Run a command of the page in a shell, from anywhere.

    By day, what the shell makes of it is run in a fork.
    """
    told = command
    if not real:
        program = shlex.join(map(os.path.normpath, program_here()))
        assert command.count(program) == 1
        told = command.replace(program, shlex.join([sys.executable, "-ISc", TELL]))
    done = subprocess.run(
        ["bash", "-c", told], cwd="/", env=services, capture_output=True, text=True, check=False
    )
    status, said = done.returncode, done.stderr
    if not real:
        argv, env, folder = json.loads(done.stdout)
        status, _, said, _ = run_in_a_fork(os.environ["FORKS"], argv, env, folder, {})
    assert status == 0, (command, said)
