"""Tables whose rows are tested in several ways."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle, product
from typing import Any

from conftest import NIGHT


def in_turn(rows: Iterable[Any], *ways: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return each row in all ways at night; by day in one of them, which take turns."""
    tuples = [row if isinstance(row, tuple) else (row,) for row in rows]
    combined = list(product(*ways))
    if NIGHT:
        return [(*row, *way) for row in tuples for way in combined]
    return [(*row, *way) for row, way in zip(tuples, cycle(combined), strict=False)]
