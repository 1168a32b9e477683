"""Room that one step leaves to the next.

What a step keeps on its way forward and what it hands back are as large as all of its states.  A processor would fill both with
zeros at every step, in fresh memory with a fault for every page; so a training lends the arrays of one step to the next, which
writes over them: ``Left`` has them between two steps, ``Room`` while a step is traced.
"""

# JAX says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from jax import numpy as jnp

from gridc.scheduling.padded import Plan

Array = Any


def storage(g: int) -> str:
    """Name the storage of a group."""
    return f"{g}.storage"


def handed(g: int, c: int) -> str:
    """Name what a group's readings hand back in a channel."""
    return f"{g}.handed.{c}"


def shapes(plan: Plan) -> dict[str, tuple[int, int]]:
    """Give the shapes, by name, of all that a step of a plan keeps and hands back."""
    found: dict[str, tuple[int, int]] = {}
    for g, group in enumerate(plan.groups):
        found[storage(g)] = (group.base + group.rows) * group.vectors, group.hidden
        for c, channel in enumerate(group.channels):
            found[handed(g, c)] = (group.rows + 1) * len(channel), group.widths[channel[0]]
    return found


class Room:
    """Arrays by name that a step may write over, and then what it leaves in their place.  Nothing in them means anything."""

    def __init__(self, arrays: Mapping[str, Array]):
        self.arrays = dict(arrays)

    def take(self, name: str, plan: Plan, dtype: Any) -> Array:
        """Give the array of this name to write over; where none is lent, zeros."""
        return self.arrays[name] if name in self.arrays else jnp.zeros(shapes(plan)[name], dtype)

    def leave(self, name: str, array: Array) -> None:
        """Leave an array to the next step where one was lent."""
        if name in self.arrays:
            self.arrays[name] = array


_TRACED: ContextVar[Room | None] = ContextVar("room of the step that is traced", default=None)


def lent() -> Room | None:
    """Give the room of the step that is being traced; None for all that is no step of a training."""
    return _TRACED.get()


def here() -> Room:
    """Give the room of what is being traced; to what is no step nothing is lent."""
    return lent() or Room({})


@contextlib.contextmanager
def lend(arrays: Mapping[str, Array]) -> Iterator[Room]:
    """Lend arrays to the step that is traced within."""
    token = _TRACED.set(room := Room(arrays))
    try:
        yield room
    finally:
        _TRACED.reset(token)


def fresh(shape: tuple[int, int], dtype: Any) -> Array:
    """Make an array for a first step."""
    return jnp.zeros(shape, dtype)


class Left:
    """What the last step of a training left, where it ``keeps`` that for the next one of the same plan."""

    def __init__(self, dtype: str, keeps: bool):
        self.dtype, self.keeps = dtype, keeps
        self._last: tuple[Plan, dict[str, Array]] | None = None

    def take(self, plan: Plan) -> dict[str, Array]:
        """Give the arrays that a step of a plan may write over, and keep none of them."""
        last, self._last = self._last, None
        if last is not None and last[0] is plan:
            return last[1]
        return {name: fresh(shape, self.dtype) for name, shape in shapes(plan).items()} if self.keeps else {}

    def leave(self, plan: Plan, arrays: dict[str, Array]) -> None:
        """Keep what a step left."""
        self._last = plan, arrays

    def clear(self) -> None:
        """Keep nothing: something else needs the memory."""
        self._last = None
