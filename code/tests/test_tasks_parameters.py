"""Parameters: every task once for each set."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from conftest import Run, fails
from dispatch.given.inputs import read_parameters
from dispatch.terminal.messages import BadInput
from standins import BUCKET, S3, DocDB, record


def test_every_task_comes_once_for_each_set_of_parameters(
    run: Run, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    docdb.put(record("a"), record("b"))
    s3.put(BUCKET, ["a/1.nwb", "a/2.nwb", "b/1.nwb"])
    plain = run("--query={}", "--file_extension=nwb").tasks()
    sets = [{"w": 2, "deep": {"x": [1, None]}}, {"w": 1}, {}]
    string = json.dumps({"distributed_parameters": [*sets, {"w": 1}]})
    staged = tmp_path / "data" / "input_files"
    staged.mkdir()
    (staged / "analysis_parameters.json").write_text(string)
    result = run("--query={}", "--file_extension=nwb", "--overwrite=1")
    assert result.status == 0, result.log
    expected = [{**task, "distributed_parameters": one} for task in plain for one in sets]
    assert result.tasks() == expected
    assert list(result.tasks()[0])[-2:] == ["distributed_parameters", "query"]
    assert "3 tasks not repeated, equal to another one" in result.log


def test_no_parameters_change_nothing(run: Run, docdb: DocDB, tmp_path: Path) -> None:
    docdb.put(record("a"))
    before = run("--query={}").files()
    for content in (
        "{}",
        '{"distributed_parameters": []}',
        '{"distributed_parameters": null}',
        '\ufeff{"fixed_parameters": {}}',
    ):
        (tmp_path / "data" / "analysis_parameters.json").write_text(content)
        assert run("--query={}", "--overwrite=1").files() == before, content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "line 1"),
        ("{", "line 1"),
        ("[]", "a list, not an object"),
        ('{"distributed_parameters": {}', "line 1"),
        ('{"distributed_parameters": {"a": 1}}', "distributed_parameters"),
        ('{"distributed_parameters": {}}', "distributed_parameters"),
        ('{"distributed_parameters": 0}', "distributed_parameters"),
        ('{"distributed_parameters": [{}, 1]}', "distributed_parameters"),
        ('{"fixed_parameters": [1]}', "fixed_parameters"),
        ('{"fixed_parameters": null}', "fixed_parameters"),
        ('{"fixed_parameters": {"a": NaN}}', "fixed_parameters cannot be sent"),
        ('{"fixed_parameters": {"a": "\\ud800"}}', "fixed_parameters cannot be sent"),
        ('{"fixed_parameters": {"a": 1, "a": 2}}', "'a' appears twice"),
        ('{"fixed_parameters": ' + '{"a":' * 300 + "1" + "}" * 300 + "}", "100 deep"),
        ('{"distributed": []}', "'distributed'"),
        ('{"distributed_parameters": [{"a": NaN}]}', "cannot be sent"),
        ('{"distributed_parameters": [{"a": 1e999}]}', "cannot be sent"),
        ('{"distributed_parameters": [{"a": "\\ud800"}]}', "cannot be sent"),
        ('{"distributed_parameters": [{"a": 1, "a": 2}]}', "'a' appears twice"),
        ('{"distributed_parameters": [' + '{"a":' * 300 + "1" + "}" * 300 + "]}", "100 deep"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_parameters_that_cannot_be_used_are_bad_input(
    content: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "analysis_parameters.json"
    path.write_text(content)
    with pytest.raises(BadInput, match=re.escape(str(path))) as error:
        read_parameters(tmp_path)
    assert words in str(error.value)


def test_a_run_with_such_parameters_writes_nothing(run: Run, docdb: DocDB, tmp_path: Path) -> None:
    docdb.put(record("a"))
    (tmp_path / "data" / "analysis_parameters.json").write_text("[]")
    result = run("--query={}")
    fails(result, "analysis_parameters.json is a list, not an object", status=2)
    assert not result.output.exists()
