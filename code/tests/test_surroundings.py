"""Whatever the surroundings do: no wrong result, no swallowed signal, no endless wait."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import strategies as st

from conftest import PROGRAM, Result, Run, Start, fuzz
from dispatch.stores.s3 import read_page
from dispatch.tasks.output import IN_MOVE
from standins import BUCKET, ERROR, S3, SECRET, TOKEN, CodeOcean, DocDB, Fault, Request, record
from test_faults import fails

NAMES = [f"{n:02}" for n in range(8)]
FLAGS = ("--query={}", "--file_extension=nwb")


@pytest.fixture
def world(docdb: DocDB, s3: S3) -> None:
    docdb.put(*map(record, NAMES))
    s3.put(BUCKET, [f"{name}/{n}.nwb" for name in NAMES for n in range(2)])


# ------------------------------------------------------------------------------- wrong answers


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_of_docdb_is_followed(
    status: int, run: Run, docdb: DocDB, s3: S3, code_ocean: CodeOcean
) -> None:
    for place in (f"https://{docdb.host}/v1/metadata_index/data_assets/find", s3.url, "/", ""):
        docdb.requests.clear()
        docdb.always = (status, {"Location": place} if place else {}, b"[]")
        fails(run(*FLAGS), f"answers {status}, a redirect to")
        assert len(docdb.requests) == 1
    assert not code_ocean.requests


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("version", ["1", None])
def test_no_redirect_of_code_ocean_or_the_results_store_is_followed(
    version: str | None, run: Run, docdb: DocDB, code_ocean: CodeOcean, tmp_path: Path
) -> None:
    env: dict[str, str | None] = {
        "CO_PIPELINE_ID": "p", "CO_COMPUTATION_ID": "run-1", "CODEOCEAN_API_TOKEN": TOKEN,
        "CODEOCEAN_DOMAIN": code_ocean.host,
    }  # fmt: skip
    there = {"Location": f"https://{docdb.host}/v1/metadata_index/data_assets/find"}
    process = {"name": "wrapper", "capsule_id": "c", "version": version}
    answered = {"id": "run-1", "created": 0, "run_time": 0, "processes": [process]}
    body = json.dumps(answered).encode()
    for before in range(3):  # the library asks with a client of its own
        code_ocean.clear()
        code_ocean.faults.extend([(200, {}, body)] * before)
        code_ocean.always = (302, there, b"")
        docdb.requests.clear()
        fails(run(*FLAGS, env=env), "answers 302, a redirect to")
        assert len(code_ocean.requests) == before + 1
        assert not any(request.method == "GET" for request in docdb.requests)
    (tmp_path / "code.json").write_text('{"url": "https://example.org/mine", "version": "1"}')
    env = {"DOCDB_DATABASE": "analysis", "DOCDB_COLLECTION": "results"}
    docdb.faults.extend([None, None])
    docdb.always = (302, there, b"")
    result = run(*FLAGS, "--analysis_code=code.json", "--skip_processed=1", env=env)
    fails(result, "answers 302, a redirect to")


@pytest.mark.parametrize("cap", [1, 3, 99, 100, 101])
def test_a_gateway_that_cuts_pages_loses_no_record(cap: int, run: Run, docdb: DocDB) -> None:
    names = [f"{n:03}" for n in range(100)]
    docdb.put(*map(record, names), record("odd", _id=7), record("other", _id={"z": 1}))
    docdb.spoil = lambda _, body: (200, {}, json.dumps(json.loads(body)[:cap]).encode())
    result = run("--query={}", "--max_jobs=1000")
    assert result.status == 0, result.log
    assert {task["asset_name"][0] for task in result.tasks()} == {*names}
    assert "102 records matched, 2 skipped (record id is not a string: 2)" in result.error


def test_records_without_end_are_an_error(run: Run, docdb: DocDB) -> None:
    number = iter(range(10**9))

    def more(handler: BaseHTTPRequestHandler) -> None:
        body = json.dumps([record(f"{next(number):09}")]).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    docdb.always = more
    result = run("--query={}", constants={"MOST_PAGES": 300})
    fails(result, "DocDB's answer has no end: 301 records on 301 pages so far")


def endless(handler: BaseHTTPRequestHandler) -> None:
    """Begin an answer, and go on for ever."""
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True
    try:
        while True:
            handler.wfile.write(b"[" + b" " * 1_000_000)
    except OSError:
        pass


def unfolding(handler: BaseHTTPRequestHandler) -> None:
    """Answer with what is small until it is unpacked."""
    body = gzip.compress(b" " * 200_000_000)
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


MEMORY = """
import os, shutil
leave = os._exit
def say(status):
    shutil.copyfile("/proc/self/status", {!r})
    leave(status)
os._exit = say
"""


@pytest.fixture
def peak(tmp_path: Path) -> tuple[dict[str, str | None], Callable[[], float]]:
    """Return the environment of a run that notes its memory, and what tells it in MB."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(MEMORY.format(str(tmp_path / "peak")))

    def megabytes() -> float:
        found = re.search(r"VmHWM:\s*(\d+) kB", (tmp_path / "peak").read_text())
        assert found
        return int(found[1]) / 1024

    return {"PYTHONPATH": str(tmp_path / "hook")}, megabytes


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("fault", [endless, unfolding], ids=["endless", "unfolding"])
def test_an_answer_of_any_size_is_read_up_to_a_bound(
    fault: Fault, run: Run, docdb: DocDB, peak: Any
) -> None:
    env, megabytes = peak
    docdb.always = fault
    fails(run(*FLAGS, env=env), "an answer of more than 32,000,000 bytes")
    assert megabytes() < 500


@pytest.mark.usefixtures("world")
def test_an_answer_that_is_nested_without_end_is_none(run: Run, docdb: DocDB) -> None:
    docdb.always = (200, {}, b"[" * 100_000)
    fails(run(*FLAGS), "no usable answer from DocDB")
    deep = '{"a":' * 900 + "1" + "}" * 900
    docdb.always = None
    docdb.faults.append((200, {}, f'[{{"_id": "x", "name": {deep}}}]'.encode()))
    result = run(*FLAGS)
    assert "Traceback" not in result.log
    assert result.status in (0, 1)


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("wish", ["9" * 5_000, "1e999", "-5", "9" * 300])
def test_a_wish_to_wait_that_means_nothing_is_no_fault(wish: str, run: Run, docdb: DocDB) -> None:
    docdb.faults.append((429, {"Retry-After": wish}, b""))
    result = run(*FLAGS, constants={"LONGEST_PAUSE": 1})
    assert result.status == 0, result.log


def test_answers_that_are_cut_leave_no_memory_behind(
    run: Run, docdb: DocDB, s3: S3, peak: Any
) -> None:
    env, megabytes = peak
    docdb.put(*(record(f"{n:03}") for n in range(300)))
    s3.put(BUCKET, [f"{n:03}/{k}.nwb" for n in range(300) for k in range(20)])
    times: dict[str, int] = {}

    def cut(request: Request) -> Any:
        prefix = request.query.get("prefix", "")
        times[prefix] = times.get(prefix, 0) + 1
        if times[prefix] > 2:
            return None

        def answer(_: Any, start_response: Any) -> Any:
            start_response("200 OK", [("Content-Length", "150000")])
            return [b"<ListBucketResult>" + b" " * 100_000]

        return answer

    flags = (*FLAGS, "--split_files=0", "--max_connections=16")
    run(*flags, env=env)
    plain = megabytes()
    s3.fault = cut
    result = run(*flags, "--overwrite=1", env=env)
    assert result.status == 0, result.log
    assert sum(times.values()) >= 900
    assert megabytes() < plain + 20  # 600 answers of 0.1 MB


AN_OBJECT = (
    b"<Contents><Key>{}</Key><LastModified>x</LastModified><ETag>e</ETag><Size>1</Size>"
    b"<StorageClass>STANDARD</StorageClass></Contents>"
)
A_PAGE = (
    b'<?xml version="1.0"?><ListBucketResult>{prolog}<Name>n</Name>{before}<IsTruncated>false'
    b"</IsTruncated>{objects}{behind}</ListBucketResult>"
)
HIDDEN = ["<!--{}-->", "<?x {}?>", "<Name>{}</Name>", "<Owner><A>{}</A></Owner>"]


@pytest.mark.parametrize("place", ["prolog", "before", "objects", "behind"])
@pytest.mark.parametrize("hidden", HIDDEN)
def test_only_objects_right_in_a_page_count(place: str, hidden: str) -> None:
    found, other = (AN_OBJECT.replace(b"{}", name) for name in (b"a/1", b"a/2"))
    page = A_PAGE.replace(b"{objects}", found + b"{objects}")
    page = page.replace(f"{{{place}}}".encode(), hidden.encode().replace(b"{}", other))
    page = re.sub(rb"\{\w+\}", b"", page)
    assert read_page(page, "", 0, "a/").sizes == {"a/1": 1}
    cdata = page.replace(b"<Name>n</Name>", b"<Name><![CDATA[" + other + b"]]></Name>")
    assert read_page(cdata, "", 0, "a/").sizes == {"a/1": 1}


# ------------------------------------------------------------------------------------ signals


HOOK = """
import os, sys

def signal_once(event, values):
    global done
    if event == {event!r} and values[0] == {value!r} and not done:
        done = True
        os.kill(os.getpid(), {number})

done = False
sys.addaudithook(signal_once)
"""


@pytest.mark.parametrize(
    "module", ["argparse", "dispatch.tasks.analysis_code", "dispatch.given.values"]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_in_its_first_moments(
    module: str, number: signal.Signals, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "hook").mkdir()
    hook = HOOK.format(event="import", value=module, number=int(number))
    (tmp_path / "hook" / "sitecustomize.py").write_text(hook)
    process = start("--query={}", env={"PYTHONPATH": str(tmp_path / "hook")})
    _, log = process.communicate(timeout=60)
    fails(Result(process.returncode, log, "", tmp_path / "results"), number.name, 128 + number)
    assert log == f"error: stopped by {number.name}, nothing is dispatched\n"


def hold(docdb: DocDB) -> tuple[threading.Event, threading.Event]:
    """Let DocDB not answer; return what tells that it was asked, and what lets it go on."""
    asked, over = threading.Event(), threading.Event()

    def wait(_: Any) -> None:
        asked.set()
        over.wait(60)

    docdb.always = wait
    return asked, over


def fill(pipe: int) -> None:
    """Write into a pipe what it takes."""
    os.set_blocking(pipe, False)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe, b"x")
    os.set_blocking(pipe, True)


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("stream", ["gone", "full"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_whoever_reads_its_words(
    stream: str, number: signal.Signals, start: Start, docdb: DocDB, tmp_path: Path
) -> None:
    asked, over = hold(docdb)
    read, write = os.pipe()
    process = start("--query={}", "--timeout=300", stderr=write)
    try:
        assert asked.wait(60)
        if stream == "full":
            fill(write)
        os.close(write)
        if stream != "full":
            os.close(read)  # as `tee` that was stopped by the same Ctrl-C
        begun = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == 128 + number
        assert time.monotonic() - begun < 2
    finally:
        over.set()
        process.kill()
    assert not list((tmp_path / "results").glob("*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_dry_run_whose_table_nobody_reads(
    number: signal.Signals, start: Start, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(*map(record, NAMES))
    long = json.dumps({"name": {"$in": [*NAMES, *(f"{n:0500}" for n in range(400))]}})
    (tmp_path / "long.json").write_text(long)
    process = start("--query=long.json", "--dry_run=1", stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while not (tmp_path / "results" / "dispatch_plan.html").exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        time.sleep(0.5)  # so that the table is being printed
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(10) == 128 + number
    finally:
        process.kill()


@pytest.mark.usefixtures("world")
def test_a_signal_after_the_dispatch_does_not_wait_for_a_reader(
    start: Start, docdb: DocDB, tmp_path: Path
) -> None:
    read, write = os.pipe()
    docdb.after = lambda: fill(write)  # so that what is said from then on has no room
    process = start("--query={}", stderr=write)
    try:
        end = time.monotonic() + 60
        while not (tmp_path / "results" / "7").exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0  # all is dispatched
    finally:
        process.kill()
        os.close(write)
        os.close(read)


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-", "2>/dev/full"])
@pytest.mark.parametrize(
    ("flags", "status"), [((), 0), (("--dry_run=1",), 0), (("--max_jobs=x",), 2), (("--help",), 0)]
)
def test_closed_streams_do_not_change_the_status(
    closed: str, flags: tuple[str, ...], status: int, start: Start, tmp_path: Path
) -> None:
    process = start("--query={}", *flags, prefix=f"exec {closed}; exec ")
    _, log = process.communicate(timeout=60)
    assert process.returncode == status, log
    assert "Traceback" not in log
    for path in (tmp_path / "results").rglob("*.json"):
        assert json.loads(path.read_text())["asset_name"]  # and not what was said


# ---------------------------------------------------------------------------------- the input


@pytest.mark.parametrize("name", ["query.json", "analysis_parameters.json", "snapshot.json",
                                  "data_asset_input.csv", "code.json"])  # fmt: skip
@pytest.mark.parametrize("kind", ["fifo", "socket", "/dev/zero", "/dev/tty"])
def test_an_input_that_is_no_file_is_bad_input(
    name: str, kind: str, run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"))
    path = tmp_path / "data" / name
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            os.chdir(path.parent)  # its path may be short only
            one.bind(name)
    else:
        path.symlink_to(kind)
    flags = {
        "query.json": ["--query=query.json"],
        "analysis_parameters.json": ["--query={}"],
        "snapshot.json": ["--query={}", "--docdb_snapshot=snapshot.json"],
        "data_asset_input.csv": ["--use_data_asset_csv=1"],
        "code.json": ["--query={}", "--analysis_code=code.json"],
    }
    fails(run(*flags[name]), f"{name}: it is no file", status=2)


def test_an_input_file_that_is_too_large_is_bad_input(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "query.json").write_text("{" + " " * 5_000 + "}")
    constants = {"LARGEST_INPUT": 5_000}
    fails(run("--query=query.json", constants=constants), "is larger than 5.00kB", status=2)


def test_folders_full_of_links_to_each_other_are_walked_once(run: Run, tmp_path: Path) -> None:
    for outside in (True, False):
        top = tmp_path / f"top{outside}"
        folders = [(tmp_path / "out" if outside else top) / f"d{n}" for n in range(9)]
        top.mkdir()
        for folder in folders:
            folder.mkdir(parents=True)
            (folder / f"{folder.name}.nwb").touch()
        for folder in folders:
            for other in folders:
                (folder / f"to_{other.name}").symlink_to(other)
        if outside:
            (top / "first").symlink_to(folders[3])
        snapshot = tmp_path / "data" / "records.jsonl"
        snapshot.write_text(json.dumps({"_id": "a", "name": "a", "location": str(top.as_uri())}))
        flags = ("--query={}", f"--docdb_snapshot={snapshot}", "--file_extension=nwb")
        begun = time.monotonic()
        result = run(*flags, "--overwrite=1")
        assert time.monotonic() - begun < 10
        assert result.status == 0, result.log
        found = [
            url.removeprefix(top.as_uri()) for t in result.tasks() for url in t["file_location"]
        ]
        if outside:
            expected = ["/first/d3.nwb"]
            expected += [f"/first/to_d{n}/d{n}.nwb" for n in range(9) if n != 3]
        else:
            expected = [f"/d{n}/d{n}.nwb" for n in range(9)]
        assert sorted(found) == sorted(expected)


def test_more_connections_than_can_be_used_are_asked_for(run: Run, docdb: DocDB, s3: S3) -> None:
    docdb.put(record("a"))
    s3.put(BUCKET, ["a/x.nwb"])
    begun = time.monotonic()
    result = run(*FLAGS, "--max_connections=999999999")
    assert result.status == 0, result.log
    assert time.monotonic() - begun < 5


def test_a_working_folder_that_is_gone_is_told_or_does_not_matter(
    start: Start, tmp_path: Path
) -> None:
    shutil.copytree(PROGRAM.parents[1] / "data", tmp_path / "data", dirs_exist_ok=True)
    for flags, status in (
        (["--query={}", f"--docdb_snapshot={tmp_path}/data/metadata.jsonl"], 0),
        (["--query=nothing.json", f"--docdb_snapshot={tmp_path}/data/metadata.jsonl"], 2),
        (["--query={}", "--docdb_snapshot=metadata.jsonl", "--output_directory=out"], 1),
    ):
        gone = f"mkdir -p {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone; "
        process = start(*flags, prefix=gone)
        _, log = process.communicate(timeout=60)
        assert process.returncode == status, log
        assert "Traceback" not in log
        assert "shows where" not in log


# ------------------------------------------------------------------------------ the output folder


NO_FLOCK = """
import errno, fcntl, time

def refuse(*_):
    raise OSError({}, "no locks here")

fcntl.flock = refuse
"""
SLOW_RENAME = """
import os, time
rename = os.rename
def slowly(*values, **more):
    time.sleep(0.02)
    rename(*values, **more)
os.rename = slowly
"""


@pytest.fixture
def no_flock(tmp_path: Path) -> dict[str, str | None]:
    """Return the environment of a run on a file system that locks nothing, and is slow."""
    (tmp_path / "hook").mkdir()
    hook = NO_FLOCK.format("errno.EBADF") + SLOW_RENAME  # as NFS has it
    (tmp_path / "hook" / "sitecustomize.py").write_text(hook)
    return {"PYTHONPATH": str(tmp_path / "hook")}


def test_two_dispatches_do_not_mix_where_nothing_can_be_locked(
    start: Start, run: Run, docdb: DocDB, no_flock: dict[str, str | None], tmp_path: Path
) -> None:
    docdb.put(*(record(f"{n:02}", one=1) for n in range(30)))
    docdb.put(*(record(f"other{n}", one=2) for n in range(5)))
    wholes = []
    for one in (1, 2):
        wholes.append(run("--query", f'{{"one": {one}}}', output=tmp_path / f"whole{one}").files())
    for pair in range(6):
        output = tmp_path / f"pair{pair}"
        output.mkdir()
        processes = []
        for one in (1, 2):
            flags = ("--query", f'{{"one": {one}}}', "--overwrite=1")
            processes.append(start(*flags, output=output, env=no_flock))
            time.sleep(0.1 * pair)
        logs = [process.communicate(timeout=60)[1] for process in processes]
        statuses = [process.returncode for process in processes]
        assert 0 in statuses, logs
        assert set(statuses) <= {0, 2}, logs
        files = Result(0, "", "", output).files()
        ended = [whole for whole, status in zip(wholes, statuses, strict=True) if status == 0]
        assert files in ended
        for status, log in zip(statuses, logs, strict=True):
            assert status == 0 or "another dispatch is writing into" in log
        assert not list(output.glob(".*"))


@pytest.mark.parametrize("moment", ["signal", "kill"])
def test_a_lock_that_was_left_is_told_of(
    moment: str, start: Start, run: Run, docdb: DocDB, no_flock: dict[str, str | None],
    tmp_path: Path,
) -> None:  # fmt: skip
    docdb.put(*(record(f"{n:03}") for n in range(50)))
    output = tmp_path / "results"
    process = start("--query={}", env=no_flock)
    while not list(output.glob(".dispatch-staging-*")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL if moment == "kill" else signal.SIGTERM)
    process.communicate(timeout=60)
    held = output / ".dispatch-lock"
    again = run("--query={}", "--overwrite=1", env=no_flock, real=True)
    if moment == "signal":
        assert again.status == 0, again.log
        assert not held.exists()
        return
    assert again.status == 2
    told = (
        rf"error: {held} was left by process {process.pid} on \S+, since \S+Z, which runs no more"
    )
    assert re.match(told, again.error), again.error
    for content in ("", "elsewhere 1 2026-11-27T10:00:00Z\n", "\0" * 10_000_000, "a b c\n"):
        held.write_text(content)
        other = run("--query={}", "--overwrite=1", env=no_flock, real=True)
        assert other.status == 2
        assert f"remove {held}" in other.error
        assert len(other.error) < 500
    held.unlink()
    assert run("--query={}", "--overwrite=1", env=no_flock, real=True).status == 0


@pytest.mark.parametrize("dry", [0, 1])
@pytest.mark.parametrize("left", ["all", "new", "old", "nothing", "files", "links"])
def test_what_a_killed_run_has_left_is_cleaned_up_whatever_became_of_it(
    left: str, dry: int, run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(*map(record, NAMES))
    output = tmp_path / "results"
    moving = output / ".dispatch-moving-8-abcd1234"
    for part in ("old", "new"):
        if left in ("all", part):
            (moving / part / "3").mkdir(parents=True)
    moving.mkdir(parents=True, exist_ok=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.txt").write_text("mine")
    if left == "files":
        (moving / "new").write_text("")
        (moving / "old").write_text("")
    elif left == "links":
        (moving / "old").symlink_to(elsewhere)
        (moving / "new").symlink_to(elsewhere)
    if left == "all":
        (moving / "old" / "notes.txt").write_text("mine")
    result = run("--query={}", "--overwrite=1", f"--dry_run={dry}")
    assert result.status == 0, result.log
    assert "rolled back an interrupted move of worker folders" in result.log
    assert (elsewhere / "mine.txt").read_text() == "mine"
    assert not list(output.glob(".*"))
    again = run("--query={}", "--overwrite=1", f"--dry_run={dry}")
    assert again.status == 0
    assert "WARNING" not in again.log


@pytest.mark.parametrize(
    "name",
    [".dispatch-moving-", ".dispatch-moving-x-y", ".dispatch-moving-99999999999999-a",
     f".dispatch-moving-{'9' * 200}-a", ".dispatch-moving-8-abcd1234", ".dispatch-staging-a"],
)  # fmt: skip
def test_what_is_not_ours_is_not_followed(
    name: str, run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(*map(record, NAMES))
    output, elsewhere = tmp_path / "results", tmp_path / "elsewhere"
    output.mkdir()
    (elsewhere / "new").mkdir(parents=True)
    (elsewhere / "mine.txt").write_text("mine")
    (output / name).symlink_to(elsewhere)
    for _ in range(2):
        result = run("--query={}", "--overwrite=1")
        assert result.status == 0, result.log
        assert "WARNING" not in result.log
        assert (elsewhere / "mine.txt").exists()
    (output / name).unlink()
    (output / name).mkdir()
    is_ours = IN_MOVE.fullmatch(name) or "staging" in name
    result = run("--query={}", "--overwrite=1")
    assert result.status == 0, result.log
    assert (output / name).exists() == (not is_ours)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all folders")
def test_an_output_folder_that_cannot_be_read_is_told(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"))
    (tmp_path / "results").mkdir(mode=0o300)
    fails(run("--query={}"), "cannot be read")
    (tmp_path / "results").chmod(0o700)


# ------------------------------------------------------------------------------------- secrets


WORD = "hush-hush/hush+word"
SECRETIVE: dict[str, dict[str, str | None]] = {
    "endpoint": {"AWS_ENDPOINT_URL": f"me:{WORD}@localhost:9"},
    "endpoint with a scheme": {"AWS_ENDPOINT_URL": f"http://me:{WORD}@localhost:9"},
    "proxy": {"HTTPS_PROXY": f"me:{WORD}@localhost:9", "HTTP_PROXY": f"me:{WORD}@localhost:9"},
    "proxy with a scheme": {"HTTPS_PROXY": f"http://me:{WORD}@localhost:9"},
    "socks": {"HTTP_PROXY": f"socks5://me:{WORD}@localhost:9"},
    "database": {"DOCDB_HOST": f"me:{WORD}@localhost:9"},
    "code ocean": {
        "CO_PIPELINE_ID": "p", "CO_COMPUTATION_ID": "c", "CODEOCEAN_API_TOKEN": TOKEN,
        "CODEOCEAN_DOMAIN": f"me:{WORD}@localhost:9",
    },
}  # fmt: skip


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
@pytest.mark.parametrize("name", SECRETIVE)
def test_a_password_in_an_address_is_in_no_line_and_on_no_page(
    name: str, level: str, run: Run
) -> None:
    few = {"TRIES": 2, "LIST_TRIES": 2}
    env = {**SECRETIVE[name], "LOG_LEVEL": level}
    result = run(*FLAGS, "--dry_run=1", env=env, constants=few)
    assert result.status in (1, 2), result.log
    for told in (result.log, result.stdout, str(result.files())):
        for part in (WORD, "hush-hush", "word@"):
            assert part not in told


@pytest.mark.usefixtures("world")
def test_what_s3_says_is_repeated_without_secrets_and_not_without_end(run: Run, s3: S3) -> None:
    token = "session-token/with+signs=="  # noqa: S105
    spelt = [token, quote(token, safe=""), b64encode(f"xy{token}z".encode()).decode(), SECRET]
    spelt += ["0123456789abcdef" * 4, "me:word@host"]
    for message in (" ".join(spelt), "x" * 20_000_000):
        body = ERROR.format("AccessDenied", message).encode()
        body = body[:15_000_000]

        def refuse(_: Any, start_response: Any, body: bytes = body) -> Any:
            start_response("403 Forbidden", [("Content-Length", str(len(body)))])
            return [body]

        s3.fault = lambda _: refuse
        env: dict[str, str | None] = {"AWS_SESSION_TOKEN": token, "LOG_LEVEL": "DEBUG"}
        result = run(*FLAGS, env=env, constants={"LIST_TRIES": 2})
        assert result.status == 1
        assert "error: cannot list s3://" in result.error
        assert len(result.error) < 2_000
        assert len(result.log) < 40_000
        for secret in (*spelt[:2], spelt[2][4:-4], SECRET, *spelt[4:]):
            assert secret not in result.log


@pytest.mark.usefixtures("world")
def test_what_a_program_for_credentials_says_is_not_repeated(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "[default]\ncredential_process = sh -c 'echo hush-hush >&2; exit 1'\n"
    )
    env: dict[str, str | None] = {
        "AWS_CONFIG_FILE": str(tmp_path / "config"), "LOG_LEVEL": "INFO",
        "AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None,
    }  # fmt: skip
    result = run(*FLAGS, env=env)
    fails(result, "the credential_process of the profile fails: run it by hand to see why")
    assert "hush" not in result.log


# ---------------------------------------------------------------------------------- all at random


def other_keys(body: bytes) -> bytes:
    """Return a page of S3 with keys from elsewhere."""
    return re.sub(rb"<Key>[^<]*</Key>", b"<Key>elsewhere/sub/z.nwb</Key>", body)


def other_prefix(body: bytes) -> bytes:
    return re.sub(rb"<Prefix>[^<]*</Prefix>", b"<Prefix>elsewhere/</Prefix>", body)


def goes_on(body: bytes) -> bytes:
    """Return a page that says, each time, that another one follows."""
    more = b"<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
    return body.replace(b"<IsTruncated>false</IsTruncated>", more)


def nothing_goes_on(body: bytes) -> bytes:
    return goes_on(re.sub(rb"(?s)<Contents>.*</Contents>", b"", body))


def half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def commented(body: bytes) -> bytes:
    """Return a page with more objects, where they do not count."""
    [found] = re.findall(rb"(?s)<Contents>.*?</Contents>", body)[:1] or [b""]
    more = re.sub(rb"<Key>[^<]*<", b"<Key>zzz/a.nwb<", found)
    return body.replace(b"</ListBucketResult>", b"<!--" + more + b"--></ListBucketResult>")


S3_FAULTS: dict[str, Callable[[bytes], bytes]] = {
    "elsewhere": other_keys,
    "other prefix": other_prefix,
    "goes on": goes_on,
    "nothing goes on": nothing_goes_on,
    "half": half,
    "comment": commented,
    "padded": lambda body: body.replace(b"</ListBucketResult>", b" " * 400_000),
}


def redirect(body: bytes) -> tuple[int, dict[str, str], bytes]:
    return 302, {"Location": "/v1/metadata_index/data_assets/find"}, body


def first_alone(body: bytes) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps(json.loads(body)[:1]).encode()


def cut_in_half(body: bytes) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, half(body)


def twice(body: bytes) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps(json.loads(body) * 2).encode()


def packed(body: bytes) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Encoding": "gzip"}, gzip.compress(body)


def bomb(_: bytes) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * 40_000_000)


DOCDB_FAULTS = {
    "redirect": redirect,
    "cap": first_alone,
    "half": cut_in_half,
    "twice": twice,
    "packed": packed,
    "bomb": bomb,
}
FAULTS = st.lists(st.tuples(st.integers(0, 5), st.sampled_from([*S3_FAULTS, *DOCDB_FAULTS])))


def test_whatever_services_answer_the_result_is_whole_or_the_old_one(
    run: Run, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    names = [f"{n:02}" for n in range(5)]
    docdb.put(*map(record, names))
    s3.put(BUCKET, [f"{name}/sub/{n}.nwb" for name in names for n in range(3)])
    old = run("--query={'name': '03'}", output=tmp_path / "old").files()
    whole = run(*FLAGS, output=tmp_path / "whole").files()
    output = tmp_path / "new"
    outcomes = set()

    def check(faults: list[tuple[int, str]], always: bool) -> None:
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(tmp_path / "old", output)
        asked = {"docdb": 0, "s3": 0}

        def fault_of(service: str, kinds: Any) -> Any:
            number = asked[service]
            asked[service] += 1
            for at, kind in faults:
                if kind in kinds and (number == at or (always and number >= at)):
                    return kinds[kind]
            return None

        def spoil_docdb(_: Request, body: bytes) -> Any:
            fault = fault_of("docdb", DOCDB_FAULTS)
            return fault(body) if fault else None

        def spoil_s3(request: Request) -> Any:
            if "list-type" not in request.query:
                return None
            fault = fault_of("s3", S3_FAULTS)

            def spoilt(environ: Any, start_response: Any) -> Any:
                body = fault(s3.list_objects(environ, lambda *_: None))
                start_response("200 OK", [("Content-Length", str(len(body)))])
                return [body]

            return spoilt if fault else None

        docdb.spoil, s3.fault = spoil_docdb, spoil_s3
        begun = time.monotonic()
        constants = {"LARGEST_ANSWER": 30_000_000, "LARGEST_PAGE": 300_000}
        result = run(*FLAGS, "--overwrite=1", "--timeout=5", output=output, constants=constants)
        docdb.spoil, s3.fault = None, None
        assert time.monotonic() - begun < 60
        outcomes.add(result.status)
        assert "Traceback" not in result.log
        if result.status == 0:
            assert result.files() == whole, faults
        else:
            assert result.status == 1, result.log
            assert result.error.startswith("error: ")
            assert len(result.error) < 2_000
            assert result.files() == old, faults

    fuzz(check, share=0.3, faults=FAULTS, always=st.booleans())
    assert outcomes == {0, 1}
