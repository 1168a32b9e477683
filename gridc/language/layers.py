"""Which specs are recurrent layers one upon the other, as other libraries have them: what may leave as LSTM or GRU of theirs.

A *layer* is one transform forward along a dimension, or one forward and one backward, at one index of the other dimension where
there is one.  It reads its own vector and everything of the layer below, the first one the input; one output reads the last.
"""

from __future__ import annotations

from typing import NamedTuple

from gridc.errors import UsageError
from gridc.language.spec import GridSpec, Input, Output, Read, Transform

CELLS = ("lstm", "gru")


class Place(NamedTuple):
    """Where the weights of one direction of a layer lie: the transform, the index into its ``W`` where it is untied, the rows
    that multiply its own vector and those that multiply each direction of what is below."""

    transform: str
    level: int | None
    own: slice
    below: tuple[slice, ...]


class Layer(NamedTuple):
    """One layer; ``places`` are the forward direction, and the backward one where there is one."""

    cell: str
    hidden: int
    bias: bool
    dropout: float
    places: tuple[Place, ...]


class Layers(NamedTuple):
    """A spec as layers."""

    input: Input
    layers: tuple[Layer, ...]
    output: Output
    last: bool
    """Whether the output is read at the last step of each direction, or at all steps."""


_Node = tuple[str, int]
"""A transform and its level, 0 where there is no other dimension."""


def layers(spec: GridSpec) -> Layers:
    """Find the layers that a spec is made of.  Raises UsageError that says why it is no such network."""
    return _Reading(spec).layers()


class _Reading:
    def __init__(self, spec: GridSpec):
        self.spec = spec
        self.cells = [t for t in spec.transforms.values() if not t.mechanism.relays]
        first = self.cells[0] if self.cells else self.no("it has no cells")
        self.time = first.along[0]
        others = [d for d in range(len(spec.dimensions)) if d != self.time]
        if len(others) > 1:
            self.no(f"it has {len(spec.dimensions)} dimensions; expected one for time, and at most one for levels")
        self.depth = others[0] if others else None
        self.levels = self._levels(first)

    def no(self, why: str) -> Transform:
        raise UsageError(f"'{self.spec.name}' is not a stack of LSTM or GRU layers as other libraries have them: {why}")

    def _levels(self, first: Transform) -> int:
        size = 1 if self.depth is None else self.spec.dimensions[self.depth].size
        for t in self.cells:
            if t.cell not in CELLS or t.along != (self.time,):
                self.no(f"transform '{t.name}' is a {t.cell} along {' and '.join(self.spec.names(t.along))}; expected an lstm or "
                        f"a gru along {self.spec.dimensions[self.time].name}")  # fmt: skip
            if t.options.peepholes or t.zoneout or t.start != "zeros" or t.shares or len(set(t.direction[0].cycle)) > 1:
                self.no(f"transform '{t.name}' has peepholes, zoneout, an alternating direction, a start or another's weights")
            if t.untied != (() if self.depth is None else (self.depth,)):
                self.no(f"transform '{t.name}' has no weights of its own at every level; expected tied: "
                        f"[{self.spec.dimensions[self.time].name}]")  # fmt: skip
        for t in self.spec.transforms.values():
            if t.mechanism.relays and (t.along != (self.depth,) or t.start != "zeros" or set(t.direction[0].cycle) != {1}):
                self.no(f"the pass '{t.name}' does not go up from level to level")
        return int(size)

    def layers(self) -> Layers:
        """Put the transforms' levels into layers, first ones first."""
        if len(self.spec.inputs) != 1 or len(self.spec.outputs) != 1:
            self.no(f"it has {len(self.spec.inputs)} inputs and {len(self.spec.outputs)} outputs; expected one of each")
        (x,), (o,) = self.spec.inputs.values(), self.spec.outputs.values()
        if x.enters is not None or x.facts or x.over != (self.time,):
            self.no(f"the input '{x.name}' does not join the first layer at every step")
        nodes = [(t.name, level) for level in range(self.levels) for t in self.cells]
        waiting = {node: self._place(node, x) for node in nodes}
        found: list[Layer] = []
        below: tuple[_Node, ...] = ()
        while waiting:
            ready = [node for node, (_, sources) in waiting.items() if set(sources) == (set(below) if found else {None})]
            ready.sort(key=lambda node: self._backward(node[0]))
            ways = [self._backward(name) for name, _ in ready]
            if ways not in ([False], [False, True]):
                self.no("a layer is not one transform forward, or one forward and one backward, that read all of the layer below"
                        if ready else "some transform does not read exactly the layer below and its own vector")  # fmt: skip
            found.append(self._layer([(waiting.pop(node), node) for node in ready], below))
            below = tuple(ready)
        return Layers(x, tuple(found), o, self._last(o, below))

    def _backward(self, name: str) -> bool:
        return self.spec.transforms[name].direction[0].cycle[0] < 0

    def _place(self, node: _Node, x: Input) -> tuple[Place, dict[_Node | None, slice]]:
        """Find the rows of one transform's weights at one level: its own, and by what is below; None is the input."""
        name, level = node
        t, row, own = self.spec.transforms[name], 0, None
        sources: dict[_Node | None, slice] = {}
        for read in t.reads:
            rows = slice(row, row + self.spec.transforms[read.of].hidden)
            row = rows.stop
            of, when, where = self._found(read, level)
            if where < 0:
                continue  # below the first level there is nothing
            if when == -t.direction[0].cycle[0] and (of, where) == node and own is None:
                own = rows
            elif when == 0 and (of, where) not in sources:
                sources[of, where] = rows
            else:
                self.no(f"'{name}' reads more than its own vector and the layer below")
        if name in x.joins and (self.depth is None or self._joins(x, level)):
            sources[None] = slice(row, row + x.width)
        if own is None:
            self.no(f"'{name}' does not read its own vector")
        assert own is not None
        return Place(name, None if self.depth is None else level, own, ()), sources

    def _joins(self, x: Input, level: int) -> bool:
        assert self.depth is not None
        at = x.at[self.depth]
        return at == "all" or level in ((0,) if at == "first" else (self.levels - 1,) if at == "last" else at)

    def _found(self, read: Read, level: int) -> tuple[str, int, int]:
        """Tell which cell's transform a read finds, through passes: its name, how many steps away, and at which level."""
        t = self.spec.transforms[read.of]
        steps = [o - (t.direction[t.along.index(d)].cycle[0] if d == read.via else 0) for d, o in enumerate(read.offset)]
        when, where = steps[self.time], level + (0 if self.depth is None else steps[self.depth])
        if not t.mechanism.relays or where < 0:
            return t.name, when, where
        of, more, where = self._found(t.reads[0], where)
        return of, when + more, where

    def _layer(self, ready: list[tuple[tuple[Place, dict[_Node | None, slice]], _Node]], below: tuple[_Node, ...]) -> Layer:
        first = self.spec.transforms[ready[0][1][0]]
        what = (first.cell, first.hidden, first.bias, first.dropout)
        for _, (name, _) in ready:
            t = self.spec.transforms[name]
            if (t.cell, t.hidden, t.bias, t.dropout) != what:
                self.no(f"'{first.name}' and '{name}', the directions of one layer, are not alike")
        places = [place._replace(below=tuple(sources[node] for node in (below or (None,)))) for (place, sources), _ in ready]
        return Layer(*what, tuple(places))

    def _last(self, o: Output, below: tuple[_Node, ...]) -> bool:
        reads = [(tap.transform, tap.memory) for tap in o.reads]
        when, where = o.at[self.time], None if self.depth is None else o.at[self.depth]
        if reads != [(name, False) for name, _ in below] or where not in (None, "last", (self.levels - 1,)):
            self.no(f"the output '{o.name}' does not read the hidden vectors of the last layer, forward before backward")
        if when not in ("all", "last"):
            self.no(f"the output '{o.name}' is read at {when}; expected all steps or the last one")
        return when == "last"
