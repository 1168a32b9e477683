"""What goes into a grid and comes out of it, in ONNX: inputs and entries as rows by place, read-outs, lengths."""

# pyright: basic

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from gridc.arrays.conversion import Array
from gridc.language import lattice
from gridc.language.shapes import input_axes
from gridc.language.spec import GridSpec, Input, Output, Selection, Transform
from gridc.onnx.graph import Graph, Row, Value


class Ends:
    """The inputs and outputs of a model.

    ``sizes`` are those of every dimension; ``open`` is the dimension whose size only a call tells, or None.  What has an axis for
    that one has it first: ``[steps, places, batch, numbers]``; all else is ``[places, batch, numbers]``."""

    def __init__(
        self, graph: Graph, spec: GridSpec, numbers: Mapping[str, Array], sizes: tuple[int, ...], open_: int | None, lengths: bool
    ):
        self.graph, self.spec, self.numbers, self.sizes, self.open = graph, spec, numbers, sizes, open_
        self.arrays: dict[str, Value] = {}
        for name, axes in input_axes(spec).items():
            last = [spec.inputs[name].size] if axes.real else []
            shape = ["batch", *map(self.size, spec.inputs[name].over), *last]
            self.arrays[name] = graph.input(name, "float32" if axes.real else "int64", shape)
        first = next(iter(self.arrays.values()))
        self.batch = graph.op("Gather", graph.op("Shape", first, rows=0), graph.ints(0), axis=0, rows=0)
        self.lengths = None
        if lengths and open_ is not None:
            self.lengths = graph.input(f"{spec.dimensions[open_].size}.lengths", "int64", ["batch"])
        self._same: dict[tuple[int, bytes], Value] = {}

    def size(self, d: int) -> int | str:
        """Give a dimension's size, or the symbol where it is open."""
        return str(self.spec.dimensions[d].size) if d == self.open else self.sizes[d]

    def count(self, axes: Sequence[int]) -> int:
        """Count the places of these dimensions, the open one left out."""
        return math.prod(self.sizes[d] for d in axes if d != self.open)

    # -- what enters and what joins -----------------------------------------------------------------------------------

    def _laid(self, x: Input, value: Value, width: int) -> Value:
        """Put an input's vectors ``[batch, *over, width]`` into rows."""
        g, axes = self.graph, {d: 1 + n for n, d in enumerate(x.over)}
        steps = [axes[self.open]] if self.open in axes else []
        moved = g.transpose(value, *steps, *(axes[d] for d in x.over if d != self.open), 0, 1 + len(x.over))
        count = self.count(x.over)
        made = g.reshape(moved, *(0 for _ in steps), count, -1, width)
        made.rows = count
        return made

    def joined(self, x: Input) -> Value:
        """Give what stands for an input where it joins: features, an embedding, or a one in place of the id."""
        g, array = self.graph, self.arrays[x.name]
        if x.kind != "features" and x.embed is not None:
            array = g.op("Gather", g.const(self.numbers[f"{x.name}.embed"]), array, axis=0)
        elif x.kind != "features":
            array = g.op("OneHot", array, g.ints(x.size), g.const([0, 1]), axis=-1)
        return self._laid(x, array, x.width)

    def projected(self, x: Input, vector: str) -> Value:
        """Give what an entering input adds to a vector: its product and its bias."""
        g, array = self.graph, self.arrays[x.name]
        w, b = self.numbers[f"{x.name}.{vector}.W"], self.numbers[f"{x.name}.{vector}.b"]
        if x.kind != "features":
            w = w if x.embed is None else self.numbers[f"{x.name}.embed"] @ w
            made = g.op("Gather", g.const(w), array, axis=0)
        else:
            made = g.op("MatMul", array, g.const(w))
        return self._laid(x, made + g.const(b), w.shape[1])

    def entry(self, t: Transform, vector: str, projected: Mapping[tuple[str, str], Value]) -> Value:
        """Give what enters along a transform, a row for each place of the other dimensions."""
        own, g = t.along[0], self.graph
        at = lattice.points(tuple(1 if d in (own, self.open) else n for d, n in enumerate(self.sizes)))
        made = self.constant(self._start(t, vector))
        for x in self.spec.entering(t.name):
            if vector in x.into:
                chosen: tuple[Selection, ...] = tuple("all" if d == own else s for d, s in enumerate(x.at))
                rows = self.rows(x, at, chosen)
                value = projected[x.name, vector]
                blank = self.constant(np.zeros(t.hidden))
                made = made + g.take([(value, int(r)) if r >= 0 else (blank, 0) for r in rows])
        made.rows = len(at)
        return made

    def _start(self, t: Transform, vector: str) -> Array:
        return self.numbers.get(f"{t.name}.start.{vector[0]}", np.zeros(t.hidden))

    def start(self, t: Transform, vector: str) -> Row:
        """Give the row that enters along a transform where no input does."""
        return self.constant(self._start(t, vector)), 0

    def constant(self, vector: Array) -> Value:
        """Give a row that is the same vector for each example; to be called outside of a loop first."""
        key = (len(vector), np.asarray(vector, np.float32).tobytes())
        if key not in self._same:
            g = self.graph
            shape = g.op("Concat", g.ints(1), self.batch, g.ints(len(vector)), axis=0)
            self._same[key] = g.op("Expand", g.const(vector.reshape(1, 1, -1)), shape, rows=1)
        return self._same[key]

    def rows(self, x: Input, at: lattice.Ints, chosen: tuple[Selection, ...] | None = None) -> lattice.Ints:
        """Give the row of an input's array at the points, -1 where its ``at`` does not reach."""
        index = lattice.flat(at, self.sizes, [d for d in x.over if d != self.open])
        return np.where(lattice.selected(x.at if chosen is None else chosen, at, np.array(self.sizes)), index, -1)

    # -- read-outs ----------------------------------------------------------------------------------------------------

    def taken(self, o: Output, t: Transform, value: Value, cells: int) -> Value:
        """Put what an output reads of a transform into ``[batch, *axes, cells × hidden]``."""
        g = self.graph
        axes = [d for d in o.axes if d != self.open]
        shape = [*(self.sizes[d] for d in axes), cells, -1, t.hidden]
        if self.open in o.axes:
            value = g.reshape(value, 0, *shape)
            places = {self.open: 0, **{d: 1 + n for n, d in enumerate(axes)}}
        else:
            value = g.reshape(value, *shape)
            places = {d: n for n, d in enumerate(axes)}
        count = len(places)
        value = g.transpose(value, 1 + count, *(places[d] for d in o.axes), count, 2 + count)
        return g.reshape(value, *(0 for _ in range(1 + count)), cells * t.hidden)

    def answer(self, o: Output, found: Sequence[Value]) -> None:
        """Project what was read and declare the output: probabilities of classes and binary outputs, 0 past an example's end."""
        g = self.graph
        value = found[0] if len(found) == 1 else g.op("Concat", *found, axis=-1)
        if o.kind != "raw":
            value = g.op("MatMul", value, g.const(self.numbers[f"{o.name}.W"])) + g.const(self.numbers[f"{o.name}.b"])
        if o.kind == "classes":
            value = g.op("Softmax", value, axis=-1)
        elif o.kind == "binary":
            value = g.op("Squeeze", g.sigmoid(value), g.ints(-1))
        if self.lengths is not None and self.open in o.axes:
            value = g.op("Where", self._inside(o, 1 + len(o.axes) + (o.kind != "binary")), value, 0.0)
        last = [o.size] if o.kind != "binary" else []
        g.output(o.name, value, ["batch", *map(self.size, o.axes), *last])

    def steps(self) -> Value:
        """Count the steps of a call along the open dimension, ``[1]``."""
        x = next(x for x in self.spec.inputs.values() if self.open in x.over)
        shape = self.graph.op("Shape", self.arrays[x.name])
        return self.graph.op("Gather", shape, self.graph.ints(1 + x.over.index(self.open or 0)), axis=0)

    def _inside(self, o: Output, rank: int) -> Value:
        """Tell which steps lie within each example, in as many axes as the output has."""
        g = self.graph
        steps = g.op("Range", g.const(0, "int64"), g.op("Squeeze", self.steps(), g.ints(0)), g.const(1, "int64"))
        axis = 1 + o.axes.index(self.open or 0)
        shaped = g.reshape(steps, *(-1 if n == axis else 1 for n in range(rank)))
        return g.op("Less", shaped, g.reshape(self.lengths or steps, -1, *(1 for _ in range(rank - 1))))
