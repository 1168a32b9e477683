"""Tables in files of text: what stands between their columns, comments before their heading, and decimal commas."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

from gridc.data.table import Table, is_number
from gridc.errors import DataError

Rows = list[list[str]]
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
LONGEST = 2**31 - 1
"""Characters of a cell from which Python's reader would refuse it; as many as a C long holds everywhere."""


def read_separated(path: Path, expected: Sequence[str] = (), heading: bool = True) -> Table:
    """Read a .csv or .tsv file, or one of them that gzip has packed; DataError where it is no table in UTF-8.

    Its columns stand between commas, or tabs in a .tsv; where it is plainly otherwise, between semicolons, tabs, bars or spaces,
    and then 1,5 may be a number.  Lines before the heading that begin with # are passed over.  ``expected`` are names that a
    heading may have: one of numbers is a heading where it has them, and so is a comment.  Without a
    ``heading`` the columns are 0, 1, 2, by number."""
    try:
        text = (gzip.decompress if path.suffix.lower() == ".gz" else bytes)(path.read_bytes()).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_text(path, error) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read as a table: {getattr(error, 'strerror', None) or error}.") from None
    lines = list(io.StringIO(text, newline=""))
    comments = 0
    while comments < len(lines) and lines[comments].lstrip().startswith("#"):
        comments += 1
    separator, rows = _separated(path, lines[comments:])
    if heading:
        rows, comments = _headed(lines[:comments], separator, rows, expected)
    elif rows:
        rows, comments = [[str(number) for number in range(len(rows[0]))], *rows], comments - 1
    if len(rows) < 2:
        raise DataError(f"{path} has no rows{' under its heading' * heading}.")
    head = [name.strip() for name in rows[0]]
    for number, row in enumerate(rows[1:], 2 + comments):
        if len(row) != len(head):
            between = "" if separator == "," else f" between {SEPARATORS[separator]}"
            raise DataError(f"{path}, row {number}: {len(row)} fields{between}, expected the {len(head)} of the "
                            f"{'heading' if heading else 'first row'}.")
    if not head[-1] and len(head) > 1 and all(not row[-1] for row in rows[1:]):  # a separator behind every row
        head, rows = head[:-1], [row[:-1] for row in rows]
    if heading and all(map(is_number, head)) and head != [str(n) for n in range(len(head))] and not set(expected) & set(head):
        raise DataError(f"{path} has no heading: its first row holds numbers ({', '.join(head[:3])}{' …' * (len(head) > 3)}); "
                        "write the names of its columns above them, or say so in the spec, 'data: {file: …, heading: false}', "
                        f"and call them 0 to {len(head) - 1} there.")  # fmt: skip
    if len(set(head)) < len(head):
        double = next(name for name in head if head.count(name) > 1)
        raise DataError(f"{path} has two columns named '{double}'.")
    columns = dict(zip(head, map(list, zip(*rows[1:], strict=True)), strict=True))
    return Table(path, columns, 2 + comments, decimal_comma=separator != ",")


def _separated(path: Path, lines: list[str]) -> tuple[str, Rows]:
    """Find what stands between the columns, and the rows without it."""
    if lines and (told := re.fullmatch(r"sep=(.)\s*", lines[0])) and told[1] in SEPARATORS:  # as spreadsheets write it
        return told[1], _rows(path, lines[1:], told[1])
    usual = "\t" if ".tsv" in map(str.lower, path.suffixes) else ","
    head = next((line for line in lines if line.strip()), "")
    rows = _rows(path, lines, usual)
    if usual in head and _even(rows):
        return usual, rows
    others = [one for one in SEPARATORS if one != usual and one in head]
    for one in others:
        found = _rows(path, lines, one)
        # A heading of several words is no proof: with spaces between them, columns of numbers are.
        if _even(found) and (one != " " or all(any(map(is_number, row)) for row in found[1:])):
            return one, found
    likely = [one for one in others if one not in (" ", ",")]
    if usual not in head and likely:
        return likely[0], _rows(path, lines, likely[0])
    return usual, rows


def _rows(path: Path, lines: list[str], separator: str) -> Rows:
    csv.field_size_limit(LONGEST)
    given = (line.strip(" ") for line in lines) if separator == " " else lines
    reader = csv.reader(given, delimiter=separator, skipinitialspace=separator == " ")
    try:
        return [row for row in reader if row]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}, cannot be read as a row of a table: {error}.") from None


def _even(rows: Rows) -> bool:
    return len(rows) > 1 and len(rows[0]) > 1 and all(len(row) == len(rows[0]) for row in rows)


def _headed(comments: list[str], separator: str, rows: Rows, expected: Sequence[str]) -> tuple[Rows, int]:
    """Take the last comment for the heading where it has names that are ``expected``, or where what follows it is none, as NumPy
    writes it: ``# a,b`` above numbers."""
    if comments and rows:
        last = next(csv.reader([comments[-1].lstrip("# \t").strip()], delimiter=separator, skipinitialspace=True), list[str]())
        known = bool(set(last) & set(expected)) and not set(rows[0]) & set(expected)
        if len(last) == len(rows[0]) and (known or (any(map(is_number, rows[0])) and not any(map(is_number, last)))):
            return [last, *rows], len(comments) - 1
    return rows, len(comments)


def not_text(path: Path, error: UnicodeDecodeError) -> DataError:
    """Make the error of a file that is not in UTF-8."""
    byte = f"its byte {error.start + 1:,} is 0x{error.object[error.start]:02x}"
    return DataError(f"{path} cannot be read as text in UTF-8: {byte}; save it as UTF-8.")
