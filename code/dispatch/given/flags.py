"""Flags: how one is declared, what converts its value, what is wrong with a command."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from dispatch.given.filters import without_quotes
from dispatch.given.lists import LIST_FILE, LISTS_OF_WORDS, to_fields, to_names, to_patterns
from dispatch.given.values import ADDRESS, compact, first_day
from dispatch.terminal.messages import BadInput, excerpt, shorten

# What a converter raises as ValueError follows the flag in the error.

SWITCHES = {"0": False, "1": True, "false": False, "true": True, "no": False, "yes": True}


def matching(pattern: str, what: str, convert: Callable[[str], Any] = str) -> Callable[[str], Any]:
    """Return a converter of the values that match a pattern, which are `what` the flag must be."""

    def convert_match(value: str) -> Any:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {what}")
        return convert(value)

    return convert_match


def to_switch(value: str) -> bool:
    """Convert 0 or 1, and the words for these."""
    if LIST_FILE.search(value):
        raise ValueError(f"is 0 or 1; a list of assets in a file is --asset {shlex.quote(value)}")
    if value.lower() not in SWITCHES:
        raise ValueError("must be 0 or 1, false or true, no or yes")
    return SWITCHES[value.lower()]


to_number = matching("[0-9]{1,9}", "a whole number from 0 to 999999999", int)
to_positive = matching("(?!0+$)[0-9]{1,9}", "a whole number from 1 to 999999999", int)
to_version = matching("v1|v2", "v1 or v2")
to_level = matching(  # older records call them so, too
    "(?i)(raw|derived)( data| level)?", "raw or derived", lambda value: value.lower().split()[0]
)
to_measure = matching("count|size", "count or size")


def version_of_environment() -> str:
    """Return the version of the database that $DOCDB_VERSION names, else v1; raise BadInput."""
    version = os.environ.get("DOCDB_VERSION", "").strip() or "v1"
    try:
        return str(to_version(version))
    except ValueError as error:
        raise BadInput(f"$DOCDB_VERSION {error}, not {version!r}") from None


def to_date(value: str) -> str:
    """Convert a day, a month or a year."""
    if not re.fullmatch(r"[12][0-9]{3}(-[0-9]{2}(-[0-9]{2})?)?", value) or not first_day(value):
        raise ValueError("must be a date such as 2025-03-01, or a month, 2025-03, or a year, 2025")
    return value


def to_field(value: str) -> str:
    """Convert the name of a field of a record."""
    names = to_fields(value)
    if len(names) != 1:
        raise ValueError("must be one field, such as created")
    return names[0]


def to_path(value: str) -> Path:
    """Convert the path of a folder; ~ and ~name at its start are home folders."""
    if re.match(ADDRESS, value):
        raise ValueError(
            "must be the path of a folder on this machine, which aws s3 cp --recursive copies to S3"
            " or from there"
        )
    return Path(os.path.expanduser(value))


def to_input_folder(value: str) -> Path:
    """Convert the path of an existing folder."""
    folder = to_path(value)
    if not os.path.isdir(folder):
        raise ValueError("must be an existing folder")
    return folder


def to_folders(value: str) -> tuple[str, ...]:
    """Convert the paths of folders, separated by commas."""
    names = to_names(value)
    for name in names:
        to_path(name)
    return names


LISTS = (*LISTS_OF_WORDS, to_folders)


def flag(
    convert: Callable[[str], Any], shown: str, help_: str, default: Any = None, **more: Any
) -> Any:
    """Declare a flag: what converts its value, how the help shows that, the help, the default.

    `also` is an alias or several, `heading` begins a group of flags, `kind` says what the flag has
    a part in, `either` is the field that a filter can ask for more than one value of, and a flag
    for an `expert` stands last in the app panel.
    """
    meta = {"help": " ".join(help_.split()), "convert": convert, "metavar": shown, **more}
    return field(default=default, metadata=meta)


def names_of(
    settings: Iterable[Field[Any]], kind: str, *, aliases: bool = False
) -> tuple[str, ...]:
    """Return the names of the flags of a kind, and their aliases where these are asked for."""
    names: list[str] = []
    for setting in settings:
        if setting.metadata.get("kind") == kind:
            names.append(setting.name)
            if aliases:
                names += setting.metadata.get("also", "").replace("--", "").split()
    return tuple(names)


def names_under(
    settings: Iterable[Field[Any]], headings: Sequence[str], but: str
) -> tuple[str, ...]:
    """Return the names of the flags that stand under some headings, but for those of a kind."""
    names: list[str] = []
    heading = ""
    for setting in settings:
        heading = setting.metadata.get("heading", heading)
        is_flag = bool(setting.metadata)
        if is_flag and heading in headings and setting.metadata.get("kind") != but:
            names.append(setting.name)
    return tuple(names)


class Flag(argparse.Action):
    """A flag with one value; a blank one, as app panels pass for an empty field, is no value.

    Given twice, lists are joined, and any other value must be the same.
    """

    def __init__(self, convert: Callable[[str], Any], either: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.convert, self.either = convert, either

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        """Convert and keep the value."""
        string = without_quotes(values)
        if not string:
            return
        if self.convert in LISTS and (self.convert is to_patterns or not string.startswith("[")):
            string = values.strip()  # in which each value may be in quotes
        try:
            value = self.convert(string)
        except ValueError as error:
            raise argparse.ArgumentError(self, f"{error}, not {excerpt(values)}") from None
        if value == ():
            return
        given = f"{option_string} {excerpt(string)}"
        earlier, earlier_given = namespace.given.get(self.dest, (value, given))
        if isinstance(value, tuple):
            value = tuple(dict.fromkeys(earlier + value))
        elif value != earlier:
            fault = f"{earlier_given} and {given} do not agree: give one of them"
            if self.either:
                both = {self.either: {"$in": [earlier, value]}}
                fault += f", or both in a filter: --query '{compact(both)}'"
            raise argparse.ArgumentError(None, fault)
        namespace.given[self.dest] = value, given
        setattr(namespace, self.dest, value)


def build_parser(
    settings: Iterable[Field[Any]], version: str, **about: Any
) -> tuple[argparse.ArgumentParser, dict[str, Flag]]:
    """Return the parser of all settings that are flags, and the flags by their names."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        exit_on_error=False,
        **about,
    )
    parser.add_argument("--version", action="version", version=version)
    flags: dict[str, Flag] = {}
    for setting in settings:
        if not setting.metadata:
            continue
        meta, default = setting.metadata, setting.default
        if "heading" in meta:
            group = parser.add_argument_group(meta["heading"])
        names = [f"--{setting.name}", *meta.get("also", "").split()]
        action = group.add_argument(
            *names,
            **{"action": Flag, "convert": meta["convert"], "either": meta.get("either", "")},
            default=default,
            metavar=meta["metavar"],
            help=f"{meta['help']}{default_in_words(default)}",
        )
        flags |= dict.fromkeys(names, action)
    return parser, flags


def default_in_words(default: Any) -> str:
    """Return what the help says of a default."""
    if default in (None, ()):
        return ""
    if isinstance(default, bool):
        default = int(default)
    return f" Default: {default}."


def parse_words(
    parser: argparse.ArgumentParser, flags: Mapping[str, Flag], words: Sequence[str]
) -> dict[str, Any]:
    """Return the value of every flag; raise BadInput."""
    strays: list[str] = []
    fault: Exception | None = None
    try:
        chosen, strays = parser.parse_known_args(words, argparse.Namespace(given={}))
    except argparse.ArgumentError as error:
        fault = error
    if fault or strays:
        advice = advice_on_words(words, strays, flags)
        raise BadInput(f"{advice or fault} (--help lists the flags)")
    values = vars(chosen)
    del values["given"]
    return values


def advice_on_words(words: Sequence[str], strays: Sequence[str], flags: Mapping[str, Flag]) -> str:
    """Return what is wrong with the words of a command, "" if each flag has one as its value.

    `strays` are those that belong to no flag.
    """
    starts = []
    for at, word in enumerate(words):
        if re.match("--?[A-Za-z][^ ]*(=|$)", word):
            starts.append(at)
    for start, end in pairwise([*starts, len(words)]):
        name, sign, first = words[start].partition("=")
        values = list(words[start + 1 : end])
        if sign:
            values.insert(0, first)
        if name in flags and len(values) != 1:
            return advice_on_values(name, values, flags[name])
    if not strays:
        return ""
    name = strays[0].partition("=")[0].replace("-", "_")
    near = difflib.get_close_matches(f"--{name.strip('_')}", [*flags, "--help"], 1)
    hint = ""
    if near and strays[0].startswith("-"):
        hint = f", did you mean {near[0]}?"
    return f"there is no flag {strays[0]!r}{hint}"


def advice_on_values(name: str, values: list[str], action: Flag) -> str:
    """Return how to write no value, or several, that stand behind a flag."""
    convert = action.convert
    if not values:
        example = "1" if convert is to_switch else action.metavar
        return f"{name} needs a value: {name} {example}"
    advice, value = "quote the value", shlex.quote(shorten(" ".join(values)))
    if convert in LISTS:
        advice = "separate the values by commas"
        value = ",".join(re.findall(r"[^\s,'\[\]]+", value))
    return f"{advice}: {name} {value}; {excerpt(values[1])} belongs to no flag"


def one_given(names: Sequence[str], chosen: Mapping[str, Any], what: str) -> str:
    """Return the one of several flags that is given, "" if none is; raise BadInput for two."""
    given = [f"--{name}" for name in names if chosen[name]]
    if len(given) > 1:
        raise BadInput(f"{' and '.join(given)} each {what}: give one of them")
    return "".join(given)
