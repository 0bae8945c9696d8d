"""Pages of the gateway: by key, few, nothing lost, and wrong ones are an error."""

from __future__ import annotations

from typing import Any

import pytest

import standins
from conftest import Run
from dispatch.assets.assets import ASSET_FIELDS
from dispatch.records import docdb as live_docdb
from dispatch.terminal.messages import FailedRun
from dispatch.terminal.retries import LONGEST_PAUSE
from standins import DocDB, record
from worlds import Record


def test_both_generations_of_the_database_are_asked(run: Run, docdb: DocDB) -> None:
    docdb.put(record("one"), version="v1")
    docdb.put(record("two"), version="v2")
    for flags, env, name in (
        ([], {}, "one"),
        (["--docdb_version=v2"], {}, "two"),
        ([], {"DOCDB_VERSION": "v2"}, "two"),
        (["--docdb_version="], {"DOCDB_VERSION": " "}, "one"),
        (["--docdb_version=v1"], {"DOCDB_VERSION": "v2"}, "one"),
    ):
        results_store = {"DOCDB_DATABASE": "analysis", "DOCDB_COLLECTION": "results"}
        result = run("--query={}", "--overwrite=1", *flags, env={**env, **results_store})
        assert [task["asset_name"] for task in result.tasks()] == [[name]], result.log
    assert {r.path for r in docdb.requests} == {
        "/v1/metadata_index/data_assets/aggregate",
        "/v2/metadata_index/data_assets/aggregate",
    }
    assert run("--query={}", "--overwrite=1", env={"DOCDB_VERSION": "v3"}).status == 2
    unused = run("--query={}", "--overwrite=1", "--docdb_version=v1", env={"DOCDB_VERSION": "v3"})
    assert unused.status == 0


def test_pages_go_by_key_and_lose_nothing(docdb: DocDB, monkeypatch: pytest.MonkeyPatch) -> None:
    docdb.put(*(record(f"{n:03}") for n in range(25)), record("odd", _id={"z": 1}))
    monkeypatch.setenv("DOCDB_HOST", docdb.host)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(docdb.ca_file))
    live = live_docdb.open_docdb("v1", 60)
    for size in (2, 5, 10, 25, 26, 27, 100):
        small = live_docdb.DocDB(live.aggregate, size)
        pages = list(small.find({}, ASSET_FIELDS))
        found = [repr(record["_id"]) for page in pages for record in page]
        assert sorted(found) == sorted([*(f"'id-{n:03}'" for n in range(25)), "{'z': 1}"])
        docdb.requests.clear()


WRONG_PAGES: dict[str, list[list[Any]]] = {  # the record ids on the pages that are answered
    "repeated": [["a", "b"], ["a", "b"]],
    "behind an earlier one": [["a", "c"], ["b", "d"]],
    "in no order": [["b", "a"]],
    "twice": [["a", "a"]],
    "no string among strings": [["a", "b"], ["c", 1]],
    "a string among no strings": [["b", 1], [], ["a"]],
    "no string twice": [[1, 2], [1, 2]],
}


@pytest.mark.parametrize("name", WRONG_PAGES)
def test_pages_that_do_not_go_on_end_the_run(name: str) -> None:
    answers = iter(WRONG_PAGES[name])
    database = live_docdb.DocDB(lambda _: [{"_id": id_} for id_ in next(answers, [])], 2)
    with pytest.raises(FailedRun, match="do not continue"):
        list(database.find({}, ["_id"]))


def test_the_gateways_wish_to_wait_is_granted(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a"))
    docdb.faults.append((429, {"Retry-After": "1"}, b""))
    assert run("--query={}").status == 0
    first, second, _ = docdb.requests
    assert second.time - first.time >= 1
    assert LONGEST_PAUSE == 60
    docdb.faults.append((429, {"Retry-After": "20"}, b""))
    limited = run("--query={}", "--overwrite=1", constants={"LONGEST_PAUSE": 1})
    assert limited.status == 0
    assert "429 Too Many Requests: ''; retrying in 1 s" in limited.log


def test_only_the_fields_in_use_are_asked_for(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a", subject={"subject_id": "1"}, session={"epochs": ["x" * 1000]}))
    assert run("--query={}").status == 0
    for request in docdb.requests:
        stages = {name: value for stage in request.body for name, value in stage.items()}
        assert set(stages["$project"]) == {
            "_id", "name", "location", "external_links", "other_identifiers",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ((400, {}, b'{"message": "unknown operator: $foo"}'), 2, "unknown operator: $foo"),
        ((403, {}, b"<html>\nForbidden</html>"), 1, "403"),
        ((200, {}, b"[1]"), 1, "not a list of records"),
    ],
)
def test_an_answer_that_is_no_records_ends_the_run(
    fault: Any, status: int, words: str, run: Run, docdb: DocDB
) -> None:
    docdb.always = fault
    result = run("--query={}")
    assert result.status == status
    assert result.error.startswith("error: ")
    assert words in result.error
    assert docdb.host in result.error
    assert not result.output.exists()


# as many as the first page takes, or nearly; and more than it and a further one take
@pytest.mark.parametrize("number", [99, 100, 101, 1_150])
def test_records_whose_ids_are_no_strings_are_counted(number: int, run: Run, docdb: DocDB) -> None:
    docdb.put(*({**record(f"{n}"), "_id": n} for n in range(number)), record("a"), record("b"))
    constants = {"FIRST_PAGE": 100}
    result = run("--query={}", constants=constants)
    assert result.status == 0, result.log
    assert [task["asset_name"] for task in result.tasks()] == [["a"], ["b"]]
    assert f"{number + 2:,} records matched, {number:,} skipped" in result.error
    del docdb.records["v1"][-2:]
    result = run("--query={}", "--overwrite=1", constants=constants)
    assert f"nothing to dispatch: {number:,} records matched, {number:,} skipped" in result.error


def test_pages_begin_small_and_take_few_requests(docdb: DocDB) -> None:
    docdb.put(*({"_id": f"{n:05}"} for n in range(12_000)))
    asked: list[int] = []

    def aggregate(pipeline: list[Record]) -> list[Record]:
        asked.append(pipeline[2]["$limit"])
        return standins.aggregate(list(docdb.records["v1"]), pipeline)

    pages = live_docdb.DocDB(aggregate).find({}, ["_id"])
    assert sum(map(len, pages)) == 12_000
    assert asked == [1_000, 5_000, 5_000, 5_000, 5_000]
