"""How long to wait for a service, and how often to ask again. Knows no service by its name.

The first thread, which alone handles signals, waits in steps: a signal that the system hands to
another thread, or just before a wait, would be noticed only when the wait ends.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from dispatch.messages import FailedRun, excerpt, log, plural, reason_of, without_secrets

if TYPE_CHECKING:
    from requests.exceptions import HTTPError

T = TypeVar("T")

STEP = 0.5  # seconds, of a wait
TRIES = 5  # of a question to DocDB, Code Ocean, or for AWS credentials
LONGEST_PAUSE = 60  # between them, which a service can ask for with Retry-After, in seconds
TRANSIENT = (429, 500, 502, 503, 504)


def begin(call: Callable[..., T], *values: Any) -> Future[T]:
    """Begin a call in a thread of its own, and return what will hold what it returns."""
    return ThreadPoolExecutor(1).submit(call, *values)


def result_of(future: Future[T], seconds: float | None = None) -> T:
    """Return what a call returns, or raise what it raises; TimeoutError after so many seconds."""
    started = time.monotonic()
    while not future.done():
        step = STEP
        if seconds is not None:
            step = min(STEP, started + seconds - time.monotonic())
            if step <= 0:
                raise TimeoutError
        wait([future], step)
    return future.result()


def pause(seconds: float) -> None:
    """Wait."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(STEP, left))


def backoff(attempt: int) -> float:
    """Return the seconds to wait after so many attempts, a little different each time."""
    return float(random.uniform(0.5, 1) * 2 ** (attempt - 2))  # noqa: S311


def ask_patiently(ask: Callable[..., T], name: str, timeout: int, *values: Any) -> T:
    """Return what a service answers; raise FailedRun where it does not.

    What may be transient is retried, after a pause that grows, or as long as the service asks for.
    """
    from requests.exceptions import HTTPError, Timeout

    started = time.monotonic()
    for attempt in range(1, TRIES + 1):
        seconds = backoff(attempt)
        try:
            # in a thread, which is given up: a socket's own timeout begins anew with every byte
            return result_of(begin(ask, *values), timeout)
        except HTTPError as error:
            fault = status_of(error)
            if error.response.status_code not in TRANSIENT:
                raise FailedRun(f"{name} answers {fault}") from None
            seconds = wished_pause(error, seconds)
        except (TimeoutError, Timeout):
            fault = f"nothing within {timeout} s (--timeout)"
        except json.JSONDecodeError as error:
            fault = f"not JSON ({reason_of(error)}), but {excerpt(error.doc, 300)}"
        except (OSError, ValueError) as error:  # requests' own, and those for odd hosts and files
            fault = cause_of(error)
            if "CERTIFICATE_VERIFY_FAILED" in fault:
                break
        fault = without_secrets(fault)
        if attempt < TRIES:
            seconds = min(seconds, LONGEST_PAUSE)
            log.warning("%s: %s; retrying in %.0f s", name, fault, seconds)
            pause(seconds)
    tried = f"{plural(attempt, 'attempt')} in {time.monotonic() - started:.0f} s"
    raise FailedRun(f"no usable answer from {name} ({tried}): {without_secrets(fault)}")


def wished_pause(error: HTTPError, otherwise: float) -> float:
    """Return the seconds that a service asks to wait for, `otherwise` if it does not say."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    wish = error.response.headers.get("Retry-After")
    if wish:
        with suppress(InvalidHeader):
            return Retry().parse_retry_after(wish)
    return otherwise


def cause_of(error: Exception) -> str:
    """Return what lies at the bottom of a failed request, without the names of Python's classes."""
    if not error.args:
        return str(error)
    cause = str(getattr(error.args[0], "reason", error.args[0]))
    return cause.partition("): ")[2] or cause


def status_of(error: HTTPError) -> str:
    """Return the status of an answer, and the beginning of what it says."""
    response = error.response
    said = excerpt(without_secrets(response.text), 300)
    return f"{response.status_code} {response.reason}: {said}"
