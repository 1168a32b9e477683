"""Probabilities of classes and their cross entropy as one Op each, which fused graphs have in the place of some thirty nodes."""

# PyTensor says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.mode import optdb
from pytensor.gradient import DisconnectedType, grad, pullback
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.tensor.type import TensorType

from gridc.fusion import classes
from gridc.fusion.buffers import again
from gridc.symbolic.backends import INPLACE

Variable = Any
Plain = Callable[..., tuple[Variable, Variable]]
"""Makes the probabilities and the loss of logits, target, weight and places, None where all count alike, in ordinary ops."""


class Probabilities(Op):
    """``logits [*positions, classes] → probabilities``."""

    __props__ = ("threads",)

    def __init__(self, threads: int | None):
        self.threads = threads
        self.made: dict[Any, tuple[np.ndarray, int]] = {}

    def make_node(self, logits: Any) -> Apply:
        """Apply to logits; the output is of their type."""
        return Apply(self, [logits], [logits.type()])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
        """Run the kernel."""
        (logits,) = inputs
        output_storage[0][0] = None
        output_storage[0][0] = made = again(self.made, "made", logits.shape, node.outputs[0].type.dtype)
        classes.probabilities(_rows(logits), _rows(made), self.threads)

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        """Give ``p · (slope - Σ p · slope)``."""
        (p,), (slope,) = outputs, cotangents
        return [p * (slope - pt.sum(p * slope, axis=-1, keepdims=True))]


class CrossEntropy(Op):
    """``(logits, target, *weight, *inside) → (loss, gradient of the logits, probabilities)``: the mean over the positions that
    are ``inside``, or all.

    ``plain`` makes the same in ordinary ops, which other derivatives than the loss's first are taken of.  The gradient is empty
    where the op is told that nobody asks for it (``alone``)."""

    __props__ = ("smoothing", "weighted", "partly", "threads", "alone")

    def __init__(self, plain: Plain, smoothing: float, weighted: bool, partly: bool, threads: int | None, alone: bool = False):
        self.plain, self.smoothing, self.weighted, self.partly = plain, smoothing, weighted, partly
        self.threads, self.alone = threads, alone
        self.made: dict[Any, tuple[np.ndarray, int]] = {}

    def make_node(self, *inputs: Any) -> Apply:
        """Apply to logits ``[*positions, classes]`` and what has their positions."""
        logits = inputs[0]
        return Apply(self, list(inputs), [TensorType(logits.dtype, ())(), logits.type(), logits.type()])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
        """Run the kernel."""
        logits, target, *rest = inputs
        dtype = node.outputs[0].type.dtype
        weight = rest.pop(0).reshape(-1) if self.weighted else np.empty(0, dtype)
        inside = rest[0].reshape(-1) if self.partly else np.empty(0, bool)
        for storage in output_storage:
            storage[0] = None
        made, slopes = (again(self.made, k, logits.shape, dtype) for k in range(2))
        wanted = _rows(slopes)[: 0 if self.alone else None]
        loss = classes.cross_entropy(_rows(logits), target.reshape(-1), weight, inside, self.smoothing, _rows(made), wanted,
                                     self.threads)  # fmt: skip
        output_storage[0][0] = np.asarray(loss, dtype)
        output_storage[1][0], output_storage[2][0] = slopes, made

    def connection_pattern(self, node: Any) -> list[list[bool]]:
        """Say that everything follows from the logits, and the loss and its gradient from the weights, too."""
        pattern = [[False] * 3 for _ in node.inputs]
        pattern[0] = [True] * 3
        if self.weighted:
            pattern[2] = [True, True, False]
        return pattern

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        """Give the gradient that is there already, times the loss's; of anything else that of the plain graph."""
        given = [DisconnectedType()() for _ in inputs]
        known = [not isinstance(c.type, DisconnectedType) for c in cotangents]
        if not any(known[1:]):
            given[0] = cotangents[0] * outputs[1]
            if self.weighted:
                given[2] = self._of(inputs, cotangents, [True, False, False], inputs[2])
            return given
        given[0] = self._of(inputs, cotangents, known, inputs[0])
        if self.weighted:
            given[2] = self._of(inputs, cotangents, known, inputs[2])
        return given

    def _of(self, inputs: Any, cotangents: Any, known: list[bool], wrt: Variable) -> Variable:
        rest = [*inputs[2:]]
        weight = rest.pop(0) if self.weighted else None
        output, loss = self.plain(inputs[0], inputs[1], weight, rest[0] if self.partly else None)
        made = [loss, grad(loss, inputs[0]) if known[1] else None, output]
        asked = [(one, slope) for one, slope, is_known in zip(made, cotangents, known, strict=True) if is_known]
        ops, slopes = zip(*asked, strict=True)
        return pullback(list(ops), wrt, list(slopes), disconnected_inputs="ignore")


def made(
    plain: Plain, logits: Variable, target: Variable, weight: Variable | None, inside: Variable | None, smoothing: float,
    threads: int | None,
) -> tuple[Variable, Variable]:  # fmt: skip
    """Give the probabilities of classes, and the cross entropy of the target."""
    given = [v for v in (weight, inside) if v is not None]
    op = CrossEntropy(plain, smoothing, weight is not None, inside is not None, threads)
    loss, *_ = cast("list[Variable]", op(logits, target, *given, return_list=True))
    return cast(Variable, Probabilities(threads)(logits)), loss


def _rows(array: np.ndarray) -> np.ndarray:
    """Give ``[*positions, classes]`` as ``[rows, classes]``, in C order."""
    flat = array if array.flags.c_contiguous else np.ascontiguousarray(array)
    return flat if array.ndim == 2 else flat.reshape(-1, array.shape[-1])


@node_rewriter([Probabilities])
def _made_beside_the_loss(fgraph: Any, node: Any) -> list[Any] | bool:
    """Take probabilities from where the loss of the same logits is computed."""
    for client, _ in fgraph.clients[node.inputs[0]]:
        if isinstance(client.op, CrossEntropy) and client.inputs[0] is node.inputs[0]:
            return [client.outputs[2]]
    return False


@node_rewriter([CrossEntropy])
def _nobody_asks_for_slopes(fgraph: Any, node: Any) -> list[Any] | bool:
    op = node.op
    if op.alone or fgraph.clients[node.outputs[1]]:
        return False
    alone = CrossEntropy(op.plain, op.smoothing, op.weighted, op.partly, op.threads, alone=True)
    return cast("list[Variable]", alone(*node.inputs, return_list=True))


optdb.register("gridc_beside_the_loss", dfs_rewriter(_made_beside_the_loss), INPLACE, "fast_run", position=74)
optdb.register("gridc_loss_alone", dfs_rewriter(_nobody_asks_for_slopes), INPLACE, "fast_run", position=75)
