"""The hand-over: what the next step of a pipeline reads, whichever libraries its workers have."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from analysis_pipeline_utils.analysis_dispatch_model import AnalysisDispatchModel

import forks
from conftest import NIGHT, ROOT, Result, Run, Task, documents, give_parameters, some
from environments import make_environment
from pipelines import FIXED, Pipeline
from standins import BUCKET, S3, DocDB, record

NWB = "--file_extension=nwb"
RUNS = [  # flags, and whether tasks come with several sets of parameters
    ([], False),
    ([NWB], True),
    ([NWB, "--split_files=0"], True),
    ([NWB, "--max_jobs=2"], False),
    ([NWB, "--group_by=subject.subject_id"], True),
    ([NWB, "--balance_by=size", "--max_jobs=2"], False),
]
PARAMETERS = [{"window": 1, "units": ["good", None]}, {"window": 2.5}]


@pytest.fixture
def world(docdb: DocDB, s3: S3) -> None:
    docdb.put(*(record(name, subject={"subject_id": str(n % 2)}) for n, name in enumerate("abcd")))
    s3.put(BUCKET, [f"{name}/{n}.nwb/data" for name in "abcd" for n in range(2)])


def stage(result: Result, work: Path) -> list[Path]:
    """Stage what a `*` matches as Nextflow does: each in a task of its own, linked by its name."""
    inputs = []
    for entry in sorted(result.output.glob("*")):
        if entry.name[0] != ".":
            capsule = work / entry.name / "capsule"
            (capsule / "data").mkdir(parents=True)
            (capsule / "data" / "job_dict").symlink_to(entry)
            inputs.append(capsule / "data")
    return inputs


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(("flags", "varied"), RUNS)
def test_the_next_capsule_reads_every_task(
    flags: list[str], varied: bool, run: Run, tmp_path: Path
) -> None:
    if varied:
        give_parameters(tmp_path, sets=PARAMETERS)
    result = run("--query={}", *flags)
    assert result.status == 0, result.log
    read: list[tuple[AnalysisDispatchModel, dict[str, Any]]] = []
    inputs = stage(result, tmp_path / "work")
    for data in inputs:
        # what run_analysis_jobs of analysis-pipeline-utils does with its input directory
        paths = tuple(data.glob("job_dict/*"))
        assert paths
        for path in paths:
            task = json.loads(path.read_text())
            read.append((AnalysisDispatchModel.model_validate_json(path.read_text()), task))
    assert len(inputs) == len(result.names())
    assert len(read) == len(result.tasks())
    for model, task in read:
        if varied:
            assert model.distributed_parameters in PARAMETERS
        # a consumer of the first generation, which knows four keys
        known = [task[key] for key in ("s3_location", "asset_id", "asset_name")]
        assert [f"co-{asset}" for asset in task["asset_name"]] == task["asset_id"]
        assert len({len(values) for values in known}) == 1
        assert model.s3_location == task["s3_location"]
        assert model.asset_name == task["asset_name"]
        assert model.file_location == task["file_location"]
        for file in task["file_location"] or ():
            assert file.startswith(tuple(f"{at}/" for at in task["s3_location"]))
    files = [file for _, task in read for file in task["file_location"] or ()]
    times = len(PARAMETERS) if varied else 1
    expected = [f"s3://{BUCKET}/{asset}/{n}.nwb" for asset in "abcd" for n in range(2)]
    assert sorted(files) == (sorted(expected * times) if flags else [])


# What the app panels of today's pipelines pass: every field, empty ones as well.
PANEL = {
    "docdb_query": "", "use_data_asset_csv": "False", "docdb_version": "", "file_extension": "",
    "split_files": "True", "group_by": "[]", "filter_latest": "", "filter_by": "[]",
    "unwind_list_fields": "[]", "drop_null_groups": "True", "num_parallel_workers": "50",
    "max_number_of_tasks_dispatched": "", "tasks_per_job": "1", "dry_run": "false",
}  # fmt: skip
FORMS: dict[str, tuple[dict[str, str], list[str]]] = {
    # what the panel of a pipeline has, and the flags that say the same on a terminal
    "a query file": (
        {"docdb_query": "input_query.json", "file_extension": ".nwb"},
        ["--query={'name': {'$ne': 'd'}}", "--file_extension=nwb"],
    ),
    "ids": (
        {"use_data_asset_csv": "True", "file_extension": "nwb", "split_files": "False"},
        ["--use_data_asset_csv=1", "--file_extension=nwb", "--split_files=0"],
    ),
    "groups": (
        {"docdb_query": "{}", "group_by": '["subject.subject_id"]', "drop_null_groups": "False",
         "num_parallel_workers": "1"},
        ["--query={}", "--group_by=subject.subject_id", "--drop_null_groups=0", "--max_jobs=1"],
    ),
    "the latest": (
        {"docdb_query": "'{}'", "filter_latest": "name", "filter_by": "['subject.subject_id']",
         "max_number_of_tasks_dispatched": "3"},
        ["--query={}", "--filter_latest=name", "--filter_by=subject.subject_id", "--max_tasks=3"],
    ),
}  # fmt: skip


def put_python(folder: Path, is_forked: bool) -> Path:
    """Return a folder with a python, which asks for a fork in place of the program if it should."""
    python = folder / "tools" / "python"
    python.parent.mkdir()
    command = [sys.executable, forks.__file__] if is_forked else [sys.executable]
    python.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    python.chmod(0o755)
    return python.parent


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("name", FORMS)
def test_a_pipelines_process_with_the_values_of_its_app_panel(
    name: str, run: Run, services: dict[str, str], tmp_path: Path
) -> None:
    panel, flags = FORMS[name]
    staged, process = tmp_path / "data", tmp_path / "work" / "3f" / "9a0c"
    (staged / "input_query.json").write_text('{"name": {"$ne": "d"}}')
    (staged / "data_asset_input.csv").write_text("asset_id\nco-c\nco-a\n")
    give_parameters(tmp_path, sets=PARAMETERS)
    capsule = process / "capsule"
    for folder in ("data", "results"):
        (capsule / folder).mkdir(parents=True)
    (capsule / "data" / "input_files").symlink_to(staged)
    unused = shutil.ignore_patterns("tests", "benchmarks", ".*", "__*")
    shutil.copytree(ROOT / "code", capsule / "code", ignore=unused)
    tools = put_python(tmp_path, is_forked=not NIGHT and name != "a query file")
    values = [f"--{field}={value}" for field, value in {**PANEL, **panel}.items()]
    done = subprocess.run(
        ["bash", "-c", f"cd capsule/code && ./run {shlex.join(values)}"],
        cwd=process,
        env={
            **services,
            "FORKS": os.environ["FORKS"],
            "PATH": f"{tools}:{services['PATH']}",
            **{"DOCDB_DATABASE": "analysis", "DOCDB_COLLECTION": "results"},  # the results store
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = Result(done.returncode, done.stderr, done.stdout, capsule / "results")
    assert all(name.isdigit() for name in result.names())
    plain = run(*flags)
    assert plain.status == 0, plain.log
    assert result.files() == plain.files()
    read = [path for data in stage(result, tmp_path / "next") for path in data.glob("job_dict/*")]
    assert len(read) == len(result.tasks())
    for path in read:
        task = AnalysisDispatchModel.model_validate_json(path.read_text())
        assert task.distributed_parameters in PARAMETERS


def test_the_processes_in_the_readme_hand_over_what_a_star_matches() -> None:
    readme = documents()
    [shown] = readme.split("```groovy\n")[1:]
    nextflow = shown.split("```")[0]
    assert "path 'capsule/results/*'" in nextflow
    assert "path 'capsule/data/job_dict'" in nextflow
    assert ".flatten()" in nextflow


@pytest.mark.usefixtures("world")
def test_the_consumer_in_the_readme_reads_the_tasks(run: Run, tmp_path: Path) -> None:
    readme = documents()
    examples = [text.split("```")[0] for text in readme.split("```python\n")[1:]]
    [example] = [text for text in examples if "job_dict" in text]
    result = run("--query={}", "--file_extension=nwb", "--max_jobs=1")
    [data] = stage(result, tmp_path / "work")
    seen: list[list[str]] = []
    staged = repr(str(data / "job_dict"))
    code = textwrap.dedent(example).replace('"/data/job_dict"', staged)
    exec(compile(code, "README.md", "exec"), {"analyse": seen.append})  # noqa: S102
    assert sorted(seen) == sorted(task["file_location"] for task in result.tasks())


FOLDERS = {  # flags, and how many tasks are in each folder: of 8, with a code or without one
    (): [1] * 8,
    ("--max_jobs=3",): [2, 3, 3],
    ("--max_jobs=4",): [2] * 4,
    ("--max_jobs=50",): [1] * 8,
    ("--tasks_per_job=3",): [3, 3, 2],
    ("--tasks_per_job=1",): [1] * 8,
    ("--tasks_per_job=50",): [8],
    ("--tasks_per_job=3", "--max_jobs=5"): [4, 4],
    ("--tasks_per_job=1", "--max_jobs=3"): [2, 3, 3],
    ("--tasks_per_job=9", "--max_jobs=3"): [8],
    ("--max_jobs=", "--tasks_per_job="): [1] * 8,
}
SHARED = "WARNING worker folders hold several tasks: after each, the analysis library uploads all"
CODE = '{"url": "https://example.org/mine", "version": "1"}'


@pytest.mark.parametrize("flags", FOLDERS)
def test_so_many_tasks_are_in_each_folder(
    flags: tuple[str, ...], run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    (tmp_path / "code.json").write_text(CODE)
    docdb.put(*map(record, "abcdefgh"))
    for code in ([], ["--analysis_code=code.json"]):
        result = run("--query={}", "--overwrite=1", *flags, *code)
        assert result.status == 0, result.log
        sizes = [len(list((result.output / name).iterdir())) for name in sorted(result.names())]
        assert sizes == FOLDERS[flags]
        assert result.log.count(SHARED) == (bool(code) and max(sizes) > 1)


def test_a_task_with_a_code_has_a_folder_of_its_own(run: Run, docdb: DocDB, tmp_path: Path) -> None:
    (tmp_path / "code.json").write_text(CODE)
    docdb.put(*(record(f"{n:03}") for n in range(52)))
    assert len(run("--query={}", "--analysis_code=code.json").names()) == 52
    assert len(run("--query={}", "--overwrite=1").names()) == 50


def test_tasks_and_records_that_stand_for_the_same_are_named(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    (tmp_path / "code.json").write_text(CODE)
    there = {"location": f"s3://{BUCKET}/one"}
    docdb.put(record("one"), record("twin", **there), record("other"))
    words = "WARNING 2 records describe s3://example-bucket/one: 'one (record id-one)', 'twin (rec"
    for strict in (0, 1):
        plain = run("--query={}", f"--strict={strict}", "--overwrite=1")
        assert plain.status == 0, plain.log
        assert words in plain.log
        flags = (f"--strict={strict}", "--overwrite=1", "--analysis_code=code.json")
        named = run("--query={}", *flags)
        assert named.status == strict, named.log
        told = "WARNING 2 tasks have one result name, so that all but the first will fail: "
        assert told in named.log
        assert "records describe" not in named.log
    assert named.error == "error: --strict 1: 1 result names stand for several tasks"
    assert named.files() == plain.files()  # what the first run wrote


def test_groups_that_hold_the_same_files_are_named(
    run: Run, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    (tmp_path / "code.json").write_text(CODE)
    docdb.put(record("a", batches=["x", "y"]), record("b", batches=["z"]))
    s3.put(BUCKET, ["a/x.nwb", "b/x.nwb"])
    flags = ["--query={}", "--file_extension=nwb", "--group_by=batches"]
    flags += ["--unwind_list_fields=batches", "--analysis_code=code.json"]
    give_parameters(tmp_path, sets=[{"window": 1}])
    result = run(*flags)
    assert result.status == 0, result.log
    assert len(result.tasks()) == 3
    [twins] = [line for line in result.log.splitlines() if "2 tasks have one result name" in line]
    assert twins.count('{"window":1}, its result is ') == 2
    assert "records describe" not in result.log


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["mine.csv"], "mine.csv has a column asset_id: rename it to data_asset_input.csv"),
        (["sub/mine.csv", "other.csv"], "sub/mine.csv has a column asset_id: rename it"),
        (["mine.csv", "again.csv"], ""),
        (["other.csv"], ""),
        ([], ""),
    ],
)
def test_a_csv_by_another_name_is_named(
    names: list[str], told: str, run: Run, tmp_path: Path
) -> None:
    for name in names:
        path = tmp_path / "data" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("name\nx\n" if name == "other.csv" else "Asset_ID;name\na;b\n")
    result = run("--use_data_asset_csv=1")
    assert result.status == 2
    assert "there is no data_asset_input.csv in " in result.error
    assert told in result.error
    assert ("rename it" in result.error) == bool(told)


# ------------------------------------------------------------------------------------------ workers

# aind-data-schema and analysis-pipeline-utils of workers: the oldest and the newest that are
# supported, and the last ones before a change in what they read.
CONSUMERS = {
    "2.0.0": "0.1.0",
    "2.4.0": "0.1.0",  # the first that the library asks for
    "2.6.0": "0.2.5",  # the last without commit_hash
    "2.7.1": "0.2.5",  # the last that refuses the name of a data asset
    "2.9.2": "0.2.8",
}
NEWEST = list(CONSUMERS)[-1]
OPEN = "aind-open-data"  # the bucket from whose URLs aind-data-schema makes names
ASSETS = [(bucket, f"{bucket[0]}{number}") for bucket in (OPEN, BUCKET) for number in range(3)]
READ = """
import hashlib, json, sys, warnings
from pathlib import Path
from analysis_pipeline_utils.analysis_dispatch_model import AnalysisDispatchModel
warnings.simplefilter("ignore")
found = []
for folder in sys.argv[1:]:
    results = {}
    for path in Path(folder).glob("*/*.json"):
        code = AnalysisDispatchModel.model_validate_json(path.read_text()).analysis_code
        # as the library names a result
        results[path.stem] = code and hashlib.sha256(code.model_dump_json().encode()).hexdigest()
    found.append(results)
print(json.dumps(found))
"""
Workers = dict[str, Path]


def make_worker(schema: str, folder: Path) -> Path:
    """Return the Python of a new environment with what a worker reads its tasks with."""
    # what else the library needs talks to services, and reads no task
    library = f"analysis-pipeline-utils=={CONSUMERS[schema]}"
    if why := make_environment(folder, f"aind-data-schema=={schema}", alone=library):
        pytest.skip(f"no environment with aind-data-schema {schema}: {why}")
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Workers:
    """Return the Pythons of workers, by the version of their aind-data-schema."""
    folder = tmp_path_factory.mktemp("workers")
    return {schema: make_worker(schema, folder / schema) for schema in some(CONSUMERS, 3)}


def read(python: Path, outputs: list[Path]) -> list[dict[str, str | None]]:
    """Return the names of the results of all tasks, as a worker that reads them says."""
    done = subprocess.run(
        [python, "-c", READ, *outputs],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results: list[dict[str, str | None]] = json.loads(done.stdout)
    return results


@pytest.fixture
def both_buckets(docdb: DocDB, s3: S3) -> None:
    for bucket, name in ASSETS:
        docdb.put(record(name, bucket=bucket, subject={"subject_id": name[1]}))
        s3.put(bucket, [f"{name}/{number}.nwb" for number in range(2)])


GIVEN_CODE: Task = {"url": "https://example.org/analysis", "version": "2.1"}
ATLAS = f"s3://{OPEN}/atlas/v3"
ONE = {"object_type": "Data asset", "url": ATLAS}
INPUTS = [ONE, {"object_type": "Combined data", "name": "both", "assets": [ONE, ONE]}]
OF_PIPELINE: dict[str, tuple[int | None, list[str], Any, Any]] = {
    # the version of the capsule, the flags, fixed and distributed parameters
    "files": (3, ["--file_extension=nwb"], {**FIXED, "none": None}, [{"x": [None]}, {"z": True}]),
    "groups": (None, ["--file_extension=nwb", "--group_by=subject.subject_id"], FIXED, None),
    "whole assets": (3, [], None, None),
    "no code": (3, ["--file_extension=nwb", "--analysis_code=none"], FIXED, None),
    "own inputs": (3, ["--file_extension=nwb", "--analysis_code=code.json"], None, None),
}


@pytest.mark.usefixtures("both_buckets")
def test_every_worker_reads_every_task_of_a_pipeline(
    run: Run, workers: Workers, pipeline: Pipeline, tmp_path: Path
) -> None:
    (tmp_path / "code.json").write_text(json.dumps({**GIVEN_CODE, "input_data": INPUTS}))
    tasks: dict[str, list[Task]] = {}
    told = {}
    for name, (version, flags, fixed, sets) in OF_PIPELINE.items():
        give_parameters(tmp_path, fixed or {}, sets or [])
        pipeline.put(version=version)
        env = pipeline.environment if name != "own inputs" else {}
        result = run("--query={}", *flags, output=tmp_path / name, env=env)
        assert result.status == 0, result.log
        tasks[name] = result.tasks()
        told[name] = result_names(run("--query={}", *flags, "--dry_run=1", env=env))
    for schema, python in workers.items():
        for name, results in zip(
            OF_PIPELINE, read(python, [tmp_path / name for name in OF_PIPELINE]), strict=True
        ):
            paths = (tmp_path / name).glob("*/*.json")
            assert results.keys() == {path.stem for path in paths} != set()
            assert (None in results.values()) == (name == "no code")
            if schema == NEWEST:
                assert {result or "" for result in results.values()} == told[name]
    for task in tasks["own inputs"]:
        assert task["analysis_code"]["input_data"][:2] == INPUTS
        assert all("name" not in data for data in task["analysis_code"]["input_data"][2:])


def result_names(result: Result) -> set[str]:
    """Return what the table of a dry run says that the results will be called."""
    assert result.status == 0, result.log
    table = pd.read_csv(result.output / "dispatch_plan.csv", dtype=str, keep_default_na=False)
    return set(table["result"])


@pytest.mark.usefixtures("both_buckets")
def test_a_name_that_the_url_does_not_give_stays(run: Run, tmp_path: Path) -> None:
    own, other = ({"object_type": "Data asset", "name": name, "url": ATLAS} for name in ("z", "A"))
    no_url = {"object_type": "Data asset", "name": "atlas"}
    code = {**GIVEN_CODE, "input_data": [own, other, no_url]}
    (tmp_path / "code.json").write_text(json.dumps(code))
    for task in run("--query={}", *OF_PIPELINE["own inputs"][1]).tasks():
        names = [data.get("name") for data in task["analysis_code"]["input_data"]]
        assert names == ["z", "A", "atlas", None]


def test_the_newest_worker_has_the_locked_versions() -> None:
    lock = (ROOT / "environment" / "requirements.txt").read_text()
    assert f"\naind-data-schema=={NEWEST} " in lock
    assert f"\nanalysis-pipeline-utils=={CONSUMERS[NEWEST]} " in lock


def test_the_documents_have_the_same_table() -> None:
    page = (ROOT / "code" / "docs" / "pipelines.md").read_text()
    rows = re.findall(r"^\| (\d\S*) \| (\d\S*) \|", page, re.MULTILINE)
    assert dict(rows) == CONSUMERS
