"""The gradients of weights, biases and peepholes, which follow from those of the pre-activations after all turns back."""

# JAX says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from gridc.device.sweep import Array, Sweep, take
from gridc.scheduling.padded import Block
from gridc.symbolic.wiring import Role

AT_ONCE = 1 << 23
"""Bytes that a processor's product for the weights' gradients takes at a time."""


class Weights:
    """What the turns back left: in each group's ``storage`` the gradients of its pre-activations, and for each phase that it runs
    in its ``holes``, those of peepholes, ``[turns, slots, …]``."""

    def __init__(self, sweep: Sweep, storage: Sequence[Array], holes: Sequence[Sequence[Array]]):
        self.sweep, self.plan, self.storage, self.holes = sweep, sweep.plan, storage, holes

    def all(self, g: int) -> Array:
        """Give the gradients of all pre-activations of a group, or of what it found, of every row of storage: ``[base + rows,
        gates × hidden]``."""
        group = self.plan.groups[g]
        return self.storage[g].reshape(-1, group.vectors * group.hidden)[:, group.front * group.hidden :]

    def by_slot(self, g: int, rows: Array) -> list[tuple[int, Block, Array]]:
        """Rows of a group's, ``[rows, …]``, cut by phases: ``[turns, slots, rows, …]``."""
        return [(phase.turns, block, rows[block.offset : block.offset + phase.turns * block.size].reshape(
                    phase.turns, block.slots, block.rows, *rows.shape[1:]))
                for phase in self.plan.phases for block in phase.blocks if block.group == g]  # fmt: skip

    def gradients(self, g: int, out: dict[Role, Array]) -> None:
        """Give the gradients of weights, biases and peepholes."""
        group, sweep = self.plan.groups[g], self.sweep
        if not group.gates:
            return
        dw, db = self._products(g, sweep.tables[f"{g}.by_weight"] if group.chosen else self._of_slots(g))
        dp, p = None, sweep.weights[g][2]
        if p is not None:
            if group.chosen:
                dp = jnp.zeros_like(p)
                for phase, table in zip(self._phases(g), self.holes[g], strict=True):
                    dp = dp.at[sweep.tables[f"{g}.chosen.{phase}"]].add(table)
            else:
                dp = sum(table.sum(0) for table in self.holes[g])
        at, found = np.cumsum([0, *group.weights]), dict[str, Any](W=dw, b=db, p=dp)
        for k, name in enumerate(group.members):
            for letter, whole in found.items():
                if (name, letter, "") in sweep.arrays:
                    out[name, letter, ""] = whole[at[k] : at[k + 1]].reshape(sweep.arrays[name, letter, ""].shape)

    def _of_slots(self, g: int) -> Array:
        """Give the rows that each slot computes, ``[slots, rows]``."""
        every = jnp.arange(self.plan.groups[g].rows, dtype=jnp.int32)
        parts = [part.swapaxes(0, 1).reshape(block.slots, -1) for _, block, part in self.by_slot(g, every)]
        return jnp.concatenate(parts, axis=1)

    def _products(self, g: int, by: Array) -> tuple[Array, Array]:
        """Give the gradients of weights ``[weights, i, o]`` and biases ``[weights, o]``, whose rows are ``by`` ``[weights,
        rows]``; the row behind the last is none.

        A processor takes some rows at a time, so that what was read, and its transpose, stay in the cache."""
        group, sweep = self.plan.groups[g], self.sweep

        def part(rows: Array) -> tuple[Array, Array]:
            there = jnp.minimum(rows.ravel(), group.rows - 1)
            z = sweep.read(g, self.storage, lambda table: take(table, there)).reshape(*rows.shape, -1)
            da = take(self.all(g), jnp.where(rows < group.rows, group.base + rows, group.base - 1))
            return sweep.einsum("wqi,wqo->wio", z, da), da.sum(1)

        row = (sum(group.widths) + sum(group.joined) + group.gates * group.hidden) * sweep.dtype.itemsize
        count = -(-by.size * row // AT_ONCE) if jax.default_backend() == "cpu" else 1
        if count == 1:
            return part(by)
        each = -(-by.shape[1] // count)
        by = jnp.pad(by, ((0, 0), (0, each * count - by.shape[1])), constant_values=group.rows)

        def add(k: Array, sums: Any) -> Any:
            return jax.tree.map(jnp.add, sums, part(lax.dynamic_slice_in_dim(by, k * np.int32(each), each, 1)))

        zeros = jax.tree.map(lambda made: jnp.zeros(made.shape, made.dtype), jax.eval_shape(part, by[:, :each]))
        return lax.fori_loop(np.int32(0), np.int32(count), add, zeros)

    def _phases(self, g: int) -> list[int]:
        return [k for k, phase in enumerate(self.plan.phases) if any(block.group == g for block in phase.blocks)]
