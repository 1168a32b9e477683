"""The masks of dropout and zoneout that a grid's training steps draw, each step from where the one before left the generator."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gridc.arrays.conversion import Array
from gridc.data.fitting import Call
from gridc.fusion import draws
from gridc.language import noise
from gridc.language.spec import GridSpec
from gridc.symbolic.lowerings import Target


class Masks:
    """What draws the masks of a spec for a target, with a ``generator`` that others may draw with besides."""

    def __init__(self, spec: GridSpec, target: Target, generator: np.random.Generator):
        self.spec, self.target, self.generator = spec, target, generator
        self._room: dict[str, Array] = {}  # used again at every call: nobody sees a mask after its own

    @property
    def state(self) -> dict[str, Any] | None:
        """Where the generator stands, a plain mapping that may be kept and set again; None where the spec draws no masks."""
        return dict(self.generator.bit_generator.state) if noise.noisy(self.spec) else None

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self.generator.bit_generator.state = state

    def draw(self, call: Call, share: tuple[int, int] | None = None) -> list[Array]:
        """Draw the masks of one training step, in the order of the training graph's; valid until the next are drawn.

        ``share`` is that of ``noise.draw``."""
        if not noise.noisy(self.spec):
            return []
        batch, *sizes = (int(n) for n in call.extent)
        fill = None
        if self.target.lowering.prepare is not None:  # which has compiled the rest, too
            fill = functools.partial(draws.draw, threads=self.target.threads)
        made = noise.draw(self.spec, batch, sizes, self.generator, self.target.dtype, self._made, share, fill)
        return [*made.values()]

    def draw_to_undo(self, call: Call) -> tuple[list[Array], Callable[[], None]]:
        """Draw them, and give what puts the generator back to where it stood before."""
        before = self.state

        def undo() -> None:
            if before is not None:
                self.state = before

        return self.draw(call), undo

    def _made(self, name: str, shape: tuple[int, ...]) -> Array:
        size, kept = math.prod(shape), self._room.get(name)
        if kept is None or not size <= kept.size <= 2 * size:
            kept = self._room[name] = np.empty(size, self.target.dtype)
        return kept[:size].reshape(shape)
