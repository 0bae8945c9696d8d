"""What the program runs in: a process that goes on, an older Python, Code Ocean."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from conftest import PROGRAM, ROOT, Run, give_parameters
from pipelines import Pipeline
from standins import BUCKET, S3, DocDB, record

EXAMPLE = (
    "--docdb_snapshot=metadata.jsonl",
    "--query=query.json",
    "--file_extension=.nwb",
    f"--input_directory={ROOT / 'data'}",
)
TELL = """
import gc, json, logging, os, signal, sys, threading
import run_capsule

def state():
    names = (None, "dispatch", "asyncio", "urllib3")
    return [
        [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)],
        [logging.getLogger(name).level for name in names],
        [str(handler) for handler in logging.getLogger().handlers],
        logging.root.manager.disable,
        gc.get_threshold(), gc.get_freeze_count(), gc.isenabled(),
        dict(os.environ),
    ]

if sys.argv[1] == "own":
    signal.signal(signal.SIGTERM, lambda *_: None)
    logging.basicConfig(level=logging.ERROR, stream=sys.stdout)
    gc.set_threshold(123)
before = state()
statuses = []
for argv in json.loads(sys.argv[2]):
    statuses.append(run_capsule.main(argv))
    assert state() == before, (argv, before, state())
    thread = threading.Thread(target=lambda: statuses.append(run_capsule.main(argv)))
    thread.start()
    thread.join()
    assert state() == before
print(json.dumps(statuses), file=sys.__stdout__)
"""  # noqa: E501


def in_a_process(code: str, *args: str, env: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run lines of Python beside the program."""
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=PROGRAM.parent,
        env={name: value for name, value in env.items() if value is not None},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("habit", ["none", "own"])
def test_a_process_that_goes_on_is_as_it_was(
    habit: str, services: dict[str, str], pipeline: Pipeline, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"))
    pipeline.put(version=None)
    flags = [*EXAMPLE, "--analysis_code=none"]
    runs = [
        [*flags, "--dry_run=1", f"--output_directory={tmp_path / 'plan'}"],
        ["--max_jobs=none"],
        [*flags, f"--output_directory={tmp_path / 'jobs'}", "--overwrite=1"],
    ]
    if habit == "none":  # git is told something, too
        runs.append(["--query={}", f"--output_directory={tmp_path / 'co'}", "--overwrite=1"])
    env = {**services, **pipeline.environment, "LOG_LEVEL": "WARNING"}
    done = in_a_process(TELL, habit, json.dumps(runs), env=env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [0, 0, 2, 2, 0, 0, 0, 0][: 2 * len(runs)]
    assert "error: argument --max_jobs" in done.stderr
    for task in (tmp_path / "co").glob("0/*.json"):
        assert len(json.loads(task.read_text())["analysis_code"]["version"]) == 40
    assert (tmp_path / "co").exists() == (habit == "none")


INTERRUPTED = """
import os, signal, sys, threading
import run_capsule
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests were started with
def interrupt():
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    run_capsule.main(sys.argv[1:])
except KeyboardInterrupt:
    print("goes on")
"""


def test_an_interrupt_leaves_nothing_and_the_process_goes_on(
    services: dict[str, str], docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"))
    asked = threading.Event()
    docdb.faults.append(lambda _: asked.set())  # and no answer
    output = tmp_path / "jobs"
    flags = ["--query={}", "--timeout=2", f"--output_directory={output}"]
    command = [sys.executable, "-c", INTERRUPTED, *flags]
    with subprocess.Popen(
        command, cwd=PROGRAM.parent, env=services, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True
    ) as process:
        assert asked.wait(60)
        stdout, stderr = process.communicate("now\n", timeout=60)
    assert stdout == "goes on\n", stderr
    assert not output.exists() or os.listdir(output) == []


# ---------------------------------------------------------------------------------- older Pythons

PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
OLD = [path / "bin" / "python" for path in sorted(PYENV.glob("3.*")) if path.name < "3.11"]
OLD = [python for python in OLD if not python.parts[-3].startswith(("3.6", "3.5"))]


def test_the_program_can_be_read_by_a_python_that_cannot_run_it() -> None:
    ast.parse(PROGRAM.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("python", OLD or [pytest.param("", marks=pytest.mark.skip("no old one"))])
def test_an_old_python_is_told_in_a_line(python: Path) -> None:
    done = subprocess.run(
        [python, PROGRAM, "--query={}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: Python 3.11 or newer is needed, and this is 3.")
    assert done.stderr.count("\n") == 1


# --------------------------------------------------------------------------------------- Code Ocean

FILES = ("--query={}", "--file_extension=nwb")
MIX = "worker folders hold several tasks"


@pytest.fixture
def world(docdb: DocDB, s3: S3) -> None:
    docdb.put(*map(record, "abc"))
    s3.put(BUCKET, [f"{name}/{number}.nwb" for name in "abc" for number in range(2)])


# What of the pipeline's environment is another one, the flags, and why tasks do not say their code,
# "" where no folder is shared by several tasks.
NO_TOKEN: dict[str, str | None] = {"CODEOCEAN_API_TOKEN": None}
SHARED = [
    (NO_TOKEN, ["--max_jobs=2"], "$CODEOCEAN_API_TOKEN not set"),
    ({"CO_COMPUTATION_ID": None}, ["--tasks_per_job=3"], "$CO_COMPUTATION_ID not set"),
    ({}, ["--max_jobs=2", "--analysis_code=none"], "--analysis_code none"),
    (NO_TOKEN, ["--tasks_per_job=1"], ""),
    ({**NO_TOKEN, "CO_PIPELINE_ID": None}, ["--max_jobs=2"], ""),  # out of a pipeline
    ({**NO_TOKEN, "CO_PIPELINE_ID": " "}, ["--max_jobs=2"], ""),
]


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(("other", "flags", "why"), SHARED)
def test_tasks_that_share_a_folder_in_a_pipeline_are_warned_of(
    other: dict[str, str | None], flags: list[str], why: str, run: Run, pipeline: Pipeline
) -> None:
    result = run(*FILES, *flags, env={**pipeline.environment, **other})
    assert result.status == 0, result.log
    assert len(result.names()) == (6 if "--tasks_per_job=1" in flags else 2)
    warnings = [line for line in result.log.splitlines() if MIX in line]
    assert len(warnings) == bool(why)
    for warning in warnings:
        assert " WARNING " in warning
        assert why in warning
        assert "--tasks_per_job 1" in warning


def test_without_a_token_there_are_still_50_folders(
    run: Run, pipeline: Pipeline, docdb: DocDB
) -> None:
    docdb.put(*(record(f"a{number:03}") for number in range(60)))
    result = run("--query={}", env={**pipeline.environment, **NO_TOKEN})
    assert len(result.names()) == 50
    assert MIX in result.log


# A value of the app panel, and what a worker may read it as.
READ_AS = {
    "0.1": "a number", "7": "a number", " 1e-3": "a number", "NaN": "a number",
    "true": "a boolean", "No": "a boolean",
    "null": "no value", "[1, 2]": "JSON", '{"a": 1}': "JSON",
    "good": "", "v1": "", "2025-03-01": "", "1,2": "",
}  # fmt: skip


@pytest.mark.usefixtures("world")
def test_a_panels_value_that_reads_as_another_than_a_string_is_told(
    run: Run, pipeline: Pipeline
) -> None:
    values = {f"name{number}": value for number, value in enumerate(READ_AS)}
    pipeline.put(parameters=[{"name": name, "value": value} for name, value in values.items()])
    result = run(*FILES, env=pipeline.environment)
    assert result.status == 0, result.log
    for name, value in values.items():
        told = [line for line in result.log.splitlines() if f"the parameter {name} is" in line]
        assert len(told) == bool(READ_AS[value])
        for line in told:
            assert json.dumps(value) in line
            assert f"reads that as {READ_AS[value]} " in line
            assert "the column result" in line
            assert "--skip_processed cannot tell" in line


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("sets", "is_told"), [([{"window": 1}], False), ([{"window": 1}, {"other": 2}], True)]
)
def test_a_panels_value_is_not_told_where_every_set_has_another(
    sets: Any, is_told: bool, run: Run, pipeline: Pipeline, tmp_path: Path
) -> None:
    give_parameters(tmp_path, {}, sets)
    pipeline.put(parameters=[{"name": "window", "value": "0.1"}, {"name": "dry_run", "value": "0"}])
    result = run(*FILES, "--skip_processed=1", env=pipeline.environment)
    assert result.status == 0, result.log
    assert ("the parameter window is" in result.log) == is_told
    assert "the parameter dry_run is" not in result.log  # which is no parameter of an analysis


def test_the_capsule_asks_for_the_secrets_that_the_program_reads() -> None:
    asked = json.loads((ROOT / ".codeocean" / "secrets.json").read_text())
    assert asked["version"] == 1
    aws, token = asked["secrets"]
    assert aws["type"] == "aws"
    assert (aws["access_key_id"], aws["secret_access_key"], aws["region"]) == (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_DEFAULT_REGION",
    )
    assert (token["type"], token["value"]) == ("general", "CODEOCEAN_API_TOKEN")
    for secret in asked["secrets"]:
        assert len(secret["id"]) == 16
        assert secret["id"].isalnum()
