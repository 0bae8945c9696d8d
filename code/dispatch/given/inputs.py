"""The files that a user gives: where they are looked for, how they are read."""

from __future__ import annotations

import difflib
import glob
import json
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from itertools import islice, product
from pathlib import Path

from dispatch.given.filters import looks_like_filter, parse_filter, without_quotes
from dispatch.given.values import ADDRESS, Record, check_values, compact, unique_keys
from dispatch.terminal.messages import (
    BadInput,
    excerpt,
    file_size,
    first_of,
    log,
    plural,
    reason_of,
)

LARGEST_INPUT = 2_000_000_000  # bytes; of files like a snapshot of all records, the largest


def named_file(option: str, name: str, folder: Path) -> Path:
    """Return the path of the file that a flag names; raise BadInput, with one that may be meant."""
    path = find_file(name, folder)
    if path:
        return path
    for place in (at_home(name), os.path.join(folder, name)):
        if os.path.isdir(place):
            raise BadInput(f"{option}: {excerpt(name)} is a folder, not a file")
    where = f"{excerpt(name)}, here, in {folder} or one folder down"
    raise BadInput(f"{option}: there is no file {where}{near_file(name, folder)}")


def named_path(option: str, name: str, folder: Path) -> Path:
    """Return the path of the file or folder that a flag names; raise BadInput."""
    path = at_home(name)
    for place in (path, os.path.join(folder, path)):
        if os.path.isdir(place):
            return Path(place)
    return named_file(option, name, folder)


def find_file(name: str, folder: Path) -> Path | None:
    """Return the path of a file that is named relative to the working folder, or an input file."""
    name = at_home(name)
    return Path(name) if is_file(name) else find_input(name, folder)


def at_home(name: str) -> str:
    """Return a path with a home folder in place of ~ or ~name at its start."""
    with suppress(ValueError):  # a string that can be no name, since NUL is in it, say
        return os.path.expanduser(name)
    return name


def find_input(name: str, folder: Path) -> Path | None:
    """Return an input file that lies in a folder or one folder down, where pipelines stage it."""
    path = os.path.join(folder, name)
    if is_file(path):
        return Path(path)
    if os.path.basename(name) != name:
        return None
    below = os.path.join(glob.escape(str(folder)), "*", glob.escape(name))
    paths = sorted(filter(is_file, glob.glob(below)))
    if len(paths) > 1:
        raise BadInput(f"which {name}? There are {' and '.join(paths)}")
    return Path(paths[0]) if paths else None


def is_file(path: str) -> bool:
    """Return whether there is a file, or a link to none; False for what can be no path at all."""
    return os.path.lexists(path) and not os.path.isdir(path)


def near_file(name: str, folder: Path) -> str:
    """Return which file could be meant by one that is not there, "" if none could."""
    if re.match(ADDRESS, name):
        return "; copy it to this machine first: aws s3 cp, or aws s3 cp --recursive for a folder"
    paths_by_name: dict[str, str] = {}
    try:
        for path in islice(paths_around(folder), 20_000):
            if is_file(path):
                paths_by_name[os.path.basename(path)] = path
    except ValueError:  # glob's, of a folder that can be none
        return ""
    wanted = os.path.basename(name)
    near = [wanted]
    if wanted not in paths_by_name:
        near = difflib.get_close_matches(wanted, paths_by_name, 1, 0.8)
    return f": did you mean {paths_by_name[near[0]]}?" if near else ""


def paths_around(folder: Path) -> Iterator[str]:
    """Yield what lies in the working folder and in another one, three levels deep."""
    depths = ["*", os.path.join("*", "*"), os.path.join("*", "*", "*")]
    for start, depth in product([os.curdir, glob.escape(str(folder))], depths):
        yield from glob.iglob(os.path.join(start, depth))


def read_bytes(path: Path) -> bytes:
    """Return what a file holds; raise BadInput for what can be no input file.

    Something else than a file, such as a pipe or a device, may have no end, or never begin.
    """
    try:
        if not path.is_file():
            raise BadInput(
                f"cannot read {path}: it is {'no file' if path.exists() else 'not there'}"
            )
        with open(path, "rb") as file:
            content = file.read(LARGEST_INPUT + 1)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error}") from None
    if len(content) > LARGEST_INPUT:
        raise BadInput(f"{path} is larger than {file_size(LARGEST_INPUT)}, as no input file is")
    return content


def read_file(path: Path) -> str:
    """Return what a file says, in UTF-8 with or without a byte order mark; raise BadInput."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeError as error:
        raise BadInput(f"cannot read {path}: {error}") from None


def read_query(value: str, folder: Path, option: str = "--query") -> Record:
    """Return the filter that a flag gives, itself or as the path of a file; raise BadInput."""
    if re.match(r"(s3|file)://", value):
        raise BadInput(f"{option}: {excerpt(value)} is a location: --asset {shlex.quote(value)}")
    if value.startswith("{") or (looks_like_filter(value) and not find_file(value, folder)):
        return parse_filter(value, option)
    if value.endswith(".py"):
        what = "is a program: give the filter alone, or save it as query.json"
        raise BadInput(f"{option}: {excerpt(value)} {what}")
    pair = re.fullmatch(r"([\w.]+)\s*=\s*(\S.*)", value)
    if pair and not find_file(value, folder):
        meant = compact({pair[1]: without_quotes(pair[2])})
        raise BadInput(f"{option}: a filter begins with {{, such as {meant}, not {excerpt(value)}")
    try:
        path = named_file(option, value, folder)
    except BadInput as error:
        if value.endswith(".json") or os.sep in value:
            raise
        meant = compact({"name": value})
        raise BadInput(f"{error}; a filter begins with {{, such as {meant}") from None
    string = read_file(path)
    written = datetime.fromtimestamp(path.stat().st_mtime)
    what = "query" if option == "--query" else f"filter of {option}"
    log.info("the %s is that of %s, written %s", what, path, f"{written:%Y-%m-%d %H:%M:%S}")
    return parse_filter(string, str(path))


def hint_on_example(root: Path) -> str:
    """Return how the bundled example is dispatched, "" if it is not there."""
    if not (root / "data" / "metadata.jsonl").exists():
        return ""
    flags = "--records metadata.jsonl --query query.json --file_extension .nwb"
    return f"; the bundled example again: bash environment/run.sh {flags} --overwrite 1"


def read_object(path: Path) -> Record:
    """Return the object that a JSON file holds; raise BadInput."""
    try:
        content = json.loads(read_file(path), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not JSON: {reason_of(error)}") from None
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise BadInput(f"{path} is a {type(content).__name__}, not an object")
    for name, value in content.items():
        check_values(value, f"{path}: {name}")
    return content


def read_parameters(folder: Path) -> tuple[Record, list[Record]]:
    """Return the fixed parameters, and the sets with each of which every task is dispatched.

    They are those of analysis_parameters.json, and none if there is no such file. Raise BadInput.
    """
    path = find_input("analysis_parameters.json", folder)
    if not path:
        log.info("no analysis_parameters.json in %s or one folder down", folder)
        return {}, []
    content = read_object(path)
    known = ("fixed_parameters", "distributed_parameters")
    unknown = content.keys() - set(known)
    if unknown:
        raise BadInput(
            f"{path}: unknown key {first_of(sorted(unknown))}: there are {' and '.join(known)}"
        )
    fixed, sets = content.get("fixed_parameters", {}), content.get("distributed_parameters")
    if not isinstance(fixed, dict):
        raise BadInput(f"{path}: fixed_parameters must be an object")
    if sets is None:
        sets = []
    if not isinstance(sets, list) or not all(isinstance(one, dict) for one in sets):
        raise BadInput(f"{path}: distributed_parameters must be a list of objects")
    if sets:
        log.info("%s: every task is dispatched with %s", path, plural(len(sets), "parameter set"))
    return fixed, sets
