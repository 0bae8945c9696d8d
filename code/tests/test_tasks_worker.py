"""The worker: the analysis library's own run_analysis_jobs, on what was dispatched.

It runs as in a process of a pipeline: alone, with its folder of tasks at /data/job_dict, and with a
/results of its own, which the library has built in; so each run has a root of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from analysis import model_of, processing_prefix
from conftest import Result, Run, Task, documents, give_parameters
from pipelines import CAPSULE, FIXED, RELEASED, Pipeline
from standins import BUCKET, RESULTS, S3, DocDB, record

STORE = "results-bucket"
FLAGS = ("--query={}", "--file_extension=nwb")
ANALYSIS = """
from pathlib import Path
from aind_data_schema.base import GenericModel
from analysis_pipeline_utils.utils_analysis_wrapper import run_analysis_jobs

class Given(GenericModel):
    smooth: str | None = None
    unit: str | None = None

class Found(GenericModel):
    files: int

def analyse(task, parameters):
    if "bad" in task.asset_name:
        raise RuntimeError("this one fails")
    name = "_".join(task.asset_name + [str(len(task.file_location or []))])
    Path(f"/results/{name}.txt").write_text(str(task.file_location))
    return {"files": len(task.file_location or [])}

run_analysis_jobs(Given, Found, analyse)
"""
# A root in which all is as it is, but for some folders.
ROOT_OF_ITS_OWN = """
for path in /*; do
  name=${path#/}
  case $name in data|results|code) continue;; esac
  if [ -L "$path" ]; then cp -P "$path" "$new/$name"
  elif [ -d "$path" ]; then mkdir "$new/$name" && mount --rbind "$path" "$new/$name"
  fi
done
for name in data results code; do
  if [ -n "${!name:-}" ]; then mkdir "$new/$name" && mount --bind "${!name}" "$new/$name"; fi
done
exec chroot "$new" "$@"
"""
# Forks a worker for each line that it is sent, with data and results of its own; says how it ends.
WORKERS = """
import gc, json, os, runpy, subprocess, sys, traceback
import analysis_pipeline_utils.utils_analysis_wrapper, s3fs  # most of the time, once for all
gc.freeze()
for line in sys.stdin:
    env, place, argv = json.loads(line)
    for name in ("data", "results"):
        subprocess.run(["mount", "--bind", f"{place}/{name}", f"/{name}"], check=True)
    process = os.fork()
    if not process:
        log = os.open(f"{place}/log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.clear()
        os.environ.update(env)
        sys.argv = argv
        try:
            runpy.run_path(argv[0], run_name="__main__")
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""
UNSHARE = ["unshare", "--map-root-user", "--mount", "bash", "-euc", ROOT_OF_ITS_OWN, "-"]


def can_have_a_root() -> bool:
    """Return whether a process here may have a file system of its own."""
    if not shutil.which("unshare"):
        return False
    mount = ["unshare", "--map-root-user", "--mount", "mount", "--bind", "/tmp", "/tmp"]  # noqa: S108
    return subprocess.run(mount, capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(
    not can_have_a_root(), reason="needs unshare and the right to mount: the library has /results"
)
Work = Callable[..., list[int]]


@pytest.fixture(scope="session")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """Start the process that forks workers, with a root of its own."""
    env = dict(os.environ)
    for name in ("new", "data", "results"):
        env[name] = str(tmp_path_factory.mktemp(name))
    command = [*UNSHARE, sys.executable, "-c", WORKERS]

    with subprocess.Popen(
        command, env=env, text=True, bufsize=1, stdin=PIPE, stdout=PIPE
    ) as process:
        yield process


@pytest.fixture
def work(
    pipeline: Pipeline,
    services: dict[str, str],
    workers: subprocess.Popen[str],
    s3: S3,
    tmp_path: Path,
) -> Work:
    """Return a function that runs the worker for each folder, and returns the exit statuses."""
    s3.put(STORE, [])
    pipeline.code_ocean.put("capsules", **{**CAPSULE, "id": "co-pipeline"})
    (tmp_path / "analysis.py").write_text(ANALYSIS)
    env = {**services, **pipeline.environment, "CO_CAPSULE_ID": "co-wrapper"}
    env["ANALYSIS_BUCKET"] = STORE

    def work(result: Result, *flags: str) -> list[int]:
        assert workers.stdin
        assert workers.stdout
        statuses = []
        for name in sorted(result.names(), key=int):
            place = tmp_path / "work" / name
            (place / "results").mkdir(parents=True)
            shutil.copytree(result.output / name, place / "data" / "job_dict")
            argv = [str(tmp_path / "analysis.py"), "--dry_run=0", *flags]
            print(json.dumps([env, str(place), argv]), file=workers.stdin)
            statuses.append(int(workers.stdout.readline()))
        return statuses

    return work


@pytest.fixture
def world(docdb: DocDB, s3: S3) -> None:
    docdb.put(*(record(name, subject={"subject_id": str(n % 2)}) for n, name in enumerate("ab")))
    s3.put(BUCKET, ["a/0.nwb", "a/1.nwb", "b/0.nwb"])


def stored(s3: S3) -> dict[str, set[str]]:
    """Return the names of the result files by the prefix that they are stored under."""
    found: dict[str, set[str]] = {}
    for key in s3.backend.buckets[STORE].keys:
        prefix, _, name = key.partition("/")
        found.setdefault(prefix, set()).add(name)
    return found


def named(task: Task) -> str:
    """Return the name that is predicted for a task's result."""
    return str(processing_prefix(model_of(task).analysis_code))


def results_of(tasks: list[Task]) -> dict[str, set[str]]:
    """Return what is to be stored for some tasks: each its own file, and what describes it."""
    found = {}
    for task in tasks:
        name = "_".join([*task["asset_name"], str(len(task["file_location"] or []))])
        found[named(task)] = {f"{name}.txt", "metadata.nd.json"}
    return found


PANEL = {"parameters": [{"name": "smooth", "value": "yes"}]}
CASES: dict[str, tuple[dict[str, Any], list[str], Any, Any]] = {
    # the capsule, the flags, fixed and distributed parameters
    "released, whole assets": ({}, [*FLAGS, "--split_files=0"], None, None),
    "not released, groups": (
        {"version": None}, [*FLAGS, "--group_by=subject.subject_id"], FIXED, None
    ),
    "as it was released, distributed": (
        {"version": None, "released": RELEASED}, [*FLAGS, "--max_tasks=2"],
        FIXED, [{"window": 1}, {"window": 2}],
    ),
    "no files": ({}, ["--query={}"], {"unit": None}, None),
    "with a panel": (PANEL, [*FLAGS], None, None),  # which the worker is started with
}  # fmt: skip


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("name", CASES)
def test_each_worker_stores_its_own_result_under_the_predicted_name(
    name: str, run: Run, work: Work, pipeline: Pipeline, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    capsule, flags, fixed, sets = CASES[name]
    pipeline.put(**capsule)
    give_parameters(tmp_path, fixed or {}, sets or [])
    result = run(*flags, env=pipeline.environment)
    assert result.status == 0, result.log
    tasks = result.tasks()
    assert len(result.names()) == len(tasks)  # each has a folder of its own
    started_with = ["--smooth=yes"] if capsule == PANEL else []
    assert set(work(result, *started_with)) == {0}, [
        *map(Path.read_text, tmp_path.glob("work/*/log"))
    ][-1]
    assert stored(s3) == results_of(tasks)
    assert {record["name"] for record in docdb.records[RESULTS]} == {*map(named, tasks)}
    again = run(*flags, "--skip_processed=1", "--overwrite=1", env=pipeline.environment)
    assert again.status == 0, again.log
    assert f"({len(tasks)} processed already" in again.error
    if "distributed" not in name:
        assert again.names() == []


def test_a_worker_that_fails_stops_no_other(
    run: Run, work: Work, pipeline: Pipeline, docdb: DocDB, s3: S3
) -> None:
    docdb.put(*map(record, ["a", "bad", "c"]))
    s3.put(BUCKET, [f"{name}/x.nwb" for name in ("a", "bad", "c")])
    result = run(*FLAGS, env=pipeline.environment)
    assert [status == 0 for status in work(result)] == [True, False, True]
    good = [task for task in result.tasks() if task["asset_name"] != ["bad"]]
    assert stored(s3) == results_of(good)
    again = run(*FLAGS, "--skip_processed=1", "--overwrite=1", env=pipeline.environment)
    assert [task["asset_name"] for task in again.tasks()] == [["bad"]]


@pytest.mark.usefixtures("world")
def test_the_workers_process_in_the_readme_reads_what_is_staged(run: Run, tmp_path: Path) -> None:
    readme = documents()
    process = readme.split("process analysis {")[1].split("workflow {")[0]
    script = textwrap.dedent(process.split("script: '''\n")[1].split("'''")[0])
    [example] = [
        text.split("```")[0] for text in readme.split("```python\n")[1:] if "job_dict" in text[:400]
    ]
    write = "analyse = lambda files: open(f'/results/{len(files)}.txt', 'a').write(f'{files}\\n')\n"
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "analysis.py").write_text(write + example)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "tools" / "python").chmod(0o755)
    result = run(*FLAGS, "--max_jobs=2")
    found = []
    for name in result.names():  # Nextflow: a fresh folder for each, with links to its inputs
        place = tmp_path / "work" / name
        (place / "capsule" / "data").mkdir(parents=True)
        (place / "root").mkdir()
        (place / "capsule" / "data" / "job_dict").symlink_to(result.output / name)
        env = {
            "PATH": f"{tmp_path / 'tools'}:{os.environ['PATH']}",
            "new": str(place / "root"),
            "code": str(tmp_path / "code"),
        }
        command = [*UNSHARE, "bash", "-euc", f"cd {place}; {script}"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for path in (place / "capsule" / "results").glob("*"):
            found += path.read_text().splitlines()
    assert sorted(found) == sorted(str(task["file_location"]) for task in result.tasks())
