"""Flags as people, app panels and pipelines write them."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import run_capsule
from conftest import NIGHT, Run
from dispatch.given.flags import (
    to_date,
    to_input_folder,
    to_level,
    to_measure,
    to_number,
    to_positive,
    to_switch,
    to_version,
)
from dispatch.given.lists import to_bytes
from dispatch.settings import Settings
from dispatch.terminal.messages import BadInput
from flags_helpers import refusal, world  # noqa: F401  (a fixture)
from standins import DocDB, record


@pytest.mark.usefixtures("world")
def test_a_switch_is_written_as_people_and_app_panels_do(run: Run) -> None:
    for means, spellings in {
        True: ("1", "true", "True", "TRUE", "yes", "Yes", " 1 ", "'true'", '" YES "', ""),
        False: ("0", "false", "False", "no", "NO", "'0'"),
    }.items():
        for split in spellings:
            assert run_capsule.parse_flags([f"--split_files={split}"])["split_files"] is means
    for wrong in ("2", "tru", "on", "None", "[true]", "1 0"):
        said = refusal("--query={}", f"--split_files={wrong}")
        assert f"must be 0 or 1, false or true, no or yes, not {wrong!r}" in said
    for split, number in (('" YES "', 8), ("'0'", 4)):
        flags = (f"--split_files={split}", "--use_data_asset_csv=false", "--overwrite=True")
        result = run("--query={}", "--file_extension=nwb", *flags)
        assert result.status == 0, result.log
        assert len(result.tasks()) == number


FLAGS = run_capsule.make_parser()[1]


def test_quotes_around_any_value_are_taken_off() -> None:
    values: dict[Any, str] = {
        to_switch: "1", to_positive: "3", to_number: "3",
        to_version: "v2", to_level: "raw", to_measure: "count",
        to_input_folder: "/", to_date: "2025-03", to_bytes: "3",
    }  # fmt: skip

    def words(form: str) -> list[str]:
        given = []
        for name, flag in FLAGS.items():
            given += [name, form.format(values.get(flag.convert, "word"))]
        return given

    plain = run_capsule.parse_flags(words("{}"))
    for quoted in ("'{}'", '"{}"', "`{}`", " ' {}' ", "'\"{}\"'"):
        assert run_capsule.parse_flags(words(quoted)) == plain
    for blank in ("", " ", "''", '""', "' '", "\t\n"):
        blanks = [f"{name}={blank}" for name in FLAGS]
        assert run_capsule.parse_flags(blanks) == run_capsule.parse_flags([])
        assert run_capsule.parse_flags([*words("{}"), *blanks]) == plain


@pytest.mark.usefixtures("world")
def test_a_project_in_quotes_is_found(run: Run, docdb: DocDB) -> None:
    docdb.put(record("e", data_description={"project_name": "Dynamic Routing"}))
    result = run("""--project_name='"Dynamic Routing"'""", '--max_jobs="3"')
    assert [task["asset_name"] for task in result.tasks()] == [["e"]]


@settings(max_examples=100 if NIGHT else 40)
@given(
    st.lists(st.text("ab .é中", max_size=4).map(str.strip).filter(bool), min_size=1),
    st.sampled_from([",", " , ", ";", "; ", "\n", "\r\n", ",\n", ",,", "\n\n"]),
)
def test_every_spelling_of_a_list_is_the_same_list(names: list[str], separator: str) -> None:
    expected = tuple(dict.fromkeys(names))
    spellings = []
    for quote in "\"'`":
        spellings.append(separator.join(f"{quote}{name}{quote}" for name in names))
    if not any(" " in name for name in names):
        for blank in (separator, " ", "\t", "\t \n"):
            spellings += [blank.join(names), f"{blank.join(names)}{blank}"]
        spellings.append(f"'{separator.join(names)}'")
    for string in (
        *spellings,
        json.dumps(names),
        json.dumps(names, indent=2),
        json.dumps(names, ensure_ascii=False),
        repr(names),
        f"'{json.dumps(names)}'",
        f'"{names!r}"',
        json.dumps(json.dumps(names)),
    ):
        assert run_capsule.parse_flags([f"--modality={string}"])["modality"] == expected
    once = [f"--modality={json.dumps([name])}" for name in names]
    assert run_capsule.parse_flags(once)["modality"] == expected


@settings(max_examples=100 if NIGHT else 40)
@given(st.text(max_size=30) | st.text("[]{}\"'`,:\\ ab1.-", max_size=30).map(lambda end: "[" + end))
def test_reading_a_list_raises_nothing_but_bad_input(string: str) -> None:
    for flag in ("--subject_id", "--group_by"):
        with suppress(BadInput):
            found = run_capsule.parse_flags([f"{flag}={string}"])[flag[2:]]
            assert found is None or all(name and name == name.strip() for name in found)


@pytest.mark.usefixtures("world")
def test_lists_are_written_as_app_panels_do(run: Run) -> None:
    flags = ("--query={}", "--file_extension=nwb", "--max_jobs=100", "--overwrite=1")
    field = "subject.subject_id"
    plain = run(*flags, f"--group_by={field}", "--drop_null_groups=1")
    assert len(plain.tasks()) == 2
    assert len(run(*flags, f"--group_by={field},name", "--drop_null_groups=0").tasks()) == 4
    for values, ways in {
        (field,): [[f'["{field}"]'], [f"['{field}']"], [f' [ "{field}" ] '], [f'"{field}"']],
        (field, "name"): [
            [f"{field},name"], [f'["{field}", "name"]'], [field, "['name']"],
            [f"{field},name", "", field],
        ],
        ("1", "2"): [
            ["1,2"], ['["1","2"]'], ["['1', '2']"], ["[1, 2]"], ['"1","2"'], ["[1,'2',1]"],
            ["1", "[2]"],
        ],
    }.items():  # fmt: skip
        for way in ways:
            name = "group_by" if field in values else "subject_id"
            given = run_capsule.parse_flags([f"--{name}={string}" for string in way])
            assert given[name] == values


@pytest.mark.usefixtures("world")
def test_an_empty_list_is_no_value(run: Run) -> None:
    everything = run("--query={}").files()
    names = ("--group_by", "--subject_id", "--unwind_list_fields")
    for string in ("[]", " [ ] ", "'[]'"):
        flags = [f"{name}={string}" for name in names]
        assert run_capsule.parse_flags(flags) == run_capsule.parse_flags([])
    empty = run("--query={}", "--overwrite=1", *(f"{name}=[]" for name in names))
    assert empty.files() == everything
    assert "one field" in refusal("--query={}", "--filter_latest=[]")  # which is no list
    assert "no assets chosen" in refusal("--subject_id=[]")


@pytest.mark.usefixtures("world")
def test_a_name_with_a_comma_in_a_json_list_is_one_value(run: Run, docdb: DocDB) -> None:
    docdb.put(record("e", subject={"subject_id": "x, y"}))
    assert len(run('--subject_id=["x, y"]').tasks()) == 1
    assert run("--subject_id=x, y", "--overwrite=1").status == 1


@pytest.mark.parametrize(
    "string",
    [
        "[", "[a]", "[a, b]", '["a"', '["a" "b"]', "['a' 'b']", '["a",, "b"]', "[null]",
        "[true]", "[1.5]", '[["a"]]', '[{"a": 1, "a": 2}]', "['a'], ['b']", '[""]',
        ",", '","', "[" * 100_000, "[" + "-" * 5_000 + "1]", "[" + "9" * 5_000 + "]", '["\\ud800"]',
        "[0xff" + "f" * 5_000 + "]",
    ],
)  # fmt: skip
def test_a_list_that_cannot_be_read_is_told_in_one_line(string: str) -> None:
    line = refusal("--query={}", f"--group_by={string}")
    assert line.startswith("argument --group_by: must be ")
    assert len(line) < 250


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--query={}", '--docdb_query={"name": "a"}'], ["--query", "--docdb_query"]),
        (["--query={}", "--query", "{'name': 'a'}"], ["--query '{}'", "--query \"{'name'"]),
        (["--query={}", "--max_jobs=50", "--max_jobs=3"], ["--max_jobs '50'", "--max_jobs '3'"]),
        (["--query={}", "--num_parallel_workers=3", "--max_jobs=4", "--max_jobs=5"],
         ["--num_parallel_workers '3'", "--max_jobs '4'"]),
        (["--query={}", "--split_files=1", "--split_files=false"], ["'1'", "'false'"]),
        (["--query={}", "--strict=0", "--strict=1"], ["--strict '0'", "--strict '1'"]),
        (["--project_name=a", "--project_name=A"], ["'a'", "'A'"]),
        (["--query={}", "--query=" + "x" * 10_000], ["--query '{}'", "xxx..."]),
    ],
)  # fmt: skip
def test_a_flag_given_twice_with_other_values_is_bad_input(
    flags: list[str], named: list[str]
) -> None:
    line = refusal(*flags)
    assert "do not agree" in line
    assert all(words in line for words in named)
    assert len(line) < 250


@pytest.mark.usefixtures("world")
def test_a_flag_given_twice_with_the_same_value_is_fine(run: Run) -> None:
    same: list[Any] = [
        *("--query={}", "--docdb_query", " {} ", "--query=", "--docdb_query=''"),
        *("--max_jobs=2", "--num_parallel_workers=02", "--split_files=1", "--split_files=Yes"),
        *("--file_extension=nwb", '--file_extension="nwb"'),
    ]
    result = run(*same)
    assert result.status == 0, result.log
    assert len(result.workers()) == 2


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--project_name", "Dynamic", "Routing"], "value: --project_name 'Dynamic Routing'"),
        (["--project_name=Dynamic", "Routing", "--strict=1"],
         "quote the value: --project_name 'Dynamic Routing'; 'Routing' belongs to no flag"),
        (["--query", "{subject.subject_id:", "1}"],
         "quote the value: --query '{subject.subject_id: 1}'"),
        (["--query={}", "--input_directory", "a", "b", "c"], "--input_directory 'a b c'"),
        (["--subject_id", "1", "2", "3"], "separate the values by commas: --subject_id 1,2,3;"),
        (["--modality=a,", "b"], "separate the values by commas: --modality a,b;"),
        (["--group_by", "[name,", "x.y]"], "separate the values by commas: --group_by name,x.y;"),
        (["--query={}", "--overwrite"], "--overwrite needs a value: --overwrite 1"),
        (["--query={}", "--overwrite", "--strict"], "--overwrite needs a value: --overwrite 1"),
        (["--query={}", "--max_jobs", "--strict=1"], "--max_jobs needs a value: --max_jobs N"),
        (["--docdb_query"], "--docdb_query needs a value: --docdb_query FILTER"),
        (["--query={}", "--project_name", "x" * 50_000, "y" * 50_000], "quote the value"),
        (["--projectname", "Dynamic", "Routing"], "did you mean --project_name?"),
    ],
)  # fmt: skip
def test_a_value_that_fell_apart_or_is_missing_is_told_how_to_write(
    flags: list[str], line: str
) -> None:
    said = refusal(*flags)
    assert line in said
    assert len(said) < 500


def test_bad_flags_are_told_in_the_only_line(run: Run) -> None:
    for flags in (["--query={}", "--overwrite"], ["--query={}", "--group_by=["]):
        result = run(*flags)
        assert result.status == 2, result.log
        assert result.log == f"error: {refusal(*flags)}\n"


@settings(max_examples=100 if NIGHT else 40)
@given(st.lists(st.sampled_from(
    [*FLAGS, "--", "-", "-x", "-3", "", "=", "--=", "--query=", "--query={}", "--max_jobs=3", "[",
     "a b", "--a b", "\udcff", "1", "~", "~root", "~\x00", "'", "\x00", "\n"]
)))  # fmt: skip
def test_any_words_are_settings_or_bad_input(words: list[str]) -> None:
    with suppress(BadInput):
        assert isinstance(run_capsule.parse_settings(words), Settings)


def test_the_help_tells_each_default_that_there_is() -> None:
    told = " ".join(run_capsule.make_parser()[0].format_help().split())
    assert "None" not in told
    for name in ("--timeout", "--split_files", "--strict", "--balance_by"):
        action = FLAGS[name]
        default = int(action.default) if isinstance(action.default, bool) else action.default
        assert f"{action.help}" in told
        assert f"Default: {default}." in (action.help or "")
    assert "Default" not in (FLAGS["--query"].help or "")
