"""The files found in an asset: which count, how large they are, which of them belong together."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dispatch.assets.assets import Asset, Skip
from dispatch.files.selection import Selection
from dispatch.stores.closed import FileNames

LEADS_NOWHERE = "a link that leads nowhere, its content is not here"


class WholeAsset(FileNames):
    """The names in an asset that is the file itself: all that lies there belongs to that."""

    def __init__(self, extensions: Sequence[str] = (), sidecars: Sequence[str] = ()) -> None:
        super().__init__(extensions, sidecars)
        self.may_count = re.compile("").search  # everything may

    def file_of(self, path: str) -> tuple[str, str]:
        """Return the path of the asset in itself, as the file and as the closed folder."""
        return "", ""


@dataclass(frozen=True, slots=True)
class FilesOfAsset:
    """The files of one asset, once all of it is listed."""

    sizes: dict[str, int | None]  # bytes by URL, in order; None where not known
    together: list[list[str]]  # URLs of each file with its sidecars, if there are to be any
    skips: list[Skip]  # of files


@dataclass(frozen=True, slots=True)
class AssetFiles:
    """What is found of one asset so far."""

    asset: Asset
    names: FileNames
    selection: Selection
    weigh: bool  # folders that are files, by all that lies in them
    sizes: dict[str, int | None] = field(default_factory=dict)  # bytes by path; None: not known
    passed: dict[str, str] = field(default_factory=dict)  # files that do not count: why, if asked

    @property
    def is_file(self) -> bool:
        """Whether the asset is the file itself."""
        return isinstance(self.names, WholeAsset)

    def count(self, path: str, size: int) -> None:
        """Count an object, or a folder, to the file that it lies in, if it lies in one.

        A folder is a file by what lies in it: by markers of folders, which are empty, it is none.
        """
        file, closed = self.names.file_of(path)
        if file is None:
            return
        if file not in self.sizes:
            is_marker = closed is not None and not size and (not path or path[-1] == "/")
            if is_marker or not self.takes(file):
                return
            self.sizes[file] = 0
        known = self.sizes[file]
        if known is None:
            return
        self.sizes[file] = known + size
        if closed is not None and not self.weigh and known + size >= self.selection.min_size:
            self.sizes[file] = None  # it is large enough, and not all of it will be listed

    def count_object(self, size: int) -> None:
        """Count an object that is the asset itself."""
        if self.takes(""):
            self.sizes[""] = size

    def count_broken(self, path: str) -> None:
        """Note a link that leads nowhere, if its name is that of a file that counts."""
        file, closed = self.names.file_of(path)
        if file is not None and closed is None and self.takes(file):
            self.passed[file] = LEADS_NOWHERE

    def takes(self, file: str) -> bool:
        """Return whether a file counts that is new."""
        if file in self.passed:
            return False
        top, path = self.asset.location, file
        if not path:  # the asset itself
            top, _, path = top.rpartition("/")
        takes = self.is_sidecar(file) or self.selection.takes(path, top)
        if takes:
            self.selection.endings_found.add(self.ending_of(file))
        else:
            self.passed[file] = ""
        return takes

    def ending_of(self, file: str) -> str:
        """Return the ending of a file, whose path is "" where the asset itself is one."""
        return self.names.ending_of(file or self.asset.location)

    def is_sidecar(self, file: str) -> bool:
        """Return whether a file only accompanies others."""
        return bool(self.names.sidecars) and self.ending_of(file) in self.names.sidecars

    def folder_to_pass(self, path: str) -> str | None:
        """Return the folder around a path in which nothing more is of interest, if there is one."""
        file, closed = self.names.file_of(path)
        is_done = file is None or file in self.passed or self.sizes.get(file, 0) is None
        return closed if is_done else None

    def whole(self, url_of: Callable[[str], str]) -> FilesOfAsset:
        """Return the files, after all of the asset has been listed; URLs are made from paths."""
        if self.names.sidecars:
            return self.with_sidecars(url_of)
        sizes: dict[str, int | None] = {}
        for path in sorted(self.sizes):
            if self.selection.is_large_enough(self.sizes[path]):
                sizes[url_of(path)] = self.sizes[path]
        return FilesOfAsset(sizes, [], self.broken_links(url_of))

    def with_sidecars(self, url_of: Callable[[str], str]) -> FilesOfAsset:
        """Return the files that lack no sidecar, each with those after it; the others are skips."""
        sizes: dict[str, int | None] = {}
        together = []
        skips = self.broken_links(url_of)
        for path in sorted(self.sizes):
            if self.is_sidecar(path) or not self.selection.is_large_enough(self.sizes[path]):
                continue
            stem = path.removesuffix(self.ending_of(path))
            paths = [path]
            lacking = []
            for ending in self.names.sidecars:
                paths.append(f"{stem}{ending}")
                if f"{stem}{ending}" not in self.sizes:
                    lacking.append(ending)
            if lacking:
                skips.append(Skip(f"no {' and no '.join(lacking)} beside it", url_of(path)))
                continue
            for one in paths:
                sizes[url_of(one)] = self.sizes[one]
            together.append(list(map(url_of, paths)))
        return FilesOfAsset(sizes, together, skips)

    def broken_links(self, url_of: Callable[[str], str]) -> list[Skip]:
        """Return a skip for each file that is a link to nowhere; sidecars are just not there."""
        skips = []
        for path in sorted(self.passed):
            if self.passed[path] and not self.is_sidecar(path):
                skips.append(Skip(self.passed[path], url_of(path)))
        return skips
