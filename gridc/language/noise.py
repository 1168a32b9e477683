"""Dropout and zoneout: which masks a training step draws, of what shape; in prediction there are none.

*Dropout* hides units of a transform from the transforms that read it, and scales what is left so that its mean stays.  A mask
lasts for a sequence: one for each example and for each of the places that have weights of their own beside the one on the
other (the levels of a stacked LSTM), whatever the index along the transform's own dimension (Gal and Ghahramani 2016).
A transform always sees its own vector whole, and so do outputs.

*Zoneout* keeps a unit's old value, of the hidden vector and of the memory each by a draw of its own at every cell; in
prediction their mean is taken, ``rate × old + (1 - rate) × new`` (Krueger et al. 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gridc.language.lattice import Ints, flat
from gridc.language.shapes import own_rows
from gridc.language.spec import GridSpec, Transform

Array = npt.NDArray[np.floating]
Shape = tuple[int, ...]
Make = Callable[[str, Shape], Array]
PART = 1 << 15
"""Numbers that are drawn at a time, so that they stay in the cache until they are compared."""


def noisy(spec: GridSpec) -> bool:
    """Tell whether training this spec draws masks."""
    return any(t.dropout or t.zoneout for t in spec.transforms.values())


def refusal(spec: GridSpec, t: Transform) -> str | None:
    """Say why zoneout has no single old value of a transform to keep; None where it has one, or where there is no zoneout."""
    if not t.zoneout:
        return None
    if len(t.along) > 1:
        return (f"transform '{t.name}' travels along {len(t.along)} dimensions, so no one old value enters that zoneout could "
                "keep; leave 'zoneout' out")  # fmt: skip
    if t.mechanism.rule is None or not (t.carries or own_rows(spec, t).any()):
        return (f"transform '{t.name}' does not carry its vector from cell to cell, so zoneout has nothing to keep; leave "
                "'zoneout' out")  # fmt: skip
    return None


def places(t: Transform) -> tuple[int, ...]:
    """List the dimensions along which a transform's dropout mask changes."""
    return tuple(d for d in t.untied if d not in t.along)


def hides(spec: GridSpec, reader: str, of: str) -> bool:
    """Tell whether a transform is seen through dropout by one that reads it, straight or through a `pass` that is relayed."""
    while spec.relayed(spec.transforms[of]):
        reader, of = of, spec.transforms[of].reads[0].of
    return spec.transforms[of].dropout > 0 and of != reader


def known(spec: GridSpec) -> dict[str, tuple[int | None, ...]]:
    """Give the name of every mask and as much of its shape as the spec tells."""
    made = shapes(spec, 1, [1] * len(spec.dimensions))
    return {name: (*[None] * (len(shape) - 1), shape[-1]) for name, shape in made.items()}


def shapes(spec: GridSpec, batch: int, sizes: Sequence[int]) -> dict[str, Shape]:
    """Give the name and shape of every mask: ``NAME.dropout`` ``[batch, *places, hidden]``, ``NAME.zoneout.h`` and ``.m``
    ``[batch, *dimensions, hidden]``."""
    result: dict[str, Shape] = {}
    for name, t in spec.transforms.items():
        if t.dropout:
            result[f"{name}.dropout"] = (batch, *(int(sizes[d]) for d in places(t)), t.hidden)
        if t.zoneout:
            for letter in "hm" if t.has_memory else "h":
                result[f"{name}.zoneout.{letter}"] = (batch, *(int(n) for n in sizes), t.hidden)
    return result


class Drawing(NamedTuple):
    """A mask that is to be drawn, flat, or a part of one: ``chosen`` where a random number is below the ``rate``, else ``other``;
    ``before`` is how many numbers are drawn before its first."""

    mask: Array
    rate: float
    chosen: float
    other: float
    before: int


Fill = Callable[[np.random.Generator, Sequence[Drawing], int], None]
"""Draws masks, each from its place among so many random numbers in all, and leaves the generator after these."""


def draw(
    spec: GridSpec, batch: int, sizes: Sequence[int], generator: np.random.Generator, dtype: str, make: Make | None = None,
    share: tuple[int, int] | None = None, fill: Fill | None = None,
) -> dict[str, Array]:  # fmt: skip
    """Draw the masks of one training step: 0 or ``1 / (1 - rate)`` for dropout, 1 where zoneout keeps the old value.

    They are written into what ``make`` gives for a name and a shape, or into new arrays.  ``share`` says that the examples are
    those from the first number on, of a mini-batch of the second: masks are drawn for all of it, and these rows are kept.
    ``fill`` does what ``draw_in_numpy`` does, which is called without."""
    masks: dict[str, Array] = {}
    drawings: list[Drawing] = []
    total = 0
    before, of = (0, batch) if share is None else share
    for name, shape in shapes(spec, batch, sizes).items():
        t = spec.transforms[name.partition(".")[0]]
        masks[name] = mask = np.empty(shape, dtype) if make is None else make(name, shape)
        each = mask.size // batch
        drops = name.endswith(".dropout")
        rate, chosen, other = (t.dropout, 0.0, 1.0 / (1.0 - t.dropout)) if drops else (t.zoneout, 1.0, 0.0)
        drawings.append(Drawing(mask.reshape(-1), rate, chosen, other, total + before * each))
        total += of * each
    (draw_in_numpy if fill is None else fill)(generator, drawings, total)
    return masks


def draw_in_numpy(generator: np.random.Generator, drawings: Sequence[Drawing], total: int) -> None:
    """Draw masks from single-precision numbers, ``total`` in all, in stretches that stay in the cache."""
    at, numbers = 0, np.empty(min(total, PART), np.float32)

    def drawn(count: int) -> Array:
        nonlocal at
        at += count
        return generator.random(out=numbers[:count], dtype=np.float32)

    def skip(to: int) -> None:
        while at < to:
            drawn(min(PART, to - at))

    for mask, rate, chosen, other, before in drawings:
        skip(before)
        for first in range(0, mask.size, PART):
            part = mask[first : first + PART]
            part[:] = np.where(drawn(len(part)) < rate, part.dtype.type(chosen), part.dtype.type(other))
    skip(total)


def rows(t: Transform, looked: Ints, example: Ints, sizes: Sequence[int]) -> Ints:
    """Give the row of a dropout mask ``[batch × places, hidden]`` for vectors of ``t`` at these points, on the grid or off."""
    return flat(np.clip(looked, 0, np.asarray(sizes) - 1), sizes, places(t), example)
