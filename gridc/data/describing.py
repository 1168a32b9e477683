"""How examples were read: a line for each array, for people to look at before they train on it."""

from __future__ import annotations

import numpy as np

from gridc.arrays.axes import Axes
from gridc.arrays.conversion import Array
from gridc.arrays.dataset import Dataset
from gridc.errors import printable

SHOWN = 4
"""Words that are listed of a vocabulary."""


def described(data: Dataset) -> dict[str, str]:
    """Say of every input and target of a data set that fits a spec what it is, and which columns it is made of.

    ``{"x": "24 columns x0 … x23, as T 8 × 3 numbers"}``"""
    parts = ((data.inputs, data.input_axes), (data.targets, data.target_axes))
    return {name: _line(data, name, array, axes[name]) for arrays, axes in parts for name, array in arrays.items()}


def _line(data: Dataset, name: str, array: Array, axes: Axes) -> str:
    columns, words = data.signature.columns.get(name, ()), data.vocabularies.get(name, ())
    axes_of = axes.axes[:-1] if axes.real else axes.axes
    shape = [_size(data, size, axis, word) for size, axis, word in zip(array.shape[1:], axes_of, axes.names, strict=False)]
    if axes.real:
        what = f"{array.shape[-1]} number{'s' * (array.shape[-1] > 1)}"
    elif words:
        what = f"one of {len(words)} words ({', '.join(map(repr, words[:SHOWN]))}{', …' * (len(words) > SHOWN)})"
    else:
        what = f"one of {axes.below} ids"
    read = " × ".join([*shape, what])
    if not columns:
        return printable(read)
    first = f"column {columns[0]}" if len(columns) == 1 else f"{len(columns)} columns {columns[0]} … {columns[-1]}"
    return printable(f"{first}, as {read}")


def _size(data: Dataset, size: int, axis: int | str | None, word: str) -> str:
    """Say how long an axis is: ``T 8``, ``T 3 to 8`` where examples differ, ``row 28`` where the spec says it."""
    if not isinstance(axis, str):
        return f"{word} {size}"
    lengths = data.lengths.get(axis)
    least = size if lengths is None else int(np.min(lengths))
    return f"{axis} {size}" if least == size else f"{axis} {least} to {size}"
