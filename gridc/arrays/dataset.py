"""Examples as arrays: split by seed, padded and cut to their longest, fitted to a spec's inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from gridc.arrays.axes import Axes
from gridc.arrays.conversion import Array, as_array, real
from gridc.arrays.signature import Signature
from gridc.errors import DataError, listed

SPLIT, SHUFFLE, SAMPLE, MASKS = 1, 2, 3, 4
"""Second words of the seeds, so that one seed gives independent streams for splitting, shuffling and sampling."""


@dataclass(frozen=True)
class Dataset:
    """Examples: arrays by the name of the input or output, batch first, and each example's own lengths.

    Attributes:
        inputs: By input, ``[examples, *over, features]`` or ids ``[examples, *over]``.
        targets: By output, ``[examples, *axes, …]``; empty where there is nothing to learn from.
        lengths: By symbol, ``[examples]`` integers.
        vocabularies: By input or output, what its ids stand for, in order.
        signature: How inputs and outputs stood in their file, where they come from one.
        files: Each example's own file, ``[examples]``, where it has one.
        notes: Sentences about what of the file was not taken.
        weights: By output, what each example counts in its loss, ``[examples]``, or each position, ``[examples, *axes]``; 1 where
            there are none.
        apart: Of windows of a series, in the order of time: how many of them share what they tell with the next.
        input_axes: What the axes of each input mean, once the data set is fitted to a spec (``for_spec``).
        target_axes: The same of each output.

    Raises:
        DataError: The arrays hold different numbers of examples.
    """

    inputs: Mapping[str, Array]
    targets: Mapping[str, Array]
    lengths: Mapping[str, Array] = field(default_factory=dict[str, Array])
    vocabularies: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    input_axes: Mapping[str, Axes] = field(default_factory=dict[str, Axes], repr=False)
    target_axes: Mapping[str, Axes] = field(default_factory=dict[str, Axes], repr=False)
    signature: Signature = field(default_factory=Signature, repr=False)
    files: Array | None = field(default=None, repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)
    weights: Mapping[str, Array] = field(default_factory=dict[str, Array], repr=False)
    apart: int | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        counts: dict[str, int] = {}
        for part, what in (("inputs", "input '{}'"), ("targets", "target '{}'"), ("lengths", "lengths of '{}'"),
                           ("weights", "weights of '{}'")):  # fmt: skip
            given: Mapping[str, Any] = getattr(self, part)
            if any(type(value) not in (np.ndarray, np.memmap) for value in given.values()):
                given = {name: as_array(what.format(name), value) for name, value in given.items()}
                object.__setattr__(self, part, given)
            for name, array in given.items():
                if not array.ndim:
                    raise DataError(f"{what.format(name)}: found a single value; expected an array with an entry for each "
                                    "example")  # fmt: skip
                counts[name if part != "weights" else f"weights of {name}"] = len(array)
        if len(set(counts.values())) > 1:
            told = listed((f"{count} of '{name}'" for name, count in counts.items()), "and")
            raise DataError(f"The arrays hold different numbers of examples: {told}.")

    def __len__(self) -> int:
        """How many examples."""
        return len(next(iter([*self.inputs.values(), *self.targets.values()]), ()))

    def take(self, rows: Array | slice) -> Dataset:
        """Take the examples at these rows; from a memory-mapped file only those are read."""
        parts = (self.inputs, self.targets, self.lengths, self.weights)
        inputs, targets, lengths, weights = ({name: array[rows] for name, array in part.items()} for part in parts)
        files = None if self.files is None else self.files[rows]
        return replace(self, inputs=inputs, targets=targets, lengths=lengths, files=files, weights=weights)

    def split(self, held_out: float, seed: int = 0) -> tuple[Dataset, Dataset | None]:
        """Split into two data sets, the second with the share ``held_out`` of the examples, from 0 to below 1, drawn by seed.

        Of windows of a series it has the last, and those before that tell of the same moments are left out.  It is None where
        that is none of them.  Raises DataError where none would be left."""
        count = round(len(self) * held_out)
        if not count:
            return self, None
        kept = len(self) - count - (self.apart or 0)
        if kept <= 0:
            raise DataError(f"Holding out {held_out:g} of {len(self)} examples leaves none to train on.")
        if self.apart is not None:
            return self.take(slice(kept)), self.take(slice(len(self) - count, None))
        order = np.random.default_rng([seed, SPLIT]).permutation(len(self))
        return self.take(np.sort(order[count:])), self.take(np.sort(order[:count]))

    def ready(self, dtype: str = "float32", rows: slice | None = None) -> Dataset:
        """Make the examples, or some ``rows`` of them, what a grid takes: cut to the longest of all, numbers in its type."""
        longest = {symbol: int(lengths.max()) for symbol, lengths in self.lengths.items() if len(lengths)}

        def cut(array: Array, axes: Axes) -> Array:
            ends = (slice(longest.get(axis)) if isinstance(axis, str) else slice(None) for axis in axes.axes)
            return array[(slice(None), *ends)[: array.ndim]] if longest else array

        def made(what: str, array: Array, axes: Axes | None) -> Array:
            array = np.asarray(array)
            if axes is None:
                return array
            array = cut(array, axes)
            if not axes.real:  # ids in memory are as narrow as they may be; those from the disk may be booleans or real numbers
                return np.ascontiguousarray(array, np.int64)
            return np.ascontiguousarray(real(what, array, dtype))

        own = self if rows is None else self.take(rows)
        return replace(
            own,
            inputs={name: made(f"input '{name}'", array, self.input_axes.get(name)) for name, array in own.inputs.items()},
            targets={name: made(f"target '{name}'", array, self.target_axes.get(name)) for name, array in own.targets.items()},
            weights={name: cut(array, self.target_axes.get(name, Axes((), False))) for name, array in own.weights.items()},
        )

    @cached_property
    def fingerprint(self) -> str:
        """A hash that tells this data set from others: shapes, types, and up to 64 examples spread over it."""
        from gridc.files import hash_of

        rows = np.unique(np.linspace(0, max(len(self) - 1, 0), 64).astype(np.int64))
        parts = {"inputs": self.inputs, "targets": self.targets, "lengths": self.lengths, "weights": self.weights}
        axes = {"inputs": self.input_axes, "targets": self.target_axes}

        def shown(part: str, name: str, array: Array) -> Array:
            some = np.asarray(array[rows if len(self) else slice(0)])
            # Tasks held their ids in int64 once: a training that was begun then goes on.
            ids = name in axes.get(part, {}) and not axes[part][name].real and some.dtype.str[1:] in ("i1", "i2")
            return some.astype(np.int64) if ids else some

        return hash_of({f"{part} {name} {array.shape}": shown(part, name, array)
                        for part, arrays in parts.items() for name, array in arrays.items()})  # fmt: skip


def padded(
    inputs: Mapping[str, Sequence[Any] | Array], targets: Mapping[str, Sequence[Any] | Array], symbol: str,
    weights: Mapping[str, Sequence[Any] | Array] | None = None,
) -> Dataset:  # fmt: skip
    """Make a data set of sequences of different lengths, filled up with zeros behind each one's end.

    Args:
        inputs: By input, an array ``[examples, ...]``, or a list of one array an example, ``[length, ...]``.
        targets: By output, the same.
        symbol: The spec's name for the length.
        weights: By output, what each position counts, the same.

    Returns:
        Arrays ``[examples, longest, ...]``, and the lengths under that symbol.

    Raises:
        DataError: Sequences of one example differ in length, or steps in shape.
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
    counts = {name: filled(f"weights of {name}", value) for name, value in (weights or {}).items()}
    return Dataset(given, wanted, {} if lengths is None else {symbol: lengths}, weights=counts)


