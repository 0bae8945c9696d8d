"""Tasks with a code, as the library and the worker see them.

The library takes two seconds to import, so that only those processes do it in which it is asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from aind_data_schema.base import GenericModel
from analysis_pipeline_utils.analysis_dispatch_model import AnalysisDispatchModel

from conftest import Task
from pipelines import Pipeline
from standins import BUCKET, RESULTS, S3, DocDB, record

FILES = ("--query={}", "--file_extension=nwb")


SETS: list[dict[str, Any]] = [{"window": 1, "probe": "A"}, {"z": True}, {}]


OWN = [
    {"name": "dry_run", "param_name": "dry_run", "value": "0"},
    {"name": None, "param_name": None, "value": "7"},
    {"name": "empty", "value": ""},
    {"name": "window", "value": "9"},
]


@pytest.fixture
def library(
    pipeline: Pipeline, docdb: DocDB, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Return a function that gives this process, where the library is called, an environment."""

    def enter(**more: str) -> None:
        ca_file = str(docdb.ca_file)
        for name, value in {
            **pipeline.environment, "REQUESTS_CA_BUNDLE": ca_file, **more
        }.items():  # fmt: skip
            monkeypatch.setenv(name, str(value))

    return enter


@pytest.fixture
def world(docdb: DocDB, s3: S3) -> None:
    docdb.put(*(record(name, subject={"subject_id": str(n % 2)}) for n, name in enumerate("abcd")))
    s3.put(BUCKET, [f"{name}/{n}.nwb" for name in "abcd" for n in range(2)])


def model_of(task: Task) -> AnalysisDispatchModel:
    return AnalysisDispatchModel.model_validate_json(json.dumps(task))


def base_of_the_worker() -> Any:
    """Return what run_analysis_jobs of the library begins with, in the worker's capsule."""
    from analysis_pipeline_utils import metadata

    base = metadata.get_codeocean_process_metadata()
    base.code.parameters = GenericModel()
    return base


def process_of_the_worker(base: Any, model: AnalysisDispatchModel, **parameters: Any) -> Any:
    """Return what the worker writes into the record of its result."""
    from analysis_pipeline_utils import metadata

    return metadata.update_analysis_process(base, model, **parameters)


def processing_prefix(code: Any) -> str:
    """Return the name of the result of a code."""
    from analysis_pipeline_utils import result_files

    return str(result_files.processing_prefix(code))


def asked(docdb: DocDB) -> list[Any]:
    """Return the names in each request to the results store."""
    requests = [request for request in docdb.requests if request.path.startswith(f"/{RESULTS}/")]
    return [request.body[0]["$match"]["name"]["$in"] for request in requests]
