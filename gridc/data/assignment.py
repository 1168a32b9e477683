"""Which columns of a table each input and output takes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gridc.arrays.signature import Signature
from gridc.data import cells
from gridc.data.reading import Reading
from gridc.data.table import MISSING, Table
from gridc.errors import DataError, listed, nearest


def input_columns(table: Table, how: Reading, used: set[str], targets: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Choose the columns of every input, of which a single one takes all that are not ``used``; DataError where one has none.

    What is predicted from a series may be read, too: where nothing else is left, a single input takes the columns of the
    ``targets``."""
    inputs = {name: columns_of(table, how, "input", name, how.inputs.get(name)) for name in how.spec.inputs}
    for name, columns in inputs.items():
        if not columns and len(inputs) == 1:
            columns += [column for column in table.columns if column not in used]
            if not columns and how.series is not None:
                columns += dict.fromkeys(column for target in targets.values() for column in target)
            if how.spec.inputs[name].kind == "features":
                _all_numbers(table, name, columns)
        if not columns:
            raise DataError(f"{table.path} has no column for the input '{name}'; it has {listed(table.columns, 'and')}"
                            f"{nearest(name, table.columns) or _naming('inputs', name, table)}")  # fmt: skip
    return inputs


def output_columns(table: Table, how: Reading) -> dict[str, list[str]]:
    """Choose the columns of every output; DataError where one has none and targets are needed."""
    chosen: dict[str, list[str]] = {}
    for name in how.spec.outputs:
        given = how.outputs.get(name)
        if how.targets:
            chosen[name] = columns_of(table, how, "output", name, given)
            if not chosen[name] and table.label and len(how.spec.outputs) == 1:
                chosen[name] = [table.label]
            if not chosen[name]:
                raise DataError(f"{table.path} has no column for the output '{name}'; it has {listed(table.columns, 'and')}"
                                f"{nearest(name, table.columns) or _naming('outputs', name, table)}")  # fmt: skip
        else:  # not to be read, but no input either
            known = [given] if isinstance(given, str) else given or (how.signature or Signature()).columns.get(name) or ()
            chosen[name] = [column for column in known if column in table.columns]
            chosen[name] = chosen[name] or columns_of(table, how, "output", name, None, strict=False)
            if not chosen[name] and table.label and len(how.spec.outputs) == 1:
                chosen[name] = [table.label]
    return chosen


def columns_of(
    table: Table, how: Reading, what: str, name: str, given: str | list[str] | None, strict: bool = True
) -> list[str]:
    """List the columns of an input or output, in order; none where there is none of its name."""
    trained = () if how.signature is None or not strict else how.signature.columns.get(name, ())
    names = [given] if isinstance(given, str) else list(given or trained)
    for column in names:
        if column not in table.columns:
            why = "" if given is not None else f", which the model was trained on (its columns: {listed(names, 'and')})"
            raise DataError(f"{table.path} has no column '{column}' for the {what} '{name}'{why}; it has "
                            f"{listed(table.columns, 'and')}{nearest(column, table.columns)}")  # fmt: skip
    if names:
        return names
    return [name] if name in table.columns else _numbered(table, what, name, strict)


def _numbered(table: Table, what: str, name: str, strict: bool) -> list[str]:
    """List NAME_0, NAME_1..., or NAME_1, NAME_2..., by number; DataError where one of them is missing or there twice."""
    pattern = re.compile(rf"{re.escape(name)}_(\d+)")
    found = sorted((int(match[1]), column) for column in table.columns if (match := pattern.fullmatch(column)))
    numbers = [number for number, _ in found]
    if strict and found:
        expected = range(min(numbers[0], 1), min(numbers[0], 1) + len(numbers))
        at = next((at for at, wanted in enumerate(expected) if numbers[at] != wanted), None)
        if at is not None:
            missing, there = f"{name}_{expected[at]}", [column for _, column in found[at:]]
            why = f"has two columns of the number {numbers[at]}" if numbers[at] in numbers[:at] else (
                f"has no column '{missing}' for the {what} '{name}', but {listed(there[:6], 'and')}{' …' * (len(there) > 6)}")
            raise DataError(f"{table.path} {why}. Add it, or name the columns that are meant in the spec: 'data: {{file: …, "
                            f"{what}s: {{{name}: [{', '.join(column for _, column in found[:2])}, …]}}}}'.")  # fmt: skip
    return [column for _, column in found]


def _all_numbers(table: Table, name: str, columns: Sequence[str]) -> None:
    """DataError where an input that takes all columns would take one that does not begin with a number, with those that do."""
    top = {column: table.columns[column][0] for column in columns}
    firsts = replace(table, columns={column: [value] for column, value in top.items()})
    numbers: list[str] = []
    told: DataError | None = None
    for column, value in top.items():
        try:
            if not cells.is_sequence(value) and not cells.several(table, value) and value not in MISSING:
                firsts.numbers(column)
            numbers.append(column)
        except DataError as error:
            told = told or error
    if told is not None and numbers:
        some = ", ".join(numbers[:4]) + ", …" * (len(numbers) > 4)
        raise DataError(f"{told} Name the columns of the input '{name}' in the spec: 'data: {{file: …, inputs: {{{name}: "
                        f"[{some}]}}}}'.")  # fmt: skip


def _naming(part: str, name: str, table: Table) -> str:
    """How a spec says which columns are meant."""
    return f". Name the columns in the spec: 'data: {{file: …, {part}: {{{name}: [{', '.join(list(table.columns)[:2])}, …]}}}}'."
