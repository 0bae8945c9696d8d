"""What is taken home from the page of a dry run: a filter, exactly these tasks, or one of them."""

from __future__ import annotations

import csv
import json
import random
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st

from conftest import NIGHT, Run, Visit, a_task, fuzz
from dispatch.plan import columns
from dispatch.plan import page as plan_page
from dispatch.plan.commands import exact_command_of, portable_command_of
from dispatch.tasks.tasks import (
    MOST_WORKERS,
    Task,
    deal_by_size,
    deal_in_lots,
    deal_in_order,
    number_of_workers,
)
from plans_made import REQUEST, figure, figures, make_plan, paste, plan_of, write
from standins import record

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Record = dict[str, Any]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Any]:
    """Return a function that opens the page in a folder."""
    opened: list[Visit] = []

    def open_page(folder: Path, **options: Any) -> Page:
        opened.append(Visit(browser, folder, **options))
        return opened[-1].page

    yield open_page
    for each in opened:
        each.context.close()
        assert each.faults == []
        assert all(url.startswith((each.url, "blob:")) for url in each.requests)


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
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, records)))


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


def test_the_page_deals_tasks_as_the_program_does(open_page: Any, tmp_path: Path) -> None:
    write(make_plan(assets=4, tasks=4, workers=2), REQUEST, tmp_path)
    page = open_page(tmp_path)

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
    fuzz(check, 0.1, sizes=sizes, most=most, each=few, by_size=switch, says_code=switch)


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
    sharing: str, run: Run, services: dict[str, str], tmp_path: Path, open_page: Any
) -> None:
    make_world(tmp_path, [an_asset(f"n{number:02}", f"p{number % 3}") for number in range(14)])
    flags = ["--records=records.jsonl", "--query={}", "--file_extension=nwb", "--overwrite=1"]
    planned = run(*flags, *SHARINGS[sharing], "--dry_run=1")
    assert planned.status == 0, planned.log
    page = open_page(planned.output)
    tick(page, "project", "p1")
    tick(page, "project", "p2")
    assert ways(page) == (True, True)
    shown = workers_shown(page)
    assert figure(page, "Workers") == len(shown) > 1
    commands = [page.locator(one).text_content() for one in ("#command", "#exact", "#command")]
    for command in commands:
        paste(command, services)
        there = workers_in(planned.output)
        loads = [sorted(map(len, workers.values())) for workers in (there, shown)]
        assert loads[0] == loads[1], command
        assert set().union(*there.values()) == set().union(*shown.values()), command
        assert there == shown or sharing in ("size", "cut")  # where equal sizes may change places


# --------------------------------------------------------------------------------------- which ways


def test_exactly_these_tasks_are_dispatched_whatever_has_become_of_the_records(
    run: Run, services: dict[str, str], tmp_path: Path, open_page: Any
) -> None:
    path = "data_description.modality.abbreviation"
    records = []
    for number in range(9):
        modality = [{"abbreviation": kind} for kind in ("ecephys", "behavior")[: number % 3]]
        description = {"modality": modality}
        records.append(an_asset(f"n{number}", f"p{number % 2}", description=description))
    make_world(tmp_path, records)
    flags = ["--records=records.jsonl", "--query={}", "--file_extension=nwb"]
    groups = [f"--group_by={path}", f"--unwind_list_fields={path}", "--max_jobs=2"]
    planned = run(*flags, *groups, "--dry_run=1")
    assert planned.status == 0, planned.log
    page = open_page(planned.output)
    before = {}
    for line in (planned.output / "dispatch_plan.jsonl").read_text().splitlines()[1:]:
        one = json.loads(line)
        if one["kind"] == "task":
            before[one["id"]] = one["json"]
    tick(page, "modality", "ecephys")
    assert ways(page) == (False, True)
    [shown] = workers_shown(page).values()
    (tmp_path / "records.jsonl").unlink()
    paste(page.locator("#exact").text_content(), services, real=True)
    written = {path.stem: path.read_text() for path in planned.output.glob("*/*.json")}
    assert written == {task: before[task] for task in shown}


def test_what_is_new_can_be_chosen_and_what_is_gone_is_named(
    run: Run, services: dict[str, str], tmp_path: Path, open_page: Any
) -> None:
    records = [an_asset(name, f"p{place % 2}") for place, name in enumerate("abcd")]
    make_world(tmp_path, records)
    flags = ["--records=records.jsonl", "--file_extension=nwb"]
    first = run(*flags, "--query={'name': {'$ne': 'd'}}", output=tmp_path / "first")
    assert first.status == 0, first.log
    compared = f"--compare_with={first.output}"
    planned = run(*flags, "--query={'name': {'$ne': 'a'}}", compared, "--dry_run=1")
    assert planned.status == 0, planned.log
    page = open_page(planned.output)
    assert "1 new, 1 gone, 5 the same" in page.inner_text("header")
    assert page.locator("#gone li").all_inner_texts()[0].startswith("a (")
    tick(page, "compared", "new")
    assert (figures(page)["Tasks"], ways(page)) == ("1 of 6", (False, True))
    command = page.locator("#exact").text_content()
    paste(command, services)
    assert {task["asset_name"][0] for task in planned.tasks()} == {"d"}
    again = run(f"--from_plan={planned.output}", compared, "--dry_run=1", "--overwrite=1")
    assert again.status == 0, again.log
    page = open_page(again.output)
    assert ways(page) == (False, True)
    assert "those of a plan" in page.inner_text("#bar [data-way=filter]")


def test_of_two_records_of_one_name_only_exactly_these_tasks_can_be_taken(
    run: Run, tmp_path: Path, open_page: Any
) -> None:
    raw, derived = ({"data_level": level} for level in ("raw", "derived"))
    records = [an_asset("n", "p", description=raw), an_asset("m", "p", description=raw)]
    records.append({**an_asset("n", "p", description=derived), "_id": "another"})
    (tmp_path / "records.jsonl").write_text("\n".join(map(json.dumps, records)))
    planned = run("--asset=n,m", "--records=records.jsonl", "--dry_run=1")
    assert planned.status == 0, planned.log
    page = open_page(planned.output)
    assert ways(page) == (True, True)
    tick(page, "level", "raw")
    assert (figures(page)["Tasks"], ways(page)) == ("2 of 3", (False, True))
    assert "A list names all 2 records called n" in page.inner_text("#bar [data-way=filter]")
    tick(page, "level", "derived")
    assert ways(page) == (True, True)


def test_of_a_list_that_is_cut_and_shared_out_by_size_only_exactly_these_tasks_can_be_taken(
    run: Run, tmp_path: Path, open_page: Any
) -> None:
    make_world(tmp_path, [an_asset(f"n{number}", f"p{number % 2}") for number in range(5)])
    flags = ["--asset=n2,n0,n1,n3", "--records=records.jsonl", "--file_extension=nwb"]
    planned = run(*flags, "--max_tasks=5", "--balance_by=size", "--max_jobs=2", "--dry_run=1")
    assert planned.status == 0, planned.log
    page = open_page(planned.output)
    assert ways(page) == (True, True)
    tick(page, "project", "p0")
    assert ways(page) == (False, True)
    assert "--max_tasks cuts the list" in page.inner_text("#bar [data-way=filter]")


def test_in_groups_of_unwound_lists_a_value_chooses_the_groups_that_have_it(
    run: Run, tmp_path: Path, open_page: Any
) -> None:
    path = "data_description.modality.abbreviation"
    held = {"a": ["ecephys", "behavior"], "b": ["behavior"], "c": ["ecephys"]}
    records = []
    for name, kinds in held.items():
        modality = [{"abbreviation": kind} for kind in kinds]
        records.append(an_asset(name, f"p{name}", description={"modality": modality}))
    (tmp_path / "records.jsonl").write_text("\n".join(map(json.dumps, records)))
    flags = [f"--group_by={path}", f"--unwind_list_fields={path}", "--query={}"]
    planned = run(*flags, "--records=records.jsonl", "--dry_run=1")
    assert planned.status == 0, planned.log
    page = open_page(planned.output)
    assert (figures(page)["Assets"], figures(page)["Tasks"]) == ("3", "2")
    tick(page, "modality", "ecephys")
    assert (figures(page)["Assets"], figures(page)["Tasks"]) == ("2 of 3", "1 of 2")
    assert page.locator("#task-table tbody tr").count() == 1
    assert "a, c" in page.inner_text("#task-table tbody")
    assert page.locator("#values-of-project label").all_inner_texts() == ["pa\n1", "pc\n1"]
    assert ways(page) == (False, True)
    assert "in several groups" in page.inner_text("#bar [data-way=filter]")


def test_a_page_that_holds_some_tasks_offers_the_filter_alone(
    open_page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in (columns, plan_page):
        monkeypatch.setattr(room, "TASKS_IN_PAGE", 90)
    write(make_plan(), REQUEST, tmp_path)
    page = open_page(tmp_path)
    assert ways(page) == (True, True)  # the whole plan needs no ids
    assert "--task_id" not in page.locator("#exact").text_content()
    tick(page, "modality", "behavior")
    assert ways(page) == (True, False)
    assert "dispatch_plan.csv" in page.inner_text("#bar [data-way=exactly]")
    write(replace(make_plan(), left_out=1), REQUEST, tmp_path)  # whose filter would name records
    page.reload()  # which keeps the choice
    assert ways(page) == (False, False)


def test_the_ids_of_what_is_chosen_are_in_the_command_or_in_a_file(
    open_page: Any, tmp_path: Path
) -> None:
    plan = make_plan(assets=3_000, tasks=3_000)
    request = replace(REQUEST, argv=(*REQUEST.argv, "--strict=1", "--overwrite", "1"), max_jobs=7)
    write(plan, request, tmp_path)
    page = open_page(tmp_path)
    whole = exact_command_of(request)
    assert whole.endswith("--strict=1 --overwrite 1 --from_plan " + str(plan_file(request)))
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


def plan_file(request: Any) -> Path:
    """Return where the plan is that a request makes."""
    path: Path = request.output / "dispatch_plan.jsonl"
    return path


def test_a_page_of_nothing_new_opens(run: Run, tmp_path: Path, open_page: Any) -> None:
    make_world(tmp_path, [an_asset("n", "p"), an_asset("m", "p")])
    flags = ["--records=records.jsonl", "--query={}", "--file_extension=nwb"]
    first = run(*flags)
    again = run(*flags, f"--skip_dispatched={first.output}", "--dry_run=1", "--overwrite=1")
    assert again.status == 0, again.log
    page = open_page(again.output)
    assert page.inner_text("#lead") == "Nothing is new"
    assert figures(page) == {"Assets": "0", "Tasks": "0", "Workers": "0"}
    assert "dispatched already" in page.inner_text("header")
    assert page.locator("#command").is_visible()
    assert not page.locator("#exact").is_visible()


def test_what_leaves_nothing_says_which_choice_to_drop(open_page: Any, tmp_path: Path) -> None:
    write(make_plan(), REQUEST, tmp_path)
    page = open_page(tmp_path)
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


def test_what_is_no_day_is_not_later(run: Run, tmp_path: Path, open_page: Any) -> None:
    times = {"a": "unknown", "b": "2025-03-04T09:00:00", "c": "2024-01-01"}
    records = []
    for name, time in times.items():
        records.append(an_asset(name, "p", session={"session_start_time": time}))
    (tmp_path / "records.jsonl").write_text("\n".join(map(json.dumps, records)))
    planned = run("--query={}", "--records=records.jsonl", "--dry_run=1")
    page = open_page(planned.output)
    page.locator("#date-from").fill("2025-01-01")
    assert figures(page)["Assets"] == "1 of 3"
    again = run(f"--query={page.locator('#filter').text_content()}", "--records=records.jsonl")
    assert [task["asset_name"] for task in again.tasks()] == [["b"]]


def test_a_colleague_asks_the_same_version_of_the_database(monkeypatch: Any) -> None:
    monkeypatch.setenv("DOCDB_VERSION", "v2")
    words = shlex.split(portable_command_of(["--query", "{}"]))
    assert words[:2] == ["env", "DOCDB_VERSION=v2"]


# ------------------------------------------------------------------------------------- what is seen


def test_skips_follow_the_choice_and_can_be_searched(
    run: Run, tmp_path: Path, open_page: Any
) -> None:
    records = [an_asset(name, f"p{place % 2}") for place, name in enumerate("abcdef")]
    make_world(tmp_path, records)
    for name in "bcd":
        for file in (tmp_path / name).iterdir():
            file.unlink()
    flags = ["--query={}", "--records=records.jsonl", "--file_extension=nwb"]
    planned = run(*flags, "--asset=a,b,c,d,e,f,none", "--dry_run=1")
    assert planned.status == 0, planned.log
    page = open_page(planned.output)
    for summary in page.locator("#skipped details:not([open]) summary").all():
        summary.click()
    listed = page.locator("#skipped li")
    assert listed.count() == 4
    tick(page, "project", "p1")
    assert [name[0] for name in listed.all_inner_texts()] in (["n", "b", "d"], ["b", "d", "n"])
    assert "3 of 4" in page.inner_text("#skips-shown")
    page.locator("#search-skipped").fill("/D NWB")
    assert [name[0] for name in listed.all_inner_texts()] == ["d"]


def test_the_picture_tells_its_numbers_and_chooses(open_page: Any, tmp_path: Path) -> None:
    write(make_plan(), REQUEST, tmp_path)
    page = open_page(tmp_path, viewport={"width": 1400, "height": 1200})
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
    page.get_by_role("button", name="Clear the choice").click()
    page.locator("[data-counted=subject] summary").click()
    row = page.locator("[data-counted=subject] tbody tr").nth(3)
    name, number = row.inner_text().split("\t")
    row.get_by_role("button", name=name).click()
    assert figures(page)["Assets"] == f"{number} of 300"
    page.locator("#workers .picture svg").first.hover(position={"x": 100, "y": 100})
    assert page.locator("#tip").inner_text().startswith("worker ")


def test_paper_has_all_rows_and_whole_names(open_page: Any, tmp_path: Path) -> None:
    name = "ecephys_719093_2024-05-14_15-01-10_processed_2024-06-01_10-11-12"
    plan = make_plan()
    for task in plan.tasks:
        task.assets = [replace(asset, name=f"{name}_{asset.name}") for asset in task.assets]
    write(plan, REQUEST, tmp_path)
    page = open_page(tmp_path)
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


def test_names_are_legible_and_paths_begin_below_the_location(
    open_page: Any, tmp_path: Path
) -> None:
    plan = make_plan(assets=6, tasks=6, workers=1)
    name = "ecephys_719093_2024-05-14_15-01-10_processed_2024-06-01_10-11-12"
    for place, task in enumerate(plan.tasks):
        at = f"s3://codeocean-s3datasetsbucket/0000-{place}"
        task.assets = [replace(task.assets[0], name=name, location=at, record_id=f"r{place}")]
        task.files = [f"{at}/{name}/a.nwb"]
    write(plan, REQUEST, tmp_path)
    page = open_page(tmp_path, viewport={"width": 1400, "height": 900})
    row = page.locator("#task-table tbody tr").first
    start = row.locator("th .start")
    assert start.evaluate("part => part.scrollWidth <= part.clientWidth")
    first = row.locator("td").nth(1)
    assert first.text_content() == f"{name}/a.nwb"
    assert first.get_attribute("title") == f"s3://codeocean-s3datasetsbucket/0000-0/{name}/a.nwb"


def test_a_long_chip_keeps_its_cross(open_page: Any, tmp_path: Path) -> None:
    plan = make_plan(assets=3, tasks=3, workers=1)
    long = "a very long name of a project, " * 9
    for task in plan.tasks:
        description = {"data_description": {"project_name": long}}
        task.assets = [replace(asset, record=description) for asset in task.assets]
    write(plan_of([plan.tasks]), REQUEST, tmp_path)
    for width in (1400, 400):
        page = open_page(tmp_path, viewport={"width": width, "height": 900})
        tick(page, "project", "a very long")
        chip, cross = page.locator("#chips button"), page.locator("#chips button span").last
        assert cross.inner_text() == "\u00d7"
        inside, outside = cross.bounding_box(), chip.bounding_box()
        assert inside["x"] + inside["width"] <= outside["x"] + outside["width"] <= width


def test_forced_colours_hide_no_button(open_page: Any, tmp_path: Path) -> None:
    write(make_plan(), REQUEST, tmp_path)
    page = open_page(tmp_path, forced_colors="active")
    page.locator("#months button").first.click()
    for button in ("#bar [data-copy=command]", "#months [aria-pressed=true]"):
        seen = page.locator(button).evaluate(
            "(e) => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
        )
        text, behind = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in seen)
        assert text < 200 < 500 < behind  # of 765: behind text, browsers put a light ground, too


STATES = ("", "#modality=ecephys&from=2025-02-01", "#modality=ecephys&from=2030-01-01")
WIDTHS = (400, 800, 1400)


@pytest.mark.parametrize("look", ["light", "dark", "forced"])
def test_axe_finds_no_violation(open_page: Any, tmp_path: Path, look: str) -> None:
    api = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe (pip)")
    colours = {"forced_colors": "active"} if look == "forced" else {"color_scheme": look}
    write(make_plan(*((300, 40, 120, 900) if NIGHT else (60, 20, 60, 90))), REQUEST, tmp_path)
    page = open_page(tmp_path, **colours)
    for place, (state, width) in enumerate(product(STATES, WIDTHS)):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(page.url.partition("#")[0] + state)
        page.reload()
        page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true })")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        if NIGHT or place % 4 == 0:  # each state, each in another width
            found = api.Axe().run(page).response["violations"]
            told = [(each["id"], each["nodes"][0]["html"][:200]) for each in found]
            assert not told, (state, width, told)


def test_the_numbers_of_a_choice_are_those_of_a_reference(open_page: Any, tmp_path: Path) -> None:
    dice = random.Random()  # noqa: S311
    plan = make_plan(assets=40, tasks=60, workers=5)
    for task in plan.tasks:
        more = dice.sample(plan.tasks, dice.randrange(3))
        held = {asset.record_id: asset for one in (task, *more) for asset in one.assets[:1]}
        task.assets = list(held.values())
    write(plan, REQUEST, tmp_path)
    page = open_page(tmp_path)
    for _ in range(6):
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
