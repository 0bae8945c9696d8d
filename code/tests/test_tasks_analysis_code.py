"""What a task says of the code that will run it."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import time
from base64 import b64encode
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aind_data_schema.base import GenericModel
from aind_data_schema.components.identifiers import Code
from aind_data_schema.core.processing import DataProcess
from analysis_pipeline_utils import metadata, result_files, utils_analysis_wrapper
from analysis_pipeline_utils.analysis_dispatch_model import AnalysisDispatchModel
from analysis_pipeline_utils.metadata import update_analysis_process
from analysis_pipeline_utils.result_files import processing_prefix
from analysis_pipeline_utils.utils_analysis_dispatch import check_task_parameters
from analysis_pipeline_utils.utils_analysis_wrapper import make_cli_model_class

from analysis import (  # noqa: F401  (a fixture)
    FILES,
    OWN,
    SETS,
    asked,
    base_of_the_worker,
    give,
    library,
    model_of,
    world,
)
from conftest import NIGHT, Run, Task, documents, fails
from dispatch.tasks.analysis_code import OF_THE_LIBRARY
from faults import DOCDB_FAULTS, UNANSWERED
from pipelines import FIXED, GIT_TOKEN, RELEASED, Pipeline
from standins import TOKEN, DocDB, Fault, Request, record


def from_the_library(tasks: list[Task], fixed: dict[str, Any]) -> list[AnalysisDispatchModel]:
    """Return what the library's own dispatcher makes of the same tasks."""
    bare = [{key: task[key] for key in task if key != "analysis_code"} for task in tasks]
    return list(check_task_parameters(map(model_of, bare), fixed, filter_processed=False))


def agrees(tasks: list[Task], fixed: dict[str, Any]) -> None:
    """Check that tasks say what the library's would, in the same order, byte by byte."""
    expected = from_the_library(tasks, fixed)
    assert len(expected) == len(tasks) > 0
    for task, wanted in zip(tasks, expected, strict=True):
        assert list(task)[-1] == "analysis_code"
        code = json.loads(wanted.model_dump_json(exclude_none=True))["analysis_code"]
        code["parameters"] = json.loads(wanted.model_dump_json())["analysis_code"]["parameters"]
        assert json.dumps(task["analysis_code"]) == json.dumps(code)
        model = model_of(task)
        assert model.analysis_code == wanted.analysis_code
        assert processing_prefix(model.analysis_code) == processing_prefix(wanted.analysis_code)


CAPSULES: dict[str, tuple[dict[str, Any], str]] = {
    "released": ({}, "3.0"),
    "released, with parameters of its own": ({"parameters": OWN}, "3.0"),
    "not released": ({"version": None}, "[0-9a-f]{40}"),
    "not released, with parameters": ({"version": None, "parameters": OWN}, "[0-9a-f]{40}"),
    "as it was released": ({"version": None, "released": RELEASED}, "2.1"),
    "changed since": ({"version": None, "released": RELEASED - 172_800}, "[0-9a-f]{40}"),
}


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("name", CAPSULES)
def test_a_task_says_what_the_library_would_and_what_the_worker_will(
    name: str, run: Run, pipeline: Pipeline, library: Callable[..., None], tmp_path: Path
) -> None:
    capsule, version = CAPSULES[name]
    pipeline.put(**capsule)
    give(tmp_path, {**FIXED, "dry": 1}, SETS)
    result = run(*FILES, env=pipeline.environment)
    assert result.status == 0, result.log
    tasks = result.tasks()
    assert len(tasks) == 24
    library()
    agrees(tasks, {**FIXED, "dry": 1})
    library(CO_CAPSULE_ID="co-wrapper")
    base = base_of_the_worker()
    for task in tasks:
        assert re.fullmatch(version, task["analysis_code"]["version"])
        model = model_of(task)
        process = metadata.update_analysis_process(base, model)
        # the worker stores its result under the id that was computed here
        assert processing_prefix(process.code) == processing_prefix(model.analysis_code)
        assert process.code.parameters.model_dump().items() >= {
            **FIXED, **task["distributed_parameters"], "file_location": task["file_location"],
        }.items()  # fmt: skip
    assert "every task says its code: my analysis" in result.log


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ({}, True),
        ({"smooth": "yes"}, True),  # the string that Code Ocean has of it
        ({"smooth": True}, False),
        ({"unit": "ms"}, False),  # a fixed parameter gives way to the worker's flag, but not here
    ],
)
def test_a_worker_agrees_as_long_as_its_own_flags_are_what_code_ocean_says(
    flags: dict[str, Any], found: bool, run: Run, pipeline: Pipeline,
    library: Callable[..., None], tmp_path: Path,
) -> None:  # fmt: skip
    own = [{"name": name, "value": "yes"} for name in flags]
    pipeline.put(parameters=own)
    give(tmp_path, FIXED, SETS)
    [task, *_] = run(*FILES, env=pipeline.environment).tasks()
    library(CO_CAPSULE_ID="co-wrapper")
    process = metadata.update_analysis_process(base_of_the_worker(), model_of(task), **flags)
    same = processing_prefix(process.code) == processing_prefix(model_of(task).analysis_code)
    assert same == found


RUNS = {
    "without files": (["--query={}"], 4),
    "files": ([*FILES], 8),
    "whole assets": ([*FILES, "--split_files=0"], 4),
    "groups": ([*FILES, "--group_by=subject.subject_id"], 2),
    "by its id": ([*FILES, "--analysis_capsule=co-wrapper"], 8),
    "by its whole name": ([*FILES, "--analysis_capsule=capsule_my_wrapper_2"], 8),
}


GIVEN = [(None, None), (FIXED, None), (None, SETS), (FIXED, SETS)]
SHAPES = list(product(RUNS, GIVEN))
if not NIGHT:  # all that may be given with the files, and all of it with each other shape
    SHAPES = [(name, given) for name, given in SHAPES if name == "files" or given == GIVEN[-1]]


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(("name", "given"), SHAPES)
def test_every_shape_of_task_says_what_the_library_would(
    name: str, given: Any, run: Run, pipeline: Pipeline, library: Any, tmp_path: Path
) -> None:
    flags, number = RUNS[name]
    fixed, sets = given
    give(tmp_path, fixed, sets)
    result = run(*flags, env=pipeline.environment)
    assert result.status == 0, result.log
    tasks = result.tasks()
    assert len(tasks) == number * len(sets or [None])
    assert {"distributed_parameters" in task for task in tasks} == {bool(sets)}
    library()
    agrees(tasks, fixed or {})


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("missing", "flags", "why"),
    [
        (["CO_PIPELINE_ID"], [], "$CO_PIPELINE_ID not set"),
        (["CO_COMPUTATION_ID", "CODEOCEAN_API_TOKEN"], [],
         "$CO_COMPUTATION_ID and $CODEOCEAN_API_TOKEN not set"),
        ([], ["--analysis_code=none"], "--analysis_code none"),
    ],
)  # fmt: skip
def test_without_a_code_the_fixed_parameters_are_in_every_set(
    missing: list[str], flags: list[str], why: str, run: Run, pipeline: Pipeline,
    library: Callable[..., None], tmp_path: Path,
) -> None:  # fmt: skip
    give(tmp_path, FIXED, SETS)
    env = {**pipeline.environment, **dict.fromkeys(missing)}
    result = run(*FILES, *flags, env=env)
    assert result.status == 0, result.log
    tasks = result.tasks()
    assert [task["distributed_parameters"] for task in tasks] == [
        {**FIXED, **one} for one in SETS
    ] * 8
    assert not any("analysis_code" in task for task in tasks)
    assert f"the tasks do not say their code ({why}): fixed_parameters are merged" in result.log
    assert "so that they win over the app panel of the analysis, which else wins over" in result.log
    assert pipeline.code_ocean.requests == []
    library(CO_CAPSULE_ID="co-wrapper")
    base = base_of_the_worker()
    for task in tasks:
        process = metadata.update_analysis_process(base, model_of(task))
        assert process.code.parameters.model_dump() == {
            "file_location": task["file_location"], **task["distributed_parameters"],
        }  # fmt: skip


PANELS: list[tuple[Any, Any, Any, bool]] = [
    # the panel's, fixed and distributed parameters, and whether it is told
    ({"unit": "ms"}, {"unit": "s"}, None, True),
    ({"unit": "s"}, {"unit": "s"}, None, True),
    ({"unit": "ms"}, {"unit": "s"}, [{"unit": "h"}], False),
    ({"unit": "ms"}, {"unit": "s"}, [{"unit": "h"}, {}], True),
    ({"unit": "ms"}, {"other": 1}, None, False),
    ({"unit": ""}, {"unit": "s"}, None, False),  # which Code Ocean does not pass
    ({}, {"unit": "s"}, None, False),
]


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(("panel", "fixed", "sets", "is_told"), PANELS)
def test_a_fixed_parameter_that_the_panel_has_too_is_told(
    panel: Any, fixed: Any, sets: Any, is_told: bool, run: Run, pipeline: Pipeline, tmp_path: Path
) -> None:
    pipeline.put(parameters=[{"name": name, "value": value} for name, value in panel.items()])
    give(tmp_path, fixed, sets)
    result = run(*FILES, env=pipeline.environment)
    assert result.status == 0, result.log
    told = f'WARNING the parameter unit is fixed as "s", and "{panel.get("unit")}" in the app panel'
    assert (told in result.log) == is_told
    assert ("the worker takes that of the panel" in result.log) == is_told
    skipping = run(*FILES, "--skip_processed=1", "--overwrite=1", env=pipeline.environment)
    assert skipping.status == (2 if is_told else 0), skipping.log
    if is_told:
        assert skipping.error.startswith("error: --skip_processed 1: the parameter unit is fixed")
        assert skipping.files() == result.files()


@pytest.mark.usefixtures("world")
def test_fixed_parameters_alone_are_one_set(run: Run, tmp_path: Path) -> None:
    give(tmp_path, FIXED)
    tasks = run(*FILES).tasks()
    assert [task["distributed_parameters"] for task in tasks] == [FIXED] * 8
    give(tmp_path, {}, [])
    tasks = run(*FILES, "--overwrite=1").tasks()
    assert not any("distributed_parameters" in task for task in tasks)


@pytest.mark.usefixtures("world")
def test_a_file_says_the_same_as_code_ocean(
    run: Run, pipeline: Pipeline, library: Callable[..., None], tmp_path: Path
) -> None:
    pipeline.put(parameters=OWN)
    give(tmp_path, FIXED, SETS)
    asked = run(*FILES, env=pipeline.environment)
    library()
    base = metadata.get_codeocean_process_metadata(capsule_name="wrapper")
    (tmp_path / "data" / "code.json").write_text(base.code.model_dump_json())
    told = run(*FILES, "--analysis_code=code.json", output=tmp_path / "told")
    assert told.status == 0, told.log
    assert told.files() == asked.files()
    assert len(told.files()) == 24


@pytest.mark.usefixtures("world")
def test_the_code_in_the_readme_can_be_used(run: Run, tmp_path: Path) -> None:
    readme = documents()
    string = readme.split("<!-- example code -->\n```json\n")[1].split("```")[0]
    (tmp_path / "code.json").write_text(string)
    give(tmp_path, FIXED)
    [task, *_] = run(*FILES, "--analysis_code=code.json").tasks()
    code, told = task["analysis_code"], json.loads(string)
    assert (code["url"], code["version"]) == (told["url"], told["version"])
    location = task["file_location"]
    assert list(code["parameters"].items()) == [
        *told["parameters"].items(), *FIXED.items(), ("file_location", location)
    ]  # fmt: skip
    assert [data["url"] for data in code["input_data"]] == task["s3_location"]


@pytest.mark.usefixtures("world")
def test_a_code_needs_no_more_than_its_address(run: Run, tmp_path: Path) -> None:
    (tmp_path / "code.json").write_text('{"url": "https://example.org/mine"}')
    result = run("--query={}", "--analysis_code=code.json")
    assert result.status == 0, result.log
    assert {task["analysis_code"]["url"] for task in result.tasks()} == {"https://example.org/mine"}
    assert {json.dumps(task["analysis_code"]["parameters"]) for task in result.tasks()} == {"{}"}
    assert "WARNING code.json has no version and no commit_hash" in result.log
    assert "UserWarning" not in result.log


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ("[]", "a list, not an object"),
        ("{}", "url: Field required"),
        ('{"url": 1}', "url: Input should be a valid string, not '1'"),
        ('{"url": "a", "versoin": "1"}', "versoin: Extra inputs are not permitted"),
        ('{"url": "a", "commit_hash": "xyz"}', "commit_hash: "),
        ('{"url": "a", "input_data": [{"url": "s3://a/b"}]}', "input_data.0: "),
        ('{"url": "a", "parameters": [1]}', "parameters: "),
        ('{"url": "a", "parameters": {"a": NaN}}', "cannot be sent"),
        ('{"url": "a", "parameters": {"a": "\\ud800"}}', "cannot be sent"),
        ('{"url": "a", "url": "b"}', "'url' appears twice"),
    ],
)
def test_a_file_that_is_no_code_is_bad_input(
    content: str, words: str, run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"))
    (tmp_path / "data" / "code.json").write_text(content)
    fails(run("--query={}", "--analysis_code=code.json"), "code.json", words, status=2)


@pytest.mark.parametrize("name", ["nothing.json", "Auto", "."])
def test_a_file_that_is_not_there_is_bad_input(name: str, run: Run) -> None:
    fails(
        run("--query={}", f"--analysis_code={name}"), "auto, none or a file", repr(name), status=2
    )


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("name", sorted(OF_THE_LIBRARY))
def test_a_parameter_that_the_library_takes_for_its_own_is_bad_input(
    name: str, run: Run, pipeline: Pipeline, tmp_path: Path
) -> None:
    give(tmp_path, {name: 1})
    fails(run(*FILES, env=pipeline.environment), "fixed_parameters", repr(name), status=2)
    give(tmp_path, {}, [{"a": 1}, {name: 1}])
    fails(run(*FILES, env=pipeline.environment), "distributed_parameters", repr(name), status=2)
    assert run(*FILES).status == 0  # where no code is known, they are the analysis' own


def test_all_names_that_the_library_takes_for_its_own_are_known() -> None:
    # its flags, its function's parameters, and any word of it that a parameter cannot be called
    own = {*inspect.signature(update_analysis_process).parameters} - {"params"}
    own |= make_cli_model_class(GenericModel).model_fields.keys()
    words = set()
    for module in (metadata, utils_analysis_wrapper, result_files):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words |= set(re.findall(r"\b[A-Za-z_]\w*\b", node.value))
            elif isinstance(node, ast.Name | ast.arg | ast.Attribute | ast.keyword):
                words |= {str(getattr(node, "id", "") or getattr(node, "arg", ""))}
                words |= {str(getattr(node, "attr", ""))}
    task = AnalysisDispatchModel(
        s3_location=["s3://b/a"],
        asset_name=["a"],
        docdb_record_id=["a"],
        file_location=["s3://b/f"],
    )
    code = Code(url="x", parameters=GenericModel())
    base = DataProcess.model_construct(code=code, notes=None)
    assert len(words) > 500
    for word in words - own - {""}:
        made = update_analysis_process(base, task, **{word: "mine"})
        if made.code.parameters.model_dump().get(word) != "mine":
            own.add(word)
    assert own == OF_THE_LIBRARY


@pytest.mark.usefixtures("world")
def test_no_library_is_imported_where_no_code_is_wanted(run: Run, pipeline: Pipeline) -> None:
    heavy = ("codeocean", "aind_data_schema.core.processing", "fsspec")
    profile = {"PYTHONPROFILEIMPORTTIME": "1"}
    env = {**pipeline.environment, **profile}
    for flags, some in ((["--analysis_code=none"], env), ([], profile)):
        log = run(*FILES, "--overwrite=1", *flags, env=some).log
        assert "analysis_pipeline_utils" in log
        assert not any(re.search(rf"\| +{re.escape(name)}$", log, re.MULTILINE) for name in heavy)
    log = run(*FILES, "--overwrite=1", env=env).log
    assert re.search(r"\| +codeocean$", log, re.MULTILINE)


@pytest.mark.usefixtures("world")
def test_another_version_gives_other_ids_and_the_same_one_the_same_bytes(
    run: Run, pipeline: Pipeline, tmp_path: Path
) -> None:
    first = run(*FILES, env=pipeline.environment)
    again = run(*FILES, env=pipeline.environment, output=tmp_path / "again")
    pipeline.put(version=4)
    later = run(*FILES, env=pipeline.environment, output=tmp_path / "later")
    assert first.files() == again.files()
    assert len(first.files()) == len(later.files()) == 8
    ids = [{Path(path).name for path in result.files()} for result in (first, later)]
    assert not ids[0] & ids[1]


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("capsule", "number"), [("nothing", "no"), ("capsule_", "2"), ("Wrapper", "no"), ("co-", "no")]
)
def test_a_capsule_that_is_not_one_is_bad_input_with_the_names_there_are(
    capsule: str, number: str, run: Run, pipeline: Pipeline
) -> None:
    result = run(*FILES, f"--analysis_capsule={capsule}", env=pipeline.environment)
    fails(result, f"--analysis_capsule: {number} capsules", repr(capsule), status=2)
    for process in pipeline.processes:
        assert f"{process['name']} ({process['capsule_id']})" in result.error


@pytest.mark.usefixtures("world")
def test_a_run_that_is_no_pipeline_is_bad_input(run: Run, pipeline: Pipeline) -> None:
    pipeline.processes = []
    pipeline.put_run()
    fails(run(*FILES, env=pipeline.environment), "no capsules", "none at all", status=2)


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"CO_COMPUTATION_ID": "run-2"}, "answers 404"),
        ({"CODEOCEAN_API_TOKEN": "another/token"}, "answers 401"),
        ({"CODEOCEAN_DOMAIN": "localhost:9"}, "5 attempts"),
    ],
)
def test_a_run_token_or_address_that_code_ocean_does_not_know_ends_the_run(
    more: dict[str, str], words: str, run: Run, pipeline: Pipeline
) -> None:
    result = run(*FILES, env={**pipeline.environment, **more, "LOG_LEVEL": "DEBUG"})
    assert result.status == 1
    assert "Code Ocean at localhost:" in result.error
    assert words in result.error
    assert "another/token" not in result.log


CODE_OCEAN_FAULTS: dict[str, tuple[Fault, str]] = {
    **{name: DOCDB_FAULTS[name] for name in ("429", "503", "reset", "hang")},
    "something else": ((200, {}, b"[]"), "not as expected"),
    "nothing": ((200, {}, b"{}"), "not as expected"),
    "no JSON": ((200, {}, b"<html>"), "not JSON"),
}


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("name", CODE_OCEAN_FAULTS)
def test_a_fault_of_code_ocean_that_passes_is_outlived_and_one_that_stays_ends_the_run(
    name: str, run: Run, pipeline: Pipeline
) -> None:
    fault, words = CODE_OCEAN_FAULTS[name]
    constants, faults, tries = {"LONGEST_PAUSE": 0.1}, 2, 5
    if name in UNANSWERED:
        constants["TRIES"] = tries = 3
        faults = 1
    pipeline.code_ocean.faults.extend([fault] * faults)
    timeout = ["--timeout=2"] * (name in UNANSWERED)  # enough for what is answered
    passing = run(*FILES, *timeout, env=pipeline.environment, constants=constants)
    assert passing.status == 0, passing.log
    assert passing.log.count("retrying in") == faults
    assert all("analysis_code" in task for task in passing.tasks())
    pipeline.code_ocean.always = fault
    timeout = ["--timeout=1"] * (name in UNANSWERED)
    flags = [*FILES, *timeout, "--overwrite=1"]
    lasting = run(*flags, env=pipeline.environment, constants=constants)
    assert f"({tries} attempts in " in lasting.error
    assert lasting.status == 1
    assert "no usable answer from Code Ocean at localhost:" in lasting.error
    assert words in lasting.error
    assert lasting.files() == passing.files()


@pytest.mark.usefixtures("world")
def test_code_ocean_is_asked_while_docdb_answers(
    run: Run, docdb: DocDB, pipeline: Pipeline
) -> None:
    seen = []

    def wait(handler: BaseHTTPRequestHandler) -> None:
        deadline = time.monotonic() + 60
        while not pipeline.code_ocean.requests and time.monotonic() < deadline:
            time.sleep(0.05)
        seen.append(bool(pipeline.code_ocean.requests))
        handler.send_response(503)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    docdb.faults.append(wait)
    result = run(*FILES, env=pipeline.environment)
    assert result.status == 0, result.log
    assert seen == [True]


def put_git(folder: Path, script: str) -> str:
    """Return a path on which git is this script."""
    folder.mkdir()
    (folder / "git").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "git").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("released", [0, RELEASED])
def test_git_neither_asks_nor_leaks(run: Run, pipeline: Pipeline, released: int) -> None:
    pipeline.put(version=None, released=released)
    host = pipeline.code_ocean.host  # answers 401, so that git wants a password
    for more in ({"GIT_HOST": host, "GIT_SSL_NO_VERIFY": "1"}, {"GIT_HOST": "localhost:9"}):
        env = {**pipeline.environment, **more, "LOG_LEVEL": "DEBUG", "GIT_CONFIG_COUNT": "0"}
        result = run(*FILES, env=env, constants={"TRIES": 2})
        assert result.status == 1
        assert "no usable answer from Code Ocean at" in result.error
        assert "git says" in result.error
        assert ("Authentication failed" in result.error) == (more["GIT_HOST"] == host)
        assert ("Could not resolve release version" in result.log) == bool(released)
        assert "Traceback" in result.log
        assert GIT_TOKEN not in result.log
        assert TOKEN not in result.log
        assert result.files() == {}


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("where", ["git", "code ocean"])
def test_git_gets_its_password_where_nobody_sees_it(
    where: str, run: Run, pipeline: Pipeline, tmp_path: Path
) -> None:
    pipeline.put(version=None)
    server = pipeline.code_ocean
    user, password = ("me", "pass/word+1") if where == "git" else ("me@example.org", TOKEN)
    wanted = f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"
    commit = "0123456789" * 4
    files = {"info/refs": f"{commit}\trefs/heads/main\n", "HEAD": "ref: refs/heads/main\n"}
    others = server.run

    def serve(request: Request) -> tuple[int, bytes]:
        _, is_git, name = request.path.partition("/capsule-1234567.git/")
        if not is_git:
            return others(request)
        if request.token != wanted:
            return 401, b""
        return 200, files[name].encode()

    env = {
        **pipeline.environment,
        "GIT_ACCESS_TOKEN": f"{user}:{quote(password, safe='')}" if where == "git" else None,
        "GIT_HOST": server.host if where == "git" else None,
        "GIT_CONFIG_COUNT": "1",  # and ours behind it
        "GIT_CONFIG_KEY_0": "credential.helper",
        "GIT_CONFIG_VALUE_0": "!echo username=another; echo password=wrong; true",
        "GIT_SSL_NO_VERIFY": "1",
        "GIT_TRACE": str(tmp_path / "trace"),  # all commands, with what they are given
        "CO_CAPSULE_BRANCH": "main",
    }
    server.run = serve  # type: ignore[method-assign]
    try:
        result = run(*FILES, env=env)
    finally:
        del server.run
    assert result.status == 0, result.log
    assert {task["analysis_code"]["version"] for task in result.tasks()} == {commit}
    trace = (tmp_path / "trace").read_text()
    assert "remote-https" in trace
    for secret in (password, quote(password, safe="")):
        assert secret not in trace


@pytest.mark.usefixtures("world")
def test_a_git_that_names_the_token_is_quoted_without_it(
    run: Run, pipeline: Pipeline, tmp_path: Path
) -> None:
    pipeline.put(version=None)
    path = put_git(tmp_path / "tools", 'echo "no such token: $GIT_ACCESS_TOKEN" >&2; exit 128')
    env = {**pipeline.environment, "PATH": path, "LOG_LEVEL": "DEBUG"}
    result = run(*FILES, env=env, constants={"TRIES": 2})
    assert result.status == 1
    assert "git says 'no such token: ...'" in result.error
    assert GIT_TOKEN not in result.log


@pytest.mark.usefixtures("world")
def test_a_git_that_hangs_ends_the_run(run: Run, pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.put(version=None)
    path = put_git(tmp_path / "tools", "exec sleep 30")
    env = {**pipeline.environment, "PATH": path}
    result = run(*FILES, "--timeout=1", env=env, constants={"TRIES": 2})
    fails(result, "Code Ocean at", "nothing within 1 s (--timeout)")


@pytest.mark.usefixtures("world")
def test_a_git_that_is_missing_is_told(run: Run, pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.put(version=None)
    fails(run(*FILES, env={**pipeline.environment, "PATH": str(tmp_path)}), "Code Ocean", "git")
    pipeline.put()
    assert run(*FILES, env={**pipeline.environment, "PATH": str(tmp_path)}).status == 0
