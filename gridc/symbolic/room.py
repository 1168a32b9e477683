"""Whether a call can be made: its steps do not wait for each other, and what it stores has room in memory."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from gridc import resources
from gridc.data.fitting import Call
from gridc.errors import DataError, TooLarge
from gridc.language.directives import amount
from gridc.language.lattice import Ints
from gridc.language.spec import GridSpec
from gridc.plain_text import times
from gridc.scheduling import counts, graph
from gridc.scheduling.tiles import blocks
from gridc.symbolic.indices import extents
from gridc.symbolic.lowerings import Target

OVER = 1.05
"""How far above what a schedule keeps a training step may come."""


class Room:
    """Checks the calls of a grid, and remembers what the largest of each function held, since its arrays are used again."""

    def __init__(self, spec: GridSpec, target: Target):
        self.spec, self.target = spec, target
        self._held: dict[str, int] = {}
        self._last: tuple[str, bytes, bytes] | None = None

    def check(self, name: str, call: Call) -> None:
        """Raise TooLarge where a call would store more than the machine has left, DataError where a wrapped grid of these
        sizes, unlike the one that the spec was checked at, has steps that wait for each other."""
        like = (name, call.extent.tobytes(), call.lengths.tobytes())
        if like == self._last:
            return
        sizes = tuple(int(n) for n in call.extent[1:])
        own = extents(self.spec, sizes, call.lengths)
        self._acyclic(sizes, own)
        batch = call.batch if own is None else math.ceil(own.prod(axis=1).sum() / math.prod(sizes))
        training, before = name == "gradients", self._held.get(name, 0)
        count = self._count(sizes, batch, training)
        needed = count()
        if needed <= before:
            return
        if training and not isinstance(keep := self.spec.schedule.keep, str) and needed > keep:
            least = count(True)
            if least > OVER * keep:
                raise TooLarge(f"'schedule', keep: found {amount(keep)}; a training step with {call.batch:,} examples of "
                                    f"{times(sizes)} cells holds at least {least / 1e6:,.1f} MB")  # fmt: skip
        available = resources.available_memory()
        if available is not None and needed > available + before:
            if self.target.recompute:
                needed = count(True, available + before)
            if needed > available + before:
                raise TooLarge(self._too_large(call, sizes, training, needed, available))
        self._held[name], self._last = needed, like

    def _count(self, sizes: tuple[int, ...], batch: int, training: bool) -> Callable[..., int]:
        """Give what counts the bytes of a call, or of a rank's part of it."""
        itemsize, stage = np.dtype(self.target.dtype).itemsize, self.target.stage
        if stage is None:
            return functools.partial(self.target.lowering.call_bytes, self.spec, sizes, batch, itemsize, training)
        first, end = blocks(sizes[stage.cut.dimension], stage.cut.ranks)[stage.rank : stage.rank + 2].tolist()
        return functools.partial(
            counts.rank_bytes, self.spec, sizes, stage.cut.dimension, max(1, end - first), batch, itemsize, training)

    def _acyclic(self, sizes: tuple[int, ...], own: Ints | None) -> None:
        if all(t.start != "wrap" for t in self.spec.transforms.values()):
            return
        try:
            _ = graph.build(self.spec, sizes, own).levels
        except graph.Cycle as cycle:
            which = f"{times(sizes)} cells{' with these lengths' * (own is not None)}"
            raise DataError(f"steps of a grid of {which} wait for each other: {cycle} ('←' is 'waits for')") from None

    def _too_large(self, call: Call, sizes: tuple[int, ...], training: bool, needed: int, available: int) -> str:
        target = self.target
        able = training and target.lowering.name == "fused" and not (target.recompute or target.backend.static)
        instead = "gridc.compile(…, recompute=True) or " * able
        whose = "" if target.stage is None else "a rank's part of "
        what = f"{whose}{'a training step' if training else 'a prediction'} with {call.batch:,} examples"
        return (f"{what} of {times(sizes)} cells needs {needed / 1e9:,.1f} GB of memory and "
                f"{available / 1e9:,.1f} GB are available; {instead}a smaller batch may help")  # fmt: skip
