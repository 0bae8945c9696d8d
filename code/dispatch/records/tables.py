"""Tables that people hand in: CSV, TSV and Excel, read by pandas as strings."""

from __future__ import annotations

import codecs
import csv
import io
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatch.given.inputs import read_bytes
from dispatch.terminal.messages import BadInput, excerpt

if TYPE_CHECKING:
    import pandas as pd

EXCEL = (".xlsx", ".xlsm")
SEPARATORS = ",;\t"  # Excel writes any of these, by the country and the format


@dataclass(frozen=True)
class Row:
    """A row of a table: its place in the file, and a cell for each column, "" where blank."""

    place: str  # line 3, row 3
    cells: list[str]


@dataclass(frozen=True)
class Table:
    """A table: the names of its columns, and its rows, without those that are blank."""

    columns: list[str]
    rows: list[Row]


def read_table(path: Path, wanted: Collection[str]) -> Table:
    """Return the table that a file holds, Excel's first sheet; raise BadInput.

    Its first row that is not blank names the columns. The separator of a text is the one that makes
    a column of the `wanted` ones, else the one that makes the most.
    """
    content = read_bytes(path)
    if is_excel(path, content):
        rows = list(rows_of(read_sheet(path, content), "row"))
    else:
        string = decode(content)
        rows = list(rows_of(read_text(path, string, separator_in(string, wanted)), "line"))
    if not rows:
        return Table([], [])
    columns = without_blank_end(rows[0].cells)
    table = Table(columns, [])
    for row in rows[1:]:
        if any(row.cells[len(columns) :]):
            shown = excerpt(str(without_blank_end(row.cells)))
            more = f"{row.place} has more values than there are columns: {shown}"
            raise BadInput(f"{path}, {more}")
        cells = row.cells[: len(columns)]
        table.rows.append(Row(row.place, cells + [""] * (len(columns) - len(cells))))
    return table


def is_excel(path: Path, content: bytes) -> bool:
    """Return whether a file is one of Excel; raise BadInput if its name says something else."""
    is_named_so = path.suffix.lower() in EXCEL
    is_sheet = content.startswith(b"PK") and b"xl/" in content
    if is_sheet and not is_named_so:
        raise BadInput(f"{path} is an Excel file: call it {path.stem}.xlsx")
    if content.startswith(b"\xd0\xcf\x11\xe0"):
        raise BadInput(f"{path} is an Excel file that is old or encrypted: save it as .xlsx")
    if is_named_so and not is_sheet:
        raise BadInput(f"{path} is no Excel file, for all its name: if it is a text, call it .csv")
    return is_sheet


def decode(content: bytes) -> str:
    """Return what a text says, in UTF-8, UTF-16 or the country's own letters."""
    encoding = "utf-8-sig"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return content.decode("latin-1")  # a value in which that is wrong is named as unknown


def first_line(string: str) -> str:
    """Return the first line of a text that is not blank, "" if there is none."""
    return next(filter(str.strip, io.StringIO(string, newline=None)), "").strip()


def separator_in(string: str, wanted: Collection[str]) -> str:
    """Return what separates the values of a text; where all would do as well, a comma."""
    header = first_line(string)
    most = 0, ""
    for separator in SEPARATORS:
        names = next(csv.reader([header], delimiter=separator), [])
        if {name.strip().casefold() for name in names} & set(wanted):
            return separator
        if len(names) > most[0]:
            most = len(names), separator
    return most[1] or ","


def read_text(path: Path, string: str, separator: str) -> pd.DataFrame:
    """Return the cells of a text, in as many columns as its longest row has; raise BadInput."""
    import pandas as pd

    csv.field_size_limit(max(csv.field_size_limit(), len(string) + 1))
    lines = io.StringIO(string, newline=None)
    rows = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    width = max(map(len, rows), default=0)  # pandas leaves out what a first row has beyond that
    lines.seek(0)
    try:
        return pd.read_csv(
            lines,
            sep=separator,
            header=None,
            names=list(range(width)),
            index_col=False,
            dtype=str,
            na_filter=False,
            skip_blank_lines=False,
            skipinitialspace=True,
            engine="python",  # which takes quotes strictly
        )
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except pd.errors.ParserError as error:
        line = string.count("\n", 0, lines.tell())
        raise BadInput(f"cannot read {path}, line {line or 1}: {error}") from None


def read_sheet(path: Path, content: bytes) -> pd.DataFrame:
    """Return the cells of the first sheet of an Excel file; raise BadInput."""
    import pandas as pd

    try:
        with warnings.catch_warnings(action="ignore"):  # of what Excel has and openpyxl has not
            return pd.read_excel(
                io.BytesIO(content),
                sheet_name=0,
                header=None,
                dtype=object,
                na_filter=False,
                engine="openpyxl",
            )
    except ImportError:
        raise
    except Exception as error:  # of zipfile, XML and openpyxl
        raise BadInput(f"cannot read {path} as an Excel file: {error}") from None


def rows_of(cells: pd.DataFrame, called: str) -> Iterator[Row]:
    """Yield the rows that are not blank, as strings; a cell can be of several lines."""
    number = 1
    for values in cells.itertuples(index=False, name=None):
        row = Row(f"{called} {number}", [string_of(value) for value in values])
        if any(row.cells):
            yield row
        number += 1
        if called == "line":
            number += sum(cell.count("\n") for cell in row.cells)


def string_of(value: Any) -> str:
    """Return what a cell says, as a CSV of the same table would; "" for a blank one."""
    if isinstance(value, str):
        return value.strip()
    if value is None or value != value:  # NaN, which is an error in Excel
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime):
        is_day = value.time() == time()
        return (value.date() if is_day else value).isoformat()
    return value.isoformat() if isinstance(value, date | time) else str(value)


def without_blank_end(cells: list[str]) -> list[str]:
    """Return the cells of a row, less the blank ones at its end."""
    end = len(cells)
    while end and not cells[end - 1]:
        end -= 1
    return cells[:end]
