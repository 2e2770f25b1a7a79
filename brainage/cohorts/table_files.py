"""CSV and TSV files as text cells, before anybody asks what they mean."""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from brainage.errors import CohortError

DELIMITERS = ",;\t|"

_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""First bytes of .xlsx and .ods, and of .xls."""
_EXCEL_DELIMITER = re.compile(rf'"?sep=([{DELIMITERS}])"?(?=[\r\n])', re.IGNORECASE)
"""First line by which Excel is told the delimiter."""
_DECIMAL = re.compile(r"[+-]?(?:0([.,])[0-9]+|[0-9]+([.,])(?:[0-9]{1,2}|[0-9]{4,}))")
"""A number with a mark that cannot group thousands."""
_EXCEL_TEXT = re.compile(r'="(.*)"')
"""By which a spreadsheet is made to leave 007 as it is."""
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, eq=False)
class RawTable:
    """Rows of a cohort as they were found.

    Attributes
    ----------
    source : str
        File or folder, for messages.
    folder : Path
        Where relative paths start.
    frame : pandas.DataFrame (N, columns)
        Original columns; every cell is text.
    notes : pandas.DataFrame (N, 4)
        `label` (how a message calls the row), `number` (of the row), `problem` (why it cannot
        be used, or empty) and `surplus` (left out without counting as bad).
    roles : mapping of str to str
        Standard name to column where the source itself decides it.
    decimal_comma : bool
        Numbers are written as 0,8.
    units : mapping of str to str
        Unit that a data dictionary gives to a column.
    legends : mapping of str to mapping of str to str
        Meaning of a column's codes, from a data dictionary.
    remarks : tuple of str
        What was decided while reading, to be said on screen.
    people : str
        The file in which columns are looked for; empty where there is none.
    """

    source: str
    folder: Path
    frame: pd.DataFrame
    notes: pd.DataFrame
    roles: Mapping[str, str] = field(default_factory=dict)
    decimal_comma: bool = False
    units: Mapping[str, str] = field(default_factory=dict)
    legends: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    people: str = ""


def read_table(path: Path) -> RawTable:
    """Read a CSV or TSV file; the delimiter is the commonest of ``, ; tab |`` in the header.

    A first line ``sep=;``, as Excel knows it, says the delimiter. Lines that begin with ``#`` are
    comments, and are counted in the remarks.

    Returns
    -------
    RawTable
        Row numbers are line numbers of the file, as a text editor counts them.

    Raises
    ------
    CohortError
        If the file cannot be read, is not UTF-8 text, has no rows, or its header or a row does
        not fit.
    """
    text = _read_text(path)
    told = _EXCEL_DELIMITER.match(text)
    if told is not None:
        text = text[told.end() :]  # its line end stays, so that lines keep their numbers
    lines = (line for line in text.splitlines() if line.strip() and not _is_comment(line))
    header_line = next(lines, "")
    delimiter = told[1] if told else max(DELIMITERS, key=header_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        rows = [(reader.line_num, [_read_cell(cell) for cell in row]) for row in reader]
    except csv.Error as error:
        raise CohortError(str(path), f"line {reader.line_num}: {error}.") from error
    comments = sum(_is_comment(row[0]) for _, row in rows if row)
    rows = [(number, row) for number, row in rows if any(row) and not _is_comment(row[0])]
    if len(rows) < 2:
        raise CohortError(str(path), "the table has no rows.", "Write a header and one row a scan.")
    header = _name_columns(rows[0][1], path)
    cells = [_fit(row, len(header), path, number) for number, row in rows[1:]]
    numbers = [number for number, _ in rows[1:]]
    notes = pd.DataFrame(
        {
            "label": [f"line {number}" for number in numbers],
            "number": numbers,
            "problem": "",
            "surplus": False,
        }
    )
    frame = pd.DataFrame(cells, columns=header, dtype=str)
    remarks = (f"{path.name}: {comments} lines are comments (#).",) if comments else ()
    return RawTable(
        source=str(path),
        folder=path.parent,
        frame=frame,
        notes=notes,
        decimal_comma=delimiter != "," and _has_decimal_commas(cells, delimiter == ";"),
        remarks=remarks,
        people=str(path),
    )


def _read_cell(cell: str) -> str:
    told = _EXCEL_TEXT.fullmatch(cell.strip())
    return told[1].strip() if told else cell.strip()


def _has_decimal_commas(rows: list[list[str]], is_usual: bool) -> bool:
    """Whether the comma is the decimal mark: by numbers that show it, else as usual."""
    found = (_DECIMAL.fullmatch(cell) for row in rows for cell in row)
    marks = {match[1] or match[2] for match in found if match}
    return "," in marks or (is_usual and "." not in marks)


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CohortError(str(path), f"cannot be read ({error.strerror}).") from error
    if content.startswith(_SPREADSHEETS):
        remedy = "Save the sheet as CSV in UTF-8."
        raise CohortError(str(path), "is a spreadsheet, not a table of text.", remedy)
    try:
        text = content.decode("utf-16" if content.startswith(_UTF16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 text (byte {error.object[error.start]:#04x} at {error.start})."
        remedy = (
            "Save it as CSV in UTF-8; a Latin-1 file is converted by "
            "`iconv -f latin1 -t utf-8 old.csv > new.csv`."
        )
        raise CohortError(str(path), problem, remedy) from error
    if "\0" in text:
        problem = f"is not a table of text (a zero byte at {text.index(chr(0))})."
        raise CohortError(str(path), problem, "Save it as CSV in UTF-8.")
    return text


def _name_columns(header: list[str], path: Path) -> list[str]:
    # A table saved with its row index has a first column without a name.
    named = [name or f"unnamed_{number}" for number, name in enumerate(header, start=1)]
    twice = [name for name, count in Counter(named).items() if count > 1]
    if twice:
        listed = ", ".join(repr(name) for name in twice)
        raise CohortError(str(path), f"the header names {listed} more than once.", "Rename them.")
    return named


def _fit(row: list[str], width: int, path: Path, number: int) -> list[str]:
    """Fill a short row with empty cells; a long one may only have empty cells too many."""
    if any(row[width:]):
        problem = f"line {number} has {len(row)} cells, but the header has {width}."
        raise CohortError(str(path), problem, "Put text that holds the delimiter in quotes.")
    return row[:width] + [""] * (width - len(row))
