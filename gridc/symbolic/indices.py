"""An Op that hands the graph integer arrays worked out from the sizes of a call: where things lie in a grid of that size.

Its inputs are ``extent``, the batch and then every dimension's size, and ``lengths``, ``[batch, symbols]``.  A backend that
cannot run it (JAX, whose shapes are static) takes its outputs as inputs of the compiled function instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.tensor.type import TensorType

from gridc.language.lattice import Ints, filled
from gridc.language.spec import GridSpec
from gridc.resources import Memory

Arrays = tuple[np.ndarray, ...]
Plan = Callable[..., Any]


_memory = Memory()


def recall(plan: Plan, spec: GridSpec, extent: np.ndarray, lengths: np.ndarray, *extra: Any) -> Any:
    """Give ``plan(spec, sizes, batch, extents, *extra)``, from memory where these sizes and lengths came before."""

    def make() -> Any:
        batch, *sizes = extent.tolist()
        return plan(spec, tuple(sizes), batch, extents(spec, sizes, lengths), *extra)

    return _memory.get((plan, spec.digest, extent.tobytes(), lengths.tobytes(), extra), make)


def extents(spec: GridSpec, sizes: Sequence[int], lengths: np.ndarray) -> Ints | None:
    """Give each example's own sizes, ``[batch, dimensions]``; None where all examples fill the grid."""
    result = filled(sizes, len(lengths))
    for d, dimension in enumerate(spec.dimensions):
        if isinstance(dimension.size, str):
            result[:, d] = lengths[:, spec.symbols.index(dimension.size)]
    return None if (result == np.asarray(sizes)).all() else result


class Sizes(NamedTuple):
    """The values of ``extent`` and ``lengths``, where they are known while the graph is built."""

    extent: np.ndarray
    lengths: np.ndarray


class IndexArrays(Op):
    """Runs a plan, a function of spec and sizes that gives a fixed number of arrays; ``kinds`` are their dtypes and shapes."""

    __props__ = ("spec", "plan", "kinds")

    def __init__(self, spec: GridSpec, plan: Plan, kinds: tuple[tuple[str, tuple[int | None, ...]], ...]):
        self.spec, self.plan, self.kinds = spec, plan, kinds

    def make_node(self, *inputs: Any) -> Any:
        """Apply to extent, lengths and whatever else the plan takes; one output for each of ``kinds``."""
        outputs: list[Any] = [TensorType(dtype, shape)() for dtype, shape in self.kinds]
        return Apply(self, list(inputs), outputs)

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
        """Run the plan, or remember what it gave for these sizes and lengths."""
        arrays = recall(self.plan, self.spec, *inputs)
        for storage, array in zip(output_storage, arrays, strict=True):
            storage[0] = array.copy()  # a linker may work in place on what it is given

    def connection_pattern(self, node: Any) -> list[list[bool]]:
        """Say that no array depends on the sizes in a way that could be differentiated."""
        return [[False] * len(node.outputs) for _ in node.inputs]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        """Give no input a gradient: all are disconnected."""
        return [DisconnectedType()() for _ in inputs]

    def do_constant_folding(self, fgraph: Any, node: Any) -> bool:
        """Refuse while a graph is built: a plan is work."""
        return False

    def __str__(self) -> str:
        return f"IndexArrays{{{self.plan.__name__}}}"


def index_arrays(
    spec: GridSpec, plan: Plan, kinds: Sequence[tuple[str, int]], extent: Any, lengths: Any, sizes: Sizes | None
) -> list[Any]:
    """Give the arrays that a plan makes, as variables; ``kinds`` are their dtypes and ranks.

    With ``sizes`` their shapes are static."""
    shapes: list[tuple[int | None, ...]] = [(None,) * rank for _, rank in kinds]
    if sizes is not None:
        shapes = [array.shape for array in recall(plan, spec, *sizes)]
    op = IndexArrays(spec, plan, tuple((dtype, shape) for (dtype, _), shape in zip(kinds, shapes, strict=True)))
    return cast("list[Any]", op(extent, lengths, return_list=True))
