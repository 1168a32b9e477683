"""Files of labelled series: .ts, as the UCR and UEA archives and aeon write them, and Weka's .arff, as tables of lists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from gridc.data.separated import not_text
from gridc.data.table import Table
from gridc.errors import DataError

LABEL = "label"


def read_ts(path: Path) -> Table:
    """Read a .ts file: the columns ``dim_0``, ``dim_1``... hold each case's series, a list of numbers, and ``label`` its class or
    its number.  DataError names the line that is no case, or a number that is missing.

    Source: the format's description in the documentation of aeon, "Loading data from files"."""
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise not_text(path, error) from None
    told: dict[str, str] = {}
    cases: list[tuple[int, list[str]]] = []
    began = False
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith(("#", "%")):
            continue
        if line.startswith("@") and not began:
            word, _, rest = line[1:].partition(" ")
            began = word.lower() == "data"
            told[word.lower()] = rest.strip()
        elif not began:
            raise DataError(f"{path}, line {number}: {line[:40]!r}, expected a line that begins with '@' before '@data'.")
        else:
            cases.append((number, [part.strip() for part in line.split(":")]))
    if not cases:
        raise DataError(f"{path} has no cases after '@data'.")
    if told.get("timestamps", "false").lower() == "true":
        raise DataError(f"{path} gives the time of every number ('@timeStamps true'), expected series of equal steps without.")
    classes, targets = told.get("classlabel", "false").split(), told.get("targetlabel", "false").split()
    labelled = any(words and words[0].lower() == "true" for words in (classes, targets))
    dimensions = len(cases[0][1]) - labelled
    columns: dict[str, list[Any]] = {f"dim_{d}": [] for d in range(dimensions)}
    labels: list[str] = []
    for number, parts in cases:
        if len(parts) != dimensions + labelled:
            raise DataError(f"{path}, line {number}: {len(parts) - labelled} series{' and a label' * labelled}, expected the "
                            f"{dimensions} of the first case.")  # fmt: skip
        for column, part in zip(columns.values(), parts, strict=False):
            column.append(_series(path, number, part))
        labels += parts[dimensions:]
    declared = {LABEL: tuple(sorted(set(classes[1:])))} if labelled and classes and classes[0].lower() == "true" else {}
    if not labelled:
        return Table(path, columns, 1)
    return Table(path, {**columns, LABEL: labels}, 1, declared=declared, label=LABEL)


def _series(path: Path, number: int, text: str) -> list[float]:
    values = [value.strip() for value in text.split(",")]
    if "?" in values or "NaN" in values:
        first = next(i for i, value in enumerate(values) if value in ("?", "NaN"))
        if any(value not in ("?", "NaN") for value in values[first:]):
            raise DataError(f"{path}, line {number}: number {first + 1} of a series is missing; fill it in before.")
        values = values[:first]  # what is missing at the end alone is a shorter series
    try:
        return [float(value) for value in values]
    except ValueError:
        odd = next(value for value in values if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value))
        raise DataError(f"{path}, line {number}: {odd[:40]!r}, expected numbers with commas between them.") from None


def read_arff(path: Path) -> Table:
    """Read an .arff file: its attributes are the columns, the nominal ones words; each row of a relational one is a column of
    lists.  DataError where it is none, or has what SciPy does not read (attributes of strings)."""
    arff: Any = importlib.import_module("scipy.io.arff")
    try:
        with path.open(encoding="utf-8-sig") as file:
            rows, meta = arff.loadarff(file)
    except UnicodeDecodeError as error:
        raise not_text(path, error) from None
    except Exception as error:  # its own, and whatever a line of another shape ends in
        why = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read as .arff: {why}.") from None
    if not len(rows):
        raise DataError(f"{path} has no rows after '@data'.")
    columns: dict[str, list[Any]] = {}
    declared: dict[str, tuple[str, ...]] = {}
    for name in meta.names():
        kind, values = meta[name]
        if kind == "relational":
            columns |= _relational(rows[name])
        elif kind == "nominal":
            columns[name] = [value.decode() if isinstance(value, bytes) else str(value) for value in rows[name]]
            columns[name] = [None if value == "?" else value for value in columns[name]]
            declared[name] = tuple(sorted(values))
        else:
            columns[name] = rows[name].tolist()
    last = meta.names()[-1]
    return Table(path, columns, 1, declared=declared, label=last if last in declared or len(columns) > 1 else None)


def _relational(bags: Any) -> dict[str, list[Any]]:
    """Lay a relational attribute out, whose rows are the dimensions of a case and whose attributes are its steps."""
    found: dict[str, list[Any]] = {}
    for bag in bags:
        for d, row in enumerate(bag):
            steps = np.array([float(value) for value in row], np.float64)
            ends = np.flatnonzero(~np.isnan(steps))  # what is missing at the end alone is a shorter series
            found.setdefault(f"dim_{d}", []).append(steps[: ends[-1] + 1 if ends.size else 0].tolist())
    return found
