"""Lists of values in one flag: names, fields, endings, patterns."""

from __future__ import annotations

import math
import re
from decimal import Decimal

from dispatch.given.filters import read_value, without_quotes
from dispatch.given.values import is_valid
from dispatch.terminal.messages import BadInput

# What a converter raises as ValueError follows the flag in the error.


def to_string(value: str) -> str:
    """Convert a string that can be sent; what a terminal passes need not be valid."""
    if not is_valid(value):
        raise ValueError("must be valid UTF-8")
    return value


def to_names(value: str) -> tuple[str, ...]:
    """Convert names, as pasted from a table, or a JSON list; repeated ones count once."""
    is_json = value.startswith("[")
    names = names_in_list(value) if is_json else parts_of(value)
    unique: dict[str, None] = {}
    for name in names:
        if name.strip():
            unique[to_string(name.strip())] = None
    if not unique and (names or not is_json):
        raise ValueError("must be one or more values, separated by commas")
    return tuple(unique)


def parts_of(value: str) -> list[str]:
    """Return what commas, semicolons, blanks and line breaks separate; in quotes, blanks do not."""
    parts = []
    for quote, inner, plain in re.findall(r"""(["'`])(.*?)\1|([^\s,;]+)""", value, re.DOTALL):
        if not quote:
            parts.append(plain.strip("\"'`"))
        elif re.search("[\"'`]", inner):  # all of them in quotes, too
            parts += parts_of(inner)
        else:
            parts += re.split(r"[,;\t\r\n]", inner)
    return parts


def names_in_list(value: str) -> list[str]:
    """Return the strings and numbers of a JSON list."""
    try:
        items = read_value(value)
        if not isinstance(items, list) or not {type(item) for item in items} <= {str, int}:
            raise ValueError
        return list(map(str, items))
    except (ValueError, BadInput):
        example = '["a", "b"], or the values alone: a,b'
        raise ValueError(f"must be a JSON list such as {example}") from None


def to_fields(value: str) -> tuple[str, ...]:
    """Convert names of fields of a record, separated by commas."""
    names = to_names(value)
    for name in names:
        if not re.fullmatch(r"[^.$][^.]*(\.[^.$][^.]*)*", name):
            raise ValueError("must be fields such as subject.subject_id, separated by commas")
        if any(map(str.isdecimal, name.split("."))):
            raise ValueError("must be fields without a number, which only a filter can ask for")
    return names


def to_suffixes(value: str) -> tuple[str, ...]:
    """Convert the ends of names, separated by commas, or by a blank before the next one's dot."""
    given = re.split(r"\s*,\s*|\s+(?=\.)", value)
    if re.fullmatch(r"\[.*\]", value, re.DOTALL):
        given = names_in_list(value)
    suffixes = []
    for one in map(without_quotes, given):
        if re.search(r"[/*?\[\]]", one):
            example = "the end of a name, such as .nwb, without any of / * ? [ ]"
            raise ValueError(f"must be {example}")
        if one:
            suffixes.append(to_string(with_dot(one)))
    return tuple(dict.fromkeys(suffixes))


def with_dot(value: str) -> str:
    """Return the end of a file's name; a word without a dot gets one."""
    return f".{value}" if value[0].isalnum() and "." not in value else value


# What is between commas, but for those in classes, such as [a,b] or [!]x].
PATTERN = re.compile(r"(?:\[!?\]?[^]]*\]|[^,])+", re.DOTALL)


def to_patterns(value: str) -> tuple[str, ...]:
    """Convert patterns, separated by commas outside of brackets, or a JSON list of them."""
    whole = without_outer_quotes(value)
    given = patterns_in_list(whole)
    if given is None:
        given = [without_outer_quotes(part) for part in PATTERN.findall(whole)]
    return tuple(dict.fromkeys(map(to_string, filter(str.strip, given))))


def patterns_in_list(value: str) -> list[str] | None:
    """Return the strings of a JSON list, None for what begins like one and is a pattern."""
    if not value.startswith("["):
        return None
    try:
        items = read_value(value)
    except (ValueError, BadInput):
        return None
    is_list = isinstance(items, list) and all(isinstance(item, str) for item in items)
    return items if is_list else None


def without_outer_quotes(string: str) -> str:
    """Take off quotes around the whole, and blanks around these, if no such quotes are in it."""
    quoted = re.fullmatch(r"""\s*(["'`])((?:(?!\1).)*)\1\s*""", string, re.DOTALL)
    return without_outer_quotes(quoted[2].strip()) if quoted else string


UNITS = {"": 1, "k": 1_000, "m": 1_000**2, "g": 1_000**3, "t": 1_000**4}
UNITS |= {"ki": 1_024, "mi": 1_024**2, "gi": 1_024**3, "ti": 1_024**4}


def to_bytes(value: str) -> int:
    """Convert a number of bytes with its unit, such as 10MB, 1.5 GiB or 4096."""
    parts = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([kmgt]?i?)b?", value, re.I | re.ASCII)
    if not parts or parts[2].lower() not in UNITS:
        raise ValueError("must be a size, such as 10MB, 1.5GiB or a number of bytes")
    return math.ceil(Decimal(parts[1]) * UNITS[parts[2].lower()])


# A file of a list; what has another ending is none, since inputs lie under the names of assets.
LIST_FILE = re.compile(r"(?i)\.(?:txt|csv|tsv|xlsx)\Z")


def to_assets(value: str) -> tuple[str, ...]:
    """Convert ids, names, locations and files of such; a name of a file may have blanks."""
    whole = without_quotes(value)
    if LIST_FILE.search(whole) and not re.search(r"[,;\n]|://", whole):
        return (to_string(whole),)
    return to_names(value)


UUID = "(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def to_ids_or_files(value: str) -> tuple[str, ...]:
    """Convert ids of tasks, as pasted; what is no list of them stays whole, as a file's name."""
    ids = to_names(value)
    if all(re.fullmatch(UUID, one) for one in ids):
        return ids
    return (to_string(without_quotes(value)),)


LISTS_OF_WORDS = (to_names, to_fields, to_suffixes, to_patterns, to_assets, to_ids_or_files)
