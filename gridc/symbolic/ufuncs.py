"""Rewrites for the Python linker: elementwise nodes that NumPy has no ufunc for become nodes that it has.

For such a node PyTensor's Python linker calls a Python function for every element (3.0.7): for sums and products of more than
two, for casts, and for filling one array in the shape of another.  A training step of ``specs/dropout.yaml`` took 2.2 s so.
"""

# pyright: basic

from __future__ import annotations

from functools import reduce
from typing import Any

import pytensor.tensor as pt
from pytensor import scalar
from pytensor.compile.mode import optdb
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.math import add, mul

UFUNCS = "gridc_ufuncs"
"""The tag of these rewrites, for a mode's query."""


class AsType(Op):
    """``numpy.ndarray.astype``: an array's numbers in another dtype."""

    __props__ = ("dtype",)

    def __init__(self, dtype: str):
        self.dtype = dtype

    def make_node(self, x: Any) -> Apply:
        return Apply(self, [x], [x.type.clone(dtype=self.dtype)()])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
        output_storage[0][0] = inputs[0].astype(self.dtype)


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


optdb.register("gridc_known_to_numpy", dfs_rewriter(_known_to_numpy), UFUNCS, position=60)
