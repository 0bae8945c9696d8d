"""Assets: what a record says of a data asset, or why it describes none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dispatch.given.values import MISSING, Record, as_list, is_valid, value_at
from dispatch.records.names import told
from dispatch.records.schema import NAMES, Vocabulary
from dispatch.stores.kinds import is_location, network_words, url_of

ID_FIELDS = ("external_links", "other_identifiers")  # v1, v2; some v1 records have both
ASSET_FIELDS = ("_id", "name", "location", *ID_FIELDS)


@dataclass(frozen=True, slots=True)
class Asset:
    """A data asset, as its record describes it."""

    location: str  # s3://bucket/prefix, from a snapshot also a file:// URL; no slash at the end
    id: str  # the Code Ocean id, "" where there is none
    name: str
    record_id: str
    record: Record = field(repr=False)  # ASSET_FIELDS, GROUP_FIELDS, and those the flags name
    group: Record = field(default_factory=dict)  # values of the --group_by fields, . written as __
    names: Vocabulary = field(default_factory=lambda: NAMES, repr=False, compare=False)

    @property
    def label(self) -> str:
        """What the log calls it."""
        return f"{self.name} (record {self.record_id})"

    def value(self, wanted: str) -> Any:
        """Return what the record has in a field, by a name or a path; None if nothing.

        GROUP_FIELDS and the flags say which fields are asked for.
        """
        name = self.names.get(wanted)
        if not name:
            return value_at(self.record, wanted, missing=None)
        value = name.value_in(self.record)
        if value is MISSING:
            return None
        return value

    def told(self, fields: Iterable[str]) -> Record:
        """Return the record with those of these fields that are names, as plain fields."""
        return told(self.record, [self.names[one] for one in fields if one in self.names])


@dataclass(frozen=True, slots=True)
class Skip:
    """Something that no task will stand for, and why."""

    reason: str
    name: str
    asked: bool = False  # the user asked for it
    warns: bool = False  # and should still know
    record: Record = field(default_factory=dict, repr=False)  # if there is one


# What flows from here to the tasks: every record that matches is an asset, or a skip that names it.
Entry = Asset | Skip


@dataclass(frozen=True)
class Chosen:
    """What a run is about: the entries that records became, and of how many records that is."""

    matched: int  # records
    entries: list[Entry]


def assets_in(entries: list[Entry]) -> list[Asset]:
    """Return the assets among entries."""
    return [entry for entry in entries if isinstance(entry, Asset)]


def skips_in(entries: list[Entry]) -> list[Skip]:
    """Return the skips among entries."""
    return [entry for entry in entries if isinstance(entry, Skip)]


def read_asset(record: Record, folder: Path | None, names: Vocabulary = NAMES) -> Entry:
    """Return the asset that a record describes, or why there is none.

    `folder` is where relative locations lead from; without it, none leads to a local path. `names`
    are those that the record answers to.
    """
    record_id, name, location = record.get("_id"), name_of(record), record.get("location")
    asset_id = next(code_ocean_ids(record), "")
    shown = f"{name} (record {record_id})"
    if not isinstance(record_id, str):
        return Skip("record id is not a string", shown, record=record)
    if not is_valid(f"{asset_id}{name}{record_id}{location}"):
        return Skip("a field is not a valid string", shown, record=record)
    url = url_of(location, folder) if isinstance(location, str) else ""
    if not is_location(url):
        reason = f"location is not {network_words()}"
        return Skip(reason, f"{shown}: {location!r}", record=record)
    return Asset(url, asset_id, name, record_id, record, names=names)


def name_of(record: Record) -> str:
    """Return a record's name, or an empty string where it has none."""
    name = record.get("name")
    return name if isinstance(name, str) else ""


def code_ocean_ids(record: Record) -> Iterator[str]:
    """Yield the Code Ocean ids of a record, in all the shapes that records have them in."""
    for name in ID_FIELDS:
        for links in as_list(record.get(name)):
            if isinstance(links, dict):
                for asset_id in as_list(links.get("Code Ocean")):
                    if isinstance(asset_id, str) and asset_id:
                        yield asset_id
