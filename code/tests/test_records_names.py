"""Names find what is meant, in every shape and generation, as a slow reference finds it."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from chosen import WAYS, Ask, Record, ask, names  # noqa: F401  (a fixture)
from conftest import REAL_RECORDS, Result, Run, fuzz, in_turn, refusal, some
from dispatch.records.named import Named
from dispatch.records.schema import LEVELS, MODALITIES, MODALITY, NAMES, TIMES
from dispatch.records.snapshot import Snapshot
from dispatch.records.times import for_the_day
from dispatch.records.vocabulary import in_full, untold
from dispatch.terminal.messages import BadInput
from reference import matches
from standins import DocDB, record
from vocabularies import SEVERAL, WHERE, a_filter, a_record, answers, some_plain, value_of


def about(**description: Any) -> Record:
    return {"data_description": description}


# One record for each shape in the tables of aind-metadata-upgrader, with what it is today.
SHAPES: dict[str, tuple[Record, str]] = {
    "objects": (about(modality=[{"abbreviation": "ecephys", "name": "x"}]), "ecephys"),
    "objects of schema 2": (about(modalities=[{"abbreviation": "ecephys"}]), "ecephys"),
    "one object": (about(modality={"abbreviation": "ecephys"}), "ecephys"),
    "one object of schema 2": (about(modalities={"abbreviation": "ecephys"}), "ecephys"),
    "strings": (about(modality=["behavior", "ecephys"]), "ecephys"),
    "one string": (about(modality="ecephys"), "ecephys"),
    "written out": (
        about(modality=["name='Extracellular electrophysiology' abbreviation='ecephys'"]),
        "ecephys",
    ),
    "written out alone": (about(modality='name="Fiber" abbreviation="fib"'), "fib"),
    "older abbreviation": (about(modality=[{"abbreviation": "ophys"}]), "pophys"),
    "both": (about(modality=None, modalities=[{"abbreviation": "slap"}]), "slap2"),
}
for today, older in MODALITIES.items():
    for spelt in older:
        SHAPES[f"{spelt} as a string"] = (about(modality=spelt), today)
        SHAPES[f"{spelt} in a list"] = (about(modality=[spelt.swapcase()]), today)
        SHAPES[f"{spelt} as an abbreviation"] = (about(modality=[{"abbreviation": spelt}]), today)
UNTOLD: dict[str, Record] = {
    "nothing": {},
    "null": about(modality=None),
    "an empty list": about(modality=[]),
    "a number": about(modality=5),
    "no abbreviation": about(modality=[{"name": "Fiber photometry"}]),
    "an unknown string": about(modality="SmartSpimmer"),
}


def chosen(result: Result) -> set[str]:
    """Return the names of the assets that a run chose, if any."""
    assert result.status == 0 or "nothing to dispatch: 0 records matched" in result.error
    return set(names(result))


def chosen_by(condition: Record, records: list[Record]) -> set[str]:
    """Return the names of the records that meet a condition for a name."""
    query = in_full(condition, NAMES)
    return {one["name"] for one in records if matches(query, one)}


@pytest.mark.parametrize(("version", "ask"), in_turn(["v1", "v2"], WAYS), indirect=["ask"])
def test_a_modality_is_found_in_every_shape(version: str, ask: Ask) -> None:
    records = [{**record(name), **shape} for name, (shape, _) in SHAPES.items()]
    records += [{**record(name), **shape} for name, shape in UNTOLD.items()]
    modalities = ("ecephys", "SPIM", "fib", "pophys", "MRI", "slap2", "merfish")
    for modality in modalities:
        expected = {name for name, (_, today) in SHAPES.items() if today == modality}
        assert chosen_by({"modality": modality}, records) == expected
        if modality not in some(modalities, 2):
            continue
        result = ask(records, f"--modality={modality}", f"--docdb_version={version}")
        assert chosen(result) == expected
        untold = re.findall("left out, its modality cannot be told: (.*) \\(record", result.log)
        assert set(untold) == UNTOLD.keys()
    assert "an unknown string (record id-an unknown string): data_description." in result.log
    several = ask(records, "--modality=fib,SPIM,ecephis")
    assert chosen(several) == {n for n, (_, today) in SHAPES.items() if today in ("fib", "SPIM")}
    assert "no record has this modality: ecephis" in several.log
    assert "1 skipped" in several.error
    unknown = {**record("new"), **about(modality='name="X" abbreviation="x-ray"')}
    assert chosen_by({"modality": "x-ray"}, [unknown]) == {"new"}


def test_a_data_level_is_found_as_it_was_called(ask: Ask) -> None:
    spelt = ["raw", *LEVELS["raw"], "derived", *LEVELS["derived"], "simulated", None, "cooked"]
    records = [{**record(f"{said}"), **about(data_level=said)} for said in spelt]
    for level, others in LEVELS.items():
        if level != "simulated":
            result = ask(records, f"--data_level={level}")
            assert chosen(result) == {level, *others}
            untold = re.findall("its data level cannot be told: (.*) \\(record", result.log)
            assert untold == ["None", "cooked"] or untold == ["cooked", "None"]
    assert ask(records, "--data_level=raw", "--strict=1").status == 0


SPIMS = ["SmartSPIM", "exaSPIM", "SPIM"]
RAW = ["raw", "raw data"]


@pytest.mark.parametrize(
    ("flag", "found", "others"),
    [
        ("--modality=SmartSPIM,ecephys", [*SPIMS, "ecephys"], []),
        ("--modality=exaspim,ecephys", [*SPIMS, "ecephys"], []),
        ("--modality=spim,ecephys", [*SPIMS, "ecephys"], []),
        ("--query={'modality': {'$in': ['MESOSPIM']}}", SPIMS, ["ecephys"]),
        ("--modality=newmod", ["newmod"], ["older", "fib"]),
        ("--data_level=Raw", RAW, ["derived"]),
        ("--data_level=raw data", RAW, ["derived"]),
        ("--query={'data_level': 'RAW'}", RAW, ["derived"]),
    ],
)
def test_a_value_is_found_as_older_records_and_those_of_today_call_it(
    flag: str, found: list[str], others: list[str], ask: Ask
) -> None:
    field = "data_level" if "data_level" in flag else "modality"
    records = [{**record(said), **about(**{field: said})} for said in (*found, *others)]
    result = ask(records, flag)
    assert chosen(result) == set(found)
    assert "no record has this" not in result.log
    assert re.findall("cannot be told: (\\w+)", result.log) == others[:-1]  # what no table has


def test_a_subject_is_found_wherever_it_stands_and_who_has_none_is_named(ask: Ask) -> None:
    places = {
        "subject": {"subject": {"subject_id": "7"}},
        "description": about(subject_id="7"),
        "session": {"session": {"subject_id": 7}},
        "acquisition": {"acquisition": {"subject_id": "7"}, "subject": None},
        "procedures": {"procedures": {"subject_id": "7"}},
    }
    records = [{**record(name), **place} for name, place in places.items()]
    records += [record(f"none{n:02}", subject={}) for n in range(23)]
    records += [record("another", subject={"subject_id": "8"})]
    records += [record("a number", session={"subject_id": 8})]
    result = ask(records, "--subject_id=7", "--strict=1")
    assert chosen(result) == places.keys()
    untold = re.findall("left out, its subject cannot be told: (.*)", result.log)
    assert len(untold) == 21
    assert untold[0] == "none00 (record id-none00): no subject_id"
    assert untold[-1] == "and 3 more"
    assert "skipped, no record has this subject_id: 9" in ask(records, "--subject_id=7,9").log


def test_a_record_that_tells_neither_of_two_is_named_once(ask: Ask) -> None:
    day = {"session": {"session_start_time": "2025-03-04T10:00:00"}}
    records = [
        {**record("both"), **about(modality="fib"), **day},
        {**record("neither")},
        {**record("day"), **day},
        {**record("modality"), **about(modality="fib")},
        {**record("early"), "session": {"session_start_time": "2024-03-04T10:00:00"}},
        {**record("other"), **about(modality="ecephys", project_name="x")},
    ]
    result = ask(records, "--modality=fib", "--session_from=2025", "--project_name=x")
    assert chosen(result) == set()
    result = ask(records, "--modality=fib", "--session_from=2025")
    assert chosen(result) == {"both"}
    assert sorted(re.findall("its (.*) cannot be told: (\\w+)", result.log)) == [
        ("modality", "day"),
        ("modality", "neither"),
        ("session date", "modality"),
    ]


def test_the_filter_in_the_log_gives_the_same_assets(ask: Ask) -> None:
    records = [{**record(name), **shape} for name, (shape, _) in SHAPES.items()]
    records = [{**one, "subject": {"subject_id": "1"}} for one in records]
    flags = ["--modality=SPIM,fib", "--subject_id=1", "--query={'name': {'$ne': 'x'}}"]
    by_flags = ask(records, *flags)
    tasks = by_flags.tasks()
    assert tasks
    [shown] = re.findall("the filter: (.*)", by_flags.log)
    assert ask(records, f"--query={shown}").tasks() == tasks


def real(name: str) -> list[Record]:
    path = REAL_RECORDS.with_name(name)
    if not path.exists():
        pytest.skip(f"the real records are not at {path}")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_real_records_of_all_generations_are_found(ask: Ask) -> None:
    both = real("docdb_records_v1.jsonl") + real("docdb_records.jsonl")
    records = list({one["_id"]: one for one in both}.values())
    for flag, facet in (("modality", MODALITY), ("data_level", NAMES["data_level"])):
        for value in facet.spellings:
            if flag == "data_level" and value == "simulated":
                continue
            said = {one["name"] for one in records if value in facet.values_in(one)}
            assert chosen_by({flag: value}, records) == said
            if value in some(facet.spellings, 2):
                assert chosen(ask(records, f"--{flag}={value}")) == said
    assert {one["name"] for one in real("docdb_records_v1.jsonl")} == {
        one["name"] for one in real("docdb_records_v1.jsonl") if MODALITY.values_in(one)
    }


STRINGS = st.sampled_from(
    ["ecephys", "SPIM", "smartspim", "SMARTSPIM", "x", "", "abbreviation='fib'", "fib", "ophys"]
)
ANY = st.none() | st.integers() | STRINGS
OBJECTS = st.dictionaries(
    st.sampled_from(["abbreviation", "name"]), ANY | st.lists(ANY, max_size=2)
)
HELD = ANY | OBJECTS | st.lists(ANY | OBJECTS) | st.lists(st.lists(OBJECTS))


def test_what_a_record_says_and_what_the_filter_asks_agree() -> None:
    def check(held: Record, value: str) -> None:
        one = {"_id": "a", "data_description": held}
        spelt = {string.lower() for string in (value, *MODALITIES.get(value, ()))}
        *objects, strings, others = MODALITY.strings_in(one)
        said = {string.lower() for held in (*objects, strings, others) for string in held}
        said |= set(re.findall("abbreviation='(\\w+)'", " ".join([*strings, *others])))
        assert matches(in_full({"modality": value}, NAMES), one) == bool(said & spelt)
        known = {*MODALITIES, *(name for names in MODALITIES.values() for name in names)}
        known = {string.lower() for string in known}
        assert matches(untold(MODALITY, value), one) == (not said & known)

    fuzz(
        check,
        0.025,
        held=st.dictionaries(st.sampled_from(["modality", "modalities"]), HELD),
        value=st.sampled_from(["ecephys", "SPIM", "fib", "pophys", "behavior"]),
    )


def test_a_field_that_others_hold_elsewhere_is_told(ask: Ask) -> None:
    one, two = [{"abbreviation": "ecephys"}], [{"abbreviation": "fib"}]
    records = [{**record(f"a{n}"), **about(modality=one)} for n in range(2)]
    records += [{**record(f"b{n}"), **about(modalities=two)} for n in range(3)]
    start = "2025-03-04T09:12:33"
    for number, each in enumerate(records):
        each.pop("session", None)
        top = ("session", "acquisition")[number % 2]
        each[top] = {f"{top}_start_time": start}
    field = MODALITY.paths[0]
    result = ask(records, "--query={}", f"--group_by={field}")
    assert chosen(result) == {"a0", "a1"}
    advice = f"--group_by {field}: 3 of these records have data_description.modalities instead"
    assert advice in result.log
    result = ask(records, "--query={}", f"--group_by={TIMES[1]}")
    assert f"{TIMES[1]}: 3 of these records have {TIMES[0]} instead" in result.log
    assert f"--group_by {NAMES['session_start'].name} finds it in every record" in result.log
    assert "instead" not in ask(records, "--query={}", "--group_by=name").log
    # a session is not what such a field holds, but told by it
    raw = record("ecephys_1_2025-03-04_09-12-33")
    derived = {**record("b"), "data_description": {"input_data_name": raw["name"]}}
    result = ask([raw, derived], "--query={}", "--group_by=data_description.input_data_name")
    assert result.status == 0, result.log
    assert "finds it in every record" not in result.log


def test_a_number_in_a_path_is_refused_where_it_means_nothing(ask: Ask) -> None:
    assert ask([record("a", g=[{"b": 1}])], "--query={'g.0.b': 1}").status == 0
    for flags in (["--group_by=g.0.b"], ["--filter_latest=g.0.b", "--filter_by=name"],
                  ["--group_by=g", "--unwind_list_fields=g.0"]):  # fmt: skip
        assert "must be fields without a number" in refusal("--query={}", *flags)


def test_ids_of_a_flag_choose_as_those_of_the_csv_do(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(
        record("a", external_links={"Code Ocean": ["first", "second"]}), record("b"), record("c")
    )
    ids = ["co-c", "nobody's", "second", "co-c"]
    (tmp_path / "data" / "data_asset_input.csv").write_text("\n".join(["asset_id", *ids]))
    by_csv = run("--use_data_asset_csv=1")
    by_flag = run(f"--asset_id={json.dumps(ids)}", output=tmp_path / "flag")
    assert by_flag.status == 0, by_flag.log
    assert by_flag.tasks() == by_csv.tasks()
    assert [task["asset_id"] for task in by_flag.tasks()] == [["co-c"], ["second"]]
    assert "nobody's" in by_flag.log
    other = run("--asset_id=co-b", "--subject_id=1", "--overwrite=1")
    assert [task["asset_name"] for task in other.tasks()] == [["b"]]
    assert "--subject_id is not used: --asset says which assets" in other.log
    both = refusal("--asset_id=co-b", "--use_data_asset_csv=1")
    assert "--use_data_asset_csv and --asset each say which assets" in both


# --------------------------------------------------------------------------------- by the reference


def a_world(number: int) -> tuple[random.Random, set[str], list[Record]]:
    """Return what to draw with, and records, some of whose names are columns of a table."""
    dice = random.Random(number)  # noqa: S311
    plain = some_plain(dice)
    records = [a_record(dice, place, plain) for place in range(25)]
    found = set().union(*records)
    return dice, plain & found, records


def test_a_filter_with_names_finds_what_the_reference_finds() -> None:
    def check(number: int) -> None:
        dice, plain, records = a_world(number)
        database = Named(Snapshot(records, Path()), plain)
        for _ in range(5):
            query = a_filter(dice)
            expected = [one["_id"] for one in records if answers(query, one, plain)]
            asked = database.in_full(query)
            assert not set(WHERE) & (set(names_of(asked)) - plain), query
            said = (query, asked)
            assert [one["_id"] for one in records if matches(asked, one)] == expected, said
            [page] = database.find(query, ["_id"])
            assert [one["_id"] for one in page] == expected, said
            assert database.in_full(asked) == asked or plain, said

    fuzz(check, 0.15, number=st.integers(0, 2**48))


def names_of(query: Record) -> list[str]:
    """Return the keys of a filter and of the filters in it."""
    found = list(query)
    for parts in query.values():
        if isinstance(parts, list):
            for part in parts:
                found += names_of(part) if isinstance(part, dict) else []
    return found


def test_a_record_answers_to_a_name_as_the_reference_says() -> None:
    def check(number: int) -> None:
        _, plain, records = a_world(number)
        names = Named(Snapshot(records, Path()), plain).names
        for one in records:
            for name in [*WHERE, "session_name"]:
                found = names[name].value_in(one)
                expected = value_of(name, one, plain)
                assert (found if isinstance(found, str | list) else None) == expected, (name, one)
                assert expected is None or isinstance(expected, list) or name not in SEVERAL

    fuzz(check, number=st.integers(0, 2**48))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"subject_id": {"$gt": "1"}}, "subject_id"),
        ({"subject_id": ["1", "2"]}, "subject_id"),
        ({"subject_id": {"$all": ["1"]}}, "subject_id"),
        ({"subject_id": {"a": 1}}, "subject_id"),
        ({"subject_id": {}}, "subject_id"),
        ({"subject_id": {"$in": "1"}}, "subject_id"),
        ({"subject_id": {"$in": [["1"]]}}, "subject_id"),
        ({"subject_id": True}, "subject_id"),
        ({"tags": {"$size": 2}}, "tags"),
        ({"modality": {"$elemMatch": {"abbreviation": "fib"}}}, "modality"),
        ({"modality": {"$not": "fib"}}, "modality"),
        ({"modality": {"$options": "i"}}, "modality"),
        ({"$or": [{"$and": [{"modality": {"$not": {"$gt": "a"}}}]}]}, "modality"),
        ({"session_day": "2025-03"}, '"2025-03-04"'),
        ({"session_day": {"$gte": "2025-03-01T10:00:00"}}, '"2025-03-04"'),
        ({"session_day": {"$gte": "spring"}}, '"2025-03-04"'),
        ({"session_day": {"$gte": 2025}}, '"2025-03-04"'),
        ({"session_day": {"$lt": None}}, '"2025-03-04"'),
        ({"session_start": {"$lt": "03/04/2025"}}, '"2025-03-04T09:12:33"'),
        ({"session_name": "ecephys_1_2025-03-04_09-12-33"}, '{"name":{"$regex":"^ecephys_1_'),
    ],
)
def test_what_a_name_does_not_understand_is_bad_input(query: Record, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        in_full(query, NAMES)
    assert words in str(caught.value)
    assert "write" in str(caught.value)
    assert next(name for name in (*WHERE, "session_name") if name in json.dumps(query)) in str(
        caught.value
    )


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"name": "a", "$comment": "x"},
        {"subject": {"subject_id": "1"}},
        {"subject.subject_id": {"$gt": "1"}},
        {"subject": {"$elemMatch": {"subject_id": "1"}}},
        {"created": {"$gte": "2025"}},
        {"$or": [{"a": 1}, {"$nor": [{"modality.0": 1}]}]},
    ],
)
def test_a_filter_without_names_is_asked_as_it_is(query: Record) -> None:
    assert in_full(query, NAMES) is query


def test_a_filter_of_one_name_with_one_path_stays_short() -> None:
    both = ["x", "y"]
    for wanted in ("x", None, {"$ne": "x"}, {"$in": both}, {"$nin": both}):
        found = in_full({"project_name": wanted}, NAMES)
        assert found == {"data_description.project_name": wanted}


# Some of a day: where it begins and ends, in a class or as a letter, and what may be there.
PIECES = [
    "^", "$", "2025", "-", "0", "[^$0-3]", "[]$]", "\\$", "\\d",
    ".", ".*", "|", "4", "(?:3|$)",
]  # fmt: skip


def test_a_pattern_finds_in_a_time_what_it_finds_in_its_day() -> None:
    def check(pieces: list[str], day: str) -> None:
        pattern = "".join(pieces)
        found = re.search(pattern, day)
        assert bool(re.search(for_the_day(pattern), f"{day}T10:20:30")) == bool(found)

    check(["[^$0-3]$"], "2025-03-04")
    days = st.dates().map(str)
    fuzz(check, 0.025, pieces=st.lists(st.sampled_from(PIECES), min_size=1), day=days)
