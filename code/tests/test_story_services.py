"""Whatever services answer, the result is whole or the old one."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from conftest import FUZZ_SECONDS, NIGHT, Run, fuzz
from faults import FLAGS
from standins import BUCKET, S3, DocDB, Request, record


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

    def check_in_time(faults: list[tuple[int, str]], always: bool) -> None:
        if time.monotonic() < end:
            check(faults, always)

    fuzz(check_in_time, share, faults=FAULTS, always=st.booleans())
    assert outcomes == {0, 1}
