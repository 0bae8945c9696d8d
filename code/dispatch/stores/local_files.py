"""Local folders as a store: they answer like a bucket, one folder a page."""

from __future__ import annotations

import os
from collections import defaultdict
from operator import attrgetter
from pathlib import Path
from urllib.parse import quote, unquote

from dispatch.stores.locations import Page


class LocalFiles:
    """The store of file:// locations."""

    refusals = 0

    def __init__(self, **_: object) -> None:
        self.walked: defaultdict[str, set[str]] = defaultdict(set)  # by location, outside of it

    async def open(self) -> None:
        """Do nothing: there is nothing to open."""

    async def close(self) -> None:
        """Do nothing: nothing is open."""

    async def list_page(self, location: str, folder: str, **_: object) -> Page:
        """Return what lies right in a folder, with the folders in it; raise OSError.

        Folders that begin with a dot are no data: what .git and .datalad keep is linked to from
        where it belongs, and .ipynb_checkpoints are copies.
        """
        top = local_path(location)
        sizes: dict[str, int] = {}
        folders: list[str] = []
        broken: list[str] = []
        hidden = 0
        if not Path(top).is_dir() or self.is_walked(location, top, folder):
            return Page(sizes, folders, "")
        for entry in sorted(os.scandir(os.path.join(top, folder)), key=attrgetter("name")):
            path = f"{folder}{entry.name}"
            if entry.is_dir():
                if entry.name.startswith("."):
                    hidden += 1
                else:
                    folders.append(f"{path}/")
                continue
            try:
                sizes[path] = entry.stat().st_size
            except OSError:
                broken.append(path)
        return Page(sizes, folders, "", broken=broken, hidden=hidden)

    async def size_of(self, location: str) -> int | None:
        """Return the bytes of the file that is at a location itself, None if there is none."""
        path = Path(local_path(location))
        return path.stat().st_size if path.is_file() else None

    def is_walked(self, location: str, top: str, folder: str) -> bool:
        """Return whether a folder is another one, by a link, that is listed by another path.

        A folder in the location is listed by its own path, one outside by the first that leads
        there: eight folders with links to each other are else 40,320 paths, and more.
        """
        real_top = os.path.realpath(top)
        real = os.path.realpath(os.path.join(top, folder))
        if real == os.path.join(real_top, folder.rstrip("/")).rstrip("/"):
            return False
        if f"{real}/".startswith(f"{real_top.rstrip('/')}/") or real in self.walked[location]:
            return True
        self.walked[location].add(real)
        return False

    def url_of(self, location: str, path: str) -> str:
        """Return the URL of a file, by its path below the location."""
        return f"{location}/{quote(os.fsencode(path))}"


def local_path(url: str) -> str:
    """Return the path of a file:// URL."""
    return str(Path(unquote(url.removeprefix("file://"), errors="surrogateescape")))
