"""Locations of assets: which kinds there are, and what any store of files answers.

How a store is asked, each store knows: S3, local folders.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

EMPTY_PAGES = 1_000  # in a row, after which a listing does not get on
# s3fs, with which workers read, takes s3://bucket//x for s3://bucket/x
LOCATIONS = {"s3": r"s3://[\w.-]{1,255}/[^/]", "file": r"file:///"}


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a store: a part of what lies below a folder, as paths below the location."""

    sizes: dict[str, int]  # bytes by path of a file
    folders: list[str]  # with their slash; what lies in these is to be asked for
    token: str  # what the next page is asked for with, "" if there is none
    is_ordered: bool = True  # so that a page can begin after any path


class Chain:
    """The pages of a listing, of which each must get on."""

    def __init__(self) -> None:
        self.tokens: set[str] = set()
        self.empty = 0  # pages in a row

    def check(self, page: Page) -> None:
        """Raise OSError for a page with which a listing would never end."""
        if page.token in self.tokens:
            raise OSError("a page that comes again, so that there is no end to them")
        if page.token:
            self.tokens.add(page.token)
        self.empty += 1
        if page.sizes or page.folders:
            self.empty = 0
        if self.empty >= EMPTY_PAGES and page.token:
            raise OSError(f"{EMPTY_PAGES:,} empty pages in a row, and no end to them")


class Store(Protocol):
    """What keeps files: S3, local folders, or another one."""

    @property
    def refusals(self) -> int:
        """How often the store has asked for fewer requests."""

    async def open(self) -> None:
        """Make ready what all requests need, once, however often that is called."""

    async def close(self) -> None:
        """Give up what is open."""

    async def list_page(
        self, location: str, folder: str, *, after: str | None, token: str, level: bool
    ) -> Page:
        """Return a page of what lies in a folder below a location, after a path.

        `folder` is a path below the location that ends in a slash, or "". At one `level`, folders
        are named in place of what lies in them. Raise OSError where there is no answer.
        """

    def url_of(self, location: str, path: str) -> str:
        """Return the URL of a file, by its path below the location."""


def scheme_of(location: str) -> str:
    """Return what a location begins with: s3, file."""
    return location.partition("://")[0]


def is_location(url: str) -> bool:
    """Return whether a URL is one that a store can list."""
    pattern = LOCATIONS.get(scheme_of(url), "(?!)")
    return bool(re.match(pattern, url, re.ASCII))


def url_of(location: str, folder: Path | None) -> str:
    """Return a location as a URL, "" for what may lead nowhere; paths are relative to a folder.

    Without a folder the location comes from the network, and then nothing leads to a local path.
    """
    if folder is None:
        return location.rstrip("/") if scheme_of(location) == "s3" else ""
    if location.startswith("file://"):
        path = local_path(location.replace("://localhost/", ":///", 1))
    elif "://" in location or location.startswith("/") or not location.strip():
        return location.rstrip("/")
    else:
        path = os.path.join(folder, location)
    if not path.startswith("/"):
        return location.rstrip("/")
    return Path(os.path.abspath(path)).as_uri().rstrip("/")


def local_path(url: str) -> str:
    """Return the path of a file:// URL."""
    return str(Path(unquote(url.removeprefix("file://"), errors="surrogateescape")))
