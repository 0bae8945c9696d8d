"""Fixtures: the services, and the program as its user runs it."""

from __future__ import annotations

import gc
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import run_capsule
from dispatch.tasks import tasks
from dispatch.terminal.messages import BadInput
from forks import Server, run_in_a_fork, with_folders
from pipelines import pipeline, repository  # noqa: F401  (fixtures)
from standins import KEY_ID, S3, SECRET, CodeOcean, DocDB

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "code" / "run_capsule.py"
README = ROOT / "README.md"  # for those who use the program
CODE_README = ROOT / "code" / "README.md"  # for those who change it
PAGES = sorted((ROOT / "code" / "docs").glob("*.md"))  # for what few of the former need
REAL_RECORDS = ROOT.parent / "shared" / "docdb_records.jsonl"

Task = dict[str, Any]


def pytest_configure(config: pytest.Config) -> None:
    """Start the server of forks, in the first process, whose environment all others inherit."""
    if "FORKS" not in os.environ and not config.option.collectonly:
        server = Server()
        os.environ["FORKS"] = server.address
        config.add_cleanup(server.close)


def pytest_collection_finish() -> None:
    """Keep what is imported out of the way of the collector, which looked at it each time."""
    gc.freeze()


# A machine that is busy takes its time for what is drawn, which is no fault.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

NIGHT = "NIGHT" in os.environ  # what is long by nature is whole at night, and short by day

# How long the tests that draw their own inputs go on, together with others of their kind.
FUZZ_SECONDS = float(os.environ.get("FUZZ_SECONDS", "3600" if NIGHT else "6"))

Case = TypeVar("Case")


def some(cases: Iterable[Case], number: int) -> list[Case]:
    """Return all cases at night, and by day so many, evenly from the first to the last."""
    whole = list(cases)
    if NIGHT or number >= len(whole):
        return whole
    if number == 1:
        return whole[:1]
    return [whole[turn * (len(whole) - 1) // (number - 1)] for turn in range(number)]


def in_turn(rows: Iterable[Any], *ways: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return each row in all ways at night; by day in one of them, which take turns."""
    tuples = [row if isinstance(row, tuple) else (row,) for row in rows]
    combined = list(product(*ways))
    if NIGHT:
        return [(*row, *way) for row in tuples for way in combined]
    return [(*row, *way) for row, way in zip(tuples, cycle(combined), strict=False)]


def fuzz(
    check: Callable[..., None],
    share: float = 0.05,
    *,
    is_enough: Callable[[], bool] = lambda: True,
    **drawn: st.SearchStrategy[Any],
) -> None:
    """Call a check with whatever is drawn for a share of $FUZZ_SECONDS, and once at least.

    It goes on until that is enough, since by day a few draws may have shown nothing.
    """
    end = time.monotonic() + share * FUZZ_SECONDS
    turn = 0
    while time.monotonic() < end or turn < 1 or (turn < 100 and not is_enough()):

        @seed(time.time_ns())
        @settings(
            max_examples=50 if NIGHT else 10,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(st.fixed_dictionaries(drawn))
        def holds(values: dict[str, Any]) -> None:
            check(**values)

        holds()
        turn += 1


def a_task(size: int, task_id: str | None = None) -> tasks.Task:
    """Return a task to be dealt or written, of which nothing else is known."""
    task_id = task_id or str(uuid.uuid4())
    return tasks.Task([], None, size, None, None, id=task_id, content=b"{}")


@pytest.fixture(scope="session")
def docdb_server(tmp_path_factory: pytest.TempPathFactory) -> DocDB:
    return DocDB(tmp_path_factory.mktemp("docdb"))


@pytest.fixture(scope="session")
def s3_server() -> S3:
    return S3()


@pytest.fixture
def docdb(docdb_server: DocDB) -> DocDB:
    docdb_server.clear()
    return docdb_server


@pytest.fixture
def s3(s3_server: S3) -> S3:
    s3_server.clear()
    return s3_server


@pytest.fixture(scope="session")
def code_ocean_server(docdb_server: DocDB) -> CodeOcean:
    return CodeOcean(docdb_server.certificate)


@pytest.fixture
def code_ocean(code_ocean_server: CodeOcean) -> CodeOcean:
    code_ocean_server.clear()
    return code_ocean_server


@dataclass
class Result:
    """What one run of the program did."""

    status: int
    log: str
    stdout: str
    output: Path
    megabytes: float = 0.0  # that its memory has grown by at most, of a run in a fork

    @property
    def error(self) -> str:
        """The last line of standard error."""
        return self.log.rstrip("\n").rpartition("\n")[2]

    def names(self) -> list[str]:
        """Return what a `*` matches in the output folder."""
        return sorted(path.name for path in self.output.glob("*") if path.name[0] != ".")

    def workers(self) -> list[list[Task]]:
        """Return the tasks of each worker, in no order."""
        return [
            [json.loads(path.read_text()) for path in (self.output / name).iterdir()]
            for name in sorted(self.names(), key=int)
        ]

    def tasks(self) -> list[Task]:
        """Return all tasks, in their order if each worker has one."""
        return [task for tasks in self.workers() for task in tasks]

    def files(self) -> dict[str, bytes]:
        """Return all that the output folder holds, hidden or not, by path.

        But for the plan of worker folders that lie beside it, which tells when it was made; it is
        held to be one of exactly these folders.
        """
        files = {
            str(path.relative_to(self.output)): path.read_bytes()
            for path in self.output.rglob("*")
            if path.is_file()
        }
        workers = {path: content for path, content in files.items() if re.match("[0-9]+/", path)}
        if workers and ".dispatch_plan.jsonl" in files:
            lines = map(json.loads, files.pop(".dispatch_plan.jsonl").splitlines())
            planned = {
                f"{line['worker']}/{line['id']}.json": line["json"].encode()
                for line in lines
                if line["kind"] == "task"
            }
            assert planned == workers
        return files


def documents() -> str:
    """Return what those read who use the program, one document after another."""
    return "\n".join(path.read_text() for path in (README, *PAGES))


def fails(result: Result, *words: str, status: int = 1) -> None:
    """Look whether a run has ended with these words in its last line, and nothing is written."""
    assert result.status == status, result.log
    assert result.error.startswith("error: ")
    for word in words:
        assert word in result.error, result.error
    assert "Traceback" not in result.log
    assert len(re.findall("^error: ", result.log, re.MULTILINE)) == 1
    assert result.files() == {}


def refusal(*words: str) -> str:
    """Return what is said of flags that are bad input."""
    with pytest.raises(BadInput) as refused:
        run_capsule.parse_settings(words)
    assert "\n" not in str(refused.value)
    return str(refused.value)


Start = Callable[..., "subprocess.Popen[str]"]
Run = Callable[..., Result]


@pytest.fixture
def services(tmp_path: Path, docdb: DocDB, s3: S3) -> dict[str, str]:
    """Return the environment of a process that talks to the stand-ins."""
    home = tmp_path / "home"
    home.mkdir()
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "DOCDB_HOST": docdb.host,
        "REQUESTS_CA_BUNDLE": str(docdb.ca_file),
        "AWS_ENDPOINT_URL": s3.url,
        "AWS_DEFAULT_REGION": "us-west-2",
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@pytest.fixture
def start(tmp_path: Path, services: dict[str, str]) -> Start:
    """Return a function that starts the program as a process, with the stand-ins to talk to."""
    (tmp_path / "data").mkdir()

    def start(
        *flags: str,
        env: dict[str, str | None] | None = None,
        program: Path = PROGRAM,
        output: Path = tmp_path / "results",
        stderr: int = subprocess.PIPE,
        prefix: str = "",
    ) -> subprocess.Popen[str]:
        environment = {**services, **(env or {})}
        command = [sys.executable, str(program)]
        command += with_folders(flags, tmp_path / "data", output)
        if prefix:
            command = ["bash", "-c", prefix + shlex.join(command)]
        return subprocess.Popen(
            command,
            env={name: value for name, value in environment.items() if value is not None},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    return start


# What only a process of its own holds: how Python starts, in which language.
OF_PYTHON = ("PYTHON", "LANG", "LC_", "SSL_")


@pytest.fixture
def run(start: Start, services: dict[str, str], tmp_path: Path) -> Run:
    """Return a function that runs the program to its end.

    That is in a child of a process with the imports done, unless the run is to be `real`, or has
    to be: with $REAL_RUNS, where Python itself is told something, where the program is another one.
    In a child, constants of the program can be set, so that less time is waited.
    """

    def run(
        *flags: str,
        output: Path = tmp_path / "results",
        env: dict[str, str | None] | None = None,
        real: bool = False,
        constants: dict[str, float] | None = None,
        **more: Any,
    ) -> Result:
        environment = {
            name: value for name, value in {**services, **(env or {})}.items() if value is not None
        }
        of_python = any(name.startswith(OF_PYTHON) for name in environment)
        if not (real or more or of_python or "REAL_RUNS" in os.environ):
            argv = with_folders(flags, tmp_path / "data", output)
            status, stdout, log, megabytes = run_in_a_fork(
                os.environ["FORKS"], argv, environment, tmp_path, constants or {}
            )
            return Result(status, log, stdout, output, megabytes)
        process = start(*flags, output=output, env=env, **more)
        try:
            stdout, log = process.communicate(timeout=120)
        finally:
            process.kill()
        return Result(process.returncode, log or "", stdout, output)

    return run


def give_parameters(folder: Path, fixed: Any = None, sets: Any = None) -> None:
    """Write the parameters file for a run."""
    found = {"fixed_parameters": fixed, "distributed_parameters": sets}
    string = json.dumps({name: value for name, value in found.items() if value is not None})
    (folder / "data" / "analysis_parameters.json").write_text(string)


def hooked(folder: Path, code: str) -> dict[str, str | None]:
    """Return the environment of a process of Python that does this before all else."""
    hook = folder / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": str(hook)}


@pytest.fixture(scope="session")
def real_records() -> list[dict[str, Any]]:
    if not REAL_RECORDS.exists():
        pytest.skip(f"the real records are not at {REAL_RECORDS}")
    return [json.loads(line) for line in REAL_RECORDS.read_text().splitlines()]


# the first one takes a third of the others' time for a page
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
QUIETLY = (  # a browser that asks nobody for anything
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start Debian's chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip)")
    if not CHROMIUM:
        pytest.skip("needs chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIETLY)
        yield running
        running.close()


# What a column of the tasks says, of all rows that are there at some time while its table is
# scrolled, each time to the last row that is there. To wait for the frames is what takes long.
SCROLL = """(number) => {
  const table = document.getElementById("task-table");
  const box = table.closest("[tabindex]");
  const found = new Map();
  const topOf = (element) => element.getBoundingClientRect().top;
  box.scrollTop = 0;
  for (;;) {
    box.dispatchEvent(new Event("scroll"));
    const rows = [...table.tBodies[0].rows].filter((row) => row.getClientRects().length);
    for (const row of rows) {
      found.set(Number(row.ariaRowIndex), row.cells[number - 1].textContent.trim());
    }
    const before = box.scrollTop;
    if (rows.length) box.scrollTop += topOf(rows.at(-1)) - topOf(box);
    if (box.scrollTop <= before) break;
  }
  return [...found].sort((a, b) => a[0] - b[0]).map(([, text]) => text);
}"""


class Visit:
    """A page to open plans in, one after the other, and all that it asked for or complained about.

    To open one anew takes half of what a page of its own does.
    """

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.url = ""
        self.context = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.requests: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", self.refuse)

    def open(
        self, folder: Path, choice: str = "", *, size: tuple[int, int] = (1280, 720), **looks: Any
    ) -> Page:
        """Open the page of a plan in a window of this size, with nothing left of the last one."""
        self.check()
        self.page.goto("about:blank")
        self.page.mouse.move(0, 0)
        self.page.set_viewport_size({"width": size[0], "height": size[1]})
        usual = {"media": "screen", "color_scheme": "light", "forced_colors": "none"}
        self.page.emulate_media(**{**usual, **looks})
        self.requests.clear()
        self.url = (folder / "dispatch_plan.html").as_uri()
        self.page.goto(self.url + choice)
        return self.page

    def check(self) -> None:
        """Look whether the page asked for nothing but itself, and complained about nothing."""
        faults, requests = list(self.faults), list(self.requests)
        self.faults.clear()
        self.requests.clear()
        assert faults == []
        assert all(url.startswith((self.url, "blob:")) for url in requests), requests

    def refuse(self, dialog: Dialog) -> None:
        """Note that a dialog has opened, and close it."""
        self.faults.append(dialog.message)
        dialog.dismiss()

    def column(self, number: int) -> list[str]:
        """Return the texts of a column of the tasks, of all rows, as one who scrolls sees them."""
        found: list[str] = self.page.evaluate(SCROLL, number)
        return found

    def headers(self) -> list[str]:
        """Return the names of the columns of the tasks."""
        return self.page.locator("#task-table thead th").all_inner_texts()
