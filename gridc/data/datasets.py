"""Examples as arrays: split by seed, padded and cut to their longest, fitted to a spec's inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gridc.data.conversion import Array, as_array, held, length_vector, named, ragged, real, shown
from gridc.errors import DataError, UsageError, listed, nearest

if TYPE_CHECKING:
    from gridc.language.spec import GridSpec

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
        counts: dict[str, int] = {}
        for part, what in (("inputs", "input '{}'"), ("targets", "target '{}'"), ("lengths", "lengths of '{}'")):
            given: Mapping[str, Any] = getattr(self, part)
            if any(type(value) not in (np.ndarray, np.memmap) for value in given.values()):
                given = {name: as_array(what.format(name), value) for name, value in given.items()}
                object.__setattr__(self, part, given)
            for name, array in given.items():
                if not array.ndim:
                    raise DataError(f"{what.format(name)}: found a single value; expected an array with an entry for each "
                                    "example")  # fmt: skip
                counts[name] = len(array)
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

        def made(what: str, array: Array, axes: Axes | None) -> Array:
            array = np.asarray(array)
            if axes is None:
                return array
            if longest:
                cut = tuple(slice(longest.get(axis)) if isinstance(axis, str) else slice(None) for axis in axes.axes)
                array = array[(slice(None), *cut)]
            return np.ascontiguousarray(real(what, array, dtype) if axes.real else array)

        return replace(
            self,
            inputs={name: made(f"input '{name}'", array, self.input_axes.get(name)) for name, array in self.inputs.items()},
            targets={name: made(f"target '{name}'", array, self.target_axes.get(name)) for name, array in self.targets.items()},
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
        items = [as_array(f"'{name}'", item) for item in value]
        if not items or any(item.ndim == 0 for item in items):
            return as_array(f"'{name}'", value)
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
