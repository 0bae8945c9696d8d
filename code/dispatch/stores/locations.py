"""Locations of assets: which kinds there are, and what any store of files answers.

How a store is asked, each store knows: S3, local folders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

EMPTY_PAGES = 1_000  # in a row, after which a listing does not get on


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a store: a part of what lies below a folder, as paths below the location."""

    sizes: dict[str, int]  # bytes by path of a file
    folders: list[str]  # with their slash; what lies in these is to be asked for
    token: str  # what the next page is asked for with, "" if there is none
    in_order: bool = True  # what it names, behind what was known before
    no_order: str = ""  # why the store may keep none, and what to do
    broken: Sequence[str] = ()  # paths of links that lead nowhere
    hidden: int = 0  # folders that are no data

    @property
    def is_ordered(self) -> bool:
        """Whether another page can begin after any path."""
        return self.in_order and not self.no_order

    @property
    def breaks_order(self) -> bool:
        """Whether it is in another order than the store is said to keep."""
        return not self.in_order and not self.no_order


class Chain:
    """The pages of a listing, of which each must get on."""

    def __init__(self) -> None:
        self.tokens: set[str] = set()
        self.firsts: set[str] = set()  # paths, of pages
        self.empty = 0  # pages in a row

    def check(self, page: Page) -> None:
        """Raise OSError for a page with which a listing would never end."""
        first = next(iter(page.sizes), "")
        if page.token in self.tokens or first in self.firsts:
            raise OSError("a page that comes again, so that there is no end to them")
        if page.token:
            self.tokens.add(page.token)
        if first:
            self.firsts.add(first)
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

    async def size_of(self, location: str) -> int | None:
        """Return the bytes of the file that is at a location itself, None if there is none."""

    def url_of(self, location: str, path: str) -> str:
        """Return the URL of a file, by its path below the location."""


def scheme_of(location: str) -> str:
    """Return what a location begins with: s3, file."""
    return location.partition("://")[0]
