"""Whole runs: which assets, which tasks, which workers, against both kinds of database."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from itertools import product
from pathlib import Path
from typing import Any

import run_capsule
from conftest import NIGHT, PROGRAM, Result, Run, documents
from dispatch.assets.assets import Asset
from reference import expected_files
from standins import BUCKET, S3, DocDB, record
from worlds import QUERIES, Record, expected_task, ids_of, world  # noqa: F401  (a fixture)


def by_json(tasks: list[Record]) -> list[str]:
    return sorted(json.dumps(task) for task in tasks)


def brute_force(
    records: list[Record], world: dict[str, list[str]], extension: str, split: int, query: Any
) -> list[Record]:
    tasks = []
    for real in records:
        ids = ids_of(real)
        prefix = real["location"].removeprefix("s3://").partition("/")[2]
        files = [
            f"{real['location']}/{path}"
            for path in sorted(expected_files(world[real["location"]], prefix, extension))
        ]
        parts: list[Any] = [[file] for file in files] if split else [files] * bool(files)
        for part in parts if extension else [None]:
            tasks.append(expected_task(real, ids[0] if ids else "", part, query))
    return tasks


EXTENSIONS = ("", ".nwb", "zarr", ".h5")
# By day, other queries choose records of which no files are looked for.
ASKED = [
    *product(["all"], EXTENSIONS[1:], (1, 0)),
    *product(QUERIES, EXTENSIONS if NIGHT else [""], (1, 0) if NIGHT else [1]),
]


def test_real_records_give_what_brute_force_gives(
    run: Run, world: dict[str, list[str]], real_records: list[Record]
) -> None:
    for query, extension, split in ASKED:
        filter_, matches = QUERIES[query]
        chosen = [real for real in real_records if matches(real)]
        expected = brute_force(chosen, world, extension, split, filter_)
        result = run(
            f"--query={json.dumps(filter_)}",
            f"--file_extension={extension}",
            f"--split_files={split}",
            "--max_jobs=1000",
            "--overwrite=1",
        )
        if not expected:
            assert result.status == 1
            assert result.error.startswith("error: nothing to dispatch")
            continue
        assert result.status == 0, result.log
        assert by_json(result.tasks()) == by_json(expected)
        assert result.names() == sorted(map(str, range(len(expected))))
        order = [(task["asset_name"][0], task["file_location"]) for task in result.tasks()]
        assert order == sorted(order, key=lambda pair: (pair[0], pair[1] or []))


def test_odd_records_keep_their_place_or_are_named(run: Run, docdb: DocDB) -> None:
    docdb.put(
        record("same", _id="b"),
        record("same", _id="a", external_links={"Code Ocean": []}),
        record("line\nbreak", external_links=None),
        {"_id": "nameless", "location": f"s3://{BUCKET}/x/"},
        record("half \ud800", _id="half"),
        record("number", _id=12),
        record("nowhere\n\u202e", location="here\nthere"),
    )
    result = run("--query={}")
    assert result.status == 0, result.log
    assert [
        (t["asset_name"][0], t["docdb_record_id"][0], t["asset_id"][0]) for t in result.tasks()
    ] == [
        ("", "nameless", ""),
        ("line\nbreak", "id-line\nbreak", ""),
        ("same", "a", ""),
        ("same", "b", "co-same"),
    ]
    assert result.tasks()[0]["s3_location"] == [f"s3://{BUCKET}/x"]
    assert "record id is not a string: number" in result.log
    assert all(re.match(r"\d\d:\d\d:\d\d [A-Z]+ ", line) for line in result.log.splitlines())
    assert "a field is not a valid string: half \\ud800" in result.log


GROUPING = """
GROUP_FIELDS = ("subject.subject_id",)


def group_assets(assets):
    groups = defaultdict(list)
    for asset in assets:
        groups[asset.record["subject"]["subject_id"]].append(asset)
    return [group for subject, group in groups.items() if subject != "left out"]
"""


def test_an_edited_group_assets_makes_one_task_per_group(
    run: Run, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    source = PROGRAM.read_text()
    start = source.index("GROUP_FIELDS: tuple")
    end = source.index("# ---", start)
    edited = tmp_path / "code" / "run_capsule.py"
    edited.parent.mkdir()
    edited.write_text(f"{source[:start]}{GROUPING.strip()}\n\n\n{source[end:]}")
    shutil.copytree(PROGRAM.with_name("dispatch"), edited.with_name("dispatch"))
    subjects = {"a": "1", "b": "2", "c": "1", "d": "1", "e": "left out", "f": "3"}
    docdb.put(*(record(name, subject={"subject_id": s}) for name, s in subjects.items()))
    s3.put(BUCKET, ["a/1.nwb", "a/2.nwb", "b/3.nwb", "b/4.nwb", "c/5.nwb", "d/6.txt", "f/7.txt"])
    result = run("--query={}", "--file_extension=nwb", "--split_files=1", program=edited)
    assert result.status == 0, result.log
    one, two = result.tasks()
    at = f"s3://{BUCKET}"
    assert one["s3_location"] == [f"{at}/a", f"{at}/c"]
    assert one["asset_id"] == ["co-a", "co-c"]
    assert one["asset_name"] == ["a", "c"]
    assert one["docdb_record_id"] == ["id-a", "id-c"]
    assert one["file_location"] == [f"{at}/a/1.nwb", f"{at}/a/2.nwb", f"{at}/c/5.nwb"]
    assert two["file_location"] == [f"{at}/b/3.nwb", f"{at}/b/4.nwb"]
    assert "--split_files has no effect" in result.log
    assert "left out by group_assets: e" in result.log
    assert "3 skipped" in result.error
    alone = ('--query={"name": "b"}', "--file_extension=nwb", "--overwrite=1")
    [one_asset] = run(*alone, program=edited).tasks()
    assert one_asset["file_location"] == two["file_location"]


def test_a_group_without_assets_makes_no_task_and_leaves_the_others_split() -> None:
    settings = run_capsule.parse_settings(["--query={}", "--file_extension=nwb"])
    groups = [[Asset(f"s3://{BUCKET}/{name}", "", name, name, {})] for name in "ab"]
    files: dict[str, dict[str, int | None]] = {}
    for [asset] in groups:
        files[asset.location] = {f"{asset.location}/{n}.nwb": n for n in range(2)}
    tasks = run_capsule.make_tasks([*groups, []], files, settings, [])
    assert [task.files for task in tasks] == [[url] for urls in files.values() for url in urls]


def test_nothing_matched_is_a_failed_run_and_debug_shows_a_traceback(
    run: Run, docdb: DocDB
) -> None:
    docdb.put(record("a"))
    for level, shows in (("INFO", False), ("debug", True)):
        result = run('--query={"name": "b"}', env={"LOG_LEVEL": level})
        assert result.status == 1
        assert result.error == "error: nothing to dispatch: 0 records matched, 0 skipped"
        assert ("Traceback" in result.log) == shows
        assert not result.output.exists()


def test_the_example_in_the_readme_is_what_the_program_writes(
    run: Run, docdb: DocDB, s3: S3
) -> None:
    readme = documents()
    shown = re.search(r"<!-- example task -->\n```json\n(.*?)```", readme, re.DOTALL)
    assert shown
    task = json.loads(shown[1])
    [file] = task["file_location"]
    bucket, _, key = file.removeprefix("s3://").partition("/")
    s3.put(bucket, [key])
    docdb.put(
        {
            "_id": task["docdb_record_id"][0],
            "name": task["asset_name"][0],
            "location": task["s3_location"][0],
            "external_links": {"Code Ocean": task["asset_id"]},
            "subject": {"subject_id": "774659"},
        }
    )
    command = re.search(r"<!-- example command -->\n```bash\n(.*?)```", readme, re.DOTALL)
    assert command
    query = re.search("--query '(.*?)'", command[1])
    assert query
    result: Result = run(f"--query={query[1]}", "--file_extension=.nwb")
    assert result.status == 0, result.log
    [path] = result.output.glob("*/*.json")
    assert path.read_text() == textwrap.dedent(shown[1])
    assert {"s3_location", "asset_id", "asset_name", "file_location"} <= set(task)


def test_the_log_level_is_that_of_the_environment(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a"), record("b", location="nowhere"))
    for level, words in (("WARNING", "WARNING skipped"), ("ERROR", ""), ("nonsense", "INFO disp")):
        result = run("--query={}", "--overwrite=1", env={"LOG_LEVEL": level})
        assert result.status == 0
        assert words in result.log
        assert ("INFO" in result.log) == (level == "nonsense")
