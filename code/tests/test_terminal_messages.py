"""Odd names keep the log to one line."""

from __future__ import annotations

import re

from conftest import Run
from standins import BUCKET, DocDB, record

ODD = 'two\nlines "quoted" \\ \x1b[31m\x00\u202etfel\u2028\u200b\x7f\r'


def test_odd_names_keep_the_log_to_one_line_and_the_json_valid(run: Run, docdb: DocDB) -> None:
    docdb.put(
        {**record("x"), "name": ODD},
        {**record("y"), "name": f"{ODD}!", "location": f"s3://{BUCKET}/{ODD}"},
        {**record("z"), "name": f"{ODD}?", "location": 5},
    )
    result = run("--query={}")
    assert result.status == 0, result.log
    assert [task["asset_name"] for task in result.tasks()] == [[ODD], [f"{ODD}!"]]
    assert all(re.match(r"\d\d:\d\d:\d\d [A-Z]+ ", line) for line in result.log.splitlines())
    assert result.log.replace("\n", "").isprintable()
