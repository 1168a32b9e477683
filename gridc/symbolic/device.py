"""The fused lowering on JAX: two Ops that PyTensor's JAX linker turns into the functions of ``gridc.device``.

They are made for one ``Plan``.  The index arrays of a call are inputs of the compiled function, so that other lengths, and other
sizes within the plan's bucket, compile nothing.
"""

# PyTensor says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

from typing import Any, cast

import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.tensor.type import TensorType

from gridc.errors import UsageError
from gridc.fusion.run import MASKS, Role
from gridc.scheduling.padded import Plan
from gridc.symbolic.wiring import NO_SECOND_DERIVATIVE, Variable, Wiring


def sweep(wiring: Wiring) -> tuple[dict[str, list[Variable]], list[Variable]]:
    """Give what every output reads, ``[batch, *axes, cells × hidden]`` for each of its reads, and the index arrays, int32, in the
    order of the plan's."""
    plan, arrays = wiring.way.device, wiring.by_role()
    assert plan is not None
    keys = plan.shapes
    tables: list[Variable] = [TensorType("int32", shape)(name) for name, shape in keys]
    op = DeviceSweep(plan, tuple(arrays), wiring.way.dtype, wiring.way.products or wiring.way.dtype)
    made = cast("list[Variable]", op(*tables, *arrays.values(), return_list=True))
    feed = iter(made[len(plan.groups) :])
    return {name: [next(feed) for _ in o.reads] for name, o in wiring.spec.outputs.items()}, tables


class _DeviceOp(Op):
    """What the sweep and its adjoint have in common: the plan, the roles of the arrays, their dtype, and that of the operands
    of products."""

    __props__ = ("plan", "roles", "dtype", "products")

    def __init__(self, plan: Plan, roles: tuple[Role, ...], dtype: str, products: str):
        self.plan, self.roles, self.dtype, self.products = plan, roles, dtype, products

    def cut(self, inputs: Any) -> tuple[dict[str, Any], tuple[Any, ...], tuple[Any, ...]]:
        """Cut the inputs into the index arrays by name, the arrays in the order of the roles, and the rest."""
        tables, arrays = len(self.plan.shapes), len(self.roles)
        named = {name: array for (name, _), array in zip(self.plan.shapes, inputs, strict=False)}
        return named, tuple(inputs[tables : tables + arrays]), tuple(inputs[tables + arrays :])

    @property
    def learnt(self) -> int:
        """How many of the roles, the first, have a gradient: masks are drawn."""
        return sum(role[1] not in MASKS for role in self.roles)

    def connection_pattern(self, node: Any) -> list[list[bool]]:
        """Say that everything follows from the arrays that are learnt and what comes of them, nothing from indices and masks."""
        tables = len(self.plan.shapes)
        unknown = {*range(tables), *range(tables + self.learnt, tables + len(self.roles))}
        return [[i not in unknown] * len(node.outputs) for i in range(len(node.inputs))]

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
        raise UsageError("a sweep that was lowered for a device runs on PyTensor's JAX linker alone; expected mode='JAX'")

    def do_constant_folding(self, fgraph: Any, node: Any) -> bool:
        return False


class DeviceSweep(_DeviceOp):
    """``(*index arrays, *arrays) → (*storage of each group, *taps)``: the forward sweep."""

    def make_node(self, *inputs: Any) -> Apply:
        """Apply to the index arrays and an array for each role."""
        plan = self.plan
        storage = [TensorType(self.dtype, ((g.base + g.rows) * g.vectors, g.hidden)) for g in plan.groups]
        taps = [TensorType(self.dtype, (*tap.shape[:-1], tap.shape[-1] * plan.groups[tap.group].hidden)) for tap in plan.taps]
        return Apply(self, [pt.as_tensor_variable(v) for v in inputs], [t() for t in (*storage, *taps)])

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        """Hand what was stored and the gradients of the taps to the adjoint."""
        storage = len(self.plan.groups)
        known = zip(outputs[storage:], cotangents[storage:], strict=True)
        given = [tap.zeros_like() if isinstance(c.type, DisconnectedType) else c for tap, c in known]
        adjoint = DeviceAdjoint(self.plan, self.roles, self.dtype, self.products)
        gradients = cast("list[Variable]", adjoint(*inputs, *outputs[:storage], *given, return_list=True))
        drawn = [DisconnectedType()() for _ in self.roles[self.learnt :]]
        return [*(DisconnectedType()() for _ in self.plan.shapes), *gradients, *drawn]

    def __str__(self) -> str:
        return f"DeviceSweep{{{self.plan.spec.name}}}"


class DeviceAdjoint(_DeviceOp):
    """``(*index arrays, *arrays, *storage, *gradients of the taps) → gradients of the arrays`` that are learnt: the way back."""

    def make_node(self, *inputs: Any) -> Apply:
        """Apply to the sweep's inputs, what it stored and a gradient for each of its taps."""
        variables = [pt.as_tensor_variable(v) for v in inputs]
        tables = len(self.plan.shapes)
        return Apply(self, variables, [v.type() for v in variables[tables : tables + self.learnt]])

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        """Refuse."""
        raise UsageError(NO_SECOND_DERIVATIVE)

    def __str__(self) -> str:
        return f"DeviceAdjoint{{{self.plan.spec.name}}}"
