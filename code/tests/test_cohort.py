"""The cohort, the groups, the parameters and the balance, against references of a few lines."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import run_capsule
from conftest import Run, a_task, fuzz
from dispatch.tasks.tasks import deal_by_size
from dispatch.terminal.messages import BadInput, FailedRun
from standins import BUCKET, S3, DocDB, reached, record

Record = dict[str, Any]
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


# --------------------------------------------------------------------------- queries from flags

RAW: Record = {"$regex": "^(raw|raw data|raw level)$"}
SPELT = ("SmartSPIM", "smartspim", "exaSPIM", "exaspim", "mesoSPIM", "mesospim", "diSPIM", "dispim")


def of_modality(*spelt: str) -> Record:
    """Return the filter for modalities that are spelt so."""
    top = "data_description"
    paths = ("modality.abbreviation", "modalities.abbreviation", "modality", "modalities")
    written = {"$regex": f"abbreviation=['\"](?:{'|'.join(spelt)})['\"]"}
    return {
        "$or": [
            *({f"{top}.{path}": {"$in": list(spelt)}} for path in paths),
            *({f"{top}.{path}": written} for path in paths[2:]),
        ]
    }


COHORTS: list[tuple[list[str], Record]] = [
    (["--project_name=MSMA Platform"], {"data_description.project_name": "MSMA Platform"}),
    (["--subject_id=774212, 755252,834691,"],
     {"subject.subject_id": {"$in": ["774212", "755252", "834691"]}}),
    (["--subject_id=755252"], {"subject.subject_id": {"$in": ["755252"]}}),
    (["--modality=ecephys"], of_modality("ecephys")),
    (["--modality=behavior,SPIM", "--data_level=raw"],
     {**of_modality("behavior", "SPIM", *SPELT), "data_description.data_level": RAW}),
    (["--modality=behavior", "--docdb_version=v2"], of_modality("behavior")),
    (["--query={'session': {'$ne': None}}", "--data_level=raw"],
     {"session": {"$ne": None}, "data_description.data_level": RAW}),
]  # fmt: skip


@pytest.mark.parametrize(("flags", "query"), COHORTS)
@pytest.mark.parametrize("live", [True, False])
def test_flags_choose_what_the_same_query_written_by_hand_chooses(
    flags: list[str], query: Record, live: bool, run: Run, docdb: DocDB, real_records: list[Record],
    tmp_path: Path,
) -> None:  # fmt: skip
    docdb.put(*real_records)
    docdb.put(*real_records, version="v2")
    (tmp_path / "records.jsonl").write_text("\n".join(map(json.dumps, real_records)))
    where = [] if live else ["--docdb_snapshot=records.jsonl"]
    version = [flag for flag in flags if "version" in flag]
    by_flags = run(*flags, *where)
    by_hand = run(f"--query={json.dumps(query)}", *version, *where, "--overwrite=1")
    assert by_flags.status == by_hand.status == 0, by_flags.log
    [shown] = re.findall("the filter: (.*)", by_flags.log)
    assert json.loads(shown) == query
    assert len(by_hand.tasks()) not in (0, len(real_records))
    pasted = run(f"--query={shown}", *version, *where, "--overwrite=1")
    assert by_flags.tasks() == by_hand.tasks() == pasted.tasks()


def test_a_flag_adds_to_a_query_about_the_same_field(run: Run, docdb: DocDB) -> None:
    docdb.put(*(record(f"{n}", subject={"subject_id": str(n)}) for n in range(5)))
    result = run('--query={"subject.subject_id": {"$gt": "1"}}', "--subject_id=0,1,2,3")
    assert [task["asset_name"] for task in result.tasks()] == [["2"], ["3"]]
    assert '{"$and":[{"subject.subject_id":{"$gt":"1"}},' in result.log


def test_the_filter_in_the_log_is_json_whatever_it_holds(run: Run, docdb: DocDB) -> None:
    name = 'https://me:word@example.org Tåg\u202e\x85"x" \U000e0001'
    docdb.put(record("a", data_description={"project_name": name}))
    result = run(f"--project_name={name}")
    [shown] = re.findall("the filter: (.*)", result.log)
    assert json.loads(shown) == {"data_description.project_name": name}


def test_the_csv_wins_over_the_flags_that_make_a_query(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"), record("b"))
    (tmp_path / "data" / "data_asset_input.csv").write_text("asset_id\nco-b\n")
    result = run("--use_data_asset_csv=1", "--project_name=none", '--query={"name": "a"')
    assert result.status == 0
    [task] = result.tasks()
    assert task["asset_name"] == ["b"]
    assert "query" not in task
    assert "--project_name is not used" in result.log
    assert "--query is not used" in result.log


def test_an_asset_without_the_value_ranks_last(dispatch: Dispatch) -> None:
    records = [record("a", s=1), record("b", s=1, at=1), record("c", s=2, at=None)]
    tasks = dispatch(records, "--filter_latest=at", "--filter_by=s")
    assert [task["asset_name"] for task in tasks] == [["b"], ["c"]]


@pytest.mark.parametrize("live", [True, False])
def test_a_query_that_matches_nothing_tells_what_each_condition_matches(
    live: bool, run: Run, docdb: DocDB, real_records: list[Record], tmp_path: Path
) -> None:
    docdb.put(*real_records)
    (tmp_path / "records.jsonl").write_text("\n".join(map(json.dumps, real_records)))
    where = [] if live else ["--docdb_snapshot=records.jsonl"]
    raw = sum(r["data_description"]["data_level"] in ("raw", "raw data") for r in real_records)
    result = run("--query={'subject.subject_id': 'nobody'}", "--data_level=raw", *where)
    assert result.status == 1
    level = '{"data_description.data_level":{"$regex":"^(raw|raw data|raw level)$"}}'
    assert f"alone, {level} matches {raw} records" in result.log
    assert 'alone, {"subject.subject_id":"nobody"} matches 0 records' in result.log
    both = {"$and": [{"name": "x"}, {"session": {"$ne": None}}]}
    result = run(f"--query={json.dumps(both)}", *where)
    assert 'alone, {"name":"x"} matches 0 records' in result.log
    with_session = sum(r.get("session") is not None for r in real_records)
    assert f'alone, {{"session":{{"$ne":null}}}} matches {with_session} records' in result.log
    assert "alone" not in run("--query={'name': 'nobody'}", *where).log


# ---------------------------------------------------------------------- only the latest, and groups


def is_anywhere(value: Any, path: list[str]) -> bool:
    """Return whether a field is somewhere in a record."""
    if isinstance(value, list):
        return not path or any(is_anywhere(item, path) for item in value)
    return not path or (
        isinstance(value, dict) and path[0] in value and is_anywhere(value[path[0]], path[1:])
    )


def are_empty(records: list[Record], path: list[str]) -> bool:
    """Return whether the lists on the way to a field are empty, and there are some."""
    values, lists = list(records), []
    for name in path:
        values = [v[name] for v in values if isinstance(v, dict) and name in v]
        lists += [v for v in values if isinstance(v, list)]
        values = [one for v in values for one in (v if isinstance(v, list) else [v])]
    return bool(lists) and not any(lists)


def unwind_stage(document: Record, path: list[str]) -> list[Record]:
    """Return what $unwind gives of a document; nothing gets lost, as if empty lists held a null."""
    holder: Any = document
    for name in path[:-1]:
        holder = holder.get(name) if isinstance(holder, dict) else None
    found = holder.get(path[-1]) if isinstance(holder, dict) else None
    if not isinstance(found, list):
        return [document]
    documents = []
    for element in found or [None]:
        documents.append(copy.deepcopy(document))
        holder = documents[-1]
        for name in path[:-1]:
            holder = holder[name]
        holder[path[-1]] = element
    return documents


def combinations(real: Record, fields: list[str], unwound: list[str]) -> list[tuple[str, ...]]:
    """Return the values of the fields as JSON, from a $unwind stage for each list on a path."""
    documents = [real]
    for names in [name.split(".") for name in unwound if name]:
        for length in range(1, len(names) + 1):
            documents = [one for some in documents for one in unwind_stage(some, names[:length])]
    found = [
        tuple(
            json.dumps((reached(document, name.split(".")) or [None])[0], sort_keys=True)
            for name in fields
        )
        for document in documents
    ]
    return list(dict.fromkeys(found))


def reference_latest(
    records: list[Record], latest: str, by: list[str], unwound: list[str], drop: bool
) -> list[Record]:
    """Return the records that --filter_latest keeps, by sorting."""
    best: dict[Any, str] = {}
    for real in sorted(records, key=lambda r: (order(reached(r, latest.split("."))), r["_id"])):
        for _, *shared in combinations(real, [latest, *by], unwound):
            if not (drop and "null" in shared):
                best[tuple(shared)] = real["_id"]
    return [real for real in records if real["_id"] in best.values()]


def order(found: list[Any]) -> Any:
    value = found[0] if found else None
    kinds: list[type] = [type(None), int, str]
    return (kinds.index(type(value)), value if value is not None else 0)


def reference_groups(
    records: list[Record], by: list[str], unwound: list[str], drop: bool
) -> dict[str, list[str]]:
    """Return the ids of each group, by the JSON of its metadata."""
    groups = defaultdict(list)
    for real in sorted(records, key=lambda r: (r["name"], r["_id"])):
        for values in combinations(real, by, unwound):
            if not (drop and "null" in values):
                keys = [name.replace(".", "__") for name in by]
                metadata = dict(zip(keys, map(json.loads, values), strict=True))
                groups[json.dumps(metadata, sort_keys=True)].append(real["_id"])
    return groups


def groups_of(tasks: Tasks) -> dict[str, list[str]]:
    return {
        json.dumps(task["group_metadata"], sort_keys=True): task["docdb_record_id"]
        for task in tasks
    }


SUBJECT, START = "subject.subject_id", "session.session_start_time"
MODALITY = "data_description.modality.abbreviation"


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


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("unwound", ["", MODALITY])
@pytest.mark.parametrize("latest", ["created", "data_description.creation_time"])
@pytest.mark.parametrize("by", [[SUBJECT], [SUBJECT, START], [MODALITY], [START, MODALITY]])
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
        0.1,
        records=RECORDS | NESTED,
        by=fields | FIELDS,
        unwound=unwound,
        drop=st.booleans(),
        filtered=st.booleans(),
    )


def test_scalars_in_a_list_are_passed_over_by_both_databases(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    some = [record("a", g=[5, {"b": 1}, {"c": 2}]), record("b", g=7), record("c", g={"b": [3]})]
    docdb.put(*some)
    (tmp_path / "records.json").write_text(json.dumps(some))
    flags = ["--query={}", "--group_by=g.b", "--unwind_list_fields=g", "--drop_null_groups=0"]
    live = run(*flags)
    assert live.status == 0, live.log
    snapshot = run(*flags, "--docdb_snapshot=records.json", output=tmp_path / "again")
    assert live.files() == snapshot.files()


def test_the_live_database_groups_as_a_snapshot_does(
    run: Run, docdb: DocDB, real_records: list[Record], tmp_path: Path
) -> None:
    docdb.put(*real_records)
    (tmp_path / "records.jsonl").write_text("\n".join(map(json.dumps, real_records)))
    flags = [
        "--query={}",
        f"--group_by={SUBJECT},{MODALITY}",
        "--filter_latest=created",
        f"--filter_by={SUBJECT},{START}",
        f"--unwind_list_fields={MODALITY}",
    ]
    live = run(*flags)
    snapshot = run(*flags, "--docdb_snapshot=records.jsonl", output=tmp_path / "again")
    assert live.status == 0, live.log
    assert live.files() == snapshot.files()
    [asked, *_] = [request.body[-1]["$project"] for request in docdb.requests]
    assert {"created", SUBJECT, START, "data_description.modality"} <= asked.keys()


def test_times_are_compared_across_zones(dispatch: Dispatch) -> None:
    times = {
        "a": "2025-03-01T23:00:00-08:00",
        "b": "2025-03-02T06:59:59Z",
        "c": "2025-03-02T06:59:59.5",
    }
    records = [record(name, at=time, g=1) for name, time in times.items()]
    [task] = dispatch(records, "--filter_latest=at", "--filter_by=g",
                      "--drop_null_groups=0")  # fmt: skip
    assert task["asset_name"] == ["a"]
    records.append(record("d", at="yesterday", g=1))  # no time: now all are strings
    [task] = dispatch(records, "--filter_latest=at", "--filter_by=g",
                      "--drop_null_groups=0")  # fmt: skip
    assert task["asset_name"] == ["d"]

    records[-1]["at"] = None  # which is before all times
    [task] = dispatch(records, "--filter_latest=at", "--filter_by=g",
                      "--drop_null_groups=0")  # fmt: skip
    assert task["asset_name"] == ["a"]


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


@pytest.mark.parametrize("number", range(1, len(ODD_TIMES)))
def test_times_are_read_as_programs_write_them(number: int, dispatch: Dispatch) -> None:
    pair = ODD_TIMES[number - 1 : number + 1]
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


def test_a_list_that_a_path_leads_through_can_be_unwound(dispatch: Dispatch) -> None:
    both = [{"name": "one", "kind": 1}, {"name": "two", "kind": 2}]
    records = [record("a", items=both), record("b", items=both[1:]), record("c", items=[])]
    tasks = dispatch(records, "--group_by=items.name,items.kind", "--unwind_list_fields=items")
    assert groups_of(tasks) == {
        '{"items__kind": 1, "items__name": "one"}': ["id-a"],
        '{"items__kind": 2, "items__name": "two"}': ["id-a", "id-b"],
    }


STREAM = "data_streams.modalities.abbreviation"


@pytest.mark.parametrize("live", [True, False])
def test_lists_in_lists_are_unwound_as_by_one_stage_after_the_other(
    live: bool, run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    streams = [
        {"start": "T1", "modalities": [{"abbreviation": "ecephys"}, {"abbreviation": "behavior"}]},
        {"start": "T2", "modalities": [{"abbreviation": "pophys"}]},
        "no object",
    ]
    records = [record("a", data_streams=streams), record("b", data_streams=["no object"])]
    docdb.put(*records)
    (tmp_path / "records.json").write_text(json.dumps(records))
    flags = ["--query={}", f"--group_by={STREAM},data_streams.start"]
    flags += [] if live else ["--docdb_snapshot=records.json"]
    pairs = [["behavior", "T1"], ["ecephys", "T1"], ["pophys", "T2"]]
    for unwound in (f"{STREAM},data_streams.start", STREAM, f"data_streams,{STREAM}"):
        result = run(*flags, f"--unwind_list_fields={unwound}", "--overwrite=1")
        assert [list(task["group_metadata"].values()) for task in result.tasks()] == pairs
        assert "skipped, no data_streams.modalities.abbreviation" in result.log
        both = run(*flags, f"--unwind_list_fields={unwound}", "--overwrite=1",
                   "--drop_null_groups=0")  # fmt: skip
        assert [list(task["group_metadata"].values()) for task in both.tasks()] == [
            [None, None],
            *pairs,
        ]
        assert both.tasks()[0]["asset_name"] == ["a", "b"]
    lists = run(*flags, "--unwind_list_fields=data_streams", "--overwrite=1")
    assert [list(task["group_metadata"].values()) for task in lists.tasks()] == [
        [["ecephys", "behavior"], "T1"],
        [["pophys"], "T2"],
    ]


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


# ------------------------------------------------------------------------------------- parameters


def test_every_task_comes_once_for_each_set_of_parameters(
    run: Run, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    docdb.put(record("a"), record("b"))
    s3.put(BUCKET, ["a/1.nwb", "a/2.nwb", "b/1.nwb"])
    plain = run("--query={}", "--file_extension=nwb").tasks()
    sets = [{"w": 2, "deep": {"x": [1, None]}}, {"w": 1}, {}]
    string = json.dumps({"distributed_parameters": sets})
    staged = tmp_path / "data" / "input_files"
    staged.mkdir()
    (staged / "analysis_parameters.json").write_text(string)
    result = run("--query={}", "--file_extension=nwb", "--overwrite=1")
    assert result.status == 0, result.log
    expected = [{**task, "distributed_parameters": one} for task in plain for one in sets]
    assert result.tasks() == expected
    assert list(result.tasks()[0])[-2:] == ["distributed_parameters", "query"]


def test_equal_tasks_are_written_once(run: Run, docdb: DocDB, tmp_path: Path) -> None:
    docdb.put(record("a"), record("b"))
    string = json.dumps({"distributed_parameters": [{"w": 1}, {"w": 2}, {"w": 1}]})
    (tmp_path / "data" / "analysis_parameters.json").write_text(string)
    result = run("--query={}")
    assert result.status == 0, result.log
    assert [task["distributed_parameters"] for task in result.tasks()] == [{"w": 1}, {"w": 2}] * 2
    assert "2 tasks not repeated, equal to another one" in result.log


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


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        '{"distributed_parameters": []}',
        '{"distributed_parameters": null}',
        '\ufeff{"fixed_parameters": {}}',
    ],
)
def test_no_parameters_change_nothing(content: str, run: Run, docdb: DocDB, tmp_path: Path) -> None:
    docdb.put(record("a"))
    before = run("--query={}").files()
    (tmp_path / "data" / "analysis_parameters.json").write_text(content)
    assert run("--query={}", "--overwrite=1").files() == before


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
    content: str, words: str, run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"))
    path = tmp_path / "data" / "analysis_parameters.json"
    path.write_text(content)
    result = run("--query={}")
    assert result.status == 2
    assert str(path) in result.error
    assert words in result.error
    assert not result.output.exists()


# -------------------------------------------------------------------------- how many, and how dealt


def test_only_so_many_tasks_are_dispatched(run: Run, docdb: DocDB) -> None:
    docdb.put(*(record(f"{n}") for n in range(9)))
    whole = run("--query={}").tasks()
    result = run("--query={}", "--max_number_of_tasks_dispatched=4", "--overwrite=1")
    assert result.tasks() == whole[:4]
    assert "5 tasks left out" in result.log
    assert "4 tasks (5 more left out)" in result.error
    assert run("--query={}", "--max_tasks=9", "--overwrite=1").tasks() == whole
    assert "left out" not in run("--query={}", "--max_tasks=0", "--overwrite=1").log


@pytest.mark.parametrize("jobs", [1, 3, 50])
@pytest.mark.parametrize("at_least", [1, 4, 5, 12, 13])
def test_workers_get_enough_tasks(at_least: int, jobs: int, run: Run, docdb: DocDB) -> None:
    docdb.put(*(record(f"{n:02}") for n in range(12)))
    result = run("--query={}", f"--tasks_per_job={at_least}", f"--max_jobs={jobs}")
    most = [
        w for w in range(1, jobs + 1) if all(len(range(n, 12, w)) >= at_least for n in range(w))
    ]
    assert len(result.workers()) == max(most, default=1)
    assert sum(map(len, result.workers())) == 12


SIZES = st.lists(st.integers(0, 30), min_size=1, max_size=9)


def best(sizes: list[int], workers: int) -> int:
    """Return the load of the heaviest worker in the best of all shares, by trying them all."""
    states = {(0,) * workers}
    for size in sizes:
        states = {
            tuple(sorted((*state[:n], state[n] + size, *state[n + 1 :])))
            for state in states
            for n in range(workers)
        }
    return min(state[-1] for state in states)


@given(SIZES, st.integers(1, 4))
@example([0] * 6, 4)
def test_the_heaviest_worker_is_within_four_thirds_of_the_best(
    sizes: list[int], workers: int
) -> None:
    workers = min(workers, len(sizes))
    tasks = [a_task(size, str(n)) for n, size in enumerate(sizes)]
    shares = deal_by_size(tasks, workers)
    assert Counter(task for share in shares for task in share) == Counter(tasks)
    assert all(shares)
    if not any(sizes):  # tasks without a byte are work, too
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(share == sorted(share, key=lambda task: int(task.id)) for share in shares)
    heaviest = max(sum(task.size or 0 for task in share) for share in shares)
    assert 3 * heaviest <= 4 * best(sizes, workers)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=500), st.integers(1, 60))
def test_many_tasks_are_near_the_mean_or_the_largest(sizes: list[int], workers: int) -> None:
    workers = min(workers, len(sizes))
    tasks = [a_task(size, str(n)) for n, size in enumerate(sizes)]
    loads = [sum(task.size or 0 for task in s) for s in deal_by_size(tasks, workers)]
    # the mean, the largest, and two of the tasks that cannot all have a worker of their own
    pair = sum(sorted(sizes, reverse=True)[workers - 1 : workers + 1]) * (len(sizes) > workers)
    least = max(sum(sizes) / workers, *sizes, pair)
    assert max(loads) <= 4 / 3 * least


def test_sizes_are_those_of_files_and_of_what_lies_in_folders(
    run: Run, docdb: DocDB, s3: S3
) -> None:
    docdb.put(*(record(name) for name in "abcd"))
    s3.put(BUCKET, ["a/1.nwb/x", "d/odd.nwb//y"])
    for key, size in {
        "a/1.nwb/c/0": 300, "a/1.nwb/c/1": 400, "a/2.nwb": 10, "b/1.nwb": 500, "c/1.nwb": 150,
        "c/1.nwb2": 9_999, "d/odd.nwb/a//b": 90, "d/odd.nwb/z": 9,
    }.items():  # fmt: skip
        s3.backend.put_object(BUCKET, key, b"x" * size)
    result = run("--query={}", "--file_extension=nwb", "--balance_by=size", "--max_jobs=2")
    assert result.status == 0, result.log
    loads = [sorted(file.split("/", 3)[3] for task in worker for file in task["file_location"])
             for worker in result.workers()]  # fmt: skip
    # 700 and then 10; 500, 150 and 99, in the order of the sizes
    assert loads == [["a/1.nwb", "a/2.nwb"], ["b/1.nwb", "c/1.nwb", "d/odd.nwb"]]
    assert "2 workers, the heaviest with 749B, 1.03 times the mean" in result.error
    assert len(s3.listings()) == 4  # what is in folders comes with the pages that are read anyway


def test_a_store_of_many_pages_is_weighed_whole(run: Run, docdb: DocDB, s3: S3) -> None:
    docdb.put(record("a"), record("b"))
    s3.page = 100
    s3.put(BUCKET, [])
    for n in range(4):
        for m in range(150):
            s3.backend.put_object(BUCKET, f"a/x.zarr/{n}/{m:04}", b"x" * 20)
    s3.backend.put_object(BUCKET, "b/x.zarr/0", b"x" * 4_000)
    result = run("--query={}", "--file_extension=zarr", "--balance_by=size")
    assert "2 workers, the heaviest with 12.0kB, 1.50 times the mean" in result.error
    assert len(s3.listings()) > 6


def test_local_files_have_their_size(tmp_path: Path, run: Run) -> None:
    for path, size in {"a/x.nwb/1": 3_000, "a/x.nwb/2/3": 4_000, "b/x.nwb": 1_000}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x" * size)
    (tmp_path / "a" / "x.nwb" / "link").symlink_to("nowhere")
    records = [{"_id": name, "name": name, "location": name} for name in "ab"]
    (tmp_path / "records.json").write_text(json.dumps(records))
    result = run("--query={}", "--docdb_snapshot=records.json", "--file_extension=nwb",
                 "--balance_by=size")  # fmt: skip
    assert "the heaviest with 7.00kB, 1.75 times the mean" in result.error


def test_all_of_it_combines(
    run: Run, docdb: DocDB, s3: S3, real_records: list[Record], tmp_path: Path
) -> None:
    docdb.put(*real_records)
    for real in real_records:
        bucket, _, prefix = real["location"].removeprefix("s3://").partition("/")
        s3.put(bucket, [f"{prefix}/x.nwb", f"{prefix}/y/z.nwb/0"])
    sets = [{"w": 1}, {"w": 2}]
    (tmp_path / "data" / "analysis_parameters.json").write_text(
        json.dumps({"distributed_parameters": sets})
    )
    flags = [
        "--query={}", "--data_level=raw", "--filter_latest=created", f"--filter_by={SUBJECT}",
        f"--group_by={MODALITY}", f"--unwind_list_fields={MODALITY}", "--file_extension=nwb",
        "--max_tasks=5", "--tasks_per_job=2", "--balance_by=size",
    ]  # fmt: skip
    result = run(*flags)
    assert result.status == 0, result.log
    raw = [r for r in real_records if r["data_description"]["data_level"] == "raw"]
    latest = reference_latest(raw, "created", [SUBJECT], [], True)
    by_id = {real["_id"]: real for real in real_records}
    files = ("x.nwb", "y/z.nwb")
    groups = sorted(reference_groups(latest, [MODALITY], [MODALITY], True).items())
    expected = [
        (metadata, ids, one, [f"{by_id[i]['location']}/{f}" for i in ids for f in files])
        for metadata, ids in groups
        for one in sets
    ]  # fmt: skip
    found = [
        (json.dumps(task["group_metadata"], sort_keys=True), task["docdb_record_id"],
         task["distributed_parameters"], task["file_location"])
        for task in result.tasks()
    ]  # fmt: skip
    assert sorted(found, key=str) == sorted(expected[:5], key=str)
    assert len(expected) > 5
    assert result.names() == ["0", "1", "2"]  # two in each, and one
