"""Flags as people, app panels and pipelines write them, and the patterns in them."""

from __future__ import annotations

import fnmatch
import json
import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import run_capsule
from conftest import NIGHT, Run, fuzz, refusal
from dispatch.files.selection import Selection
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
from dispatch.given.lists import to_bytes, to_patterns
from dispatch.settings import Settings
from dispatch.terminal.messages import BadInput
from standins import BUCKET, S3, DocDB, record


def test_a_switch_is_written_as_people_and_app_panels_do() -> None:
    for means, spellings in {
        True: ("1", "true", "True", "TRUE", "yes", "Yes", " 1 ", "'true'", '" YES "', ""),
        False: ("0", "false", "False", "no", "NO", "'0'"),
    }.items():
        for split in spellings:
            assert run_capsule.parse_flags([f"--split_files={split}"])["split_files"] is means
    for wrong in ("2", "tru", "on", "None", "[true]", "1 0"):
        said = refusal("--query={}", f"--split_files={wrong}")
        assert f"must be 0 or 1, false or true, no or yes, not {wrong!r}" in said


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


@pytest.mark.parametrize(
    ("given", "values"),
    [
        (["--group_by=['a.b']"], ("a.b",)),
        (["--group_by=a.b", "--group_by=['name']"], ("a.b", "name")),
        (["--group_by=a.b,name", "--group_by=", "--group_by=a.b"], ("a.b", "name")),
        (["--subject_id=[1, 2]"], ("1", "2")),
        (["--subject_id=[1,'2',1]"], ("1", "2")),
        (["--subject_id=1", "--subject_id=[2]"], ("1", "2")),
        (["--subject_id=x, y"], ("x", "y")),
        (['--subject_id=["x, y"]'], ("x, y",)),
        (["""--project_name='"Dynamic Routing"'"""], "Dynamic Routing"),
        *(([f"{name}={none}"], None) for name in ("--group_by", "--subject_id",
          "--unwind_list_fields") for none in ("[]", " [ ] ", "'[]'")),
    ],
)  # fmt: skip
def test_lists_are_written_as_app_panels_do(given: list[str], values: Any) -> None:
    name = given[0].partition("=")[0]
    parsed = run_capsule.parse_flags(given)[name[2:]]
    assert parsed == (values or run_capsule.parse_flags([])[name[2:]])


def test_an_empty_list_is_no_value() -> None:
    assert "one field" in refusal("--query={}", "--filter_latest=[]")  # which is no list
    assert "no assets chosen" in refusal("--subject_id=[]")


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


def test_a_flag_given_twice_with_the_same_value_is_fine() -> None:
    same: list[Any] = [
        *("--query={}", "--docdb_query", " {} ", "--query=", "--docdb_query=''"),
        *("--max_jobs=2", "--num_parallel_workers=02", "--split_files=1", "--split_files=Yes"),
        *("--file_extension=nwb", '--file_extension="nwb"'),
    ]
    parsed = run_capsule.parse_settings(same)
    assert (parsed.own_filter, parsed.max_jobs, parsed.split_files) == ({}, 2, True)


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


# ----------------------------------------------------------------------------------------- patterns


def split_by_hand(value: str) -> list[str]:
    """Return what commas separate that no class of fnmatch takes in, letter by letter."""
    patterns, start, at = [], 0, 0
    while at < len(value):
        if value[at] == "[":
            first = at + 1
            if value[first : first + 1] == "!":
                first += 1
            end = value.find("]", first + 1)  # a ] that comes first is a member
            at = end if end >= 0 else at
        elif value[at] == ",":
            patterns.append(value[start:at])
            start = at + 1
        at += 1
    return [*patterns, value[start:]]


def test_commas_outside_of_classes_separate_and_nothing_else() -> None:
    def check(value: str) -> None:
        if re.fullmatch(r"\[\s*\]", value):  # a JSON list of nothing
            return
        if re.search("^\\s|\\s$|['\"`]", value):  # taken off around a value, as of any flag
            return
        expected = [pattern for pattern in split_by_hand(value) if pattern.strip()]
        assert list(to_patterns(value)) == list(dict.fromkeys(expected))

    fuzz(check, value=st.text("a,[]!* ?;", max_size=12))


def test_what_stands_in_a_json_list_is_taken_as_it_is() -> None:
    def check(patterns: list[str]) -> None:
        assert list(to_patterns(json.dumps(patterns))) == patterns

    any_text = st.text("ab,[]!* '\"?;\\", min_size=1, max_size=6).filter(str.strip)
    fuzz(check, 0.025, patterns=st.lists(any_text, min_size=1, max_size=3, unique=True))


KEYS = ["old data/a.nwb", "data/b.nwb", "probe,A.nwb", "probeB.nwb", "x [1].nwb", "it's.nwb",
        'say "x".nwb', "old/c.nwb", "[o].nwb", "o.nwb"]  # fmt: skip


@pytest.mark.parametrize(
    "patterns",
    [["old data/*"], ["probe[A,B].nwb"], ["[!o]*"], ["[!o]*", "o.nwb"], ["*'s.nwb"], ['*"*'],
     ["x [[]1].nwb"], ["old*", "*data*"], ["probe[,]A*"], ["[[]o].nwb"], ["*;*"]],
)  # fmt: skip
@pytest.mark.parametrize("flag", ["--include", "--exclude"])
def test_a_pattern_takes_the_files_that_fnmatch_takes(flag: str, patterns: list[str]) -> None:
    expected = []
    for key in KEYS:
        matches = any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)
        if matches == (flag == "--include"):
            expected.append(key)
    ways = [[f"{flag}={pattern}" for pattern in patterns], [f"{flag}={json.dumps(patterns)}"]]
    for way in ways:
        settings = run_capsule.parse_settings(["--query={}", "--file_extension=.nwb", *way])
        selection = Selection(settings.include, settings.exclude)
        assert [key for key in KEYS if selection.takes(key, f"s3://{BUCKET}/a")] == expected


def test_patterns_choose_among_keys_of_s3(run: Run, docdb: DocDB, s3: S3) -> None:
    docdb.put(record("a"))
    s3.put(BUCKET, [f"a/{key}" for key in KEYS])
    flags = ("--query={}", "--file_extension=.nwb", "--overwrite=1")
    for way, expected in (
        (["--include=[!o]*", "--include=o.nwb", "--exclude=[[]o].nwb"], {*KEYS[1:7], "o.nwb"}),
        (['--include=["old*", "*data*"]'], {"old data/a.nwb", "data/b.nwb", "old/c.nwb"}),
        (["--exclude=[!o]*", "--exclude=o*"], set()),
    ):
        result = run(*flags, *way)
        assert result.status == (0 if expected else 1), result.log
        found = {task["file_location"][0] for task in result.tasks() if expected}
        assert found == {f"s3://{BUCKET}/a/{key}" for key in expected}


def test_a_pattern_whose_parts_were_meant_is_told(run: Run, docdb: DocDB, s3: S3) -> None:
    docdb.put(record("a"))
    s3.put(BUCKET, ["a/x_one.json", "a/x_two.json"])
    result = run("--query={}", "--file_extension=.json", "--exclude=*_one.json *_two.json *_three")
    assert len(result.tasks()) == 2
    words = "a blank separates no patterns, a comma does; there are files for"
    assert f"{words} '*_one.json' and '*_two.json'" in result.log
    fits = run("--query={}", "--file_extension=.json", "--exclude=no one", "--overwrite=1")
    assert words not in fits.log


@pytest.mark.parametrize(
    ("size", "number"),
    [("0", 0), ("7", 7), ("7B", 7), ("10b", 10), ("0.01k", 10), ("0.0095KiB", 10),
     ("10MB", 10_000_000), ("10 mb", 10_000_000), ("1k", 1_000),
     ("1.5GiB", 1_610_612_736), ("0.1Ki", 103), ("1.0000001k", 1_001), ("2T", 2 * 10**12)],
)  # fmt: skip
def test_sizes_are_read_as_people_write_them(size: str, number: int) -> None:
    assert to_bytes(size) == number


@pytest.mark.parametrize("size", ["", "x", "7i", "7 iB", "-1", "1,5", "1.5.5", "10 000", "7\u0663"])
def test_a_size_that_is_none_is_told(size: str) -> None:
    with pytest.raises(ValueError, match="must be a size, such as 10MB"):
        to_bytes(size)
