"""What is taken home from the page of a dry run: a filter, exactly these tasks, or one of them."""

from __future__ import annotations

import csv
import json
import random
import re
import shlex
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st

from chosen import Record, write_snapshot
from conftest import NIGHT, Run, Visit, a_task, fuzz
from dispatch.plan import columns
from dispatch.plan import page as plan_page
from dispatch.plan.commands import exact_command_of, portable_command_of
from dispatch.plan.plan import Plan
from dispatch.tasks.tasks import (
    MOST_WORKERS,
    Task,
    deal_by_size,
    deal_in_lots,
    deal_in_order,
    number_of_workers,
)
from plans_made import (  # noqa: F401  (fixtures)
    REQUEST,
    Show,
    cohort,
    figure,
    figures,
    make_plan,
    only_tab,
    paste,
    plan_of,
    show,
    tab,
    write,
)
from standins import record

if TYPE_CHECKING:
    from playwright.sync_api import Page


def an_asset(name: str, project: str, **more: Any) -> Record:
    """Return the record of an asset of a project."""
    description = {"project_name": project, **more.pop("description", {})}
    return {**record(name, location=name), "data_description": description, **more}


def make_world(folder: Path, records: list[Record]) -> None:
    """Write records, and for the asset of number n files a.nwb, … of n % 3 + 1 different sizes."""
    for number, one in enumerate(records):
        (folder / one["location"]).mkdir(exist_ok=True)
        for place, file in enumerate("abc"[: number % 3 + 1]):
            content = b"x" * (1 + 37 * number % 11 + 5 * place)
            (folder / one["location"] / f"{file}.nwb").write_bytes(content)
    write_snapshot(folder, records)


@pytest.fixture
def look(run: Run, tab: Visit) -> Show:
    """Return a function that plans with the records, and opens the page."""

    def look(*flags: str, choice: str = "") -> Page:
        planned = run("--records=records.jsonl", *flags, "--dry_run=1")
        assert planned.status == 0, planned.log
        return tab.open(planned.output, choice)

    return look


def tick(page: Page, field: str, value: str) -> None:
    """Choose a value of a field."""
    rows = page.locator(f"#values-of-{field} label").filter(has_text=value)
    rows.locator("input").first.check()


def ways(page: Page) -> tuple[bool, bool]:
    """Return whether a filter is offered, and exactly these tasks."""
    names = ("command", "exact")
    filtered, exactly = (page.locator(f"#bar [data-copy={name}]").is_visible() for name in names)
    return filtered, exactly


def workers_shown(page: Page) -> dict[int, set[str]]:
    """Return the ids of the tasks of each worker, as the table says it."""
    shown: dict[int, set[str]] = {}
    for worker, task in page.evaluate(
        "allTasks.filter((t) => isChosenTask[t]).map((t) => [workerOf[t], tasks.id[t]])"
    ):
        shown.setdefault(worker, set()).add(task)
    return shown


def workers_in(folder: Path) -> dict[int, set[str]]:
    """Return the ids of the tasks of each worker folder."""
    paths = [path for path in folder.iterdir() if path.name.isdigit()]
    return {int(path.name): {file.stem for file in path.iterdir()} for path in paths}


# ------------------------------------------------------------------------------------------ workers


def dealt(tasks: list[Task], sharing: Record) -> list[list[Task]]:
    """Return how the program deals tasks."""
    if not tasks:
        return []
    most, each = sharing["most"], sharing["each"]
    number = number_of_workers(len(tasks), most, each, says_code=sharing["says_code"])
    if sharing["by_size"]:
        return deal_by_size(tasks, number)
    if each and not most:
        return deal_in_lots(tasks, each)
    return deal_in_order(tasks, number)


def test_the_page_deals_tasks_as_the_program_does(show: Show) -> None:
    page = show()

    def check(sizes: list[int], most: int, each: int, by_size: bool, says_code: bool) -> None:
        flags = {"most": most or None, "each": each or None}
        sharing = {**flags, "by_size": by_size, "says_code": says_code}
        tasks = [a_task(size, str(place)) for place, size in enumerate(sizes)]
        wanted = [[int(task.id) for task in worker] for worker in dealt(tasks, sharing)]
        sharing["most_workers"] = MOST_WORKERS
        of_page = "([sizes, sharing]) => deal(sizes.map((_, place) => place), sharing, sizes)"
        assert page.evaluate(of_page, [sizes, sharing]) == wanted

    few = st.integers(0, 9)
    sizes = st.lists(few | st.integers(0, 2**40), max_size=130)
    switch = st.booleans()
    most = few | st.integers(0, 140)
    fuzz(check, 0.05, sizes=sizes, most=most, each=few, by_size=switch, says_code=switch)


@pytest.mark.parametrize(
    ("results", "is_said"), [([], False), ([None], False), (["a", None], False), (["a", "b"], True)]
)
def test_tasks_say_their_code_if_each_names_its_result(
    results: list[str | None], is_said: bool
) -> None:
    plan = plan_of([[replace(a_task(1), result=result) for result in results]])
    assert columns.sharing_of(plan, REQUEST)["says_code"] == is_said


SHARINGS: dict[str, list[str]] = {
    "usual": [],
    "few": ["--max_jobs=3"],
    "lots": ["--tasks_per_job=2"],
    "both": ["--max_jobs=4", "--tasks_per_job=2"],
    "size": ["--balance_by=size", "--max_jobs=4"],
    "cut": ["--balance_by=size", "--max_jobs=4", "--max_tasks=17"],
}


@pytest.mark.parametrize("sharing", SHARINGS)
def test_the_workers_on_the_page_are_those_of_its_commands(
    sharing: str, services: dict[str, str], tmp_path: Path, look: Show
) -> None:
    make_world(tmp_path, [an_asset(f"n{number:02}", f"p{number % 3}") for number in range(14)])
    flags = ["--query={}", "--file_extension=nwb", "--overwrite=1", *SHARINGS[sharing]]
    page = look(*flags, choice="#project=p1&project=p2")
    assert ways(page) == (True, True)
    shown = workers_shown(page)
    assert figure(page, "Workers") == len(shown) > 1
    for command in (page.locator("#command").text_content(), page.locator("#exact").text_content()):
        paste(command, services)
        there = workers_in(tmp_path / "results")
        loads = [sorted(map(len, workers.values())) for workers in (there, shown)]
        assert loads[0] == loads[1], command
        assert set().union(*there.values()) == set().union(*shown.values()), command
        assert there == shown or sharing in ("size", "cut")  # where equal sizes may change places


# --------------------------------------------------------------------------------------- which ways


def test_exactly_these_tasks_are_dispatched_whatever_has_become_of_the_records(
    services: dict[str, str], tmp_path: Path, look: Show
) -> None:
    path = "data_description.modality.abbreviation"
    records = []
    for number in range(9):
        modality = [{"abbreviation": kind} for kind in ("ecephys", "behavior")[: number % 3]]
        description = {"modality": modality}
        records.append(an_asset(f"n{number}", f"p{number % 2}", description=description))
    make_world(tmp_path, records)
    groups = [f"--group_by={path}", f"--unwind_list_fields={path}", "--max_jobs=2"]
    page = look("--query={}", "--file_extension=nwb", *groups)
    output = tmp_path / "results"
    before = {}
    for line in (output / "dispatch_plan.jsonl").read_text().splitlines()[1:]:
        one = json.loads(line)
        if one["kind"] == "task":
            before[one["id"]] = one["json"]
    tick(page, "modality", "ecephys")
    assert ways(page) == (False, True)
    [shown] = workers_shown(page).values()
    (tmp_path / "records.jsonl").unlink()
    paste(page.locator("#exact").text_content(), services, real=True)
    written = {path.stem: path.read_text() for path in output.glob("*/*.json")}
    assert written == {task: before[task] for task in shown}


def test_what_is_new_can_be_chosen_and_what_is_gone_is_named(
    run: Run, services: dict[str, str], tmp_path: Path, tab: Visit, look: Show
) -> None:
    records = [an_asset(name, f"p{place % 2}") for place, name in enumerate("abcd")]
    make_world(tmp_path, records)
    flags = ["--records=records.jsonl", "--file_extension=nwb"]
    first = run(*flags, "--query={'name': {'$ne': 'd'}}", output=tmp_path / "first")
    assert first.status == 0, first.log
    compared = f"--compare_with={first.output}"
    page = look("--file_extension=nwb", "--query={'name': {'$ne': 'a'}}", compared)
    assert "1 new, 1 gone, 5 the same" in page.inner_text("header")
    assert page.locator("#gone li").all_inner_texts()[0].startswith("a (")
    first = page.locator("[id^=values-of-]").first
    assert first.get_attribute("id") == "values-of-compared"  # since that is what was asked
    tick(page, "compared", "new")
    assert (figures(page)["Tasks"], ways(page)) == ("1 of 6", (False, True))
    paste(page.locator("#exact").text_content(), services)
    written = [json.loads(path.read_text()) for path in (tmp_path / "results").glob("*/*.json")]
    assert {task["asset_name"][0] for task in written} == {"d"}
    again = run(f"--from_plan={tmp_path / 'results'}", compared, "--dry_run=1", "--overwrite=1")
    assert again.status == 0, again.log
    page = tab.open(again.output)
    assert ways(page) == (False, True)
    assert "those of a plan" in page.inner_text("#bar [data-way=filter]")


def test_of_two_records_of_one_name_only_exactly_these_tasks_can_be_taken(
    tmp_path: Path, look: Show
) -> None:
    raw, derived = ({"data_level": level} for level in ("raw", "derived"))
    records = [an_asset("n", "p", description=raw), an_asset("m", "p", description=raw)]
    records.append({**an_asset("n", "p", description=derived), "_id": "another"})
    write_snapshot(tmp_path, records)
    page = look("--asset=n,m")
    assert ways(page) == (True, True)
    tick(page, "level", "raw")
    assert (figures(page)["Tasks"], ways(page)) == ("2 of 3", (False, True))
    assert "A list names all 2 records called n" in page.inner_text("#bar [data-way=filter]")
    tick(page, "level", "derived")
    assert ways(page) == (True, True)


def test_of_a_list_that_is_cut_and_shared_out_by_size_only_exactly_these_tasks_can_be_taken(
    tmp_path: Path, look: Show
) -> None:
    make_world(tmp_path, [an_asset(f"n{number}", f"p{number % 2}") for number in range(5)])
    cut = ["--max_tasks=5", "--balance_by=size", "--max_jobs=2"]
    page = look("--asset=n2,n0,n1,n3", "--file_extension=nwb", *cut)
    assert ways(page) == (True, True)
    tick(page, "project", "p0")
    assert ways(page) == (False, True)
    assert "--max_tasks cuts the list" in page.inner_text("#bar [data-way=filter]")


def test_in_groups_of_unwound_lists_a_value_chooses_the_groups_that_have_it(
    tmp_path: Path, look: Show
) -> None:
    path = "data_description.modality.abbreviation"
    held = {"a": ["ecephys", "behavior"], "b": ["behavior"], "c": ["ecephys"]}
    records = []
    for name, kinds in held.items():
        modality = [{"abbreviation": kind} for kind in kinds]
        records.append(an_asset(name, f"p{name}", description={"modality": modality}))
    write_snapshot(tmp_path, records)
    page = look("--query={}", f"--group_by={path}", f"--unwind_list_fields={path}")
    assert (figures(page)["Assets"], figures(page)["Tasks"]) == ("3", "2")
    tick(page, "modality", "ecephys")
    assert (figures(page)["Assets"], figures(page)["Tasks"]) == ("2 of 3", "1 of 2")
    assert page.locator("#task-table tbody tr").count() == 1
    assert "a, c" in page.inner_text("#task-table tbody")
    assert page.locator("#values-of-project label").all_inner_texts() == ["pa\n1", "pc\n1"]
    assert ways(page) == (False, True)
    assert "in several groups" in page.inner_text("#bar [data-way=filter]")


def test_a_page_that_cannot_hold_all_tasks_says_so_and_offers_the_filter_alone(
    show: Show, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in (columns, plan_page):
        monkeypatch.setattr(room, "TASKS_IN_PAGE", 90)
    page = show(make_plan())
    assert figures(page)["Tasks"] == "900"
    assert "holds the first 90 of 900 tasks" in page.inner_text("#narrow")
    assert page.inner_text("#shown") == "The first 90 of 900 tasks; dispatch_plan.csv has all."
    assert ways(page) == (True, True)  # the whole plan needs no ids
    assert "--task_id" not in page.locator("#exact").text_content()
    page.get_by_role("checkbox", name="derived").check()
    assert (figures(page)["Assets"], figures(page)["Tasks"]) == ("30 of 300", "90 of 900")
    assert figures(page)["Workers"] == "? of 50"
    assert ways(page) == (True, False)
    assert "holds 90 of 900 tasks" in page.inner_text("#bar [data-way=exactly]")
    assert "dispatch_plan.csv" in page.inner_text("#bar [data-way=exactly]")
    write(replace(make_plan(), left_out=1), REQUEST, tmp_path)  # whose filter would name records
    page.reload()  # which keeps the choice
    assert ways(page) == (False, False)


STRICT = replace(REQUEST, argv=(*REQUEST.argv, "--strict=1", "--overwrite", "1"), max_jobs=7)


@pytest.fixture(scope="module")
def three_thousand(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """Return a plan of 3,000 assets, whose filter names records, and the folder of its page."""
    folder = tmp_path_factory.mktemp("three_thousand")
    plan = replace(make_plan(assets=3_000, tasks=3_000), left_out=1)
    write(plan, STRICT, folder)
    return plan, folder


def test_the_ids_of_what_is_chosen_are_in_the_command_or_in_a_file(
    tab: Visit, three_thousand: tuple[Plan, Path]
) -> None:
    plan, folder = three_thousand
    page: Any = tab.open(folder)
    whole = exact_command_of(STRICT)
    assert whole.endswith("--strict=1 --overwrite 1 --from_plan " + str(plan_file(STRICT)))
    assert page.locator("#exact").text_content() == whole
    tick(page, "subject", "771755")
    subject = {"subject_id": "771755"}
    wanted = [task.id for task in plan.tasks if task.assets[0].record["subject"] == subject]
    part = f" --task_id {','.join(wanted)} --max_jobs 7"
    assert page.locator("#exact").text_content() == whole + part
    assert page.locator("#exact-portable").text_content().endswith(f"dispatch_plan.jsonl{part}")
    with page.expect_download() as download:
        page.locator("#bar .download-ids").click()
    rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    assert [row["task_id"] for row in rows] == wanted
    page.get_by_role("button", name="Clear the choice").click()
    tick(page, "modality", "behavior-videos")
    assert page.locator("#exact").text_content() == f"{whole} --task_id task_ids.csv --max_jobs 7"
    assert page.locator("#too-many").is_visible()


def test_a_long_filter_is_laid_out_where_it_is_seen(
    tab: Visit, three_thousand: tuple[Plan, Path]
) -> None:
    page: Any = tab.open(three_thousand[1])
    lines = page.locator("#filter")
    short = lines.bounding_box()["height"]
    page.get_by_role("checkbox", name="behavior-videos").check()
    assert "long" in lines.get_attribute("class")
    assert len(json.loads(lines.text_content())["$and"][1]["_id"]["$in"]) == 3_000
    assert lines.bounding_box()["height"] == 24 * 16 > short
    page.locator("#bar [data-copy=filter]").click()
    page.locator("#bar [data-copy=filter] + [role=status]").filter(has_text="e").wait_for()
    lines.scroll_into_view_if_needed()
    page.wait_for_function("() => byId('filter').innerText === byId('filter').textContent")
    page.emulate_media(media="print")
    assert lines.bounding_box()["height"] > 3_000 * 16
    page.emulate_media(media="screen")
    page.get_by_role("button", name="Clear the choice").click()
    assert lines.bounding_box()["height"] == short


def plan_file(request: Any) -> Path:
    """Return where the plan is that a request makes."""
    path: Path = request.output / "dispatch_plan.jsonl"
    return path


def test_a_page_of_nothing_new_opens(run: Run, tmp_path: Path, look: Show) -> None:
    make_world(tmp_path, [an_asset("n", "p"), an_asset("m", "p")])
    flags = ["--query={}", "--file_extension=nwb"]
    first = run("--records=records.jsonl", *flags)
    page = look(*flags, f"--skip_dispatched={first.output}", "--overwrite=1")
    assert page.inner_text("#lead") == "Nothing is new"
    assert figures(page) == {"Assets": "0", "Tasks": "0", "Workers": "0"}
    assert "dispatched already" in page.inner_text("header")
    assert page.locator("#command").is_visible()
    assert not page.locator("#exact").is_visible()


def test_what_leaves_nothing_says_which_choice_to_drop(show: Show) -> None:
    page = show()
    tick(page, "subject", "771755")
    with_subject = figure(page, "Assets")
    page.locator("#date-from").fill("2030-01-01")
    assert figures(page)["Assets"] == "0 of 300"
    assert ways(page) == (False, False)
    assert page.locator("#nothing button").all_inner_texts() == [
        f"Session date, which leaves {with_subject} assets"
    ]
    page.locator("#nothing button").click()
    assert figure(page, "Assets") == with_subject
    assert ways(page) == (True, True)


def test_what_is_no_day_is_not_later(run: Run, tmp_path: Path, look: Show) -> None:
    times = {"a": "unknown", "b": "2025-03-04T09:00:00", "c": "2024-01-01"}
    records = []
    for name, time in times.items():
        records.append(an_asset(name, "p", session={"session_start_time": time}))
    write_snapshot(tmp_path, records)
    page = look("--query={}")
    page.locator("#date-from").fill("2025-01-01")
    assert figures(page)["Assets"] == "1 of 3"
    again = run(f"--query={page.locator('#filter').text_content()}", "--records=records.jsonl")
    assert [task["asset_name"] for task in again.tasks()] == [["b"]]


def test_a_colleague_asks_the_same_version_of_the_database(monkeypatch: Any) -> None:
    monkeypatch.setenv("DOCDB_VERSION", "v2")
    words = shlex.split(portable_command_of(["--query", "{}"]))
    assert words[:2] == ["env", "DOCDB_VERSION=v2"]


# ------------------------------------------------------------------------------------- what is seen


def test_skips_follow_the_choice_and_can_be_searched(tmp_path: Path, look: Show) -> None:
    records = [an_asset(name, f"p{place % 2}") for place, name in enumerate("abcdef")]
    make_world(tmp_path, records)
    for name in "bcd":
        for file in (tmp_path / name).iterdir():
            file.unlink()
    page = look("--query={}", "--file_extension=nwb", "--asset=a,b,c,d,e,f,none")
    for summary in page.locator("#skipped details:not([open]) summary").all():
        summary.click()
    listed = page.locator("#skipped li")
    assert listed.count() == 4
    tick(page, "project", "p1")
    assert [name[0] for name in listed.all_inner_texts()] in (["n", "b", "d"], ["b", "d", "n"])
    assert "3 of 4" in page.inner_text("#skips-shown")
    page.locator("#search-skipped").fill("/D NWB")
    assert [name[0] for name in listed.all_inner_texts()] == ["d"]


def test_the_picture_tells_its_numbers_and_chooses(show: Show) -> None:
    page = show(size=(1400, 1200))
    picture = page.locator("#assets .picture")
    picture.scroll_into_view_if_needed()
    place = page.evaluate("""() => {
      const part = pointed.get(document.querySelector("#assets .picture"));
      for (let y = 100; y < 1000; y += 9) {
        for (let x = 60; x < 1000; x += 9) {
          const { words } = part(x, y) ?? {};
          if (/, week of .*: [3-9] assets/.test(words)) return { x, y, words };
        }
      }
    }""")
    spot = {"x": place["x"], "y": place["y"]}
    picture.locator("svg").hover(position=spot)
    assert page.locator("#tip").inner_text() == place["words"]
    picture.locator("svg").click(position=spot)
    assert figure(page, "Assets") == int(place["words"].split(": ")[1].split()[0])
    assert page.locator("#chips button").count() == 3
    for counted in ("subject", "period"):
        page.get_by_role("button", name="Clear the choice").click()
        page.locator(f"[data-counted={counted}] summary").click()
        row = page.locator(f"[data-counted={counted}] tbody tr").nth(3)
        name, number = row.inner_text().split("\t")
        row.get_by_role("button", name=name).click()
        assert figures(page)["Assets"] == f"{number} of 300"
    page.locator("#workers .picture svg").first.hover(position={"x": 100, "y": 100})
    assert page.locator("#tip").inner_text().startswith("worker ")


def test_paper_has_all_rows_and_whole_names(show: Show) -> None:
    name = "ecephys_719093_2024-05-14_15-01-10_processed_2024-06-01_10-11-12"
    plan = make_plan()
    for task in plan.tasks:
        task.assets = [replace(asset, name=f"{name}_{asset.name}") for asset in task.assets]
    page = show(plan)
    assert page.locator("#paper tr").count() == 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    rows = page.locator("#paper tbody tr")
    assert rows.count() == 900
    seen = rows.evaluate_all("rows => rows.map((row) => row.cells[1].innerText)")
    assert seen == [task.assets[0].name for task in plan.tasks]
    cut = "cells => cells.filter((cell) => cell.scrollWidth > cell.clientWidth + 1).length"
    assert page.locator("#paper td").evaluate_all(cut) == 0
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#paper tr").count() == 0


def test_names_are_legible_and_paths_begin_below_the_location(show: Show) -> None:
    plan = make_plan(assets=6, tasks=6, workers=1)
    name = "ecephys_719093_2024-05-14_15-01-10_processed_2024-06-01_10-11-12"
    for place, task in enumerate(plan.tasks):
        at = f"s3://codeocean-s3datasetsbucket/0000-{place}"
        task.assets = [replace(task.assets[0], name=name, location=at, record_id=f"r{place}")]
        task.files = [f"{at}/{name}/a.nwb"]
    page = show(plan, size=(1400, 900))
    row = page.locator("#task-table tbody tr").first
    start = row.locator("th .start")
    assert start.evaluate("part => part.scrollWidth <= part.clientWidth")
    first = row.locator("td").nth(1)
    assert first.text_content() == f"{name}/a.nwb"
    assert first.get_attribute("title") == f"s3://codeocean-s3datasetsbucket/0000-0/{name}/a.nwb"


def test_a_long_chip_keeps_its_cross(show: Show) -> None:
    plan = make_plan(assets=3, tasks=3, workers=1)
    long = "a very long name of a project, " * 9
    for task in plan.tasks:
        description = {"data_description": {"project_name": long}}
        task.assets = [replace(asset, record=description) for asset in task.assets]
    page = show(plan_of([plan.tasks]))
    tick(page, "project", "a very long")
    for width in (1400, 400):
        page.set_viewport_size({"width": width, "height": 900})
        chip, cross = page.locator("#chips button"), page.locator("#chips button span").last
        assert cross.inner_text() == "\u00d7"
        inside, outside = cross.bounding_box(), chip.bounding_box()
        assert inside["x"] + inside["width"] <= outside["x"] + outside["width"] <= width


def test_forced_colours_hide_no_button(show: Show) -> None:
    page = show(forced_colors="active")
    page.locator("#months button").first.click()
    for button in ("#bar [data-copy=command]", "#months [aria-pressed=true]"):
        seen = page.locator(button).evaluate(
            "(e) => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
        )
        text, behind = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in seen)
        assert text < 200 < 500 < behind  # of 765: behind text, browsers put a light ground, too


STATES = ("", "#modality=ecephys&from=2025-01-09", "#modality=ecephys&from=2030-01-01")
WIDTHS = (400, 800, 1400)


@pytest.mark.parametrize("look", ["light", "dark", "forced"])
def test_axe_finds_no_violation(tab: Visit, tmp_path: Path, look: str) -> None:
    api = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe (pip)")
    colours = {"forced_colors": "active"} if look == "forced" else {"color_scheme": look}
    write(make_plan(*((300, 40, 120, 900) if NIGHT else (8, 4, 60, 8, 3))), REQUEST, tmp_path)
    for place, (state, width) in enumerate(product(STATES, WIDTHS)):
        is_asked = NIGHT or place % 4 == 0  # each state, each in another width
        if is_asked or look == "light":
            page = tab.open(tmp_path, state, size=(width, 900), **colours)
            page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true })")
            assert page.evaluate("document.documentElement.scrollWidth") == width
        if is_asked:
            found = api.Axe().run(page).response["violations"]
            told = [(each["id"], each["nodes"][0]["html"][:200]) for each in found]
            assert not told, (state, width, told)


def test_the_numbers_of_a_choice_are_those_of_a_reference(show: Show) -> None:
    dice = random.Random()  # noqa: S311
    plan = make_plan(assets=40, tasks=60, workers=5)
    for task in plan.tasks:
        more = dice.sample(plan.tasks, dice.randrange(3))
        held = {asset.record_id: asset for one in (task, *more) for asset in one.assets[:1]}
        task.assets = list(held.values())
    page = show(plan)
    for _ in range(6 if NIGHT else 3):
        page.get_by_role("button", name="Clear the choice").click()
        kinds = dice.sample(["ecephys", "behavior", "pophys"], dice.randint(1, 2))
        projects = dice.sample(["Dynamic Routing", "Striatum"], dice.randint(0, 2))
        chosen, assets = set(), set()
        for kind in kinds:
            tick(page, "modality", kind)
        for project in projects:
            tick(page, "project", project)
        for task in plan.tasks:
            fitting = {a.record_id for a in task.assets if fits(a.record, kinds, projects)}
            assets |= fitting
            if fitting:
                chosen.add(task.id)
        assert set().union(*workers_shown(page).values()) == chosen
        assert figure(page, "Assets") == len(assets)


def fits(one: Record, kinds: list[str], projects: list[str]) -> bool:
    """Return whether a record has any of these modalities, and any of these projects, if any."""
    about = one["data_description"]
    has = {"multiplane-ophys": "pophys"}
    modalities = {has.get(each["abbreviation"], each["abbreviation"]) for each in about["modality"]}
    return bool(modalities & set(kinds)) and (not projects or about["project_name"] in projects)
