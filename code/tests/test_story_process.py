"""A process that calls main and goes on, as a notebook does, stays as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from conftest import PROGRAM, ROOT
from pipelines import Pipeline
from standins import DocDB, record

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
