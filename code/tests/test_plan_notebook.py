"""plans.py: plans from Python and a notebook, whatever its process is doing besides."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import generated
import plans
from conftest import ROOT, Run, some
from dispatch.settings import Settings
from plans import BadInput, FailedRun, Plan, load_plan, make_plan
from standins import BUCKET, S3, DocDB, record

FLAGS = {setting.name for setting in fields(Settings) if setting.metadata}
NOTEBOOK = ROOT / "code" / "docs" / "notebook.ipynb"
CODE = {"PYTHONPATH": str(ROOT / "code")}
NWB: dict[str, Any] = {"file_extension": "nwb"}


@pytest.fixture(autouse=True)
def caller(services: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process have the environment and the working folder of a user."""
    for name, value in services.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def world(docdb: DocDB, s3: S3) -> None:
    for number, name in enumerate("abcd"):
        docdb.put(record(name, subject={"subject_id": str(number % 2)}, created=f"2025-0{number}"))
    docdb.put(record("empty"))
    s3.put(BUCKET, [f"{name}/{number}.nwb" for name in "abcd" for number in range(2)])


@pytest.fixture
def in_forks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the program run in forks, where the flags count and what comes of them."""

    def run_program(flags: list[str]) -> None:
        result = run(*flags)
        assert result.status == 0, result.log

    monkeypatch.setattr(plans, "run_program", run_program)


def tree(folder: Path) -> dict[str, bytes]:
    """Return the tasks in worker folders, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/*.json")}


def test_the_keywords_are_the_flags() -> None:
    keywords = inspect.signature(make_plan).parameters
    assert FLAGS - keywords.keys() == set(generated.NO_KEYWORDS)
    assert keywords.keys() <= FLAGS
    assert {value.default for value in keywords.values()} == {None}
    dispatch = inspect.signature(Plan.dispatch).parameters
    assert dispatch.keys() - {"self"} <= FLAGS
    assert generated.keywords() in Path(plans.__file__).read_text()


@pytest.mark.usefixtures("world", "in_forks")
def test_a_plan_is_looked_at_kept_and_dispatched(tmp_path: Path, run: Run) -> None:
    plan = make_plan(query={}, **NWB)
    assert len(plan) == 8
    tasks = plan.tasks
    assert list(tasks["asset_name"]) == [[name] for name in "aabbccdd"]
    assert list(tasks["bytes"]) == [0] * 8
    assert pd.api.types.is_integer_dtype(tasks["bytes"])
    assert list(plan.skipped["name"]) == [f"empty (s3://{BUCKET}/empty)"]
    assert list(plan.skipped["reason"]) == ["no .nwb file"]
    for text in (repr(plan), plan._repr_html_()):
        assert "5 records matched, 8 tasks, 8 workers, 8 files, 1 skipped" in text
        assert "[a]" in text
    plan.save(tmp_path / "plan.jsonl")
    written = plan.dispatch("jobs", max_jobs=2)
    told = run("--query={}", "--file_extension=nwb", "--max_jobs=2")
    assert tree(tmp_path / "jobs") == tree(told.output)
    assert written is not None
    for same in (written, load_plan("jobs")):
        assert list(same.tasks["task_id"]) == list(tasks["task_id"])
        assert list(same.tasks["worker"]) == [0] * 4 + [1] * 4
    again = load_plan("plan.jsonl").dispatch(tmp_path / "again")
    assert {Path(path).name for path in tree(tmp_path / "again")} == {
        f"{task_id}.json" for task_id in tasks["task_id"]
    }
    assert again is not None
    assert len(again) == 8


@pytest.mark.usefixtures("world", "in_forks")
def test_some_tasks_are_dispatched_and_later_the_others(tmp_path: Path) -> None:
    plan = make_plan(query="{}", **NWB)
    chosen = plan.tasks[plan.tasks["asset_name"].map(lambda names: names == ["b"])]
    ways: list[Any] = [list(chosen["task_id"]), chosen["task_id"], chosen]
    for number, way in enumerate(ways):
        for overwrite in (None, True):
            some = plan.dispatch(f"some{number}", task_id=way, overwrite=overwrite)
        assert some is not None
        assert list(some.tasks["task_id"]) == list(chosen["task_id"])
        assert tree(tmp_path / f"some{number}").keys() == {
            f"{worker}/{task_id}.json" for worker, task_id in enumerate(chosen["task_id"])
        }
    rest = plan.dispatch("rest", skip_dispatched=["some0", "some1"])
    assert rest is not None
    assert set(rest.tasks["task_id"]) == set(plan.tasks["task_id"]) - set(chosen["task_id"])
    assert "2 dispatched already" in repr(rest)
    assert plan.dispatch("none", skip_dispatched=["rest", Path("some2")]) is None
    with pytest.raises(BadInput, match="task_id: the list is empty"):
        plan.dispatch("empty", task_id=plan.tasks["task_id"][:0])


VALUES: list[tuple[dict[str, Any], list[str]]] = [
    ({"query": {"name": {"$ne": "a"}}, "split_files": False, "max_tasks": 3},
     ['--query={"name": {"$ne": "a"}}', "--split_files=0", "--max_tasks=3"]),
    ({"query": {}, "subject_id": ["0"]}, ["--query={}", "--subject_id=0"]),
    ({"subject_id": pd.Series(["0", "1"])}, ["--subject_id=0,1"]),
    ({"subject_id": 1}, ["--subject_id=1"]),
    ({"asset": ("c", "a")}, ["--asset=c,a"]),
    ({"query": Path("some.json"), "include": ["0*"], "strict": None},
     ["--query=some.json", "--include=0*"]),
    ({"query": "{}", "input_directory": Path("data"), "no_sign_request": False}, ["--query={}"]),
]  # fmt: skip


@pytest.mark.usefixtures("world", "in_forks")
def test_values_are_written_as_python_has_them(run: Run, tmp_path: Path) -> None:
    (tmp_path / "some.json").write_text('{"name": "b"}')
    for keywords, flags in VALUES:
        plan = make_plan(**keywords, **NWB)
        result = run(*flags, "--file_extension=nwb", "--dry_run=1")
        assert result.status == 0, result.log
        table = pd.read_csv(result.output / "dispatch_plan.csv")
        assert list(plan.tasks["task_id"]) == list(table["task_id"]), keywords
        assert len(plan), keywords


@pytest.mark.usefixtures("in_forks")
def test_a_day_is_a_date(docdb: DocDB, s3: S3) -> None:
    for day in ("2025-03-01", "2025-03-02"):
        docdb.put(record(day, session={"session_start_time": f"{day}T10:00:00-07:00"}))
        s3.put(BUCKET, [f"{day}/x.nwb"])
    days: list[Any] = [date(2025, 3, 2), pd.Timestamp("2025-03-02 09:30")]
    for day in days:
        assert len(make_plan(session_from=day, **NWB)) == 1


def test_a_list_and_a_filter_of_any_length_arrive(docdb: DocDB) -> None:
    names = [f"behavior_{number:06}_2025-03-01_10-00-00" for number in range(4_000)]
    docdb.put(*map(record, names))
    assert len(make_plan(asset=names)) == 4_000
    assert len(make_plan(query={"name": {"$in": names}})) == 4_000
    endless = [f"{name}{'x' * 1_000}" for name in names]
    with pytest.raises(BadInput, match="too long"):
        make_plan(asset=endless)


def test_an_error_has_the_programs_line(docdb: DocDB, run: Run, tmp_path: Path) -> None:
    docdb.put(record("a"))
    cases: list[tuple[type[Exception], dict[str, Any], list[str]]] = [
        (BadInput, {"query": {}, "max_jobs": "many"}, ["--query={}", "--max_jobs=many"]),
        (FailedRun, {"query": {"name": "x"}}, ['--query={"name": "x"}']),
        (BadInput, {}, []),
    ]
    for error_class, keywords, flags in cases:
        result = run(*flags, "--dry_run=1")
        with pytest.raises(error_class) as raised:
            make_plan(**keywords, input_directory=tmp_path / "data")
        assert f"error: {raised.value}" == result.error
    with pytest.raises(TypeError):
        make_plan(no_such_flag=1)  # type: ignore[call-arg]
    plan = load_plan(run("--query={}", "--dry_run=1").output)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("")
    with pytest.raises(BadInput, match="used"):
        plan.dispatch("used")
    with pytest.raises(BadInput, match="max_jobs"):
        plan.dispatch("jobs", max_jobs=0)
    assert not (tmp_path / "jobs").exists()
    assert run("--query={}", output=tmp_path / "jobs").status == 0
    with pytest.raises(BadInput, match="--overwrite 1"):
        plan.dispatch("jobs")


@pytest.mark.usefixtures("world", "in_forks")
def test_a_file_that_is_no_whole_plan_is_bad_input(tmp_path: Path) -> None:
    make_plan(query={}, **NWB).save("plan.jsonl")
    lines = (tmp_path / "plan.jsonl").read_text().splitlines(keepends=True)
    faults = {
        "cut": "".join(lines[:-1]),
        "half": "".join(lines)[:-9],
        "later": lines[0].replace('"format":1', '"format":2').replace('"format": 1', '"format": 2'),
        "other": '{"a": 1}\n',
        "list": "[]\n",
        "blank": "",
        "binary": "\x00é",
    }
    for name, text in faults.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(BadInput, match=f"{name} is not a whole plan"):
            load_plan(tmp_path / name)
    for path in (tmp_path, "nowhere", "~nobody-here/plan"):
        with pytest.raises(BadInput, match="there is no plan"):
            load_plan(path)


@pytest.mark.usefixtures("world")
def test_the_log_goes_to_a_logger_and_nothing_is_printed(
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plans, "make_bar", lambda _: None)  # where a run takes a while
    with caplog.at_level(logging.INFO, logger="plans"):
        make_plan(query={}, **NWB)
    told = [(record.name, record.levelname, record.message) for record in caplog.records]
    assert ("plans", "INFO", "the filter: {}") in told
    assert ("plans", "WARNING", f"skipped, no .nwb file: empty (s3://{BUCKET}/empty)") in told
    assert told[-1][2].startswith("dry run, nothing is dispatched")
    assert capfd.readouterr() == ("", "")


PLAIN = """
import sys
sys.path.insert(0, sys.argv[1])

class Refuse:
    def find_spec(self, name, *_):
        ours = {"dispatch", "run_capsule", "boto3", "pydantic", "requests", "aind_data_schema"}
        if name in ours | {"tqdm", "awscrt"}:
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
from plans import make_plan
plan = make_plan(query={}, file_extension="nwb")
plan.dispatch("jobs")
"""


@pytest.mark.usefixtures("world")
def test_a_kernel_without_our_packages_prints_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", PLAIN, str(ROOT / "code")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(tree(tmp_path / "jobs")) == 8


@pytest.mark.usefixtures("world")
def test_several_at_once_in_threads_and_in_a_running_loop(tmp_path: Path) -> None:
    def one(number: int) -> str:
        plan = make_plan(query={"name": {"$lte": "abcd"[number]}}, **NWB)
        plan.dispatch(f"jobs{number}")
        return "".join(plan.tasks["asset_name"].explode())

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(one, range(2))) == ["aa", "aabb"]

    async def cell() -> int:
        return len(make_plan(query={}, **NWB))

    with ThreadPoolExecutor(1) as pool:  # a browser of other tests has a loop in this thread
        assert pool.submit(asyncio.run, cell()).result() == 8
    assert [len(tree(tmp_path / f"jobs{number}")) for number in range(2)] == [2, 4]


def state() -> list[Any]:
    """Return what a process has that others could change."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
    root = logging.getLogger()
    return [
        *(signal.getsignal(number) for number in numbers),
        *(root.level, list(root.handlers), root.manager.disable),
        *(dict(os.environ), Path.cwd(), sorted(Path("tmp").iterdir())),
    ]


@pytest.mark.usefixtures("world")
def test_the_caller_is_as_it_was() -> None:
    before = state()
    plan = make_plan(query={}, **NWB)
    plan.dispatch("jobs")
    with pytest.raises(FailedRun):
        make_plan(query={"name": "x"})
    del plan
    assert state() == before


INTERRUPTED = """
import signal, sys
from plans import make_plan, load_plan
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests were started with
print("begins", flush=True)
try:
    if sys.argv[1] == "make":
        make_plan(query={}, file_extension="nwb")
    else:
        load_plan("plan.jsonl").dispatch("jobs", skip_processed=True)
except KeyboardInterrupt:
    print("goes on", flush=True)
"""


@pytest.mark.parametrize(("what", "group"), some(
    [("make", False), ("make", True), ("dispatch", False), ("dispatch", True)], 2
))  # fmt: skip
def test_an_interrupted_cell_stops_the_process_and_leaves_nothing(
    what: str, group: bool, run: Run, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    docdb.put(record("a"))
    s3.put(BUCKET, ["a/x.nwb"])
    (tmp_path / "code.json").write_text('{"url": "https://example.org", "version": "1.0"}')
    planned = run("--query={}", "--file_extension=nwb", "--analysis_code=code.json", "--dry_run=1")
    load_plan(planned.output).save("plan.jsonl")
    asked = len(docdb.requests)
    docdb.always = lambda _: time.sleep(20)
    store = {"DOCDB_DATABASE": "analysis", "DOCDB_COLLECTION": "results"}
    cell = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, what],
        env={**os.environ, **CODE, **store, "TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + 60
        while len(docdb.requests) == asked:
            assert time.monotonic() < end
            time.sleep(0.05)
        (os.killpg if group else os.kill)(cell.pid, signal.SIGINT)
        stdout, _ = cell.communicate(timeout=15)
    finally:
        if cell.poll() is None:
            os.killpg(cell.pid, signal.SIGKILL)
    assert stdout == "begins\ngoes on\n"
    with pytest.raises(ProcessLookupError):  # nobody of its group is left
        os.killpg(cell.pid, 0)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "jobs").exists() or os.listdir(tmp_path / "jobs") == []


GROUPS = """
def group_assets(assets):
    return [assets]
"""


@pytest.mark.usefixtures("world")
def test_an_edited_group_assets_counts_and_without_a_venv_the_callers_python_does(
    tmp_path: Path,
) -> None:
    copied = tmp_path / "capsule" / "code"
    shutil.copytree(ROOT / "code", copied, ignore=shutil.ignore_patterns("tests", "__pycache__"))
    (tmp_path / "capsule" / "data").mkdir()
    text = (copied / "run_capsule.py").read_text()
    mark = "\n\ndef make_parser()"
    assert mark in text
    (copied / "run_capsule.py").write_text(text.replace(mark, GROUPS + mark))
    code = "from plans import make_plan; print(*make_plan(query={}).tasks.asset_name)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(copied)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "['a', 'b', 'c', 'd', 'empty']\n", done.stderr


def test_progress_is_a_bar(docdb: DocDB, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    docdb.put(*(record(f"{number}") for number in range(100)))
    s3.put(BUCKET, ["0/x.nwb"])
    shown: list[tuple[int, int]] = []

    class Bar:
        n = 0

        def __init__(self, total: int) -> None:
            self.total = total

        def update(self, by: int) -> None:
            self.n += by
            shown.append((self.n, self.total))

        def close(self) -> None:
            shown.append((-1, self.total))

    monkeypatch.setattr(plans, "make_bar", Bar)
    monkeypatch.setenv("PROGRESS_SECONDS", "0")
    make_plan(query={}, **NWB)
    assert {total for _, total in shown} == {100}
    numbers = [number for number, _ in shown[:-1]]
    assert numbers == sorted(numbers)
    assert 0 < numbers[-1] <= 100
    assert shown[-1] == (-1, 100)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Jupyter write into a folder of its own."""
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))


@pytest.mark.usefixtures("kernel")
def test_the_notebook_of_the_documents_runs(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    book = nbformat.read(NOTEBOOK, as_version=4)
    for cell in book.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            cell.source = cell.source.replace('CODE = ".."', f"CODE = {str(ROOT / 'code')!r}")
    client.NotebookClient(book, timeout=120, kernel_name="python3").execute(cwd=str(tmp_path))
    shown = json.dumps([cell.get("outputs", []) for cell in book.cells])
    assert "4 records matched, 4 tasks, 4 workers, 4 files, 1 skipped" in shown
    assert "behavior_700101_2025-03-04_09-12-33" in shown
    assert "text/html" in shown
    assert tree(tmp_path / "jobs")
