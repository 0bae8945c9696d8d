"""Runs the program in children of a process that has imported what the program imports.

A run that starts Python and imports some hundred modules takes most of its time with that. Here a
server does it once (`python forks.py NUMBER`, until its standard input ends), and forks a child for
each run. All processes that run tests share it. A run is asked for by a connection that sends
flags, environment and folder, and the files that its streams go to; the child answers with its exit
status. Pauses before a retry are a tenth as long there, but for those that a service asks for.
`python forks.py PROGRAM FLAG...` runs as that program would, in place of `python PROGRAM FLAG...`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

CODE = Path(__file__).resolve().parents[1]
IMPORTS = (
    *("awscrt.http", "aind_data_access_api.document_db", "aind_data_schema.core.processing"),
    *("analysis_pipeline_utils.metadata", "analysis_pipeline_utils.analysis_dispatch_model"),
    *("boto3", "codeocean", "jinja2", "mgqpy", "openpyxl", "pandas", "requests", "tqdm"),
)

LONGEST = 300  # seconds, of a run

# A child shares its parent's memory, page by page. Large pages are fewer to hand over and to give
# back: 7 of 22 ms of a run that does nothing.
LARGE_PAGES = {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


class Server:
    """The server, as seen by the process that starts and ends it."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.address = f"{self.folder.name}/forks"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen()  # whoever connects before all is imported waits
            number = listener.fileno()
            self.process = subprocess.Popen(
                [sys.executable, __file__, str(number)],
                # a fork takes no threads along
                env={**os.environ, **LARGE_PAGES, "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                pass_fds=[number],
            )

    def close(self) -> None:
        """End the server."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.folder.cleanup()


def run_in_a_fork(
    address: str,
    argv: list[str],
    environment: dict[str, str],
    folder: Path,
    constants: dict[str, float],
) -> tuple[int, str, str, float]:
    """Run the program; return its status, its standard output and error, and the MB it has taken.

    These are what its memory has grown by at most.
    """
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        streams = (stdout, stderr)
        numbers = [stream.fileno() for stream in streams]
        answer = ask(address, [argv, environment, str(folder), constants], numbers)
        written = []
        for stream in streams:
            stream.seek(0)
            written.append(stream.read().decode("utf-8", "surrogateescape"))
    assert len(answer) == 12, f"the run ended without a status\n{written[1]}"
    status, megabytes = struct.unpack("!id", answer)
    return status, written[0], written[1], megabytes


def ask(address: str, words: list[Any], streams: list[int]) -> bytes:
    """Return what the server's child answers to a request, once it has ended."""
    request = json.dumps(words).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(LONGEST)
        connection.connect(address)
        socket.send_fds(connection, [struct.pack("!I", len(request))], streams)
        connection.sendall(request)
        answer = b""
        while part := connection.recv(12):
            answer += part
    return answer


def with_folders(flags: Sequence[str], data: Path, output: Path) -> list[str]:
    """Return the flags, behind those for the folders that they do not name."""
    folders = {"--input_directory": data, "--output_directory": output}
    for flag in flags:
        folders.pop(flag.partition("=")[0], None)
    return [*(f"{name}={folder}" for name, folder in folders.items()), *flags]


def run_as(program: Path, flags: list[str]) -> int:
    """Run as a program elsewhere would, with the folders beside it; return its exit status."""
    root = program.resolve().parents[1]
    environment = dict(os.environ)
    address = environment.pop("FORKS")
    argv = with_folders(flags, root / "data", root / "results")
    status, _ = struct.unpack("!id", ask(address, [argv, environment, os.getcwd(), {}], [1, 2]))
    return int(status)


# The program's modules. To look for them in each child would touch, and thus copy, a page of memory
# for each module that is imported: 8 of 30 ms.
OWN: list[ModuleType] = []


def serve(listener: socket.socket) -> None:
    """Answer requests until standard input ends."""
    for name in IMPORTS:
        importlib.import_module(name)
    import boto3
    import botocore.hooks
    import botocore.session

    # what AWS's services are like is read from files once, and botocore looks at its functions once
    botocore.session.create_loader = cache(botocore.session.create_loader)
    botocore.hooks.accepts_kwargs = cache(botocore.hooks.accepts_kwargs)
    boto3.session.Session("none", "none").client("s3", "us-west-2")
    sys.path[0] = str(CODE)
    importlib.import_module("run_capsule")
    # what is made once in a process, and takes the longest
    sys.modules["dispatch.tasks.tasks"].task_model()
    importlib.import_module("dispatch.plan.page").template_of_page()
    for name, module in sys.modules.items():
        if name == "run_capsule" or name.startswith("dispatch."):
            OWN.append(module)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children leave no zombies
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        connection, _ = listener.accept()
        if not os.fork():
            listener.close()
            answer(connection)
        connection.close()


def answer(connection: socket.socket) -> NoReturn:
    """Be a process that has just been started with the program; send its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    length, streams, _, _ = socket.recv_fds(connection, 4, 2)
    request = b""
    while len(request) < struct.unpack("!I", length)[0]:
        request += connection.recv(1 << 20)
    argv, environment, folder, constants = json.loads(request)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, stream in enumerate(streams, 1):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, encoding="utf-8", errors=errors, buffering=1, closefd=False)
        for number, mode, errors in (
            (0, "r", "surrogateescape"),
            (1, "w", "surrogateescape"),
            (2, "w", "backslashreplace"),
        )
    )
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    random.seed()
    status = 1
    before = megabytes_at_most()
    try:
        status = run(argv, constants)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    connection.sendall(struct.pack("!id", status, megabytes_at_most() - before))
    os._exit(status)


def megabytes_at_most() -> float:
    """Return how much memory this process has had at most, since it was forked."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def run(argv: list[str], constants: dict[str, float]) -> int:
    """Run the program with these flags, and with these values of its constants."""
    program: Any = sys.modules["run_capsule"]
    sys.argv = [str(program.__file__), *argv]
    backoff = sys.modules["dispatch.terminal.retries"].backoff
    set_everywhere("backoff", lambda attempt: backoff(attempt) / 10)
    for name, value in constants.items():
        set_everywhere(name, value)
    try:
        return int(program.main())
    except SystemExit as stop:
        return int(stop.code or 0)


def set_everywhere(name: str, value: Any) -> None:
    """Set what is called so in all modules of the program that have it."""
    modules = [module for module in OWN if name in vars(module)]
    assert modules, name
    for module in modules:
        setattr(module, name, value)


if __name__ == "__main__":
    if sys.argv[1].isdigit():
        serve(socket.socket(fileno=int(sys.argv[1])))
    elif sys.argv[1].endswith(".py"):
        sys.exit(run_as(Path(sys.argv[1]), sys.argv[2:]))
    else:  # what is no program is Python's
        os.execv(sys.executable, [sys.executable, *sys.argv[1:]])  # noqa: S606
