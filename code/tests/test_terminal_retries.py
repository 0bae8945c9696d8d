"""Answers are read up to a size and a time, and what fails is tried again as the table says."""

from __future__ import annotations

import io
import time
from itertools import pairwise

import pytest
from urllib3 import HTTPResponse

from dispatch.terminal import retries
from dispatch.terminal.reading import PIECE, read_body
from dispatch.terminal.retries import Attempts, Fault, SlowDown, backoff, may_pass


def answer(size: int) -> HTTPResponse:
    return HTTPResponse(io.BytesIO(b"x" * size), preload_content=False)


@pytest.mark.parametrize("size", [0, 1, PIECE, 2 * PIECE + 1])
def test_an_answer_is_read_up_to_a_size_and_a_time(size: int) -> None:
    soon = time.monotonic() + 60
    assert read_body(answer(size), size, soon) == b"x" * size
    with pytest.raises(OSError, match=f"an answer of more than {size:,} bytes"):
        read_body(answer(size + 1), size, soon)
    with pytest.raises(TimeoutError):
        read_body(answer(size + 1), size + 1, time.monotonic() - 1)


# ------------------------------------------------------------------------------------------ retries


def pauses_of(fault: OSError, most: int = 100) -> list[float]:
    """Return the pauses after the attempts of a request that fails so each time."""
    attempts = Attempts()
    pauses: list[float] = []
    while len(pauses) < most and (pause := attempts.pause_after(fault)) is not None:
        pauses.append(pause)
    return pauses


def test_the_table_says_what_is_done() -> None:
    rows = [line.split("|") for line in str(retries.__doc__).splitlines() if line.startswith("|")]
    assert [row[2].strip() for row in rows[2:]] == ["5", "7", "for 5 minutes", "3", "1"]
    assert retries.TRIES == 5
    assert len(pauses_of(OSError())) == 7 - 1
    assert retries.LONGEST_SLOW_DOWN == 5 * 60
    assert len(pauses_of(Fault("", retries.FEW_TRIES))) == 3 - 1
    assert pauses_of(Fault("", retries.ONE_TRY)) == pauses_of(PermissionError()) == []
    assert len(pauses_of(Fault("", 20))) == 7 - 1  # and no more than others


def test_pauses_double_up_to_a_bound() -> None:
    for attempt in range(1, 10):
        longest = 0.5 * 2 ** (attempt - 1)
        assert longest / 2 <= backoff(attempt) <= longest
    for fault, first, most in ((OSError(), 0.5, 3), (SlowDown(), 1 / 64, 1)):
        pauses = pauses_of(fault, 20)
        assert first / 2 <= pauses[0] <= first
        assert max(pauses) <= most
        assert all(later > 0.99 * pause for pause, later in pairwise(pauses[:4]))


@pytest.mark.parametrize("seconds", [0, 301])
def test_slow_down_is_outlived_for_a_time_and_for_so_many_tries(
    seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = Attempts()
    monkeypatch.setattr("time.monotonic", lambda: attempts.started + seconds)
    tries = 1
    while tries < 50 and attempts.pause_after(SlowDown()) is not None:
        tries += 1
    assert tries == (50 if seconds < 300 else 7)


def test_what_may_pass_and_what_is_usual() -> None:
    assert all(may_pass(status, "") for status in (500, 503, 599, 408, 429))
    assert not any(may_pass(status, "AccessDenied") for status in (400, 403, 404, 499))
    assert may_pass(400, "RequestTimeout")
    for fault, number in ((OSError(), 1), (SlowDown(), 6)):
        attempts = Attempts()
        for turn in range(1, 9):
            attempts.pause_after(fault)
            assert attempts.is_usual(fault) == (turn <= number)
