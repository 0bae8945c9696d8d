"""What is the same work: the canonical form of a task, and the name made of it. Knows no files."""

from __future__ import annotations

import json
import uuid
from typing import Any

from dispatch.given.values import Record

WORK = (
    *("docdb_record_id", "s3_location", "file_location"),
    *("group_metadata", "distributed_parameters"),
)
WORK_OF_CODE = ("url", "version", "commit_hash", "parameters")


SORTED = json.JSONEncoder(sort_keys=True, allow_nan=False, separators=(",", ":"))


def id_of_work(task: Record) -> str:
    """Return the name of what a task stands for, a UUID; `task` is what its JSON says.

    It is the same for a task that is to be written and for what an earlier dispatch has written.
    """
    return str(uuid.uuid5(uuid.NAMESPACE_OID, canonical_form(task)))


def canonical_form(task: Record) -> str:
    """Return what a task stands for as JSON that all equal tasks have in common.

    Not in it are the filter that chose its assets, their names and Code Ocean ids, and what the
    code says beside its source and parameters. Keys are sorted, lists stay as they are, and what
    is null or empty is the same as what is missing.
    """
    work = told(task, WORK)
    code = told(task.get("analysis_code") or {}, WORK_OF_CODE)
    if code:
        work["analysis_code"] = code
    try:
        return sorted_json(work)
    except (TypeError, ValueError):  # NaN, which is null in the task's file, or what a model holds
        from pydantic_core import from_json, to_json

        return sorted_json(from_json(to_json(work, inf_nan_mode="null")))


def told(record: Record, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the parts of an object that have one of these names and say anything."""
    parts = {}
    for name in names:
        value = record.get(name)
        if value not in (None, "", [], {}):
            parts[name] = value
    return parts


def sorted_json(value: Any) -> str:
    """Return compact JSON with sorted keys; raise TypeError or ValueError for what is no JSON."""
    return SORTED.encode(value)
