"""Input files: where they are looked for, and what is said where there is none."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
from pathlib import Path

import pytest

from conftest import PROGRAM, Run
from dispatch.given.inputs import read_query
from dispatch.terminal.messages import BadInput
from flags_helpers import refusal, world  # noqa: F401  (a fixture)
from run_capsule import parse_settings
from standins import record


def test_a_file_is_found_here_then_in_the_input_folder_then_one_folder_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.chdir(tmp_path)
    flags = ("--query=which.json", f"--input_directory={data}")
    missing = refusal(*flags)
    assert "no file" in missing
    assert f"here, in {data} or one folder down" in missing
    for folder, name in ((data / "deep" / "er", ""), (data / ".hidden", ""), (data / "b", "b"),
                         (data, "c"), (tmp_path, "d")):  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "which.json").write_text(json.dumps({"name": name}))
        if name:
            assert parse_settings(flags).own_filter == {"name": name}
        else:
            assert "no file" in refusal(*flags)


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
        query = [] if flag == "--query" else ["--query={}"]
        assert "'~nobody-here/x'" in refusal(f"{flag}=~nobody-here/x", *query)
    (tmp_path / "~nobody-here").write_text('{"name": "b"}')
    named = run("--query=~nobody-here", "--overwrite=1")
    assert [task["asset_name"] for task in named.tasks()] == [["b"]]


@pytest.mark.usefixtures("world")
def test_an_input_folder_that_is_not_there_is_bad_input(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("nowhere", "file", "file/below", "x" * 300, "half \udcff"):
        said = refusal("--query={}", f"--input_directory={tmp_path / name}")
        assert "--input_directory: must be an existing folder" in said
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


def test_what_looks_like_a_condition_is_told_as_a_filter_unless_it_is_a_file(
    tmp_path: Path,
) -> None:
    with pytest.raises(BadInput, match=re.escape('such as {"subject_id":"755252"}, not')):
        read_query("subject_id=755252", tmp_path)
    (tmp_path / "subject_id=755252").write_text('{"name": "a"}')
    assert read_query("subject_id=755252", tmp_path) == {"name": "a"}


def test_a_name_that_no_file_can_have_is_no_file(run: Run, tmp_path: Path) -> None:
    lines = []
    for name in ("~\0", "~nobody\0/x", "\0"):
        with pytest.raises(BadInput, match="there is no file"):
            read_query(name, tmp_path)
        lines.append(json.dumps(record(f"at {name}", location=name)))
    (tmp_path / "s.jsonl").write_text("\n".join(lines))
    result = run("--records=s.jsonl", "--query={}", "--file_extension=nwb")
    assert result.error == (
        "error: nothing to dispatch: 3 records matched, 3 skipped (no .nwb file: 3)"
    ), result.log
