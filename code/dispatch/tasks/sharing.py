"""Who gets which tasks: as a plan has dealt them, or shared out as is asked. Knows no folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dispatch.tasks.analysis_code import warn_of_shared_folders
from dispatch.tasks.tasks import (
    Task,
    deal_as_before,
    deal_by_size,
    deal_in_lots,
    deal_in_order,
    hint_on_many,
    number_of_workers,
)


@dataclass(frozen=True)
class Sharing:
    """How tasks are to be shared out."""

    most: int | None  # workers
    each: int | None  # tasks
    by_size: bool
    no_code: str | None  # why the tasks do not say their code; None if they do
    before: Mapping[str, int]  # the worker that a plan gave each task, by its id; else empty


def share_out(tasks: Sequence[Task], sharing: Sharing) -> list[list[Task]]:
    """Return the tasks of each worker."""
    if not tasks:
        return []
    most, each, says_code = sharing.most, sharing.each, not sharing.no_code
    number = number_of_workers(len(tasks), most, each, says_code=says_code)
    if sharing.before:
        workers = deal_as_before(tasks, sharing.before)
    elif sharing.by_size:
        workers = deal_by_size(tasks, number)
    elif each and not most:
        workers = deal_in_lots(tasks, each)
    else:
        workers = deal_in_order(tasks, number)
    hint_on_many(len(workers), says_code=says_code)
    if any(len(share) > 1 for share in workers):
        warn_of_shared_folders(sharing.no_code)
    return workers
