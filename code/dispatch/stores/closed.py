"""What a path below an asset belongs to: which names are files, which folders are one thing."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Folders whose names end so are one data set each, which is matched or passed over as a whole:
# Zarr stores, N5 containers, and NWB files that are Zarr stores.
CLOSED = (".zarr", ".n5", ".nwb")


class FileNames:
    """The names of files that are looked for: those that end in any of these endings.

    A folder with such a name is a file itself. It is closed then, as those of the table are: what
    lies in it is no file.
    """

    def __init__(self, extensions: Sequence[str] = (), sidecars: Sequence[str] = ()) -> None:
        self.extensions, self.sidecars = tuple(extensions), tuple(sidecars)
        self.endings = tuple(sorted({*extensions, *sidecars}, key=len, reverse=True))
        closed = "|".join(map(re.escape, sorted({*self.endings, *CLOSED})))
        self.first_closed = re.compile(f"(?:{closed})/")
        found = "|".join(map(re.escape, self.endings))
        # whether a path can be that of a file, or lie in one: most cannot, which one call tells
        self.may_count = re.compile(rf"(?:{closed})/|(?:{found})\Z").search

    def file_of(self, path: str) -> tuple[str | None, str | None]:
        """Return the file that a path belongs to, and the closed folder that it lies in.

        Both are None where there is none.

        >>> names = FileNames([".nwb"])
        >>> names.file_of("ecephys/probeA.nwb/units/id/0")
        ('ecephys/probeA.nwb', 'ecephys/probeA.nwb')
        >>> names.file_of("ecephys/lfp.zarr/notes.nwb")
        (None, 'ecephys/lfp.zarr')
        >>> names.file_of("behavior/session.nwb")
        ('behavior/session.nwb', None)
        """
        closed = self.first_closed.search(path)
        if closed is None:  # as for most
            return (path if path.endswith(self.endings) else None), None
        folder = path[: closed.end() - 1]
        return (folder if folder.endswith(self.endings) else None), folder

    def ending_of(self, name: str) -> str:
        """Return the ending that a name has, the longest of several, "" for another name."""
        return next(filter(name.endswith, self.endings), "")


def data_set_of(path: str) -> str:
    """Return the closed folder that a path lies in, the path itself where it lies in none."""
    return FileNames().file_of(path)[1] or path
