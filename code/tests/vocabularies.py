"""What records answer to names, said another way; and records of all generations, at random."""

from __future__ import annotations

import random
import re
from typing import Any

from reference import matches

Record = dict[str, Any]

WHERE: dict[str, list[str]] = {
    "project_name": ["data_description.project_name"],
    "subject_id": [
        *("subject.subject_id", "data_description.subject_id", "session.subject_id"),
        *("acquisition.subject_id", "procedures.subject_id"),
    ],
    "modality": [
        *("data_description.modality.abbreviation", "data_description.modalities.abbreviation"),
        *("data_description.modality", "data_description.modalities"),
    ],
    "data_level": ["data_description.data_level"],
    "session_start": [
        *("session.session_start_time", "acquisition.acquisition_start_time"),
        "acquisition.session_start_time",
    ],
    "instrument_id": [
        *("session.rig_id", "acquisition.instrument_id", "rig.rig_id", "rig.instrument_id"),
        "instrument.instrument_id",
    ],
    "experimenter": [
        *("session.experimenter_full_name", "acquisition.experimenter_full_name"),
        *("acquisition.experimenters", "acquisition.experimenters.name"),
    ],
    "tags": ["data_description.tags"],
}
WHERE["session_day"] = WHERE["session_start"]
SEVERAL = ("modality", "experimenter", "tags")
SPELT = {
    "modality": {
        "fib": ["fib", "fip", "hsfp", "test-fip-opto"],
        "pophys": ["pophys", "ophys", "single-plane-ophys", "multiplane-ophys"],
        "SPIM": ["spim", "smartspim", "exaspim", "mesospim", "dispim"],
        "slap2": ["slap2", "slap"],
        "ecephys": ["ecephys"],
        "behavior": ["behavior"],
        "behavior-videos": ["behavior-videos"],
    },
    "data_level": {
        "raw": ["raw", "raw data", "raw level"],
        "derived": ["derived", "derived data", "derived level"],
    },
}


def today(name: str, value: str) -> str:
    """Return how a value is spelt today."""
    if name == "modality" and "abbreviation=" in value:
        value = re.split("['\"]", value.partition("abbreviation=")[2])[1]
    for new, spellings in SPELT.get(name, {}).items():
        if value.lower() in spellings:
            return new
    if name.startswith("session_"):
        if not re.match(r"\d{4}-\d\d-\d\d", value):
            return ""
        return value[:10] if name == "session_day" else value
    return value


def reach(value: Any, path: list[str]) -> list[Any]:
    """Return what lies at a path, through objects in lists, and the elements of a list there."""
    if not path:
        return value if isinstance(value, list) else [value]
    items = value if isinstance(value, list) else [value]
    return [
        one
        for item in items
        if isinstance(item, dict) and path[0] in item
        for one in reach(item[path[0]], path[1:])
    ]


def paths_of(name: str, plain: set[str]) -> list[str]:
    """Return where a name may be, in a source of which some are plain fields."""
    more = [name] if name in plain else []
    if name == "session_day" and "session_start" in plain:
        more.append("session_start")
    return [*WHERE[name], *more]


def said_at(name: str, path: str, record: Record, plain: set[str]) -> list[str]:
    """Return what a record says at a path, as it says it."""
    numbers = paths_of(name, plain) != WHERE[name]
    if name == "subject_id":
        numbers = numbers or path in ("session.subject_id", "acquisition.subject_id")
    said = []
    for value in reach(record, path.split(".")):
        if isinstance(value, str) or (numbers and type(value) in (int, float)):
            said.append(str(value).removesuffix(".0") if not isinstance(value, str) else value)
    return said


def value_of(name: str, record: Record, plain: set[str]) -> Any:
    """Return what a record answers to a name, None if nothing."""
    if name == "session_name":
        return session_of(record, plain)
    found: list[str] = []
    for path in paths_of(name, plain):
        here = [today(name, value) for value in said_at(name, path, record, plain)]
        found += [value for value in here if value and value not in found]
        found = list(dict.fromkeys(found))
        if found and name not in SEVERAL:
            return found[0] if len(found) == 1 else found
    return found or None


def sessions_of(record: Record, plain: set[str]) -> list[str]:
    """Return the sessions that an asset is of."""
    about = record.get("data_description")
    about = about if isinstance(about, dict) else {}
    for names in (record.get("name"), about.get("input_data_name"), about.get("source_data")):
        found = []
        for name in names if isinstance(names, list) else [names]:
            start = re.search(r"(?<!\d)\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(?!\d)", str(name))
            if start and isinstance(name, str):
                found.append(name[: start.end()])
        if found:
            return list(dict.fromkeys(found))
    if "session_name" in plain and record.get("session_name"):
        return [str(record["session_name"])]
    return []


def session_of(record: Record, plain: set[str]) -> Any:
    found = sessions_of(record, plain)
    return (found[0] if len(found) == 1 else found) if found else None


def answers(query: Record, record: Record, plain: set[str]) -> bool:
    """Return whether a record meets a filter with names in it."""
    for key, wanted in query.items():
        if key in ("$and", "$or", "$nor"):
            met = [answers(one, record, plain) for one in wanted]
            if not {"$and": all(met), "$or": any(met), "$nor": not any(met)}[key]:
                return False
        elif key in WHERE:
            if not answers_name(key, wanted, record, plain):
                return False
        elif not matches({key: wanted}, record):
            return False
    return True


def answers_name(name: str, wanted: Any, record: Record, plain: set[str]) -> bool:
    """Return whether a record meets a condition for a name."""
    if not isinstance(wanted, dict):
        wanted = {"$eq": wanted}
    paths = paths_of(name, plain)
    here = []  # what has to hold at one path
    for operator, value in wanted.items():
        if operator == "$ne" and answers_name(name, {"$eq": value}, record, plain):
            return False
        if operator == "$nin" and answers_name(name, {"$in": value}, record, plain):
            return False
        if operator == "$not" and answers_name(name, value, record, plain):
            return False
        if operator == "$exists":
            is_there = any(matches({path: {"$exists": True}}, record) for path in paths)
            if is_there != bool(value):
                return False
        if operator == "$all" and not (
            value and all(answers_name(name, one, record, plain) for one in value)
        ):
            return False
        nulls = value is None or (isinstance(value, list) and None in value)
        if operator in ("$eq", "$in") and nulls:
            others = [one for one in value or [] if one is not None]
            is_null = all(matches({path: None}, record) for path in paths)
            if not (is_null or (others and answers_name(name, {"$in": others}, record, plain))):
                return False
        elif operator not in ("$ne", "$nin", "$not", "$exists", "$all", "$options"):
            here.append((operator, value))
    if not here:
        return True
    return any(
        all(
            any(
                meets(name, said, *one, wanted)
                for said in said_at(name, path, record, plain)
                # no pattern is held against a number
                if one[0] != "$regex" or said in reach(record, path.split("."))
            )
            for one in here
        )
        and (not name.startswith("session_") or any(
            today(name, said) for said in said_at(name, path, record, plain)
        ))
        for path in paths
    )  # fmt: skip


def meets(name: str, said: str, operator: str, value: Any, wanted: Record) -> bool:
    """Return whether one thing that is said meets one operator."""
    now = today(name, said)
    if name.startswith("session_") and not now:
        return False
    if operator in ("$eq", "$in"):
        asked = value if operator == "$in" else [value]
        return alike(name, now) in [alike(name, today(name, str(one))) for one in asked]
    if operator == "$regex":
        flags = re.IGNORECASE if "i" in wanted.get("$options", "") else 0
        is_raw = name != "session_day" and re.search(value, said, flags)
        is_known = now in SPELT.get(name, {}) or name == "session_day"
        return bool(is_raw or (is_known and re.search(value, now, flags)))
    now, value = alike(name, now), alike(name, value)
    if name == "session_day":
        now = now[: len(value)]  # months and years hold all of their days
    return bool({"$gt": now > value, "$gte": now >= value,
                 "$lt": now < value, "$lte": now <= value}[operator])  # fmt: skip


def alike(name: str, value: str) -> str:
    """Return a value as it compares: of a time, with a T."""
    return f"{value[:10]}T{value[11:]}" if name == "session_start" and len(value) > 10 else value


# ------------------------------------------------------------------------------------- at random

MODALITIES = ["ecephys", "FIP", "fib", "Hsfp", "ophys", "pophys", "SmartSPIM", "exaspim", "SPIM"]
MODALITIES += ["behavior", "behavior-videos", "newmod", "slap"]
DAYS = ["2025-02-28", "2025-03-01", "2025-03-31", "2024-12-31"]
CLOCKS = ["T09:12:33", " 09:12:33", "T23:59:59.999-08:00", "", "T00:00:00Z", " 00:00:00+01:00"]
SUBJECTS = ["1", "12", "643634", "a b"]
PEOPLE = ["Ada L", "Bo M", "ada l"]
TAGS = ["calibration", "QC ok"]
PROJECTS = ["Foraging", "Platform X", "5"]
RIGS = ["323_EPHYS1", "447-2-B", "7"]


def a_record(dice: random.Random, number: int, plain: set[str]) -> Record:
    """Return a record as one of the generations had it, or a table, or with anything odd."""

    def maybe(top: Record, name: str, value: Any, share: float = 0.8) -> None:
        chance = dice.random()
        if chance < share:
            top[name] = value
        elif chance < share + 0.1:
            top[name] = None

    def one(values: list[Any]) -> Any:
        return dice.choice(values)

    time = one(DAYS) + one(CLOCKS) if dice.random() < 0.9 else one(["Monday", "", 5])
    subject: Any = one(SUBJECTS)
    stamp = f"{one(DAYS)}_0{number % 3}-12-33"
    name = f"{one(['ecephys', 'FIP'])}_{subject}_{stamp}"
    if dice.random() < 0.4:
        name += f"_{one(['sorted', 'nwb'])}_2025-04-0{one([1, 2])}_10-00-00"
    if dice.random() < 0.2:
        name = f"asset{number}"
    made: Record = {"_id": f"{number:03}", "name": name, "location": f"s3://bucket/{number}"}
    kinds = one([["0.5"], ["1.4"], ["imaging"], ["2"], ["dev"], [], ["1.4", "2"], ["imaging", "2"]])
    about: Record = {}
    modality = [one(MODALITIES) for _ in range(dice.randrange(4))]
    for kind in kinds:
        if kind == "0.5":
            written = [f"name='x' abbreviation='{one(MODALITIES)}'"]
            maybe(about, "modality", one([modality, one(MODALITIES), written]))
            number_or_not = int(subject) if subject.isdecimal() and dice.random() < 0.5 else subject
            made["session"] = {"subject_id": number_or_not, "session_start_time": time}
            maybe(made["session"], "experimenter_full_name", one(PEOPLE))
        elif kind in ("1.4", "imaging"):
            maybe(about, "modality", [{"abbreviation": one, "name": "x"} for one in modality])
            start: Record = {}
            maybe(start, "session_start_time", time)
            maybe(start, "experimenter_full_name", [one(PEOPLE), one(PEOPLE)])
            maybe(start, "rig_id" if kind == "1.4" else "instrument_id", one(RIGS))
            made["session" if kind == "1.4" else "acquisition"] = start
            maybe(made, "rig", {"rig_id": one(RIGS)}, 0.3)
            maybe(made, "subject", {"subject_id": subject})
        elif kind == "2":
            maybe(about, "modalities", [{"abbreviation": one} for one in modality])
            maybe(about, "tags", [tag for tag in TAGS if dice.random() < 0.5])
            begun: Record = {"subject_id": subject}
            maybe(begun, "acquisition_start_time", time)
            maybe(begun, "experimenters", one([[one(PEOPLE)], [{"name": one(PEOPLE)}], []]))
            maybe(begun, "instrument_id", one(RIGS))
            made["acquisition"] = begun
            maybe(made, "instrument", {"instrument_id": one(RIGS)}, 0.3)
    if kinds:
        maybe(about, "subject_id", subject)
        maybe(about, "project_name", one(PROJECTS))
        maybe(about, "data_level", one(["raw", "raw data", "derived", "Derived", "simulated"]))
        maybe(about, "input_data_name", one(["x", f"ecephys_{subject}_{stamp}"]), 0.3)
        maybe(about, "source_data", one([[], [f"FIP_{subject}_{stamp}", "y"], [
            f"FIP_{subject}_{stamp}", f"ecephys_1_{DAYS[0]}_00-12-33"]]), 0.3)  # fmt: skip
        made["data_description"] = about
    maybe(made, one(["created", "_created"]), f"2025-05-0{dice.randrange(1, 6)}T00:00:00", 0.7)
    columns = {
        "subject_id": one([subject, 12, 643634.0]),
        "session_start": time,
        "session_day": one(DAYS),
        "session_name": one(["s1", "s2"]),
        "modality": one([modality, one(MODALITIES)]),
        "project_name": one(PROJECTS),
        "data_level": "raw",
        "tags": one([TAGS, "QC ok"]),
        "instrument_id": 7,
        "experimenter": one(PEOPLE),
    }
    for column in sorted(plain):
        maybe(made, column, columns[column])
    return made


VALUES: dict[str, list[Any]] = {
    "project_name": PROJECTS,
    "subject_id": [*SUBJECTS, 12, 643634],
    "modality": [*MODALITIES, "FIB", "oPhys"],
    "data_level": ["raw", "RAW DATA", "derived", "simulated"],
    "session_start": [f"{day}{clock}" for day in DAYS for clock in CLOCKS],
    "session_day": DAYS,
    "instrument_id": [*RIGS, 7],
    "experimenter": PEOPLE,
    "tags": TAGS,
}
PATTERNS: dict[str, list[str]] = {
    "project_name": ["^F", "x"],
    "subject_id": ["^1", "4$", "a b"],
    "modality": ["^SPIM", "phys$", "new", "^fib$", "eph"],
    "data_level": ["^raw$", "er"],
    "session_start": ["^2025-03", "33"],
    "session_day": [
        "^2025", "-01$", "^.*1$", "03", "^2025-03-0[1-9]$", "5.*3", "T", "00$", "[^$0-3]$",
    ],
    "instrument_id": ["^3", "B$", "7"],
    "experimenter": ["^A", "da"],
    "tags": ["ok$", "cal"],
}  # fmt: skip


def a_condition(dice: random.Random, name: str, depth: int = 1) -> Any:
    """Return a condition for a name, at random."""
    some = [*VALUES[name], None]

    def several() -> list[Any]:
        return [dice.choice(some) for _ in range(dice.randrange(4))]

    kinds = ["plain", "$eq", "$ne", "$in", "$nin", "$regex", "$exists"]
    if depth:
        kinds += ["$not", "two"]
    if name in ("modality", "tags"):
        kinds.append("$all")
    if name.startswith("session_"):
        kinds += ["range", "range"]
    kind = dice.choice(kinds)
    if kind == "plain":
        return dice.choice(some)
    if kind == "$not":
        inner = a_condition(dice, name, 0)
        return {"$not": inner if isinstance(inner, dict) else {"$eq": inner}}
    if kind == "two":
        first, second = (a_condition(dice, name, 0) for _ in range(2))
        both = [one if isinstance(one, dict) else {"$eq": one} for one in (first, second)]
        return {**both[0], **both[1]}
    if kind == "range":
        days = [*VALUES[name], *(["2025-03", "2025"] if name == "session_day" else DAYS)]
        found = {dice.choice(["$gt", "$gte"]): dice.choice(days)}
        if dice.random() < 0.6:
            found[dice.choice(["$lt", "$lte"])] = dice.choice(days)
        return found
    if kind == "$regex":
        options = {"$options": "i"} if dice.random() < 0.2 else {}
        return {"$regex": dice.choice(PATTERNS[name]), **options}
    if kind == "$exists":
        return {"$exists": dice.choice([True, False, 1, 0])}
    return {kind: several() if kind in ("$in", "$nin", "$all") else dice.choice(some)}


def a_filter(dice: random.Random, depth: int = 2) -> Record:
    """Return a filter with names in it, at random."""
    query: Record = {}
    for _ in range(dice.randrange(1, 4)):
        if depth and dice.random() < 0.3:
            parts = [a_filter(dice, depth - 1) for _ in range(dice.randrange(1, 3))]
            query[dice.choice(["$and", "$or", "$nor"])] = parts
        elif dice.random() < 0.1:
            query["name"] = {"$regex": "_sorted_"}
        else:
            name = dice.choice(sorted(WHERE))
            query[name] = a_condition(dice, name)
    return query


def some_plain(dice: random.Random) -> set[str]:
    """Return the names that are columns of a table, mostly none."""
    if dice.random() < 0.6:
        return set()
    columns = [*WHERE, "session_name"]
    return set(dice.sample(columns, dice.randrange(1, 4)))
