"""How much botocore reads, and how long, to find credentials: it has no bounds of its own.

Programs, and services over HTTP, could otherwise fill the memory while they are waited for.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
from contextlib import suppress
from typing import Any

from dispatch.terminal.reading import PIECE, read_body
from dispatch.terminal.retries import TRIES
from dispatch.terminal.waiting import STEP

LARGEST = 1_000_000  # bytes: credentials have some thousand
PROGRAM = "the credential_process of the profile"


def hold_to_bounds(timeout: int) -> None:
    """Let botocore read no more than so much, and no longer than an attempt may take.

    Neither is an option of botocore's: the program that gives credentials is a parameter that
    nobody can reach, and of an answer over HTTP all is read before anybody sees it.
    """
    from botocore.awsrequest import AWSResponse
    from botocore.credentials import ProcessProvider

    def content(response: Any) -> bytes:
        if response._content is None:
            response._content = read_within(response.raw, timeout)
        return bytes(response._content)

    AWSResponse.content = property(content)
    Program.seconds = TRIES * timeout + STEP  # a moment after nobody waits any more
    ProcessProvider.__init__.__defaults__ = (Program,)


def read_within(raw: Any, seconds: float) -> bytes:
    """Return the body of an answer; raise OSError for one that is too large or too slow."""
    from urllib3.exceptions import ReadTimeoutError

    try:
        return read_body(raw, LARGEST, time.monotonic() + seconds)
    except TimeoutError:  # as botocore has it
        raise ReadTimeoutError(raw, None, f"nothing within {seconds} s (--timeout)") from None


class Program(subprocess.Popen[bytes]):
    """A program that gives credentials; it is ended where it says too much or takes too long."""

    seconds = 60.0

    def __init__(self, words: list[str], **options: Any) -> None:
        try:
            super().__init__(words, **options)
        except OSError as error:
            raise OSError(f"{PROGRAM} cannot be started: {error}") from None

    def communicate(self, *_: Any, **__: Any) -> tuple[bytes, bytes]:
        """Return what it says on both of its streams; raise OSError."""
        try:
            said = self.listen(time.monotonic() + self.seconds)
        except OSError:
            self.kill()
            raise
        if not self.wait():
            check_credentials(said[0])
        return said[0], said[1]

    def listen(self, end: float) -> list[bytes]:
        """Return what it says until it closes its streams; raise OSError."""
        said: dict[int, bytearray] = {}
        with selectors.DefaultSelector() as streams:
            for stream in filter(None, (self.stdout, self.stderr)):
                said[stream.fileno()] = bytearray()
                streams.register(stream, selectors.EVENT_READ)
            while streams.get_map():
                ready = streams.select(max(0.0, end - time.monotonic()))
                if not ready:
                    raise OSError(f"{PROGRAM} does not end")
                for key, _events in ready:
                    piece = os.read(key.fd, PIECE)
                    said[key.fd] += piece
                    if not piece:
                        streams.unregister(key.fileobj)
                    if len(said[key.fd]) > LARGEST:
                        raise OSError(f"{PROGRAM} says more than {LARGEST:,} bytes")
        return list(map(bytes, said.values()))


def check_credentials(said: bytes) -> None:
    """Raise OSError unless a program has said something in which there can be credentials."""
    with suppress(ValueError, RecursionError):
        found = json.loads(said)
        names = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
        values = [found.get(name) or "" for name in names] if isinstance(found, dict) else [None]
        if all(isinstance(value, str) for value in values):
            return
    raise OSError(
        f"what {PROGRAM} says are no credentials, which are a JSON object with Version 1,"
        " AccessKeyId and SecretAccessKey: run it by hand to see what it is"
    )
