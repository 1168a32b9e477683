"""The steps of a device's sweep in turns: groups of transforms that run side by side, and when each of their steps runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gridc.language import noise
from gridc.language.lattice import Ints
from gridc.language.spec import GridSpec
from gridc.scheduling import graph, order, padded
from gridc.scheduling.layout import Layout
from gridc.scheduling.padded import Block, Entry, Group, Phase, Plan
from gridc.scheduling.program import TransformProgram


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
            shape[i] = (p.cell, p.options, p.dimensions, p.hidden, p.gates, len(p.sources), p.joined, wraps, t.start == "wrap",
                        t.zoneout, t.attends, t.embeddings)  # fmt: skip
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

    def outline(self, worth: float = math.inf) -> Plan:
        """Make the plan that these steps need, but for their readers and the shapes of the index arrays; ``worth`` is how many
        multiply-adds a phase of its own must save."""
        slots, rows = (np.zeros((self.turns, len(self.parts)), np.int64) for _ in range(2))
        for g, p in enumerate(self.placed):
            np.maximum.at(slots[:, g], p.turn, p.slots(True) + 1 if p.chosen else sum(p.weights))
            np.maximum.at(rows[:, g], p.turn, p.position + 1)
        work = [max(1, self._width(self.programs[part[0]])) for part in self.parts]
        computed = sum(len(p.turn) * each for p, each in zip(self.placed, work, strict=True))
        found: list[Phase] = []
        stored = [0] * len(self.parts)
        for first, end in padded.phases(slots * rows * work, computed, worth):
            blocks: list[Block] = []
            for g in np.flatnonzero(slots[first:end].max(axis=0)).tolist():
                block = Block(g, int(slots[first:end, g].max()), int(rows[first:end, g].max()), stored[g])
                stored[g] += (end - first) * block.size
                blocks.append(block)
            found.append(Phase(end - first, tuple(blocks)))
        groups = tuple(self._group(g, stored[g]) for g in range(len(self.parts)))
        read = [(o.name, tap.transform) for o in self.spec.outputs.values() for tap in o.reads]
        taps = tuple(
            padded.Tap(name, self.group_of[found.storage], found.memory, found.rows.shape, noise.hides(self.spec, of, of))
            for (name, of), found in zip(read, self.readings, strict=True))  # fmt: skip
        return Plan(self.spec, self.batch, self.sizes, groups, tuple(found), taps)

    def _width(self, p: TransformProgram) -> int:
        """Count the multiply-adds of one row."""
        return p.width * (sum(self.programs[s].hidden for s in p.sources) + sum(p.joined))

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
        t = self.spec.transforms[members[0]]
        hides = [[noise.hides(self.spec, name, read.of) for read in self.spec.transforms[name].reads] for name in members]
        masked = tuple(j for j in range(len(p.sources)) if any(each[j] for each in hides))
        return Group(
            members, p.cell, p.options, p.dimensions, p.hidden, p.gates, tuple(self.group_of[s] for s in p.sources),
            tuple(self.programs[s].hidden for s in p.sources), p.joined, placed.weights, placed.chosen, most, row + 1, rows,
            tuple(entries), wraps, masked, t.zoneout, t.attends,
        )  # fmt: skip

