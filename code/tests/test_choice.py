"""The choice on the page of a dry run: its filter gives exactly the assets that the page counts."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import Run, Visit
from reference import matches
from run_capsule import CHOOSE_BY, Snapshot
from standins import DocDB, record

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Record = dict[str, Any]
SEED = int(os.environ.get("CHOICE_SEED", "0")) or random.SystemRandom().randrange(10**6)
dice = random.Random(SEED)  # noqa: S311

ODD: list[Any] = [None, "", "a", "b", "(none)", "é 漢字 🐁", "it's", 5, True, {}, {"x": "a"}, []]
ODD += [
    ["a"],
    ["a", None],
    ["b", "c"],
    [["a"]],
    [5, "b"],
    [{}],
    "\ud800",
    ["\ud800", "a"],
    "\u2028",
]
DATES: list[Any] = [None, 5, [], {}, "Monday", "2025", "20250304", "2025-03-04T09:12:33-08:00"]
DATES += ["2025-03-04", "2025-03-05 00:00", "2025-03-04T23:59:59.9Z", "2025-02-30", "9999-12-31"]
DATES += [["2025-03-01", "2025-03-09T10:00:00"], ["2025-03-05", None], "2025-03-06é", ""]


def odd_record(number: int, version: str) -> Record:
    """Return a record that has anything, or nothing, in the fields to choose by."""
    made: Record = record(f"n{number:03}")
    for name in ("data_description", "subject", "session", "acquisition"):
        made.pop(name, None)
    for name, path in CHOOSE_BY[version].items():
        values = DATES if name == "date" else ODD
        *folders, last = path.split(".")
        inner: Any = {last: dice.choice(values)} if dice.random() < 0.85 else {}
        if folders[1:]:  # modality.abbreviation
            some = [{last: dice.choice(values)} for _ in range(dice.randrange(4))]
            inner = dice.choice([inner, some, some, [*some, "a", inner], [[inner]], None, "a"])
            inner = {folders[1]: inner} if dice.random() < 0.9 else {}
        top = made.get(folders[0])
        if isinstance(top, dict):
            top.update(inner)
        elif dice.random() < 0.9:
            made[folders[0]] = inner
        else:
            made[folders[0]] = dice.choice([None, "a", [], [inner, {}], [inner, inner], [[inner]]])
    return made


def spoiled(records: list[Record], version: str) -> list[Record]:
    """Return records with what is null, missing, or there several times in some."""
    kept = [json.loads(json.dumps(each)) for each in records]
    for each in kept:
        about = each.get("data_description") or {}
        if version == "v2":
            about["modalities"] = about.pop("modality", None) or about.get("modalities")
            start = (each.pop("session", None) or {}).get("session_start_time")
            each["acquisition"] = {"acquisition_start_time": start}
        each["data_description"] = about
        for name, path in CHOOSE_BY[version].items():
            top, _, rest = path.partition(".")
            first = rest.partition(".")[0]
            if dice.random() < 0.1 and isinstance(each.get(top), dict):
                each[top].pop(first, None)
            elif dice.random() < 0.1:
                each[top] = {**(each.get(top) or {}), first: dice.choice([None, []])}
            elif dice.random() < 0.05 and name != "modality":
                one = dice.choice(kept).get(top) or {}
                each[top] = {**(each.get(top) or {}), first: [one.get(first), "2024-06-30", "a"]}
    return kept


def choose_at_random(tab: Visit) -> None:
    """Choose some values of some fields, with the mouse's clicks."""
    tab.page.locator("#clear").click()
    for field in dice.sample(
        ["project", "subject", "modality", "level", "date"], dice.choice([1, 1, 2, 3])
    ):
        if field == "date":
            days = tab.page.locator("#date-from option").evaluate_all(
                "all => all.map(o => o.value)"
            )
            if len(days) > 1:
                tab.page.locator("#date-from").select_option(dice.choice(days))
                tab.page.locator("#date-to").select_option(dice.choice(days))
            continue
        boxes = tab.page.locator(f"#values-of-{field} input")
        for place in dice.sample(range(boxes.count()), min(boxes.count(), dice.randint(1, 4))):
            boxes.nth(place).check()


def counted(tab: Visit) -> tuple[int, list[str]]:
    """Return how many assets the page counts, and the names of those that it lists."""
    said = tab.page.inner_text("#chosen")
    number = re.search(r": ([\d,]+) of [\d,]+ asset", said)
    assert number, said
    return int(number[1].replace(",", "")), sorted(tab.column(2))


def matching(records: list[Record], query: Record) -> list[str]:
    """Return the names of the records that match, by the program and by the reference."""
    ids = {
        found["_id"] for page in Snapshot(records, Path("/")).find(query, ["_id"]) for found in page
    }
    assert ids == {each["_id"] for each in records if matches(query, each)}, query
    return sorted(each["name"] for each in records if each["_id"] in ids)


def write_lines(path: Path, records: list[Record]) -> Path:
    path.write_text("\n".join(map(json.dumps, records)))
    return path


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Any]:
    """Return a function that opens the page in a folder."""
    opened: list[Visit] = []

    def open_page(folder: Path, **options: Any) -> Visit:
        opened.append(Visit(browser, folder, **options))
        return opened[-1]

    yield open_page
    for each in opened:
        each.context.close()
        assert each.faults == []
        assert all(url.startswith((each.url, "blob:")) for url in each.requests)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("source", ["snapshot", "gateway"])
def test_any_choice_among_odd_records_counts_what_its_filter_matches(
    source: str, version: str, run: Run, docdb: DocDB, tmp_path: Path, open_page: Any
) -> None:
    records = [odd_record(number, version) for number in range(150)]
    flags = [f"--docdb_version={version}", "--dry_run=1"]
    if source == "snapshot":
        flags.append(f"--docdb_snapshot={write_lines(tmp_path / 'odd.jsonl', records)}")
    else:
        records = json.loads(json.dumps(records).replace("\\ud800", "surrogate"))
        docdb.put(*records, version=version)
    query = dice.choice(["{}", '{"name": {"$ne": "n007"}}'])
    planned = run(f"--query={query}", *flags)
    assert planned.status == 0, (SEED, planned.log)
    tab = open_page(planned.output)
    sizes = set()
    for _ in range(40):
        choose_at_random(tab)
        wanted = json.loads(tab.page.inner_text("#filter"))
        number, names = counted(tab)
        assert names == matching(records, wanted), (SEED, wanted)
        assert number == len(names), (SEED, wanted)
        sizes.add(number)
    assert len(sizes) > 5


SOURCES: dict[str, list[str]] = {
    "all": ["--query={}"],
    "query": ["--query={'location': {'$regex': 'open'}}", "--data_level", "raw"],
    "flags": ["--docdb_query={}", "--modality=behavior,ecephys,pophys", "--group_by=name"],
    "csv": ["--use_data_asset_csv", "1"],
    "latest": ["--query={}", "--filter_latest=created", "--filter_by=data_description.data_level"],
    "most": ["--query={}", "--max_tasks=20"],
}


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("source", SOURCES)
def test_the_command_of_a_choice_gives_exactly_the_assets_that_the_page_counts(
    source: str,
    version: str,
    run: Run,
    services: dict[str, str],
    real_records: list[Record],
    tmp_path: Path,
    open_page: Any,
) -> None:
    records = spoiled(real_records, version)
    snapshot = write_lines(tmp_path / "it's.jsonl", records)
    ids = [f"{asset_id}\n" for each in records for asset_id in dispatch_ids(each)[:1]]
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data" / "data_asset_input.csv").write_text("asset_id\n" + "".join(ids[::2]))
    planned = run(
        *SOURCES[source],
        *("--docdb_snapshot", str(snapshot), "--docdb_version", version),
        *("--overwrite", "1", "--dry_run", "1"),
    )
    assert planned.status == 0, (SEED, planned.log)
    tab = open_page(planned.output)
    done = 0
    while done < 3:
        choose_at_random(tab)
        number, names = counted(tab)
        command = copied(tab, "command")
        ended = subprocess.run(
            ["bash", "-c", command],
            cwd="/",
            env=services,
            capture_output=True,
            text=True,
            check=False,
        )
        if not number:
            assert ended.returncode == 1, (SEED, command, ended.stderr)
            assert "nothing to dispatch" in ended.stderr
            continue
        assert ended.returncode == 0, (SEED, command, ended.stderr)
        tasks = [json.loads(path.read_text()) for path in planned.output.glob("*/*.json")]
        assert sorted(name for task in tasks for name in task["asset_name"]) == names, (
            SEED,
            command,
        )
        assert len(names) == number
        done += 1


def dispatch_ids(each: Record) -> list[str]:
    """Return the Code Ocean ids of a record."""
    links = each.get("external_links") or {}
    return list(links.get("Code Ocean") or []) if isinstance(links, dict) else []


def copied(tab: Visit, name: str) -> str:
    """Copy the filter or the command, and return what the clipboard has, or what is selected."""
    tab.page.locator(f"#narrow [data-copy={name}]").click()
    said = tab.page.locator(f"#narrow [data-copy={name}] + [role=status]")
    said.filter(has_text="e").wait_for()
    shown: str = tab.page.inner_text(f"#{name}")
    if "Selected" in said.inner_text():
        assert tab.page.evaluate("String(getSelection())") == shown
    return shown
