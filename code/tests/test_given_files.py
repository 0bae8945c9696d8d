"""Input files and folders: where they are looked for, what is none, what is large or odd."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import socket
from contextlib import chdir
from pathlib import Path

import pytest

from conftest import NIGHT, PROGRAM, Run, Start, fails, in_turn, refusal
from dispatch.given.inputs import read_query
from dispatch.terminal.messages import BadInput
from run_capsule import parse_settings
from standins import BUCKET, S3, DocDB, record


@pytest.fixture
def world(docdb: DocDB, s3: S3) -> None:
    """Four assets of two subjects, with two files each."""
    docdb.put(
        *(record(name, subject={"subject_id": str(n % 2)}) for n, name in enumerate("abcd")),
        record("lacks the subject"),
    )
    s3.put(BUCKET, [f"{name}/{n}.nwb" for name in "abcd" for n in range(2)])


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


READ_BY = {
    "query.json": ["--query=query.json"],
    "analysis_parameters.json": ["--query={}"],
    "snapshot.json": ["--query={}", "--docdb_snapshot=snapshot.json"],
    "data_asset_input.csv": ["--use_data_asset_csv=1"],
    "code.json": ["--query={}", "--analysis_code=code.json"],
}
KINDS = ("socket", "/dev/zero", "/dev/tty")


@pytest.fixture
def ab(docdb: DocDB) -> None:
    docdb.put(record("a"), record("b"))


@pytest.mark.usefixtures("ab")
@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "fifo") for name in READ_BY), *in_turn(READ_BY, KINDS)]
)
def test_an_input_that_is_no_file_is_bad_input(
    name: str, kind: str, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "data" / name
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one, chdir(path.parent):  # its path may be short only
            one.bind(name)
    else:
        path.symlink_to(kind)
    fails(run(*READ_BY[name]), f"{name}: it is no file", status=2)


def test_an_input_file_that_is_too_large_is_bad_input(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "query.json").write_text("{" + " " * 5_000 + "}")
    constants = {"LARGEST_INPUT": 5_000}
    fails(run("--query=query.json", constants=constants), "is larger than 5.00kB", status=2)


def test_a_working_folder_that_is_gone_is_told_or_does_not_matter(
    start: Start, tmp_path: Path
) -> None:
    shutil.copytree(PROGRAM.parents[1] / "data", tmp_path / "data", dirs_exist_ok=True)
    gone = f"mkdir -p {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone; "
    snapshot = f"--docdb_snapshot={tmp_path}/data/metadata.jsonl"
    for flags, status in (
        (["--query={}", snapshot], 0),
        (["--query=nothing.json", snapshot], 2),
        (["--query={}", "--docdb_snapshot=metadata.jsonl", "--output_directory=out"], 1),
    ):
        process = start(*flags, prefix=gone)
        _, log = process.communicate(timeout=60)
        assert process.returncode == status, log
        assert "Traceback" not in log
        assert "shows where" not in log


# -------------------------------------------------------------------------------- other places

ADDRESSES = ("s3://bucket/jobs", "S3://b/j/", "file:///tmp/jobs", "gs://b/jobs", "https://x.org/j")


@pytest.mark.parametrize("flag", ["input_directory", "output_directory", "skip_dispatched"])
@pytest.mark.parametrize("address", ADDRESSES)
def test_the_address_of_another_place_is_no_folder(flag: str, address: str) -> None:
    given = f"{address},other" if flag == "skip_dispatched" else address
    said = refusal("--query={}", f"--{flag}={given}")
    assert said.startswith(f"argument --{flag}: must be the path of a folder")
    assert "aws s3 cp --recursive" in said
    assert address in said


@pytest.mark.usefixtures("ab")
def test_an_output_folder_elsewhere_is_not_made_here(run: Run, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    result = run("--query={}", "--output_directory=s3://bucket/jobs")
    assert result.status == 2, result.log
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.usefixtures("ab")
def test_folders_with_colons_and_of_home_are_folders(
    run: Run, services: dict[str, str], tmp_path: Path
) -> None:
    colon = tmp_path / "2025-03-01T10:00"
    assert run("--query={}", f"--output_directory={colon}", output=colon).status == 0
    home = Path(services["HOME"]) / "earlier"
    assert run("--query={}", "--max_tasks=1", "--output_directory=~/earlier", output=home).names()
    result = run("--query={}", "--skip_dispatched=~/earlier")
    assert [task["asset_name"] for task in result.tasks()] == [["b"]]
    none = run("--query={}", f'--skip_dispatched=["{colon}", "~/earlier"]', "--overwrite=1")
    assert none.status == 0, none.log
    assert none.names() == []


@pytest.mark.parametrize("flag", ["records", "analysis_code", "compare_with", "from_plan"])
def test_a_file_elsewhere_is_to_be_copied_first(flag: str) -> None:
    chosen = [] if flag == "from_plan" else ["--project_name=any"]
    said = refusal(*chosen, f"--{flag}=s3://bucket/folder/file.json")
    assert "there is no file 's3://bucket/folder/file.json'" in said
    assert "copy it to this machine first: aws s3 cp" in said
    assert "aws s3 cp --recursive for a folder" in said


# ------------------------------------------------------------------------------------------- odd


@pytest.mark.usefixtures("ab")
def test_a_csv_of_50_megabytes_is_read(run: Run, tmp_path: Path) -> None:
    number = 50_000 if NIGHT else 5_000  # of a megabyte each 1,000
    lines = [f"x{n:06},{'y' * 1_000}" for n in range(number)]
    lines[17], lines[number - 7] = "co-b,", "co-a,"
    path = tmp_path / "data" / "data_asset_input.csv"
    path.write_text("asset_id,comment\n" + "\n".join(lines))
    assert path.stat().st_size > 1_000 * number
    result = run("--use_data_asset_csv=1")
    assert result.status == 0, result.log
    assert [task["asset_name"] for task in result.tasks()] == [["b"], ["a"]]
    assert f"no record has this id: {number - 2:,}" in result.error


@pytest.mark.usefixtures("ab")
def test_an_odd_csv_is_read_or_refused(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "data" / "data_asset_input.csv"
    path.write_bytes(b"\0" * 1_000)
    fails(run("--use_data_asset_csv=1"), "data_asset_input.csv", status=2)
    for rows in (b'"co-\na"', b"co-a\0", b"\0\0\0"):
        path.write_bytes(b"asset_id\n" + rows + b"\nco-b\n")
        result = run("--use_data_asset_csv=1", "--overwrite=1")
        assert result.status == 0, result.log
        assert "Traceback" not in result.log
        assert [task["asset_name"] for task in result.tasks()][-1] == ["b"]


DEEP = {
    "json": '{"a":' * 10_000,
    "and": '{"$and": [' * 10_000,
    "list": "[" * 100_000,
    "literal": "{1:" * 9_999,
    "closed": '{"a":' * 10_000 + "1" + "}" * 10_000,
}


@pytest.mark.parametrize("kind", DEEP)
def test_a_query_10000_deep_is_bad_input(kind: str, run: Run, tmp_path: Path) -> None:
    if kind != "closed":
        fails(run(f"--query={DEEP[kind]}"), "--query", status=2)
        return
    (tmp_path / "data" / "deep.json").write_text(DEEP[kind])
    fails(run("--query=deep.json"), "deep.json", status=2)
