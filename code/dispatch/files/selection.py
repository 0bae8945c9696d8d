"""Which of the files found count: by patterns, and not what systems leave."""

from __future__ import annotations

import fnmatch
import logging
import re
from collections.abc import Sequence

from dispatch.terminal.messages import log, log_first, plural

# What macOS and NFS leave beside files: ._session.nwb, .nfs0001.nwb, __MACOSX/session.nwb
LEFT_BEHIND = re.compile(r"(?:^|.*/)(?:\._[^/]*|\.nfs[0-9a-fA-F]+[^/]*|__MACOSX/.*)", re.DOTALL)


class Selection:
    """What the flags ask for among the files that have the suffix, and what became of that.

    Patterns are those of `aws s3`: compared with the whole path below the asset, where * matches
    slashes, too.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self.include = {one: re.compile(fnmatch.translate(one)) for one in include}
        self.exclude = {one: re.compile(fnmatch.translate(one)) for one in exclude}
        self.matched: set[str] = set()  # patterns
        self.left_behind: set[str] = set()  # URLs
        self.left_out = 0  # files, by the patterns

    def takes(self, path: str, location: str) -> bool:
        """Return whether a file counts, by its path below its location."""
        if LEFT_BEHIND.fullmatch(path):
            self.left_behind.add(f"{location}/{path}")
            return False
        if not (self.include or self.exclude):
            return True
        included = self.matches(self.include, path)
        excluded = self.matches(self.exclude, path)
        takes = (included or not self.include) and not excluded
        self.left_out += not takes
        return takes

    def matches(self, patterns: dict[str, re.Pattern[str]], path: str) -> bool:
        """Return whether any of the patterns matches a path, and note which ones do."""
        found = {pattern for pattern, regex in patterns.items() if regex.match(path)}
        self.matched |= found
        return bool(found)

    def report(self, extension: str) -> None:
        """Log which files do not count, and which patterns no file matches."""
        log_first(logging.INFO, "no data, left by macOS or NFS", sorted(self.left_behind))
        if self.left_out:
            log.info("%s left out by --include and --exclude", plural(self.left_out, "file"))
        for pattern in (*self.include, *self.exclude):
            if pattern not in self.matched:
                log.warning("no %s file of any asset matches %r", extension, pattern)
