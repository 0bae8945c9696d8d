"""Engines: worker folders under Slurm, Snakemake and GNU parallel, with the lines of the README."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import forks
from conftest import NIGHT, ROOT, documents
from environments import make_environment
from standins import BUCKET, S3, DocDB, record

NAMES = [f"{n:02}" for n in range(5)]
MANY = 1_500 if NIGHT else 0  # worker folders, more than an array of Slurm takes
ANALYSIS = """
import json, pathlib, sys
tasks, out = map(pathlib.Path, sys.argv[1:])
with open("ran", "a") as ran:
    ran.write(f"{tasks.name}\\n")
if tasks.name in pathlib.Path("fails").read_text().split():
    sys.exit(1)
out.mkdir(parents=True, exist_ok=True)
for path in tasks.glob("*.json"):
    (out / path.name).write_text(json.dumps(json.loads(path.read_text())["file_location"]))
"""
FORKED = "nothing" if NIGHT else "*/run_capsule.py"  # by day a fork stands for the program
PYTHON = f"""#!/bin/sh
case $1 in {FORKED}) set -- {forks.__file__} "$@";; esac
exec {sys.executable} "$@"
"""
SLURM = """
ClusterName=dispatch
SlurmctldHost=localhost
SlurmUser=root
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={spool}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName=localhost CPUs={processors} State=UNKNOWN
MaxArraySize={largest}
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


def example(name: str) -> str:
    """Return the lines that the README gives for an engine."""
    readme = documents()
    found = re.search(rf"<!-- example {name} -->\n```\w+\n(.*?)```", readme, re.DOTALL)
    assert found
    assert len(found[1].splitlines()) <= 10
    return found[1]


@pytest.fixture
def home(docdb: DocDB, s3: S3, tmp_path: Path) -> Path:
    """Return a folder with the program, an analysis and a query, in which a user may work."""
    docdb.put(*map(record, NAMES))
    s3.put(BUCKET, [f"{name}/x.nwb" for name in NAMES])
    folder = tmp_path / "work"
    (folder / "tools").mkdir(parents=True)
    (folder / "code").symlink_to(ROOT / "code")
    python = folder / "tools" / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    (folder / "analysis.py").write_text(ANALYSIS)
    (folder / "query.json").write_text("{}")
    (folder / "fails").write_text("")
    return folder


Shell = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def shell(home: Path, services: dict[str, str]) -> Shell:
    """Return a function that runs lines in a user's shell there."""

    def shell(lines: str, **more: str) -> subprocess.CompletedProcess[str]:
        env = {**services, **more, "FORKS": os.environ["FORKS"]}
        env["PATH"] = f"{home / 'tools'}:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-euc", lines],
            cwd=home,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )

    return shell


def analysed(folder: Path) -> list[str]:
    """Return the files that were analysed; check that each worker had its own folder."""
    found = []
    for path in sorted(folder.glob("out/*/*.json"), key=lambda path: int(path.parent.name)):
        assert (folder / "jobs" / path.parent.name / path.name).exists()
        found += json.loads(path.read_text())
    return found


ALL = [f"s3://{BUCKET}/{name}/x.nwb" for name in NAMES]
DISPATCH = example("slurm").splitlines()[0]


@pytest.mark.skipif(not shutil.which("parallel"), reason="needs parallel: apt-get install parallel")
def test_gnu_parallel_runs_each_folder(home: Path, shell: Shell) -> None:
    done = shell(f"{DISPATCH}\n{example('parallel')}")
    assert done.returncode == 0, done.stderr
    assert analysed(home) == ALL


@pytest.fixture(scope="session")
def snakemake(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the command, from an environment of its own if it is not there."""
    there = shutil.which("snakemake")
    if there:
        return there
    folder = tmp_path_factory.mktemp("snakemake")
    if why := make_environment(folder, "snakemake"):
        pytest.skip(f"snakemake cannot be installed: {why}")
    return str(folder / "bin" / "snakemake")


def test_snakemake_runs_each_folder(home: Path, shell: Shell, snakemake: str) -> None:
    (home / "Snakefile").write_text(example("snakemake"))
    done = shell(f"{snakemake} --cores 2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert analysed(home) == ALL


def free_port() -> int:
    """Return the number of a port that nothing listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


LARGEST = 4  # number of elements that an array may have


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[str]:
    """Start Slurm, with one node on this machine; return the path of its configuration."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not find(name)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("needs root: so Slurm starts jobs")
    folder = tmp_path / "slurm"
    (folder / "state").mkdir(parents=True)
    # a job's socket lies in it, whose path may have 108 characters
    spool = tempfile.TemporaryDirectory(dir="/tmp")
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    conf = folder / "slurm.conf"
    ports = (free_port(), free_port())
    processors = os.cpu_count() or 1
    largest = 1001 if MANY else LARGEST  # the former is Slurm's default
    where = {"folder": folder, "spool": spool.name, "ports": ports}
    conf.write_text(SLURM.format(**where, processors=processors, largest=largest))
    env = {"PATH": os.environ["PATH"], "SLURM_CONF": str(conf)}
    munge = [
        *("--foreground", "--force", f"--key-file={folder}/munge.key"),
        *(f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge.pid"),
        *(f"--seed-file={folder}/munge.seed", f"--log-file={folder}/munge.log"),
    ]
    running = []
    try:
        for name, *flags in (
            ("munged", *munge),
            ("slurmctld", "-D", "-c"),
            ("slurmd", "-D", "-N", "localhost"),
        ):
            with open(folder / f"{name}.out", "w") as log:
                command = [str(find(name)), *flags]
                running.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
            if name == "munged":
                wait_until((folder / "munge.socket").exists)
        end = time.monotonic() + 60
        while "idle" not in ask(env, "sinfo", "-h", "-o", "%t"):
            if time.monotonic() > end or any(one.poll() is not None for one in running):
                logs = [path.read_text()[-1_000:] for path in folder.glob("*.[lo][ou][gt]")]
                pytest.skip(f"Slurm does not start here: {logs}")
            time.sleep(0.1)
        yield str(conf)
    finally:
        for one in reversed(running):  # one that is asked to end takes ten seconds
            one.kill()
        for one in running:
            one.wait(30)
        spool.cleanup()


def find(name: str) -> str | None:
    """Return where a program is, one of the system's as well."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for something, ten seconds at most."""
    end = time.monotonic() + 10
    while not is_so() and time.monotonic() < end:
        time.sleep(0.05)


def ask(env: dict[str, str], *command: str) -> str:
    """Return what a command of Slurm says."""
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False).stdout


def wait_for(conf: str, seconds: float) -> None:
    """Wait until Slurm has no job left."""
    end = time.monotonic() + seconds
    while ask({"PATH": os.environ["PATH"], "SLURM_CONF": conf}, "squeue", "-h"):
        assert time.monotonic() < end
        time.sleep(0.2)


def test_slurm_runs_each_folder_and_again_what_failed(
    home: Path, shell: Shell, slurm: str, docdb: DocDB, s3: S3
) -> None:
    names = NAMES
    if MANY:
        names = [f"m{number:05}" for number in range(MANY)]
        docdb.clear()
        docdb.put(*map(record, names))
        s3.put(BUCKET, [f"{name}/x.nwb" for name in names])
    assert len(names) > (1001 if MANY else LARGEST)
    recipe = example("slurm").replace("nwb --", f"nwb --max_jobs {len(names)} --", 1)
    bad = sorted({"0", "3", str(len(names) - 1)})
    (home / "fails").write_text(" ".join(bad))
    every = [str(number) for number in range(len(names))]
    done = shell(recipe, SLURM_CONF=slurm)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Submitted batch job") == 1
    wait_for(slurm, 120 + MANY)
    logs = [path.read_text() for path in home.glob("slurm-*.out")][:20]
    assert sorted((home / "ran").read_text().split()) == sorted(every), logs
    assert sorted(path.name for path in (home / "done").iterdir()) == sorted({*every} - {*bad})
    assert len(analysed(home)) == len(names) - len(bad)
    for path in (home / "ran", home / "fails"):
        path.write_text("")
    again = recipe.partition("\n")[2]
    shell(again, SLURM_CONF=slurm)
    wait_for(slurm, 120)
    assert sorted((home / "ran").read_text().split()) == bad
    assert analysed(home) == [f"s3://{BUCKET}/{name}/x.nwb" for name in names]
    nothing = shell(again, SLURM_CONF=slurm)
    assert nothing.returncode == 0, nothing.stderr
    assert "Submitted" not in nothing.stdout


def test_an_array_of_nothing_is_not_submitted(home: Path, shell: Shell) -> None:
    for name, line in (("sbatch", "exit 1"), ("scontrol", "echo MaxArraySize = 1001")):
        (home / "tools" / name).write_text(f"#!/bin/sh\n{line}\n")
        (home / "tools" / name).chmod(0o755)
    (home / "jobs").mkdir()
    lines = example("slurm").replace(DISPATCH, "true")  # as where all is processed already
    assert shell(lines).returncode == 0
    (home / "jobs" / "0").mkdir()
    assert shell(lines).returncode == 1
