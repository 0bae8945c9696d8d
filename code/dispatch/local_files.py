"""Local folders as a store: they answer like a bucket, one folder a page. Knows no asset."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from dispatch.locations import Page, local_path


class LocalFiles:
    """The store of file:// locations."""

    slowed_down = False

    async def open(self) -> None:
        """Do nothing: there is nothing to open."""

    async def close(self) -> None:
        """Do nothing: nothing is open."""

    async def list_page(self, location: str, folder: str, **_: object) -> Page:
        """Return what lies right in a folder, with the folders in it; raise OSError."""
        top = local_path(location)
        sizes: dict[str, int] = {}
        folders: list[str] = []
        if not Path(top).is_dir() or leads_back_up(top, folder):
            return Page(sizes, folders, "")
        for entry in os.scandir(os.path.join(top, folder)):
            path = f"{folder}{entry.name}"
            if entry.is_dir():
                folders.append(f"{path}/")
                continue
            sizes[path] = 0
            with suppress(OSError):  # a link that leads nowhere
                sizes[path] = entry.stat().st_size
        return Page(sizes, folders, "")

    def url_of(self, location: str, path: str) -> str:
        """Return the URL of a file, by its path below the location."""
        return f"{location}/{quote(os.fsencode(path))}"


def leads_back_up(top: str, folder: str) -> bool:
    """Return whether a folder below another one is, by a link, one of those that it lies in."""
    above = {os.path.realpath(top)}
    path = top
    for name in folder.split("/")[:-1]:
        path = os.path.join(path, name)
        real = os.path.realpath(path)
        if real in above:
            return True
        above.add(real)
    return False
