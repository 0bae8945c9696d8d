"""Nothing waits without an end, whichever service goes wrong, at whichever step, in whichever way.

By day some of the table is tried, drawn anew each time, at night all of it. All that waits in the
program is known, with what ends it: a new wait wants a line here.
"""

from __future__ import annotations

import ast
import json
import os
import random
import re
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha1
from itertools import product
from pathlib import Path

import pytest

from conftest import NIGHT, PROGRAM, Result, Run
from forks import Server
from pipelines import Pipeline
from standins import BUCKET, S3, DocDB, record

STEPS = ("connect", "tunnel", "tls", "status", "headers", "body", "trailers")
FAULTS = ("stalls", "drips", "endless", "cut", "garbage")
LONGEST = 100  # seconds that a connection is kept
# What has been answered when a step begins, and what a step without an end is made of.
BEFORE = {
    "tunnel": b"",
    "status": b"",
    "headers": b"HTTP/1.1 200 OK\r\n",
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n",
    "trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n",
}
PIECES = {
    "tls": b"\x16\x03\x03\x3f\x00\x02\x00\x3e\xfc\x03\x03" + b"\x00" * 16_000,  # a ServerHello
    "status": b"HTTP/1.1 200 " + b"O" * 60_000,
    "tunnel": b"HTTP/1.1 200 " + b"O" * 60_000,
    "headers": b"X-Long: " + b"x" * 1_000 + b"\r\n",
    "trailers": b"X-Long: " + b"x" * 1_000 + b"\r\n",
}


class Faulty:
    """A server that does something wrong with each connection, at one step of the protocol."""

    def __init__(self, step: str, fault: str, tls: ssl.SSLContext | None = None) -> None:
        self.step, self.fault, self.tls = step, fault, tls
        self.over = threading.Event()
        self.kept: list[socket.socket] = []
        self.listener = socket.create_server(
            ("127.0.0.1", 0), backlog=0 if step == "connect" else 99
        )
        self.port = self.listener.getsockname()[1]
        if step != "connect":
            threading.Thread(target=self.accept, daemon=True).start()
        elif fault == "cut":  # nobody listens
            self.listener.close()
        else:  # so many wait to be accepted that the system lets nobody else connect
            for _ in range(3):
                waiting = socket.socket()
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", self.port))
                self.kept.append(waiting)

    def close(self) -> None:
        """Let go of all connections."""
        self.over.set()
        for kept in (self.listener, *self.kept):
            kept.close()

    def accept(self) -> None:
        """Serve all connections."""
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        """Answer as far as the step at which it goes wrong."""
        with suppress(OSError), connection:
            connection.settimeout(LONGEST)
            if self.step == "tunnel":
                read_request(connection)
            elif self.step != "tls":
                if self.tls:
                    connection = self.tls.wrap_socket(connection, server_side=True)
                read_request(connection)
            connection.sendall(BEFORE.get(self.step, b""))
            self.go_wrong(connection)

    def go_wrong(self, connection: socket.socket) -> None:
        """Do at a step what is not to be done."""
        chance = random.Random(f"{self.step} {self.fault}")  # noqa: S311
        piece = PIECES.get(self.step, b" " * 60_000)
        if self.fault == "stalls":
            self.over.wait(LONGEST)
        elif self.fault == "drips":
            for number in range(10 * LONGEST):
                connection.sendall(piece[number % len(piece) :][:1])
                if self.over.wait(0.1):
                    break
        elif self.fault == "endless":
            if self.step == "tls":
                piece = chance.randbytes(60_000)
            connection.sendall(piece)
            more = piece if self.step not in ("status", "tunnel") else b"O" * 60_000
            while not self.over.is_set():
                connection.sendall(more)
        elif self.fault == "cut":
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        else:
            connection.sendall(chance.randbytes(500))


def read_request(connection: socket.socket) -> None:
    """Read a request, with its body."""
    content = b""
    while b"\r\n\r\n" not in content:
        piece = connection.recv(65_536)
        if not piece:
            raise ConnectionError
        content += piece
    head, _, body = content.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        body += connection.recv(65_536)


# ---------------------------------------------------------------------------------- what goes wrong

FLAGS = ("--query={}",)
FILES = "--file_extension=nwb"
FEW = {"TRIES": 2, "LIST_TRIES": 2, "LONGEST_PAUSE": 0.1}
PATIENT = {**FEW, "TRIES": 20}  # while botocore is read, which takes a busy machine some seconds
SECONDS = 30  # two tries of a second, and the pauses, with all that a busy machine takes beside
NO_KEYS = "AWS_ACCESS_KEY_ID= AWS_SECRET_ACCESS_KEY="
LISTED = f"cannot list s3://{BUCKET}/a of asset a: "
MEGABYTES = 150  # a run takes some 100 MB by itself; what comes in is read up to a bound

Environment = dict[str, str | None]


NO_DOCDB, NO_CODE_OCEAN = (f"no usable answer from {name} at" for name in ("DocDB", "Code Ocean"))
# The variables that lead a run to a server that goes wrong, at {}, as a shell has them (what is
# empty is not set), and what its last line says then.
SERVICES = {
    "docdb": ("DOCDB_HOST={}", NO_DOCDB),
    "code ocean": ("CODEOCEAN_DOMAIN={}", NO_CODE_OCEAN),
    "git": ("GIT_HOST={} GIT_CONFIG_COUNT= GIT_SSL_NO_VERIFY=1 CO_CAPSULE_BRANCH=main",
            NO_CODE_OCEAN),
    "s3": ("AWS_ENDPOINT_URL=http://{}", LISTED),
    "s3 over tls": ("AWS_ENDPOINT_URL=https://{}", LISTED),
    "proxy": ("AWS_ENDPOINT_URL=https://s3.example.org NO_PROXY=localhost HTTPS_PROXY=http://{}",
              LISTED),
    # where it does not answer there are no keys, as boto3 has it
    "imds": (f"{NO_KEYS} AWS_EC2_METADATA_DISABLED= AWS_EC2_METADATA_SERVICE_ENDPOINT=http://{{}}/",
             ""),
    "container": (f"{NO_KEYS} AWS_CONTAINER_CREDENTIALS_FULL_URI=http://{{}}/keys", "AWS: "),
    "sts": (f"{NO_KEYS} AWS_CONFIG_FILE=sts AWS_ENDPOINT_URL_STS=http://{{}}", "AWS: "),
    "sso": (f"{NO_KEYS} AWS_CONFIG_FILE=sso AWS_ENDPOINT_URL_SSO=http://{{}}", "AWS: "),
}  # fmt: skip
STS = """[default]
role_arn = arn:aws:iam::123456789012:role/r
source_profile = base
[profile base]
aws_access_key_id = AKID
aws_secret_access_key = secret
"""
START = "https://x.example.org/start"
SSO = f"""[default]
sso_start_url = {START}
sso_region = us-west-2
sso_account_id = 123456789012
sso_role_name = reader
"""
SPEAK_TLS = ("docdb", "code ocean", "git", "s3 over tls")
ASKED_FIRST = ("docdb", "code ocean", "git")  # where no files are looked for
BY_BOTOCORE = ("imds", "container", "sts", "sso")  # whose own words are repeated
OVER_AWSCRT = ("s3", "s3 over tls", "proxy")


def be_logged_in(folder: Path) -> None:
    """Write the profiles of those who have a role, or have logged in, and the latter's token."""
    (folder / "sts").write_text(STS)
    (folder / "sso").write_text(SSO)
    end = datetime.now(UTC) + timedelta(hours=1)
    token = {"accessToken": "token-of-sso", "expiresAt": end.strftime("%Y-%m-%dT%H:%M:%SZ")}
    cache = folder / "home/.aws/sso/cache"
    cache.mkdir(parents=True)
    name = sha1(START.encode(), usedforsecurity=False).hexdigest()
    (cache / f"{name}.json").write_text(json.dumps(token))


def led_to(server: str, service: str) -> Environment:
    """Return the variables that lead a run to a host in place of a service."""
    variables: Environment = {}
    for word in SERVICES[service][0].split():
        name, _, value = word.partition("=")
        variables[name] = value.format(server) or None
    return variables


def steps_of(service: str) -> list[str]:
    """Return the steps that a service has."""
    if service == "proxy":
        return ["connect", "tunnel"]
    return [step for step in STEPS if step != "tunnel" and (step != "tls" or service in SPEAK_TLS)]


def table_of(service: str) -> list[tuple[str, str]]:
    """Return what can go wrong with a service: the steps, each with the ways."""
    table = []
    for step, fault in product(steps_of(service), FAULTS):
        if step == "connect" and fault not in ("stalls", "cut"):
            continue  # there is nothing to send yet
        table.append((step, fault))
    return table


@pytest.mark.parametrize("service", SERVICES)
def test_whatever_goes_wrong_with_a_service_the_run_ends_in_time_and_says_so(
    service: str, run: Run, docdb: DocDB, s3: S3, pipeline: Pipeline, tmp_path: Path
) -> None:
    docdb.put(record("a"))
    s3.put(BUCKET, ["a/x.nwb"])
    be_logged_in(tmp_path)
    flags = FLAGS if service in ASKED_FIRST else (*FLAGS, FILES)
    constants = PATIENT if service in OVER_AWSCRT else FEW
    base = pipeline.environment if service in ("code ocean", "git") else {}
    pipeline.put(version=None)
    tls = None
    if service in SPEAK_TLS:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        docdb.certificate.configure_cert(tls)
    table = table_of(service)
    faults = []
    for step, fault in random.sample(table, len(table) if NIGHT else 1):
        with closing(Faulty(step, fault, tls)) as server:
            env = {**base, **led_to(f"localhost:{server.port}", service)}
            started = time.monotonic()
            result = run(*flags, "--timeout=1", env=env, constants=constants)
            seconds = time.monotonic() - started
        is_held = service in OVER_AWSCRT and fault == "endless" and step != "body"
        late = "nothing within 1 s (--timeout)" if fault in ("stalls", "drips") else ""
        why = fault_of(result, SERVICES[service][1], seconds, is_held)
        if service not in BY_BOTOCORE and late not in result.error:
            why = "not the right cause"
        if step == "trailers" and "0 records matched" in result.error:  # the body is whole
            why = ""
        if why:
            took = f"{seconds:.0f} s, {result.megabytes:.0f} MB"
            faults.append(f"{service}, {step} {fault}: {why}; {took}; {result.log}")
    assert not faults, "\n\n".join(faults)


def fault_of(result: Result, words: str, seconds: float, is_held: bool) -> str:
    """Return what is wrong with the end of a run, "" if nothing is."""
    last = result.error.removeprefix("error: ")
    if seconds > SECONDS:
        return "too long"
    if result.status != 1 or result.names():
        return f"status {result.status}"
    if (
        len(re.findall("(?m)^error: ", result.log)) != 1
        or last == result.error
        or "Traceback" in result.log
    ):
        return "not one last line"
    if words not in last or re.match(r"\w+Error: ", last) or last.endswith(": "):
        return "wrong words"
    if result.megabytes > MEGABYTES and not is_held:
        return "too much memory"
    return ""


# Lets the system find no address of a host, without an end.
NO_NAMES = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
  if (node && strstr(node, "stalls.example")) sleep(1000);
  int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
      dlsym(RTLD_NEXT, "getaddrinfo");
  return real(node, service, hints, found);
}
"""


@pytest.fixture(scope="session")
def no_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a library that lets names of hosts be looked for without an end."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("needs a compiler: apt-get install gcc")
    library = tmp_path_factory.mktemp("names") / "names.so"
    source = library.with_suffix(".c")
    source.write_text(NO_NAMES)
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


def test_a_name_that_is_looked_for_without_an_end_ends_the_run(
    run: Run, docdb: DocDB, s3: S3, pipeline: Pipeline, tmp_path: Path, no_names: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    docdb.put(record("a"))
    s3.put(BUCKET, ["a/x.nwb"])
    be_logged_in(tmp_path)

    def run_without_names(service: str) -> Result:
        env = pipeline.environment if service == "code ocean" else {}
        return run(
            *(FLAGS if service in ASKED_FIRST else (*FLAGS, FILES)),
            "--timeout=1",
            output=tmp_path / f"of {service}",
            env={**env, **led_to("stalls.example", service), "LD_PRELOAD": str(no_names)},
            real=NIGHT or service == "sts",
            constants=PATIENT if service in OVER_AWSCRT else FEW,
        )

    monkeypatch.setenv("LD_PRELOAD", str(no_names))
    with closing(Server()) as forks:  # in which names are looked for so, too
        monkeypatch.delenv("LD_PRELOAD")
        monkeypatch.setenv("FORKS", forks.address)
        started = time.monotonic()
        with ThreadPoolExecutor() as side_by_side:
            services = ["docdb", "code ocean", "s3", "proxy", "sts"]
            results = list(side_by_side.map(run_without_names, services))
        # with all tries, pauses between them, and on a machine that others keep busy
        assert time.monotonic() - started < 5 * SECONDS
    for service, result in zip(services, results, strict=True):
        assert result.status == 1, result.log
        assert SERVICES[service][1] in result.error
        late = "no credentials in 5 s" if service == "sts" else "nothing within 1 s (--timeout)"
        assert late in result.error


# --------------------------------------------------------------------------------------- what waits

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
