"""The fields by which people choose, in every shape that records are known to hold them in.

The database holds descriptions of several generations of aind-data-schema side by side, whichever
version it is asked in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from dispatch.given.values import Record, day_after, first_day, strings_at

# Modalities by their abbreviations (aind-data-schema-models, modalities.py), with what older
# records call them. 1: aind-metadata-upgrader 0.17, v1v2_utils.py; 2: its first generation,
# data_description_upgrade.py, which compares in small letters; 3: as platforms.py writes these.
MODALITIES: dict[str, tuple[str, ...]] = {
    "BARseq": (),
    "behavior": (),
    "behavior-videos": (),
    "brightfield": (),
    "confocal": (),
    "EMG": (),
    "EM": (),
    "ecephys": (),
    "fib": ("FIP", "HSFP", "fip", "hsfp", "test-FIP-opto", "test-fip-opto"),  # 1, 1, 2, 2, 3, 2
    "fMOST": (),
    "icephys": (),
    "ISI": (),
    "MRI": ("MRI-14T", "MRI-7T", "mri-14t", "mri-7t"),  # 3, 3, 2, 2
    "MAPseq": (),
    "merfish": ("MERFISH",),  # 3
    "one-photon": (),
    "pophys": ("ophys", "single-plane-ophys", "multiplane-ophys"),  # 1, 2, 2
    "slap2": ("slap", "SLAP2"),  # 1, 3
    "SPIM": (
        *("SmartSPIM", "smartspim", "exaSPIM", "exaspim"),  # 1, 1, 1, 2
        *("mesoSPIM", "mesospim", "diSPIM", "dispim"),  # 3, 2, 3, 2
    ),
    "STPT": (),
    "scRNAseq": (),
}
LEVELS: dict[str, tuple[str, ...]] = {
    "raw": ("raw data", "raw level"),  # 1 and 2, 2
    "derived": ("derived data", "derived level"),  # 1 and 2, 2
    "simulated": (),
}
DAY = "^[0-9]{4}-[0-9]{2}-[0-9]{2}"  # what a time begins with
# A modality that was written out as Python prints it: name='…' abbreviation='ecephys' (1)
WRITTEN_OUT = re.compile("abbreviation=['\"]([^'\"]+)['\"]")


@dataclass(frozen=True)
class Facet:
    """What records are chosen by: where it lies in them, and how it is spelt."""

    name: str
    title: str
    paths: tuple[str, ...]
    spellings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by that of today
    may_be_written_out: bool = False
    pattern: str = ""  # of what is known, where that is no list of spellings

    @cached_property
    def todays(self) -> dict[str, str]:
        """How values are spelt today, by their older spellings in small letters."""
        todays: dict[str, str] = {}
        for value, spellings in self.spellings.items():
            todays |= dict.fromkeys(map(str.casefold, spellings), value)
        return todays

    def condition(self, values: Iterable[str]) -> Record:
        """Return the filter for the records that have any of these values, in any shape."""
        spelt: list[str] = []
        for value in values:
            spelt += [value, *self.spellings.get(value, ())]
        if self.spellings and len(self.paths) == 1:  # not $in, all of whose members should be there
            return {self.paths[0]: {"$regex": f"^({'|'.join(spelt)})$"}}
        branches: list[Record] = [{path: {"$in": spelt}} for path in self.paths]
        plain = list(filter(re.compile(r"[\w -]+", re.ASCII).fullmatch, spelt))
        if self.may_be_written_out and plain:
            pattern = f"abbreviation=['\"](?:{'|'.join(plain)})['\"]"
            for path in self.paths:
                if not path.endswith(".abbreviation"):
                    branches.append({path: {"$regex": pattern}})
        return branches[0] if len(branches) == 1 else {"$or": branches}

    def unknown(self) -> Record | None:
        """Return the filter for the records that have no value that is known, in any shape.

        None if any value is one.
        """
        if self.pattern:
            return {"$nor": [{path: {"$regex": self.pattern}} for path in self.paths]}
        return {"$nor": [self.condition(self.spellings)]} if self.spellings else None

    def strings_in(self, record: Record) -> list[list[str]]:
        """Return what a record says at each of the paths, as it says it."""
        return [strings_at(record, path) for path in self.paths]

    def values_in(self, record: Record) -> list[str]:
        """Return what a record says, each as it is spelt today, once."""
        values: dict[str, None] = {}
        for strings in self.strings_in(record):
            values |= dict.fromkeys(map(self.today, strings))
        return list(values)

    def today(self, string: str) -> str:
        """Return how a value is spelt today; what is not known stays as it is."""
        if self.may_be_written_out:
            written = WRITTEN_OUT.search(string)
            if written:
                string = written[1]
        return self.todays.get(string.casefold(), string)

    def shown(self, path: str) -> str:
        """Return a path as it is called where the shape of what lies there does not matter."""
        return path.removesuffix(".abbreviation")


PROJECT = Facet("project", "project", ("data_description.project_name",))
SUBJECT = Facet("subject", "subject", ("subject.subject_id",))
MODALITY = Facet(
    "modality",
    "modality",
    (
        "data_description.modality.abbreviation",  # objects of schema 1
        "data_description.modalities.abbreviation",  # and 2
        "data_description.modality",  # strings of schema 0
        "data_description.modalities",
    ),
    MODALITIES,
    may_be_written_out=True,
)
LEVEL = Facet("level", "data level", ("data_description.data_level",), LEVELS)
DATE = Facet(
    "date",
    "session date",
    (
        "session.session_start_time",  # schema 1
        "acquisition.acquisition_start_time",  # 2
        "acquisition.session_start_time",  # 1, of imaging
    ),
    pattern=DAY,
)
FACETS = (PROJECT, SUBJECT, MODALITY, LEVEL, DATE)


@dataclass(frozen=True)
class Choice:
    """What a flag of the form asks for: any of these values."""

    facet: Facet
    values: tuple[str, ...]

    @property
    def shown(self) -> str:
        """What is asked for, in words."""
        return f"the {self.facet.title} {' or '.join(self.values)}"

    @property
    def condition(self) -> Record:
        """The filter for it."""
        if self.facet is PROJECT:
            return {self.facet.paths[0]: self.values[0]}
        return self.facet.condition(self.values)


@dataclass(frozen=True)
class Days(Choice):
    """What the flags for dates ask for: the days of the first date up to those of the last one.

    Records hold times as strings that begin with the day, in the zone of the session.
    """

    first: str | None = None
    last: str | None = None

    @property
    def condition(self) -> Record:
        """The filter for it."""
        bounds: Record = {"$regex": DAY}
        if self.first:
            bounds["$gte"] = first_day(self.first)
        if self.last:
            bounds["$lt"] = day_after(self.last)
        return {"$or": [{path: bounds} for path in self.facet.paths]}

    @property
    def shown(self) -> str:
        """What is asked for, in words."""
        since = f" from {self.first}" if self.first else ""
        return f"the {self.facet.title}{since}{f' to {self.last}' if self.last else ''}"


def facet_of(path: str) -> Facet | None:
    """Return what is chosen by at a path, None if that is nothing of the kind."""
    for facet in FACETS:
        if path in facet.paths:
            return facet
    return None


def beside(paths: Sequence[str]) -> set[str]:
    """Return these paths, and those at which other records hold the same."""
    wanted = set(paths)
    for path in paths:
        facet = facet_of(path)
        if facet:
            wanted |= set(facet.paths)
    return wanted
