"""Answers are read up to a size and a time, and strings are shown up to a length."""

from __future__ import annotations

import io
import time

import pytest
from urllib3 import HTTPResponse

from dispatch.terminal.messages import excerpt, first_of, shorten
from dispatch.terminal.reading import PIECE, read_body


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


def test_a_string_is_cut_where_it_is_longer_than_what_is_shown() -> None:
    assert shorten("a" * 200) == "a" * 200
    assert shorten("a" * 201) == "a" * 200 + "..."
    assert excerpt("a" * 60) == repr("a" * 60)
    assert first_of(["a", "b", "c"]) == "'a', 'b', 'c'"
    assert first_of(["a", "b", "c", "d"]) == "'a', 'b', 'c' and 1 more"
