"""Runs the program in children of a process that has imported what the program imports.

A run that starts Python and imports some hundred modules takes most of its time with that. Here a
server does it once (`python forks.py SOCKET`, until its standard input ends), and forks a child per
run, in which the program's source is executed anew. A run is asked for by a connection that sends
flags, environment and folder, and the files that its streams go to; the answer is its exit status.
In a child, pauses before a retry are a tenth as long, but for those that a service asks for.
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
import types
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).resolve().parents[1] / "run_capsule.py"
IMPORTS = (
    *("aiohttp", "aind_data_access_api.document_db", "aind_data_schema.core.processing"),
    *("analysis_pipeline_utils.metadata", "analysis_pipeline_utils.analysis_dispatch_model"),
    *("boto3", "codeocean", "jinja2", "mgqpy", "pandas", "requests", "tqdm"),
)


LONGEST = 120  # seconds, of a run


class Forks:
    """The server, as those see it who want something run."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "forks")
        command = [sys.executable, __file__, self.address]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # a fork takes no threads along
        self.server = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.server.stdout is not None
        self.server.stdout.readline()  # it listens

    def run(
        self,
        argv: list[str],
        environment: dict[str, str],
        folder: Path,
        constants: dict[str, float],
    ) -> tuple[int, str, str]:
        """Run the program; return its status, its standard output and its standard error."""
        request = json.dumps([argv, environment, str(folder), constants]).encode()
        with (
            socket.socket(socket.AF_UNIX) as connection,
            tempfile.TemporaryFile() as stdout,
            tempfile.TemporaryFile() as stderr,
        ):
            streams = (stdout, stderr)
            connection.settimeout(LONGEST)
            connection.connect(self.address)
            length = struct.pack("!I", len(request))
            socket.send_fds(connection, [length], [stream.fileno() for stream in streams])
            connection.sendall(request)
            (status,) = struct.unpack("!i", connection.recv(4))
            texts = []
            for stream in streams:
                stream.seek(0)
                texts.append(stream.read().decode("utf-8", "surrogateescape"))
        return status, texts[0], texts[1]

    def close(self) -> None:
        """End the server."""
        assert self.server.stdin is not None
        self.server.stdin.close()
        self.server.wait()


def serve(address: str) -> None:
    """Answer requests until standard input ends."""
    for name in IMPORTS:
        importlib.import_module(name)
    sys.path[0] = str(PROGRAM.parent)
    code = compile(PROGRAM.read_bytes(), str(PROGRAM), "exec")
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children leave no zombies
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            connection, _ = listener.accept()
            if os.fork():
                connection.close()
                continue
            listener.close()
            answer(connection, code)
            os._exit(0)


def answer(connection: socket.socket, code: types.CodeType) -> None:
    """Run the program as a connection asks, and send its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    length, streams, _, _ = socket.recv_fds(connection, 4, 2)
    request = b""
    while len(request) < struct.unpack("!I", length)[0]:
        request += connection.recv(1 << 20)
    child = os.fork()
    if not child:
        connection.close()
        run(json.loads(request), streams, code)
    _, status = os.waitpid(child, 0)
    connection.sendall(struct.pack("!i", os.waitstatus_to_exitcode(status)))


def run(request: Any, streams: list[int], code: types.CodeType) -> None:
    """Be a process that has just been started with the program."""
    argv, environment, folder, constants = request
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
    sys.argv = [str(PROGRAM), *argv]
    status = 1
    try:
        program: Any = types.ModuleType("run_capsule")
        program.__file__ = str(PROGRAM)
        sys.modules["run_capsule"] = program
        exec(code, program.__dict__)  # noqa: S102
        backoff = program.backoff
        program.backoff = lambda attempt: backoff(attempt) / 10
        for name, value in constants.items():
            assert hasattr(program, name)
            setattr(program, name, value)
        status = program.main()
    except SystemExit as stop:
        status = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
