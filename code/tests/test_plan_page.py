"""The page of a dry run: a real browser opens it, and the dispatch writes what it shows."""

from __future__ import annotations

import json
import random
import re
import time
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from conftest import NIGHT, Run, Visit, give_parameters, some
from dispatch.plan.commands import Request, command_of, portable_command_of
from dispatch.plan.page import render_page, widths_of
from dispatch.tasks.tasks import Task
from plans_made import (  # noqa: F401  (fixtures)
    FLAGS,
    HOSTILE,
    QUERY,
    REQUEST,
    SHOTS,
    Show,
    cohort,
    figures,
    make_asset,
    make_named_plan,
    make_named_request,
    make_plan,
    make_task,
    only_tab,
    paste,
    plan_of,
    read_cell,
    show,
    tab,
    write,
)
from standins import BUCKET, KEY_ID, S3, SECRET, DocDB, record

if TYPE_CHECKING:
    from playwright.sync_api import Browser


COMMAND = command_of(FLAGS)
PLAN_FILES = {f"dispatch_plan.{end}" for end in ("csv", "html", "jsonl")}


def test_the_same_plan_gives_the_same_page() -> None:
    assert render_page(make_plan(), REQUEST) == render_page(make_plan(), REQUEST)


PERIODS = [
    ("2025-01-06", "day", 1),
    ("2025-02-27", "day", 53),
    ("2025-02-28", "week", 8),
    ("2026-01-11", "week", 53),
    ("2026-01-12", "month", 13),
    ("2029-05-31", "month", 17),  # the years between them have no sessions
    ("9999-12-31", "month", 24),
]


def test_dates_are_gathered_into_the_shortest_period_that_fits(show: Show) -> None:
    page = show()
    for last, period, columns in PERIODS:
        gathered = page.evaluate("days => gather(days)", ["2025-01-06", last])
        assert (gathered["period"], len(gathered["labels"])) == (period, columns), last
    days = [f"{year}-06-15" for year in (2019, 2023, 2024, 2025, 2026)]
    gathered = page.evaluate("days => gather(days)", days)
    assert (gathered["period"], len(gathered["labels"])) == ("month", 7 + 12 + 12 + 12 + 6)
    assert not any(label[:4] in ("2020", "2021", "2022") for label in gathered["labels"])
    days += ["2017-01-01", "1999-01-01"]
    gathered = page.evaluate("days => gather(days)", days)
    assert gathered["labels"] == ["1999", "2017", "2019", "2023", "2024", "2025", "2026"]


def test_a_subject_without_a_dated_session_keeps_its_row(show: Show) -> None:
    assets = [make_asset("a", "1", "2025-01-06"), make_asset("b", "2", None)]
    tasks = [make_task(asset, n, random.Random(6)) for n, asset in enumerate(assets)]  # noqa: S311
    page = show(plan_of([tasks]))
    table = page.locator("[data-counted=subject]")
    table.locator("summary").click()
    assert table.locator("tbody tr").all_inner_texts() == ["1\t1", "2\t0"]
    assert page.locator("#assets svg text").all_text_contents()[-4:] == ["1", "1", "2", "0"]


def test_the_page_says_what_the_plan_holds(show: Show) -> None:
    plan = make_plan()
    page = show()
    shown = figures(page)
    assert (shown["Assets"], shown["Tasks"], shown["Workers"]) == ("300", "900", "50")
    assert "312 records matched, 12 skipped" in page.inner_text("header")
    assert page.locator("#skipped li").all_inner_texts() == [skip.name for skip in plan.skips]
    assert "3 assets without a subject, 2 assets without a session date" in page.inner_text(
        "#assets"
    )
    assert json.loads(page.locator("#filter").inner_text()) == QUERY
    assert page.locator("#command").inner_text() == COMMAND


def test_search_narrows_the_rows_which_sorting_keeps(show: Show, tab: Visit) -> None:
    plan = make_plan()
    page = show()
    search = page.get_by_label("Search in all columns (does not change the choice)")
    shown = page.locator("#shown")
    assert shown.inner_text() == "900 tasks."
    search.fill("771755  ECEPHYS")
    names = [task.assets[0].name for task in plan.tasks]
    wanted = [name for name in names if "771755" in name and "ecephys" in name]
    assert tab.column(2) == wanted
    assert shown.inner_text() == f"{len(wanted)} of 900 rows match."
    found = tab.column(7)
    page.get_by_role("button", name="Size").click()
    assert tab.column(7) != found
    assert sorted(tab.column(7)) == sorted(found)
    search.fill(plan.tasks[17].id)
    assert tab.column(7) == [plan.tasks[17].id]
    search.fill("nothing has this")
    assert tab.column(1) == []
    assert shown.inner_text() == "0 of 900 rows match."
    search.fill("")
    assert len(tab.column(1)) == 900
    assert shown.inner_text() == "900 tasks."


def test_sort_takes_numbers_as_numbers_and_texts_as_texts(show: Show, tab: Visit) -> None:
    plan = make_plan(assets=20, tasks=40, workers=12)
    page = show(plan)
    names = tab.headers()
    columns: dict[str, list[Any]] = {
        "Worker": [n for n, tasks in enumerate(plan.workers) for _ in tasks],
        "Size": [task.size for task in plan.tasks],
        "Task id": [task.id for task in plan.tasks],
        "Assets": [task.assets[0].name for task in plan.tasks],
    }
    for name, values in columns.items():
        number = names.index(name) + 1
        header = page.locator(f"#task-table thead th:nth-child({number})")
        before = dict(zip((task.id for task in plan.tasks), values, strict=True))
        for direction in ("ascending", "descending"):
            header.get_by_role("button").evaluate("button => button.click()")
            assert header.get_attribute("aria-sort") == direction
            after = [before[task] for task in tab.column(len(names))]
            assert after == sorted(values, reverse=direction == "descending")
        assert page.locator("[aria-sort]").count() == 1


@pytest.mark.parametrize(
    ("length", "lines"), [(0, 1), (33, 1), (34, 2), (75, 2), (76, 3), (117, 3), (118, 3)]
)
def test_a_name_in_a_card_gets_the_lines_that_it_needs(length: int, lines: int) -> None:
    assert widths_of(["x", "x" * length])["lines"] == lines


def test_a_row_is_one_line_and_tells_the_whole_of_what_it_cuts(show: Show) -> None:
    plan = make_plan(assets=30, tasks=90)
    for task in plan.tasks:
        task.assets = [replace(asset, group={"subject.sex": "F"}) for asset in task.assets]
    for width in (1400, 400):
        page = show(plan, size=(width, 900))
        titles = ["Worker", "Assets", "subject.sex", "First file", "Files", "Size", "Parameters",
                  "Task id"]  # fmt: skip
        assert page.locator("#task-table thead th").all_inner_texts() == titles
        row = page.locator("#task-table tbody tr").first
        task = plan.workers[0][0]
        cells = [text.replace("\n", "") for text in row.locator("> *").all_text_contents()]
        assert task.files
        path = task.files[0].split("/", 4)[4]  # below the asset, whose name stands beside it
        assert cells[1:4] == [task.assets[0].name, "F", path]
        assert row.locator("[title]").nth(2).get_attribute("title") == task.files[0]
        heights = page.locator("#task-table tbody tr").evaluate_all(
            "rows => [...new Set(rows.map(row => Math.round(row.getBoundingClientRect().height)))]"
        )
        lines = 1 if width == 1400 else len(titles)
        assert max(heights) - min(heights) <= 1
        assert max(heights) < 45 * lines
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_command_for_a_colleague_has_no_path_of_this_machine(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text("")
    for argv in (["--docdb_snapshot", str(file)], [f"--docdb_snapshot={file}"]):
        words = [*argv, "--query", '{"name": "a/b"}', "--output_directory=/x", "--overwrite", "1"]
        command = portable_command_of(words, "dry_run")
        assert "records.jsonl" in command
        assert str(tmp_path) not in command
        assert "/x" not in command
        assert """--query '{"name": "a/b"}'""" in command
        assert "overwrite" not in command


def test_the_keyboard_reaches_search_and_sorting(show: Show) -> None:
    page = show()
    reached = []
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the tasks"
    page.keyboard.press("Enter")
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.innerText")
        )
        if reached[-1] == "Size":
            page.keyboard.press("Enter")
    assert reached[0] == "search"
    assert reached[2:] == ["Worker", "Assets", "First file", "Files", "Size", "Parameters"]
    assert page.locator("[aria-sort=ascending]").inner_text() == "Size"


def test_copying_gives_the_text_or_selects_it(show: Show) -> None:
    page = show()
    for place, name in product(("#bar", "#dispatch"), ("filter", "command")):
        page.locator(f"{place} [data-copy={name}]").click()
        said = page.locator(f"{place} [data-copy={name}] + [role=status]")
        said.filter(has_text="e").wait_for()
        if "Selected" in said.inner_text():
            assert page.evaluate("String(getSelection())") == page.inner_text(f"#{name}")


def test_hostile_names_are_text(show: Show) -> None:
    page = show(make_named_plan(HOSTILE), make_named_request(HOSTILE))
    drawn = page.locator("svg text").all_text_contents()
    for name in HOSTILE[:9]:
        assert name in page.locator("#task-table").inner_text()
        assert name in page.locator("#skipped").inner_text()
        assert name in page.locator("#command").inner_text()
        assert (f"{name[:19]}…" if len(name) > 20 else name) in drawn
    harmless = [f"n{number:02}" for number, _ in enumerate(HOSTILE)]
    harmless[-2:] = HOSTILE[-2:]  # no value of a filter, and no subject
    every = "document.querySelectorAll('*:not(#task-table span)')"  # those that cut long names
    elements = f"Array.from({every}, (element) => element.tagName).sort()"
    there = page.evaluate(elements)
    other = show(make_named_plan(harmless), make_named_request(harmless))
    assert there == other.evaluate(elements)


def test_the_page_fits_its_window(tab: Visit, cohort: Path, tmp_path: Path) -> None:
    windows = list(product([320, 400, 1600], ["light", "dark"]))
    write(make_named_plan(HOSTILE), make_named_request(HOSTILE), tmp_path)
    for folder in (tmp_path, cohort):
        for width, scheme in windows if SHOTS else some(windows, 3):
            page = tab.open(folder, size=(width, 1000), color_scheme=scheme)
            if SHOTS:
                page.screenshot(path=Path(SHOTS, f"{width}-{scheme}.png"), full_page=True)
            page.evaluate("document.querySelectorAll('details').forEach(e => { e.open = true })")
            assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_dark_page_is_dark(show: Show) -> None:
    page = show()
    shades = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        shades[scheme] = [
            page.evaluate("getComputedStyle(document.body).backgroundColor"),
            page.evaluate("getComputedStyle(document.querySelector('svg text')).fill"),
            page.evaluate("getComputedStyle(document.querySelector('svg .shade2')).fill"),
        ]
    for light, dark in zip(shades["light"], shades["dark"], strict=True):
        assert light != dark


def test_the_page_reads_without_scripts(browser: Browser, cohort: Path) -> None:
    tab = Visit(browser, java_script_enabled=False)
    page = tab.open(cohort)
    assert not page.get_by_label("Search in all columns (does not change the choice)").is_visible()
    assert not page.locator("#narrow").is_visible()
    assert "dispatch_plan.csv has all tasks" in page.inner_text("noscript")
    assert figures(page)["Tasks"] == "900"
    assert page.locator("#skipped li").count() == 12
    assert page.inner_text("#command") == COMMAND
    tab.check()
    tab.context.close()


@pytest.fixture(scope="module")
def ten_thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the page of a plan of 10,000 assets, whose filter names records."""
    folder = tmp_path_factory.mktemp("ten_thousand")
    plan = make_plan(assets=10_000, subjects=400, days=900, tasks=10_000, workers=1_000)
    write(replace(plan, left_out=1), REQUEST, folder)
    return folder


def test_a_plan_of_ten_thousand_tasks_opens_at_once(tab: Visit, ten_thousand: Path) -> None:
    started = time.monotonic()
    page = tab.open(ten_thousand)
    assert time.monotonic() - started < 5
    assert page.locator("#task-table tbody tr").count() == 60  # those in sight, and around it
    assert page.locator("#task-table").get_attribute("aria-rowcount") == "10001"
    assert page.locator("#shown").inner_text() == "10,000 tasks."
    assert "The first 200 of" in page.locator("#assets figcaption").inner_text()
    assert len(pd.read_csv(ten_thousand / "dispatch_plan.csv")) == 10_000


def test_rows_are_there_wherever_one_scrolls(show: Show, tab: Visit, ten_thousand: Path) -> None:
    number, steps = (50_000, 100) if NIGHT else (10_000, 16)
    if NIGHT:
        page = show(make_plan(assets=500, tasks=number, workers=10))
    else:
        page = tab.open(ten_thousand)
    page.locator("#tasks .scroll").evaluate("box => box.scrollIntoView({block: 'center'})")
    seen = page.locator("#tasks .scroll").evaluate(
        """async (box, steps) => {
      const { left, top } = box.getBoundingClientRect();
      const seen = [];
      let slowest = 0;
      for (let step = 0; step <= steps; step += 1) {
        box.scrollTop = (box.scrollHeight - box.clientHeight) * step / steps;
        const start = performance.now();
        await new Promise(requestAnimationFrame);
        slowest = Math.max(slowest, performance.now() - start);
        await new Promise(requestAnimationFrame);
        const row = document.elementFromPoint(left + 200, top + box.clientHeight / 2).closest("tr");
        seen.push(Number(row.ariaRowIndex));
      }
      return [seen, slowest];
    }""",
        steps,
    )
    page.evaluate("dispatchEvent(new Event('resize'))")  # which draws all anew, where one is
    assert page.locator(f"#task-table tbody tr[aria-rowindex='{number + 1}']").count() == 1
    rows, slowest = seen
    assert rows == sorted(rows)
    assert rows[0] < 100
    assert rows[-1] > number - 200
    assert max(after - before for before, after in pairwise(rows)) < number / steps + 10
    assert slowest < 500  # ms, on a machine that is busy
    assert page.locator("#task-table tbody tr").count() <= 60


def test_a_choice_among_ten_thousand_assets_is_answered_at_once(
    tab: Visit, ten_thousand: Path
) -> None:
    page = tab.open(ten_thousand)
    seconds = page.locator("#values-of-modality input").evaluate_all(
        """async (boxes) => {
          const seconds = [];
          for (const box of [...boxes, ...boxes]) {
            const start = performance.now();
            box.click();
            await new Promise((next) => requestAnimationFrame(() => setTimeout(next)));
            seconds.push((performance.now() - start) / 1000);
          }
          return seconds;
        }"""
    )
    assert min(seconds) < 0.3  # where nothing else runs, all take less than a tenth


def test_a_plan_without_files_parameters_or_filter_leaves_them_out(show: Show, tab: Visit) -> None:
    assets = [make_asset(name, None, None) for name in "abcde"]
    task = Task(assets, None, 0, None, None, id="id")
    page = show(plan_of([[task]]), Request(query=None))
    assert tab.headers() == ["Worker", "Assets", "Task id"]
    assert tab.column(2) == ["a, b, c and 2 more"]
    assert page.locator("#workers svg text").all_text_contents()[:2] == ["0", "worker"]
    assert page.locator("#assets svg").count() == 0
    assert "the CSV lists" in page.inner_text("#dispatch")
    assert "Nothing" in page.inner_text("#skipped")


MODES = {
    "files": ["--file_extension=nwb"],
    "assets": ["--max_jobs=3"],
    "groups": ["--file_extension=nwb", "--group_by=subject.subject_id", "--drop_null_groups=0"],
    "by size": ["--file_extension=nwb", "--balance_by=size", "--max_jobs=2", "--max_tasks=7"],
}


@pytest.fixture
def world(docdb: DocDB, s3: S3) -> None:
    docdb.put(
        *(
            record(f"{name}_2025-03-0{n + 1}_09-00-00", subject={"subject_id": str(n % 3)})
            for n, name in enumerate("abcdef")
        ),
        record("lost", session={"session_start_time": "2025-03-01T09:00:00-08:00"}),
    )
    for n, name in enumerate("abcdef"):
        at = f"{name}_2025-03-0{n + 1}_09-00-00"
        s3.put(BUCKET, [f"{at}/y.nwb/0"])
        s3.backend.put_object(BUCKET, f"{at}/x.nwb", b"x" * 100 * n)
        s3.backend.put_object(BUCKET, f"{at}/y.nwb/1", b"x" * 50)


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("name", MODES)
def test_the_dispatch_writes_exactly_what_the_plan_showed(
    name: str, run: Run, tmp_path: Path
) -> None:
    give_parameters(tmp_path, sets=[{"w": 1}, {"w": 2}])
    planned = run("--query={}", *MODES[name], "--dry_run", "1")
    assert planned.status == 0, planned.log
    assert planned.names() == sorted(PLAN_FILES)
    assert len(list(planned.output.iterdir())) == len(PLAN_FILES)
    table = pd.read_csv(planned.output / "dispatch_plan.csv", dtype=str, keep_default_na=False)
    page = (planned.output / "dispatch_plan.html").read_text()
    again = run("--query={}", *MODES[name], "--dry_run=1")
    assert again.files() == planned.files()
    assert "run_capsule.py --input_directory" in page
    assert "dry_run" not in page
    done = run("--query={}", *MODES[name])  # which replaces the plan
    assert done.status == 0, done.log
    written = {path.removesuffix(".json") for path in done.files() if path[0] != "."}
    assert written == {f"{row.worker}/{row.task_id}" for row in table.itertuples()}
    for row in table.itertuples():
        task = json.loads((done.output / str(row.worker) / f"{row.task_id}.json").read_text())
        assert read_cell(str(row.asset_names)) == task["asset_name"]
        assert read_cell(str(row.asset_ids)) == task["asset_id"]
        assert read_cell(str(row.record_ids)) == task["docdb_record_id"]
        assert json.loads(str(row.parameters)) == task["distributed_parameters"]
        files = task["file_location"]
        assert row.number_of_files == ("" if files is None else str(len(files)))
        if files:
            assert read_cell(str(row.first_file)) == files[:1]
            sizes = {"x.nwb": [100 * "abcdef".index(file.split("/")[3][0]) for file in files],
                     "y.nwb": [50] * len(files)}  # fmt: skip
            assert int(str(row.bytes)) == sum(
                sizes[file.rpartition("/")[2]][n] for n, file in enumerate(files)
            )
    assert planned.log.count("dry run, nothing is dispatched") == 1
    assert (
        planned.error.split(": ", 1)[1].split(" workers")[0]
        == (done.error.split(": ", 1)[1].split(" workers")[0])
    )


@pytest.mark.usefixtures("world")
def test_a_dry_run_prints_the_filter_and_the_first_tasks(run: Run, docdb: DocDB) -> None:
    at = f"s3://{BUCKET}/b_2025-03-02_09-00-00"
    docdb.put(*({**record(f"more-{n:02}\n"), "location": at} for n in range(30)))
    result = run("--query={}", "--file_extension=nwb", "--split_files=0", "--dry_run=1")
    first, header, *rows, counts = result.stdout.splitlines()
    assert first == "filter: {}"
    assert header.split() == ["worker", "asset", "file", "size", "parameters"]
    assert len(rows) == 21
    assert "x.nwb and 1 more" in rows[0]
    assert rows[-1] == "... and 16 more"
    assert counts.startswith("tasks 36, workers 36, assets 36, files 12 (")
    assert counts.endswith("records 37, skipped 1")
    assert "36 tasks" in result.error
    assert "1 skipped (no .nwb file: 1)" in result.error


@pytest.mark.usefixtures("world")
def test_the_page_of_a_dry_run_opens_and_its_command_dispatches_the_plan(
    run: Run, tab: Visit, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    (tmp_path / "q u.json").write_text("{'name': {'$ne': \"it's\"}}")
    planned = run("--query=q u.json", "--file_extension=nwb", "--dry_run", "1")
    page = tab.open(planned.output)
    assert figures(page)["Tasks"] == "12"
    assert "6 assets of 3 subjects, with sessions from 2025-03-01 to 2025-03-06" in (
        page.inner_text("#assets")
    )
    assert page.locator("#skipped li").count() == 1
    assert tab.requests == [tab.url]
    env = {
        "PATH": "/usr/bin:/bin",
        "REQUESTS_CA_BUNDLE": str(docdb.ca_file),
        "AWS_ENDPOINT_URL": s3.url,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    table = pd.read_csv(planned.output / "dispatch_plan.csv", dtype=str)
    paste(page.inner_text("#command"), env)
    written = {path.stem for path in planned.output.glob("*/*.json")}
    assert written == set(table["task_id"])


@pytest.mark.usefixtures("world")
def test_a_folder_named_like_a_plan_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "results" / "dispatch_plan.html").mkdir(parents=True)
    for flag in ("--dry_run=0", "--dry_run=1"):
        result = run("--query={}", "--overwrite=1", flag)
        assert result.status == 2
        assert "dispatch_plan.html" in result.error
        assert result.names() == ["dispatch_plan.html"]


@pytest.mark.usefixtures("world")
def test_a_dry_run_needs_nobody_to_read_it_and_no_utf_8(run: Run, docdb: DocDB) -> None:
    docdb.put({**record("z"), "name": "\u00e9 \u6f22"})
    gone = run("--query={}", "--dry_run=1", prefix="exec > >(true); wait $!; ")
    assert gone.status == 0, gone.log
    latin = run("--query={'_id': 'id-z'}", "--dry_run=1", env={"PYTHONIOENCODING": "ascii"})
    assert latin.status == 0, latin.log


@pytest.mark.usefixtures("world")
def test_a_dry_run_respects_what_lies_in_the_output(run: Run) -> None:
    first = run("--query={}").files()
    beside = run("--query={}", "--dry_run=1")
    assert beside.status == 0
    assert beside.files().keys() - first.keys() == PLAN_FILES
    assert first.items() < beside.files().items()
    page = beside.files()["dispatch_plan.html"].decode()
    assert re.search(r"holds \d worker folders of an earlier run; add --overwrite 1 to", page)
    refused = run("--query={}")
    assert refused.status == 2
    assert "--overwrite 1" in refused.error
    assert refused.files() == beside.files()
    replacing = run("--query={}", "--dry_run=1", "--overwrite=1")
    page = replacing.files()["dispatch_plan.html"].decode()
    assert re.search(r"holds \d worker folders of an earlier run; this command replaces", page)
    assert "--overwrite=1</pre>" in page
    assert first.items() < replacing.files().items()
    again = run("--query={}", "--overwrite=1")
    kept = {name for name in again.files() if name[0] == "." and "dry_run" not in name}
    assert {".dispatch_plan.csv", ".dispatch_plan.html"} <= kept  # what was looked at
    workers = {name: held for name, held in first.items() if name[0] != "."}
    assert workers.items() <= again.files().items()
    first = again.files()
    nothing = run('--query={"name": "none"}', "--dry_run=1", "--overwrite=1")
    assert nothing.status == 1
    assert nothing.files() == first
