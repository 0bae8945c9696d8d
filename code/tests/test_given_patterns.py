"""Patterns mean what fnmatch has them mean, whatever is in names and patterns."""

from __future__ import annotations

import fnmatch
import json
import re

import pytest
from hypothesis import strategies as st

import run_capsule
from conftest import Run, fuzz
from dispatch.files.selection import Selection
from dispatch.given.lists import to_bytes, to_patterns
from standins import BUCKET, S3, DocDB, record


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
