"""Rewrites for the Python linker: what a look-up of rows adds in the gradient is added where it belongs, and quickly.

The gradient of ``table[rows]`` is a table of zeros into which PyTensor (3.0.7) adds row by row, in a new array, by NumPy's
``add.at``, at 100 ns a number; then it adds up such tables.  In the plain lowering, whose wavefronts look into the slots of all
that is alive, that was half of a training step.
"""

# pyright: basic

from __future__ import annotations

import functools
from functools import reduce
from typing import Any

import numpy as np
from pytensor.compile.mode import optdb
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.tensor.basic import Alloc
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.math import add
from pytensor.tensor.subtensor import AdvancedIncSubtensor, AdvancedIncSubtensor1
from scipy.sparse import csr_matrix

from gridc.symbolic.backends import UFUNCS

MOST_ROUNDS = 4
"""How often a place may stand in an index whose rows are added in rounds."""


class AddRows(Op):
    """Adds rows ``[*index's axes, …]`` to those of a table ``[rows, …]`` at an index, where one may stand several times."""

    __props__ = ("inplace",)

    def __init__(self, inplace: bool):
        self.inplace = inplace
        if inplace:
            self.destroy_map = {0: [0]}

    def make_node(self, table: Any, rows: Any, index: Any) -> Apply:
        """Apply to a table, the rows and an integer array; the output is a table of the same type."""
        return Apply(self, [table, rows, index], [table.type()])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
        """Add the first rows of all places, then the second ones; where these would be many rounds, add up the rows of each place
        before, as a product with a sparse matrix of ones."""
        table, rows, index = inputs
        table = table if self.inplace else table.copy()
        shape = (*index.shape, *table.shape[1:])
        rows = (rows if rows.shape == shape else np.broadcast_to(rows, shape)).reshape(-1, *table.shape[1:])
        place = np.where(index < 0, index + len(table), index).reshape(-1)
        by = np.argsort(place, kind="stable")
        ordered = place[by]
        first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))[: len(place)]
        counts = np.diff(np.append(first, len(place)))
        most = int(counts.max(initial=1))
        if most == 1:
            table[place] += rows
        elif most <= MOST_ROUNDS:
            nth = np.arange(len(place)) - np.repeat(first, counts)
            for one in range(most):
                own = by[nth == one]
                table[place[own]] += rows[own]
        else:
            ones = csr_matrix((np.ones(len(by), rows.dtype), by, np.append(first, len(by))), (len(first), len(by)))
            table[ordered[first]] += (ones @ rows.reshape(len(by), -1)).reshape(-1, *table.shape[1:])
        output_storage[0][0] = table


def _adds(node: Any) -> bool:
    """Tell whether a node adds rows to a table by one array of row numbers."""
    match node and node.op:
        case AdvancedIncSubtensor1(set_instead_of_inc=False):
            return True
        case AdvancedIncSubtensor(set_instead_of_inc=False, ignore_duplicates=False):
            return node.op.idx_list == (0,) and node.inputs[2].type.dtype != "bool"
        case _:
            return False


def _zeros(variable: Any) -> bool:
    """Tell whether a variable is a table of zeros, as gradients begin with."""
    match variable.owner and variable.owner.op:
        case Alloc():
            value = variable.owner.inputs[0]
        case Elemwise(scalar_op=scalar_op) if type(scalar_op).__name__ == "Second":
            value = variable.owner.inputs[1]
        case _:
            return False
    while value.owner is not None and len(value.owner.inputs) == 1:  # a number with more axes
        (value,) = value.owner.inputs
    return getattr(value, "data", None) is not None and not np.any(value.data)


def _once(fgraph: Any, variable: Any) -> bool:
    """Tell whether a variable is used at a single place."""
    return len(fgraph.clients[variable]) == 1


@node_rewriter([Elemwise])
def _added_where_it_belongs(fgraph: Any, node: Any) -> list[Any] | bool:
    """Add rows to the other terms of a sum, rather than to zeros that are then added."""
    if type(node.op.scalar_op).__name__ != "Add":
        return False
    kind: Any = node.outputs[0].type
    own = [v for v in node.inputs if v.type == kind and _adds(v.owner) and _zeros(v.owner.inputs[0]) and _once(fgraph, v)]
    rest = [v for v in node.inputs if v not in own]
    if not own:
        return False
    begin: Any = reduce(add, rest) if rest else own.pop(0)
    if begin.type != kind:  # it is to be spread over the table
        return False
    return [reduce(lambda table, one: one.owner.op(table, *one.owner.inputs[1:]), own, begin)]


@node_rewriter([AdvancedIncSubtensor, AdvancedIncSubtensor1], inplace=True)
def _by_rows(fgraph: Any, node: Any) -> list[Any] | bool:
    return [AddRows(node.op.inplace)(*node.inputs)] if _adds(node) else False


@functools.cache
def register() -> None:
    """Add the rewrites to PyTensor's, for modes that ask for them by their tag."""
    optdb.register("gridc_added_where_it_belongs", dfs_rewriter(_added_where_it_belongs), UFUNCS, position=49)
    optdb.register("gridc_by_rows", dfs_rewriter(_by_rows), UFUNCS, position=71)
