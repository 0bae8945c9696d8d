"""Directory buckets: their sessions, beside other buckets, and what is not an answer of theirs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import strategies as st

from conftest import NIGHT, Run, fuzz
from faults import Application, answer, page_of, send
from finding import Find, find  # noqa: F401  (a fixture)
from standins import BUCKET, KEY_ID, S3, DocDB, Request, record

EXPRESS = "lab--usw2-az1--x-s3"
FLAGS = ("--query={}", "--file_extension=nwb", "--overwrite=1")
SESSION = """<CreateSessionResult><Credentials><SessionToken>session-{number}</SessionToken>
<SecretAccessKey>secret-{number}</SecretAccessKey><AccessKeyId>id-{number}</AccessKeyId>
<Expiration>{end}</Expiration></Credentials></CreateSessionResult>"""


class Directory:
    """A directory bucket: its keys come in no order, to whoever has keys of a session."""

    def __init__(self, keys: list[str], page: int = 1_000) -> None:
        self.keys, self.page = keys, page
        self.sessions = 0  # that have begun
        self.over = 0  # of them, the first ones
        self.seconds = 300.0  # until a session ends

    def answer(self, request: Request) -> Application | None:
        """Return what answers a request for the bucket, None for another one."""
        if request.path.strip("/") != EXPRESS:
            return None
        assert "/us-west-2/s3express/aws4_request" in request.signature, request.signature
        if "session" in request.query:
            assert f"Credential={KEY_ID}/" in request.signature
            return self.begin_session()
        number = re.search("Credential=id-([0-9]+)/", request.signature)
        if not number or int(number[1]) < self.over:
            return answer(400, "ExpiredToken")
        for name in ("start-after", "delimiter"):
            assert name not in request.query, request.query
        return send(self.list(request.query))

    def begin_session(self) -> Application:
        """Return what answers with keys of one more session."""
        end = datetime.now(UTC) + timedelta(seconds=self.seconds)
        words = SESSION.format(number=self.sessions, end=end.strftime("%Y-%m-%dT%H:%M:%SZ"))
        self.sessions += 1
        return send(words.encode())

    def list(self, query: dict[str, str]) -> bytes:
        """Return a page."""
        prefix = query["prefix"]
        keys = [key for key in self.keys if key.startswith(prefix)]
        first = int(query.get("continuation-token", "0"))
        behind = first + self.page
        token = str(behind) if behind < len(keys) else ""
        return page_of(keys[first:behind], token, prefix)


def files_of(result: Any) -> list[str]:
    """Return the files that are dispatched."""
    return sorted(file for task in result.tasks() for file in task["file_location"])


def test_assets_in_directory_buckets_and_others_are_all_found(
    run: Run, docdb: DocDB, s3: S3
) -> None:
    names = [f"{number:02}" for number in range(30)]
    s3.put(BUCKET, [f"o{name}/x.nwb" for name in names])
    directory = Directory([f"d{name}/x.nwb" for name in names])
    s3.fault = directory.answer
    docdb.put(*(record(f"d{name}", EXPRESS) for name in names))
    docdb.put(*(record(f"o{name}") for name in names))
    expected = [f"s3://{EXPRESS}/d{name}/x.nwb" for name in names]
    expected += [f"s3://{BUCKET}/o{name}/x.nwb" for name in names]
    for turn in range(3 if NIGHT else 1):
        result = run(*FLAGS)
        assert result.status == 0, result.log
        assert files_of(result) == sorted(expected)
        assert directory.sessions == turn + 1


def test_a_directory_bucket_is_listed_by_its_tokens_whatever_its_order(find: Find, s3: S3) -> None:
    def check(keys: list[str], page: int) -> None:
        s3.fault = Directory(keys, page).answer
        expected = set()
        for key in keys:
            found = re.fullmatch(r"a/((?:(?!\.zarr/|\.nwb/).)*?\.nwb)(/.*)?", key)
            if found:
                expected.add(found[1])
        assert set(find("a", ".nwb", bucket=EXPRESS)) == expected

    name = st.sampled_from(["b", "c", "d.nwb", "e.zarr", "f.nwb"])
    path = st.lists(name, min_size=1, max_size=3).map("/".join)
    keys = st.lists(path.map("a/{}".format), unique=True, max_size=12)
    fuzz(check, 0.03, keys=keys, page=st.integers(1, 5))


def test_a_session_that_ends_is_followed_by_another_one(run: Run, docdb: DocDB, s3: S3) -> None:
    names = [f"{number:02}" for number in range(30)]
    docdb.put(*(record(name, EXPRESS) for name in names))
    directory = Directory([f"{name}/x.nwb" for name in names])
    number = 0

    def end_some(request: Request) -> Application | None:
        nonlocal number
        number += "prefix" in request.query
        if number in (10, 20):
            directory.over = directory.sessions  # sooner than was said
        return directory.answer(request)

    s3.fault = end_some
    result = run(*FLAGS, "--max_connections=2")
    assert result.status == 0, result.log
    assert len(files_of(result)) == 30
    assert directory.sessions == 3
    directory.sessions = directory.over = 0
    directory.seconds = 5
    number = 100
    result = run(*FLAGS, "--max_connections=2")
    assert len(files_of(result)) == 30
    assert 3 <= directory.sessions <= 30


def drip(_: Any, start_response: Any) -> Iterator[bytes]:
    """Send a byte now and then, so that no socket ever times out."""
    start_response("200 OK", [("Content-Length", "1000")])
    for _ in range(60):
        yield b" "
        time.sleep(0.2)


def endless(_: Any, start_response: Any) -> Iterator[bytes]:
    """Begin an answer, and go on for ever."""
    start_response("200 OK", [])
    while True:
        yield b" " * 1_000_000


NO_ANSWERS: dict[str, tuple[Application, str]] = {
    "drip": (drip, "nothing within 1 s (--timeout)"),
    "endless": (endless, "an answer of more than 16,000,000 bytes"),
    "html": (send(b"<html>log in</html>"), "not a "),
    "nothing": (send(b""), "not a "),
    "refused": (answer(403, "AccessDenied"), "AccessDenied"),
    "500": (answer(500, "InternalError"), "InternalError"),
    "no bucket": (answer(404, "NoSuchBucket"), f"no S3 bucket '{EXPRESS}'"),
}


# Pages are read as those of other buckets, so that these faults of a session's say all by day.
OF_PAGES = list(NO_ANSWERS) if NIGHT else ["drip", "refused", "no bucket"]


@pytest.mark.parametrize(
    ("step", "name"),
    [*(("session", name) for name in NO_ANSWERS), *(("list-type", name) for name in OF_PAGES)],
)
def test_what_is_no_answer_of_a_directory_bucket_ends_the_run_in_time(
    step: str, name: str, run: Run, docdb: DocDB, s3: S3
) -> None:
    fault, words = NO_ANSWERS[name]
    docdb.put(record("a", EXPRESS))
    directory = Directory(["a/x.nwb"])
    s3.fault = lambda request: fault if step in request.query else directory.answer(request)
    started = time.monotonic()
    result = run(*FLAGS, "--timeout=1", constants={"LIST_TRIES": 1})
    assert time.monotonic() - started < 12
    assert result.status == 1, result.log
    assert words in result.error
    assert result.files() == {}
    assert result.megabytes < 150


def test_a_redirect_without_a_region_is_not_waited_for_without_an_end(
    run: Run, docdb: DocDB, s3: S3
) -> None:
    docdb.put(record("a", "far"))

    s3.fault = lambda request: (
        drip_headers if request.method == "HEAD" else answer(301, "PermanentRedirect")
    )
    started = time.monotonic()
    result = run(*FLAGS, "--timeout=1", constants={"LIST_TRIES": 1})
    assert time.monotonic() - started < 12
    assert result.status == 1
    assert "cannot list s3://far/a of asset a: nothing within 1 s (--timeout)" in result.error


def drip_headers(environ: Any, _: Any) -> Any:
    """Begin an answer whose headers do not end."""
    connection = environ["werkzeug.socket"]
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    for _ in range(60):
        connection.sendall(b"x")
        time.sleep(0.2)
    raise ConnectionResetError


def test_a_bucket_that_is_elsewhere_is_looked_for_once_for_all(
    run: Run, docdb: DocDB, s3: S3
) -> None:
    names = [f"{number:03}" for number in range(40)]
    s3.put(BUCKET, [f"{name}/x.nwb" for name in names], region="eu-north-1")
    docdb.put(*map(record, names))
    constants = {"FIRST_CONNECTIONS": 16}
    result = run(*FLAGS, constants=constants)
    assert result.status == 0, result.log
    assert len(files_of(result)) == 40
    elsewhere = [one for one in s3.listings() if "/us-west-2/s3/" in one.signature]
    assert len(elsewhere) <= 16  # those that were sent at first
    assert len(s3.listings()) == 40 + len(elsewhere)
    assert not [one for one in s3.requests if one.method == "HEAD"]
