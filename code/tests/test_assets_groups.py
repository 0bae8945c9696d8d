"""The latest, the groups, and lists in lists, against references of a few lines."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

import run_capsule
from chosen import WAYS, Ask, ask, write_snapshot  # noqa: F401  (a fixture)
from cohorts import (
    MODALITY,
    START,
    SUBJECT,
    Record,
    is_anywhere,
    reference_groups,
    reference_latest,
)
from conftest import Run, fuzz, in_turn
from dispatch.assets.grouping import latest_of
from dispatch.terminal.messages import BadInput, FailedRun
from standins import BUCKET, S3, DocDB, record

Tasks = list[Record]
Dispatch = Callable[..., Tasks]


@pytest.fixture(scope="module")
def dispatch(tmp_path_factory: pytest.TempPathFactory) -> Dispatch:
    """Return a function that dispatches records from a snapshot, in this process."""
    numbers = itertools.count()

    def dispatch(records: list[Record], *flags: str) -> Tasks:
        folder = tmp_path_factory.mktemp(f"run{next(numbers)}")
        (folder / "records.jsonl").write_text("\n".join(map(json.dumps, records)))
        flags = (
            "--query={}",
            f"--docdb_snapshot={folder / 'records.jsonl'}",
            f"--input_directory={folder}",
            f"--output_directory={folder / 'results'}",
            "--max_jobs=1000",
            *flags,
        )
        try:
            run_capsule.dispatch(run_capsule.parse_settings(flags))
        except FailedRun as error:
            assert str(error).startswith("nothing to dispatch")  # noqa: PT017
            return []
        except BadInput as error:
            named = re.search("no record that matches has the field ([a-z.]*)", str(error))
            assert named, error  # noqa: PT017
            assert not any(is_anywhere(real, named[1].split(".")) for real in records)
            return []
        folders = sorted((folder / "results").glob("[0-9]*"), key=lambda path: int(path.name))
        return [json.loads(path.read_text()) for folder in folders for path in folder.iterdir()]

    return dispatch


def test_an_asset_without_the_value_ranks_last(dispatch: Dispatch) -> None:
    records = [record("a", s=1), record("b", s=1, at=1), record("c", s=2, at=None)]
    tasks = dispatch(records, "--filter_latest=at", "--filter_by=s")
    assert [task["asset_name"] for task in tasks] == [["b"], ["c"]]


def are_empty(records: list[Record], path: list[str]) -> bool:
    """Return whether the lists on the way to a field are empty, and there are some."""
    values, lists = list(records), []
    for name in path:
        values = [v[name] for v in values if isinstance(v, dict) and name in v]
        lists += [v for v in values if isinstance(v, list)]
        values = [one for v in values for one in (v if isinstance(v, list) else [v])]
    return bool(lists) and not any(lists)


def groups_of(tasks: Tasks) -> dict[str, list[str]]:
    return {
        json.dumps(task["group_metadata"], sort_keys=True): task["docdb_record_id"]
        for task in tasks
    }


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("unwound", ["", MODALITY])
@pytest.mark.parametrize("by", [[SUBJECT], [MODALITY], [SUBJECT, MODALITY], ["session.rig_id"]])
def test_real_records_are_grouped_as_the_reference_groups_them(
    by: list[str], unwound: str, drop: bool, dispatch: Dispatch, real_records: list[Record]
) -> None:
    tasks = dispatch(
        real_records,
        f"--group_by={','.join(by)}",
        f"--unwind_list_fields={unwound}",
        f"--drop_null_groups={int(drop)}",
    )
    expected = reference_groups(real_records, by, [unwound], drop)
    assert groups_of(tasks) == expected
    assert len(tasks) == len(expected) > 1
    keys = [tuple(task["group_metadata"].values()) for task in tasks]
    if not any(isinstance(value, list) or value is None for key in keys for value in key):
        assert keys == sorted(keys)
    by_id = {real["_id"]: real for real in real_records}
    for task in tasks:
        some = [by_id[record_id] for record_id in task["docdb_record_id"]]
        assert task["asset_name"] == [real["name"] for real in some]
        assert task["s3_location"] == [real["location"] for real in some]
        assert list(task)[-2:] == ["group_metadata", "query"]


BY = [[SUBJECT], [SUBJECT, START], [MODALITY], [START, MODALITY]]


@pytest.mark.parametrize(
    ("by", "unwound", "drop", "latest"),
    in_turn(
        itertools.product(BY, ["", MODALITY], [True, False]),
        ["created", "data_description.creation_time"],
    ),
)
def test_of_real_records_the_latest_are_those_of_the_reference(
    by: list[str], latest: str, unwound: str, drop: bool, dispatch: Dispatch,
    real_records: list[Record],
) -> None:  # fmt: skip
    tasks = dispatch(
        real_records,
        f"--filter_latest={latest}",
        f"--filter_by={','.join(by)}",
        f"--unwind_list_fields={unwound}",
        f"--drop_null_groups={int(drop)}",
    )
    expected = reference_latest(real_records, latest, by, [unwound], drop)
    kept = [real["_id"] for real in sorted(expected, key=lambda r: (r["name"], r["_id"]))]
    assert [task["docdb_record_id"] for task in tasks] == [[record_id] for record_id in kept]
    assert len(kept) > 1


SCALARS = st.sampled_from([None, 1, 2, "1", "a", "b", "2025-01-01", "", True, False])
LISTS = st.lists(SCALARS, max_size=3)
OBJECTS = st.fixed_dictionaries({}, optional={"x": SCALARS | LISTS, "y": SCALARS})


def records_with(p: st.SearchStrategy[Any], q: st.SearchStrategy[Any]) -> Any:
    times = st.sampled_from([None, 1, 2, "2025-01-01", "2025-01-02", "z"])
    named = {"name": st.sampled_from("abcde")}
    fields = st.fixed_dictionaries(named, optional={"p": p, "q": q, "t": times})
    return st.lists(fields, max_size=12)


RECORDS = records_with(
    SCALARS | LISTS | OBJECTS, SCALARS | OBJECTS | st.lists(OBJECTS | SCALARS, max_size=3)
)
FIELDS = st.lists(st.sampled_from(["p", "q", "q.x", "q.y", "p.x"]), min_size=1, unique=True)


# what v2 of the metadata has in acquisition.data_streams: lists of objects that hold lists
INNER = st.fixed_dictionaries({}, optional={"a": SCALARS, "b": LISTS})
STREAMS = st.fixed_dictionaries(
    {}, optional={"x": SCALARS, "m": SCALARS | st.lists(INNER | SCALARS, max_size=3) | INNER}
)
NESTED = records_with(SCALARS | LISTS, SCALARS | STREAMS | st.lists(STREAMS | SCALARS, max_size=3))
NESTED_FIELDS = ["p", "q", "q.x", "q.m", "q.m.a", "q.m.b"]


def numbered(records: list[Record]) -> list[Record]:
    return [
        {"_id": f"{n:02}", "location": f"s3://{BUCKET}/{n}", **some}
        for n, some in enumerate(records)
    ]


@pytest.mark.parametrize(
    "equal", [(1, 1), (None, None), ("2025-03-04T09:00:00Z", "2025-03-04T10:00:00+01:00")]
)
def test_of_equal_values_the_last_id_is_the_latest(equal: tuple[Any, Any]) -> None:
    one, other = equal
    for ids in ("abc", "cab"):
        assert latest_of(list(zip((one, other, one), ids, strict=True))) == "c"


def test_any_records_are_filtered_and_grouped_as_the_references_do(dispatch: Dispatch) -> None:
    def check(
        records: list[Record], by: list[str], unwound: list[str], drop: bool, filtered: bool
    ) -> None:
        records = numbered(records)
        named = [*by, *unwound, *(["t"] if filtered else [])]
        lacking = [n for n in named if not any(is_anywhere(r, n.split(".")) for r in records)]
        lacking = [n for n in lacking if not are_empty(records, n.split("."))]
        expected = [] if lacking else records
        flags = [f"--unwind_list_fields={','.join(unwound)}", f"--drop_null_groups={int(drop)}"]
        if filtered:
            expected = reference_latest(expected, "t", by, unwound, drop)
            flags += ["--filter_latest=t", f"--filter_by={','.join(by)}"]
        tasks = dispatch(records, f"--group_by={','.join(by)}", *flags)
        assert groups_of(tasks) == reference_groups(expected, by, unwound, drop)

    fields = st.lists(st.sampled_from(NESTED_FIELDS), min_size=1, unique=True)
    unwound = st.lists(st.sampled_from(NESTED_FIELDS), unique=True)
    fuzz(
        check,
        records=RECORDS | NESTED,
        by=fields | FIELDS,
        unwound=unwound,
        drop=st.booleans(),
        filtered=st.booleans(),
    )


def live_and_from_a_snapshot(
    records: list[Record], folder: Path, run: Run, docdb: DocDB, *flags: str
) -> None:
    """Run on records that are live and on those of a snapshot, which makes the same of them."""
    docdb.put(*records)
    live = run("--query={}", *flags)
    assert live.status == 0, live.log
    where = write_snapshot(folder, records)
    snapshot = run("--query={}", *flags, where, output=folder / "again")
    assert live.files() == snapshot.files()


def test_scalars_in_a_list_are_passed_over_by_both_databases(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    some = [record("a", g=[5, {"b": 1}, {"c": 2}]), record("b", g=7), record("c", g={"b": [3]})]
    flags = ("--group_by=g.b", "--unwind_list_fields=g", "--drop_null_groups=0")
    live_and_from_a_snapshot(some, tmp_path, run, docdb, *flags)


def test_the_live_database_groups_as_a_snapshot_does(
    run: Run, docdb: DocDB, real_records: list[Record], tmp_path: Path
) -> None:
    flags = [f"--group_by={SUBJECT},{MODALITY}", f"--unwind_list_fields={MODALITY}"]
    flags += ["--filter_latest=created", f"--filter_by={SUBJECT},{START}"]
    live_and_from_a_snapshot(real_records, tmp_path, run, docdb, *flags)
    [asked, *_] = [request.body[-1]["$project"] for request in docdb.requests]
    assert {"created", SUBJECT, START, "data_description.modality"} <= asked.keys()


def test_times_are_compared_across_zones(dispatch: Dispatch) -> None:
    times = ["2025-03-01T23:00:00-08:00", "2025-03-02T06:59:59Z", "2025-03-02T06:59:59.5"]
    for more, latest in (
        ([], "a"),
        (["yesterday"], "d"),  # no time: now all are strings
        ([None], "a"),  # which is before all times
    ):
        pairs = zip("abcd", [*times, *more], strict=False)
        records = [record(name, at=time, g=1) for name, time in pairs]
        [task] = dispatch(records, "--filter_latest=at", "--filter_by=g", "--drop_null_groups=0")
        assert task["asset_name"] == [latest]


ODD_TIMES = [  # from the earliest to the latest
    "2025-03-01T24:00:00Z",
    "2025-03-02t00:00:00.000000001z",
    "2025-03-02T00:00:00.000000002Z",
    "2025-03-02 01:00:01 +01:00",
    "2025-03-02T00:00:01,5",
    "2025-03-02T00:00:59-00:00",
    "2025-03-02T00:00:60.25Z",
    "2025-03-02T00:01:00.500",
    "2025-03-02T0002-0000",
    "2025-03-02T01+00",
]


@pytest.mark.parametrize("pair", [*itertools.pairwise(ODD_TIMES)])
def test_times_are_read_as_programs_write_them(pair: tuple[str, str], dispatch: Dispatch) -> None:
    for times in (pair, pair[::-1]):
        records = [record(name, at=time, g=1) for name, time in zip("ab", times, strict=True)]
        [task] = dispatch(records, "--filter_latest=at", "--filter_by=g")
        assert task["asset_name"] == ["ab"[times.index(pair[1])]]


def test_nan_is_null(dispatch: Dispatch, caplog: pytest.LogCaptureFixture) -> None:
    records = [record("a", g=float("nan")), record("b", g=None), record("c", g=[float("nan")])]
    [task] = dispatch(records, "--group_by=g")
    assert task["group_metadata"] == {"g": [None]}
    named = [entry.getMessage() for entry in caplog.records if "skipped" in entry.getMessage()]
    assert named == [f"skipped, no g: {name} (record id-{name})" for name in "ab"]
    both = dispatch(records, "--group_by=g", "--drop_null_groups=0")
    assert [task["asset_name"] for task in both] == [["a", "b"], ["c"]]


def test_true_is_no_number(dispatch: Dispatch) -> None:
    records = [record("a", g=True), record("b", g=1), record("c", g=1.0), record("d", g=False)]
    tasks = dispatch(records, "--group_by=g")
    assert [task["asset_name"] for task in tasks] == [["b", "c"], ["d"], ["a"]]


def test_a_group_holds_an_asset_and_a_file_once(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put(BUCKET, ["a/x.nwb"])
    docdb.put(record("a", g=["x", "x"]), {**record("b", g="x"), "location": f"s3://{BUCKET}/a"})
    result = run("--query={}", "--group_by=g", "--unwind_list_fields=g", "--file_extension=nwb")
    [task] = result.tasks()
    assert task["asset_name"] == ["a", "b"]
    assert task["file_location"] == [f"s3://{BUCKET}/a/x.nwb"]


@pytest.mark.parametrize(
    ("values", "lacking"),
    [
        ([{"x": None, "y": 1}, {"x": 1, "y": None}], "m.x or m.y"),
        ([{"y": 1}, {"y": 2}], "m.x"),
        ([], "m.x or m.y"),
    ],
)
def test_the_field_that_is_missing_is_named(
    values: list[Record], lacking: str, run: Run, docdb: DocDB
) -> None:
    docdb.put(record("a", m=values), record("z", m=[{"x": 1, "y": 1}]))
    result = run("--query={}", "--group_by=m.x,m.y", "--unwind_list_fields=m")
    assert f"skipped, no {lacking}: a (record id-a)" in result.log


STREAM = "data_streams.modalities.abbreviation"


PAIRS = [["behavior", "T1"], ["ecephys", "T1"], ["pophys", "T2"]]


@pytest.mark.parametrize(
    ("unwound", "expected", "ask"),
    in_turn([
        (f"{STREAM},data_streams.start", PAIRS),
        (STREAM, PAIRS),
        (f"data_streams,{STREAM}", PAIRS),
        ("data_streams", [[["ecephys", "behavior"], "T1"], [["pophys"], "T2"]]),
    ], WAYS),
    indirect=["ask"],
)  # fmt: skip
def test_lists_in_lists_are_unwound_as_by_one_stage_after_the_other(
    unwound: str, expected: list[list[Any]], ask: Ask
) -> None:
    streams = [
        {"start": "T1", "modalities": [{"abbreviation": "ecephys"}, {"abbreviation": "behavior"}]},
        {"start": "T2", "modalities": [{"abbreviation": "pophys"}]},
        "no object",
    ]
    records = [record("a", data_streams=streams), record("b", data_streams=["no object"])]
    flags = ["--query={}", f"--group_by={STREAM},data_streams.start"]
    flags.append(f"--unwind_list_fields={unwound}")
    result = ask(records, *flags)
    assert [list(task["group_metadata"].values()) for task in result.tasks()] == expected
    assert "skipped, no data_streams.modalities.abbreviation" in result.log
    both = ask(records, *flags, "--drop_null_groups=0").tasks()
    if expected == PAIRS:
        assert [list(task["group_metadata"].values()) for task in both] == [[None, None], *PAIRS]
        assert both[0]["asset_name"] == ["a", "b"]


def test_what_filters_and_groups_leave_out_is_named(
    run: Run, docdb: DocDB, real_records: list[Record]
) -> None:
    docdb.put(*real_records)
    result = run("--query={}", "--filter_latest=created", f"--filter_by={SUBJECT}",
                 "--group_by=session.rig_id", "--max_jobs=1000")  # fmt: skip
    latest = reference_latest(real_records, "created", [SUBJECT], [], True)
    written = {record_id for task in result.tasks() for record_id in task["docdb_record_id"]}
    no_rig = [r["name"] for r in latest if not (r.get("session") or {}).get("rig_id")]
    assert written == {r["_id"] for r in latest if r["name"] not in no_rig}
    assert all(f"skipped, no session.rig_id: {name}" in result.log for name in no_rig[:20])
    older = len(real_records) - len(latest)
    assert f"not the latest by created: {older}" in result.error
    assert f"no session.rig_id: {len(no_rig)}" in result.error
    assert "no created" not in result.error
    strict = run("--query={}", "--filter_latest=created", f"--filter_by={SUBJECT}", "--strict=1",
                 "--drop_null_groups=0", "--overwrite=1")  # fmt: skip
    assert strict.status == 0, strict.log  # older ones are left out because that was asked for


def test_an_asset_that_is_replaced_is_not_listed(run: Run, docdb: DocDB, s3: S3) -> None:
    docdb.put(record("a", created="1", s="x"), record("b", created="2", s="x"), record("c", s="x"))
    s3.put(BUCKET, ["a/1.nwb", "b/1.nwb", "c/1.nwb"])
    s3.refused["a/"] = (403, "AccessDenied")
    result = run("--query={}", "--file_extension=nwb", "--filter_latest=created", "--filter_by=s")
    assert [task["asset_name"] for task in result.tasks()] == [["b"]]
    assert len(s3.listings()) == 1


@pytest.mark.parametrize(
    ("flags", "unused"),
    [
        (["--group_by=a.b", "--unwind_list_fields=a.b"], []),
        (["--group_by=a.b", "--unwind_list_fields=a"], []),
        (["--group_by=ab", "--unwind_list_fields=a"], ["a"]),
        (["--group_by=a", "--unwind_list_fields=a.b"], ["a.b"]),
        (["--filter_latest=a", "--filter_by=b.c", "--unwind_list_fields=b,c,a"], ["c"]),
    ],
)
def test_a_field_that_is_unwound_for_nothing_is_told(
    flags: list[str], unused: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    run_capsule.parse_settings(["--query={}", *flags])
    told = "--unwind_list_fields: nothing is grouped or filtered by"
    warnings = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
    assert warnings == [f"{told} {field}" for field in unused]
