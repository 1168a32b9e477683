"""The index arrays of a call whose examples are smaller than its bucket: those of the whole grid, changed where that matters.

A step that an example lacks reads the row of zeros.  Otherwise only what looks ahead, past an example's end, finds something else
there.  Where states wrap around, the turns themselves depend on the examples, and nothing of this holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gridc.language.lattice import Ints, Mask, carried, source
from gridc.language.spec import Transform
from gridc.scheduling.addresses import Addresses
from gridc.scheduling.layout import Layout
from gridc.scheduling.padded import Plan, Tables
from gridc.scheduling.turns import Steps


@dataclass(frozen=True)
class _Ahead:
    """A read of transform ``i`` that may look past an example's end: a column of a table, what it looks at from every row
    ``[rows, dimensions]``, and how far it gets until it finds something."""

    key: str
    column: int
    i: int
    reader: str
    of: Transform
    looked: Ints
    reach: Ints


class Shortened:
    """The index arrays of one plan's calls."""

    def __init__(self, steps: Steps, plan: Plan):
        self.steps, self.plan, self.lane = steps, plan, steps.lane
        self.addresses = Addresses(steps, plan)
        self._bare = self.addresses.tables(complete=False)

    @cached_property
    def _whole(self) -> Tables:
        """The index arrays where every example fills the grid."""
        return self.addresses.completed(dict(self._bare))

    @cached_property
    def _places(self) -> dict[int, tuple[Ints, Ints]]:
        """The cell ``[rows, dimensions]`` and the example of every row of a transform."""
        return {i: (self.lane.at[cell], example) for i, (cell, example) in enumerate(self.lane.rows)}

    @cached_property
    def _ahead(self) -> list[_Ahead]:
        spec = self.steps.spec
        found: list[_Ahead] = []
        for i, g in self.steps.group_of.items():
            group, t = self.plan.groups[g], spec.transforms[self.lane.names[i]]
            at, _ = self._places[i]
            reads = [(f"{g}.read", j, spec.transforms[read.of], source(spec, read, at)) for j, read in enumerate(t.reads)]
            if group.entering:
                reads += [(f"{g}.own", d, t, looked) for d, looked in enumerate(carried(t, at))][: group.entering]
            for key, column, of, looked in reads:
                reach = self._reach(of, looked)
                if (reach > at).any():
                    found.append(_Ahead(key, column, i, t.name, of, looked, reach))
        return found

    def _reach(self, of: Transform, looked: Ints) -> Ints:
        """Give the farthest of the points that a look goes by: that of a `pass`, and all that it hands on."""
        spec, reach = self.steps.spec, looked
        while spec.relayed(of):
            read = of.reads[0]
            looked, of = source(spec, read, looked), spec.transforms[read.of]
            reach = np.maximum(reach, looked)
        return reach

    def tables(self, extents: Ints, complete: bool = True) -> Tables:
        """Give the index arrays, int32, by name, for examples of these sizes, ``[batch, dimensions]``; those that stay what they
        are in the whole grid are the same arrays.  Misfit where the plan has no room for the lists of readers."""
        whole = self._whole if complete else self._bare
        if (extents == np.asarray(self.plan.sizes)).all():
            return whole
        short = self.lane.shortened(extents)
        there: Mask = np.all(self.lane.at[:, None, :] < extents[None], axis=2)
        inside = {i: there[cell, example] for i, (cell, example) in enumerate(self.lane.rows)}
        out = dict(whole)
        for g, group in enumerate(self.plan.groups):
            gone = np.concatenate([self.addresses.rows[i][~inside[i]] for i in self.steps.parts[g]])
            zeros = [self.plan.groups[s].base - 1 for s in group.sources]
            for key, nothing in ((f"{g}.read", zeros), (f"{g}.own", [group.base - 1] * group.entering)):
                if nothing:
                    out[key] = table = out[key].copy()
                    table[gone] = np.asarray(nothing, np.int32)
            self._join(g, gone, short, out)
        changed = False
        for ahead in self._ahead:
            changed |= self._look(ahead, inside[ahead.i], extents, short, out)
        self.addresses.tap(short.outputs, out)
        return self.addresses.completed(out, taps_only=not changed) if complete else out

    def _join(self, g: int, gone: Ints, short: Layout, out: Tables) -> None:
        """Say what joins: where that is at an example's end, it is elsewhere."""
        for j in range(len(self.plan.groups[g].joined)):
            out[f"{g}.joined.{j}"] = table = out[f"{g}.joined.{j}"].copy()
            for i in self.steps.parts[g]:
                x = self.steps.spec.joined(self.lane.names[i])[j]
                if "last" in x.at:
                    table[self.addresses.rows[i]] = self.addresses.joining(i, j, short.joined(x, *self._places[i]))
            table[gone] = self.addresses.nothing(g, j)

    def _look(self, ahead: _Ahead, inside: Mask, extents: Ints, short: Layout, out: Tables) -> bool:
        """Find anew what a read sees where it looks past an example's end; tell whether it does anywhere."""
        _, example = self._places[ahead.i]
        past = np.flatnonzero(inside & (ahead.reach >= extents[example]).any(axis=1))
        if not len(past):
            return False
        rows, looked, example = self.addresses.rows[ahead.i][past], ahead.looked[past], example[past]
        storage = self.steps.lane.storage[self.lane.number[ahead.of.name]]
        out[ahead.key][rows, ahead.column] = self.addresses.whole[storage][short.find(ahead.of, looked, example)]
        g = self.steps.group_of[ahead.i]
        masked = self.plan.groups[g].masked
        if ahead.key.endswith("read") and ahead.column in masked:
            masks = short.masks(ahead.reader, ahead.of, looked, example)
            seen = np.full(len(past), -1) if masks is None else masks
            out[f"{g}.masked"] = table = out[f"{g}.masked"].copy()
            table[rows, masked.index(ahead.column)] = self.addresses.masking(storage, seen)
        return True
