"""Consumers: the tasks are read by workers with the versions of the libraries that are in use."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from conftest import ROOT, Result, Run, Task, some
from environments import make_environment
from pipelines import FIXED, Pipeline
from standins import BUCKET, S3, DocDB, record

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
def world(docdb: DocDB, s3: S3) -> None:
    for bucket, name in ASSETS:
        docdb.put(record(name, bucket=bucket, subject={"subject_id": name[1]}))
        s3.put(bucket, [f"{name}/{number}.nwb" for number in range(2)])


CODE: Task = {"url": "https://example.org/analysis", "version": "2.1"}
ATLAS = f"s3://{OPEN}/atlas/v3"
ONE = {"object_type": "Data asset", "url": ATLAS}
INPUTS = [ONE, {"object_type": "Combined data", "name": "both", "assets": [ONE, ONE]}]
RUNS: dict[str, tuple[int | None, list[str], Any, Any]] = {
    # the version of the capsule, the flags, fixed and distributed parameters
    "files": (3, ["--file_extension=nwb"], {**FIXED, "none": None}, [{"x": [None]}, {"z": True}]),
    "groups": (None, ["--file_extension=nwb", "--group_by=subject.subject_id"], FIXED, None),
    "whole assets": (3, [], None, None),
    "no code": (3, ["--file_extension=nwb", "--analysis_code=none"], FIXED, None),
    "own inputs": (3, ["--file_extension=nwb", "--analysis_code=code.json"], None, None),
}


@pytest.mark.usefixtures("world")
def test_every_worker_reads_every_task_of_a_pipeline(
    run: Run, workers: Workers, pipeline: Pipeline, tmp_path: Path
) -> None:
    (tmp_path / "code.json").write_text(json.dumps({**CODE, "input_data": INPUTS}))
    tasks: dict[str, list[Task]] = {}
    told = {}
    for name, (version, flags, fixed, sets) in RUNS.items():
        content = {"fixed_parameters": fixed or {}, "distributed_parameters": sets or []}
        (tmp_path / "data" / "analysis_parameters.json").write_text(json.dumps(content))
        pipeline.put(version=version)
        env = pipeline.environment if name != "own inputs" else {}
        result = run("--query={}", *flags, output=tmp_path / name, env=env)
        assert result.status == 0, result.log
        tasks[name] = result.tasks()
        told[name] = result_names(run("--query={}", *flags, "--dry_run=1", env=env))
    for schema, python in workers.items():
        for name, results in zip(
            RUNS, read(python, [tmp_path / name for name in RUNS]), strict=True
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


@pytest.mark.usefixtures("world")
def test_a_name_that_the_url_does_not_give_stays(run: Run, tmp_path: Path) -> None:
    own = {"object_type": "Data asset", "name": "mine", "url": ATLAS}
    no_url = {"object_type": "Data asset", "name": "atlas"}
    (tmp_path / "code.json").write_text(json.dumps({**CODE, "input_data": [own, no_url]}))
    for task in run("--query={}", *RUNS["own inputs"][1]).tasks():
        names = [data.get("name") for data in task["analysis_code"]["input_data"]]
        assert names == ["mine", "atlas", None]


def test_the_newest_worker_has_the_locked_versions() -> None:
    lock = (ROOT / "environment" / "requirements.txt").read_text()
    assert f"\naind-data-schema=={NEWEST} " in lock
    assert f"\nanalysis-pipeline-utils=={CONSUMERS[NEWEST]} " in lock


def test_the_documents_have_the_same_table() -> None:
    page = (ROOT / "code" / "docs" / "pipelines.md").read_text()
    rows = re.findall(r"^\| (\d\S*) \| (\d\S*) \|", page, re.MULTILINE)
    assert dict(rows) == CONSUMERS
