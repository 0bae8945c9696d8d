"""The table of a plan reads back as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from dispatch.assets.assets import Asset
from dispatch.plan.columns import first_file
from dispatch.plan.plan import Plan
from dispatch.plan.table import cell
from dispatch.tasks.tasks import Task
from plans_made import HOSTILE, REQUEST, make_named_plan, make_plan, plan_of, read_cell, write


def read_table(plan: Plan, folder: Path) -> pd.DataFrame:
    write(plan, REQUEST, folder)
    return pd.read_csv(folder / "dispatch_plan.csv", dtype=str, keep_default_na=False)


def test_the_table_holds_all_tasks_in_the_order_of_the_workers(tmp_path: Path) -> None:
    plan = make_plan()
    table = read_table(plan, tmp_path)
    rows = [(str(worker), task.id) for worker, tasks in enumerate(plan.workers) for task in tasks]
    assert list(zip(table["worker"], table["task_id"], strict=True)) == rows
    assert table["bytes"].astype(int).sum() == sum(task.size or 0 for task in plan.tasks)


def test_the_first_file_of_a_group_is_told_below_its_first_asset() -> None:
    assets = [Asset(f"s3://bucket/{name}", "", name, name, {}) for name in "xy"]
    for location, told in (("s3://bucket/x", "1.nwb"), ("s3://bucket/y", "s3://bucket/y/1.nwb")):
        task = Task(assets, [f"{location}/1.nwb"], 1, None, None, id="1", content=b"{}")
        cut = first_file(task)
        assert cut
        assert "x".join(cut) == told


def test_hostile_names_come_back_from_the_table_as_they_were(tmp_path: Path) -> None:
    table = read_table(make_named_plan(HOSTILE), tmp_path)
    for column in ("asset_names", "asset_ids", "record_ids", "first_file"):
        assert [read_cell(text) for text in table[column]] == [[name] for name in HOSTILE]
    assert [json.loads(text) for text in table["parameters"]] == [{n: n} for n in HOSTILE]


def test_a_cell_is_a_list_only_where_it_has_to_be() -> None:
    assert cell(["one"]) == "one"
    assert cell([]) == "[]"
    assert cell(["a", "b"]) == '["a", "b"]'
    assert cell(["[a"]) == '["[a"]'
    assert cell(["a\nb"]) == '["a\\nb"]'


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "=cmd|'/c calc'!A1"])
def test_no_cell_is_a_formula_to_a_spreadsheet(formula: str) -> None:
    assert cell([formula]) == f"'{formula}"
    assert cell([f"'{formula}"]) == json.dumps([f"'{formula}"])  # so that each is read as it was


def test_what_is_not_known_is_blank_in_the_table(tmp_path: Path) -> None:
    assets = [Asset("", "", name, record_id, {}) for name, record_id in [("a", "1"), ("b", "2")]]
    task = Task(assets, None, 0, None, None, id="id")
    table = read_table(plan_of([[task]]), tmp_path)
    assert table.to_dict("records") == [
        {
            "worker": "0",
            "task_id": "id",
            "asset_names": '["a", "b"]',
            "asset_ids": '["", ""]',
            "record_ids": '["1", "2"]',
            "number_of_files": "",
            "bytes": "",
            "first_file": "",
            "parameters": "",
            "result": "",
            "processed": "0",
            "dispatched": "0",
        }
    ]
