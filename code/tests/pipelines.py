"""A pipeline of Code Ocean, whose worker is a capsule in a git repository."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from standins import TOKEN, CodeOcean, DocDB

GIT_TOKEN = "example-git-token"  # noqa: S105
FIXED: dict[str, Any] = {"unit": "s", "deep": {"x": [1, None, 2.5], "é": "漢"}, "window": 5}
RELEASED = 1_700_000_000  # when; the commit of the capsule is a day older
CAPSULE = {"id": "co-wrapper", "created": 1, "name": "my analysis", "owner": "me",
           "status": "non_release", "slug": "1234567"}  # fmt: skip
DISPATCHER = {"name": "capsule_job_dispatch_1", "capsule_id": "co-dispatch", "version": 1}


@dataclass
class Pipeline:
    """A pipeline that runs on the stand-in of Code Ocean."""

    code_ocean: CodeOcean
    environment: dict[str, str | None]
    processes: list[dict[str, Any]] = field(default_factory=list)

    def put(self, version: int | None = 3, released: int = 0, **more: Any) -> None:
        """Add its run, and the capsule of its worker."""
        worker = {"name": "capsule_my_wrapper_2", "capsule_id": "co-wrapper", "version": version}
        self.processes = [DISPATCHER, {**worker, **more}]
        self.put_run()
        capsule = {**CAPSULE, "release_capsule": "co-released"} if released else CAPSULE
        self.code_ocean.put("capsules", **capsule)
        versions = [{"major_version": 2, "minor_version": 1, "release_time": released}]
        self.code_ocean.put("capsules", **{**CAPSULE, "id": "co-released", "versions": versions})

    def put_run(self) -> None:
        """Add its run, with its processes."""
        self.code_ocean.put(
            "computations",
            **{"id": "run-1", "created": 1_700_000_000, "name": "a run", "owner": "me"},
            **{"run_time": 5, "state": "running", "processes": self.processes},
            data_assets=[{"id": "asset-1", "mount": "input_files"}],
        )
        self.code_ocean.put(
            "data_assets",
            **{"id": "asset-1", "created": 1, "name": "inputs", "mount": "m", "last_used": 1},
            **{"owner": "me", "state": "ready", "type": "dataset"},
            source_bucket={"origin": "aws", "bucket": "inputs", "prefix": "of/this"},
        )


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bare repository of the worker's capsule, with one commit."""
    work, bare = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("bare")
    when = f"{RELEASED - 86_400} +0000"
    env = {**os.environ, "GIT_COMMITTER_DATE": when, "GIT_AUTHOR_DATE": when}
    for command in (
        ["init", "-q"],
        ["-c", "user.name=me", "-c", "user.email=me", "commit", "-q", "--allow-empty", "-m", "one"],
        ["clone", "-q", "--bare", ".", str(bare)],
    ):
        subprocess.run(["git", *command], cwd=work, env=env, check=True)
    return bare


@pytest.fixture
def pipeline(docdb: DocDB, code_ocean: CodeOcean, repository: Path) -> Pipeline:
    found = Pipeline(
        code_ocean,
        {
            "CO_PIPELINE_ID": "co-pipeline",
            "CO_COMPUTATION_ID": "run-1",
            "CO_CAPSULE_ID": "co-dispatch",
            "CODEOCEAN_API_TOKEN": TOKEN,
            "CODEOCEAN_DOMAIN": code_ocean.host,
            "CODEOCEAN_EMAIL": "me@example.org",
            "GIT_ACCESS_TOKEN": GIT_TOKEN,
            "GIT_HOST": "git.example",
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": "https://...@git.example/capsule-1234567.git",
            "GIT_CONFIG_KEY_1": f"url.{repository.as_uri()}.insteadOf",  # as the worker asks it
            "GIT_CONFIG_VALUE_1": f"https://{GIT_TOKEN}@git.example/capsule-1234567.git",
            "DOCDB_HOST": docdb.host,
            "DOCDB_DATABASE": "analysis",
            "DOCDB_COLLECTION": "results",
        },
    )
    found.put()
    return found
