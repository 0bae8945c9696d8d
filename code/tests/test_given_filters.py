"""Filters and other flags as given or pasted: every form is one, and a fault is one line."""

from __future__ import annotations

import ast
import json
import pprint
import random
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import run_capsule
from conftest import NIGHT, ROOT, Run, fuzz, in_turn, refusal
from dispatch.given import inputs
from dispatch.given.filters import conditions_of, parse_filter, wanted_values
from dispatch.given.values import (
    DEPTH,
    check_values,
    day_after,
    first_day,
    has_field,
    instant,
    lists_on,
    paths_of,
    plain_values,
    rank,
    strings_at,
    value_at,
    values_reached,
)
from dispatch.terminal.messages import BadInput
from standins import DocDB, record
from worlds import QUERIES, Record, world  # noqa: F401  (a fixture)


@pytest.mark.usefixtures("world")
def test_every_form_of_a_query_is_the_same_query(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filter_, _ = QUERIES["subjects"]
    (tmp_path / "data" / "inputs").mkdir()
    (tmp_path / "data" / "inputs" / "in-data.json").write_text(json.dumps(filter_, indent=2))
    (tmp_path / "here.json").write_text("\ufeff" + json.dumps(filter_) + "\r\n", encoding="utf-8")
    (tmp_path / "literal.json").write_text(repr(filter_))
    forms = [
        json.dumps(filter_),
        json.dumps(filter_, indent=4),
        repr(filter_),
        f"  '{json.dumps(filter_)}' ",
        f'"{filter_!r}"',
        json.dumps(json.dumps(filter_)),
        "here.json",
        str(tmp_path / "here.json"),
        "'inputs/in-data.json'",
        "literal.json",
    ]
    monkeypatch.chdir(tmp_path)
    for form in forms:
        words = ["--query", form, f"--input_directory={tmp_path / 'data'}"]
        assert run_capsule.parse_settings(words).own_filter == filter_
    result = run("--query", forms[-1])
    assert result.status == 0, result.log
    assert len(result.tasks()) == 5
    by_older_flag = run(f"--docdb_query={forms[0]}", "--query=", output=tmp_path / "again")
    assert by_older_flag.files() == result.files()


NO_SUFFIX = (
    "--file_extension: must be the end of a name, such as .nwb, without any of / * ? [ ], not"
)
BEGINS = "a filter begins with {, such as "
EMPTIED = "--query: a key is empty; between double quotes, a shell takes"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--query"),
        (["--query="], "--query"),
        (["--query={}", "--max_jobs=0"], "'0'"),
        (["--query={}", "--max_jobs=-3"], "'-3'"),
        (["--query={}", "--max_jobs=ten"], "'ten'"),
        (["--query={}", "--max_jobs", "1.5"], "'1.5'"),
        (["--query={}", "--split_files=2"], "'2'"),
        (["--query={}", "--docdb_version=3"], "'3'"),
        (["--query={}", "--max=3"], "--max"),
        (["--query={}", "stray"], "stray"),
        (["--query=query.jsn"], "there is no file 'query.jsn', here, in "),
        (["--query=subject.subject_id=774659"], f'{BEGINS}{{"subject.subject_id":"774659"}}'),
        (["--query=ecephys_1_2025"], f'{BEGINS}{{"name":"ecephys_1_2025"}}'),
        (['--query={"a": {"": 5}}'], EMPTIED),
        (["--query={'': 5}"], EMPTIED),
        (['--query={"": 5, "b": 1}'], EMPTIED),
        (["--query=[1]"], "list"),
        (['--query={"a": 1,, }'], "column"),
        (["--query={'a': 1,, }"], "column"),
        (["--query={'a': true}"], "line 1"),
        (['--query={"a": {"b": 1}'], "column"),
        (['--query={"a": NaN}'], "--query"),
        (["--query={'a': {1, 2}}"], "--query"),
        (['--query={"a": 1, "a": 2}'], "'a' appears twice"),
        (["--query={'a': [{'b': 1, 'b': 2}]}"], "'b' appears twice"),
        (['--query={"a": 1, "a": 2,}'], "'a' appears twice"),
        (["--query={1: 2}"], "key 1"),
        (['--query={"a": {"$in": ["b" "c"]}}'], "Expecting ',' delimiter: line 1 column 20"),
        (["--query={'a': {'$in': ['b'\n 'c']}}"], "a comma is missing between two strings"),
        (["--query={'a': {'$in': ['b' # one\r\n 'c']}}"], "a comma is missing between two"),
        (['--query={"a":' + '{"a":' * 120 + "1" + "}" * 121], "100 deep"),
        (['--query={"a":' + '{"a":' * 980 + "1" + "}" * 981], "--query"),
        (["--query={}", "--docdb_snapshot=" + "x" * 300], "xxx...'"),
        (["--use_data_asset_csv=1", "--input_directory=" + "x" * 300], "--input_directory"),
        (['--query={"a":' * 1 + '{"a":' * 5000], "--query"),
        (["--query=" + "x" * 20_000], "--query"),
        (["--query=."], "'.'"),
        (["--query={}", "--project_name=\udcff"], "UTF-8"),
        (["--query={}", "--subject_id=a,\udcff"], "UTF-8"),
        (["--query={}", "--group_by=\udcff"], "UTF-8"),
        (["--query={}", "--filter_latest=created"], "--filter_by"),
        (["--query={}", "--filter_by=created"], "--filter_latest"),
        (["--query={}", "--filter_latest=a,b", "--filter_by=c"], "one field"),
        (["--query={}", "--group_by=a..b"], "'a..b'"),
        (["--query={}", "--group_by=$a"], "'$a'"),
        (["--query={}", "--group_by=a.b,a__b"], "__"),
        (["--query={}", "--group_by=,"], "','"),
        (["--query={}", "--drop_null_groups=2"], "'2'"),
        (["--query={}", "--data_level=cooked"], "raw or derived"),
        (["--query={}", "--max_tasks=-1"], "'-1'"),
        (["--query={}", "--tasks_per_job=0"], "'0'"),
        (["--query={}", "--balance_by=weight"], "count or size"),
        (["--query={}", "--balance_by=size"], "--file_extension"),
        (["--query={}", "--file_extension=*.nwb"], f"{NO_SUFFIX} '*.nwb'"),
        (["--query={}", "--file_extension=a/b.nwb"], f"{NO_SUFFIX} 'a/b.nwb'"),
        (["--query={}", "--file_extension=.nw?"], f"{NO_SUFFIX} '.nw?'"),
        (["--query={}", "--file_extension=[ab].nwb"], f"{NO_SUFFIX} '[ab].nwb'"),
    ],
)
def test_bad_flags_are_told_in_one_line(flags: list[str], words: str) -> None:
    assert words in refusal(*flags)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--output_directory=/dev/null", "/dev/null is not a folder"),
        ("--project_name=\udcff", "UTF-8"),
        ("--max_jobs=0", "'0'"),
        ("--session_has={name: 1}", "--session_has: write names in quotes"),
    ],
)
def test_a_run_with_bad_flags_says_nothing_else(flag: str, words: str, run: Run) -> None:
    result = run("--query={}", flag)
    assert result.status == 2, result.log
    assert result.log.startswith("error: ")
    assert words in result.log
    assert result.log.count("\n") == 1
    assert result.stdout == ""
    assert not (result.output.parent / "results").exists()


def test_blank_values_mean_the_default(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a"))
    flags = [f"{name}=" for name in run_capsule.make_parser()[1]]
    blank = [flag for flag in flags if "directory" not in flag and flag != "--query="]
    result = run(*blank, "--query={}", "--max_jobs", " 1 ", "--num_parallel_workers=")
    assert result.status == 0, result.log
    assert result.tasks()[0]["file_location"] is None


@pytest.mark.parametrize(
    "query",
    [
        pytest.param({"name": {"$in": ["a", "x" * 20_000]}}, id="longer than a path"),
        # empty strings that are no keys
        {"a": ["", ",", ""]},
        {"name": {"$ne": '{"":'}},
        {",": ""},
        {"a,": ""},
    ],
)
def test_an_odd_query_is_read_as_it_stands(query: Record) -> None:
    words = [f"--query={json.dumps(query)}"]
    assert run_capsule.parse_settings(words).own_filter == query


strings = st.one_of(
    st.text(max_size=60),
    st.text("{}[]\"':,\\ntrueNa01.$-", max_size=40).map(lambda string: "{" + string),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    ).map(repr),
    st.sampled_from(["{" * 5000, '{"a":' * 2000, "{1:" + "-" * 5000 + "1}", "{1: 1j}", "{b'': 1}"]),
)


@settings(max_examples=100 if NIGHT else 50)
@given(string=strings)
def test_reading_a_query_raises_nothing_but_bad_input(string: str) -> None:
    try:
        query = inputs.read_query(string, ROOT / "data")
    except BadInput:
        return
    assert isinstance(query, dict)
    json.dumps(query, allow_nan=False).encode()


@settings(max_examples=100 if NIGHT else 50)
@given(
    query=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
        st.integers() | st.text(st.characters(exclude_categories=["Cs"])) | st.none(),
    )
)
def test_a_query_reads_the_same_as_json_as_literal_and_in_quotes(query: Record) -> None:
    for string in (json.dumps(query), repr(query), f"'{json.dumps(query)}'", f'"{query!r}"'):
        assert inputs.read_query(string, ROOT / "data") == query


@pytest.mark.parametrize(
    ("query", "words", "way"),
    in_turn([
        ('[{"$match": {"name": "a"}}]', "give what stands behind $match"),
        ("[{'$match': {'name': 'a'}}, {'$limit': 3}]", "give what stands behind $match"),
        ('{"$match": {"name": "a"}}', "give what stands behind $match"),
        ('query = {"name": "a"}', "take away 'query ='"),
        ('filter_query={"name": "a"}', "take away 'filter_query='"),
        ("filter = {\n  'name': 'a',\n}", "take away 'filter ='"),
        ('{"name": "a"},', "take away the ',' at the end"),
        ("{'name': 'a'},", "take away the ',' at the end"),
        ('{"subject.subject_id": str(774659)}', "write the value itself, in place of str(...)"),
        ('{"subject.subject_id": subject_id}', "write the value itself, in place of subject_id"),
        ("{'a': {'$in': subjects}}", "write the value itself, in place of subjects"),
        ("{'a': f'{subject}_x'}", "write a plain string, with the values in it"),
        ("{'a': 'x'\n 'b': 'y'}", "a comma is missing between two strings, before 'b'"),
        ("{'a': ['x' 'y']}", "a comma is missing between two strings, before 'y'"),
        ("{'a': ['x'\n'y']}", "a comma is missing between two strings, before 'y'"),
    ], ["flag", "file"]),
)  # fmt: skip
def test_what_a_filter_is_not_is_told(way: str, query: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "query.json").write_text(query)
    value = query if way == "flag" else "query.json"
    assert words in refusal(f"--query={value}", f"--input_directory={tmp_path}")


@pytest.mark.parametrize(
    ("string", "words"),
    [
        ("{'created': {'$gt': datetime.datetime(2025, 3, 1)}}",
         "write the date as a string, such as \"2025-03-04T09:12:33\", in place of"
         " datetime.datetime(...)"),
        ('{"created": {"$gt": ISODate("2025-03-01")}}', "in place of ISODate(...)"),
        ('{"created": new Date(2025)}', "in place of new Date(...)"),
        ("{'_id': ObjectId('5f')}", "write the id as a string, in quotes, in place of ObjectId("),
        ("{'name': re.compile('^ecephys')}", '{"$regex": "..."}, in place of re.compile(...)'),
        ('{"name": /^ecephys/}', '{"$regex": "..."}'),
        ('{"n": NumberLong(5)}', "write the number alone, in place of NumberLong(...)"),
        ("{\u201cname\u201d: \u201ca\u201d}", "write straight quotes, in place of \u201c"),
        ('{name: "a"}', 'write names in quotes, such as {"name": ...}, in place of name:'),
        ('{"a": {subject_id: "a"}}', "in place of subject_id:"),
        ("{'a': true}", "in place of true"),
    ],
)  # fmt: skip
def test_what_programs_and_shells_write_is_named(string: str, words: str) -> None:
    said = refusal(f"--query={string}")
    assert words in said
    assert said.startswith("--query: write ")


def test_only_of_what_could_be_a_filter_is_said_how_one_begins() -> None:
    for value, is_told in (("behavior_7", True), ("no.json", False), ("nowhere/query", False)):
        assert (BEGINS in refusal(f"--query={value}")) == is_told


def test_what_stands_in_quotes_is_not_advised_on() -> None:
    assert "write" not in refusal('--query={"name": "a date(1) and true, b: ObjectId(", "x" 5}')


def test_the_conditions_of_a_filter_are_those_of_its_branches() -> None:
    branches = [{"b": 2}, {"c": [{"d": 3}]}, "no filter"]
    query = {"$and": [{"a": 1}, {"$or": branches}], "$nor": [{"e": 4}], "f": 5}
    found = [{"a": 1}, {"b": 2}, {"c": [{"d": 3}]}, {"$nor": [{"e": 4}]}, {"f": 5}]
    assert [*conditions_of(query)] == found


@pytest.mark.parametrize(("wanted", "values"), [
    ("a", ["a"]), (7, [7]), (0.5, [0.5]), (None, []), (["a"], []), ({"$eq": "a"}, ["a"]),
    ({"$in": ["a", 7, None, ["b"]]}, ["a", 7]), ({"$in": "a"}, []), ({"$ne": "a"}, []), ({}, []),
])  # fmt: skip
def test_the_values_that_a_condition_asks_for_are_strings_and_numbers(
    wanted: Any, values: list[Any]
) -> None:
    assert wanted_values(wanted) == values


def test_a_filter_that_pprint_has_split_is_the_same_filter() -> None:
    def check(value: list[str], width: int) -> None:
        query = {"name": {"$in": value}, "$comment": " ".join(value)}
        string = pprint.pformat(query, width=width)
        assert ast.literal_eval(string) == query
        assert parse_filter(string, "--query") == query

    words = st.lists(st.text("ab: ,{}\t'\"\n\\", max_size=9), max_size=6).map(" ".join)
    fuzz(check, value=st.lists(words, max_size=4), width=st.integers(1, 80))


def test_a_value_over_lines_is_one_string() -> None:
    query = "{'name': {'$regex': '^ecephys'\n   '.*sorted'}}"
    assert parse_filter(query, "--query") == {"name": {"$regex": "^ecephys.*sorted"}}


# ------------------------------------------------------------------------------------------- values

# one kind after the other, as MongoDB orders them
ORDERED: list[Any] = [
    *(None, -1, 0, 0.5, 2, "", "a", "b"),
    *({"a": 1}, {"a": 1, "b": 0}, {"a": 2}, {"b": 0}, [], [None], [1], ["a"], [{"a": 1}], [[1]]),
    *(False, True),
]


def test_values_are_ordered_as_mongodb_orders_them() -> None:
    for _ in range(20):
        shuffled = random.sample(ORDERED, len(ORDERED))
        assert list(map(repr, sorted(shuffled, key=rank))) == list(map(repr, ORDERED))
    assert rank(float("nan")) == rank(None)


def test_values_may_be_nested_as_deeply_as_mongodb_lets_them() -> None:
    value: Any = 1
    for _ in range(DEPTH):
        value = [value]
    check_values(value, "it")
    with pytest.raises(BadInput, match="it is nested more than 100 deep"):
        check_values([value], "it")


@pytest.mark.parametrize(
    ("value", "path", "is_there", "lists"),
    [
        ({"a": None}, "a", True, []),
        ({}, "a", False, []),
        ({"a": 1}, "a.b", False, []),
        ({"a": {"b": 1}}, "a.b", True, []),
        ({"a": [{"b": [1]}]}, "a.b", True, [[{"b": [1]}], [1]]),
        ({"a": [{"c": 1}, 2]}, "a.b", False, [[{"c": 1}, 2]]),
        ({"a": []}, "a", True, [[]]),
        ({"a": []}, "a.b", False, [[]]),
    ],
)
def test_a_field_is_there_or_not_and_lists_lead_to_it(
    value: Any, path: str, is_there: bool, lists: list[Any]
) -> None:
    assert has_field(value, path.split(".")) == is_there
    assert list(lists_on(value, path.split("."))) == lists


def test_paths_and_values_are_found_in_lists() -> None:
    one = {"a": [{"b": 1}, {"c": [{"d": [2, ["x"]]}, {"d": "x"}, "y"]}], "e": {}, "f": [3, [4, {}]]}
    assert [*paths_of(one)] == ["a", "a.b", "a.c", "a.c.d", "a.c.d", "e", "f"]
    assert values_reached(one, "a.c.d") == [2, ["x"], "x"]
    assert values_reached({"a": [[{"b": 1}]]}, "a.b") == []  # as MongoDB, through no lists in lists
    assert strings_at({"c": [{"d": ["x", 1]}, {"d": "x"}, {"d": "y"}]}, "c.d") == ["x", "y"]
    assert sorted(plain_values(one, "f")) == [3, 4]
    assert value_at({"a": [{"b": 1}, 2, {"c": 3}]}, "a.b") == [1]
    assert value_at(one, "a.b.c", missing=None) == []
    assert value_at(one, "e.f", missing=None) is None


def test_a_day_a_month_and_a_year_begin_and_end_as_in_the_calendar() -> None:
    def check(day: date) -> None:
        assert first_day(f"{day}") == f"{day}"
        assert day_after(f"{day}") == f"{day + timedelta(days=1)}"
        month = day.replace(day=1)
        assert first_day(f"{day:%Y-%m}") == f"{month}"
        assert day_after(f"{day:%Y-%m}") == f"{(month + timedelta(days=31)).replace(day=1)}"
        year = date(day.year, 1, 1)
        assert first_day(f"{day:%Y}") == f"{year}"
        assert day_after(f"{day:%Y}") == f"{(year + timedelta(days=366)).replace(day=1)}"

    fuzz(check, 0.025, day=st.dates(date(1000, 1, 1), date(2999, 12, 31)))
    for wrong in ("2025-02-30", "2025-13", "2025-00-01", "25", "2025-1"):
        assert first_day(wrong) == ""


def test_a_time_is_told_as_datetime_reads_it_in_utc() -> None:
    def check(moment: datetime, hours: int, utc: str) -> None:
        told = instant(f"{moment.isoformat()}{f'{hours:+03}:00' if hours else utc}")
        fraction = f"{moment.microsecond:06}".rstrip("0")
        there = moment.replace(microsecond=0) - timedelta(hours=hours)
        assert told == (there, fraction)

    fuzz(
        check,
        0.025,
        moment=st.datetimes(datetime(1000, 1, 1), datetime(2999, 12, 31)),
        hours=st.integers(-12, 14),
        utc=st.sampled_from(["", "Z", "z", "+00:00", "+0000"]),
    )


@pytest.mark.parametrize(
    ("string", "told"),
    [
        ("2025-03-04T24:00:00", datetime(2025, 3, 5)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1)),
        ("2025-03-04", datetime(2025, 3, 4)),
        ("9999-12-31T23:00:00-12:00", None),  # later than a datetime can be
        ("0001-01-01T00:00:00+14:00", None),
        ("2025-02-30", None),
        ("2025-03-04T25:00", None),
        ("yesterday", None),
        (20250304, None),
    ],
)
def test_a_time_that_datetime_does_not_read_is_told_or_none(
    string: Any, told: datetime | None
) -> None:
    assert instant(string) == (told and (told, ""))
