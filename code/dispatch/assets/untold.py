"""Records that the flags of the form leave out because they do not tell what is asked for."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from dispatch.assets.assets import name_of
from dispatch.assets.hints import helpfully
from dispatch.given.values import Record, has_field, value_at
from dispatch.records.named import Named
from dispatch.records.names import Name
from dispatch.records.vocabulary import untold
from dispatch.terminal.messages import NAMES_IN_LOG, log_first, shorten
from dispatch.terminal.waiting import begin, result_of


@dataclass(frozen=True)
class Untold:
    """Records that do not tell a name."""

    name: Name
    records: list[str]  # the first ones, in words
    number: int | None  # of all, if that is known


def name_untold(database: Named, query: Record, choices: Sequence[Record]) -> None:
    """Log the records that meet all choices that they tell of, and one does not.

    A record that does not tell of several is named for the first of them.
    """
    questions = []
    met: list[Record] = [query]
    for place, choice in enumerate(choices):
        name = name_in(database, choice)
        unknown = untold(name, choice[name.name])
        met_or_untold = []
        for later in choices[place + 1 :]:
            other = name_in(database, later)
            met_or_untold.append({"$or": [later, untold(other, later[other.name])]})
        whole = {"$and": [*met, unknown, *met_or_untold]}
        questions.append(begin(ask_for_untold, database, whole, name))
        met.append(choice)
    for question in questions:
        told = helpfully(result_of, question)
        if told:
            reason = f"left out, its {told.name.title} cannot be told"
            log_first(logging.WARNING, reason, told.records, told.number)


def name_in(database: Named, choice: Record) -> Name:
    """Return the name for which a choice is a condition."""
    return database.names[next(iter(choice))]


def ask_for_untold(database: Named, query: Record, name: Name) -> Untold:
    """Return the first records that match, with what they say in place of a value."""
    places = list(dict.fromkeys(path.removesuffix(".abbreviation") for path in name.paths))
    shown = []
    for record in database.first(query, ["_id", "name", *places], NAMES_IN_LOG):
        said = []
        for path in places:
            if has_field(record, path.split(".")):
                said.append(f"{path} {shorten(json.dumps(value_at(record, path)), 60)}")
        what = " and ".join(said) or f"no {name.name}"
        shown.append(f"{name_of(record)} (record {record.get('_id')}): {what}")
    number = None
    if shown:  # some answers hold fewer than are asked for
        number = database.count(query)
    return Untold(name, shown, number)
