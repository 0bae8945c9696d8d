"""What is tried again, how often, and after what pause: of DocDB, Code Ocean and S3 alike.

| what goes wrong | tries | pauses, each time twice as long |
| --- | --- | --- |
| DocDB, Code Ocean, the results store | 5 | from 0.5 s on, or as long as it asks for |
| S3 | 7 | from 0.5 s up to 3 s |
| S3, which asks for fewer requests (`SlowDown`) | for 5 minutes | from 0.02 s up to 1 s |
| no server of that name, or it refuses to be connected | 3 | as S3 |
| keys, a proxy or a certificate that do not fit, and what is refused | 1 | |
"""

from __future__ import annotations

import random
import time

TRIES = 5  # of a question to DocDB, Code Ocean, or for AWS credentials
LONGEST_PAUSE = 60  # seconds, which such a service can ask for with Retry-After
TRANSIENT = (429, 500, 502, 503, 504)  # what such a service answers if it may pass

LIST_TRIES = 7  # of a request to S3
FEW_TRIES = 3  # of one that will hardly ever go otherwise
ONE_TRY = 1  # of one that never will
LONGEST_LIST_PAUSE = 3  # seconds

LONGEST_SLOW_DOWN = 300  # seconds that S3 may answer a request with SlowDown
LONGEST_SLOW_DOWN_PAUSE = 1  # seconds; others are served meanwhile
SHORTER = 5  # times that the first pause is halved there
USUAL_SLOW_DOWNS = 6  # of a request, which nobody needs to hear of


class Fault(OSError):
    """Why a request has failed, and after how many tries more are no use, if that is known."""

    def __init__(self, fault: str, tries: int | None = None) -> None:
        super().__init__(fault)
        self.tries = tries


class SlowDown(OSError):
    """A store asks for fewer requests."""


def may_pass(status: int, code: str) -> bool:
    """Return whether S3 may answer otherwise, by the status and code of an error."""
    return status >= 500 or status in (408, 429) or code in ("RequestTimeout", "SlowDown")


def backoff(attempt: int) -> float:
    """Return the seconds to wait after so many attempts, a little different each time."""
    return float(random.uniform(0.5, 1) * 2 ** (attempt - 2))  # noqa: S311


class Attempts:
    """The attempts of a request to S3: how many there have been, and for how long."""

    def __init__(self) -> None:
        self.made = 0
        self.started = time.monotonic()

    def pause_after(self, fault: OSError) -> float | None:
        """Count an attempt; return the seconds to wait for the next, None if it was the last."""
        self.made += 1
        grown = min(self.made, LIST_TRIES)  # and no longer
        if isinstance(fault, SlowDown):
            is_over = time.monotonic() - self.started >= LONGEST_SLOW_DOWN
            if is_over and self.made >= LIST_TRIES:
                return None
            return min(backoff(grown - SHORTER), LONGEST_SLOW_DOWN_PAUSE)
        if self.made >= tries_of(fault):
            return None
        return min(backoff(grown), LONGEST_LIST_PAUSE)

    def is_usual(self, fault: OSError) -> bool:
        """Return whether what has happened is an everyday thing."""
        return self.made <= (USUAL_SLOW_DOWNS if isinstance(fault, SlowDown) else 1)


def tries_of(fault: OSError) -> int:
    """Return how often a request to S3 is tried that fails so."""
    if isinstance(fault, PermissionError):
        return 1
    known = fault.tries if isinstance(fault, Fault) else None
    return min(known or LIST_TRIES, LIST_TRIES)
