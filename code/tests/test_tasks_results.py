"""Tasks whose results are in the results store already."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import (  # noqa: F401  (a fixture)
    FILES,
    SETS,
    asked,
    base_of_the_worker,
    library,
    model_of,
    process_of_the_worker,
    processing_prefix,
)
from conftest import Run, Task, fails, give_parameters
from dispatch.records.docdb import open_docdb
from pipelines import FIXED, Pipeline
from standins import BUCKET, RESULTS, S3, TOKEN, DocDB, Request, record

pytestmark = pytest.mark.usefixtures("world")
QUERY = ("--query={}",)  # a task for each asset, as there is one for each file


@pytest.fixture
def world(docdb: DocDB, s3: S3) -> None:
    docdb.put(*map(record, "abcdefgh"))
    s3.put(BUCKET, [f"{name}/0.nwb" for name in "abcdefgh"])


def test_results_of_this_code_by_other_names_are_told(
    run: Run, docdb: DocDB, pipeline: Pipeline
) -> None:
    tasks = run(*QUERY, env=pipeline.environment).tasks()
    code = {key: tasks[0]["analysis_code"][key] for key in ("url", "version")}
    for number, version in enumerate([code["version"], code["version"], "another"]):
        of = {"data_processes": [{"code": {**code, "version": version}}]}
        docdb.put({"_id": str(number), "name": str(number), "processing": of}, version=RESULTS)
    flags = [*QUERY, "--skip_processed=1", "--overwrite=1"]
    result = run(*flags, env=pipeline.environment)
    assert result.status == 0, result.log
    words = "WARNING none of 8 tasks has a result, though the results store holds 2 results of this"
    assert result.log.count(words) == 1
    only = run(*flags, "--asset_name=a", env=pipeline.environment)
    assert words.replace("8 tasks", "1 task") in only.log
    store(docdb, tasks[:1])
    assert "though the results store" not in run(*flags, env=pipeline.environment).log


def store(docdb: DocDB, tasks: list[Task]) -> list[str]:
    """Put the results of tasks into the results store; return their names."""
    names = [processing_prefix(model_of(task).analysis_code) for task in tasks]
    docdb.put(*({"_id": name, "name": name} for name in names), version=RESULTS)
    return names


def is_stored(base: Any, task: Task) -> bool:
    """Return whether the worker would find a result, and leave out the task."""
    from analysis_pipeline_utils import metadata

    return bool(metadata.docdb_record_exists(process_of_the_worker(base, model_of(task)).code))


def test_what_is_processed_already_is_left_out(
    run: Run, docdb: DocDB, pipeline: Pipeline, library: Callable[..., None], tmp_path: Path
) -> None:
    give_parameters(tmp_path, FIXED, SETS)
    every = run(*FILES, env=pipeline.environment)
    tasks = every.tasks()
    names = store(docdb, [*tasks[::2], tasks[1]])
    library(CO_CAPSULE_ID="co-wrapper")
    base = base_of_the_worker()
    fresh = [task for task in tasks if not is_stored(base, task)]
    assert len(fresh) == 24 - len(names) == 11
    docdb.requests.clear()
    flags = [*FILES, "--skip_processed=1", "--overwrite=1"]
    result = run(*flags, env=pipeline.environment)
    assert result.status == 0, result.log
    assert result.tasks() == fresh
    assert len(asked(docdb)) == 2  # the second one finds no more
    assert f"{len(fresh)} tasks (13 processed already), " in result.error
    assert len(re.findall(r"INFO processed already: 'a', '\S+/a/0.nwb', ", result.log)) == 3
    assert all(f"its result is {name}" in result.log for name in names)
    some = run(*flags, "--max_tasks=2", env=pipeline.environment)
    assert some.tasks() == fresh[:2]
    assert "2 tasks (13 processed already, 9 more left out), 2 workers" in some.error
    without = run(*FILES, "--overwrite=1", env=pipeline.environment)
    assert without.files() == every.files()
    assert "processed already" not in without.log


def test_that_all_is_processed_is_no_failure(
    run: Run, docdb: DocDB, pipeline: Pipeline, tmp_path: Path
) -> None:
    every = run(*FILES, env=pipeline.environment)
    store(docdb, every.tasks())
    flags = [*FILES, "--skip_processed=1", "--strict=1"]
    refused = run(*flags, env=pipeline.environment)
    assert refused.status == 2
    assert refused.files() == every.files()
    result = run(*flags, env=pipeline.environment, output=tmp_path / "new")
    assert result.status == 0, result.log
    assert result.files() == {}
    assert "INFO nothing new to dispatch to" in result.error
    assert "8 files, 0 tasks (8 processed already), 0 workers, " in result.error
    replaced = run(*flags, "--overwrite=1", env=pipeline.environment)
    assert replaced.status == 0, replaced.log
    assert replaced.names() == []
    assert list(replaced.files()) == [".dispatch_plan.jsonl"]  # of what was dispatched last


def test_a_dry_run_shows_what_is_processed_already(
    run: Run, docdb: DocDB, pipeline: Pipeline
) -> None:
    tasks = run(*QUERY, env=pipeline.environment).tasks()
    predicted = [processing_prefix(model_of(task).analysis_code) for task in tasks]
    names: list[str] = []
    for processed in (0, 3, 8):
        names += store(docdb, tasks[len(names) : processed])
        flags = [*QUERY, "--skip_processed=1", "--overwrite=1", "--dry_run=1"]
        result = run(*flags, env=pipeline.environment)
        assert result.status == 0, result.log
        assert f"{8 - processed} tasks ({processed} processed already), " in result.error
        table = pd.read_csv(result.output / "dispatch_plan.csv", dtype=str, keep_default_na=False)
        assert list(table["result"]) == predicted[processed:] + names
        assert list(table["processed"]) == ["0"] * (8 - processed) + ["1"] * processed
        workers = [str(number) for number in range(8 - processed)]
        assert list(table["worker"]) == workers + [""] * processed
        page = (result.output / "dispatch_plan.html").read_text()
        words = "The results store has the results of"
        assert (words in page) == bool(processed)
        assert all(name in page for name in names)
        assert (f" processed already {processed}," in result.stdout) == bool(processed)
        assert TOKEN not in page + result.stdout + result.log


def ask_of_many(number: int, folder: Path) -> tuple[list[str], dict[str, str | None]]:
    """Return how to ask which results of so many assets are there."""
    records = [record(f"{n:05}") for n in range(number)]
    (folder / "records.json").write_text(json.dumps(records))
    (folder / "code.json").write_text('{"url": "https://example.org/mine", "version": "1"}')
    flags = ["--query={}", "--docdb_snapshot=records.json", "--analysis_code=code.json"]
    env: dict[str, str | None] = {"DOCDB_DATABASE": "analysis", "DOCDB_COLLECTION": "results"}
    return [*flags, "--skip_processed=1", "--overwrite=1", "--max_jobs=50"], env


def test_ten_thousand_names_are_asked_for_in_three_requests(
    run: Run, docdb: DocDB, services: dict[str, str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    is_there: dict[str, bool] = {}

    def know_every_other(request: Request, _: bytes) -> tuple[int, dict[str, str], bytes]:
        names = request.body[0]["$match"]["name"]["$in"]
        for number, name in enumerate(names):
            is_there.setdefault(name, number % 2 == 0)
        return 200, {}, json.dumps([{"name": name} for name in names if is_there[name]]).encode()

    docdb.spoil = know_every_other
    for name in ("DOCDB_HOST", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, services[name])
    results = open_docdb("v1", 60, database="analysis", collection="results")
    known = results.known_names([f"{number:064}" for number in range(10_000)])
    assert known == {f"{number:064}" for number in range(0, 10_000, 2)}
    assert len(asked(docdb)) == 3
    flags, env = ask_of_many(2_042, tmp_path)
    result = run(*flags, env=env)
    assert result.status == 0, result.log
    assert "1,021 tasks (1,021 processed already)" in result.error
    assert len(re.findall("INFO processed already: ", result.log)) == 21
    assert "processed already: and 1,001 more" in result.log


def test_a_gateway_that_takes_and_gives_less_is_asked_more_often(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    flags, env = ask_of_many(300, tmp_path)
    every = run(*flags, env=env)
    store(docdb, [task for worker in every.workers() for task in worker][::2])
    docdb.requests.clear()
    whole = run(*flags, env=env).files()
    assert len(whole) == 150
    assert len(asked(docdb)) == 2
    docdb.requests.clear()
    docdb.max_request, docdb.max_answer = 6_000, 3_000
    assert run(*flags, env=env).files() == whole
    assert 3 < len(asked(docdb)) < 30
    docdb.max_answer = 10
    failed = run(*flags, env=env)
    assert failed.status == 1
    assert "too large" in failed.error
    assert failed.files() == whole


@pytest.mark.parametrize(
    ("flags", "more", "words"),
    [
        (["--analysis_code=none"], {}, ": --analysis_code none"),
        ([], {"CODEOCEAN_API_TOKEN": None}, ": $CODEOCEAN_API_TOKEN not set"),
        ([], {"DOCDB_HOST": None}, ": $DOCDB_HOST not set"),
        ([], {"DOCDB_DATABASE": None, "DOCDB_COLLECTION": " "},
         ": $DOCDB_DATABASE and $DOCDB_COLLECTION not set"),
    ],
)  # fmt: skip
def test_what_skip_processed_lacks_is_bad_input(
    flags: list[str], more: dict[str, str | None], words: str, run: Run, pipeline: Pipeline
) -> None:
    env = {**pipeline.environment, **more}
    fails(run(*QUERY, "--skip_processed=1", *flags, env=env), "--skip_processed 1", words, status=2)


def test_a_results_store_that_fails_or_is_not_there_ends_the_run(
    run: Run, docdb: DocDB, pipeline: Pipeline
) -> None:
    flags = [*QUERY, "--skip_processed=1"]
    env = {**pipeline.environment, "DOCDB_COLLECTION": "another"}
    name = f"the results store analysis/another at {docdb.host}"
    fails(run(*flags, env=env), f"{name} answers 404")

    docdb.requests.clear()

    def spoil() -> None:  # behind the answers with the metadata
        if len(docdb.requests) == 2:
            docdb.always = (503, {}, b"busy")

    docdb.after = spoil
    result = run(*flags, env=pipeline.environment)
    fails(result, "no usable answer from the results store analysis/results", "503")


LIMIT = "--max_number_of_tasks_dispatched=4"  # as pipelines made for earlier dispatchers have it


def test_a_limit_by_its_former_name_counts_what_has_no_result(
    run: Run, docdb: DocDB, pipeline: Pipeline, tmp_path: Path
) -> None:
    every = run(*QUERY, env=pipeline.environment).tasks()
    done: list[Task] = []
    for number in range(3):
        result = run(*QUERY, LIMIT, env=pipeline.environment, output=tmp_path / str(number))
        assert result.status == 0, result.log
        assert "--max_number_of_tasks_dispatched: tasks with a result are left out" in result.log
        assert result.tasks() == every[4 * number : 4 * number + 4]
        done += result.tasks()
        if result.tasks():
            store(docdb, result.tasks())
    assert done == every
    # under its own name it counts all, and says how to leave out what has a result
    both = run(*QUERY, "--max_tasks=2", env=pipeline.environment, output=tmp_path / "own")
    assert both.tasks() == every[:2]
    assert "a limit counts tasks with a result, too: --skip_processed 1 leaves them out" in both.log
    assert "which needs the code" not in both.log
    # without the code it leaves nothing out, and without a results store it says nothing of it
    none = run(*QUERY, LIMIT, "--analysis_code=none", "--overwrite=1", env=pipeline.environment)
    assert len(none.tasks()) == 4
    assert "leaves them out, which needs the code of the analysis: --analysis_code none" in none.log
    without = {**pipeline.environment, "DOCDB_COLLECTION": ""}
    unknown = run(*QUERY, LIMIT, "--overwrite=1", env=without)
    assert len(unknown.tasks()) == 4
    assert "skip_processed" not in unknown.log


def test_what_has_no_result_is_sent_again_from_its_plan(
    run: Run, docdb: DocDB, pipeline: Pipeline, tmp_path: Path
) -> None:
    first = run(*QUERY, env=pipeline.environment, output=tmp_path / "first")
    tasks = first.tasks()
    store(docdb, tasks[:5])
    docdb.put(record("later"))
    environment = {**pipeline.environment, "CODEOCEAN_DOMAIN": "localhost:9"}
    flags = ["--from_plan=first", "--skip_processed=1"]
    again = run(*flags, env=environment, output=tmp_path / "again")
    assert again.status == 0, again.log
    assert again.tasks() == tasks[5:]
    assert "3 tasks (5 processed already)" in again.error
    head = json.loads((first.output / ".dispatch_plan.jsonl").read_text().partition("\n")[0])
    code = tasks[0]["analysis_code"]
    assert head["code"] == {
        name: value for name, value in code.items() if name not in ("parameters", "input_data")
    }
    plain = run(*QUERY, "--analysis_code=none", "--dry_run=1", output=tmp_path / "plain")
    assert plain.status == 0
    refused = run("--from_plan=plain", "--skip_processed=1", env=environment)
    assert refused.status == 2
    assert "--skip_processed 1: the tasks do not say the code of the analysis" in refused.error
    store_unknown = run("--from_plan=first", "--skip_processed=1")
    assert store_unknown.status == 2
    assert "needs the place of the results store" in store_unknown.error
