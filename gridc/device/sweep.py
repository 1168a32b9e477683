"""The sweep over a grid, and its way back, as functions of JAX over the index arrays of a plan.

Each phase is one loop whose number of turns is fixed.  A turn gathers what its steps read, makes one product for all slots of a
group, applies the cell's rule, and writes hidden vectors, memories and pre-activations side by side as one block.  The way back
gathers, too: a row's gradient is the sum of what its readers hand back.  The weights' gradients are one product after it.
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

from gridc.cells import CELLS
from gridc.errors import UsageError
from gridc.scheduling.padded import Block, Group, Plan
from gridc.symbolic.wiring import Role

Array = Any
Tables = Mapping[str, Array]


UNROLL: int | None = None
"""How many turns of a loop are written out; None leaves it to ``unrolled``."""


def unrolled() -> int:
    """One turn on a CPU, where more only takes longer to compile; a GPU is handed its work in larger pieces."""
    return UNROLL or 1


class Names:
    """The namespace in which a cell's rule runs on a device."""

    tanh = staticmethod(jnp.tanh)
    sigmoid = staticmethod(jax.nn.sigmoid)
    relu = staticmethod(jax.nn.relu)


def take(table: Array, rows: Array) -> Array:
    """Rows of a matrix, all of which exist."""
    return table.at[rows].get(mode="promise_in_bounds")


def total(table: Array, lists: Array) -> Array:
    """The sum of the rows that each list names: ``lists [most, n]`` → ``[n, columns]``."""
    return functools.reduce(jnp.add, [take(table, rows) for rows in lists])


def turn_of(table: Array, block: Block, turn: Array) -> Array:
    """A turn's entries of a table ``[rows, …]``."""
    return lax.dynamic_slice_in_dim(table, block.offset + turn * block.size, block.size)


class Sweep:
    """One plan with the arrays of one call.

    ``arrays`` are by role: weights ``[*untied, rows, columns]`` and the like, what enters ``[batch × places, hidden]``, what joins
    ``[batch × over, width]``, all of one dtype."""

    def __init__(self, plan: Plan, tables: Tables, arrays: Mapping[Role, Array], dtype: Any):
        self.plan, self.tables, self.arrays, self.dtype = plan, tables, arrays, dtype
        self.weights = [[self._stacked(g, letter) for letter in "Wbp"] for g in plan.groups]
        self.joined = [[self._joining(g, j) for j in range(len(g.joined))] for g in plan.groups]

    # -- what a loop needs ------------------------------------------------------------------------------------------

    def _stacked(self, group: Group, letter: str) -> Array | None:
        """The weights of a group's members, ``[weights, …]``; zeros for a member that has none."""
        found = [self.arrays.get((name, letter, "")) for name in group.members]
        known = next((a for a in found if a is not None), None)
        if known is None:
            return None
        shape = known.shape[-2 if letter == "W" else -1 :]
        parts = [jnp.zeros((n, *shape), self.dtype) if a is None else a.reshape(n, *shape)
                 for a, n in zip(found, group.weights, strict=True)]  # fmt: skip
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts)

    def _joining(self, group: Group, number: int) -> Array:
        """The vectors that join, of all inputs that do, and then zeros: ``[rows + 1, width]``."""
        parts = [self.arrays[name, "joined", ""] for name, *_ in self.plan.joins(group, number)]
        return jnp.concatenate([*parts, jnp.zeros((1, group.joined[number]), self.dtype)])

    def _entries(self, group: Group) -> Array:
        """Storage with what enters and zeros everywhere else, ``[rows × vectors, hidden]``."""
        rows: list[Array] = []
        for entry in group.entries:
            vectors = [self._entering(group, entry, "hidden")] + [self._entering(group, entry, "memory")] * group.memory
            both = jnp.stack(vectors, axis=1)
            rest = jnp.zeros((len(both), group.gates, group.hidden), self.dtype)
            rows.append(jnp.concatenate([both, rest], axis=1).reshape(-1, group.hidden))
        empty = (1 + group.rows) * group.vectors
        return jnp.concatenate([*rows, jnp.zeros((empty, group.hidden), self.dtype)])

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

    def _read(self, g: int, storage: Sequence[Array], place: Any) -> Array:
        """What steps see, ``[rows, widths]``; ``place`` takes their rows of a table."""
        group = self.plan.groups[g]
        key = f"{g}.read"
        if len(set(group.sources)) == 1:
            source = group.sources[0]
            of = self.plan.groups[source]
            found = self._looked_up(storage[source], of, key, slice(None), place, False)
            parts = [found.reshape(found.shape[0], -1)]
        else:
            parts = [self._looked_up(storage[s], self.plan.groups[s], key, j, place, False) for j, s in enumerate(group.sources)]
        parts += [take(self.joined[g][j], place(self.tables[f"{g}.joined.{j}"])) for j in range(len(group.joined))]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)

    def _own(self, g: int, storage: Array, place: Any) -> list[Array]:
        """What a step takes over along each of its own dimensions, or its own hidden vector: ``[rows, hidden]`` each."""
        group = self.plan.groups[g]
        return [self._looked_up(storage, group, f"{g}.own", d, place, group.memory) for d in range(group.entering)]

    def _chosen(self, g: int, phase: int, turn: Array) -> tuple[Array | None, ...]:
        """The weights of the slots of one turn."""
        if not self.plan.groups[g].chosen:
            return tuple(self.weights[g])
        which = lax.dynamic_index_in_dim(self.tables[f"{g}.chosen.{phase}"], turn, keepdims=False)
        return tuple(None if w is None else take(w, which) for w in self.weights[g])

    def _loop(self, phase: int, body: Callable[[Any, Any], Any], state: Any, backwards: bool = False) -> Any:
        """The turns of a phase, one after the other."""
        turns = self.plan.phases[phase].turns

        def step(turn: Array, state: Any) -> Any:
            return body(np.int32(turns - 1) - turn if backwards else turn, state)

        return lax.fori_loop(np.int32(0), np.int32(turns), step, state, unroll=min(turns, unrolled()))

    # -- forward ----------------------------------------------------------------------------------------------------

    def forward(self) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Every group's storage, ``[rows × vectors, hidden]``, and what the outputs read, ``[batch, *axes, cells × hidden]``."""
        plan = self.plan
        storage = [self._entries(group) for group in plan.groups]
        for number, phase in enumerate(plan.phases):

            def run(turn: Array, before: list[Array], phase: Any = phase, number: int = number) -> list[Array]:
                after = list(before)
                for block in phase.blocks:
                    after[block.group] = self._turn(number, block, turn, after)
                return after

            storage = self._loop(number, run, storage)
        taps: list[Array] = []
        for n, tap in enumerate(plan.taps):
            group = plan.groups[tap.group]
            found = self._looked_up(storage[tap.group], group, f"tap.{n}", 0, lambda t: t.reshape(-1, 1), tap.memory)
            taps.append(found.reshape(*tap.shape[:-1], -1))
        return tuple(storage), tuple(taps)

    def _turn(self, phase: int, block: Block, turn: Array, storage: list[Array]) -> Array:
        g, group = block.group, self.plan.groups[block.group]
        place = functools.partial(turn_of, block=block, turn=turn)
        new = z = self._read(g, storage, place)
        if group.gates:
            w, b, p = self._chosen(g, phase, turn)
            a = product(z.reshape(block.slots, block.rows, -1), w)
            a = a if b is None else a + b[:, None]
            h, m = rule(group, a, self._slots(block, self._own(g, storage[g], place)), p)
            new = jnp.concatenate([h, a] if m is None else [h, m, a], axis=-1)
        first = (group.base + block.offset + turn * block.size) * group.vectors
        return lax.dynamic_update_slice_in_dim(storage[g], new.reshape(-1, group.hidden), first, 0)

    @staticmethod
    def _slots(block: Block, vectors: list[Array]) -> list[Array]:
        return [v.reshape(block.slots, block.rows, -1) for v in vectors]

    # -- backward ---------------------------------------------------------------------------------------------------

    def backward(self, storage: tuple[Array, ...], given: Sequence[Array]) -> dict[Role, Array]:
        """The gradients by role, from those of what the outputs read."""
        return Backward(self, storage, given).run()


def rule(group: Group, a: Array, own: list[Array], p: Array | None) -> tuple[Array, Array | None]:
    """A cell's rule over pre-activations ``[slots, rows, gates × hidden]``; peepholes are ``[slots, …]``."""
    n = group.hidden
    gates = [a[..., k * n : (k + 1) * n] for k in range(group.gates)]
    holes = [] if p is None else [p[:, None, k * n : (k + 1) * n] for k in range(p.shape[-1] // n)]
    made = CELLS[group.cell].rule
    assert made is not None
    return made(Names, gates, None if group.memory or not own else own[0], own if group.memory else [], holes, group.options)  # type: ignore[arg-type]


def product(z: Array, w: Array, across: bool = False) -> Array:
    """``[slots, rows, i]`` by ``[slots, i, o]``, or ``across`` by ``[slots, o, i]``: ``[slots, rows, o]``."""
    if w.shape[0] == 1:
        return (z[0] @ (w[0].T if across else w[0]))[None]
    return lax.dot_general(z, w, (((2,), (2 if across else 1,)), ((0,), (0,))))


class Backward:
    """The way back over one sweep.

    For each group ``slopes`` ``[(rows + 1) × slopes, hidden]`` holds the gradients of the pre-activations and of what was taken
    over, ``handed`` ``[(rows + 1) × reads, width]`` for each channel those of what was read; the row more, of zeros, is what
    nobody hands back.  ``holes`` ``[turns × slots, …]`` are those of peepholes."""

    def __init__(self, sweep: Sweep, storage: tuple[Array, ...], given: Sequence[Array]):
        self.sweep, self.plan, self.storage = sweep, sweep.plan, storage
        self.given: list[Array] = []
        for tap, gradient in zip(self.plan.taps, given, strict=True):
            n = self.plan.groups[tap.group].hidden
            self.given.append(jnp.concatenate([gradient.reshape(-1, n), jnp.zeros((1, n), sweep.dtype)]))

    def run(self) -> dict[Role, Array]:
        """The gradients by role."""
        dtype = self.sweep.dtype
        slopes = [jnp.zeros(((g.rows + 1) * g.slopes, g.hidden), dtype) for g in self.plan.groups]
        handed = [[jnp.zeros(((g.rows + 1) * len(c), g.widths[c[0]]), dtype) for c in g.channels] for g in self.plan.groups]
        joined = [jnp.zeros((g.rows, sum(g.joined)) if g.chosen else (0, 0), dtype) for g in self.plan.groups]
        state = (slopes, handed, joined)
        holes: list[list[Array]] = [[] for _ in self.plan.groups]
        for number in reversed(range(len(self.plan.phases))):
            phase = self.plan.phases[number]
            own: dict[int, Array] = {}
            for block in phase.blocks:
                p = self.sweep.weights[block.group][2]
                if p is not None:
                    own[block.group] = jnp.zeros((phase.turns, block.slots, p.shape[-1]), dtype)

            def run(turn: Array, before: Any, phase: Any = phase, number: int = number) -> Any:
                slopes, handed, joined, own = list(before[0]), [list(c) for c in before[1]], list(before[2]), dict(before[3])
                for block in reversed(phase.blocks):
                    self._turn(number, block, turn, slopes, handed, joined, own)
                return slopes, handed, joined, own

            *state, own = self.sweep._loop(number, run, (*state, own), backwards=True)
            for g, table in own.items():
                holes[g].append(table)
        self.slopes, self.handed, self.joined = state
        self.holes = [tables[::-1] for tables in holes]
        out: dict[Role, Array] = {}
        for g in range(len(self.plan.groups)):
            self._weights(g, out)
            self._joined(g, out)
            self._entries(g, out)
        return out

    def _pulled(self, g: int, place: Any, slopes: Array, handed: list[list[Array]]) -> tuple[Array, Array | None]:
        """The gradients of the hidden vectors and memories of some rows, ``place`` taking these of a list of readers."""
        group, tables = self.plan.groups[g], self.sweep.tables
        hidden: list[Array] = []
        memory: list[Array] = []
        for r, c, most in group.readers:
            if most:
                hidden.append(total(handed[r][c], place(tables[f"{g}.readers.{r}.{c}"])))
        if group.carried:
            (memory if group.memory else hidden).append(total(slopes, place(tables[f"{g}.readers.own"])))
        for n, most in group.tapped:
            if most:
                into = memory if self.plan.taps[n].memory else hidden
                into.append(total(self.given[n], place(tables[f"{g}.readers.tap.{n}"])))
        nothing = jnp.zeros((), self.sweep.dtype)
        dh, dm = (functools.reduce(jnp.add, parts, nothing) for parts in (hidden, memory))
        return dh, dm if group.memory else None

    def _turn(
        self, phase: int, block: Block, turn: Array, slopes: list[Array], handed: list[list[Array]], joined: list[Array],
        holes: dict[int, Array],
    ) -> None:  # fmt: skip
        """One group's turn back; what it makes is written to the lists."""
        g, group, sweep = block.group, self.plan.groups[block.group], self.sweep
        first = block.offset + turn * block.size

        def write(table: Array, new: Array, each: int) -> Array:
            return lax.dynamic_update_slice_in_dim(table, new.reshape(-1, table.shape[-1]), first * each, 0)

        dh, dm = self._pulled(
            g, lambda lists: lax.dynamic_slice_in_dim(lists, group.base + first, block.size, 1), slopes[g], handed)  # fmt: skip
        shape = (block.slots, block.rows, group.hidden)
        dh, dm = (None if d is None else jnp.broadcast_to(d, (block.size, group.hidden)).reshape(shape) for d in (dh, dm))
        dz = dh
        if group.gates:
            w, _, p = sweep._chosen(g, phase, turn)
            place = functools.partial(turn_of, block=block, turn=turn)
            stored = lax.dynamic_slice_in_dim(
                self.storage[g], (group.base + first) * group.vectors, block.size * group.vectors)  # fmt: skip
            a = stored.reshape(block.slots, block.rows, group.vectors * group.hidden)[..., (1 + group.memory) * group.hidden :]
            own = sweep._slots(block, sweep._own(g, self.storage[g], place))
            _, back = jax.vjp(lambda a, own, p: tuple(v for v in rule(group, a, own, p) if v is not None), a, own, p)
            da, taken, dp = back((dh, dm) if group.memory else (dh,))
            made = jnp.concatenate([da, *taken], axis=-1)
            if unrolled() > 1:
                # Made once: a kernel that made them again, after a block was written, would need a copy of what was there before.
                made = lax.optimization_barrier(made)
                da = made[..., : da.shape[-1]]
            slopes[g] = write(slopes[g], made, group.slopes)
            if dp is not None:
                holes[g] = lax.dynamic_update_slice_in_dim(holes[g], dp[None], turn, 0)
            width = sum(group.widths)
            assert w is not None
            dz = product(da, w if group.chosen else w[:, :width], across=True)
            if group.chosen and group.joined:
                joined[g] = write(joined[g], dz[..., width:], 1)
        at = np.cumsum([0, *group.widths])
        for c, channel in enumerate(group.channels):
            handed[g][c] = write(handed[g][c], dz[..., at[channel[0]] : at[channel[-1] + 1]], len(channel))

    # -- after the loops --------------------------------------------------------------------------------------------

    def _all(self, g: int) -> Array:
        """The gradients of all pre-activations of a group, ``[rows, gates × hidden]``."""
        group = self.plan.groups[g]
        whole = self.slopes[g][: group.rows * group.slopes].reshape(group.rows, -1)
        return whole[:, : group.gates * group.hidden]

    def _by_slot(self, g: int, rows: Array) -> list[tuple[int, Block, Array]]:
        """Rows of a group's, ``[rows, …]``, cut by phases: ``[turns, slots, rows, …]``."""
        return [(phase.turns, block, rows[block.offset : block.offset + phase.turns * block.size].reshape(
                    phase.turns, block.slots, block.rows, *rows.shape[1:]))
                for phase in self.plan.phases for block in phase.blocks if block.group == g]  # fmt: skip

    def _weights(self, g: int, out: dict[Role, Array]) -> None:
        """The gradients of weights, biases and peepholes."""
        group, sweep = self.plan.groups[g], self.sweep
        if not group.gates:
            return
        z, da = sweep._read(g, self.storage, lambda table: table), self._all(g)
        if group.chosen:
            by = sweep.tables[f"{g}.by_weight"]
            z, da = (take(jnp.concatenate([v, jnp.zeros((1, v.shape[1]), v.dtype)]), by) for v in (z, da))
            dw, db = jnp.einsum("wqi,wqo->wio", z, da), da.sum(1)
        elif sum(group.weights) == 1:
            dw, db = (z.T @ da)[None], da.sum(0)[None]
        else:
            pairs = list(zip(self._by_slot(g, z), self._by_slot(g, da), strict=True))
            dw = sum(jnp.einsum("tsri,tsro->sio", x, y) for (*_, x), (*_, y) in pairs)
            db = sum(y.sum((0, 2)) for _, (*_, y) in pairs)
        dp = None
        if sweep.weights[g][2] is not None:
            if group.chosen:
                dp = jnp.zeros_like(sweep.weights[g][2])
                for phase, table in zip(self._phases(g), self.holes[g], strict=True):
                    dp = dp.at[sweep.tables[f"{g}.chosen.{phase}"]].add(table)
            else:
                dp = sum(table.sum(0) for table in self.holes[g])
        at = np.cumsum([0, *group.weights])
        for k, name in enumerate(group.members):
            for letter, whole in zip("Wbp", (dw, db, dp), strict=True):
                if (name, letter, "") in sweep.arrays:
                    out[name, letter, ""] = whole[at[k] : at[k + 1]].reshape(sweep.arrays[name, letter, ""].shape)

    def _phases(self, g: int) -> list[int]:
        return [k for k, phase in enumerate(self.plan.phases) if any(block.group == g for block in phase.blocks)]

    def _joined(self, g: int, out: dict[Role, Array]) -> None:
        """The gradients of what joins; XLA leaves them out where nobody asks for them."""
        group, sweep = self.plan.groups[g], self.sweep
        if not group.joined:
            return
        if group.chosen:
            each = self.joined[g]
        else:
            w = sweep.weights[g][0][:, sum(group.widths) :]  # type: ignore[index]
            each = jnp.concatenate([
                jnp.einsum("tsro,sio->tsri", part, w).reshape(-1, w.shape[1]) for *_, part in self._by_slot(g, self._all(g))])  # fmt: skip
        at = np.cumsum([0, *group.joined])
        for j in range(len(group.joined)):
            rows = sweep.tables[f"{g}.joined.{j}"]
            summed = jnp.zeros_like(sweep.joined[g][j]).at[rows].add(each[:, at[j] : at[j + 1]])
            for name, first, count in self.plan.joins(group, j):
                key, part = (name, "joined", ""), summed[first : first + count]
                out[key] = out[key] + part if key in out else part

    def _entries(self, g: int, out: dict[Role, Array]) -> None:
        """The gradients of what entered."""
        group, arrays = self.plan.groups[g], self.sweep.arrays
        dh, dm = self._pulled(g, lambda lists: lists[:, : group.base], self.slopes[g], self.handed)
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
        """The gradient of a start, which any number of rows may read."""
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
            own = self.slopes[g].reshape(-1, group.slopes, group.hidden)[:-1]
            for d in range(group.entering):
                result = result + readers(f"{g}.own", d, own[:, group.gates + d])
        for n, tap in enumerate(self.plan.taps):
            if tap.group == g and tap.memory == (vector == "memory"):
                mask = (tables[f"tap.{n}"].ravel() == row).astype(self.sweep.dtype)
                result = result + mask @ self.given[n][:-1]
        return result


# -- as one function ------------------------------------------------------------------------------------------------


def forward(plan: Plan, roles: tuple[Role, ...], dtype: str) -> Callable[..., Any]:
    """``f(tables, arrays) → (storage, taps)`` with a gradient of its own; the arrays are in the order of the roles.

    Nothing comes back from the storage, which is there for ``backward``."""

    def run(tables: Tables, arrays: Sequence[Array]) -> Any:
        return Sweep(plan, tables, dict(zip(roles, arrays, strict=True)), jnp.dtype(dtype)).forward()

    def ahead(tables: Tables, arrays: Sequence[Array]) -> Any:
        storage, taps = run(tables, arrays)
        return (storage, taps), (tables, arrays, storage)

    def back(kept: Any, gradients: Any) -> Any:
        tables, arrays, storage = kept
        return None, backward(plan, roles, dtype)(tables, arrays, storage, gradients[1])

    function = jax.custom_vjp(run)
    function.defvjp(ahead, back)
    return function


def backward(plan: Plan, roles: tuple[Role, ...], dtype: str) -> Callable[..., Any]:
    """``f(tables, arrays, storage, gradients of the taps) → gradients of the arrays``, in the order of the roles."""

    def run(tables: Tables, arrays: Sequence[Array], storage: Any, given: Any) -> tuple[Array, ...]:
        sweep = Sweep(plan, tables, dict(zip(roles, arrays, strict=True)), jnp.dtype(dtype))
        found = sweep.backward(storage, given)
        return tuple(found[role] if role in found else jnp.zeros_like(a) for role, a in zip(roles, arrays, strict=True))

    def ahead(*arguments: Any) -> Any:
        raise UsageError(
            "the fused sweep has a gradient but no second derivative; compile or lower the spec with lowering='plain' for that"
        )

    function = jax.custom_vjp(run)
    function.defvjp(ahead, lambda *_: None)
    return function
