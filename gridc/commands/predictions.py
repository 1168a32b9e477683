"""Predictions as files that people open: CSV, JSON, NumPy; and text drawn from a language model."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gridc.errors import DataError, UsageError, listed

if TYPE_CHECKING:
    from gridc.arrays.dataset import Array, Dataset
    from gridc.grid import Grid
    from gridc.language.spec import GridSpec, Output

FORMULA = ("=", "+", "-", "@", "\t", "\r")
KINDS = ("csv", "json", "npz")
Words = Mapping[str, tuple[str, ...]]


def kind_of(output: str | None, json_: bool) -> str:
    """Which format a file's name asks for."""
    if output is None or output == "-":
        return "json" if json_ else "csv"
    kind = Path(output).suffix[1:].lower()
    if kind not in KINDS:
        raise UsageError(f"Predictions are written as {listed(KINDS)}; found the name {output}.")
    return kind


def written(spec: GridSpec, found: Mapping[str, Array], data: Dataset, words: Words, kind: str) -> str | bytes:
    """Write the predictions of every example in that format: bytes for ``npz``, else text."""
    if kind == "npz":
        arrays: dict[str, Any] = dict(found) if data.files is None else {_file_column(found): data.files.astype(str), **found}
        return _npz(arrays)
    columns = _columns(spec, found, data, words)
    if kind == "json":
        return json.dumps([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
                          indent=1, ensure_ascii=False)  # fmt: skip
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_cell, columns))
    writer.writerows([_cell(entry) for entry in row] for row in zip(*columns.values(), strict=True))
    return text.getvalue()


def _cell(entry: Any) -> str:
    """One field of a table; a sequence stands in one field, with spaces between.

    A word that a spreadsheet would take for a formula begins with an apostrophe, which it takes for text."""
    if isinstance(entry, str):
        return f"'{entry}" if entry.startswith(FORMULA) and not _is_number(entry) else entry
    if isinstance(entry, list):
        return " ".join(_cell(e) for e in entry)  # pyright: ignore[reportUnknownVariableType]
    return f"{entry:.6g}" if isinstance(entry, float) else str(entry)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _columns(spec: GridSpec, found: Mapping[str, Array], data: Dataset, words: Words) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {} if data.files is None else {_file_column(found): data.files.tolist()}
    for name, array in found.items():
        output, known = spec.outputs[name], words.get(name, ())
        # An example's own part of an axis that a symbol measures.
        cuts = [_cut(spec, output, data, row) for row in range(len(array))]
        parts = [one[cut] for one, cut in zip(array, cuts, strict=True)]
        if output.kind == "classes":
            labels = known[: output.size] or tuple(map(str, range(output.size)))
            # A class that no word stands for was never trained on, and is none to be found.
            columns[name] = [_labelled(part[..., : len(labels)].argmax(axis=-1), labels) for part in parts]
            if not output.axes and output.size <= 100:
                for i, label in enumerate(labels):
                    columns[f"{name}={label}"] = [float(part[i]) for part in parts]
        elif output.kind == "binary":
            decided = [(part > 0.5).astype(np.int64) for part in parts]
            columns[name] = [_labelled(part, known) if len(known) == 2 else part.tolist() for part in decided]
            columns[f"{name}={known[1] if len(known) == 2 else 1}"] = [part.tolist() for part in parts]
        elif output.size == 1 or output.axes:
            columns[name] = [part.reshape(-1).tolist() if output.axes else float(part[0]) for part in parts]
        else:
            for i in range(output.size):
                columns[f"{name}_{i}"] = [float(part[i]) for part in parts]
    return columns


def _npz(arrays: Mapping[str, Array]) -> bytes:
    """Write arrays under any names; NumPy's own function takes 'file' for its argument."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as whole:
        for name, array in arrays.items():
            with whole.open(f"{name}.npy", "w", force_zip64=True) as one:
                np.lib.format.write_array(one, array, allow_pickle=False)
    return buffer.getvalue()


def _file_column(found: Mapping[str, Array]) -> str:
    """Name the column that says which file was predicted."""
    return "file" if "file" not in found else "example_file"


def _cut(spec: GridSpec, output: Output, data: Dataset, row: int) -> tuple[slice, ...]:
    sizes = [spec.dimensions[d].size for d in output.axes]
    return tuple(slice(int(data.lengths[s][row])) if isinstance(s, str) and s in data.lengths else slice(None) for s in sizes)


def _labelled(ids: Array, labels: tuple[str, ...]) -> Any:
    return labels[int(ids)] if ids.ndim == 0 else [_labelled(one, labels) for one in ids]


def sampled(grid: Grid, words: Words, prompt: str, length: int, temperature: float, seed: int) -> str:
    """Write the prompt, and as many symbols more, each drawn from what the grid predicts after those before it.

    Raises UsageError where the grid is no language model, DataError where ``words`` says nothing of its ids."""
    from gridc import experiment
    from gridc.data import text, writing

    x, _ = writing.ends(grid.spec)
    known = words.get(x.name)
    if not known:
        raise DataError("The model holds no vocabulary, so its ids stand for no text; train it from a text file.")
    how = experiment.reading(grid.spec, targets=False)
    start = text.symbols(prompt, how.by) or [known[0] if "\n" not in known else "\n"]
    begin: list[int] = text.ids(start, known, "The prompt").tolist()
    drawn = writing.write(grid, begin, length, temperature=temperature, seed=seed, window=how.window, below=len(known))
    return text.joined([known[i] for i in (*(begin if prompt else ()), *drawn)], how.by)
