"""Filters in which names stand, and what MongoDB is asked in their place.

A condition holds in any shape of records. A negated one holds in all of them: it is the negation of
the former, as MongoDB has it of a list and its elements.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from typing import Any

from dispatch.given.filters import combine
from dispatch.given.values import Record, compact, first_day, instant
from dispatch.records.names import DAY, Day, Name, Session, Time, is_number, spelt_number
from dispatch.records.schema import CREATED, Vocabulary
from dispatch.records.snapshot import LOGICAL, python_regex
from dispatch.records.times import RANGES, for_the_day, range_of_days, ranges_of_times
from dispatch.terminal.messages import BadInput, excerpt

OPERATORS = ("$eq", "$ne", "$in", "$nin", "$regex", "$options", "$exists", "$not")
LISTS = ("$in", "$nin", "$all")
POSITIVE = {"$ne": "$eq", "$nin": "$in"}
LEAST = -(10**15)  # of numbers that stand for strings


# ------------------------------------------------------------------------------- a whole filter


def in_full(query: Record, names: Vocabulary) -> Record:
    """Return the filter that asks the same without a name; raise BadInput."""
    if not names_in(query, names):
        return query
    conditions: list[Record] = []
    for key, wanted in query.items():
        if key in LOGICAL and isinstance(wanted, list):
            conditions.append({key: [in_full(part, names) for part in wanted]})
        elif is_name(key, names):
            conditions.append(condition_of(names[key], wanted))
        else:
            conditions.append({key: wanted})
    return combine(conditions)


def names_in(query: Any, names: Vocabulary) -> list[str]:
    """Return the names that stand in a filter, each once."""
    found: dict[str, None] = {}
    if not isinstance(query, dict):
        return []
    for key, wanted in query.items():
        if is_name(key, names):
            found[key] = None
        elif key in LOGICAL and isinstance(wanted, list):
            for part in wanted:
                found |= dict.fromkeys(names_in(part, names))
    return list(found)


def is_name(key: str, names: Vocabulary) -> bool:
    """Return whether a key of a filter is a name, and no plain field."""
    return key in names and key != CREATED.name


# ------------------------------------------------------------------- the condition for one name


def condition_of(name: Name, wanted: Any) -> Record:
    """Return what MongoDB is asked in place of a condition for a name; raise BadInput."""
    operators = operators_of(name, wanted)
    conditions: list[Record] = []
    together: Record = {}  # what has to hold at one and the same path
    for operator, value in operators.items():
        if operator in POSITIVE:
            conditions.append(negated(condition_of(name, {POSITIVE[operator]: value})))
        elif operator == "$not":
            conditions.append(negated(condition_of(name, value)))
        elif operator == "$exists":
            there = any_of([{top: {"$exists": True}} for top in name.tops])
            if not value:
                there = negated(there)
            conditions.append(there)
        elif operator == "$all" and value:
            conditions += [condition_of(name, one) for one in value]
        elif operator == "$in" and None in value:
            others = [one for one in value if one is not None]
            conditions.append(any_of([condition_of(name, {"$in": others}), null_in(name)]))
        elif operator == "$eq" and value is None:
            conditions.append(null_in(name))
        else:
            together[operator] = value
    if together:
        conditions.append(any_of(list(alternatives(name, together))))
    return combine(conditions)


def any_of(conditions: list[Record]) -> Record:
    """Return the filter for what meets any of these conditions."""
    flat: list[Record] = []
    for condition in conditions:
        if list(condition) == ["$or"]:
            flat += condition["$or"]
        else:
            flat.append(condition)
    if len(flat) == 1:
        return flat[0]
    return {"$or": flat}


def negated(condition: Record) -> Record:
    """Return the filter for all that does not meet a condition."""
    if list(condition) == ["$or"]:
        return {"$nor": condition["$or"]}
    if len(condition) == 1:
        [(path, wanted)] = condition.items()
        if not path.startswith("$") and not isinstance(wanted, dict):
            return {path: {"$ne": wanted}}
        if not path.startswith("$") and list(wanted) == ["$in"]:
            return {path: {"$nin": wanted["$in"]}}
    return {"$nor": [condition]}


def null_in(name: Name) -> Record:
    """Return the filter for the records that hold nothing, or null, in all shapes."""
    return dict.fromkeys(name.tops)


def alternatives(name: Name, operators: Record) -> Iterator[Record]:
    """Yield the conditions of which any has to hold, each for one path."""
    ranges = {operator: operators[operator] for operator in RANGES if operator in operators}
    for path in name.paths:
        choices = []
        if "$eq" in operators:
            choices.append(equal_at(name, path, [operators["$eq"]]))
        if "$in" in operators:
            choices.append(equal_at(name, path, operators["$in"]))
        if "$all" in operators:  # an empty one
            choices.append([{"$in": []}])
        if "$regex" in operators:
            if isinstance(name, Time):
                choices.append([{"$regex": DAY}])
            choices.append(like_at(name, operators["$regex"], operators.get("$options", ""), path))
        if ranges and isinstance(name, Day):
            choices.append([range_of_days(ranges)])
        elif ranges:
            choices.append(ranges_of_times(ranges))
        for choice in product(*choices):
            yield at_one_path(path, choice)


def at_one_path(path: str, choice: tuple[Record, ...]) -> Record:
    """Return the condition that all of these operators hold at a path."""
    conditions: list[Record] = []
    for operators in choice:
        if list(operators) == ["$eq"]:
            conditions.append({path: operators["$eq"]})
        else:
            conditions.append({path: operators})
    return combine(conditions)


def untold(name: Name, wanted: Any) -> Record:
    """Return the filter for the records that have no value that is known, in any shape.

    What is wanted is known, whatever it is.
    """
    known = [condition_of(name, wanted)]
    if isinstance(name, Time):
        known += [{path: {"$regex": DAY}} for path in name.paths]
    elif name.spellings:
        known.append(condition_of(name, {"$in": list(name.spellings)}))
    else:
        known += [{path: {"$gt": ""}} for path in name.paths]
        known += [{path: {"$gte": LEAST}} for path in name.numeric]
    return negated(any_of(known))


# ------------------------------------------------------------- what one operator means at a path


def equal_at(name: Name, path: str, values: list[Any]) -> list[Record]:
    """Return the operators of which any holds where any of these values is at a path."""
    strings = list(map(spelt_value, values))
    if isinstance(name, Day) and strings:
        return [range_of_days({"$gte": day, "$lte": day}) for day in strings]
    known: dict[str, None] = {}  # as they are spelt, whatever their capitals
    others: dict[Any, None] = {}
    for string in strings:
        today = name.today(string)
        if today in name.spellings:
            known |= dict.fromkeys((today, *name.spellings[today]))
            continue
        others[string] = None
        if isinstance(name, Time) and len(string) > 10:
            others |= dict.fromkeys(f"{string[:10]}{sign}{string[11:]}" for sign in "T ")
        if path in name.numeric and re.fullmatch("0|-?[1-9][0-9]{0,14}", string):
            others[int(string)] = None
    found: list[Record] = []
    if known:
        found.append({"$regex": spelt_at(name, path, list(known)), "$options": "i"})
    if len(others) == 1:
        found.append({"$eq": next(iter(others))})
    elif others or not known:
        found.append({"$in": list(others)})
    plain = [one for one in others if isinstance(one, str) and re.fullmatch(r"[\w -]+", one, re.A)]
    if plain and name.may_be_written_out and path in name.tops:
        found.append({"$regex": written_out(plain)})
    return found


def spelt_value(value: Any) -> str:
    """Return a value as records spell it, which hold numbers as strings."""
    if is_number(value):
        return spelt_number(value)
    return str(value)


def spelt_at(name: Name, path: str, words: list[str]) -> str:
    """Return the pattern for any of these words at a path."""
    whole = f"^(?:{'|'.join(words)})$"
    if name.may_be_written_out and path in name.tops:
        return f"{whole}|{written_out(words)}"
    return whole


def written_out(words: list[str]) -> str:
    """Return the pattern for any of these words in an object that is written out."""
    return f"abbreviation=['\"](?:{'|'.join(words)})['\"]"


def like_at(name: Name, pattern: str, options: str, path: str) -> list[Record]:
    """Return the operators of which any holds where a value at a path is like a pattern.

    A value that is known is so in all of its spellings if it is so in that of today.
    """
    if isinstance(name, Day):
        pattern = for_the_day(pattern)
    found: list[Record] = [{"$regex": pattern}]
    if options:
        found[0]["$options"] = options
    try:
        like = re.compile(python_regex(pattern, options))
    except (ValueError, re.error):
        return found  # which the database may know
    known = [value for value in name.spellings if like.search(value)]
    if known:
        found += equal_at(name, path, known)
    return found


# ------------------------------------------------------------------------ what a name understands


def operators_of(name: Name, wanted: Any) -> Record:
    """Return what is wanted of a name, in operators that it knows; raise BadInput."""
    if isinstance(name, Session):
        advice = compact({"name": {"$regex": "^ecephys_1_2025-03-04_09-12-33"}})
        raise BadInput(f"{name.name} cannot stand in a filter: write {advice} for an asset's name")
    operators: Record = {"$eq": wanted}
    if isinstance(wanted, dict):
        operators = wanted
    known = list(OPERATORS)
    if isinstance(name, Time):
        known += RANGES
    if name.takes_all:
        known.append("$all")
    for operator, value in operators.items():
        if operator not in known or not is_for(name, operator, value, operators):
            raise BadInput(advice_on(name, {operator: value}, known))
    if not operators:
        raise BadInput(advice_on(name, wanted, known))
    return operators


def is_for(name: Name, operator: str, value: Any, operators: Record) -> bool:
    """Return whether a value can stand behind an operator."""
    if operator in LISTS:
        return isinstance(value, list) and all(is_value(name, "$eq", one) for one in value)
    if operator == "$not":
        return isinstance(value, dict)
    if operator == "$exists":
        return isinstance(value, bool) or value in (0, 1)
    if operator == "$regex":
        return isinstance(value, str)
    if operator == "$options":
        return isinstance(value, str) and "$regex" in operators
    return is_value(name, operator, value)


def is_value(name: Name, operator: str, value: Any) -> bool:
    """Return whether a name can have a value, or one beyond it."""
    if value is None:
        return operator not in RANGES
    if not isinstance(name, Time):
        return isinstance(value, str) or is_number(value)
    if not isinstance(value, str) or not re.match("[12]", value):
        return False
    is_date = len(value) <= 10 and first_day(value) != ""
    if isinstance(name, Day):
        return is_date and (len(value) == 10 or operator in RANGES)
    return is_date or instant(value) is not None


def advice_on(name: Name, wanted: Any, known: list[str]) -> str:
    """Return what to write in place of a condition that a name does not understand."""
    value = "a value"
    if isinstance(name, Day):
        value = "2025-03-04"
    elif isinstance(name, Time):
        value = "2025-03-04T09:12:33"
    several = compact({name.name: {"$in": [value]}})
    return (
        f"{name.name} does not understand {excerpt(compact(wanted))}: write {compact(value)}"
        f" or {several}, with {', '.join(known)}; else a plain field, such as {name.paths[0]}"
    )
