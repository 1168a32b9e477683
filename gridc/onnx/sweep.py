"""The sweep in ONNX: a grid of sizes that are known written out level by level, or one step of it as the body of a Scan.

Where every read along a dimension goes to the same step or to the one before (the grid is *uniform* along it), the body is one
step: all cells at one index of that dimension.  What they find of the step before are the Scan's states.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gridc.arrays.conversion import Array
from gridc.language import lattice
from gridc.language.lattice import Ints, Wait
from gridc.language.shapes import effective_blocks
from gridc.language.spec import GridSpec, Output, Transform
from gridc.onnx.ends import Ends
from gridc.onnx.graph import Graph, Row, Value

HERE, WIDE = 2, 5
"""The step that is written, in a grid of so many: one with steps before and after it."""
Key = tuple[str, bool]
Cell = tuple[int, ...]


def uniform(spec: GridSpec, axis: int) -> int:
    """Give the direction, 1 or -1, in which a grid can go along a dimension step by step; 0 where it cannot."""
    symbol = spec.dimensions[axis].size
    if not isinstance(symbol, str) or sum(d.size == symbol for d in spec.dimensions) > 1:
        return 0
    ways: set[int] = set()
    for t in spec.transforms.values():
        if any(d.over == axis or (a == axis and len(set(d.cycle)) > 1) for a, d in zip(t.along, t.direction, strict=True)):
            return 0
        if t.start == "wrap" and axis in t.along:
            return 0
        ways |= {-d.cycle[0] for a, d in zip(t.along, t.direction, strict=True) if a == axis and t.carries}
        for read in t.reads:
            of = spec.transforms[read.of]
            step = read.offset[axis] - (of.direction[of.along.index(axis)].cycle[0] if read.via == axis else 0)
            others = any(o for d, o in enumerate(read.offset) if d != axis) or read.via not in (None, axis)
            ways |= {step, step + (of.wrap[axis] if of.start == "wrap" else 0)}
            if step and others and spec.entering(of.name) and axis not in of.along:
                return 0  # it may find what entered with the step before
        if t.start == "wrap" and t.carries:
            ways.add(t.wrap[axis])
    if any(x.at and x.at[axis] != "all" for x in spec.inputs.values()):
        return 0
    if any(isinstance(o.at[axis], tuple) for o in spec.outputs.values()) or not ways <= {-1, 0} | {0, 1}:
        return 0
    moves = ways - {0}
    return 0 if len(moves) > 1 else -moves.pop() if moves else 1


class Sweep:
    """Writes a grid into a graph; with ``way`` 1 or -1 as a Scan along the open dimension, else whole."""

    def __init__(self, graph: Graph, spec: GridSpec, numbers: Mapping[str, Array], ends: Ends, way: int):
        self.graph, self.spec, self.numbers, self.ends, self.way = graph, spec, numbers, ends, way
        self.sizes = tuple(WIDE if d == ends.open else n for d, n in enumerate(ends.sizes))
        ends.sizes = self.sizes
        at = lattice.points(self.sizes)
        self.at: Ints = at if ends.open is None else at[at[:, ends.open] == HERE]
        extent = np.array(self.sizes)
        self.cells: list[Cell] = [tuple(cell) for cell in self.at.tolist()]
        self.own = set(self.cells)
        self.waits = {name: list(lattice.waits(spec, t, self.at, extent)) for name, t in spec.transforms.items()}
        self.old = {name: lattice.find(t, -1, lattice.carried(t, self.at)[0], extent)
                    for name, t in spec.transforms.items() if t.zoneout}  # fmt: skip
        self.rows: dict[Key, dict[Cell, Row]] = {}
        self.entries: dict[tuple[str, str], Value] = {}
        self.joined: dict[str, Value] = {}

    # -- all at once --------------------------------------------------------------------------------------------------

    def whole(self) -> None:
        """Write every cell."""
        self.joined = {x.name: self.ends.joined(x) for x in self.spec.inputs.values() if x.joins}
        self._enter(self._projected(), inside=True)
        self._levels()
        extents = np.array([self.sizes])
        for o in self.spec.outputs.values():
            found: list[Value] = []
            for tap in o.reads:
                t = self.spec.transforms[tap.transform]
                where, _ = lattice.output_points(o, t, self.sizes, extents)
                rows = [self.rows[tap.transform, tap.memory][tuple(cell)] for cell in where.reshape(-1, len(self.sizes)).tolist()]
                found.append(self.ends.taken(o, t, self.graph.take(rows), where.shape[-2]))
            self.ends.answer(o, found)

    def _projected(self) -> dict[tuple[str, str], Value]:
        return {(x.name, v): self.ends.projected(x, v) for x in self.spec.inputs.values() for v in x.into if x.enters}

    def _enter(self, projected: Mapping[tuple[str, str], Value], inside: bool) -> None:
        """Make what enters along each transform: those along the open dimension before the loop, the others inside."""
        for name, t in self.spec.transforms.items():
            if (t.along[0] == self.ends.open) != inside or self.ends.open is None:
                for vector in {v for x in self.spec.entering(name) for v in x.into}:
                    self.entries[name, vector] = self.ends.entry(t, vector, projected)

    # -- step by step -------------------------------------------------------------------------------------------------

    def scan(self) -> None:
        """Write a Scan along the open dimension, and read the outputs from what it gives."""
        g, spec, axis = self.graph, self.spec, self.ends.open
        assert axis is not None
        for t in spec.transforms.values():  # constants that the body looks at lie outside of it
            for vector in ("hidden", "memory"):
                self.ends.start(t, vector)
            self.ends.constant(np.zeros(t.hidden))
        for x in spec.inputs.values():
            self.ends.constant(np.zeros(x.width))
        joined = {x.name: self.ends.joined(x) for x in spec.inputs.values() if x.joins}
        projected = self._projected()
        self._enter(projected, inside=False)
        states = self._states()
        initial = [g.take([self._initial(key, cell) for cell in cells]) for key, cells in states.items()]
        stepped = [name for name, x in spec.inputs.items() if axis in x.over]
        slices = [*((name, v) for name, v in joined.items() if name in stepped),
                  *((key, v) for key, v in projected.items() if key[0] in stepped)]  # fmt: skip
        names = [g.name(what) for what in (*("state" for _ in states), *("step" for _ in slices))]
        with g.inside() as nodes:
            for (key, cells), name in zip(states.items(), names, strict=False):
                value = Value(g, name, len(cells))
                self.rows[key] = {cell: (value, n) for n, cell in enumerate(cells)}
            here = {key: Value(g, name, v.rows) for (key, v), name in zip(slices, names[len(states) :], strict=True)}
            self.joined = {name: here.get(name, v) for name, v in joined.items()}
            self._enter({key: here.get(key, v) for key, v in projected.items()}, inside=True)
            self._levels()
            after = [g.take([self.rows[key][self._next(cell)] for cell in cells]) for key, cells in states.items()]
            taps = [g.take([self.rows[tap.transform, tap.memory][cell] for cell in self._tapped(o, tap.transform)])
                    for o in spec.outputs.values() for tap in o.reads]  # fmt: skip
            given = [g.op("Identity", value) for value in (*after, *taps)]  # a body gives what it makes itself
            body = g.helper.make_graph(nodes, "step", [g.info(n) for n in names], [g.info(value.name) for value in given])
        back = int(self.way < 0)
        found = g.ops("Scan", [*initial, *(v for _, v in slices)], len(given), body=body, num_scan_inputs=len(slices),
                      scan_input_directions=[back] * len(slices), scan_output_directions=[back] * len(taps))  # fmt: skip
        read = iter(found[len(states) :])
        for o in spec.outputs.values():
            self.ends.answer(o, [self._picked(o, spec.transforms[tap.transform], next(read)) for tap in o.reads])

    def _next(self, cell: Cell) -> Cell:
        """Give the cell that is, for the next step, where this one is for the present one."""
        axis = self.ends.open or 0
        return tuple(HERE if d == axis else n for d, n in enumerate(cell))

    def _states(self) -> dict[Key, list[Cell]]:
        """List what a step finds of the one before: cells by transform and vector."""
        found: dict[Key, dict[Cell, None]] = {}
        for name, t in self.spec.transforms.items():
            waits = [*self.waits[name], *([self.old[name]] if t.zoneout else [])]
            for wait in waits:
                kinds = [False] if wait.by >= 0 else [*([False] if t.mechanism.uses_hidden or t.zoneout else []),
                                                      *([True] if t.has_memory else [])]  # fmt: skip
                for cell in map(tuple, wait.points[wait.steps].tolist()):
                    if cell not in self.own:
                        for memory in kinds:
                            found.setdefault((wait.of.name, memory), {})[cell] = None
        return {key: list(cells) for key, cells in found.items()}

    def _initial(self, key: Key, cell: Cell) -> Row:
        t, vector = self.spec.transforms[key[0]], ("hidden", "memory")[key[1]]
        if self.ends.open in t.along:
            return self._entering(t, vector, np.array(cell))
        return self.ends.start(t, vector)

    def _tapped(self, o: Output, name: str) -> Iterator[Cell]:
        sizes = tuple(1 if d == self.ends.open else n for d, n in enumerate(self.sizes))
        where, _ = lattice.output_points(o, self.spec.transforms[name], sizes, np.array([sizes]))
        yield from (self._next(tuple(cell)) for cell in where.reshape(-1, len(sizes)).tolist())

    def _picked(self, o: Output, t: Transform, steps: Value) -> Value:
        """Give what an output reads of all steps ``[steps, rows, batch, hidden]``, in the order of its axes."""
        g, axis = self.graph, self.ends.open
        assert axis is not None
        others = [d for d in o.axes if d != axis]
        cells = len(list(self._tapped(o, t.name))) // self.ends.count(others)
        if o.at[axis] != "all":
            forward = axis not in t.along or self.way > 0
            last = (o.at[axis] == "last") == forward
            if last and self.ends.lengths is not None:
                moved = g.transpose(steps, 2, 0, 1, 3)
                index = g.op("Unsqueeze", self.ends.lengths, g.ints(1)) - g.const(1, "int64")
                steps = g.transpose(g.op("GatherND", moved, index, batch_dims=1), 1, 0, 2)
            else:
                steps = g.op("Gather", steps, g.const(-1 if last else 0, "int64"), axis=0)
        return self.ends.taken(o, t, steps, cells)

    # -- cells --------------------------------------------------------------------------------------------------------

    def _levels(self) -> None:
        """Write the cells in an order in which each finds what it waits for, those of one level and one weight together."""
        for level in self._order():
            groups: dict[tuple[str, int], list[int]] = {}
            for name, n in level:
                t = self.spec.transforms[name]
                weight = int(lattice.weights(t, self.at[n : n + 1], self.sizes)[0])
                groups.setdefault((name, weight), []).append(n)
            for (name, weight), chosen in groups.items():
                self._write(self.spec.transforms[name], weight, chosen)

    def _order(self) -> Iterator[list[tuple[str, int]]]:
        number = {cell: n for n, cell in enumerate(self.cells)}
        waiting: dict[tuple[str, int], set[tuple[str, int]]] = {(name, n): set() for name in self.waits for n in number.values()}
        for name, waits in self.waits.items():
            for wait in waits:
                for n, (cell, there) in enumerate(zip(map(tuple, wait.points.tolist()), wait.steps, strict=True)):
                    if there and cell in number:
                        waiting[name, n].add((wait.of.name, number[cell]))
        readers: dict[tuple[str, int], list[tuple[str, int]]] = {}
        for step, before in waiting.items():
            for other in before:
                readers.setdefault(other, []).append(step)
        ready = [step for step, before in waiting.items() if not before]
        while ready:
            yield ready
            following: list[tuple[str, int]] = []
            for step in ready:
                for reader in readers.get(step, ()):
                    waiting[reader].discard(step)
                    if not waiting[reader]:
                        following.append(reader)
            ready = following

    def _write(self, t: Transform, weight: int, chosen: list[int]) -> None:
        g, waits = self.graph, self.waits[t.name]
        reads, own = [w for w in waits if w.by >= 0], [w for w in waits if w.by < 0]
        if t.mechanism.relays and not any(reads[0].wrapped[chosen]):
            self._made(t, False, chosen, [self._source(reads[0], n, False)[0] for n in chosen])
            return
        z = [self._gathered(wait, chosen, False) for wait in reads]
        for x in self.spec.joined(t.name):
            rows, blank = self.ends.rows(x, self.at[chosen]), self.ends.constant(np.zeros(x.width))
            z.append(g.take([(self.joined[x.name], int(r)) if r >= 0 else (blank, 0) for r in rows]))
        seen = z[0] if len(z) == 1 else g.op("Concat", *z, axis=-1, rows=len(chosen))
        if t.mechanism.relays:
            self._made(t, False, chosen, [(seen, k) for k in range(len(chosen))])
            return
        a = g.op("MatMul", seen, g.const(self._number(t, "W", weight)), rows=len(chosen))
        if t.bias:
            a = a + g.const(self._number(t, "b", weight))
        gates = g.ops("Split", [a], len(t.gates), len(chosen), axis=-1, num_outputs=len(t.gates)) if len(t.gates) > 1 else [a]
        hidden = self._gathered(own[0], chosen, False) if t.mechanism.uses_hidden else None
        memories = [self._gathered(wait, chosen, True) for wait in own] if t.has_memory else []
        names = t.peephole_names()
        holes = [g.const(p) for p in np.split(self._number(t, "p", weight), len(names))] if names else []
        holes += [g.const(self._number(t, vector, weight)) for vector in t.vectors]
        assert t.mechanism.rule is not None
        made: list[Any] = list(t.mechanism.rule(g, gates, hidden, memories, holes, t.options))
        if t.zoneout:
            olds: list[Any] = [self._gathered(self.old[t.name], chosen, False), memories[0] if memories else None]
            made = [v if v is None else t.zoneout * old + (1 - t.zoneout) * v for v, old in zip(made, olds, strict=True)]
        for memory, value in enumerate(made):
            if value is not None:
                value = Value(g, value.name, len(chosen))
                self._made(t, bool(memory), chosen, [(value, k) for k in range(len(chosen))])

    def _made(self, t: Transform, memory: bool, chosen: list[int], rows: list[Row]) -> None:
        self.rows.setdefault((t.name, memory), {}).update(zip((self.cells[n] for n in chosen), rows, strict=True))

    def _number(self, t: Transform, letter: str, weight: int) -> Array:
        array = self.numbers[f"{self.spec.weight_owner(t.name)}.{letter}"]
        array = array.reshape(-1, *array.shape[len(t.untied) :])[weight]
        mask = effective_blocks(self.spec, t) if letter == "W" else None
        return array if mask is None else array * mask

    def _gathered(self, wait: Wait, chosen: list[int], memory: bool) -> Value:
        """Bring together what one wait finds, ``[chosen, batch, hidden]``."""
        found = [self._source(wait, n, memory) for n in chosen]
        value = self.graph.take([row for row, _ in found])
        if any(more is not None for _, more in found):
            blank = self.ends.constant(np.zeros(wait.of.hidden))
            value = value + self.graph.take([more or (blank, 0) for _, more in found])
        return value

    def _source(self, wait: Wait, n: int, memory: bool) -> tuple[Row, Row | None]:
        """Find one vector, and for one that wraps what enters besides."""
        t, vector = wait.of, ("hidden", "memory")[memory]
        if wait.steps[n]:
            row = self.rows[t.name, memory][tuple(wait.points[n].tolist())]
            more = wait.wrapped[n] and (t.name, vector) in self.entries
            return row, self._entering(t, vector, wait.looked[n]) if more else None
        if wait.entering[n]:
            return self._entering(t, vector, wait.looked[n]), None
        return self.ends.start(t, vector), None

    def _entering(self, t: Transform, vector: str, looked: Ints) -> Row:
        entry = self.entries.get((t.name, vector))
        if entry is None:
            return self.ends.start(t, vector)
        axes = [d for d in range(len(self.sizes)) if d not in (t.along[0], self.ends.open)]
        return entry, int(lattice.flat(looked[None], self.sizes, axes)[0])
