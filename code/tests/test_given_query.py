"""Queries and flags as they are given: every form is the same query, faults are one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import run_capsule
from conftest import NIGHT, ROOT, Run
from dispatch.given import inputs
from dispatch.terminal.messages import BadInput
from flags_helpers import refusal
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
