"""What the program must find, said another way: slowly, and declaring rather than walking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def expected_files(keys: Iterable[str], prefix: str, extension: str) -> set[str]:
    """Return the keys, without the prefix, of all files with the extension below a prefix.

    All objects and folders there are, less those that are not named so, less those inside a folder
    that is named so or like a Zarr store.
    """
    nodes = set()  # (components, is it a folder)
    for key in keys:
        if key.startswith(prefix + "/"):
            parts = tuple(key[len(prefix) + 1 :].split("/"))
            nodes |= {(parts[:n], n < len(parts)) for n in range(1, len(parts) + 1)}
    closed = {
        parts
        for parts, is_folder in nodes
        if is_folder and (parts[-1].endswith(extension) or parts[-1].endswith(".zarr"))
    }
    return {
        "/".join(parts)
        for parts, _ in nodes
        if parts[-1].endswith(extension)
        and not any(parts[:n] in closed for n in range(1, len(parts)))
    }


def expected_bytes(sizes: Mapping[str, int], prefix: str, extension: str) -> dict[str, int]:
    """Return the bytes of all files below a prefix: of the object, and of all in the folder."""
    return {
        file: sum(
            size
            for key, size in sizes.items()
            if key == f"{prefix}/{file}" or key.startswith(f"{prefix}/{file}/")
        )
        for file in expected_files(sizes, prefix, extension)
    }
