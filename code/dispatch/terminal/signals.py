"""Signals: how one ends a run, at any moment, in one line.

It imports next to nothing, so that signals are heard before all else is imported.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

HEARD = (signal.SIGINT, signal.SIGTERM)
LAST_WORDS = 1.0  # seconds in which a run that is done may still say so

clean_ups: list[Callable[[], None]] = []  # what is to be done before a run is stopped
is_moving = False  # folders are being moved, which ends soon and is not to be stopped
is_done = False  # all is in place: a signal may end the run, but not change its status
is_held = False  # something takes a moment that is to be whole
heard_meanwhile = 0  # the signal that was to end the run then


def listen() -> None:
    """From here on, SIGINT and SIGTERM end the run, in one line and with nothing left behind."""
    open_streams()
    for number in HEARD:
        signal.signal(number, stop)


def open_streams() -> None:
    """Open the standard streams that the caller has closed: no file may get their numbers."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which gets the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def stop(number: int, _: object) -> None:
    """Handle a signal: end the run at once, unless it is as good as done.

    No exception is raised, which a retry could take for a fault of a service. Nothing is waited
    for, since whoever reads the output may have gone, or stopped to read.
    """
    global heard_meanwhile
    if is_held:
        heard_meanwhile = number
        return
    if is_moving or is_done:
        heard_meanwhile = number
        signal.signal(signal.SIGALRM, finish)
        signal.setitimer(signal.ITIMER_REAL, LAST_WORDS)
        return
    for clean_up in reversed(clean_ups):
        with suppress(Exception):
            clean_up()
    clear = "\r\033[K" if os.isatty(2) else ""  # a line that tells of progress
    say_at_once(f"{clear}error: stopped by {signal.Signals(number).name}, nothing is dispatched\n")
    os._exit(128 + number)


def finish(_: int, __: object) -> None:
    """End a run that was to be stopped when it was as good as done, and that still goes on."""
    if is_done:
        os._exit(0)
    if not is_moving:  # to move has failed
        stop(heard_meanwhile, None)
    signal.setitimer(signal.ITIMER_REAL, LAST_WORDS)


def say_at_once(line: str) -> None:
    """Write a line to standard error, if that can be done without waiting for its reader."""
    with suppress(OSError):
        os.set_blocking(2, False)
        try:
            os.write(2, line.encode())
        finally:
            os.set_blocking(2, True)  # others may have the stream, too


@contextmanager
def moving() -> Iterator[None]:
    """Let no signal end the run meanwhile."""
    global is_moving
    is_moving = True
    try:
        yield
    finally:
        is_moving = False


@contextmanager
def held() -> Iterator[None]:
    """Let a signal end the run right after this, which makes something and notes its clean-up."""
    global is_held
    is_held = True
    try:
        yield
    finally:
        is_held = False
        if heard_meanwhile:
            stop(heard_meanwhile, None)


def done() -> None:
    """Say that all is in place: from here on, a signal ends the run as one that has succeeded."""
    global is_done
    is_done = True


def ignore() -> None:
    """Let no signal change the status of a run that has ended."""
    for number in (*HEARD, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
