"""Odd names keep the log to one line."""

from __future__ import annotations

import logging
import re
import sys

import pytest

from conftest import Run
from dispatch.terminal import messages
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


def test_what_another_thread_is_about_to_say_is_not_said_after_the_last_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # it has passed the switch of the log, and waits to write
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(messages.OneLineFormatter("%(message)s"))
    of_others = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler, of_others])
    record = logging.LogRecord("dispatch", logging.INFO, "", 0, "too late", None, None)
    try:
        messages.end_log()
        handler.handle(record)
    finally:
        logging.disable(logging.NOTSET)
    assert "too late" not in capfd.readouterr().err
    assert of_others.stream is sys.stderr
