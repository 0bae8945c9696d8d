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
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aind_data_schema.base import GenericModel
from analysis_pipeline_utils.analysis_dispatch_model import AnalysisDispatchModel

from analysis import (  # noqa: F401  (fixtures)
    FILES,
    OWN,
    SETS,
    base_of_the_worker,
    library,
    model_of,
    process_of_the_worker,
    processing_prefix,
    world,
)
from conftest import Result, Run, Task, documents, fails, give_parameters
from dispatch.tasks.analysis_code import OF_THE_LIBRARY, read_code
from dispatch.terminal.messages import BadInput
from faults import DOCDB_FAULTS, hang
from pipelines import FIXED, GIT_TOKEN, RELEASED, Pipeline
from standins import TOKEN, DocDB, Fault, Request

pytestmark = pytest.mark.usefixtures("world")


def from_the_library(tasks: list[Task], fixed: dict[str, Any]) -> list[AnalysisDispatchModel]:
    """Return what the library's own dispatcher makes of the same tasks."""
    from analysis_pipeline_utils.utils_analysis_dispatch import check_task_parameters

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


QUERY = ("--query={}",)  # a task for each asset: most of what is asked here does not hang on files
COMMIT = "[0-9a-f]{40}"
BOTH = ({**FIXED, "dry": 1}, SETS)
CASES: list[tuple[dict[str, Any], list[str], int, Any, str]] = [
    # the capsule, the flags, the number of tasks, fixed and distributed parameters, the version
    ({"parameters": OWN}, [*FILES], 8, BOTH, "3.0"),
    ({"version": None, "parameters": OWN}, [*QUERY], 4, BOTH, COMMIT),
    # as it was released, and changed since
    ({"version": None, "released": RELEASED}, [*FILES, "--split_files=0"], 4, BOTH, "2.1"),
    ({"version": None, "released": RELEASED - 172_800},
     [*FILES, "--group_by=subject.subject_id"], 2, BOTH, COMMIT),
    ({}, [*FILES], 8, (None, None), "3.0"),
    ({}, [*FILES, "--analysis_capsule=co-wrapper"], 8, (FIXED, None), "3.0"),
    ({}, [*FILES, "--analysis_capsule=capsule_my_wrapper_2"], 8, (None, SETS), "3.0"),
]  # fmt: skip


@pytest.mark.parametrize(("capsule", "flags", "number", "given", "version"), CASES)
def test_a_task_says_what_the_library_would_and_what_the_worker_will(
    capsule: Any, flags: list[str], number: int, given: Any, version: str,
    run: Run, pipeline: Pipeline, library: Callable[..., None], tmp_path: Path,
) -> None:  # fmt: skip
    fixed, sets = given
    pipeline.put(**capsule)
    give_parameters(tmp_path, fixed, sets)
    result = run(*flags, env=pipeline.environment)
    assert result.status == 0, result.log
    tasks = result.tasks()
    assert len(tasks) == number * len(sets or [None])
    assert {"distributed_parameters" in task for task in tasks} == {bool(sets)}
    library()
    agrees(tasks, fixed or {})
    library(CO_CAPSULE_ID="co-wrapper")
    base = base_of_the_worker()
    for task in tasks:
        assert re.fullmatch(version, task["analysis_code"]["version"])
        model = model_of(task)
        process = process_of_the_worker(base, model)
        # the worker stores its result under the id that was computed here
        assert processing_prefix(process.code) == processing_prefix(model.analysis_code)
        expected = {**(fixed or {}), **task.get("distributed_parameters", {})}
        if task["file_location"]:
            expected["file_location"] = task["file_location"]
        assert process.code.parameters.model_dump().items() >= expected.items()
    assert "every task says its code: my analysis" in result.log


def test_a_worker_agrees_as_long_as_its_own_flags_are_what_code_ocean_says(
    run: Run, pipeline: Pipeline, library: Callable[..., None], tmp_path: Path
) -> None:
    give_parameters(tmp_path, FIXED, SETS)
    library(CO_CAPSULE_ID="co-wrapper")
    for name, values in (
        ("smooth", {"yes": True, True: False}),  # a string is what Code Ocean has of it
        ("unit", {"ms": False}),  # a fixed parameter gives way to the worker's flag, but not here
    ):
        pipeline.put(parameters=[{"name": name, "value": "yes"}])
        [task, *_] = run(*QUERY, env=pipeline.environment, output=tmp_path / name).tasks()
        expected = processing_prefix(model_of(task).analysis_code)
        for value, agreeing in values.items():
            base, model = base_of_the_worker(), model_of(task)
            process = process_of_the_worker(base, model, **{name: value})
            assert (processing_prefix(process.code) == expected) == agreeing


@pytest.mark.parametrize(
    ("missing", "flags", "sets", "why"),
    [
        (["CO_PIPELINE_ID"], [], SETS, "$CO_PIPELINE_ID not set"),
        (["CO_COMPUTATION_ID", "CODEOCEAN_API_TOKEN"], [], SETS,
         "$CO_COMPUTATION_ID and $CODEOCEAN_API_TOKEN not set"),
        ([], ["--analysis_code=none"], None, "--analysis_code none"),
    ],
)  # fmt: skip
def test_without_a_code_the_fixed_parameters_are_in_every_set(
    missing: list[str], flags: list[str], sets: Any, why: str, run: Run, pipeline: Pipeline,
    library: Callable[..., None], tmp_path: Path,
) -> None:  # fmt: skip
    give_parameters(tmp_path, FIXED, sets)
    env = {**pipeline.environment, **dict.fromkeys(missing)}
    result = run(*FILES, *flags, env=env)
    assert result.status == 0, result.log
    tasks = result.tasks()
    expected = [{**FIXED, **one} for one in sets or [{}]]
    assert [task["distributed_parameters"] for task in tasks] == expected * 8
    assert not any("analysis_code" in task for task in tasks)
    assert f"the tasks do not say their code ({why}): fixed_parameters are merged" in result.log
    assert "so that they win over the app panel of the analysis, which else wins over" in result.log
    assert pipeline.code_ocean.requests == []
    library(CO_CAPSULE_ID="co-wrapper")
    base = base_of_the_worker()
    for task in tasks:
        process = process_of_the_worker(base, model_of(task))
        assert process.code.parameters.model_dump() == {
            "file_location": task["file_location"], **task["distributed_parameters"],
        }  # fmt: skip


def test_a_fixed_parameter_that_the_panel_has_too_is_told(
    run: Run, pipeline: Pipeline, tmp_path: Path
) -> None:
    def dispatch(sets: Any, panel: dict[str, str], *flags: str) -> Result:
        pipeline.put(parameters=[{"name": name, "value": value} for name, value in panel.items()])
        give_parameters(
            tmp_path, dict.fromkeys(["unit", "same", "varied", "partly", "empty", "no"], "s"), sets
        )
        return run(*QUERY, *flags, "--overwrite=1", env=pipeline.environment)

    # the panel's own, and an empty one, which Code Ocean does not pass, are not told
    panel = {"unit": "ms", "same": "s", "own": "ms", "empty": ""}
    sets = [{"varied": "h", "partly": "h"}, {"varied": "h"}]
    untold = {"varied": "ms", "own": "ms", "empty": ""}
    for given, more, told in (
        (None, {}, {"same": "s", "unit": "ms"}),
        (sets, {"varied": "ms", "partly": "ms"}, {"partly": "ms", "same": "s", "unit": "ms"}),
    ):
        result = dispatch(given, {**panel, **more})
        assert result.status == 0, result.log
        assert re.findall("WARNING the parameter .*", result.log) == [
            f'WARNING the parameter {name} is fixed as "s", and "{value}" in the app panel of the'
            " analysis capsule: the worker takes that of the panel"
            for name, value in told.items()
        ]
    skipping = dispatch(sets, {**untold, "partly": "ms"}, "--skip_processed=1")
    assert skipping.status == 2
    words = 'error: --skip_processed 1: the parameter partly is fixed as "s", and "ms" in the app'
    assert skipping.error.startswith(words)
    assert skipping.files() == result.files()
    assert dispatch(sets, untold, "--skip_processed=1").status == 0


def test_a_file_says_the_same_as_code_ocean(
    run: Run, pipeline: Pipeline, library: Callable[..., None], tmp_path: Path
) -> None:
    from analysis_pipeline_utils import metadata

    pipeline.put(parameters=OWN)
    give_parameters(tmp_path, FIXED, SETS)
    asked = run(*FILES, env=pipeline.environment)
    library()
    base = metadata.get_codeocean_process_metadata(capsule_name="wrapper")
    (tmp_path / "data" / "code.json").write_text(base.code.model_dump_json())
    told = run(*FILES, "--analysis_code=code.json", output=tmp_path / "told")
    assert told.status == 0, told.log
    assert told.files() == asked.files()
    assert len(told.files()) == 24


def test_the_code_in_the_readme_can_be_used(run: Run, tmp_path: Path) -> None:
    readme = documents()
    string = readme.split("<!-- example code -->\n```json\n")[1].split("```")[0]
    (tmp_path / "code.json").write_text(string)
    give_parameters(tmp_path, FIXED)
    [task, *_] = run(*FILES, "--analysis_code=code.json").tasks()
    code, told = task["analysis_code"], json.loads(string)
    assert (code["url"], code["version"]) == (told["url"], told["version"])
    location = task["file_location"]
    assert list(code["parameters"].items()) == [
        *told["parameters"].items(), *FIXED.items(), ("file_location", location)
    ]  # fmt: skip
    assert [data["url"] for data in code["input_data"]] == task["s3_location"]


def test_a_code_needs_no_more_than_its_address(run: Run, tmp_path: Path) -> None:
    (tmp_path / "code.json").write_text('{"url": "https://example.org/mine"}')
    result = run(*QUERY, "--analysis_code=code.json")
    assert result.status == 0, result.log
    assert {task["analysis_code"]["url"] for task in result.tasks()} == {"https://example.org/mine"}
    assert {json.dumps(task["analysis_code"]["parameters"]) for task in result.tasks()} == {"{}"}
    assert "WARNING code.json has no version and no commit_hash" in result.log
    assert "UserWarning" not in result.log


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "a list, not an object"),
        ("{}", "url: Field required"),
        ('{"url": 1}', "url: Input should be a valid string, not '1'"),
        ('{"url": "a", "versoin": "1"}', "versoin: Extra inputs are not permitted"),
        ('{"url": "a", "commit_hash": "xyz"}', "commit_hash: "),
        ('{"url": "a", "input_data": [{"url": "s3://a/b"}]}', "input_data.0: "),
        ('{"url": "a", "parameters": [1]}', "parameters: "),
    ],
)
def test_a_file_that_is_no_code_is_bad_input(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "code.json").write_text(content)
    with pytest.raises(BadInput, match=rf"code\.json.*{re.escape(words)}"):
        read_code(tmp_path / "code.json")


def test_a_code_that_cannot_be_used_ends_the_run(run: Run, tmp_path: Path) -> None:
    for name in ("nothing.json", "Auto", "."):
        result = run(*QUERY, f"--analysis_code={name}")
        fails(result, "--analysis_code must be auto, none or a file", repr(name), status=2)
    (tmp_path / "data" / "code.json").write_text("{}")
    words = "code.json is not a Code of aind-data-schema: url: Field required, not '{}'"
    fails(run(*QUERY, "--analysis_code=code.json"), words, status=2)


def test_a_parameter_that_the_library_takes_for_its_own_is_bad_input(
    run: Run, pipeline: Pipeline, tmp_path: Path
) -> None:
    own = dict.fromkeys(OF_THE_LIBRARY, 1)
    words = "the analysis library takes none called 'dispatch_inputs', 'dry_run', 'file_location'"
    for fixed, sets, told in (
        ({**own, "mine": 1}, [], f"fixed_parameters: {words} and 2 more"),
        ({}, [{"a": 1}, {**own, "mine": 1}], f"distributed_parameters: {words} and 2 more"),
    ):
        give_parameters(tmp_path, fixed, sets)
        fails(run(*QUERY, env=pipeline.environment), told, status=2)
    assert run(*QUERY).status == 0  # where no code is known, they are the analysis' own


def test_all_names_that_the_library_takes_for_its_own_are_known() -> None:
    from aind_data_schema.components.identifiers import Code
    from aind_data_schema.core.processing import DataProcess
    from analysis_pipeline_utils import metadata, result_files, utils_analysis_wrapper

    # its flags, its function's parameters, and any word of it that a parameter cannot be called
    own = {*inspect.signature(metadata.update_analysis_process).parameters} - {"params"}
    own |= utils_analysis_wrapper.make_cli_model_class(GenericModel).model_fields.keys()
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
        made = metadata.update_analysis_process(base, task, **{word: "mine"})
        if made.code.parameters.model_dump().get(word) != "mine":
            own.add(word)
    assert own == OF_THE_LIBRARY


def test_no_library_is_imported_where_no_code_is_wanted(run: Run, pipeline: Pipeline) -> None:
    heavy = {"codeocean", "aind_data_schema.core.processing", "fsspec"}
    assert all(find_spec(name) for name in heavy)
    profile = {"PYTHONPROFILEIMPORTTIME": "1"}
    for flags, env in (
        ([*FILES, "--analysis_code=none"], {**pipeline.environment, **profile}),
        ([*QUERY, "--overwrite=1"], profile),
    ):
        result = run(*flags, env=env)
        assert result.status == 0, result.log
        imported = re.findall(r"\| +(\S+)$", result.log, re.MULTILINE)
        assert "analysis_pipeline_utils" in imported
        assert not heavy & {*imported}


def test_another_version_gives_other_ids_and_the_same_one_the_same_bytes(
    run: Run, pipeline: Pipeline, tmp_path: Path
) -> None:
    first = run(*QUERY, env=pipeline.environment)
    again = run(*QUERY, env=pipeline.environment, output=tmp_path / "again")
    pipeline.put(version=4)
    later = run(*QUERY, env=pipeline.environment, output=tmp_path / "later")
    assert first.files() == again.files()
    assert len(first.files()) == len(later.files()) == 4
    ids = [{Path(path).name for path in result.files()} for result in (first, later)]
    assert not ids[0] & ids[1]


def test_a_capsule_that_is_not_one_is_bad_input_with_the_names_there_are(
    run: Run, pipeline: Pipeline
) -> None:
    names = [f"{process['name']} ({process['capsule_id']})" for process in pipeline.processes]
    for capsule, number in (("nothing", "no"), ("capsule_", "2"), ("Wrapper", "no"), ("co-", "no")):
        result = run(*QUERY, f"--analysis_capsule={capsule}", env=pipeline.environment)
        words = f"--analysis_capsule: {number} capsules of this pipeline are called {capsule!r}"
        fails(result, f"{words}; there are {', '.join(names)}", status=2)
    pipeline.processes = []
    pipeline.put_run()
    fails(run(*QUERY, env=pipeline.environment), "no capsules", "none at all", status=2)


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
    result = run(*QUERY, env={**pipeline.environment, **more, "LOG_LEVEL": "DEBUG"})
    assert result.status == 1
    assert "Code Ocean at localhost:" in result.error
    assert words in result.error
    assert "another/token" not in result.log


CODE_OCEAN_FAULTS: list[tuple[Fault, str]] = [
    (DOCDB_FAULTS["429"][0], "429 "),
    (DOCDB_FAULTS["503"][0], "503 "),
    (DOCDB_FAULTS["reset"][0], "('Connection aborted.'"),
    ((200, {}, b"[]"), "an answer that is not as expected: AttributeError"),
    ((200, {}, b"{}"), "an answer that is not as expected: KeyError"),
    ((200, {}, b"<html>"), "not JSON"),
    (hang, "nothing within 2 s (--timeout)"),
]


def test_a_fault_of_code_ocean_that_passes_is_outlived_and_one_that_stays_ends_the_run(
    run: Run, pipeline: Pipeline
) -> None:
    pipeline.code_ocean.faults.extend(fault for fault, _ in CODE_OCEAN_FAULTS)
    constants = {"LONGEST_PAUSE": 0.1, "TRIES": len(CODE_OCEAN_FAULTS) + 1}
    passing = run(*QUERY, "--timeout=2", env=pipeline.environment, constants=constants)
    assert passing.status == 0, passing.log
    assert all("analysis_code" in task for task in passing.tasks())
    told = re.findall("WARNING Code Ocean at localhost:[0-9]+: (.*); retrying in", passing.log)
    for line, (_, words) in zip(told, CODE_OCEAN_FAULTS, strict=True):
        assert line.startswith(words)
    for fault, words, more in (
        (DOCDB_FAULTS["503"][0], r"\(5 attempts in \d s\): 503 ", {}),
        (hang, r"\(2 attempts in \d s\): nothing within 1 s \(--timeout\)", {"TRIES": 2}),
    ):
        pipeline.code_ocean.always = fault
        flags = (*QUERY, "--overwrite=1", "--timeout=1")
        lasting = run(*flags, env=pipeline.environment, constants=more)
        assert lasting.status == 1
        assert re.search(
            rf"no usable answer from Code Ocean at localhost:\d+ {words}", lasting.error
        )
        assert lasting.files() == passing.files()


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
    result = run(*QUERY, env=pipeline.environment)
    assert result.status == 0, result.log
    assert seen == [True]


@pytest.mark.parametrize(("released", "is_there"), [(0, True), (RELEASED, True), (0, False)])
def test_git_neither_asks_nor_leaks(
    released: int, is_there: bool, run: Run, pipeline: Pipeline
) -> None:
    pipeline.put(version=None, released=released)
    more = {"GIT_HOST": "localhost:9", "LOG_LEVEL": "DEBUG", "GIT_CONFIG_COUNT": "0"}
    if is_there:  # it answers 401, so that git wants a password
        more |= {"GIT_HOST": pipeline.code_ocean.host, "GIT_SSL_NO_VERIFY": "1"}
    result = run(*QUERY, env={**pipeline.environment, **more}, constants={"TRIES": 2})
    assert result.status == 1
    assert "no usable answer from Code Ocean at" in result.error
    assert "git says" in result.error
    assert ("Authentication failed" in result.error) == is_there
    assert ("Could not resolve release version" in result.log) == bool(released)
    assert "Traceback" in result.log
    assert GIT_TOKEN not in result.log
    assert TOKEN not in result.log
    assert result.files() == {}


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

    def serve(request: Request, __: bytes) -> tuple[int, dict[str, str], bytes] | None:
        _, is_git, name = request.path.partition("/capsule-1234567.git/")
        if not is_git:
            return None
        if request.token != wanted:
            return 401, {"WWW-Authenticate": 'Basic realm="here"'}, b""
        return 200, {}, files[name].encode()

    server.spoil = serve
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
    result = run(*QUERY, env=env)
    assert result.status == 0, result.log
    assert {task["analysis_code"]["version"] for task in result.tasks()} == {commit}
    trace = (tmp_path / "trace").read_text()
    assert "remote-https" in trace
    for secret in (password, quote(password, safe="")):
        assert secret not in trace


FAILING_GITS = {
    "names the token": (
        'echo "no such token: $GIT_ACCESS_TOKEN" >&2; exit 128', [], "git says 'no such token: ...'"
    ),
    "hangs": ("exec sleep 30", ["--timeout=1"], "nothing within 1 s (--timeout)"),
    "is missing": ("", [], "has no version, and [Errno 2] No such file or directory: 'git'"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILING_GITS)
def test_a_git_that_fails_ends_the_run_where_it_is_asked(
    name: str, run: Run, pipeline: Pipeline, tmp_path: Path
) -> None:
    script, flags, words = FAILING_GITS[name]
    tools = tmp_path / "tools"
    tools.mkdir()
    path = str(tools)
    if script:
        (tools / "git").write_text(f"#!/bin/sh\n{script}\n")
        (tools / "git").chmod(0o755)
        path += f":{os.environ['PATH']}"
    env = {**pipeline.environment, "PATH": path, "LOG_LEVEL": "DEBUG"}
    pipeline.put(version=None)
    result = run(*QUERY, *flags, env=env, constants={"TRIES": 2})
    assert result.status == 1
    assert result.error.startswith("error: ")
    assert "Code Ocean" in result.error
    assert words in result.error
    assert GIT_TOKEN not in result.log
    assert result.files() == {}
    pipeline.put()  # released: its version needs no git
    assert run(*QUERY, env=env).status == 0
