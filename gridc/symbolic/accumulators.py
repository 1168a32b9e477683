"""A rewrite for PyTensor's JAX linker: a sum or product of floats accumulates in the type that it returns.

PyTensor (3.0.7) lets a float32 sum accumulate in float64 and, on JAX, returns the accumulator as it is.  Inside a Scan the
type of a state then changes from one step to the next, which JAX refuses; elsewhere everything that follows is float64.
"""

# pyright: basic

from __future__ import annotations

from typing import Any

from pytensor.compile.mode import Mode, get_mode, optdb
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.tensor.elemwise import CAReduce

TAG = "gridc_jax"


@node_rewriter([CAReduce])
def _accumulate_in_its_own_type(fgraph: Any, node: Any) -> list[Any] | bool:
    """Give a reduction whose result is a float the result's own dtype to accumulate in."""
    dtype = node.outputs[0].type.dtype
    accumulator = getattr(node.op, "acc_dtype", None)
    if accumulator in (None, dtype) or not dtype.startswith("float"):
        return False
    return [node.op.clone(dtype=dtype, acc_dtype=dtype)(node.inputs[0])]


optdb.register("gridc_accumulate", dfs_rewriter(_accumulate_in_its_own_type), TAG, position=60)


def jax_mode() -> Mode:
    """PyTensor's mode for JAX with this rewrite; for a Scan's inner graph as well."""
    mode: Any = get_mode("JAX")
    return mode.including(TAG)
