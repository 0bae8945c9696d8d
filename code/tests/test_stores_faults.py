"""Whatever S3 does: outlived if it passes, one line if it stays, and all of the output or none."""

from __future__ import annotations

import json
import random
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from conftest import Run, fails
from faults import (  # noqa: F401  (a fixture)
    FLAGS,
    NAMES,
    Application,
    answer,
    completes,
    drip,
    drop,
    is_listing,
    whole,
    world,
)
from standins import BUCKET, ERROR, KEY_ID, S3, SECRET, DocDB, Request, record


def page_of(s3: S3, environ: Any) -> bytes:
    """Return the page that S3 would answer with."""
    return b"".join(s3.moto(environ, lambda *_: None))


def cut_page(s3: S3, *, framed: bool) -> Application:
    """Return an application that sends half a page, as if it were whole or not."""

    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        content = page_of(s3, environ)
        half = content[: len(content) // 2]
        start_response("200 OK", [("Content-Length", str(len(half if framed else content)))])
        yield half
        if not framed:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)

    return application


def turned_page(s3: S3) -> Application:
    """Return an application that sends a page with its keys from the last to the first."""

    def application(environ: Any, start_response: Any) -> list[bytes]:
        head, *entries = page_of(s3, environ).split(b"<Contents>")
        last, end, tail = entries[-1].partition(b"</Contents>")
        turned = [last + end, *entries[-2::-1]]
        return send(b"<Contents>".join([head, *turned]) + tail)(environ, start_response)

    return application


def first_page(s3: S3) -> Application:
    """Return an application that sends the first page, whichever is asked for."""

    def application(environ: Any, start_response: Any) -> list[bytes]:
        asked = environ["QUERY_STRING"].split("&")
        first = [each for each in asked if each.partition("=")[0] not in BEHIND]
        environ["QUERY_STRING"] = "&".join([*first, f"max-keys={s3.page}"])
        return send(page_of(s3, environ))(environ, start_response)

    return application


BEHIND = ("start-after", "continuation-token")


def send(content: bytes) -> Callable[[Any, Any], list[bytes]]:
    def application(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", str(len(content)))])
        return [content]

    return application


def dripping(s3: S3) -> Application:
    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        content = page_of(s3, environ)
        start_response("200 OK", [("Content-Length", str(len(content)))])
        for n in range(40):
            yield content[n : n + 1]
            time.sleep(0.2)

    return application


S3_FAULTS: dict[str, tuple[Callable[[S3], Application], str]] = {
    "503": (lambda _: answer(503, "SlowDown"), "SlowDown"),
    "500": (lambda _: answer(500, "InternalError"), "InternalError"),
    "408": (lambda _: answer(408, "Late"), "Late"),
    "429": (lambda _: answer(429, "TooMany"), "TooMany"),
    "400": (lambda _: answer(400, "RequestTimeout"), "RequestTimeout"),
    "reset": (lambda _: drop, "cannot list"),
    "drip": (dripping, "nothing within 2 s (--timeout)"),
    "cut off": (lambda s3: cut_page(s3, framed=False), "cannot list"),
    "truncated": (lambda s3: cut_page(s3, framed=True), "cannot list"),
    "html": (
        lambda _: send(b"<html><body>log in</body></html>"),
        "what S3 answers is not a listing",
    ),
    "error with 200": (lambda _: send(ERROR.format("InternalError", "x").encode()), "cannot list"),
    "nothing": (lambda _: send(b""), "cannot list"),
    "turned": (turned_page, ""),  # which is no fault where it stays: another order
}


S3_LASTING = ("503", "drip", "truncated", "html")


def test_a_fault_of_s3_that_passes_is_outlived_and_one_that_stays_ends_the_run(
    run: Run, s3: S3, whole: dict[str, bytes]
) -> None:
    faults: dict[str, list[Application]] = {}  # of each asset, one after the other
    for name, (fault, _) in zip(cycle(NAMES), S3_FAULTS.values(), strict=False):
        faults.setdefault(f"{name}/", []).append(fault(s3))

    def pass_by(request: Request) -> Application | None:
        left = faults.get(request.query.get("prefix", "")) if is_listing(request) else None
        return left.pop(0) if left else None

    s3.fault = pass_by
    completes(run(*FLAGS, "--timeout=2"), whole)
    assert not any(faults.values())
    for name in S3_LASTING:
        fault, words = S3_FAULTS[name]
        stay(s3, fault(s3))
        tries = 1 if name == "drip" else 2
        constants = {"LIST_TRIES": tries, "LONGEST_SLOW_DOWN": 0}
        lasting = run(*FLAGS, "--timeout=2", "--overwrite=1", constants=constants)
        assert sum(request.query["prefix"] == "07/" for request in s3.listings()) == tries
        assert lasting.files() == whole  # of before: nothing else is written
        fails(replace(lasting, output=lasting.output / "none"), words)
        assert f"cannot list s3://{BUCKET}/07 of asset 07" in lasting.error


def stay(s3: S3, fault: Application) -> None:
    """Answer with a fault whatever asks for one of the assets."""
    s3.requests.clear()
    s3.fault = lambda request: fault if request.query.get("prefix", "").startswith("07") else None


@pytest.mark.usefixtures("world")
def test_s3_is_asked_a_few_times_with_pauses_that_do_not_grow_for_ever(run: Run, s3: S3) -> None:
    s3.refused["07/"] = (503, "ServiceUnavailable")
    result = run(*FLAGS, constants={"LONGEST_LIST_PAUSE": 0.01})
    assert result.status == 1
    assert sum(request.query["prefix"] == "07/" for request in s3.listings()) == 7
    pauses = re.findall("WARNING .*/07: ServiceUnavailable.*; retrying in (.*) s", result.log)
    assert pauses == ["0.0"] * 5  # the first one is nothing to worry about


UNTRUE = (
    b"<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>true</IsTruncated></ListBucketResult>"
)


NO_LISTINGS: dict[str, tuple[Callable[[S3], Application], str]] = {
    "html": (lambda _: send(b"<html><body>log in</body></html>"), "is not a listing"),
    "error": (lambda _: send(ERROR.format("InternalError", "x").encode()), "is not a listing"),
    "no token": (lambda _: send(UNTRUE), "is not a listing"),
    "the first page": (first_page, "a page that comes again"),
}


LARGE = {  # of pages of 20 keys
    "pages": ("nwb", [f"big/{n:04}.nwb" for n in range(50)]),
    "jump": ("nwb", [*(f"big/a.zarr/{n:04}" for n in range(30)), "big/b.nwb", "big/c.nwb"]),
    "split": ("nwb", [f"big/{folder}/{n:04}.nwb" for folder in "abcdefghijkl" for n in range(10)]),
    "odd": ("nwb", [f"big//{n:04}.nwb" for n in range(30)]),
    "weighed": ("zarr", [f"big/a.zarr/{n:04}" for n in range(30)]),
}


@pytest.mark.parametrize("name", LARGE)
def test_what_is_no_listing_never_ends_one(name: str, run: Run, docdb: DocDB, s3: S3) -> None:
    extension, keys = LARGE[name]
    docdb.put(record("big"), record("small"))
    s3.put(BUCKET, [*keys, f"small/x.{extension}"])
    s3.page = 20
    constants = {"KEYS_PER_FOLDER": 5, "LIST_TRIES": 2, "LONGEST_SLOW_DOWN": 0}
    flags = ["--query={}", f"--file_extension={extension}", "--split_files=0"]
    flags += ["--balance_by=size"] if name == "weighed" else []
    whole = run(*flags, constants=constants).files()
    prefixes = {request.query["prefix"] for request in s3.listings()}
    assert (len(prefixes) > 2) == (name == "split")
    seen = 0

    def later(request: Request) -> Application | None:  # than the first request for the asset
        nonlocal seen
        if not is_listing(request) or not request.query.get("prefix", "").startswith("big"):
            return None
        seen += 1
        if seen > 20:  # which no run gets to
            return answer(403, "AccessDenied")
        return spoilt if seen > 1 else None

    s3.fault = later
    for fault, words in [*NO_LISTINGS.values()] if name == "pages" else [NO_LISTINGS["html"]]:
        seen, spoilt = 0, fault(s3)
        result = run(*flags, "--overwrite=1", constants=constants)
        assert result.files() == whole
        assert result.status == 1, result.log
        assert "cannot list s3://example-bucket/big of asset big" in result.error
        assert words in result.error
        assert seen > 1


def test_a_slow_s3_gives_the_same_output(run: Run, s3: S3, whole: dict[str, bytes]) -> None:
    draw = random.Random(1)  # noqa: S311
    s3.fault = lambda _: answer(503, "SlowDown") if draw.random() < 0.2 else None
    completes(run(*FLAGS), whole)


@pytest.mark.usefixtures("world")
def test_one_asset_that_is_refused_ends_the_run(run: Run, s3: S3) -> None:
    s3.refused["07/"] = (403, "AccessDenied")
    result = run(*FLAGS)
    fails(result, f"s3://{BUCKET}/07 of asset 07: AccessDenied")
    assert "check the AWS credentials" in result.error
    assert sum(request.query["prefix"] == "07/" for request in s3.listings()) == 1
    assert not result.output.exists()


@pytest.mark.usefixtures("world")
def test_a_bucket_that_is_not_there_ends_the_run(run: Run, docdb: DocDB) -> None:
    docdb.put(record("lost", bucket="no-such-bucket"))
    result = run(*FLAGS)
    fails(result, "there is no S3 bucket 'no-such-bucket'")
    assert not result.output.exists()


def test_a_bucket_that_answers_from_elsewhere_is_followed(
    run: Run, s3: S3, whole: dict[str, bytes]
) -> None:
    def moved(environ: Any, start_response: Any) -> list[bytes]:
        content = ERROR.format("PermanentRedirect", "elsewhere").encode()
        region = [("x-amz-bucket-region", "us-west-2"), ("Content-Length", str(len(content)))]
        start_response("301 Moved Permanently", region)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else content]

    s3.fault = lambda request: None if "/us-west-2/s3/" in request.signature else moved
    completes(run(*FLAGS, env={"AWS_DEFAULT_REGION": "eu-central-1"}), whole)


def credentials_by(command: str, folder: Path) -> dict[str, str | None]:
    """Return an environment in which this command gives the credentials."""
    config = folder / "config"
    config.write_text(f"[default]\ncredential_process = {command}\n")
    keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    return {**keys, "AWS_CONFIG_FILE": str(config)}


def credentials_that_end_soon(folder: Path, token: str) -> Path:
    """Return a file of credentials that are renewed each time, so soon do they end."""
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    given = {"AccessKeyId": KEY_ID, "SecretAccessKey": SECRET, "SessionToken": token}
    source = folder / "credentials"
    source.write_text(json.dumps({"Version": 1, **given, "Expiration": soon}))
    return source


@pytest.mark.usefixtures("world")
def test_credentials_that_expire_in_the_middle_are_renewed(
    run: Run, s3: S3, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(*(record(f"more-{n:03}") for n in range(40)))
    s3.put(BUCKET, [f"more-{n:03}/1.nwb" for n in range(40)])
    whole = run(*FLAGS, output=tmp_path / "whole").files()
    # each call gives credentials of its own
    source = credentials_that_end_soon(tmp_path, "its number is")
    env = credentials_by(f"""sh -c 'sed "s/its number is/& $$/" {source}'""", tmp_path)
    tokens: list[str] = []
    over: set[str] = set()

    def expired(request: Request) -> Application | None:
        tokens.append(request.token)
        if len(tokens) in (12, 30, 31, 32):  # what was given out so far is over
            over.update(tokens)
        return answer(400, "ExpiredToken") if request.token in over else None

    s3.fault = expired
    often = {"RENEWAL_PAUSE": 0}
    result = run(*FLAGS, "--max_connections=2", env=env, constants=often)
    assert result.status == 0, result.log
    assert all(tokens)
    assert len(set(tokens) - over) > 1
    completes(result, whole)


@pytest.mark.usefixtures("world")
def test_credentials_that_never_come_end_the_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "records.json").write_text(json.dumps(record("a")))
    flags = (*FLAGS, "--docdb_snapshot=records.json", "--timeout=1")
    env = credentials_by("sleep 60", tmp_path)
    fails(run(*flags, env=env, constants={"TRIES": 1}), "AWS: no credentials in 1 s")


@pytest.mark.usefixtures("world")
def test_credentials_that_are_never_renewed_end_the_run(run: Run, tmp_path: Path) -> None:
    source = credentials_that_end_soon(tmp_path, "a")
    calls = [f"mkdir {tmp_path / number}" for number in ("first", "second")]
    env = credentials_by(f"sh -c '{' || '.join(calls)} || sleep 60; cat {source}'", tmp_path)
    few = {"LIST_TRIES": 1, "RENEWAL_PAUSE": 0}
    result = run(*FLAGS, "--timeout=1", env=env, constants=few)
    fails(result, "nothing within 1 s (--timeout)")
