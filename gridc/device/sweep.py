"""The sweep over a grid in JAX, over the index arrays of a plan.

Each phase is one loop whose number of turns is fixed.  A turn gathers what its steps read, makes one product for all slots of a
group, applies the cell's rule, and writes hidden vectors, memories and pre-activations side by side as one block.
"""

# JAX says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from gridc.cuda import persistent
from gridc.device import room
from gridc.device.attention import Facts
from gridc.device.attention import found as among_facts
from gridc.device.rules import apart, rule
from gridc.scheduling.padded import Block, Group, Plan
from gridc.symbolic.wiring import Role

Array = Any
Tables = Mapping[str, Array]


UNROLL: int | None = None
"""How many turns of a loop are written out; None leaves it to ``unrolled``."""


def unrolled() -> int:
    """One turn on a CPU, where more only takes longer to compile; a GPU is handed its work in larger pieces."""
    return UNROLL or 1


def take(table: Array, rows: Array) -> Array:
    """Rows of a matrix, all of which exist."""
    return table.at[rows].get(mode="promise_in_bounds")


def total(table: Array, lists: Array) -> Array:
    """Give the sum of the rows that each list names: ``lists [most, n]`` → ``[n, columns]``."""
    return functools.reduce(jnp.add, [take(table, rows) for rows in lists])


def turn_of(table: Array, block: Block, turn: Array) -> Array:
    """Give a turn's entries of a table ``[rows, …]``."""
    return lax.dynamic_slice_in_dim(table, block.offset + turn * block.size, block.size)


class Sweep:
    """One plan with the arrays of one call.

    ``arrays`` are by role: weights ``[*untied, rows, columns]`` and the like, what enters ``[batch × places, hidden]``, and what
    joins ``[batch × over, width]``, all of one dtype; ``products`` is that of the operands of products."""

    def __init__(self, plan: Plan, tables: Tables, arrays: Mapping[Role, Array], dtype: Any, products: Any):
        self.plan, self.tables, self.arrays, self.dtype, self.products = plan, tables, arrays, dtype, products
        self.weights = [[self._stacked(g, letter) for letter in "Wbp"] for g in plan.groups]
        self.joined = [[self._joining(g, j) for j in range(len(g.joined))] for g in plan.groups]
        self.ahead = [self._ahead(g) for g in range(len(plan.groups))]
        self.dropped = [self._dropped(group) for group in plan.groups]
        self.kept = [self._kept(group) for group in plan.groups]
        self.facts = [Facts.of_group(group, tables, arrays) for group in plan.groups]

    # -- what a loop needs ------------------------------------------------------------------------------------------

    def _stacked(self, group: Group, letter: str) -> Array | None:
        """Give the weights of a group's members, ``[weights, …]``, as what is done with them takes them; zeros for a member that
        has none."""
        found = [self.arrays.get((name, letter, "")) for name in group.members]
        known = next((a for a in found if a is not None), None)
        if known is None:
            return None
        shape = known.shape[-2 if letter == "W" else -1 :]
        parts = [jnp.zeros((n, *shape), self.dtype) if a is None else a.reshape(n, *shape)
                 for a, n in zip(found, group.weights, strict=True)]  # fmt: skip
        whole = parts[0] if len(parts) == 1 else jnp.concatenate(parts)
        return whole.astype(self.products) if letter == "W" else whole

    def weights_of(self, g: int) -> Array:
        """Give the weights of a group that has some."""
        w = self.weights[g][0]
        assert w is not None
        return w

    def _joining(self, group: Group, number: int) -> Array:
        """Give the vectors that join, of all inputs that do, and then zeros: ``[rows + 1, width]``."""
        parts = [self.arrays[name, "joined", ""] for name, *_ in self.plan.joins(group, number)]
        return jnp.concatenate([*parts, jnp.zeros((1, group.joined[number]), self.dtype)])

    def _ahead(self, g: int) -> list[Array]:
        """Give the products of all vectors that join with the weights of every slot, ``[slots × rows, gates × hidden]`` for each
        join; none unless that saves half of the work in the turns."""
        group, joined = self.plan.groups[g], self.joined[g]
        if group.chosen or not group.gates or 2 * sum(group.weights) * sum(map(len, joined)) > len(joined) * group.rows:
            return []
        at = np.cumsum([sum(group.widths), *group.joined])
        w = self.weights_of(g)
        return [self.einsum("ri,sio->sro", v, w[:, i:e]).reshape(-1, w.shape[2])
                for v, i, e in zip(joined, at, at[1:], strict=False)]  # fmt: skip

    def einsum(self, which: str, one: Array, other: Array) -> Array:
        """Give a product of operands that are rounded to what products take, added up in the sweep's dtype."""
        return jnp.einsum(which, one.astype(self.products), other.astype(self.products), preferred_element_type=self.dtype)

    def _dropped(self, group: Group) -> Array | None:
        """Give the dropout masks of a group's members, and then ones: ``[rows + 1, hidden]``; None where none were drawn."""
        drawn = self._drawn(group, [name for name, *_ in self.plan.hidden_by(group)], "dropout", "")
        return jnp.concatenate([*drawn, jnp.ones((1, group.hidden), self.dtype)]) if drawn else None

    def _drawn(self, group: Group, names: Sequence[str], role: str, vector: str) -> list[Array]:
        """Give the masks of these members, ``[rows, hidden]`` each; nothing in prediction."""
        roles = [(name, role, vector) for name in names]
        return [self.arrays[one].reshape(-1, group.hidden) for one in roles if one in self.arrays]

    def _kept(self, group: Group) -> list[Array]:
        """Give zoneout's masks of the hidden vectors and memories of a group's members, ``[rows, hidden]``, or one row of their
        mean where none were drawn; nothing without zoneout."""
        if not group.zoneout:
            return []
        found: list[Array] = []
        for vector in ("hidden", "memory")[: 1 + group.memory]:
            drawn = self._drawn(group, group.members, "zoneout", vector)
            found.append(jnp.concatenate(drawn) if drawn else jnp.full((1, group.hidden), group.zoneout, self.dtype))
        return found

    def entering(self, group: Group) -> Array | None:
        """Give what enters a group as the first rows of its storage, ``[rows × vectors, hidden]``; None where nothing does."""
        rows: list[Array] = []
        for entry in group.entries:
            vectors = [self._entering(group, entry, "hidden")] + [self._entering(group, entry, "memory")] * group.memory
            both = jnp.stack(vectors, axis=1)
            rest = jnp.zeros((len(both), group.vectors - len(vectors), group.hidden), self.dtype)
            rows.append(jnp.concatenate([both, rest], axis=1).reshape(-1, group.hidden))
        return jnp.concatenate(rows) if rows else None

    def _entries(self, g: int) -> Array:
        """Give a group's storage with what enters and a row of zeros, ``[rows × vectors, hidden]``; the turns write the rest."""
        group = self.plan.groups[g]
        entering, zeros = self.entering(group), jnp.zeros((group.vectors, group.hidden), self.dtype)
        first = zeros if entering is None else jnp.concatenate([entering, zeros])
        storage = room.here().take(room.storage(g), self.plan, self.dtype)
        return lax.dynamic_update_slice_in_dim(storage, first, 0, 0)

    def _entering(self, group: Group, entry: Any, vector: str) -> Array:
        start = self.arrays.get((entry.transform, "start", vector))
        start = jnp.zeros((1, group.hidden), self.dtype) if start is None else start[None]
        if not entry.count:
            return start
        entering = self.arrays.get((entry.transform, "entry", vector))
        if entering is None:
            return jnp.broadcast_to(start, (entry.count + 1, group.hidden))
        shift = self.arrays.get((entry.transform, "shift", vector))
        return jnp.concatenate([entering if shift is None else entering + shift, start])

    def _looked_up(self, storage: Array, of: Group, key: str, column: int | slice, place: Any, memory: bool) -> Array:
        """Vectors of a group at the rows in a table's columns; what wrapped around is added."""
        found = None
        for name in (key, f"{key}.far"):
            if name in self.tables:
                rows = place(self.tables[name])[:, column]
                vectors = take(storage, rows * of.vectors + memory)
                found = vectors if found is None else found + vectors
        return found

    def read(self, g: int, storage: Sequence[Array], place: Any, joined: bool = True) -> Array:
        """Give what steps see, ``[rows, widths]``, what is ``joined`` included; ``place`` takes their rows of a table."""
        group = self.plan.groups[g]
        key, masks = f"{g}.read", self.masks(g, place)
        if not group.sources:
            parts = []
        elif len(set(group.sources)) == 1:
            source = group.sources[0]
            of = self.plan.groups[source]
            found = self._looked_up(storage[source], of, key, slice(None), place, False)
            parts = [found[:, j] for j in range(len(group.sources))] if masks else [found.reshape(found.shape[0], -1)]
        else:
            parts = [self._looked_up(storage[s], self.plan.groups[s], key, j, place, False) for j, s in enumerate(group.sources)]
        for j, mask in masks.items():
            parts[j] = parts[j] * mask
        every = range(len(group.joined) * joined)
        parts += [take(self.joined[g][j], place(self.tables[f"{g}.joined.{j}"])) for j in every]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)

    def masks(self, g: int, place: Any) -> dict[int, Array]:
        """Give the dropout through which steps see what they read, ``[rows, width]`` by the number of the read."""
        group, found = self.plan.groups[g], {}
        for column, j in enumerate(group.masked):
            masks = self.dropped[group.sources[j]]
            if masks is not None:
                found[j] = take(masks, place(self.tables[f"{g}.masked"])[:, column])
        return found

    def keeps(self, g: int, place: Any) -> list[Array]:
        """Give how much steps keep of their old hidden vector and memory, ``[rows or 1, hidden]``; nothing without zoneout."""
        rows = self.tables.get(f"{g}.kept")
        return [mask if len(mask) == 1 else take(mask, place(rows)) for mask in self.kept[g]]

    def tapped(self, n: int, vectors: Array) -> Array:
        """Give what is left of the vectors that read ``n`` of the outputs finds, or of their gradients, behind dropout."""
        masks = self.dropped[self.plan.taps[n].group]
        if masks is None or not self.plan.taps[n].masked:
            return vectors
        return vectors * take(masks, self.tables[f"tap.{n}.masked"].ravel())

    def own(self, g: int, storage: Array, place: Any) -> list[Array]:
        """Give what a step takes over along each of its own dimensions, and its own hidden vector: ``[rows, hidden]`` each."""
        group = self.plan.groups[g]
        found = [self._looked_up(storage, group, f"{g}.own", d, place, group.memory) for d in range(group.entering)]
        return found + [self._looked_up(storage, group, f"{g}.own", 0, place, False)] * group.besides

    def chosen(self, g: int, phase: int, turn: Array, *of: Array | None) -> tuple[Array | None, ...]:
        """Give those of a group's weights, or ``of`` others by weight, that are the slots' of one turn."""
        every = of or tuple(self.weights[g])
        if not self.plan.groups[g].chosen:
            return every
        which = lax.dynamic_index_in_dim(self.tables[f"{g}.chosen.{phase}"], turn, keepdims=False)
        return tuple(None if w is None else take(w, which) for w in every)

    def loop(self, phase: int, body: Callable[[Any, Any], Any], state: Any, backwards: bool = False) -> Any:
        """Give the turns of a phase, one after the other."""
        turns = self.plan.phases[phase].turns

        def step(turn: Array, state: Any) -> Any:
            return body(np.int32(turns - 1) - turn if backwards else turn, state)

        return lax.fori_loop(np.int32(0), np.int32(turns), step, state, unroll=min(turns, unrolled()))

    # -- forward ----------------------------------------------------------------------------------------------------

    def forward(self) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Every group's storage, ``[rows × vectors, hidden]``, and what the outputs read, ``[batch, *axes, cells × hidden]``."""
        plan = self.plan
        kernels = persistent.of(self)
        storage = (None if kernels is None else kernels.forward()) or self._turns()
        taps: list[Array] = []
        for n, tap in enumerate(plan.taps):
            found = self._tap(n, storage[tap.group])
            taps.append(self.tapped(n, found).reshape(*tap.shape[:-1], -1))
        return tuple(storage), tuple(taps)

    def _tap(self, n: int, storage: Array) -> Array:
        """Give the vectors that read ``n`` of the outputs finds, ``[rows, hidden]``."""
        tap = self.plan.taps[n]

        def looked_up() -> Array:
            return self._looked_up(storage, self.plan.groups[tap.group], f"tap.{n}", 0, lambda t: t.reshape(-1, 1), tap.memory)

        if jax.default_backend() != "cpu":
            return looked_up()
        # Under a condition that always holds.  XLA would look them up again at every later use, of one row even those behind the
        # way back, and copy the whole storage for that.
        rows = self.tables[f"tap.{n}"]
        nothing = jnp.zeros((rows.size, self.plan.groups[tap.group].hidden), self.dtype)
        return lax.cond(rows.ravel()[0] >= 0, looked_up, lambda: nothing)

    def _turns(self) -> list[Array]:
        """Give every group's storage, by loops over the turns of each phase."""
        storage = [self._entries(g) for g in range(len(self.plan.groups))]
        for number, phase in enumerate(self.plan.phases):

            def run(turn: Array, before: list[Array], phase: Any = phase, number: int = number) -> list[Array]:
                after = list(before)
                for block in phase.blocks:
                    after[block.group] = self._turn(number, block, turn, after)
                return after

            storage = self.loop(number, run, storage)
        return storage

    def _turn(self, phase: int, block: Block, turn: Array, storage: list[Array]) -> Array:
        g, group = block.group, self.plan.groups[block.group]
        place = functools.partial(turn_of, block=block, turn=turn)
        facts = self.facts[g]
        if facts is not None:
            z = self.read(g, storage, place)
            a = self._activations(phase, block, turn, storage, place)[0].reshape(len(z), -1) if group.gates else z
            h = a + among_facts(z, *facts.of(place(self.tables[f"{g}.facts"])))
            made = [h, a]
        elif group.gates:
            a, p = self._activations(phase, block, turn, storage, place)
            own, keeps = (self.slots(block, each) for each in (self.own(g, storage[g], place), self.keeps(g, place)))
            h, m = rule(group, apart(group, a), own, p, keeps)
            room = group.front - (1 if m is None else 2)
            between = [jnp.zeros((*h.shape[:-1], room * group.hidden), self.dtype)] * (room > 0)
            made = [h, *(() if m is None else (m,)), *between, a]
        else:
            made = [self.read(g, storage, place)]
        new = made[0] if len(made) == 1 else jnp.concatenate(made, axis=-1)
        first = (group.base + block.offset + turn * block.size) * group.vectors
        return lax.dynamic_update_slice_in_dim(storage[g], new.reshape(-1, group.hidden), first, 0)

    def _activations(self, phase: int, block: Block, turn: Array, storage: list[Array], place: Any) -> tuple[Array, Array | None]:
        """Give a turn's pre-activations, ``[slots, rows, gates × hidden]``, and its peepholes."""
        g, group = block.group, self.plan.groups[block.group]
        ahead, (w, b, p) = self.ahead[g], self.chosen(g, phase, turn)
        terms: list[Array] = []
        if group.sources or not ahead:
            assert w is not None
            z = self.read(g, storage, place, joined=not ahead).reshape(block.slots, block.rows, -1)
            terms.append(self.product(z, w[:, : z.shape[-1]]))
        for j, made in enumerate(ahead):
            first = np.arange(block.slots, dtype=np.int32)[:, None] * np.int32(len(made) // block.slots)
            terms.append(take(made, place(self.tables[f"{g}.joined.{j}"]).reshape(block.slots, -1) + first))
        if b is not None:
            terms.append(b[:, None])
        return functools.reduce(jnp.add, terms), p

    def product(self, z: Array, w: Array) -> Array:
        """``[slots, rows, i]`` by ``[slots, i, o]``: ``[slots, rows, o]``."""
        if w.shape[0] == 1:
            return self.einsum("ri,io->ro", z[0], w[0])[None]
        return self.einsum("sri,sio->sro", z, w)

    @staticmethod
    def slots(block: Block, vectors: list[Array]) -> list[Array]:
        """Cut vectors of a turn by its slots, ``[slots, rows, hidden]``; one that stands for all stays alone."""
        return [v.reshape(block.slots, block.rows, -1) if len(v) == block.size else v for v in vectors]
