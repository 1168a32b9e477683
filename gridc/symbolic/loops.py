"""A Scan over named variables, and an Op that says of a part of a graph what its gradient is."""

# PyTensor says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from pytensor.compile.mode import optdb
from pytensor.compile.ops import DeepCopyOp, deep_copy_op
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.scan.op import Scan

from gridc.symbolic.backends import UFUNCS
from gridc.symbolic.wiring import Variable

pytensor: Any = importlib.import_module("pytensor")
Named = Mapping[Any, Variable]
Step = Callable[[Named, Named], tuple[Named, Named]]
"""From what a step takes, and the state before it, to the state after it and what it gives."""


def scan(
    step: Step, along: Named, state: Named, constants: Named, gives: Sequence[Hashable], count: Variable, mode: Any
) -> tuple[dict[Any, Variable], dict[Any, Variable]]:  # fmt: skip
    """Give by name the states after each step and what each step ``gives``, from what each takes, the state before the first,
    what all take, and the number of steps; ``mode`` is that of the inner graph."""

    def positional(*variables: Variable) -> list[Variable]:
        own = iter(variables)
        given = {key: next(own) for key in along}
        before = {key: next(own) for key in state}
        after, found = step(given | {key: next(own) for key in constants}, before)
        return [*(after[key] for key in state), *(found[key] for key in gives)]

    # The number of steps is told: the shortest of all sequences would be a large expression, which every array
    # that the Scan and its gradient make is then looked through for, at twice the time to build.
    with warnings.catch_warnings():
        # Later than 3.0 the inner graph may inherit the mode of the function around it, and being told is to go; 3.0 needs it.
        warnings.filterwarnings("ignore", "The `mode` argument of `scan` is deprecated", FutureWarning)
        results = pytensor.scan(
            positional, sequences=list(along.values()), outputs_info=[*state.values(), *[None] * len(gives)],
            non_sequences=list(constants.values()), n_steps=count, strict=True, return_updates=False, mode=mode,
        )  # fmt: skip
    results = results if isinstance(results, list) else [results]
    return dict(zip(state, results, strict=False)), dict(zip(gives, results[len(state) :], strict=True))


class Differentiated(Op):
    """``(*made, *given) → made``: what was made of what was given, with a gradient that a function of ours builds.

    ``pullback`` takes the made, the given, and the slopes of the made, of which some are disconnected, and gives a gradient for
    each of the given that is ``learnt``.  When a function is compiled the Op vanishes."""

    def __init__(
        self, made: int, learnt: Sequence[bool], pullback: Callable[[Sequence[Any], Sequence[Any], Sequence[Any]], Sequence[Any]]
    ):  # fmt: skip
        self.learnt, self.gradients = tuple(learnt), pullback
        self.view_map = {i: [i] for i in range(made)}

    def make_node(self, *inputs: Any) -> Apply:
        """Apply to what was made and what was given."""
        made = inputs[: len(inputs) - len(self.learnt)]
        return Apply(self, list(inputs), [variable.type() for variable in made])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
        """Hand on what was made."""
        for storage, array in zip(output_storage, inputs, strict=False):
            storage[0] = array

    def connection_pattern(self, node: Any) -> list[list[bool]]:
        """Say that all follows from what is learnt; what was made is what the given made of it."""
        made = len(node.outputs)
        return [[False] * made] * made + [[learnt] * made for learnt in self.learnt]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        """Give what the function builds."""
        made = len(outputs)
        found = iter(self.gradients(outputs, inputs[made:], cotangents))
        return [DisconnectedType()() for _ in outputs] + [next(found) if one else DisconnectedType()() for one in self.learnt]


@node_rewriter([Differentiated])
def _vanishes(fgraph: Any, node: Any) -> list[Any]:
    return list(node.inputs[: len(node.outputs)])


@node_rewriter([Scan])
def _states_of_their_own(fgraph: Any, node: Any) -> list[Any] | bool:
    """Give every state that a Scan hands from step to step an array of its own, which it may change: zeros are one for all."""
    begin = node.op.outer_untraced_sit_sot(node.inputs)
    shared = [v for v in begin if v.owner is None or not isinstance(v.owner.op, DeepCopyOp)]
    if not shared:
        return False
    first = node.op.untraced_sit_sot_arg_offset
    inputs = list(node.inputs)
    inputs[first : first + len(begin)] = [deep_copy_op(v) if v in shared else v for v in begin]
    return list(node.op.make_node(*inputs).outputs)


@functools.cache
def register() -> None:
    """Add a rewrite to PyTensor's, for modes that ask for it by its tag."""
    optdb.register("gridc_states_of_their_own", dfs_rewriter(_states_of_their_own), UFUNCS, position=50.4)


optdb.register("gridc_differentiated", dfs_rewriter(_vanishes), "fast_run", "fast_compile", position=-0.5)
