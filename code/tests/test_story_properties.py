"""What holds for any input and any answer: BadInput alone, no record lost, all written or none.

The readers are fuzzed for half of $FUZZ_SECONDS at night, and by day for a fifth.
"""

from __future__ import annotations

import gzip
import json
import logging
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import run_capsule
from conftest import FUZZ_SECONDS, NIGHT, ROOT, Run, fuzz
from dispatch.assets.asset_list import read_asset_list
from dispatch.assets.assets import Asset, Skip
from dispatch.assets.grouping import keep_latest, set_groups
from dispatch.given import inputs
from dispatch.given.values import compact
from dispatch.records.named import Named
from dispatch.records.snapshot import open_snapshot
from dispatch.stores.aws import Account
from dispatch.tasks.tasks import render_tasks
from dispatch.terminal.messages import BadInput, FailedRun, one_line
from dispatch.terminal.progress import Progress
from faults import FLAGS, answer, is_listing
from forks import with_folders
from standins import BUCKET, S3, DocDB, Request, record

# ------------------------------------------------------------------------------------ the readers

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
KEYS = st.sampled_from(
    ["$and", "$in", "$regex", "_id", "name", "location", "external_links", "Code Ocean", "a"]
) | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
MARKS = "{}[]()\"'`:,\\\n\t #*.-"
PIECES = st.sampled_from([*MARKS, "NaN", "1e999", "None", "\\ud800", "\0"])


@st.composite
def spoilt(draw: st.DrawFn, whole: st.SearchStrategy[str]) -> str:
    """Draw a string, and cut it, or put something into it, somewhere."""
    string = draw(whole)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(string)))
        end = min(len(string), start + draw(st.integers(0, 4)))
        string = string[:start] + draw(PIECES | st.text(max_size=3)) + string[end:]
    return string


JSON = VALUES.map(json.dumps) | VALUES.map(repr) | st.text(max_size=40)
PARAMETERS = st.fixed_dictionaries(
    {}, optional={"fixed_parameters": VALUES, "distributed_parameters": VALUES, "a": VALUES}
)
CSV = st.lists(
    st.lists(st.sampled_from(["asset_id", "x", "", '"', '""', "a\nb", "\ufeff"]), max_size=3)
    .map(",".join),
    max_size=6,
).map("\n".join)  # fmt: skip


def read_query(string: str, folder: Path) -> None:
    compact(inputs.read_query(string, folder)).encode()


def read_csv(string: str, folder: Path) -> None:
    (folder / "data_asset_input.csv").write_bytes(string.encode("utf-8", "surrogatepass"))
    assert all(read_asset_list(folder).values)


def read_parameters(string: str, folder: Path) -> None:
    path = folder / "analysis_parameters.json"
    path.write_bytes(string.encode("utf-8", "surrogatepass"))
    found = inputs.read_parameters(folder)
    compact(found).encode()


def read_records(string: str, folder: Path) -> None:
    """Take a snapshot all the way to the tasks."""
    (folder / "records.json").write_bytes(string.encode("utf-8", "surrogatepass"))
    snapshot = open_snapshot(folder / "records.json")
    database = Named(snapshot, snapshot.fields())
    flags = ["--query={}", "--group_by=a,name", "--filter_latest=a.a", "--filter_by=name,location"]
    flags += ["--unwind_list_fields=a", "--drop_null_groups=0"]
    chosen = run_capsule.parse_settings(flags)
    chosen_entries = run_capsule.choose_assets(chosen, database, Progress()).entries
    assert len(chosen_entries) == len(snapshot.records)
    unwound, drop_null = chosen.unwind_list_fields, chosen.drop_null_groups
    kept = keep_latest(chosen_entries, chosen.filter_by, "a.a", unwound, drop_null)
    assert len(kept) == len(chosen_entries)
    entries = set_groups(kept, chosen.group_by, unwound, drop_null)
    groups = run_capsule.group_assets([one for one in entries if isinstance(one, Asset)])
    tasks = render_tasks(run_capsule.make_tasks(groups, None, chosen, []))
    found = [json.loads(task.content, parse_constant=pytest.fail) for task in tasks]
    ids = {record_id for task in found for record_id in task["docdb_record_id"]}
    assert len(ids) + sum(isinstance(one, Skip) for one in entries) == len(kept)


RECORDS = st.lists(
    st.fixed_dictionaries(
        {"_id": st.uuids().map(str)},
        optional={
            "name": VALUES,
            "location": VALUES | st.sampled_from(["s3://bucket/x", "s3://b/../x", "x", "file:///etc"]),
            "external_links": VALUES,
            "other_identifiers": st.fixed_dictionaries({"Code Ocean": VALUES}),
            "a": VALUES | st.fixed_dictionaries({"a": VALUES}),
        },
    ),
    max_size=4,
).map(json.dumps)  # fmt: skip
READERS: dict[str, tuple[Callable[[str, Path], None], st.SearchStrategy[str]]] = {
    "query": (read_query, spoilt(JSON)),
    "csv": (read_csv, spoilt(CSV)),
    "parameters": (read_parameters, spoilt(PARAMETERS.map(json.dumps))),
    "records": (read_records, RECORDS | spoilt(RECORDS)),
}


@pytest.mark.parametrize("name", READERS)
def test_readers_raise_nothing_but_bad_input(name: str, tmp_path: Path) -> None:
    reader, strings = READERS[name]

    def reads(string: str) -> None:
        try:
            reader(string, tmp_path)
        except BadInput as error:
            message = one_line(str(error))
        else:
            message = ""
        assert message.isprintable()

    fuzz(reads, (0.5 if NIGHT else 0.2) / len(READERS), string=strings)


# --------------------------------------------------------------------------------- the conservation


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[str], list[str], list[str]]:
    """Draw records, keys, flags, and faults."""
    records: list[dict[str, Any]] = []
    keys: list[str] = []
    for n in range(draw(st.integers(0, 9))):
        name = f"asset{n}"
        at = draw(st.sampled_from([f"s3://{BUCKET}/{name}"] * 6 + ["s3://x", "/etc", None, 5]))
        records.append(
            {"_id": draw(st.sampled_from([name] * 9 + [n])), "name": name, "location": at}
        )
        for field in ("group", "time"):
            value = draw(st.sampled_from([1, 2, "x", None, ["x", 1], []]))
            records[-1] |= {} if draw(st.integers(0, 5)) == 0 else {field: value}
        files = st.sampled_from(["a.nwb", "b/c.nwb", "d.nwb/0", "d.nwb/1", "e.zarr/f.nwb", "g.txt"])
        keys += [f"{name}/{file}" for file in draw(st.lists(files, max_size=4))]
    options = [
        "--file_extension=nwb", "--split_files=0", "--group_by=group", "--drop_null_groups=0",
        "--filter_latest=time --filter_by=group", "--unwind_list_fields=group", "--max_jobs=2",
        "--balance_by=size --file_extension=.nwb",
    ]  # fmt: skip
    flags = " ".join(draw(st.lists(st.sampled_from(options), unique=True))).split()
    faults = draw(st.lists(st.sampled_from(["429", "500", "SlowDown", "AccessDenied"]), max_size=2))
    return records, keys, flags, faults


@pytest.fixture
def env(services: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in services.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("dispatch.terminal.retries.backoff", lambda _: 0.01)
    monkeypatch.setattr("dispatch.stores.s3.Account", cache(Account))  # is slow to make


@pytest.mark.usefixtures("env")
@settings(max_examples=100 if NIGHT else 20, suppress_health_check=list(HealthCheck))
@given(worlds())
def test_every_record_that_matches_is_dispatched_or_named(
    docdb: DocDB, s3: S3, tmp_path: Path, caplog: pytest.LogCaptureFixture, world: Any
) -> None:
    records, keys, flags, faults = world
    docdb.clear()
    s3.clear()
    caplog.clear()
    caplog.set_level(logging.INFO)
    output = tmp_path / "results"
    shutil.rmtree(output, ignore_errors=True)
    if records:
        docdb.put(*records)
    s3.put(BUCKET, keys)
    for status in filter(str.isdigit, faults):
        docdb.faults.append((int(status), {"Retry-After": "0"}, b""))
    slow = faults.count("SlowDown")

    def fault(request: Request) -> Any:
        nonlocal slow
        if is_listing(request) and slow > 0:
            slow -= 1
            return answer(503, "SlowDown")
        return None

    s3.fault = fault
    if "AccessDenied" in faults:
        s3.refused["asset0/"] = (403, "AccessDenied")
    message = ""
    words = with_folders(["--query={}", *flags], tmp_path, output)
    try:
        run_capsule.dispatch(run_capsule.parse_settings(words))
    except FailedRun as error:
        message = str(error)
    except BadInput as error:
        assert "no record that matches has the field" in str(error)  # noqa: PT017
        return
    assert output.exists() == (not message)
    if "AccessDenied" in message:
        return
    assert not message or "nothing to dispatch" in message
    tasks = [json.loads(path.read_text()) for path in output.glob("*/*.json")]
    written = {record_id for task in tasks for record_id in task["docdb_record_id"]}
    named = [entry for entry in caplog.records if entry.getMessage().startswith("skipped, ")]
    assert len(written) + len(named) == len(records)
    by_id = {record["_id"]: record["name"] for record in records}
    lines = [entry.getMessage() for entry in named]
    missing = {record["name"] for record in records} - {by_id[record_id] for record_id in written}
    assert all(any(name in line for line in lines) for name in missing)


# ----------------------------------------------------------------------------------------- the exit


def test_the_program_exits_with_0_every_time() -> None:
    runs = max(2, int(FUZZ_SECONDS / 10))
    command = [sys.executable, str(ROOT / "code" / "benchmarks" / "exits.py"), f"--runs={runs}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"exit statuses: {{0: {runs}}}" in done.stdout


# ----------------------------------------------------------------------------------------- services


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


def of_json(change: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    """Return what changes the records of an answer."""
    return lambda body: json.dumps(change(json.loads(body))).encode()


# A status, headers, and what becomes of the body.
DOCDB_FAULTS: dict[str, tuple[int, dict[str, str], Callable[[bytes], bytes]]] = {
    "redirect": (302, {"Location": "/v1/metadata_index/data_assets/find"}, bytes),
    "cap": (200, {}, of_json(lambda records: records[:1])),
    "half of it": (200, {}, half),
    "twice": (200, {}, of_json(lambda records: records * 2)),
    "packed": (200, {"Content-Encoding": "gzip"}, gzip.compress),
    "bomb": (200, {"Content-Encoding": "gzip"}, lambda _: gzip.compress(b" " * 40_000_000)),
}


FEW = {"TRIES": 3, "LIST_TRIES": 3}
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
            if fault := fault_of("docdb", DOCDB_FAULTS):
                status, headers, change = fault
                return status, headers, change(body)
            return None

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
        constants = {"LARGEST_ANSWER": 30_000_000, "LARGEST_PAGE": 300_000, **FEW}
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

    for kind in (*S3_FAULTS, *DOCDB_FAULTS):
        check([(0, kind)], always=True)
    share = 0.2 if NIGHT else 0.05
    end = time.monotonic() + share * FUZZ_SECONDS

    def is_enough() -> bool:
        return outcomes == {0, 1}

    def check_in_time(faults: list[tuple[int, str]], always: bool) -> None:
        if time.monotonic() < end or not is_enough():
            check(faults, always)

    fuzz(check_in_time, share, is_enough=is_enough, faults=FAULTS, always=st.booleans())
    assert outcomes == {0, 1}
