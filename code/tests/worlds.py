"""Real records as a world of assets, for whole runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from dispatch.given.values import as_list
from standins import S3, DocDB

Record = dict[str, Any]


def ids_of(record: Record) -> list[str]:
    """Return the Code Ocean ids of a real record, in the shapes seen there."""
    ids: list[str] = []
    for field in ("external_links", "other_identifiers"):
        links = record.get(field)
        ids += links.get("Code Ocean", []) if isinstance(links, dict) else []
    return ids


def expected_task(record: Record, asset_id: str, files: list[str] | None, query: Any) -> Record:
    task = {
        "s3_location": [record["location"]],
        "asset_id": [asset_id],
        "asset_name": [record["name"]],
        "docdb_record_id": [record["_id"]],
        "file_location": files,
    }
    return task if query is None else {**task, "query": json.dumps(query, separators=(",", ":"))}


def tree_of(record: Record) -> list[str]:
    """Return a tree for a real record, in the style of its kind."""
    name = record["name"]
    if "ecephys" in name:
        stream = f"{name}/ecephys/ecephys_compressed/experiment1_ProbeA.zarr"
        return [
            f"{name}/nwb/{name}_experiment1_recording1.nwb/.zattrs",
            f"{name}/nwb/{name}_experiment1_recording1.nwb/units/id/0",
            *(f"{stream}/traces/{n}" for n in range(30)),
            f"{stream}/traces/inner.nwb",
        ]
    if "behavior" in name:
        return [f"{name}/behavior/{name}.nwb", f"{name}/behavior-videos/a.mp4", f"{name}/x.json"]
    if "SPIM" in name:
        return [f"{name}/SPIM.ome.zarr/0/0/{n}" for n in range(30)] + [f"{name}/acq.json"]
    return [f"{name}/ophys/plane{n}.h5" for n in range(3)] + [f"{name}_copy/plane.nwb"]


QUERIES: dict[str, tuple[Record, Callable[[Record], bool]]] = {
    "all": ({}, lambda _: True),
    "raw": (
        {"data_description.data_level": "raw"},
        lambda r: r["data_description"]["data_level"] == "raw",
    ),
    "subjects": (
        {"subject.subject_id": {"$in": ["774212", "755252", "834691"]}},
        lambda r: r["subject"]["subject_id"] in ("774212", "755252", "834691"),
    ),
    "name": (
        {"name": {"$regex": "^ecephys_.*_sorted_"}, "session": {"$ne": None}},
        lambda r: bool(re.match("ecephys_.*_sorted_", r["name"])) and r.get("session") is not None,
    ),
    "modality": (
        {"data_description.modality.abbreviation": "behavior"},
        lambda r: any(
            modality["abbreviation"] == "behavior"
            for modality in as_list(r["data_description"].get("modality"))
            if isinstance(modality, dict)
        ),
    ),
}


@pytest.fixture
def world(docdb: DocDB, s3: S3, real_records: list[Record]) -> dict[str, list[str]]:
    """Put the real records behind both services; return all keys of each location."""
    docdb.put(*real_records)
    trees: dict[str, list[str]] = {}
    for real in real_records:
        bucket, _, prefix = real["location"].removeprefix("s3://").partition("/")
        keys = [prefix + key.removeprefix(real["name"]) for key in tree_of(real)]
        s3.put(bucket, keys)
        trees.setdefault(f"s3://{bucket}/", []).extend(keys)
    return {
        real["location"]: trees[real["location"].rpartition("/")[0] + "/"] for real in real_records
    }
