"""A rewrite for the Python linker: steps are multiplied by their weights where these lie.

``matmul(z, weights[chosen])`` copies the weights of every step, in a loop where the products are hardly larger.
"""

# pyright: basic

from __future__ import annotations

import functools
from typing import Any, cast

import numpy as np
from pytensor.compile.mode import optdb
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.math import Dot
from pytensor.tensor.subtensor import AdvancedSubtensor

from gridc.symbolic.backends import UFUNCS


class ChosenProduct(Op):
    """``(rows [steps, n, inner], weights [count, inner, outer], chosen [steps, 1]) → [steps, n, outer]``: each step's rows times
    the weights that it chose, or times these ``transposed``."""

    __props__ = ("transposed",)

    def __init__(self, transposed: bool):
        self.transposed = transposed

    def make_node(self, rows: Any, weights: Any, chosen: Any) -> Apply:
        """Apply to variables of one floating-point type, and integers; the output is of the rows' type."""
        shape = (*rows.type.shape[:2], weights.type.shape[1 if self.transposed else 2])
        return Apply(self, [rows, weights, chosen], [rows.type.clone(shape=shape)()])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
        """Multiply step by step."""
        rows, weights, chosen = inputs
        weights = weights.transpose(0, 2, 1) if self.transposed else weights
        made = np.empty((*rows.shape[:2], weights.shape[2]), rows.dtype)
        for k, one in enumerate(chosen[:, 0].tolist()):
            np.matmul(rows[k], weights[one], out=made[k])
        output_storage[0][0] = made


@node_rewriter([Blockwise])
def _where_they_lie(fgraph: Any, node: Any) -> list[Any] | bool:
    if not isinstance(node.op.core_op, Dot) or node.inputs[0].type.dtype != node.inputs[1].type.dtype:
        return False
    rows, turned = node.inputs
    if turned.owner is None or not isinstance(turned.owner.op, DimShuffle):
        return False
    order = tuple(turned.owner.op.new_order)
    if order not in ((0, 2, 3), (0, 3, 2)):
        return False
    picked: Any = turned.owner.inputs[0].owner
    if picked is None or not isinstance(picked.op, AdvancedSubtensor) or picked.op.idx_list != (0,):
        return False
    weights, chosen = picked.inputs
    if rows.ndim != 3 or weights.ndim != 3 or chosen.ndim != 2 or chosen.type.dtype == "bool":
        return False
    return cast("list[Any]", ChosenProduct(order == (0, 3, 2))(rows, weights, chosen, return_list=True))


@functools.cache
def register() -> None:
    """Add the rewrite to PyTensor's, for modes that ask for it by its tag."""
    optdb.register("gridc_where_they_lie", dfs_rewriter(_where_they_lie), UFUNCS, position=61)
