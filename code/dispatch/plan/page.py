"""The page of a dry run: what it shows without its script, which finds the rest in columns.

The template and the files of the script lie beside this file, in the folder html.
"""

from __future__ import annotations

import json
import os
from base64 import b64encode
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch.given.values import Record
from dispatch.plan.columns import TASKS_IN_PAGE, names_records, page_data
from dispatch.plan.commands import (
    PLAN_FILE,
    Request,
    command_of,
    exact_command_of,
    exact_portable_command,
    portable_command_of,
)
from dispatch.plan.plan import Plan, assets_of
from dispatch.tasks.output import count_workers
from dispatch.terminal.messages import plural

if TYPE_CHECKING:
    from jinja2 import Template

PLAN_PAGE = Path(__file__).parent / "html" / "page.html.j2"
PLAN_SCRIPTS = (  # in their order in the page
    *("data", "deal", "bars", "picture", "pointing", "table", "choice", "figures", "take"),
    *("skipped", "lists"),
)
NAMES_IN_PAGE = 10_000  # of what is skipped for the same reason, or processed already
CHARACTER = 0.53  # rem, of a name in the table of tasks
WIDEST_NAMES = 40  # rem
CHARACTERS_IN_CARD = 42  # of a line of one, where the window is narrow


def write_page(plan: Plan, request: Request, path: Path) -> None:
    """Write the page."""
    # a lone surrogate, which JSON can spell, is no UTF-8
    path.write_bytes(render_page(plan, request).encode("utf-8", "backslashreplace"))


def render_page(plan: Plan, request: Request) -> str:
    """Return the page; the same plan gives the same page."""
    script = script_of_page()
    query = None
    if request.query is not None:
        query = json.dumps(request.query, indent=2, ensure_ascii=False)
    known = page_data(plan, request)
    data = json.dumps(known, separators=(",", ":"))
    page: str = template_of_page().render(
        plan=plan,
        figures=figures_of(plan),
        groups=list(known["tasks"]["groups"]),
        widths=widths_of(known["assets"]["name"]),
        reasons=known["skips"]["reason"]["values"],
        query=query,
        command=command_of(request.argv, "dry_run"),
        portable=portable_command_of(request.argv, "dry_run"),
        exact=exact_command_of(request),
        exact_portable=exact_portable_command(),
        plan_file=PLAN_FILE,
        takes_plan=request.takes_plan,
        warning=warning_of(request.output, request.overwrite),
        names_records=names_records(plan, request),
        input_folder=request.input_folder,
        working_folder=os.getcwd(),
        data=data.replace("<", "\\u003c"),
        script=script,
        script_hash=b64encode(sha256(script.encode()).digest()).decode(),
        names_in_page=NAMES_IN_PAGE,
        tasks_in_page=TASKS_IN_PAGE,
        dumps=partial(json.dumps, ensure_ascii=False),
    )
    return page


@cache  # to compile it takes 40 ms
def template_of_page() -> Template:
    """Return the page without what a plan says."""
    from jinja2 import Template

    template: Template = Template(
        PLAN_PAGE.read_text(encoding="utf-8"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return template


def figures_of(plan: Plan) -> list[tuple[str, int, str]]:
    """Return the figures of a plan: what each is, its value, and its name in the script."""
    figures: list[tuple[str, int, str]] = [
        ("Assets", len(assets_of(plan.tasks)), "assets"),
        ("Tasks", len(plan.tasks), "tasks"),
    ]
    lists = [task.files for task in plan.tasks if task.files is not None]
    if lists:
        figures.append(("Files", sum(map(len, lists)), "files"))
        figures.append(("Size", sum(task.size or 0 for task in plan.tasks), "size"))
    figures.append(("Workers", len(plan.workers), "workers"))
    return figures


def widths_of(names: list[str]) -> Record:
    """Return how wide the names of assets are in the table, in rem, and in a card, in lines."""
    longest = max(map(len, names), default=0)
    width = min(WIDEST_NAMES, max(12, round(CHARACTER * longest + 2, 1)))
    return {"names": width, "lines": min(3, 1 + (longest + 8) // CHARACTERS_IN_CARD)}


def script_of_page() -> str:
    """Return the script of the page, its files one after another."""
    texts = []
    for name in PLAN_SCRIPTS:
        path = PLAN_PAGE.with_name(f"{name}.js")
        texts.append(path.read_text(encoding="utf-8"))
    return "\n".join(texts)


def warning_of(output: Path, overwrite: bool) -> str:
    """Return what the dispatch would do to worker folders that are there, in words."""
    workers = count_workers(output)
    if not workers:
        return ""
    there = f"{output} holds {plural(workers, 'worker folder')} of an earlier run"
    if overwrite:
        return f"{there}; this command replaces what is there."
    return f"{there}; add --overwrite 1 to replace what is there."
