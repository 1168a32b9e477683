"""Arrays under a spec's names and in its shapes: data sets, and the arrays of a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gridc.arrays.conversion import Array, held, length_vector, named, ragged, shown
from gridc.arrays.dataset import Axes, Dataset, padded
from gridc.errors import DataError, UsageError, listed, nearest
from gridc.language.shapes import input_axes, output_axes
from gridc.language.spec import GridSpec


def from_arrays(
    spec: GridSpec, inputs: Mapping[str, Any], targets: Mapping[str, Any] | None = None, lengths: Mapping[str, Any] | None = None
) -> Dataset:
    """What a call was given, as a data set: arrays, or lists, also of sequences of different lengths, which are padded.

    DataError where something is no mapping of the spec's names, or where lists differ in a way that it has no symbol for.
    """
    inputs = named("inputs", inputs, spec.inputs)
    targets = named("targets", {} if targets is None else targets, spec.outputs)
    lengths = named("lengths", {} if lengths is None else lengths, spec.symbols)
    uneven = [name for name, value in inputs.items() if ragged(value)]
    if not uneven:
        return Dataset(inputs, targets, lengths)
    axis = input_axes(spec)[uneven[0]].axes[0]
    if not isinstance(axis, str):
        raise DataError(f"The sequences of input '{uneven[0]}' have different lengths, expected {axis} steps in each.")
    found = padded(inputs, targets, axis)
    return replace(found, lengths={**found.lengths, **lengths})


def as_dataset(examples: Any, spec: GridSpec) -> Dataset:
    """A data set as it is, or from a tuple of inputs, targets and maybe lengths."""
    if isinstance(examples, Dataset):
        return examples
    if isinstance(examples, tuple) and len(examples) in (2, 3):  # pyright: ignore[reportUnknownArgumentType]
        return from_arrays(spec, *examples)  # pyright: ignore[reportUnknownArgumentType]
    raise UsageError(f"Examples are {type(examples).__name__}, expected a Dataset or a tuple of inputs, targets and lengths.")  # pyright: ignore[reportUnknownArgumentType]


def for_spec(data: Dataset, spec: GridSpec) -> Dataset:
    """The data set under the spec's names and in its shapes; DataError where it does not fit.

    Names may differ where there is one input (or output) only, or one symbol.  A missing last axis of size 1 is added;
    an image is flattened where the spec takes one vector.
    """
    inputs = _renamed(data.inputs, list(spec.inputs), "input", spec.name)
    targets = _renamed(data.targets, list(spec.outputs), "output", spec.name) if data.targets else {}
    lengths = _renamed(data.lengths, list(spec.symbols), "symbol", spec.name, partly=True)
    given, wanted = input_axes(spec), output_axes(spec)
    # A single input or output may bear another name in the data: its vocabulary follows it.
    words = dict(data.vocabularies)
    for old, new in ((data.inputs, inputs), (data.targets, targets)):
        if len(new) == 1 and (name := next(iter(old))) in data.vocabularies:
            words[next(iter(new))] = data.vocabularies[name]
    inputs = {name: _shaped(f"input '{name}'", array, given[name]) for name, array in inputs.items()}
    targets = {name: _shaped(f"the target of '{name}'", array, wanted[name]) for name, array in targets.items()}
    found = [(f"input '{name}'", array, given[name]) for name, array in inputs.items()]
    found += [(f"the target of '{name}'", array, wanted[name]) for name, array in targets.items()]
    return replace(data, vocabularies=words, lengths=_measured(found, lengths), input_axes=given, target_axes=wanted,
                   inputs=inputs, targets=targets)  # fmt: skip


def _measured(found: list[tuple[str, Array, Axes]], lengths: Mapping[str, Array]) -> dict[str, Array]:
    """The lengths as integers that lie within the arrays; DataError where they do not, or where arrays without lengths differ
    along a symbol."""
    sizes: dict[str, tuple[int, str]] = {}
    for what, array, axes in found:
        for axis, size in zip(axes.axes, array.shape[1:], strict=False):
            if not isinstance(axis, str):
                continue
            first, whose = sizes.setdefault(axis, (size, what))
            if size != first and axis not in lengths:
                raise DataError(f"The array of {what} has the shape {list(array.shape)}, which makes '{axis}' {size}, expected "
                                f"the {first} of {whose}.")  # fmt: skip
            sizes[axis] = min((size, what), (first, whose))
    return {symbol: length_vector(symbol, vector, len(found[0][1]), sizes[symbol][0]) if symbol in sizes else vector
            for symbol, vector in lengths.items()}  # fmt: skip


def _renamed(
    arrays: Mapping[str, Array], names: list[str], what: str, spec: str, *, partly: bool = False
) -> dict[str, Array]:
    if len(arrays) == len(names) == 1:
        return dict(zip(names, arrays.values(), strict=True))
    for name in arrays:
        if name not in names:
            has = f"its {what}s are {listed(names, 'and')}" if names else f"it has no {what}"
            raise DataError(f"The data gives '{name}', which is no {what} of '{spec}': {has}{nearest(name, names)}")
    missing = [] if partly else [name for name in names if name not in arrays]
    if missing:
        raise DataError(f"The data does not give the {what} {listed(missing, 'and')} of '{spec}'; "
                        f"it gives {listed(arrays, 'and') or 'nothing'}.")  # fmt: skip
    return {name: arrays[name] for name in names if name in arrays}


def _shaped(what: str, array: Array, axes: Axes) -> Array:
    """The array with the expected number of axes, its numbers whole where they are ids."""
    if array.ndim == len(axes.axes) and axes.real and axes.axes[-1] == 1:
        array = array[..., None]
    elif array.ndim > 2 and axes.real and axes.axes == (int(np.prod(array.shape[1:])),):
        array = array.reshape(len(array), -1)
    pairs = zip(axes.axes, array.shape[1:], strict=False)
    if array.ndim != 1 + len(axes.axes) or any(isinstance(axis, int) and axis != size for axis, size in pairs):
        raise DataError(f"The array of {what} has the shape {list(array.shape)}, expected {axes}.")
    if not array.size:
        raise DataError(f"The array of {what} has the shape {list(array.shape)} and holds nothing, expected at least one example "
                        "and one step.")  # fmt: skip
    wanted = "numbers" if axes.below is None else f"ids from 0 to {axes.below - 1}"
    if array.dtype.kind not in "fiub":
        raise DataError(f"The array of {what} holds {held(array)}, expected {wanted}.")
    if isinstance(array, np.memmap):
        return array  # left on the disk; the grid checks each batch
    if array.dtype.kind == "f" and array.size and not bool(np.isfinite(array).all()):
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise DataError(f"The array of {what} holds NaN or infinity, first in example {row}; expected numbers.")
    if axes.below is None:
        return array
    fractions = array.dtype.kind == "f" and not bool(np.all(array == np.floor(array)))
    if fractions or not 0 <= array.min() <= array.max() < axes.below:
        odd: Array = (array < 0) | (array >= axes.below) | (array != np.floor(array))
        at = tuple(int(i) for i in np.argwhere(odd)[0])
        raise DataError(f"The array of {what} holds {shown(array[at])} in example {at[0]}, expected {wanted}.")
    return array.astype(np.int64) if array.dtype.kind == "f" else array
