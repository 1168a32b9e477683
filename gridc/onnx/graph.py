"""An ONNX graph while it is written: values with arithmetic, so that a cell's own rule writes its nodes.

A vector of the grid is a *row* ``[batch, hidden]`` of a value ``[rows, batch, hidden]``; ``take`` brings rows together.
"""

# onnx brings no types that help.
# pyright: basic, reportMissingImports=false

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

OPSET = 18
IR = 10
"""The version of the file format: that of the opset's years, which older runtimes read, too."""


COMPARE = {">": "Greater", "<": "Less", ">=": "GreaterOrEqual", "<=": "LessOrEqual"}


class Value:
    """A tensor of a graph; ``rows`` is the size of its first axis, where it is known and matters."""

    def __init__(self, graph: Graph, name: str, rows: int = 0):
        self.graph, self.name, self.rows = graph, name, rows

    def __add__(self, other: Any) -> Value:
        return self.graph.op("Add", self, other)

    def __mul__(self, other: Any) -> Value:
        return self.graph.op("Mul", self, other)

    def __sub__(self, other: Any) -> Value:
        return self.graph.op("Sub", self, other)

    def __truediv__(self, other: Any) -> Value:
        return self.graph.op("Div", self, other)

    def __radd__(self, other: Any) -> Value:
        return self.graph.op("Add", other, self)

    def __rmul__(self, other: Any) -> Value:
        return self.graph.op("Mul", other, self)

    def __rsub__(self, other: Any) -> Value:
        return self.graph.op("Sub", other, self)

    def __rtruediv__(self, other: Any) -> Value:
        return self.graph.op("Div", other, self)

    def __neg__(self) -> Value:
        return self.graph.op("Neg", self)


Row = tuple[Value, int]


class Graph:
    """Nodes, inputs, outputs and constants; also the namespace that a cell's rule calls."""

    def __init__(self) -> None:
        from onnx import helper, numpy_helper

        self.helper, self.numpy = helper, numpy_helper
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.constants: dict[tuple[str, tuple[int, ...], bytes], tuple[str, Any]] = {}
        self._count = 0

    def name(self, kind: str) -> str:
        """Make a name that nothing has."""
        self._count += 1
        return f"{kind.lower()}.{self._count}"

    def const(self, array: Any, dtype: str = "float32") -> Value:
        """Give a constant; equal ones are one."""
        array = np.ascontiguousarray(array, dtype)
        key = (dtype, array.shape, array.tobytes())
        if key not in self.constants:
            name = self.name("constant")
            self.constants[key] = name, self.numpy.from_array(array, name)
        return Value(self, self.constants[key][0], len(array) if array.ndim == 3 else 0)

    def ints(self, *numbers: int) -> Value:
        """Give a vector of integers: a shape, or where to look."""
        return self.const(np.array(numbers, np.int64), "int64")

    def ops(self, kind: str, inputs: Sequence[Any], outputs: int, rows: int = 0, **attributes: Any) -> list[Value]:
        """Add a node of several outputs; an input None is left out, and a number is a constant."""
        names = ["" if v is None else v.name if isinstance(v, Value) else self.const(v).name for v in inputs]
        made = [self.name(kind) for _ in range(outputs)]
        self.nodes.append(self.helper.make_node(kind, names, made, **attributes))
        return [Value(self, name, rows) for name in made]

    def op(self, kind: str, *inputs: Any, rows: int | None = None, **attributes: Any) -> Value:
        """Add a node of one output, which has the most rows of its inputs where nothing else is said."""
        most = max(v.rows if isinstance(v, Value) else 0 for v in inputs)
        return self.ops(kind, inputs, 1, most if rows is None else rows, **attributes)[0]

    # -- what a rule calls --------------------------------------------------------------------------------------------

    def tanh(self, a: Value) -> Value:
        """Take the hyperbolic tangent."""
        return self.op("Tanh", a)

    def sigmoid(self, a: Value) -> Value:
        """Take the logistic function."""
        return self.op("Sigmoid", a)

    def relu(self, a: Value) -> Value:
        """Put 0 for every number below it."""
        return self.op("Relu", a)

    def softplus(self, a: Value) -> Value:
        """Take ``log(1 + exp(a))``."""
        return self.op("Softplus", a)

    def exp(self, a: Value) -> Value:
        """Take the exponential."""
        return self.op("Exp", a)

    def log(self, a: Value) -> Value:
        """Take the natural logarithm."""
        return self.op("Log", a)

    def sqrt(self, a: Value) -> Value:
        """Take the square root."""
        return self.op("Sqrt", a)

    def number(self, value: float, like: Value) -> Value:
        """Give a number as a constant."""
        return self.const(value)

    def mean(self, a: Value) -> Value:
        """Take the mean over the units, which stay as an axis of length 1."""
        return self.op("ReduceMean", a, self.ints(-1), keepdims=1)

    def where(self, sign: str, a: Value, b: Value, x: Value, y: Value) -> Value:
        """Give ``x`` where a comparison holds, and ``y`` elsewhere."""
        return self.op("Where", self.op(COMPARE[sign], a, b), x, y)

    # -- rows ---------------------------------------------------------------------------------------------------------

    def take(self, rows: Sequence[Row]) -> Value:
        """Bring rows together, ``[rows, batch, hidden]``."""
        values = list({value.name: value for value, _ in rows}.values())
        starts = dict(zip((v.name for v in values), np.cumsum([0, *(v.rows for v in values)]), strict=False))
        index = [int(starts[value.name]) + row for value, row in rows]
        whole = values[0] if len(values) == 1 else self.op("Concat", *values, axis=0, rows=sum(v.rows for v in values))
        if index == list(range(whole.rows)):
            return whole
        return self.op("Gather", whole, self.ints(*index), axis=0, rows=len(index))

    def reshape(self, value: Value, *shape: int) -> Value:
        """Give the same numbers another shape; 0 keeps an axis, -1 is what is left."""
        return self.op("Reshape", value, self.ints(*shape), rows=max(shape[0], 0))

    def transpose(self, value: Value, *axes: int) -> Value:
        """Put the axes into this order."""
        return self.op("Transpose", value, perm=list(axes), rows=0)

    @contextmanager
    def inside(self) -> Iterator[list[Any]]:
        """Add nodes to the body of a loop meanwhile."""
        outer, self.nodes = self.nodes, []
        try:
            yield self.nodes
        finally:
            self.nodes = outer

    # -- what is written ----------------------------------------------------------------------------------------------

    def info(self, name: str, dtype: str = "float32", shape: Sequence[int | str] | None = None) -> Any:
        """Describe a tensor that goes in or out; an axis bears a name where its size is open."""
        kind = self.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.helper.make_tensor_value_info(name, kind, None if shape is None else list(shape))

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> Value:
        """Declare an input of the model."""
        self.inputs.append(self.info(name, dtype, shape))
        return Value(self, name)

    def output(self, name: str, value: Value, shape: Sequence[int | str]) -> None:
        """Declare an output of the model."""
        self.nodes.append(self.helper.make_node("Identity", [value.name], [name]))
        self.outputs.append(self.info(name, "float32", shape))

    def model(self, name: str, about: dict[str, str]) -> Any:
        """Make the model, with what is to be known about it."""
        from gridc import __version__

        constants = [tensor for _, tensor in self.constants.values()]
        graph = self.helper.make_graph(self.nodes, name, self.inputs, self.outputs, constants)
        model = self.helper.make_model(graph, producer_name="gridc", producer_version=__version__, ir_version=IR,
                                       opset_imports=[self.helper.make_opsetid("", OPSET)])  # fmt: skip
        self.helper.set_model_props(model, about)
        return model
