"""How many requests are made at once: more while answers are quick, fewer where a store refuses."""

from __future__ import annotations

import math
import resource
from collections import Counter, defaultdict

FIRST_CONNECTIONS = 64  # that requests are made over, before it shows how many help
FEWEST_CONNECTIONS = 8  # however often a store refuses; each of their requests pauses by itself
MOST_CONNECTIONS = 512  # half of them do at 50 ms a request, but not at 200 ms
MOST_WANTED = 4_096  # connections; S3 itself answers no prefix faster than a few hundred can ask
OTHER_FILES = 64  # that the program, its other connections and git have open
REFUSALS = 2  # after which there is one request less at once
ANSWERS = 25  # after which there is one more again: a twelfth is refused where both are in balance


class Concurrency:
    """A limit of the requests at once, which follows how they are answered.

    Each quick answer raises it by one. From the first refusal on it goes by the share of them, and
    never above what it was then: to let each that is refused pause for longer and longer, and all
    others go on, kept the last ones waiting for a quarter of the time.
    """

    def __init__(self, wanted: int = 0) -> None:
        """Begin with as many as are wanted and open files allow; 0: with as many as may help."""
        open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = min(wanted or MOST_CONNECTIONS, MOST_WANTED, open_files - OTHER_FILES)
        self.most = max(1, most)
        self.limit: float = min(self.most, wanted or FIRST_CONNECTIONS)
        self.quickest: defaultdict[str, float] = defaultdict(lambda: math.inf)  # seconds, by store
        self.refusals: Counter[str] = Counter()  # by store

    def adapt(self, store: str, seconds: float, refusals: int) -> None:
        """Adapt the limit to an answer that took so long, and all refusals of its store so far."""
        self.quickest[store] = min(self.quickest[store], seconds)
        if not refusals:
            is_quick = seconds < 2 * self.quickest[store]
            self.limit = min(self.limit + is_quick, self.most)
            return
        if not self.refusals[store]:
            self.most = math.floor(self.limit)
        fewer = (refusals - self.refusals[store]) / REFUSALS
        self.refusals[store] = refusals
        fewest = min(FEWEST_CONNECTIONS, self.most)
        self.limit = min(max(self.limit - fewer, fewest) + 1 / ANSWERS, self.most)
