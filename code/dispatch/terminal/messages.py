"""How errors and the log are worded: on one line, without secrets."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Sequence

from dispatch.terminal.secrets import (
    keep_secrets_of_environment,
    without_secrets,
    without_what_looks_secret,
)

log = logging.getLogger("dispatch")


class BadInput(Exception):
    """What the user gave is wrong."""


class FailedRun(Exception):
    """The input is fine, but the run cannot be completed."""


NAMES_IN_LOG = 20
LONGEST_ECHO = 500  # characters of what somebody else says


def plural(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"


def file_size(size: float) -> str:
    """Return a number of bytes with its unit."""
    from tqdm import tqdm

    return f"{tqdm.format_sizeof(size)}B"


def first_of(names: list[str]) -> str:
    """Return the first three names, and how many more there are."""
    shown = ", ".join(map(repr, names[:3]))
    if len(names) > 3:
        shown += f" and {len(names) - 3} more"
    return shown


def shorten(string: str, length: int = 200) -> str:
    """Return the beginning of a string."""
    return string if len(string) <= length else f"{string[:length]}..."


def excerpt(string: str, length: int = 60) -> str:
    """Return the beginning of a string, quoted."""
    return repr(shorten(string, length))


def reason_of(fault: BaseException) -> str:
    """Return what an exception says, and where in the input the fault is."""
    if isinstance(fault, SyntaxError):
        return f"{fault.msg}: line {fault.lineno} column {fault.offset}"
    return str(fault).partition(": <")[0] or type(fault).__name__  # without an object's address


def echo(string: str) -> str:
    """Return what somebody else says as it can be repeated: without secrets, and not without end.

    All that a service, a library or a tool says passes here, and so does an address that is given.
    """
    string = without_secrets(string[: 4 * LONGEST_ECHO])
    return shorten(without_what_looks_secret(string), LONGEST_ECHO)


def one_line(string: str) -> str:
    """Return a string with everything that is not printed as itself written as an escape."""
    if string.isprintable():
        return string
    escapes = {}
    for character in string:
        if not character.isprintable():
            escapes[ord(character)] = character.encode("unicode_escape").decode()
    return string.translate(escapes)


def log_first(severity: int, prefix: str, names: Sequence[str], number: int | None = None) -> None:
    """Log the first names, each on a line, and how many more there are, of this number in all."""
    shown = names[:NAMES_IN_LOG]
    for name in shown:
        log.log(severity, "%s: %s", prefix, name)
    more = (number or len(names)) - len(shown)
    if more:
        log.log(severity, "%s: and %s more", prefix, f"{more:,}")


def clear_line() -> str:
    """Return what takes the line of progress off a terminal."""
    return "\r\033[K" if sys.stderr and sys.stderr.isatty() else ""


class OneLineFormatter(logging.Formatter):
    """Writes every message on one line, whatever the names in it are made of."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; on a terminal, it takes the place of a line that tells of progress."""
        return f"{clear_line()}{self.line_of(record)}"

    def line_of(self, record: logging.LogRecord) -> str:
        """Return the line."""
        if record.name == log.name:
            return one_line(without_secrets(super().format(record)))
        if record.exc_info:  # of the library that asks Code Ocean: its cause is enough
            record.msg = f"{record.getMessage()} ({record.exc_info[1]})"
            record.args, record.exc_info = (), None
        return one_line(echo(super().format(record)))


def configure_log() -> None:
    """Log to standard error, this program from $LOG_LEVEL up, all else from WARNING up."""
    keep_secrets_of_environment()
    handler = logging.StreamHandler()
    handler.setFormatter(OneLineFormatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    for name in ("asyncio", "urllib3", "botocore.credentials"):  # our own say it already
        logging.getLogger(name).setLevel(logging.ERROR)
    name = os.environ.get("LOG_LEVEL", "").strip() or "INFO"
    threshold = logging.getLevelNamesMapping().get(name.upper())
    log.setLevel(threshold or logging.INFO)
    if not threshold:
        log.warning("$LOG_LEVEL is not a log level, INFO is used: %r", name)


def end_log() -> None:
    """Let the log say nothing more: what still ends in another thread is not the last line.

    A thread that is about to write has passed the switch already, so its stream goes, too.
    """
    logging.disable()
    for handler in logging.getLogger().handlers:
        is_ours = isinstance(handler.formatter, OneLineFormatter)
        if is_ours and isinstance(handler, logging.StreamHandler):
            handler.setStream(io.StringIO())
