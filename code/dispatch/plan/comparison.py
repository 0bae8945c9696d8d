"""How the tasks of a plan differ from those of an earlier one. Knows rows of a table, no file."""

from __future__ import annotations

from dataclasses import dataclass

from dispatch.given.values import Record
from dispatch.tasks.tasks import Task


@dataclass(frozen=True)
class Comparison:
    """How the tasks of a plan differ from those of an earlier plan or dispatch."""

    earlier: str  # what it is compared with
    new: frozenset[str]  # ids of tasks that the earlier one does not have
    gone: list[Task]  # those that it alone has
    same: int

    @property
    def in_words(self) -> str:
        """The numbers, in words."""
        return f"{len(self.new):,} new, {len(self.gone):,} gone, {self.same:,} the same"

    def mark(self, rows: list[Record]) -> list[Task]:
        """Add to the row of each task whether it is new; return the gone tasks without a row.

        Tasks that have no worker now are gone if the earlier plan had them, else left blank.
        """
        gone = {task.id: task for task in self.gone}
        for row in rows:
            row["compared"] = "new" if row["task_id"] in self.new else "same"
            if row["worker"] == "":
                row["compared"] = "gone" if gone.pop(row["task_id"], None) else ""
        return list(gone.values())
