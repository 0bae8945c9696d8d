"""The choice on the page of a dry run: its filter gives exactly the assets that the page counts."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chosen import Record, write_snapshot
from conftest import NIGHT, Result, Run, Visit
from dispatch.plan.choices import LISTS
from dispatch.plan.page import script_of_page
from dispatch.records.names import DAY
from dispatch.records.schema import NAMES
from dispatch.records.snapshot import Snapshot
from plans_made import (  # noqa: F401  (fixtures)
    HOSTILE,
    REQUEST,
    SHOTS,
    Show,
    cohort,
    figure,
    figures,
    make_named_plan,
    make_named_request,
    make_plan,
    only_tab,
    paste,
    show,
    tab,
    write,
)
from reference import matches
from standins import DocDB, record

if TYPE_CHECKING:
    pass


SEED = int(os.environ.get("CHOICE_SEED", "0")) or random.SystemRandom().randrange(10**6)
dice = random.Random(SEED)  # noqa: S311

ODD: list[Any] = [None, "", "a", "b", "(none)", "é 漢字 🐁", "it's", 5, True, {}, {"x": "a"}, []]
ODD += [["a"], ["a", None], ["b", "c"], [["a"]], [5, "b"], [{}]]
ODD += ["\ud800", ["\ud800", "a"], "\u2028"]
ODD += ["SmartSPIM", "raw data", ["FIP", "ecephys"], "name='Fiber' abbreviation='fib'"]
DATES: list[Any] = [None, 5, [], {}, "Monday", "2025", "20250304", "2025-03-04T09:12:33-08:00"]
DATES += ["2025-03-04", "2025-03-05 00:00", "2025-03-04T23:59:59.9Z", "2025-02-30", "9999-12-31"]
DATES += [["2025-03-01", "2025-03-09T10:00:00"], ["2025-03-05", None], "2025-03-06é", ""]


CHOOSE_BY: dict[str, dict[str, str]] = {"v1": {}, "v2": {}}  # where most records hold it
for title, chosen_by in {**LISTS, "date": "session_day"}.items():
    CHOOSE_BY["v1"][title] = NAMES[chosen_by].paths[0]
    CHOOSE_BY["v2"][title] = (NAMES[chosen_by].paths * 2)[1]


def odd_record(number: int, version: str) -> Record:
    """Return a record that has anything, or nothing, in the fields to choose by."""
    made: Record = record(f"n{number:03}")
    for name in ("data_description", "subject", "session", "acquisition"):
        made.pop(name, None)
    others = [("modality", path) for path in NAMES["modality"].paths[:2]]
    others += [("date", path) for path in NAMES["session_day"].paths]
    others += [("subject", path) for path in NAMES["subject_id"].paths]
    for name, path in [*CHOOSE_BY[version].items(), dice.choice(others)]:
        values = DATES if name == "date" else ODD
        *folders, last = path.split(".")
        inner: Any = {last: dice.choice(values)} if dice.random() < 0.85 else {}
        if folders[1:]:  # modality.abbreviation
            some = [{last: dice.choice(values)} for _ in range(dice.randrange(4))]
            odd = dice.choice(ODD)
            inner = dice.choice([inner, some, some, [*some, "a", inner], [[inner]], None, odd])
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


# What there is to choose: how many values of each field, and which days.
OFFERED = """() => {
  const offered = {};
  document.getElementById("clear").click();
  for (const field of ["project", "subject", "modality", "level"]) {
    offered[field] = document.querySelectorAll(`#values-of-${field} input`).length;
  }
  return { ...offered, date: fields.find(isNamed("date")).options };
}"""

# Clicks boxes by their places, which change with each click, and fills in days.
CHOOSE = """(chosen) => {
  for (const [field, values] of Object.entries(chosen)) {
    for (const value of values) {
      if (field === "date") {
        const input = document.getElementById(`date-${value[0]}`);
        input.value = value[1];
        input.dispatchEvent(new Event("change"));
      } else {
        const boxes = [...document.querySelectorAll(`#values-of-${field} input`)];
        const box = boxes[Math.min(value, boxes.length - 1)]; // none, if no asset is left
        if (box && !box.checked) box.click();
      }
    }
  }
}"""


def choose_at_random(tab: Visit) -> None:
    """Choose some values of some fields."""
    offered = tab.page.evaluate(OFFERED)
    chosen: dict[str, list[Any]] = {}
    for field in dice.sample(list(offered), dice.choice([1, 1, 2, 3])):
        if field != "date":
            count = offered[field]
            chosen[field] = dice.sample(range(count), min(count, dice.randint(1, 4)))
        elif offered["date"]:
            days = ["", *offered["date"]]
            chosen["date"] = [("from", dice.choice(days)), ("to", dice.choice(days))]
    tab.page.evaluate(CHOOSE, chosen)


def counted(tab: Visit) -> tuple[int, list[str]]:
    """Return how many assets the page counts, and the names of those that it lists."""
    return figure(tab.page, "Assets"), sorted(tab.column(2))


def matching(records: list[Record], query: Record) -> list[str]:
    """Return the names of the records that match, by the program and by the reference."""
    ids = {
        found["_id"] for page in Snapshot(records, Path("/")).find(query, ["_id"]) for found in page
    }
    assert ids == {each["_id"] for each in records if matches(query, each)}, query
    return sorted(each["name"] for each in records if each["_id"] in ids)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("source", ["snapshot", "gateway"])
def test_any_choice_among_odd_records_counts_what_its_filter_matches(
    source: str, version: str, run: Run, docdb: DocDB, tmp_path: Path, tab: Visit
) -> None:
    records = [odd_record(number, version) for number in range(150 if NIGHT else 100)]
    flags = [f"--docdb_version={version}", "--dry_run=1"]
    if source == "snapshot":
        flags.append(write_snapshot(tmp_path, records))
    else:
        records = json.loads(json.dumps(records).replace("\\ud800", "surrogate"))
        docdb.put(*records, version=version)
    query = dice.choice(["{}", '{"name": {"$ne": "n007"}}'])
    planned = run(f"--query={query}", *flags)
    assert planned.status == 0, (SEED, planned.log)
    tab.open(planned.output)
    sizes = set()
    for _ in range(12 if NIGHT else 8):
        choose_at_random(tab)
        wanted = json.loads(tab.page.inner_text("#filter"))
        number, names = counted(tab)
        assert names == matching(records, wanted), (SEED, wanted)
        assert number == len(names), (SEED, wanted)
        sizes.add(number)
    assert len(sizes) > 3


def test_a_day_counts_times_that_are_no_valid_strings(run: Run, tmp_path: Path, tab: Visit) -> None:
    times = ["2025-03-04\ud800", "2025-03-04T09\ud800", "2025-03-0\ud800"]
    times += ["2025-03-04T09:12:33-08:00", "2025-03-05"]
    records = []
    for name, time in zip("abcde", times, strict=True):
        records.append({**record(name), "session": {"session_start_time": time}})
    planned = run("--query={}", write_snapshot(tmp_path, records), "--dry_run=1")
    assert planned.status == 0, planned.log
    tab.open(planned.output)
    for end, day in (("from", "2025-03-04"), ("to", "2025-03-04"), ("from", "2025-03-05")):
        tab.page.locator("#clear").click()
        tab.page.locator(f"#date-{end}").fill(day)
        names = matching(records, json.loads(tab.page.inner_text("#filter")))
        assert counted(tab) == (len(names), names)


SOURCES: dict[str, list[str]] = {
    "all": ["--query={}"],
    "query": ["--query={'location': {'$regex': 'open'}}", "--data_level", "raw"],
    "flags": ["--docdb_query={}", "--modality=behavior,ecephys,pophys", "--group_by=name"],
    "csv": ["--use_data_asset_csv", "1"],
    "latest": ["--query={}", "--filter_latest=name", "--filter_by=data_description.data_level"],
    "most": ["--query={}", "--max_tasks=20"],
}


VERSIONS = ("v1", "v2")  # by day, every other source is asked of the second


@pytest.mark.parametrize(
    ("source", "version"),
    list(product(SOURCES, VERSIONS) if NIGHT else zip(SOURCES, cycle(VERSIONS))),
)
def test_the_command_of_a_choice_gives_exactly_the_assets_that_the_page_counts(
    source: str,
    version: str,
    run: Run,
    services: dict[str, str],
    real_records: list[Record],
    tmp_path: Path,
    tab: Visit,
) -> None:
    records = spoiled(real_records, version)
    (tmp_path / "it's").mkdir()
    write_snapshot(tmp_path / "it's", records)
    ids = [f"{asset_id}\n" for each in records for asset_id in dispatch_ids(each)[:1]]
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data" / "data_asset_input.csv").write_text("asset_id\n" + "".join(ids[::2]))
    planned = run(
        *SOURCES[source],
        *("--docdb_snapshot", "it's/records.jsonl", "--docdb_version", version),
        *("--overwrite", "1", "--dry_run", "1"),
    )
    assert planned.status == 0, (SEED, planned.log)
    tab.open(planned.output)
    done = 0
    while done < (2 if NIGHT else 1):
        choose_at_random(tab)
        number, names = counted(tab)
        if not number:
            assert not tab.page.locator("#bar [data-copy=command]").is_visible()
            assert tab.page.locator("#nothing").is_visible()
            continue
        command = copied(tab, "command")
        paste(command, services)
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
    tab.page.locator(f"#bar [data-copy={name}]").click()
    said = tab.page.locator(f"#bar [data-copy={name}] + [role=status]")
    said.filter(has_text="e").wait_for()
    shown: str = tab.page.inner_text(f"#{name}")
    if "Selected" in said.inner_text():
        assert tab.page.evaluate("String(getSelection())") == shown
    return shown


@pytest.fixture
def choose_and_run(
    run: Run, services: dict[str, str], tmp_path: Path, tab: Visit
) -> Callable[..., Iterator[tuple[Result, Visit]]]:
    """Return a function that plans, and with each choice runs the page's command."""

    def choose_and_run(records: list[Record], *flags: str, choices: Any) -> Iterator[Any]:
        flags = (*flags, write_snapshot(tmp_path, records), "--overwrite=1")
        planned = run(*flags, "--dry_run=1")
        assert planned.status == 0, planned.log
        tab.open(planned.output)
        for chosen in choices:
            tab.page.locator("#clear").click()
            for field, value in chosen.items():
                rows = tab.page.locator(f"#values-of-{field} label")
                rows.filter(has_text=value).locator("input").first.check()
            paste(copied(tab, "command"), services)
            yield planned, tab

    return choose_and_run


def test_of_an_asset_that_is_cut_no_more_tasks_are_dispatched_than_are_shown(
    choose_and_run: Any, tmp_path: Path
) -> None:
    records = []
    for name, files in (("n0", "a"), ("n1", "ab"), ("n2", "abc")):
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / f"{file}.nwb").touch()
        description = {"project_name": f"of {name}"}
        records.append({**record(name, location=name), "data_description": description})
    flags = ["--query={}", "--file_extension=nwb"]
    for most, wanted in ((2, {"of n1": 1, "of n0": 1}), (3, {"of n1": 2}), (4, {"of n2": 1})):
        choices = [{"project": name} for name in wanted]
        runs = choose_and_run(records, *flags, f"--max_tasks={most}", choices=choices)
        for expected, (planned, visit) in zip(wanted.values(), runs, strict=True):
            assert figures(visit.page)["Tasks"] == f"{expected} of {most}"
            assert len(planned.tasks()) == expected


def test_a_choice_among_the_ids_of_a_csv_keeps_ids_and_order(
    choose_and_run: Any, tmp_path: Path
) -> None:
    records = []
    for number in range(6):
        ids = [f"first-{number}", f"second '{number}'"]
        project = {"project_name": f"p{number % 2}"}
        one = record(f"n{number}", external_links={"Code Ocean": ids})
        records.append({**one, "data_description": project})
    asked = ["second '4'", "first-1", "second '2'", "first-5", "first-0"]
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data" / "data_asset_input.csv").write_text("\n".join(["asset_id", *asked]))
    for flags, expected in (
        ([], ["second '4'", "second '2'", "first-0"]),
        (["--max_tasks=3"], ["second '4'", "second '2'"]),
    ):
        choices = [{"project": "p0"}, {}]
        runs = choose_and_run(records, "--use_data_asset_csv=1", *flags, choices=choices)
        planned, tab = next(runs)
        assert [task["asset_id"] for task in planned.tasks()] == [[one] for one in expected]
        with tab.page.expect_download() as download:
            tab.page.get_by_role("button", name="Download data_asset_input.csv").click()
        content = Path(download.value.path()).read_text()
        assert [row["asset_id"] for row in csv.DictReader(content.splitlines())] == expected
        planned, _ = next(runs)
        whole = asked[:3] if flags else asked
        assert [task["asset_id"] for task in planned.tasks()] == [[one] for one in whole]


def test_assets_that_lack_the_field_of_a_group_can_be_chosen(choose_and_run: Any) -> None:
    modalities: dict[str, Record] = {
        "a": {"modality": [{"abbreviation": "ecephys"}]},
        "none": {},
        "empty": {"modality": []},
    }
    records = [{**record(name), "data_description": has} for name, has in modalities.items()]
    field = NAMES["modality"].paths[0]
    flags = ["--query={}", f"--group_by={field}", "--drop_null_groups=0"]
    [(planned, _)] = choose_and_run(records, *flags, choices=[{"modality": "(none)"}])
    assert sorted(task["asset_name"] for task in planned.tasks()) == [["empty", "none"]]


# ------------------------------------------------------------------------------------ what is seen


def values(page: Any, field: str) -> dict[str, int]:
    """Return the values of a field that the page lists, with their numbers of assets."""
    rows = page.locator(f"#values-of-{field} label").all_inner_texts()
    found = [row.split("\n") for row in rows]
    return {value: int(number) for value, number in found}


def test_a_choice_updates_all_that_is_counted(show: Show) -> None:
    page = show()
    assert page.inner_text("#lead") == "Nothing is chosen, which is all"
    assert figures(page)["Assets"] == "300"
    kinds = values(page, "modality")
    assert kinds.pop("behavior-videos") == sum(kinds.values()) == 300
    assert values(page, "level") == {"derived": 300}
    page.locator("#bar [data-copy=filter]").click()
    status = page.locator("#bar [data-copy=filter] + [role=status]")
    status.filter(has_text="e").wait_for()
    page.get_by_role("checkbox", name="ecephys").check()
    assert status.inner_text() == ""  # what was said of a copy is taken back
    chosen = figures(page)
    assert page.inner_text("#lead") == "Chosen"
    assert chosen["Assets"] == f"{kinds['ecephys']} of 300"
    assert chosen["Tasks"] == chosen["Files"] == f"{kinds['ecephys'] * 3} of 900"
    planned = make_plan().tasks
    some = sum(task.size or 0 for task in planned if "ecephys" in task.assets[0].name)
    every = sum(task.size or 0 for task in planned)
    assert chosen["Size"] == f"{some / 1e9:.1f} GB of {every / 1e12:.1f} TB"
    assert values(page, "level") == {"derived": kinds["ecephys"]}
    assert {**kinds, "behavior-videos": 300} == values(page, "modality")
    assert page.inner_text("#assets-text").startswith(f"{kinds['ecephys']} assets of ")
    assert page.inner_text("#shown") == f"{kinds['ecephys'] * 3} of 900 rows match."
    squares = "document.querySelectorAll('#assets svg text.left').length"
    subjects = page.evaluate(squares)
    page.get_by_role("checkbox", name="771755").check()
    assert page.evaluate(squares) == 3 < subjects  # two of the bars
    assert page.locator("#task-table tbody th").first.inner_text().startswith("ecephys_771755")


def test_nothing_chosen_leaves_the_page_as_it_was(show: Show) -> None:
    page = show()
    shown = "document.querySelector('main').innerHTML.replaceAll(' class=\"\"', '')"
    before = page.evaluate(shown)
    address = page.url
    page.get_by_role("checkbox", name="ecephys").check()
    page.locator("#date-to").fill("2025-02-01")
    assert page.evaluate(shown) != before
    page.get_by_role("button", name="Clear the choice").click()
    assert page.url == address
    assert page.evaluate(shown) == before


def test_the_address_keeps_the_choice_and_a_link_shows_it(show: Show) -> None:
    page = show()
    page.get_by_role("checkbox", name="ecephys").check()
    page.get_by_role("checkbox", name="(none)").check()
    page.locator("#date-from").fill("2025-01-28")
    shown, address = page.locator("#chosen").inner_text(), page.url
    assert address.endswith("#none=subject&modality=ecephys&from=2025-01-28")
    page.reload()
    assert page.locator("#chosen").inner_text() == shown
    page.get_by_role("link", name="Tasks", exact=True).click()
    page.wait_for_function("scrollY > 500")
    page.wait_for_function("address => location.href === address", arg=address)
    other = show(choice="#modality=ecephys&none=subject&from=2025-01-28&subject=no%20such")
    assert other.locator("#chosen").inner_text() == shown
    other.evaluate("location.hash = 'modality=behavior'")
    other.wait_for_function("document.querySelector('#values-of-modality input').checked")
    assert other.locator("#chosen").inner_text() != shown
    assert other.get_by_role("checkbox", name="(none)").is_checked() is False


def test_a_day_is_counted_where_it_is_chosen(show: Show) -> None:
    page = show()
    months = dict(row.split("\n") for row in page.locator("#months button").all_inner_texts())
    assert sum(map(int, months.values())) == 298  # of 300, two have none
    page.locator("#months button").filter(has_text="2025-02").click()
    assert figures(page)["Assets"] == f"{months['2025-02']} of 300"
    assert page.locator("#date-to").input_value() == "2025-02-28"
    assert page.locator("#months [aria-pressed=true]").inner_text().startswith("2025-02")
    page.locator("#months button").filter(has_text="2025-02").click()
    assert figures(page)["Assets"] == "300"
    page.locator("#date-from").fill("2025-01-28")
    page.locator("#date-to").fill("2025-01-28")
    on_day = [task for task in make_plan().tasks if "_2025-01-28_" in task.assets[0].name]
    assert figure(page, "Tasks") == len(on_day) > 0
    assert json.loads(page.inner_text("#filter"))["$and"][1] == {
        "session.session_start_time": {"$regex": DAY, "$gte": "2025-01-28", "$lt": "2025-01-29"}
    }


def test_the_filter_is_downloaded_and_keeps_the_numbers_of_the_query(show: Show) -> None:
    query = '{"name":"\u2028 it\'s","a":1.0,"b":123456789012345678901,"c":1e3,"d":"\u202eright"}'
    request = replace(REQUEST, query=json.loads(query))
    page = show(make_plan(assets=30, tasks=90), request)
    page.get_by_role("checkbox", name="ecephys").check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download query.json").click()
    assert download.value.suggested_filename == "query.json"
    text = Path(download.value.path()).read_text()
    assert text == page.locator("#filter").text_content() + "\n"
    assert '"a": 1.0' in text
    assert '"b": 123456789012345678901' in text
    asked, chosen = json.loads(text)["$and"]
    assert asked == json.loads(query)
    assert chosen == {"data_description.modality.abbreviation": "ecephys"}
    words = shlex.split(page.locator("#command").text_content())
    assert words[-2:-1] == ["--query"]
    assert json.loads(words[-1]) == json.loads(text)
    assert "\u202e" not in words[-1] + text


def test_of_hundreds_of_values_any_can_be_chosen_and_all_in_a_file(show: Show) -> None:
    names = [f"value {number:03} {'long ' * 60}" for number in range(500)]
    page = show(make_named_plan(names), make_named_request(names))
    boxes = page.locator("#values-of-subject input")
    assert boxes.count() == 100
    assert page.get_by_text("100 of 500 subjects").is_visible()
    assert not page.locator("#too-long").is_visible()
    box = page.locator("#values-of-subject").get_by_role("checkbox", name="value 250")
    assert box.count() == 0
    page.get_by_label("Search: subject").fill("E 25")
    assert boxes.count() == 10
    box.check()
    page.get_by_label("Search: subject").fill("")
    assert box.is_checked()
    assert boxes.count() == 101
    assert page.inner_text("#task-table tbody").startswith("0\tvalue 250 ")
    assert page.locator("#task-table tbody tr").count() == 1
    page.evaluate("for (const value of fields[1].options) fields[1].chosen.add(value); narrow()")
    assert page.locator("#too-long").is_visible()
    assert page.locator("#command").text_content().endswith(" --query query.json")
    wanted = json.loads(page.locator("#filter").text_content())
    assert len(wanted["$and"][1]["subject.subject_id"]["$in"]) == 500


# Chooses each subject, then follows the address of that choice.
CHOOSE_EACH = """async (names) => {
  const seen = [];
  for (const name of names) {
    fields[1].chosen = new Set([name]);
    choiceChanged();
    const one = { filter: byId("filter").textContent, command: byId("command").textContent };
    const { hash } = location;
    byId("clear").click();
    one.cleared = byId("filter").textContent;
    const followed = new Promise((next) => addEventListener("hashchange", next, { once: true }));
    location.hash = hash;
    await followed;
    one.followed = byId("filter").textContent;
    const numbers = [...document.querySelectorAll(".numbers div")];
    one.figures = numbers.map((each) => each.innerText.split("\\n"));
    seen.push(one);
  }
  return seen;
}"""


def test_hostile_values_are_chosen_as_they_are(show: Show) -> None:
    plan, request = make_named_plan(HOSTILE), replace(make_named_request(HOSTILE), argv=())
    page = show(plan, request)
    names = HOSTILE[:-2]
    for name, one in zip(names, page.evaluate(CHOOSE_EACH, names), strict=True):
        wanted = json.loads(one["filter"])
        assert wanted["$and"][1] == {"subject.subject_id": name}
        assert json.loads(shlex.split(one["command"])[-1]) == wanted
        assert json.loads(one["cleared"]) == request.query
        assert one["followed"] == one["filter"]
        shown = dict(one["figures"])
        assert (shown["Assets"], shown["Tasks"]) == ("1 of 20", "1 of 20"), name
    page.reload()
    assert figures(page)["Assets"] == "1 of 20"


def test_a_task_of_several_assets_counts_if_one_of_them_is_chosen(show: Show) -> None:
    plan = make_plan(assets=4, tasks=4, workers=1)
    for task, name in zip(plan.tasks, "abcd", strict=True):
        task.assets = [replace(task.assets[0], record={"subject": {"subject_id": name}})]
    one, two, three, _ = plan.tasks
    pair = replace(one, assets=one.assets + two.assets)
    page = show(replace(plan, workers=[[pair, three]]))
    others = page.get_by_text("Some of these tasks have assets that are not chosen")
    assert (figures(page)["Assets"], figures(page)["Tasks"]) == ("3", "2")
    page.get_by_role("checkbox", name="a 1").check()
    assert (figures(page)["Assets"], figures(page)["Tasks"]) == ("1 of 3", "1 of 2")
    assert others.is_visible()
    page.get_by_role("checkbox", name="b 1").check()
    assert (figures(page)["Assets"], figures(page)["Tasks"]) == ("2 of 3", "1 of 2")
    assert not others.is_visible()


def test_the_keyboard_chooses(show: Show) -> None:
    page = show()
    page.get_by_label("Search: subject").focus()
    page.keyboard.type("771755")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert figures(page)["Assets"] == "14 of 300"
    assert page.evaluate("document.activeElement.type") == "checkbox"
    page.get_by_role("button", name="Clear the choice").click()
    for rows in ("#months button", "#values-of-project input"):
        stops = page.locator(rows)
        stops.first.focus()
        for key, place in (("ArrowDown", 1), ("ArrowUp", 0), ("End", -1), ("Home", 0)):
            page.keyboard.press(key)
            assert stops.nth(place).evaluate("(stop) => stop === document.activeElement"), key


def test_a_link_shows_the_choice_its_figures_and_chips_in_the_first_screen(show: Show) -> None:
    page = show(choice="#modality=ecephys&to=2025-02-01", size=(1400, 900))
    chips = page.locator("#chips button")
    assert [text.split("\n") for text in chips.all_inner_texts()] == [
        ["Modality: ecephys", "\u00d7"],
        ["Session date: to 2025-02-01", "\u00d7"],
    ]
    for seen in (chips.first, page.locator("#chosen"), page.locator("#values-of-subject")):
        assert seen.bounding_box()["y"] < 700
    assert (
        figures(page)["Files"] == figures(page)["Tasks"] == f"{3 * figure(page, 'Assets')} of 900"
    )
    page.locator("#dispatch").scroll_into_view_if_needed()
    assert 0 <= chips.first.bounding_box()["y"] < 900  # it stays on the screen
    chips.first.click()
    assert chips.all_inner_texts() == ["Session date: to 2025-02-01\n\u00d7"]
    assert page.url.endswith("#to=2025-02-01")
    chips.first.click()
    assert (chips.count(), figures(page)["Assets"], "#" in page.url) == (0, "300", False)


def test_values_that_are_there_come_first_in_their_natural_order(show: Show) -> None:
    names = [f"Project {number}" for number in range(1, 31)]
    page = show(make_named_plan(names), make_named_request(names))
    assert list(values(page, "subject")) == names
    page.locator("#values-of-modality").get_by_role("checkbox", name="Project 10 ").check()
    assert values(page, "subject") == {"Project 10": 1}  # and no zeros
    assert page.get_by_text("1 of 30 subjects").is_visible()
    stops = "list => [...list.querySelectorAll('input')].filter(e => e.tabIndex === 0).length"
    assert page.locator("#values-of-subject").evaluate(stops) == 1


def test_what_is_skipped_is_downloaded_with_its_reasons(show: Show) -> None:
    page = show()
    with page.expect_download() as download:
        page.locator("#download-skipped").click()
    rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    found = [(row["asset"], row["reason"]) for row in rows]
    assert found == [(skip.name, skip.reason) for skip in make_plan().skips]


def test_a_choice_is_for_a_colleague_a_picture_and_paper(show: Show) -> None:
    page = show(choice="#modality=ecephys&from=2025-02-01", size=(1200, 1400))
    assert page.inner_text("#lead") == "Chosen"
    if SHOTS:  # the picture in the README
        page.screenshot(path=Path(SHOTS, "plan.png"))
    whole = shlex.split(page.locator("#command").text_content())
    sent = shlex.split(page.locator("#portable").text_content())  # no paths of this machine
    assert sent[:2] == ["bash", "environment/run.sh"]
    assert sent[2:] == whole[-len(sent) + 2 :]
    page.emulate_media(media="print")
    assert page.locator("#chosen").is_visible()
    assert page.locator("#filter").is_visible()
    for tool in ("#choices", "#clear", "#search"):
        assert not page.locator(tool).is_visible()


def test_all_of_the_script_is_used_and_is_written_as_agreed() -> None:
    script = script_of_page()
    for line in script.splitlines():
        assert len(line) <= 100
        assert not re.search(
            r"\s$|\t|\bvar\b|[^=!]==[^=]|!=[^=]|innerHTML|\beval\b|console", line
        ), line
    functions = re.findall(r"\bfunction (\w+)", script)
    assert len(functions) > 50
    for name in functions:  # that each of them works is what the other tests look at
        assert len(re.findall(rf"\b{name}\b", script)) > 1, name
