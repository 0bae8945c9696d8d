"""The kinds of locations there are: what each looks like, and which store it is asked of."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatch.given.inputs import at_home
from dispatch.stores.local_files import LocalFiles, local_path
from dispatch.stores.locations import Store, scheme_of
from dispatch.stores.s3 import S3


@dataclass(frozen=True)
class Kind:
    """A kind of location."""

    store: Callable[..., Store]  # makes one, of what make_stores is given
    pattern: str
    words: str  # what a location looks like
    from_network: bool = False  # also records of the database may name it, not those of a file only


# By what a location begins with. Another kind is a line here, and a class as its Store.
KINDS = {
    # s3fs, with which workers read, takes s3://bucket//x for s3://bucket/x
    "s3": Kind(S3, r"s3://[\w.-]{1,255}/[^/]", "s3://bucket/prefix", from_network=True),
    "file": Kind(LocalFiles, r"file:///", "file:///folder"),
}


def make_stores(**options: Any) -> dict[str, Store]:
    """Return a store of each kind, by scheme; each is given all options, and takes its own."""
    return {scheme: kind.store(**options) for scheme, kind in KINDS.items()}


def network_schemes() -> list[str]:
    """Return the schemes of the locations that records of the database may name."""
    return [scheme for scheme, kind in KINDS.items() if kind.from_network]


def network_words() -> str:
    """Return what these locations look like."""
    return " or ".join(KINDS[scheme].words for scheme in network_schemes())


def is_location(url: str) -> bool:
    """Return whether a URL is one that a store can list."""
    kind = KINDS.get(scheme_of(url))
    return bool(kind and re.match(kind.pattern, url, re.ASCII))


def url_of(location: str, folder: Path | None) -> str:
    """Return a location as a URL, "" for what may lead nowhere.

    Paths are absolute, begin with ~ for a home folder, or are relative to a folder. Without one,
    the location comes from the network, and then nothing leads to a local path.
    """
    if folder is None:
        return location.rstrip("/") if scheme_of(location) in network_schemes() else ""
    if location.startswith("file://"):
        path = local_path(location.replace("://localhost/", ":///", 1))
    elif "://" in location or not location.strip():
        return location.rstrip("/")
    else:
        path = os.path.join(folder, at_home(location))
    if not path.startswith("/"):
        return location.rstrip("/")
    return Path(os.path.abspath(path)).as_uri().rstrip("/")
