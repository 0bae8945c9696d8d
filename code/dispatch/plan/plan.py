"""The plan: what is dispatched and what is not, and that in a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dispatch.assets.assets import Asset, Entry, Skip, skips_in
from dispatch.files.listing import Files
from dispatch.given.values import Record
from dispatch.plan.comparison import Comparison
from dispatch.records.schema import NAMES, Vocabulary
from dispatch.tasks.tasks import Task
from dispatch.terminal.messages import file_size, plural


@dataclass(frozen=True)
class Found:
    """All tasks that there are, before any is left out, and where they come from."""

    tasks: list[Task]
    entries: list[Entry]  # assets as they are grouped, and what is skipped
    matched: int  # records
    files: Files | None  # None: none were looked for, or the tasks are those of a plan
    no_code: str | None  # why the tasks do not say their code; None if they do
    query: Record | None  # the filter that was asked; None: the assets come from a list
    names: Vocabulary = field(default_factory=lambda: NAMES)  # as the records have them
    taken_from: str = ""  # the plan that the tasks were taken from, in words
    origin: Record | None = None  # the same as the next plan says it
    workers: dict[str, int] = field(default_factory=dict)  # that it gave each task, by its id


@dataclass(frozen=True)
class Plan:
    """What is dispatched, and what is not."""

    matched: int  # records
    entries: list[Entry]  # assets as they are grouped, and what is skipped
    files: Files | None
    workers: list[list[Task]]
    processed: list[Task]  # already, and left out
    left_out: int  # tasks, by --max_tasks
    dispatched: list[Task] = field(default_factory=list)  # already, and left out
    query: Record | None = None  # the filter that was asked; None: the assets come from a list
    names: Vocabulary = field(default_factory=lambda: NAMES)  # as the records have them
    taken_from: str = ""  # the plan that the tasks were taken from, in words
    comparison: Comparison | None = None  # with an earlier plan or dispatch

    @property
    def skips(self) -> list[Skip]:
        """What is skipped."""
        return skips_in(self.entries)

    @property
    def tasks(self) -> list[Task]:
        """The tasks of all workers."""
        return [task for _, task in numbered_tasks(self)]


def numbered_tasks(plan: Plan) -> Iterator[tuple[int, Task]]:
    """Yield each task, and before it the number of its worker."""
    for worker, tasks in enumerate(plan.workers):
        for task in tasks:
            yield worker, task


def assets_of(tasks: Sequence[Task]) -> list[Asset]:
    """Return the assets that some tasks hold, each once, in the order of the tasks."""
    assets: dict[str, Asset] = {}
    for task in tasks:
        for asset in task.assets:
            assets.setdefault(asset.record_id, asset)
    return list(assets.values())


def files_of(tasks: Sequence[Task]) -> set[str]:
    """Return the URLs of all files that some tasks hold."""
    files: set[str] = set()
    for task in tasks:
        files |= set(task.files or ())
    return files


def summarise_records(matched: int, entries: list[Entry]) -> str:
    """Return the records matched and what was skipped, in words."""
    reasons = Counter(skip.reason for skip in skips_in(entries))
    why = ", ".join(f"{reason}: {number:,}" for reason, number in reasons.items())
    if why:
        why = f" ({why})"
    return f"{plural(matched, 'record')} matched, {reasons.total():,} skipped{why}"


def summarise(
    plan: Plan, *, by_size: bool, tells_processed: bool, tells_dispatched: bool = False
) -> str:
    """Return what a plan comes to, in words."""
    files = "no files looked for"
    if plan.files is not None:
        files = plural(sum(map(len, plan.files.values())), "file")
    elif plan.taken_from and not plan.tasks:
        files = plural(0, "file")
    elif any(task.files is not None for task in plan.tasks):
        files = plural(len(files_of(plan.tasks)), "file")
    tasks = plural(len(plan.tasks), "task")
    others = []
    if tells_dispatched:
        others.append(f"{len(plan.dispatched):,} dispatched already")
    if tells_processed:
        others.append(f"{len(plan.processed):,} processed already")
    if plan.left_out:
        others.append(f"{plan.left_out:,} more left out")
    if others:
        tasks += f" ({', '.join(others)})"
    workers = plural(len(plan.workers), "worker") + describe_heaviest(plan, by_size=by_size)
    begin = plan.taken_from or summarise_records(plan.matched, plan.entries)
    summary = f"{begin}, {files}, {tasks}, {workers}"
    if plan.comparison:
        summary += f", {plan.comparison.in_words}"
    return summary


def describe_heaviest(plan: Plan, *, by_size: bool) -> str:
    """Return how much more than the mean the heaviest worker has to do, "" if no more."""
    loads = []
    for tasks in plan.workers:
        loads.append(sum(task.size or 0 for task in tasks) if by_size else len(tasks))
    heaviest = max(loads, default=0)
    times = f"{heaviest * len(loads) / (sum(loads) or 1):.2f}"
    if times in ("0.00", "1.00"):
        return ""
    load = file_size(heaviest) if by_size else plural(heaviest, "task")
    return f", the heaviest with {load}, {times} times the mean"
