"""All that waits in the program is known, with what ends it: a new wait wants a line here."""

from __future__ import annotations

import ast
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from conftest import PROGRAM, Run
from standins import DocDB, record

# Calls that wait for somebody else, or may; of coroutines, each that is not of the program's own.
WAITING = {
    *("wait", "result", "result_of", "pause", "sleep", "select", "flock", "getpass", "acquire"),
    *("read", "read1", "recv", "communicate", "run_until_complete", "run_in_executor", "Popen"),
    *("to_thread", "request", "urlopen", "create_connection", "input"),
    *("aggregate_docdb_records", "get_computation", "describe"),
    *("get_credentials", "get_frozen_credentials", "list_objects_v2"),
}
OF_A_THREAD = "in a thread, which is given up after so many tries of --timeout"
# What each of them ends by.
ENDS: dict[str, dict[str, str]] = {
    "run_capsule": {"result_of": "what is asked of Code Ocean ends after its tries"},
    "assets.endings": {"loop.run_until_complete": "HINT_SECONDS, in a thread"},
    "assets.hints": {"result_of": "HINT_SECONDS"},
    "assets.sessions": {"result_of": "what is asked of DocDB ends after its tries"},
    "files.listing": {
        "self.queue.get": "cancelled where all is listed, or something fails",
        "self.loop.create_future": "cancelled by close()",
        "self.loop.run_until_complete": "as does the future in it",
        "wait": "in steps, until all is listed or something fails: each page ends after its tries",
    },
    "given.inputs": {"file.read": "regular files alone are read, up to LARGEST_INPUT"},
    "plan.file": {"file.read": "regular files alone are read, and their first bytes"},
    "records.docdb": {"client.aggregate_docdb_records": OF_A_THREAD},
    "records.rest": {
        "result_of": "--timeout",
        "pause": "LONGEST_PAUSE",
    },
    "stores.account_errors": {"getpass.getpass": OF_A_THREAD},
    "stores.aws": {
        "self.session.get_credentials": OF_A_THREAD,
        "credentials.get_frozen_credentials": OF_A_THREAD,
        "client.list_objects_v2": "is caught before it is sent",
    },
    "stores.bounds": {
        "streams.select": "the end of what all tries may take",
        "os.read": "is ready",
        "self.wait": "the program has closed its streams, or is killed: " + OF_A_THREAD,
    },
    "stores.crt": {
        "connection.request": "begins one, and waits for nothing",
        "asyncio.wait": "SOON",
        "opening": "--timeout",
        "asyncio.to_thread": "who waits for it does so for --timeout",
    },
    "stores.handshakes": {
        "socket.create_connection": "--timeout, in a thread",
        "line.recv": "the timeout of the socket, and the end of the attempt, in a thread",
    },
    "stores.news": {
        "here": "the deadline of the connection, or of connecting",
        "future.result": "is done",
    },
    "stores.plainly": {
        "pool.request": "the timeout of the socket; who waits for it does so for --timeout",
    },
    "stores.keys": {"asyncio.to_thread": "who waits for it does so for --timeout"},
    "stores.once": {
        "asyncio.wait": "the seconds given; without, what is asked ends by itself",
        "task.result": "is done",
    },
    "stores.s3": {
        "asyncio.sleep": "LONGEST_LIST_PAUSE",
        "asyncio.to_thread": "--timeout, and so many tries of it for credentials",
        "asyncio.wait_for": "so many tries of --timeout",
    },
    "tasks.analysis_code": {
        "client.computations.get_computation": OF_A_THREAD,
        "describe": OF_A_THREAD,
    },
    "tasks.lock": {"fcntl.flock": "does not wait (LOCK_NB)"},
    "tasks.output": {"result_of": "the disk"},
    "terminal.reading": {
        "answer.read1": "the timeout of the socket, and the end of the attempt",
    },
    "terminal.waiting": {
        "wait": "in steps, to the seconds given",
        "future.result": "is done",
        "time.sleep": "in steps, to the seconds given",
    },
}


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Yield the name of each room, and what is written there."""
    top = PROGRAM.parent / "dispatch"
    for path in [PROGRAM, *sorted(top.rglob("*.py"))]:
        name = path.stem
        if path != PROGRAM:
            name = ".".join(path.relative_to(top).with_suffix("").parts)
        yield name, ast.parse(path.read_text())


def name_called(call: ast.Call) -> str:
    """Return the last part of what is called."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)


def waits_in(module: ast.Module, own: set[str]) -> Iterator[str]:
    """Yield what a room waits for."""
    awaited = []
    for node in ast.walk(module):
        if isinstance(node, ast.Await):
            awaited.append(node.value)
            is_call = isinstance(node.value, ast.Call)
            if not is_call:
                yield ast.unparse(node.value)
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        name, whole = name_called(node), ast.unparse(node.func)
        if node in awaited:
            if name not in own or "queue" in whole:
                yield whole
        elif name in WAITING and name not in own:
            yield whole


def test_all_that_waits_is_known_with_what_ends_it() -> None:
    own = set()
    rooms = list(sources())
    for _, module in rooms:
        for node in ast.walk(module):
            if isinstance(node, ast.AsyncFunctionDef):
                own.add(node.name)
    found: defaultdict[str, set[str]] = defaultdict(set)
    for name, module in rooms:
        for wait in waits_in(module, own):
            found[name].add(wait)
    assert found == {name: set(ends) for name, ends in ENDS.items()}


def test_a_pipe_among_earlier_dispatches_is_not_waited_for(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"))
    os.mkfifo(tmp_path / "earlier-1")
    result = run("--query={}", "--skip_dispatched=earlier-*", real=True)
    assert result.status == 0, result.log
