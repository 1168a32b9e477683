"""The integer arrays of one call that tell a device's sweep which rows it reads: of any lengths, within a plan's bucket.

Nothing is compiled for them.  A row that no step of the call uses reads the row of zeros and is read by nobody, so that no mask
is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gridc.language.lattice import Ints
from gridc.language.spec import GridSpec
from gridc.scheduling import graph, order, padded
from gridc.scheduling.layout import Layout
from gridc.scheduling.padded import Block, Entry, Group, Misfit, Phase, Plan, Tables
from gridc.scheduling.program import TransformProgram
from gridc.scheduling.readers import Readers


@dataclass(frozen=True)
class _Placed:
    """One group's steps, its members' one after the other: the turn of each, its weight among all of the group's, and its
    position among those of one turn and weight; ``pairs`` are the (turn, weight) that occur, as one number each, in order."""

    turn: Ints
    weight: Ints
    position: Ints
    pairs: Ints
    weights: tuple[int, ...]

    @property
    def chosen(self) -> bool:
        """Whether slots choose their weights: unless most of those with a weight each would rest in most turns."""
        total = sum(self.weights)
        return len(self.pairs) > 0 and total > 2 * int(np.bincount(self.pairs // total, minlength=1).max())

    def slots(self, chosen: bool) -> Ints:
        """Give the slot of each step: that of its weight, or where they are ``chosen`` the first of its turn that is free."""
        if not chosen:
            return self.weight
        total = sum(self.weights)
        nth = np.arange(len(self.pairs)) - np.searchsorted(self.pairs // total, self.pairs // total)
        return nth[np.searchsorted(self.pairs, self.turn * total + self.weight)]


@dataclass(frozen=True)
class Turns:
    """The steps of a grid, and when each of them runs."""

    steps: graph.StepGraph
    order: order.Order


def turns(spec: GridSpec, sizes: tuple[int, ...], extents: Ints | None = None) -> Turns:
    """When every step of a grid runs; extents matter only where states wrap around."""
    steps = graph.build(spec, sizes, extents)
    return Turns(steps, order.earliest(steps))


class Steps:
    """The steps of a grid of a bucket's sizes, each example of its own extent, in turns.

    The rows themselves are those of the sweep on a CPU (``Layout``); only where they lie differs."""

    def __init__(self, grid: Turns, batch: int, extents: Ints | None):
        self.spec, self.batch, self.sizes = grid.steps.spec, batch, grid.steps.sizes
        self.lane = Layout(grid.steps, batch, extents, grid.order)
        self.weight, self.names = self.lane.weight, self.lane.names
        self.programs, self.readings = self.lane.transforms, self.lane.outputs
        self.wraps = self.lane.wraps
        self.whole = grid.order.time
        self.times = [self.whole[i][cell] for i, (cell, _) in enumerate(self.lane.rows)]
        self.parts = self._partition()
        self.group_of = {i: g for g, part in enumerate(self.parts) for i in part}
        self.turns, self.turn_at = self._turns()
        self.placed = [self._place(part) for part in self.parts]

    # -- groups and turns -------------------------------------------------------------------------------------------

    def _partition(self) -> list[list[int]]:
        """Group the transforms that keep vectors, by their shape and by that of what they read; in their order."""
        transforms = list(self.spec.transforms.values())
        alive = [i for i, home in enumerate(self.lane.storage) if home == i]
        shape: dict[int, object] = {}
        for i in alive:
            p, t = self.programs[i], transforms[i]
            wraps = tuple(self.spec.transforms[read.of].start == "wrap" for read in t.reads)
            shape[i] = (p.cell, p.options, p.dimensions, p.hidden, p.gates, len(p.sources), p.joined, wraps, t.start == "wrap")
        while True:
            numbers = {one: k for k, one in enumerate(dict.fromkeys(shape.values()))}
            finer: dict[int, object] = {
                i: (numbers[shape[i]], tuple(numbers[shape[s]] for s in self.programs[i].sources)) for i in alive}  # fmt: skip
            if len(set(finer.values())) == len(numbers):
                break
            shape = finer
        parts = [[i for i in alive if numbers[shape[i]] == k] for k in range(len(numbers))]
        # Of the whole grid, not of the cells that these examples have: all calls of a bucket have the same groups and turns.
        return sorted(parts, key=lambda part: min(int(self.whole[i].min()) for i in part))

    def _turns(self) -> tuple[int, Ints]:
        """How many turns, and the turn of every time: a turn runs each group once, in their order."""
        groups: dict[int, set[int]] = {}
        for i, g in self.group_of.items():
            for time in np.unique(self.whole[i]).tolist():
                groups.setdefault(time, set()).add(g)
        turn_at = np.zeros(max(groups, default=0) + 1, np.int64)
        turn, last = -1, len(self.parts)
        for time in sorted(groups):
            turn += min(groups[time]) <= last
            last = max(groups[time])
            turn_at[time] = turn
        return turn + 1, turn_at

    def _place(self, part: list[int]) -> _Placed:
        weights = tuple(int(self.weight[i].max(initial=0)) + 1 if self.programs[i].gates else 1 for i in part)
        first = np.cumsum([0, *weights])
        turn = np.concatenate([self.turn_at[self.times[i]] for i in part])
        own = [self.weight[i][self.lane.rows[i][0]] * (self.programs[i].gates > 0) + first[k] for k, i in enumerate(part)]
        weight, total = np.concatenate(own), int(first[-1])
        pair = turn * total + weight
        by = np.argsort(pair, kind="stable")
        position = np.empty(len(by), np.int64)
        position[by] = np.arange(len(by)) - np.searchsorted(pair[by], pair[by])
        return _Placed(turn, weight, position, np.unique(pair), weights)

    # -- what is compiled -------------------------------------------------------------------------------------------

    def plan(self, others: Sequence[Steps] = ()) -> Plan:
        """Make the plan that these steps need, and others in the same turns that need no more room but may have more readers."""
        slots, rows = (np.zeros((self.turns, len(self.parts)), np.int64) for _ in range(2))
        for g, p in enumerate(self.placed):
            np.maximum.at(slots[:, g], p.turn, p.slots(True) + 1 if p.chosen else sum(p.weights))
            np.maximum.at(rows[:, g], p.turn, p.position + 1)
        found: list[Phase] = []
        stored = [0] * len(self.parts)
        for first, end in padded.phases(slots * rows, sum(len(p.turn) for p in self.placed)):
            blocks: list[Block] = []
            for g in np.flatnonzero(slots[first:end].max(axis=0)).tolist():
                block = Block(g, int(slots[first:end, g].max()), int(rows[first:end, g].max()), stored[g])
                stored[g] += (end - first) * block.size
                blocks.append(block)
            found.append(Phase(end - first, tuple(blocks)))
        groups = tuple(self._group(g, stored[g]) for g in range(len(self.parts)))
        names = [o.name for o in self.spec.outputs.values() for _ in o.reads]
        taps = tuple(padded.Tap(name, self.group_of[found.storage], found.memory, found.rows.shape)
                     for name, found in zip(names, self.readings, strict=True))  # fmt: skip
        plan = Plan(self.spec, self.batch, self.sizes, groups, tuple(found), taps)
        for steps in (self, *others):
            readers = Readers(plan, steps.tables(plan, complete=False))
            plan = replace(plan, groups=tuple(readers.counted(g) for g in range(len(groups))))
        return replace(plan, shapes=tuple((name, table.shape) for name, table in self.tables(plan).items()))

    def _group(self, g: int, rows: int) -> Group:
        part, p = self.parts[g], self.programs[self.parts[g][0]]
        entries: list[Entry] = []
        row = 0
        for name, b in zip(self.names, self.lane.boundaries, strict=True):
            if self.group_of[b.storage] == g:
                entries.append(Entry(name, row, b.count, row + b.count))
                row += b.count + 1
        members = tuple(self.names[i] for i in part)
        of = {read.of for name in members for read in self.spec.transforms[name].reads} | set(members)
        # What a `pass` hands on may have wrapped around as well.
        found = [self.spec.transforms[name] for name in of]
        wraps = any(t.start == "wrap" for t in self.spec.transforms.values()) and any(
            t.start == "wrap" or self.spec.relayed(t) for t in found)  # fmt: skip
        placed = self.placed[g]
        most = int(np.bincount(placed.weight, minlength=1).max()) if placed.chosen else 0
        return Group(
            members, p.cell, p.options, p.dimensions, p.hidden, p.gates, tuple(self.group_of[s] for s in p.sources),
            tuple(self.programs[s].hidden for s in p.sources), p.joined, placed.weights, placed.chosen, most, row + 1, rows,
            tuple(entries), wraps,
        )  # fmt: skip

    # -- what is told at every call ---------------------------------------------------------------------------------

    def tables(self, plan: Plan, complete: bool = True) -> Tables:
        """Give the index arrays, int32, by name; Misfit where the plan has no room for these steps.

        ``G.read`` ``[rows, reads]`` and ``G.own`` ``[rows, entering]`` are rows of the sources' storage, ``G.read.far`` and
        ``G.own.far`` what is added where they wrapped around; ``G.joined.J`` ``[rows]`` rows of the vectors that join;
        ``tap.N`` (and ``.far``) what outputs read; ``G.chosen.PHASE`` ``[turns, slots]`` weights and ``G.by_weight``
        ``[weights, most]`` rows.  Where ``complete``, the lists of readers as well."""
        out: Tables = {}
        new = self._new_rows(plan)
        whole = {i: self._storage(plan, i, new[i]) for i in self.group_of}
        far = {i: self._far(plan, i, whole[i]) for i in self.group_of}

        def filled(g: int, columns: dict[int, np.ndarray], nothing: int) -> np.ndarray:
            table = np.full(plan.groups[g].rows, nothing, np.int32)
            for i, rows in columns.items():
                table[new[i]] = rows
            return table

        def looked_up(key: str, g: int, of: list[dict[int, tuple[int, Ints]]]) -> None:
            """Add a table of a column for each read: for every member the storage that it looks in, and at which rows."""
            for name, places in (("", whole), (".far", far)) if plan.groups[g].wraps else (("", whole),):
                columns: list[np.ndarray] = []
                for read in of:
                    zeros = plan.groups[self.group_of[next(iter(read.values()))[0]]].base - 1
                    columns.append(filled(g, {i: places[s][rows] for i, (s, rows) in read.items()}, zeros))
                out[key + name] = np.stack(columns, axis=1)

        for g, group in enumerate(plan.groups):
            part = {i: self.programs[i] for i in self.parts[g]}
            if group.sources:
                looked_up(f"{g}.read", g, [
                    {i: (p.sources[j], p.read_rows[j]) for i, p in part.items()} for j in range(len(group.sources))])  # fmt: skip
            if group.entering:
                looked_up(f"{g}.own", g, [{i: (i, p.memory_rows[d]) for i, p in part.items()} for d in range(group.entering)])
            for j in range(len(group.joined)):
                nothing = sum(count for *_, count in plan.joins(group, j))
                out[f"{g}.joined.{j}"] = filled(g, self._joining(plan, group, part, j, nothing), nothing)
            if group.chosen:
                self._choose(plan, g, new, out)
        self._tap(plan, whole, far, out)
        if complete:
            readers = Readers(plan, out)
            for g in range(len(plan.groups)):
                out |= readers.lists(g)
        return out

    def _joining(
        self, plan: Plan, group: Group, part: dict[int, TransformProgram], j: int, nothing: int
    ) -> dict[int, np.ndarray]:
        """Give for each member of a group the rows that join as its input number ``j``, or ``nothing``'s."""
        first = {name: row for name, row, _ in plan.joins(group, j)}
        start = {i: first[self.spec.joined(self.names[i])[j].name] for i in part}
        return {i: np.where(p.joined_rows[j] >= 0, start[i] + p.joined_rows[j], nothing) for i, p in part.items()}

    def _new_rows(self, plan: Plan) -> dict[int, Ints]:
        """For every transform the computed row of the plan's storage at which each of its steps lies."""
        starts = np.cumsum([0, *(phase.turns for phase in plan.phases)])
        if self.turns > starts[-1] or len(self.parts) != len(plan.groups):
            raise Misfit
        new: dict[int, Ints] = {}
        for g, (part, p) in enumerate(zip(self.parts, self.placed, strict=True)):
            group = plan.groups[g]
            if tuple(self.names[i] for i in part) != group.members:
                raise Misfit
            slot = p.slots(group.chosen)
            room = np.zeros((len(plan.phases), 3), np.int64)  # slots, rows, offset
            for k, phase in enumerate(plan.phases):
                for block in phase.blocks:
                    if block.group == g:
                        room[k] = block.slots, block.rows, block.offset
            k = np.searchsorted(starts, p.turn, side="right") - 1
            slots, rows, offset = room[k].T
            if (slot >= slots).any() or (p.position >= rows).any():
                raise Misfit
            flat = offset + ((p.turn - starts[k]) * slots + slot) * rows + p.position
            ends = np.cumsum([len(self.times[i]) for i in part])[:-1]
            new |= dict(zip(part, np.split(flat, ends), strict=True))
        return new

    def _storage(self, plan: Plan, i: int, new: Ints) -> Ints:
        """For every row of a transform's storage on a CPU, and then for -1, the row of its group's storage."""
        group, p = plan.groups[self.group_of[i]], self.programs[i]
        whole = np.full(p.rows + p.boundary + 1, group.base - 1)
        whole[: p.rows] = group.base + new
        entries = {entry.transform: entry for entry in group.entries}
        for name, b in zip(self.names, self.lane.boundaries, strict=True):
            if b.storage == i:
                whole[b.first : b.start] = entries[name].first + np.arange(b.count)
                whole[b.start : b.start + self.batch] = entries[name].first + b.count
        return whole

    def _far(self, plan: Plan, i: int, whole: Ints) -> Ints:
        """For every row of a transform's storage on a CPU the row, of the group's, that is added to it: where it wrapped
        around the far end's, else the row of zeros."""
        far = np.full_like(whole, plan.groups[self.group_of[i]].base - 1)
        _, source, to = self.wraps[self.wraps[:, 0] == i].T
        far[to] = whole[source]
        return far

    def _choose(self, plan: Plan, g: int, new: dict[int, Ints], out: Tables) -> None:
        """Which weights each slot uses at each turn, and which rows use each weight."""
        group, p = plan.groups[g], self.placed[g]
        total, starts = sum(group.weights), np.cumsum([0, *(phase.turns for phase in plan.phases)])
        flat = np.concatenate([new[i] for i in self.parts[g]])
        for k, phase in enumerate(plan.phases):
            for block in phase.blocks:
                if block.group == g:
                    table = np.zeros((phase.turns, block.slots), np.int32)
                    here = (p.turn >= starts[k]) & (p.turn < starts[k + 1])
                    table[p.turn[here] - starts[k], (flat[here] - block.offset) // block.rows % block.slots] = p.weight[here]
                    out[f"{g}.chosen.{k}"] = table
        if np.bincount(p.weight, minlength=1).max() > group.most:
            raise Misfit
        by = np.argsort(p.weight, kind="stable")
        nth = np.arange(len(by)) - np.searchsorted(p.weight[by], p.weight[by])
        out[f"{g}.by_weight"] = table = np.full((total, group.most), group.rows, np.int32)
        table[p.weight[by], nth] = flat[by]

    def _tap(self, plan: Plan, whole: dict[int, Ints], far: dict[int, Ints], out: Tables) -> None:
        """Add what outputs read; nothing where an example has no such cell."""
        for n, (tap, planned) in enumerate(zip(self.readings, plan.taps, strict=True)):
            out[f"tap.{n}"] = whole[tap.storage][tap.rows].astype(np.int32)
            if plan.groups[planned.group].wraps:
                out[f"tap.{n}.far"] = far[tap.storage][tap.rows].astype(np.int32)


def own_extents(spec: GridSpec, batch: int, sizes: tuple[int, ...], lengths: Ints) -> Ints:
    """Each example's own sizes, ``[batch, dimensions]``: those of the examples that there are, and 0 for the others."""
    result = np.zeros((batch, len(sizes)), np.int64)
    result[: len(lengths)] = sizes
    for d, dimension in enumerate(spec.dimensions):
        if isinstance(dimension.size, str):
            result[: len(lengths), d] = lengths[:, spec.symbols.index(dimension.size)]
    return result
