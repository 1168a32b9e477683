"""What a spec says of one array, and the first thing in which an array differs from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from gridc.arrays.conversion import Array, not_below, not_finite, not_whole

Bound = dict[str, tuple[int, str]]
"""The sizes that symbols have in the arrays so far, and whose: ``{"T": (6, "input 'ids'")}``; ``BATCH`` stands for axis 0."""
BATCH = ""  # which is the name of no symbol
Ignored = int | Literal["nan"]
"""The target of a position that does not count."""


@dataclass(frozen=True)
class Axes:
    """What a spec says of one array.

    ``axes`` are those after the batch: a size, a symbol, or None for any.  ``real`` says whether the array holds real numbers;
    where it holds ids, they are ``below`` that number.  ``names`` are the words for the axes, those of the dimensions.
    ``ignore`` is what stands where nothing is to be learnt: an id, or ``nan`` for real numbers.
    """

    axes: tuple[int | str | None, ...]
    real: bool
    below: int | None = None
    names: tuple[str, ...] = field(default=(), compare=False)
    ignore: Ignored | None = None

    def __str__(self) -> str:
        return f"[{', '.join(['examples', *('any' if axis is None else str(axis) for axis in self.axes)])}]"

    @property
    def words(self) -> tuple[str, ...]:
        """A word for every axis, the batch's first."""
        return ("batch", *self.names)

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Give the shape that an array has where the symbols have these sizes, ``BATCH`` among them."""
        return (sizes[BATCH], *(sizes[axis] if isinstance(axis, str) else axis or 0 for axis in self.axes))


class Misfit(NamedTuple):
    """The first fault of an array, and where: the axis of a ``size``, ``symbol`` or ``empty``, the place of a number."""

    fault: Literal["type", "rank", "size", "symbol", "empty", "infinite", "fraction", "range"]
    at: tuple[int, ...] = ()


def misshapen(what: str, array: Array, axes: Axes, bound: Bound, ragged: Collection[str] = ()) -> Misfit | None:
    """Find what is wrong with an array's type or shape; None where nothing is.

    Binds the symbols of its axes: the first array says how long one is, unless it is ``ragged``, then the shortest does."""
    if array.dtype.kind not in "iubf":
        return Misfit("type")
    if array.ndim != 1 + len(axes.axes):
        return Misfit("rank")
    for at, (axis, size) in enumerate(zip((BATCH, *axes.axes), array.shape, strict=True)):
        if isinstance(axis, str):
            before = bound.setdefault(axis, (size, what))
            if size != before[0] and axis not in ragged:
                return Misfit("symbol", (at,))
            bound[axis] = min((size, what), before)
        elif axis is not None and size != axis:
            return Misfit("size", (at,))
        if not size:
            return Misfit("empty", (at,))
    return None


CHUNK = 1 << 24
"""Numbers of a file that are looked at at once."""


def odd_number(array: Array, axes: Axes) -> Misfit | None:
    """Find the first number that an array of real numbers or of ids must not hold; None where there is none.

    One that lies on the disk is read once for it, part by part."""
    if isinstance(array, np.memmap) and array.size > CHUNK:
        rows = max(1, CHUNK * len(array) // array.size)
        for first in range(0, len(array), rows):
            odd = odd_number(np.asarray(array[first : first + rows]), axes)
            if odd is not None:
                return Misfit(odd.fault, (odd.at[0] + first, *odd.at[1:]))
        return None
    if axes.below is None:
        at = not_finite(array if axes.ignore is None or array.dtype.kind != "f" else np.where(np.isnan(array), 0, array))
        return None if at is None else Misfit("infinite", at)
    at = not_whole(array)
    if at is not None:
        return Misfit("fraction", at)
    at = not_below(array if axes.ignore is None else np.where(array == axes.ignore, 0, array), axes.below)
    return None if at is None else Misfit("range", at)


def counted(axes: Axes, target: Array) -> Array | None:
    """Which positions have a target that counts: ``[batch, *dimensions]`` booleans; None where nothing is ignored.

    Real numbers count where none of a position's is NaN."""
    if axes.ignore is None:
        return None
    return np.asarray(~np.isnan(target).any(axis=-1) if axes.real else target != axes.ignore)


def valid(axes: Axes, target: Array, lengths: Mapping[str, Array]) -> Array | None:
    """Which positions lie within their example and are not ignored: ``[batch, *dimensions]`` booleans; None where that is all."""
    inside, known = within(axes, target, lengths), counted(axes, target)
    if inside is None or known is None:
        return known if inside is None else inside
    both: Array = inside & known
    return both


def within(axes: Axes, target: Array, lengths: Mapping[str, Array]) -> Array | None:
    """Which positions lie within their example: ``[batch, *dimensions]`` booleans; None where all of them do."""
    ragged = [(d, axis) for d, axis in enumerate(axes.axes, 1) if isinstance(axis, str) and axis in lengths]
    if not ragged:
        return None
    shape: tuple[int, ...] = target.shape[: 1 + len(axes.axes) - axes.real]
    shown: Array = np.ones(shape, bool)
    for d, symbol in ragged:
        inside: Array = np.arange(int(shape[d])) < np.asarray(lengths[symbol])[:, None]
        shown &= inside.reshape(shape[0], *(shape[d] if e == d else 1 for e in range(1, len(shape))))
    return shown
