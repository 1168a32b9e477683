"""Rewrites for the Python linker: elementwise nodes become calls of NumPy's ufuncs and nothing else.

Where there is none PyTensor's Python linker calls a Python function for every element (3.0.7): for sums and products of more than
two, for casts, and for filling one array in the shape of another.  A training step of ``specs/dropout.yaml`` took 2.2 s so.
And where there is one it looks at every shape and sets NumPy's handling of errors at every call, 10 µs a node: a third of the
nodes of a small grid's step.  Shapes are checked before a grid's functions are called, which ignore those errors throughout.
"""

# pyright: basic

from __future__ import annotations

import functools
from functools import reduce
from typing import Any, cast

import numpy as np
import pytensor.tensor as pt
from pytensor import scalar
from pytensor.compile.mode import optdb
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.scalar.math import Sigmoid
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.math import add, mul
from pytensor.tensor.utils import import_func_from_string

from gridc.symbolic.backends import UFUNCS


class AsType(Op):
    """``numpy.ndarray.astype``: an array's numbers in another dtype."""

    __props__ = ("dtype",)

    def __init__(self, dtype: str):
        self.dtype = dtype

    def make_node(self, x: Any) -> Apply:
        """Apply to one variable; the output has its shape and ``dtype``."""
        return Apply(self, [x], [x.type.clone(dtype=self.dtype)()])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
        """Convert the array."""
        output_storage[0][0] = inputs[0].astype(self.dtype)


def logistic(x: Any) -> Any:
    """Give ``1 / (1 + exp(-x))``, by vector instructions: ``scipy.special.expit`` takes four times as long."""
    made = np.negative(x)
    if not isinstance(made, np.ndarray):
        return 1 / (1 + np.exp(made))
    np.exp(made, out=made)
    made += 1
    return np.reciprocal(made, out=made)


class Ufunc(Op):
    """An elementwise operation by the function that NumPy or SciPy has for it."""

    __props__ = ("scalar_op",)

    def __init__(self, scalar_op: Any):
        self.scalar_op = scalar_op
        self.function: Any = logistic if isinstance(scalar_op, Sigmoid) else import_func_from_string(scalar_op.nfunc_spec[0])

    def make_node(self, *inputs: Any) -> Apply:
        """Apply to as many variables as the operation takes, which broadcast as ``Elemwise`` has them."""
        (output,) = Elemwise(self.scalar_op).make_node(*inputs).outputs
        return Apply(self, list(inputs), [output.type()])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
        """Call the function, and give its numbers the dtype that the graph says."""
        output_storage[0][0] = np.asarray(self.function(*inputs), node.outputs[0].type.dtype)


@node_rewriter([Elemwise])
def _called_at_once(fgraph: Any, node: Any) -> list[Any] | bool:
    """Refuse arithmetic on integers, for which a ufunc may choose another precision than PyTensor's."""
    spec = getattr(node.op.scalar_op, "nfunc_spec", None)
    exact = all(v.type.dtype in ("float32", "float64", "bool") for v in (*node.inputs, *node.outputs))
    exact = exact or node.outputs[0].type.dtype == "bool"
    if node.op.inplace_pattern or not exact or spec is None or spec[1:] != (len(node.inputs), 1):
        return False
    return cast("list[Any]", Ufunc(node.op.scalar_op)(*node.inputs, return_list=True))


@node_rewriter([Elemwise])
def _known_to_numpy(fgraph: Any, node: Any) -> list[Any] | bool:
    match node.op:
        case Elemwise(scalar_op=scalar.Add() | scalar.Mul()) if len(node.inputs) > 2:
            operation = add if isinstance(node.op.scalar_op, scalar.Add) else mul
            # Small operands first: what is broadcast is combined before it is spread over an array.
            operands = sorted(node.inputs, key=lambda v: v.type.broadcastable.count(False))
            return [reduce(operation, operands)]
        case Elemwise(scalar_op=scalar.Second()):
            like, value = node.inputs
            shape = [(value if one else like).shape[d] for d, one in enumerate(like.type.broadcastable)]
            return [pt.alloc(value, *shape)]
        case Elemwise(scalar_op=scalar.Cast()):
            return [AsType(node.outputs[0].type.dtype)(node.inputs[0])]
        case _:
            return False


@functools.cache
def register() -> None:
    """Add the rewrites to PyTensor's, for modes that ask for them by their tag."""
    optdb.register("gridc_known_to_numpy", dfs_rewriter(_known_to_numpy), UFUNCS, position=60)
    optdb.register("gridc_called_at_once", dfs_rewriter(_called_at_once), UFUNCS, position=76)
