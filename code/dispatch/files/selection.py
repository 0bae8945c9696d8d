"""Which of the files found count: by patterns and size, and not what systems leave."""

from __future__ import annotations

import fnmatch
import logging
import re
from collections.abc import Iterable, Sequence

from dispatch.terminal.messages import log, log_first, plural

# What macOS and NFS leave beside files: ._session.nwb, .nfs0001.nwb, __MACOSX/session.nwb
LEFT_BEHIND = re.compile(r"(?:^|.*/)(?:\._[^/]*|\.nfs[0-9a-fA-F]+[^/]*|__MACOSX/.*)", re.DOTALL)


class Selection:
    """What the flags ask for among the files that have the suffix, and what became of that.

    Patterns are those of `aws s3`: compared with the whole path below the asset, where * matches
    slashes, too.
    """

    def __init__(
        self, include: Sequence[str] = (), exclude: Sequence[str] = (), min_size: int = 0
    ) -> None:
        self.include = compiled(include)
        self.exclude = compiled(exclude)
        self.parts = compiled(parts_of_blank_ones([*include, *exclude]))
        self.min_size = min_size
        self.matched: set[str] = set()  # patterns, and parts of such with a blank
        self.left_behind: set[str] = set()  # URLs
        self.hidden = 0  # folders below local assets, whose names begin with a dot
        self.left_out = 0  # files, by the patterns
        self.too_small = 0  # files
        self.endings_found: set[str] = set()

    def takes(self, path: str, location: str) -> bool:
        """Return whether a file counts, by its path below its location."""
        if LEFT_BEHIND.fullmatch(path):
            self.left_behind.add(f"{location}/{path}")
            return False
        if not (self.include or self.exclude):
            return True
        if self.parts:
            self.matches(self.parts, path)
        included = self.matches(self.include, path)
        excluded = self.matches(self.exclude, path)
        takes = (included or not self.include) and not excluded
        self.left_out += not takes
        return takes

    def forget(self, paths: Iterable[str]) -> None:
        """Count no more the files that were not taken, since they come again."""
        for path in paths:
            self.left_out -= not LEFT_BEHIND.fullmatch(path)

    def matches(self, patterns: dict[str, re.Pattern[str]], path: str) -> bool:
        """Return whether any of the patterns matches a path, and note which ones do."""
        found = {pattern for pattern, regex in patterns.items() if regex.match(path)}
        self.matched |= found
        return bool(found)

    def is_large_enough(self, size: int | None) -> bool:
        """Return whether a file is, None being as large as is asked; count it if not."""
        is_large = size is None or size >= self.min_size
        self.too_small += not is_large
        return is_large

    def report(self, extensions: Sequence[str]) -> None:
        """Log which files do not count, and which patterns and endings no file has."""
        log_first(logging.INFO, "no data, left by macOS or NFS", sorted(self.left_behind))
        if self.hidden:
            log.info(
                "no data, begins with a dot: %s of local assets", plural(self.hidden, "folder")
            )
        if self.left_out:
            log.info("%s left out by --include and --exclude", plural(self.left_out, "file"))
        if self.too_small:
            smaller = f"smaller than {plural(self.min_size, 'byte')}"
            log.info("%s left out by --min_size: %s", plural(self.too_small, "file"), smaller)
        shown = " or ".join(extensions)
        for pattern in (*self.include, *self.exclude):
            if pattern not in self.matched:
                log.warning("no %s file of any asset matches %r", shown, pattern)
                self.tell_parts(pattern)
        if len(extensions) > 1 and self.endings_found:
            for extension in extensions:
                if extension not in self.endings_found:
                    log.warning("no file of any asset ends in %s", extension)

    def tell_parts(self, pattern: str) -> None:
        """Log which parts of a pattern match, if blanks were meant to separate patterns."""
        parts = [part for part in parts_of_blank_ones([pattern]) if part in self.matched]
        if parts:
            given = " and ".join(map(repr, parts))
            log.warning(
                "a blank separates no patterns, a comma does; there are files for %s", given
            )


def compiled(patterns: Sequence[str]) -> dict[str, re.Pattern[str]]:
    """Return the regular expressions of patterns, by these."""
    return {pattern: re.compile(fnmatch.translate(pattern)) for pattern in patterns}


def parts_of_blank_ones(patterns: Sequence[str]) -> list[str]:
    """Return what blanks separate in the patterns that have any."""
    parts: list[str] = []
    for pattern in patterns:
        if pattern.split() != [pattern]:
            parts += pattern.split()
    return parts
