"""Examples as arrays: split by seed, padded and cut to their longest, fitted to a spec's inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gridc.errors import DataError, listed, nearest

if TYPE_CHECKING:
    from gridc.language.spec import GridSpec

Array = NDArray[Any]

SPLIT, SHUFFLE, SAMPLE, MASKS = 1, 2, 3, 4
"""Second words of the seeds, so that one seed gives independent streams for splitting, shuffling and sampling."""


@dataclass(frozen=True)
class Axes:
    """What a spec says of one array: its axes after the batch (a size, a symbol, or None for any), whether it holds
    real numbers, and where it holds ids the number that they are ``below``."""

    axes: tuple[int | str | None, ...]
    real: bool
    below: int | None = None

    def __str__(self) -> str:
        return f"[{', '.join(['examples', *('any' if axis is None else str(axis) for axis in self.axes)])}]"


@dataclass(frozen=True)
class Dataset:
    """Examples: arrays by the name of the input or output, batch first, and each example's own lengths.

    ``inputs`` and ``targets`` hold ``[examples, ...]``; ``lengths`` maps a symbol to ``[examples]`` integers;
    ``vocabularies`` maps an input or output to what its ids stand for, in order; the axes are known once the data
    set is fitted to a spec (``for_spec``).
    """

    inputs: Mapping[str, Array]
    targets: Mapping[str, Array]
    lengths: Mapping[str, Array] = field(default_factory=dict[str, Array])
    vocabularies: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    input_axes: Mapping[str, Axes] = field(default_factory=dict[str, Axes], repr=False)
    target_axes: Mapping[str, Axes] = field(default_factory=dict[str, Axes], repr=False)

    def __post_init__(self) -> None:
        parts = (self.inputs, self.targets, self.lengths)
        counts = {name: len(array) for part in parts for name, array in part.items()}
        if len(set(counts.values())) > 1:
            told = listed((f"{count} of '{name}'" for name, count in counts.items()), "and")
            raise DataError(f"The arrays hold different numbers of examples: {told}.")

    def __len__(self) -> int:
        """How many examples."""
        return len(next(iter([*self.inputs.values(), *self.targets.values()]), ()))

    def take(self, rows: Array | slice) -> Dataset:
        """The examples at these rows; from a memory-mapped file only those are read."""
        parts = (self.inputs, self.targets, self.lengths)
        inputs, targets, lengths = ({name: array[rows] for name, array in part.items()} for part in parts)
        return replace(self, inputs=inputs, targets=targets, lengths=lengths)

    def split(self, held_out: float, seed: int = 0) -> tuple[Dataset, Dataset | None]:
        """Two data sets, the second with that share of the examples, drawn by seed; None where that is none of them."""
        count = round(len(self) * held_out)
        if not count:
            return self, None
        if count >= len(self):
            raise DataError(f"Holding out {held_out:g} of {len(self)} examples leaves none to train on.")
        order = np.random.default_rng([seed, SPLIT]).permutation(len(self))
        return self.take(np.sort(order[count:])), self.take(np.sort(order[:count]))

    def ready(self, dtype: str = "float32") -> Dataset:
        """The same examples as a grid takes them: cut to the longest of them, numbers in its type."""
        longest = {symbol: int(lengths.max()) for symbol, lengths in self.lengths.items() if len(lengths)}

        def made(array: Array, axes: Axes | None) -> Array:
            array = np.asarray(array)
            if axes is None:
                return array
            if longest:
                cut = tuple(slice(longest.get(axis)) if isinstance(axis, str) else slice(None) for axis in axes.axes)
                array = array[(slice(None), *cut)]
            if axes.real and array.dtype != dtype:
                array = array.astype(dtype)
            return np.ascontiguousarray(array)

        return replace(
            self,
            inputs={name: made(array, self.input_axes.get(name)) for name, array in self.inputs.items()},
            targets={name: made(array, self.target_axes.get(name)) for name, array in self.targets.items()},
        )

    @cached_property
    def fingerprint(self) -> str:
        """A hash that tells this data set from others: shapes, types, and up to 64 examples spread over it."""
        from gridc.model_file import hash_of

        rows = np.unique(np.linspace(0, max(len(self) - 1, 0), 64).astype(np.int64))
        parts = {"inputs": self.inputs, "targets": self.targets, "lengths": self.lengths}
        return hash_of({f"{part} {name} {array.shape}": np.asarray(array[rows if len(self) else slice(0)])
                        for part, arrays in parts.items() for name, array in arrays.items()})  # fmt: skip


def padded(
    inputs: Mapping[str, Sequence[Any] | Array], targets: Mapping[str, Sequence[Any] | Array], symbol: str
) -> Dataset:
    """A data set from sequences of different lengths, filled up with zeros behind each one's end.

    Every input and target is an array ``[examples, ...]``, or a list of one array an example, ``[length, ...]``; all
    the lists of one example are equally long.  ``symbol`` is the spec's name for the length.
    """
    lengths: Array | None = None
    whose = ""

    def filled(name: str, value: Sequence[Any] | Array) -> Array:
        nonlocal lengths, whose
        if isinstance(value, np.ndarray):
            return value
        items = [np.asarray(item) for item in value]
        if not items or any(item.ndim == 0 for item in items):
            return np.asarray(value)
        shapes = {item.shape[1:] for item in items}
        if len(shapes) > 1:
            raise DataError(f"'{name}': the sequences' steps have different shapes, {listed(sorted(shapes), 'and')}.")
        own = np.array([len(item) for item in items], np.int64)
        if lengths is None:
            lengths, whose = own, name
        elif len(own) == len(lengths) and (odd := np.flatnonzero(own != lengths)).size:
            raise DataError(f"Example {odd[0]} has {own[odd[0]]} steps in '{name}' and {lengths[odd[0]]} in '{whose}'.")
        whole = np.zeros((len(items), int(own.max()), *items[0].shape[1:]), np.result_type(*{i.dtype for i in items}))
        for row, item in enumerate(items):
            whole[row, : len(item)] = item
        return whole

    given = {name: filled(name, value) for name, value in inputs.items()}
    wanted = {name: filled(name, value) for name, value in targets.items()}
    return Dataset(given, wanted, {} if lengths is None else {symbol: lengths})


def from_arrays(
    spec: GridSpec, inputs: Mapping[str, Any], targets: Mapping[str, Any] | None = None, lengths: Mapping[str, Any] | None = None
) -> Dataset:
    """What a call was given, as a data set: arrays, or lists, also of sequences of different lengths, which are padded.

    DataError where something is no mapping of names, or where lists differ in a way that the spec has no symbol for.
    """
    parts: list[dict[str, Any]] = []
    for what, given, names in (("inputs", inputs, spec.inputs), ("targets", targets, spec.outputs),
                               ("lengths", lengths, spec.symbols)):  # fmt: skip
        if not isinstance(given, Mapping | None):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may be untyped
            some = f"{{'{next(iter(names))}': …}}" if names else "{}"
            raise DataError(f"The {what} are {type(given).__name__}, expected a mapping of names to arrays, such as {some}.")
        parts.append(dict(given or {}))
    uneven = [name for name in parts[0] if name in spec.inputs and ragged(parts[0][name])]
    if not uneven:
        inputs, targets, lengths = ({name: np.asarray(value) for name, value in part.items()} for part in parts)
        return Dataset(inputs, targets, lengths)
    axis = input_axes(spec)[uneven[0]].axes[0]
    if not isinstance(axis, str):
        raise DataError(f"The sequences of input '{uneven[0]}' have different lengths, expected {axis} steps in each.")
    found = padded(parts[0], parts[1], axis)
    return replace(found, lengths={**found.lengths, **{name: np.asarray(value) for name, value in parts[2].items()}})


def ragged(value: Any) -> bool:
    """Whether it is a list of sequences that are not equally long."""
    return isinstance(value, list | tuple) and len({np.shape(item)[:1] for item in value}) > 1  # pyright: ignore


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
    return replace(
        data, vocabularies=words, lengths=lengths, input_axes=given, target_axes=wanted,
        inputs={name: _shaped(f"input '{name}'", array, given[name]) for name, array in inputs.items()},
        targets={name: _shaped(f"the target of '{name}'", array, wanted[name]) for name, array in targets.items()},
    )  # fmt: skip


def input_axes(spec: GridSpec) -> dict[str, Axes]:
    """The axes of every input's array."""
    axes: dict[str, Axes] = {}
    for name, one in spec.inputs.items():
        real = one.kind == "features"
        if one.facts:
            axes[name] = Axes((None, one.size if real else None), real, None if real else one.size)
        else:
            sizes = tuple(spec.dimensions[d].size for d in one.over)
            axes[name] = Axes((*sizes, one.size) if real else sizes, real, None if real else one.size)
    return axes


def output_axes(spec: GridSpec) -> dict[str, Axes]:
    """The axes of every output's target."""
    axes: dict[str, Axes] = {}
    for name, one in spec.outputs.items():
        real = one.kind in ("features", "raw")
        sizes = tuple(spec.dimensions[d].size for d in one.axes)
        classes = {"classes": one.size, "binary": 2}.get(one.kind)
        axes[name] = Axes((*sizes, one.size) if real else sizes, real, classes)
    return axes


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
    if array.dtype.kind not in "fiub":
        held = "text" if array.dtype.kind in "UST" else "Python objects" if array.dtype.kind == "O" else str(array.dtype)
        wanted = "numbers" if axes.below is None else f"ids from 0 to {axes.below - 1}"
        raise DataError(f"The array of {what} holds {held}, expected {wanted}.")
    if isinstance(array, np.memmap):
        return array  # left on the disk; the grid checks each batch
    if array.dtype.kind == "f" and array.size and not bool(np.isfinite(array).all()):
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise DataError(f"The array of {what} holds NaN or infinity, first in example {row}; expected numbers.")
    if axes.below is None:
        return array
    if array.dtype.kind == "f":
        if not bool(np.all(array == np.floor(array))):
            raise DataError(f"The array of {what} holds fractions, expected whole numbers below {axes.below}.")
        array = array.astype(np.int64)
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < axes.below:
        odd = array.min() if array.min() < 0 else array.max()
        row = int(np.argwhere(array == odd)[0][0])
        raise DataError(f"The array of {what} holds {odd} in example {row}, expected ids from 0 to {axes.below - 1}.")
    return array
