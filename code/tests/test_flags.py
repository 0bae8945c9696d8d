"""Flags as people, app panels and pipelines write them."""

from __future__ import annotations

import json
import os
import pwd
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import run_capsule
from conftest import PROGRAM, Run
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
from dispatch.settings import Settings
from dispatch.terminal.messages import BadInput
from standins import BUCKET, S3, DocDB, record


@pytest.fixture
def world(docdb: DocDB, s3: S3) -> None:
    """Four assets of two subjects, with two files each."""
    docdb.put(
        *(record(name, subject={"subject_id": str(n % 2)}) for n, name in enumerate("abcd")),
        record("lacks the subject"),
    )
    s3.put(BUCKET, [f"{name}/{n}.nwb" for name in "abcd" for n in range(2)])


# ------------------------------------------------------------------------------------ one value


@pytest.mark.usefixtures("world")
def test_a_switch_is_written_as_people_and_app_panels_do(run: Run) -> None:
    counts = {}
    for split in ("1", "true", "True", "TRUE", "yes", "Yes", " 1 ", "'true'", '" YES "', "",
                  "0", "false", "False", "no", "NO", "'0'"):  # fmt: skip
        flags = (f"--split_files={split}", "--use_data_asset_csv=false", "--overwrite=True")
        result = run("--query={}", "--file_extension=nwb", *flags)
        assert result.status == 0, result.log
        counts[split] = len(result.tasks())
    assert list(counts.values()) == [8] * 10 + [4] * 6
    for wrong in ("2", "tru", "on", "None", "[true]", "1 0"):
        result = run("--query={}", f"--split_files={wrong}")
        assert result.status == 2
        assert f"must be 0 or 1, false or true, no or yes, not {wrong!r}" in result.error


FLAGS = run_capsule.make_parser()[1]


@pytest.mark.parametrize("name", FLAGS)
def test_quotes_around_any_value_are_taken_off(name: str) -> None:
    values: dict[Any, str] = {
        to_switch: "1", to_positive: "3", to_number: "3",
        to_version: "v2", to_level: "raw", to_measure: "count",
        to_input_folder: "/", to_date: "2025-03",
    }  # fmt: skip
    value = values.get(FLAGS[name].convert, "word")
    plain = run_capsule.parse_flags([f"{name}={value}"])
    for quoted in (f"'{value}'", f'"{value}"', f"`{value}`", f" ' {value}' ", f"'\"{value}\"'"):
        assert run_capsule.parse_flags([f"{name}={quoted}"]) == plain
        assert run_capsule.parse_flags([name, quoted]) == plain
    for blank in ("", " ", "''", '""', "' '", "\t\n"):
        assert run_capsule.parse_flags([f"{name}={blank}"]) == run_capsule.parse_flags([])
        assert run_capsule.parse_flags([f"{name}={value}", f"{name}={blank}"]) == plain


@pytest.mark.usefixtures("world")
def test_a_project_in_quotes_is_found(run: Run, docdb: DocDB) -> None:
    docdb.put(record("e", data_description={"project_name": "Dynamic Routing"}))
    result = run("""--project_name='"Dynamic Routing"'""", '--max_jobs="3"')
    assert [task["asset_name"] for task in result.tasks()] == [["e"]]


# --------------------------------------------------------------------------------------- lists


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
    before = plain.files()
    for string in (f'["{field}"]', f"['{field}']", f' [ "{field}" ] ', f'"{field}"'):
        assert run(*flags, f"--group_by={string}").files() == before
    both = run(*flags, f"--group_by={field},name", "--drop_null_groups=0").files()
    assert len(both) == 4
    for more in (
        [f'--group_by=["{field}", "name"]'],
        [f"--group_by={field}", "--group_by=['name']"],
        [f"--group_by={field},name", "--group_by=", f"--group_by={field}"],
    ):
        assert run(*flags, *more, "--drop_null_groups=False").files() == both
    only = run("--subject_id=1,2", "--overwrite=1").files()
    for string in ('["1","2"]', "['1', '2']", "[1, 2]", '"1","2"', "[1,'2',1]"):
        assert run(f"--subject_id={string}", "--overwrite=1").files() == only
    assert run("--subject_id=1", "--subject_id=[2]", "--overwrite=1").files() == only


@pytest.mark.usefixtures("world")
def test_an_empty_list_is_no_value(run: Run) -> None:
    everything = run("--query={}").files()
    for string in ("[]", " [ ] ", "'[]'"):
        flags = [f"--{name}={string}" for name in ("group_by", "subject_id", "unwind_list_fields")]
        assert run("--query={}", "--overwrite=1", *flags).files() == everything
    assert "one field" in run("--query={}", "--filter_latest=[]").error  # which is no list
    assert run("--subject_id=[]", "--overwrite=1").status == 2  # nothing says which assets


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
def test_a_list_that_cannot_be_read_is_told_in_one_line(string: str, run: Run) -> None:
    result = run("--query={}", f"--group_by={string}")
    assert result.status == 2, result.log
    [line] = result.log.splitlines()
    assert line.startswith("error: argument --group_by: must be ")
    assert len(line) < 250


# ----------------------------------------------------------------------------------- given twice


@pytest.mark.usefixtures("world")
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
    flags: list[str], named: list[str], run: Run
) -> None:
    result = run(*flags)
    assert result.status == 2, result.log
    assert "do not agree" in result.error
    assert all(words in result.error for words in named)
    assert len(result.error) < 250


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


# --------------------------------------------------------------------------------------- paths


@pytest.mark.usefixtures("world")
def test_a_file_is_found_here_then_in_the_input_folder_then_one_folder_down(
    run: Run, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    flags = ("--query=which.json", "--overwrite=1")
    missing = run(*flags)
    assert missing.status == 2
    assert "no file" in missing.error
    assert f"here, in {data} or one folder down" in missing.error
    for folder, name in ((data / "deep" / "er", ""), (data / ".hidden", ""), (data / "b", "b"),
                         (data, "c"), (tmp_path, "d")):  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "which.json").write_text(json.dumps({"name": name}))
        if not name:
            assert run(*flags).status == 2
            continue
        result = run(*flags)
        assert result.status == 0, result.log
        assert [task["asset_name"] for task in result.tasks()] == [[name]]


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("flag", ["--query", "--docdb_snapshot"])
def test_two_files_of_the_name_one_folder_down_are_refused(
    flag: str, run: Run, tmp_path: Path
) -> None:
    paths = [tmp_path / "data" / folder / "odd [x] *.json" for folder in ("one", "two")]
    for path in paths:
        path.parent.mkdir()
        path.write_text('{"_id": "id-a", "name": "a", "location": "s3://example-bucket/a"}')
    query = [] if flag == "--query" else ["--query={}"]
    result = run(f"{flag}={paths[0].name}", *query)
    assert result.status == 2
    assert all(str(path) in result.error for path in paths)
    paths[1].unlink()
    paths[1].mkdir()  # a folder is no candidate
    assert run(f"{flag}={paths[0].name}", *query).status == 0
    outside = run(f"{flag}=nowhere/../{paths[0].name}", *query)
    assert outside.status == 2
    assert "no file" in outside.error


@pytest.mark.usefixtures("world")
def test_a_link_that_leads_nowhere_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "input_files").mkdir()
    for name in ("query.json", "analysis_parameters.json"):
        path = tmp_path / "data" / "input_files" / name
        path.symlink_to("gone")
        result = run("--query={}" if name[0] == "a" else "--query=query.json")
        assert result.status == 2
        assert f"cannot read {path}" in result.error


@pytest.mark.usefixtures("world")
def test_a_home_folder_is_expanded_in_every_path(run: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "inputs").mkdir()
    (home / "query.json").write_text('{"name": "a"}')
    (home / "snapshot.jsonl").write_text(json.dumps(record("a")))
    (home / "inputs" / "data_asset_input.csv").write_text("asset_id\nco-a\n")
    for n, flags in enumerate((
        ["--query=~/query.json"],
        ["--query", "'~/query.json'"],
        ["--query={}", "--docdb_snapshot=~/snapshot.jsonl"],
        ["--use_data_asset_csv=1", "--input_directory=~/inputs"],
    )):  # fmt: skip
        result = run(*flags, f"--output_directory=~/out/{n}", output=home / "out" / str(n))
        assert result.status == 0, result.log
        assert [task["asset_name"] for task in result.tasks()] == [["a"]]
    assert not (tmp_path / "~").exists()


@pytest.mark.usefixtures("world")
def test_the_home_folder_of_a_name_is_expanded_and_an_unknown_one_is_a_name(
    run: Run, tmp_path: Path
) -> None:
    user = pwd.getpwuid(os.getuid())
    path = Path(os.path.relpath(tmp_path / "query.json", user.pw_dir))
    (tmp_path / "query.json").write_text('{"name": "a"}')
    assert run(f"--query=~{user.pw_name}/{path}").tasks()[0]["asset_name"] == ["a"]
    for flag in ("--query", "--input_directory", "--docdb_snapshot"):
        result = run(f"{flag}=~nobody-here/x", *["--query={}"][: flag != "--query"])
        assert result.status == 2
        assert "'~nobody-here/x'" in result.error
    (tmp_path / "~nobody-here").write_text('{"name": "b"}')
    named = run("--query=~nobody-here", "--overwrite=1")
    assert [task["asset_name"] for task in named.tasks()] == [["b"]]


@pytest.mark.usefixtures("world")
def test_an_input_folder_that_is_not_there_is_bad_input(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("nowhere", "file", "file/below", "x" * 300, "half \udcff"):
        result = run("--query={}", f"--input_directory={name}")
        assert result.status == 2
        assert "--input_directory: must be an existing folder" in result.error
    program = tmp_path / "code" / "run_capsule.py"  # whose own input folder is not there either
    program.parent.mkdir()
    shutil.copy(PROGRAM, program)
    shutil.copytree(PROGRAM.with_name("dispatch"), program.with_name("dispatch"))
    shutil.rmtree(tmp_path / "data")
    assert run("--query={}", "--input_directory=", program=program).status == 0


@pytest.mark.usefixtures("world")
def test_the_log_says_that_there_are_no_parameters(run: Run, tmp_path: Path) -> None:
    line = f"INFO no analysis_parameters.json in {tmp_path / 'data'} or one folder down"
    assert line in run("--query={}").log
    (tmp_path / "data" / "sub").mkdir()
    (tmp_path / "data" / "sub" / "analysis_parameters.json").write_text("{}")
    assert "no analysis_parameters.json" not in run("--query={}", "--overwrite=1").log


# ------------------------------------------------------------------------ values that fell apart


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
    flags: list[str], line: str, run: Run
) -> None:
    result = run(*flags)
    assert result.status == 2, result.log
    assert line in result.error
    assert result.error == result.log.rstrip()
    assert len(result.error) < 500


@given(st.lists(st.sampled_from(
    [*FLAGS, "--", "-", "-x", "-3", "", "=", "--=", "--query=", "--query={}", "--max_jobs=3", "[",
     "a b", "--a b", "\udcff", "1", "~", "~root", "~\x00", "'", "\x00", "\n"]
)))  # fmt: skip
def test_any_words_are_settings_or_bad_input(words: list[str]) -> None:
    with suppress(BadInput):
        assert isinstance(run_capsule.parse_settings(words), Settings)
