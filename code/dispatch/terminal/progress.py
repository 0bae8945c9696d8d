"""How far a run is, and how that is shown."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from dispatch.terminal.messages import log

if TYPE_CHECKING:
    from tqdm import tqdm

SECONDS_PER_LINE = 10  # of the log, while nothing but progress is to be said; $PROGRESS_SECONDS
SECONDS_PER_FRAME = 0.1  # of the line on a terminal


class Progress:
    """How far a run is: on a terminal a line that changes, else a line in the log now and then."""

    def __init__(self) -> None:
        self.records = self.assets = self.listed = self.files = 0
        self.complete = False  # all records are read, so that all assets are known
        self.started = self.shown = time.monotonic()
        self.on_terminal = sys.stderr.isatty()
        self.least = SECONDS_PER_FRAME if self.on_terminal else seconds_per_line()
        self.bar: tqdm[NoReturn] | None = None

    def update(self) -> None:
        """Say how far it is, unless that has just been said."""
        now = time.monotonic()
        if now - self.shown < self.least:
            return
        self.shown = now
        line = self.in_words(now - self.started)
        if not self.on_terminal:
            log.info("%s", line)
            return
        from tqdm import tqdm

        self.bar = self.bar or tqdm(leave=False, bar_format="{desc} {bar:20}")
        self.bar.total, self.bar.n = self.assets or 1, self.listed
        self.bar.set_description_str(line)

    def in_words(self, seconds: float) -> str:
        """Return how far it is after so many seconds."""
        line = f"{self.records:,} records"
        if self.assets:
            rate = self.listed / seconds
            digits = int(rate < 10)
            line += f", {self.listed:,} of {self.assets:,} assets listed, {self.files:,} files"
            line += f", {rate:,.{digits}f} assets/s"
            if self.complete and rate:
                line += f", {(self.assets - self.listed) / rate:,.0f} s left"
        return line

    def close(self) -> None:
        """Take the line off the terminal."""
        if self.bar is not None:
            self.bar.close()


def seconds_per_line() -> float:
    """Return how often the log tells of progress: who reads it, as plans.py does, may say that."""
    with suppress(ValueError):
        return float(os.environ.get("PROGRESS_SECONDS", ""))
    return SECONDS_PER_LINE
