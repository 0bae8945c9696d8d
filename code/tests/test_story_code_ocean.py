"""In Code Ocean: where results could mix, or be called otherwise; which secrets are asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, Run
from pipelines import Pipeline
from standins import BUCKET, S3, DocDB, record

FILES = ("--query={}", "--file_extension=nwb")
MIX = "worker folders hold several tasks"


@pytest.fixture
def world(docdb: DocDB, s3: S3) -> None:
    docdb.put(*map(record, "abc"))
    s3.put(BUCKET, [f"{name}/{number}.nwb" for name in "abc" for number in range(2)])


# What of the pipeline's environment is another one, the flags, and why tasks do not say their code,
# "" where no folder is shared by several tasks.
NO_TOKEN: dict[str, str | None] = {"CODEOCEAN_API_TOKEN": None}
SHARED = [
    (NO_TOKEN, ["--max_jobs=2"], "$CODEOCEAN_API_TOKEN not set"),
    ({"CO_COMPUTATION_ID": None}, ["--tasks_per_job=3"], "$CO_COMPUTATION_ID not set"),
    ({}, ["--max_jobs=2", "--analysis_code=none"], "--analysis_code none"),
    (NO_TOKEN, ["--tasks_per_job=1"], ""),
    ({**NO_TOKEN, "CO_PIPELINE_ID": None}, ["--max_jobs=2"], ""),  # out of a pipeline
    ({**NO_TOKEN, "CO_PIPELINE_ID": " "}, ["--max_jobs=2"], ""),
]


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(("other", "flags", "why"), SHARED)
def test_tasks_that_share_a_folder_in_a_pipeline_are_warned_of(
    other: dict[str, str | None], flags: list[str], why: str, run: Run, pipeline: Pipeline
) -> None:
    result = run(*FILES, *flags, env={**pipeline.environment, **other})
    assert result.status == 0, result.log
    assert len(result.names()) == (6 if "--tasks_per_job=1" in flags else 2)
    warnings = [line for line in result.log.splitlines() if MIX in line]
    assert len(warnings) == bool(why)
    for warning in warnings:
        assert " WARNING " in warning
        assert why in warning
        assert "--tasks_per_job 1" in warning


def test_without_a_token_there_are_still_50_folders(
    run: Run, pipeline: Pipeline, docdb: DocDB
) -> None:
    docdb.put(*(record(f"a{number:03}") for number in range(60)))
    result = run("--query={}", env={**pipeline.environment, **NO_TOKEN})
    assert len(result.names()) == 50
    assert MIX in result.log


# A value of the app panel, and what a worker may read it as.
READ_AS = {
    "0.1": "a number", "7": "a number", " 1e-3": "a number", "NaN": "a number",
    "true": "a boolean", "No": "a boolean",
    "null": "no value", "[1, 2]": "JSON", '{"a": 1}': "JSON",
    "good": "", "v1": "", "2025-03-01": "", "1,2": "",
}  # fmt: skip


@pytest.mark.usefixtures("world")
def test_a_panels_value_that_reads_as_another_than_a_string_is_told(
    run: Run, pipeline: Pipeline
) -> None:
    values = {f"name{number}": value for number, value in enumerate(READ_AS)}
    pipeline.put(parameters=[{"name": name, "value": value} for name, value in values.items()])
    result = run(*FILES, env=pipeline.environment)
    assert result.status == 0, result.log
    for name, value in values.items():
        told = [line for line in result.log.splitlines() if f"the parameter {name} is" in line]
        assert len(told) == bool(READ_AS[value])
        for line in told:
            assert json.dumps(value) in line
            assert f"reads that as {READ_AS[value]} " in line
            assert "the column result" in line
            assert "--skip_processed cannot tell" in line


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("sets", "is_told"), [([{"window": 1}], False), ([{"window": 1}, {"other": 2}], True)]
)
def test_a_panels_value_is_not_told_where_every_set_has_another(
    sets: Any, is_told: bool, run: Run, pipeline: Pipeline, tmp_path: Path
) -> None:
    content = {"fixed_parameters": {}, "distributed_parameters": sets}
    (tmp_path / "data" / "analysis_parameters.json").write_text(json.dumps(content))
    pipeline.put(parameters=[{"name": "window", "value": "0.1"}, {"name": "dry_run", "value": "0"}])
    result = run(*FILES, "--skip_processed=1", env=pipeline.environment)
    assert result.status == 0, result.log
    assert ("the parameter window is" in result.log) == is_told
    assert "the parameter dry_run is" not in result.log  # which is no parameter of an analysis


def test_the_capsule_asks_for_the_secrets_that_the_program_reads() -> None:
    asked = json.loads((ROOT / ".codeocean" / "secrets.json").read_text())
    assert asked["version"] == 1
    aws, token = asked["secrets"]
    assert aws["type"] == "aws"
    assert (aws["access_key_id"], aws["secret_access_key"], aws["region"]) == (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_DEFAULT_REGION",
    )
    assert (token["type"], token["value"]) == ("general", "CODEOCEAN_API_TOKEN")
    for secret in asked["secrets"]:
        assert len(secret["id"]) == 16
        assert secret["id"].isalnum()
