"""Answers of any service, read up to a size and a time, for which libraries have no bounds."""

from __future__ import annotations

import time
from typing import Any

PIECE = 65_536  # bytes, of an answer as it is read


def read_body(answer: Any, largest: int, end: float, **how: Any) -> bytes:
    """Return the body of an answer of urllib3's, read as `how` says.

    Raise OSError for one that is too large, TimeoutError where it is not whole by `end`, a time of
    time.monotonic: a socket's own timeout begins anew with every byte.
    """
    pieces: list[bytes] = []
    size = 0
    while piece := answer.read1(PIECE, **how):
        pieces.append(piece)
        size += len(piece)
        if size > largest:
            raise OSError(f"an answer of more than {largest:,} bytes")
        if time.monotonic() > end:  # in a thread that was given up
            raise TimeoutError
    return b"".join(pieces)
