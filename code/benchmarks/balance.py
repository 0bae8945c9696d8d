"""Prints the table of --balance_by in code/README.md: the heaviest worker against the mean."""

from __future__ import annotations

import random
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dispatch.tasks.tasks import Task, deal_by_size, deal_in_order

ROUNDS = 200


def heaviest(shares: list[list[Task]]) -> float:
    """Return the bytes of the heaviest worker, the mean being 1."""
    loads = [sum(task.size or 0 for task in share) for share in shares]
    return max(loads) / statistics.mean(loads)


def main() -> None:
    """Print the table, medians over the rounds."""
    print("| tasks | workers | count | size | the largest task |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    draw = random.Random(1)  # noqa: S311
    for number, workers in ((100, 50), (500, 50), (2_000, 50), (10_000, 100)):
        rows = []
        for _ in range(ROUNDS):
            sizes = [int(1e9 * draw.lognormvariate(0, 1.5)) for _ in range(number)]
            tasks = [Task([], None, size, None, None, id=str(n)) for n, size in enumerate(sizes)]
            largest = max(sizes) * workers / sum(sizes)
            dealt = (deal(tasks, workers) for deal in (deal_in_order, deal_by_size))
            rows.append((*map(heaviest, dealt), largest))
        medians = " | ".join(
            f"{statistics.median(column):.2f}" for column in zip(*rows, strict=True)
        )
        print(f"| {number:,} | {workers} | {medians} |")


if __name__ == "__main__":
    main()
