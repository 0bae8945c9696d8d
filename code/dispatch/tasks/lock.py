"""The lock of a folder: one process at a time."""

from __future__ import annotations

import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from dispatch.terminal import signals
from dispatch.terminal.messages import BadInput, log

LOCK = ".dispatch-lock"  # the file that stands for the lock, where the file system has none
HOLDER = re.compile(r"(\S{1,255}) ([0-9]{1,9}) (\S{1,30})\n")  # host, process, time


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone; raise BadInput while another one holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if is_locked(descriptor, folder):
            yield
        else:
            with lock_by_file(folder / LOCK):
                yield
    finally:
        os.close(descriptor)


def is_locked(descriptor: int, folder: Path) -> bool:
    """Lock an open folder; return whether its file system can, raise BadInput if it is locked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BadInput(f"another dispatch is writing into {folder}") from None
    except OSError as error:  # some network file systems lock no folders
        log.debug("no lock on %s: %s", folder, error)
        return False
    return True


@contextmanager
def lock_by_file(path: Path) -> Iterator[None]:
    """Hold a folder by a file that only one process can make; raise BadInput where it is there.

    One that a killed run has left is told of, and not removed: of two runs that did so at the same
    time, each could remove the other's.
    """
    host = socket.gethostname()
    try:
        with signals.held():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            signals.clean_ups.append(partial(path.unlink, missing_ok=True))
    except FileExistsError:
        raise BadInput(describe_holder(path, host)) from None
    try:
        now = datetime.now(UTC)
        os.write(descriptor, f"{host} {os.getpid()} {now:%Y-%m-%dT%H:%M:%SZ}\n".encode())
        os.close(descriptor)
        yield
    finally:
        with signals.held():  # after that, the file may be another one's
            path.unlink(missing_ok=True)
            signals.clean_ups.pop()


def describe_holder(path: Path, here: str) -> str:
    """Return who holds a folder by a file, and what to do if that runs no more."""
    content = ""
    with suppress(OSError, UnicodeError):
        content = path.read_text()
    told = HOLDER.fullmatch(content)
    if not told:
        return f"another dispatch may be writing into {path.parent}: if none is, remove {path}"
    host, process, time = told.groups()
    who = f"process {process} on {host}, since {time}"
    if host == here and not os.path.exists(f"/proc/{process}") and os.path.exists("/proc/self"):
        return f"{path} was left by {who}, which runs no more: remove it"
    return (
        f"another dispatch is writing into {path.parent}: {who}; if it runs no more, remove {path}"
    )
