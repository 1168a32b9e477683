"""The way back over a sweep in JAX: a row's gradient is the sum of what its readers hand back, gathered by their lists.

The weights' gradients are one product after all turns.
"""

# JAX says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from gridc.cuda import persistent
from gridc.device import room
from gridc.device.attention import found as among_facts
from gridc.device.rules import apart, rule
from gridc.device.sweep import Array, Sweep, total, turn_of, unrolled
from gridc.device.weights import Weights
from gridc.scheduling.padded import Block
from gridc.symbolic.wiring import Role


class Backward:
    """The way back over one sweep.

    For each group the gradients of the pre-activations and of what was taken over take the place of these in ``storage``, since
    nothing needs them any more; ``handed`` ``[(rows + 1) × reads, width]`` holds for each channel those of what was read; the row
    more, of zeros, is what nobody hands back.  ``holes`` ``[turns × slots, …]`` are those of peepholes."""

    def __init__(self, sweep: Sweep, storage: tuple[Array, ...], given: Sequence[Array]):
        self.sweep, self.plan, self.storage = sweep, sweep.plan, storage
        self.given: list[Array] = []
        for tap, gradient in zip(self.plan.taps, given, strict=True):
            n = self.plan.groups[tap.group].hidden
            gradient = sweep.tapped(len(self.given), gradient.reshape(-1, n))
            self.given.append(jnp.concatenate([gradient, jnp.zeros((1, n), sweep.dtype)]))
        # Transposed once: XLA's products on a processor would do it at every turn.
        self.across = [None if w is None else w.swapaxes(1, 2) for w, *_ in sweep.weights]

    def run(self) -> dict[Role, Array]:
        """Give the gradients by role."""
        kernels = persistent.of(self.sweep)
        made = None if kernels is None else kernels.back(self.storage, self.given)
        if made is None:
            holes = self._turns()
        else:
            self.storage, self.handed, self.joined, every = made
            holes = [self._summed(g, every[g]) if g in every else [] for g in range(len(self.plan.groups))]
        self.weights = Weights(self.sweep, self.storage, holes)
        out: dict[Role, Array] = {}
        for g in range(len(self.plan.groups)):
            self.weights.gradients(g, out)
            self._joined(g, out)
            self._facts(g, out)
            self._entries(g, out)
        return out

    def _summed(self, g: int, rows: Array) -> list[Array]:
        """Give the gradients of a group's peepholes, by phase ``[turns, slots, …]``, from those of every row."""
        parts = [(phase.turns, block) for phase in self.plan.phases for block in phase.blocks if block.group == g]
        return [rows[block.offset : block.offset + turns * block.size].reshape(turns, block.slots, block.rows, -1).sum(2)
                for turns, block in parts]  # fmt: skip

    def _turns(self) -> list[list[Array]]:
        """Go back by loops over the turns of each phase; give the gradients of peepholes, by group and phase."""
        dtype = self.sweep.dtype
        handed = [[self._handed(g, c) for c in range(len(group.channels))] for g, group in enumerate(self.plan.groups)]
        joined = [jnp.zeros((g.rows, sum(g.joined)) if g.chosen else (0, 0), dtype) for g in self.plan.groups]
        state = (list(self.storage), handed, joined)
        holes: list[list[Array]] = [[] for _ in self.plan.groups]
        for number in reversed(range(len(self.plan.phases))):
            phase = self.plan.phases[number]
            own: dict[int, Array] = {}
            for block in phase.blocks:
                p = self.sweep.weights[block.group][2]
                if p is not None:
                    own[block.group] = jnp.zeros((phase.turns, block.slots, p.shape[-1]), dtype)

            def run(turn: Array, before: Any, phase: Any = phase, number: int = number) -> Any:
                storage, handed, joined, own = list(before[0]), [list(c) for c in before[1]], list(before[2]), dict(before[3])
                for block in reversed(phase.blocks):
                    self._turn(number, block, turn, storage, handed, joined, own)
                return storage, handed, joined, own

            *state, own = self.sweep.loop(number, run, (*state, own), backwards=True)
            for g, table in own.items():
                holes[g].append(table)
        self.storage, self.handed, self.joined = state
        for g, (storage, channels) in enumerate(zip(self.storage, self.handed, strict=True)):
            room.here().leave(room.storage(g), storage)
            for c, array in enumerate(channels):
                room.here().leave(room.handed(g, c), array)
        return [tables[::-1] for tables in holes]

    def _handed(self, g: int, c: int) -> Array:
        """Give the array of what a group hands back in a channel, with the row of zeros; the turns write the others."""
        made = room.here().take(room.handed(g, c), self.plan, self.sweep.dtype)
        zeros = jnp.zeros((len(self.plan.groups[g].channels[c]), made.shape[1]), made.dtype)
        return lax.dynamic_update_slice_in_dim(made, zeros, len(made) - len(zeros), 0)

    def _pulled(self, g: int, place: Any, storage: Array, handed: list[list[Array]]) -> tuple[Array, Array | None]:
        """Give the gradients of the hidden vectors and memories of some rows, ``place`` taking these of a list of readers."""
        group, tables = self.plan.groups[g], self.sweep.tables
        hidden: list[Array] = []
        memory: list[Array] = []
        for r, c, most in group.readers:
            if most:
                hidden.append(total(handed[r][c], place(tables[f"{g}.readers.{r}.{c}"])))
        if group.carried:
            lists = place(tables[f"{g}.readers.own"])
            (memory if group.memory else hidden).append(total(storage, lists))
            if group.besides:  # its gradient lies behind the memory's; that of nobody is zero, too
                hidden.append(total(storage, lists + 1))
        for n, most in group.tapped:
            if most:
                into = memory if self.plan.taps[n].memory else hidden
                into.append(total(self.given[n], place(tables[f"{g}.readers.tap.{n}"])))
        nothing = jnp.zeros((), self.sweep.dtype)
        dh, dm = (functools.reduce(jnp.add, parts, nothing) for parts in (hidden, memory))
        return dh, dm if group.memory else None

    def _turn(
        self, phase: int, block: Block, turn: Array, storage: list[Array], handed: list[list[Array]], joined: list[Array],
        holes: dict[int, Array],
    ) -> None:  # fmt: skip
        """One group's turn back; what it makes is written to the lists."""
        g, group, sweep = block.group, self.plan.groups[block.group], self.sweep
        first = block.offset + turn * block.size

        def write(table: Array, new: Array, each: int) -> Array:
            return lax.dynamic_update_slice_in_dim(table, new.reshape(-1, table.shape[-1]), first * each, 0)

        start = (group.base + first) * group.vectors
        stored = lax.dynamic_slice_in_dim(storage[g], start, block.size * group.vectors)
        stored = stored.reshape(block.slots, block.rows, group.vectors * group.hidden)

        def replace(new: Sequence[Array]) -> Array:
            """Write all vectors of this turn's rows but the hidden one, which stays."""
            made = jnp.concatenate([stored[..., : group.hidden], *new], axis=-1)
            if unrolled() > 1:
                # Made once: a kernel that made them again, after a block was written, would need a copy of what was there before.
                made = lax.optimization_barrier(made)
            storage[g] = lax.dynamic_update_slice_in_dim(storage[g], made.reshape(-1, group.hidden), start, 0)
            return made[..., group.front * group.hidden :]

        dh, dm = self._pulled(
            g, lambda lists: lax.dynamic_slice_in_dim(lists, group.base + first, block.size, 1), storage[g], handed)  # fmt: skip
        shape = (block.slots, block.rows, group.hidden)
        dh, dm = (None if d is None else jnp.broadcast_to(d, (block.size, group.hidden)).reshape(shape) for d in (dh, dm))
        place = functools.partial(turn_of, block=block, turn=turn)
        dz, facts = dh, sweep.facts[g]
        if facts is not None:
            assert dh is not None
            among = facts.of(place(sweep.tables[f"{g}.facts"]))
            _, pull = jax.vjp(lambda z: among_facts(z, *among), sweep.read(g, storage, place))
            through = sweep.product(dh, sweep.chosen(g, phase, turn, self.across[g])[0]) if group.gates else dh
            dz = through + pull(dh.reshape(block.size, -1))[0].reshape(shape)
            replace([dh])
        elif group.gates:
            w, p = sweep.chosen(g, phase, turn, self.across[g], sweep.weights[g][2])
            own, keeps = (sweep.slots(block, each) for each in (sweep.own(g, storage[g], place), sweep.keeps(g, place)))
            _, pull = jax.vjp(
                lambda gates, own, p: tuple(v for v in rule(group, gates, own, p, keeps) if v is not None),
                apart(group, stored[..., group.front * group.hidden :]), own, p)  # fmt: skip
            gates, taken, dp = pull((dh, dm) if group.memory else (dh,))
            da = replace([*taken, *gates])
            if dp is not None:
                holes[g] = lax.dynamic_update_slice_in_dim(holes[g], dp[None], turn, 0)
            width = sum(group.widths)
            assert w is not None
            back = sweep.product(da, w if group.chosen else w[..., :width])
            if group.chosen and group.joined:
                joined[g] = write(joined[g], back[..., width:], 1)
            dz = back
        assert dz is not None
        at, masks = np.cumsum([0, *group.widths]), sweep.masks(g, place)
        for c, channel in enumerate(group.channels):
            parts = [dz[..., at[channel[0]] : at[channel[-1] + 1]]]
            if any(j in masks for j in channel):
                parts = [dz[..., at[j] : at[j + 1]] for j in channel]
                parts = [v * masks[j].reshape(v.shape) if j in masks else v for j, v in zip(channel, parts, strict=True)]
            handed[g][c] = write(handed[g][c], parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1), len(channel))

    # -- after the loops --------------------------------------------------------------------------------------------

    def _joined(self, g: int, out: dict[Role, Array]) -> None:
        """Give the gradients of what joins; XLA leaves them out where nobody asks for them."""
        group, sweep = self.plan.groups[g], self.sweep
        if not group.joined:
            return
        if group.chosen:
            each = self.joined[g]
        else:
            w = sweep.weights_of(g)[:, sum(group.widths) :]
            da = self.weights.by_slot(g, self.weights.all(g)[group.base :])
            parts = [sweep.einsum("tsro,sio->tsri", part, w) for *_, part in da]
            each = jnp.concatenate([part.reshape(-1, w.shape[1]) for part in parts])
        at = np.cumsum([0, *group.joined])
        for j in range(len(group.joined)):
            rows = sweep.tables[f"{g}.joined.{j}"]
            summed = jnp.zeros_like(sweep.joined[g][j]).at[rows].add(each[:, at[j] : at[j + 1]])
            for name, first, count in self.plan.joins(group, j):
                key, part = (name, "joined", ""), summed[first : first + count]
                out[key] = out[key] + part if key in out else part

    def _facts(self, g: int, out: dict[Role, Array]) -> None:
        """Give the gradients of the facts to which a group attends."""
        group, sweep, facts = self.plan.groups[g], self.sweep, self.sweep.facts[g]
        if facts is not None:
            query = sweep.read(g, self.storage, lambda table: table)
            out |= facts.gradients(sweep.tables[f"{g}.facts"], query, self.weights.all(g)[group.base :], sweep.arrays)

    def _entries(self, g: int, out: dict[Role, Array]) -> None:
        """Give the gradients of what entered."""
        group, arrays = self.plan.groups[g], self.sweep.arrays
        dh, dm = self._pulled(g, lambda lists: lists[:, : group.base], self.storage[g], self.handed)
        for vector, pulled in (("hidden", dh), ("memory", dm)):
            if pulled is None:
                continue
            pulled = jnp.broadcast_to(pulled, (group.base, group.hidden))
            for entry in group.entries:
                start, entered, shift = ((entry.transform, role, vector) for role in ("start", "entry", "shift"))
                entering = pulled[entry.first : entry.first + entry.count]
                if entered in arrays:
                    out[entered] = entering
                if shift in arrays:
                    out[shift] = entering.sum(0)
                if start in arrays:
                    alone = self._started(g, entry.start, vector)
                    out[start] = alone if entered in arrays else alone + entering.sum(0)

    def _started(self, g: int, row: int, vector: str) -> Array:
        """Give the gradient of a start, which any number of rows may read."""
        group, tables = self.plan.groups[g], self.sweep.tables
        result = jnp.zeros(group.hidden, self.sweep.dtype)

        def readers(key: str, column: Any, vectors: Array) -> Array:
            return (tables[key][:, column].ravel() == row).astype(vectors.dtype) @ vectors.reshape(-1, group.hidden)

        if vector == "hidden":
            for r, reader in enumerate(self.plan.groups):
                for c, channel in enumerate(reader.channels):
                    for k, j in enumerate(channel):
                        if reader.sources[j] == g:
                            handed = self.handed[r][c].reshape(-1, len(channel), group.hidden)[:-1, k]
                            result = result + readers(f"{r}.read", j, handed)
        if (vector == "memory") == group.memory:
            own = self.storage[g].reshape(-1, group.vectors, group.hidden)[group.base :]
            for d in range(group.entering):
                result = result + readers(f"{g}.own", d, own[:, 1 + d])
        if vector == "hidden" and group.besides:
            own = self.storage[g].reshape(-1, group.vectors, group.hidden)[group.base :]
            result = result + readers(f"{g}.own", 0, own[:, 1 + group.entering])
        for n, tap in enumerate(self.plan.taps):
            if tap.group == g and tap.memory == (vector == "memory"):
                mask = (tables[f"tap.{n}"].ravel() == row).astype(self.sweep.dtype)
                result = result + mask @ self.given[n][:-1]
        return result
