"""Services that speak HTTP by requests: DocDB, Code Ocean.

What can be wrong with any answer is told from what is one: too slow, too large, from elsewhere.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from dispatch.terminal.messages import FailedRun, echo, excerpt, log, plural, reason_of
from dispatch.terminal.reading import read_body
from dispatch.terminal.retries import LONGEST_PAUSE, TRANSIENT, TRIES, backoff
from dispatch.terminal.waiting import begin, pause, result_of

if TYPE_CHECKING:
    from requests import Response, Session
    from requests.exceptions import HTTPError

T = TypeVar("T")

LARGEST_ANSWER = 32_000_000  # bytes, unpacked: DocDB's gateway refuses more than 6 MB


def limit_answers(session: Session, timeout: int) -> None:
    """Let a session follow no redirect, and take no answer that is too large or takes too long.

    A redirect turns a POST into a GET, without the question, to wherever it says.
    """
    request: Any = partial(session.request, timeout=timeout)
    session.request = request  # type: ignore[method-assign]
    session.hooks["response"] = [check_answer, *session.hooks["response"]]


def check_answer(response: Response, *, timeout: int, **_: Any) -> None:
    """Read an answer; raise FailedRun for a redirect, OSError for what is no usable answer."""
    from urllib3.exceptions import HTTPError
    from urllib3.exceptions import TimeoutError as Timeout

    if 300 <= response.status_code < 400:
        where = excerpt(echo(response.headers.get("Location", "")), 200)
        status, host = response.status_code, urlsplit(response.url).hostname
        raise FailedRun(f"{host} answers {status}, a redirect to {where}, which is not followed")
    try:
        end = time.monotonic() + timeout
        response._content = read_body(response.raw, LARGEST_ANSWER, end, decode_content=True)
    except Timeout:
        raise TimeoutError from None
    except HTTPError as error:
        raise OSError(str(error)) from None
    finally:
        response.close()


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
        except RecursionError:
            fault = "an answer that is nested too deeply"
        except (OSError, ValueError) as error:  # requests' own, and those for odd hosts and files
            fault = cause_of(error)
            if "CERTIFICATE_VERIFY_FAILED" in fault:
                break
        fault = echo(fault)
        if attempt < TRIES:
            seconds = min(seconds, LONGEST_PAUSE)
            log.warning("%s: %s; retrying in %.0f s", name, fault, seconds)
            pause(seconds)
    tried = f"{plural(attempt, 'attempt')} in {time.monotonic() - started:.0f} s"
    raise FailedRun(f"no usable answer from {name} ({tried}): {echo(fault)}")


def wished_pause(error: HTTPError, otherwise: float) -> float:
    """Return the seconds that a service asks to wait for, `otherwise` if it does not say."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    wish = error.response.headers.get("Retry-After")
    if wish:
        with suppress(InvalidHeader, ValueError, OverflowError):
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
    said = excerpt(echo(response.text), 300)
    return f"{response.status_code} {echo(response.reason)}: {said}"
