"""The integer arrays of one call that tell a device's sweep which rows it reads: of any lengths, within a plan's bucket.

Nothing is compiled for them.  Every step of the bucket's whole grid has a row of its own, whichever of them a call has.  A row
that no step of the call uses reads the row of zeros and is read by nobody, so that no mask is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from gridc.language.lattice import Ints
from gridc.language.spec import GridSpec
from gridc.scheduling.layout import Reading
from gridc.scheduling.padded import Group, Misfit, Plan, Tables
from gridc.scheduling.program import TransformProgram
from gridc.scheduling.readers import Readers
from gridc.scheduling.turns import Steps


def planned(
    steps: Steps, worth: float = math.inf, others: Callable[[Plan], Iterable[Tables]] = lambda plan: ()
) -> Plan:  # fmt: skip
    """Make the plan that steps need, and ``others`` in the same turns that need no more room but may have more readers; ``worth``
    is how many multiply-adds a phase of its own must save."""
    plan = steps.outline(worth)
    for tables in (Addresses(steps, plan).tables(complete=False), *others(plan)):
        readers = Readers(plan, tables)
        plan = replace(plan, groups=tuple(readers.counted(g) for g in range(len(plan.groups))))
    whole = Addresses(steps, plan).tables()
    return replace(plan, shapes=tuple((name, table.shape) for name, table in whole.items()))


class Addresses:
    """Where the steps of a grid lie among a plan's rows, ``rows`` by transform; raises Misfit where the plan has no room."""

    def __init__(self, steps: Steps, plan: Plan):
        self.steps, self.plan, self.spec, self.lane, self.names = steps, plan, steps.spec, steps.lane, steps.names
        self.rows = self._new_rows()
        self.whole = {i: self._storage(i) for i in steps.group_of}

    @cached_property
    def _far(self) -> dict[int, Ints]:
        """For every row of a transform's storage on a CPU the row, of the group's, that is added to it: where it wrapped around
        the far end's, else the row of zeros."""
        found: dict[int, Ints] = {}
        for i, whole in self.whole.items():
            found[i] = far = np.full_like(whole, self._group(i).base - 1)
            _, source, to = self.steps.wraps[self.steps.wraps[:, 0] == i].T
            far[to] = whole[source]
        return found

    def tables(self, complete: bool = True) -> Tables:
        """Give the index arrays, int32, by name.

        ``G.read`` ``[rows, reads]`` and ``G.own`` ``[rows, entering]`` are rows of the sources' storage, ``G.read.far`` and
        ``G.own.far`` what is added where they wrapped around; ``G.joined.J`` ``[rows]`` rows of the vectors that join;
        ``tap.N`` (and ``.far``) what outputs read; ``G.chosen.PHASE`` ``[turns, slots]`` weights and ``G.by_weight``
        ``[weights, most]`` rows.  ``G.masked`` ``[rows, masked reads]`` and ``tap.N.masked`` are rows of the sources' dropout
        masks and then of ones, ``G.kept`` and ``G.facts`` ``[rows]`` those of zoneout's masks and sets of facts.  Where
        ``complete``, the lists of readers as well; Misfit where the plan has no room for them."""
        out: Tables = {}
        for g, group in enumerate(self.plan.groups):
            part = {i: self.steps.programs[i] for i in self.steps.parts[g]}
            if group.sources:
                read = [{i: (p.sources[j], p.read_rows[j]) for i, p in part.items()} for j in range(len(group.sources))]
                self._look_up(f"{g}.read", g, read, out)
            if group.entering:
                own = [{i: (i, p.memory_rows[d]) for i, p in part.items()} for d in range(group.entering)]
                self._look_up(f"{g}.own", g, own, out)
            for j in range(len(group.joined)):
                rows = {i: self.joining(i, j, p.joined_rows[j]) for i, p in part.items()}
                out[f"{g}.joined.{j}"] = self._filled(g, rows, self.nothing(g, j))
            self._mask(g, part, out)
            if group.chosen:
                self._choose(g, out)
        self.tap(self.steps.readings, out)
        return self.completed(out) if complete else out

    def completed(self, tables: Tables, taps_only: bool = False) -> Tables:
        """Add the lists of readers, or only those of outputs, that index arrays come to; Misfit where the plan has no room."""
        readers = Readers(self.plan, tables)
        for g in range(len(self.plan.groups)):
            tables |= readers.lists(g, taps_only)
        return tables

    def _group(self, i: int) -> Group:
        """Give the group of a transform."""
        return self.plan.groups[self.steps.group_of[i]]

    def _filled(self, g: int, columns: dict[int, np.ndarray], nothing: int) -> np.ndarray:
        table = np.full(self.plan.groups[g].rows, nothing, np.int32)
        for i, rows in columns.items():
            table[self.rows[i]] = rows
        return table

    def _look_up(self, key: str, g: int, of: list[dict[int, tuple[int, Ints]]], out: Tables) -> None:
        """Add a table of a column for each read: for every member the storage that it looks in, and at which rows."""
        for name, places in ((key, self.whole), (f"{key}.far", self._far)) if self.plan.groups[g].wraps else ((key, self.whole),):
            columns: list[np.ndarray] = []
            for read in of:
                zeros = self._group(next(iter(read.values()))[0]).base - 1
                columns.append(self._filled(g, {i: places[s][rows] for i, (s, rows) in read.items()}, zeros))
            out[name] = np.stack(columns, axis=1)

    # -- what joins and what is masked --------------------------------------------------------------------------------

    def nothing(self, g: int, j: int) -> int:
        """Give the row of zeros behind the vectors that join a group's members as their input number ``j``."""
        return sum(count for *_, count in self.plan.joins(self.plan.groups[g], j))

    def joining(self, i: int, j: int, rows: Ints) -> Ints:
        """Give the rows, among all that join a group's members as their input number ``j``, of those of transform ``i``'s input;
        -1 is nothing."""
        g = self.steps.group_of[i]
        first = {name: row for name, row, _ in self.plan.joins(self.plan.groups[g], j)}[self.spec.joined(self.names[i])[j].name]
        return np.where(rows >= 0, first + rows, self.nothing(g, j))

    def _mask(self, g: int, part: dict[int, TransformProgram], out: Tables) -> None:
        """Add the rows of masks, and of facts."""
        group, batch = self.plan.groups[g], self.plan.batch
        t, p = self.spec.transforms[group.members[0]], next(iter(part.values()))
        columns: list[np.ndarray] = []
        for j in group.masked:
            ones = self.masking(p.sources[j], np.full(1, -1)).item()
            seen = {i: own.masks[j] for i, own in part.items()}
            rows = {i: self.masking(part[i].sources[j], found) for i, found in seen.items() if found is not None}
            columns.append(self._filled(g, rows, ones))
        if columns:
            out[f"{g}.masked"] = np.stack(columns, axis=1)
        if group.zoneout:
            each = batch * math.prod(self.plan.sizes)
            kept = {i: k * each + own.kept_rows for k, (i, own) in enumerate(part.items()) if own.kept_rows is not None}
            out[f"{g}.kept"] = self._filled(g, kept, 0)
        if group.attends is not None:
            each = batch * (self.plan.sizes[t.along[0]] + 1 if t.embeddings == "adjacent" else 1)
            sets = {i: k * each + own.fact_rows for k, (i, own) in enumerate(part.items()) if own.fact_rows is not None}
            out[f"{g}.facts"] = self._filled(g, sets, 0)

    def masking(self, of: int, rows: Ints) -> Ints:
        """Give the rows, among the dropout masks of a group's members, of those of transform ``of``; for -1 that of ones."""
        every = self.plan.hidden_by(self._group(of))
        first = {name: row for name, row, _ in every}.get(self.names[of], 0)
        return np.where(rows < 0, sum(count for *_, count in every), first + rows)

    # -- where the rows lie -------------------------------------------------------------------------------------------

    def _new_rows(self) -> dict[int, Ints]:
        """For every transform the computed row of the plan's storage at which each of its steps lies."""
        steps, plan = self.steps, self.plan
        starts = np.cumsum([0, *(phase.turns for phase in plan.phases)])
        if steps.turns > starts[-1] or len(steps.parts) != len(plan.groups):
            raise Misfit
        new: dict[int, Ints] = {}
        for g, (part, p) in enumerate(zip(steps.parts, steps.placed, strict=True)):
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
            ends = np.cumsum([len(steps.times[i]) for i in part])[:-1]
            new |= dict(zip(part, np.split(flat, ends), strict=True))
        return new

    def _storage(self, i: int) -> Ints:
        """For every row of a transform's storage on a CPU, and then for -1, the row of its group's storage."""
        group, p, steps = self._group(i), self.steps.programs[i], self.steps
        whole = np.full(p.rows + p.boundary + 1, group.base - 1)
        whole[: p.rows] = group.base + self.rows[i]
        entries = {entry.transform: entry for entry in group.entries}
        for name, b in zip(self.names, self.lane.boundaries, strict=True):
            if b.storage == i:
                whole[b.first : b.start] = entries[name].first + np.arange(b.count)
                whole[b.start : b.start + steps.batch] = entries[name].first + b.count
        return whole

    def _choose(self, g: int, out: Tables) -> None:
        """Which weights each slot uses at each turn, and which rows use each weight."""
        plan, group, p = self.plan, self.plan.groups[g], self.steps.placed[g]
        total, starts = sum(group.weights), np.cumsum([0, *(phase.turns for phase in plan.phases)])
        flat = np.concatenate([self.rows[i] for i in self.steps.parts[g]])
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

    def tap(self, readings: Sequence[Reading], out: Tables) -> None:
        """Add what outputs read; nothing where an example has no such cell."""
        for n, (tap, planned) in enumerate(zip(readings, self.plan.taps, strict=True)):
            out[f"tap.{n}"] = self.whole[tap.storage][tap.rows].astype(np.int32)
            if self.plan.groups[planned.group].wraps:
                out[f"tap.{n}.far"] = self._far[tap.storage][tap.rows].astype(np.int32)
            if planned.masked:
                masks = np.full_like(tap.rows, -1) if tap.masks is None else tap.masks
                out[f"tap.{n}.masked"] = self.masking(tap.storage, masks).astype(np.int32)


def own_extents(spec: GridSpec, batch: int, sizes: tuple[int, ...], lengths: Ints) -> Ints:
    """Each example's own sizes, ``[batch, dimensions]``: those of the examples that there are, and 0 for the others."""
    result = np.zeros((batch, len(sizes)), np.int64)
    result[: len(lengths)] = sizes
    for d, dimension in enumerate(spec.dimensions):
        if isinstance(dimension.size, str):
            result[: len(lengths), d] = lengths[:, spec.symbols.index(dimension.size)]
    return result
