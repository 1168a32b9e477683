"""The fused lowering: the whole sweep over the grid as one Op, and its adjoint as another.

Both run a ``Plan`` (``gridc.scheduling.plan``), worked out from the sizes of the call.  What the adjoint needs goes from one to
the other on a *tape*, a flat vector that PyTensor keeps between calls; where the schedule keeps less it is short, and the adjoint
runs the sweep again, segment by segment.
"""

# PyTensor says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.mode import optdb
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.tensor.type import TensorType

from gridc import resources
from gridc.fusion import back, pipeline, run
from gridc.fusion import sweep as engine
from gridc.fusion.buffers import again, lent
from gridc.fusion.pipeline import Stage
from gridc.fusion.run import MASKS, Inputs, Role
from gridc.language.spec import GridSpec
from gridc.locks import once
from gridc.scheduling.plan import Plan
from gridc.symbolic import curvature
from gridc.symbolic.backends import INPLACE
from gridc.symbolic.plans import planned
from gridc.symbolic.wiring import Extent, Variable, Way, Wiring


def sweep(wiring: Wiring) -> tuple[dict[str, list[Variable]], list[Variable]]:
    """Give what every output reads, ``[batch, *axes, cells × hidden]`` for each of its reads."""
    spec, arrays = wiring.spec, wiring.by_role()
    op = Sweep(spec, wiring.way.dtype, tuple(arrays), threads=wiring.way.threads, stage=wiring.way.stage,
               products=wiring.way.products)  # fmt: skip
    op.scan = wiring.way.scan
    _, *taps = cast("list[Variable]", op(wiring.call.extent, wiring.call.lengths, *arrays.values(), return_list=True))
    feed = iter(taps)
    return {name: [next(feed) for _ in o.reads] for name, o in spec.outputs.items()}, []


def prepare(spec: GridSpec, dtype: str, products: str) -> None:
    """Build, or take from the disk cache, the kernels of a spec's cells and of the sweep itself."""
    engine.prepare([(t.mechanism, t.options, len(t.along), t.zoneout > 0) for t in spec.transforms.values()
                    if not t.mechanism.relays], dtype, products)  # fmt: skip


_kinds: dict[tuple[Role, ...], int] = {}


class _SweepOp(Op):
    """What the sweep and its adjoint have in common: the spec, the dtype, and the roles of the inputs."""

    spec: GridSpec
    dtype: str
    roles: tuple[Role, ...]
    threads: int | None
    stage: Stage | None
    products: str
    made: dict[Any, tuple[np.ndarray, int]]
    """The arrays that it gave away last (``buffers.again``)."""
    scan: Any = None
    """The mode of the Scan that a second derivative takes."""
    last: tuple[Any, Plan] | None = None
    """The plan of the last call, and what it was made for."""

    def inputs(self, arrays: Any) -> Inputs:
        """Give the arrays of a call by their role, with the plan for its sizes."""
        extent, lengths, *arrays = arrays
        by_role = {role: np.ascontiguousarray(array) for role, array in zip(self.roles, arrays, strict=True)}
        for role in self.drawn:  # here, since PyTensor would hold a view until the next call
            by_role[role] = by_role[role].reshape(-1, by_role[role].shape[-1])
        return Inputs(self.plan(extent, lengths), by_role, np.dtype(self.dtype), self.products or self.dtype, self.kind)

    def plan(self, extent: np.ndarray, lengths: np.ndarray) -> Plan:
        """Give the plan for these sizes: the last one where it was for the same."""
        threads = resources.threads() if self.threads is None else self.threads
        like = threads, extent.tobytes(), lengths.tobytes()
        if self.last is None or self.last[0] != like:
            self.last = like, planned(self.spec, extent, lengths, np.dtype(self.dtype).itemsize, threads, self.stage)
        return self.last[1]

    @once
    def kind(self) -> int:
        """Number the ops that take arrays of the same roles."""
        return _kinds.setdefault(self.roles, len(_kinds))

    def tap_types(self) -> list[TensorType]:
        """List the types of what every read of every output finds."""
        return [TensorType(self.dtype, (None,) * (2 + len(o.axes))) for o in self.spec.outputs.values() for _ in o.reads]

    @once
    def learnt(self) -> int:
        """How many of the roles, the first, have a gradient: masks are drawn."""
        return sum(role[1] not in MASKS for role in self.roles)

    @once
    def drawn(self) -> tuple[Role, ...]:
        """The roles of masks."""
        return self.roles[self.learnt :]

    def connection_pattern(self, node: Any) -> list[list[bool]]:
        """Say that everything follows from the arrays that are learnt."""
        drawn = range(2 + self.learnt, 2 + len(self.roles))
        return [[i >= 2 and i not in drawn] * len(node.outputs) for i in range(len(node.inputs))]

    def differentiated(self, inputs: Any, slopes: Any, along: Any) -> list[Variable]:
        """Give ``curvature.pullback`` of this sweep's arrays."""
        call, arrays = Extent(*inputs[:2]), dict(zip(self.roles, inputs[2 : 2 + len(self.roles)], strict=True))
        way = Way("plain", self.dtype, scan=self.scan)
        return curvature.pullback(self.spec, way, call, arrays, slopes, along)

    def do_constant_folding(self, fgraph: Any, node: Any) -> bool:
        """Refuse while a graph is built: a sweep is work."""
        return False


class Sweep(_SweepOp):
    """``(extent, lengths, *arrays) → (tape, *taps)``: the forward sweep.

    Where it ``forgets``, nothing goes back over its tape, which need not hold what the adjoint reads."""

    __props__ = ("spec", "dtype", "roles", "forgets", "threads", "stage", "products")

    def __init__(
        self, spec: GridSpec, dtype: str, roles: tuple[Role, ...], forgets: bool = False, threads: int | None = None,
        stage: Stage | None = None, products: str = "",
    ):  # fmt: skip
        self.spec, self.dtype, self.roles, self.forgets, self.threads, self.stage = spec, dtype, roles, forgets, threads, stage
        self.products = products
        self.made = {}

    def make_node(self, *inputs: Any) -> Apply:
        """Apply to extent, lengths and an array for each role."""
        variables = [pt.as_tensor_variable(v) for v in inputs]
        return Apply(self, variables, [t() for t in (TensorType(self.dtype, (None,)), *self.tap_types())])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
        """Run the plan forward."""
        given = self.inputs(inputs)
        tape, _, packed = given.rooms
        output_storage[0][0] = None  # what PyTensor still holds of the last call
        output_storage[0][0] = again(self.made, "tape", (tape,), self.dtype)
        with lent(packed, self.dtype) as room:
            into = (output_storage[0][0], room, self.forgets)
            taps = run.forward(given, *into) if self.stage is None else pipeline.forward(given, self.stage.post, *into)
        for storage, tap in zip(output_storage[1:], taps, strict=True):
            storage[0] = tap

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        """Hand the tape and the gradients of the taps to the adjoint."""
        tape, *taps = outputs
        known = zip(taps, cotangents[1:], strict=True)
        given = [tap.zeros_like() if isinstance(c.type, DisconnectedType) else c for tap, c in known]
        adjoint = Adjoint(self.spec, self.dtype, self.roles, threads=self.threads, stage=self.stage,
                          products=self.products)  # fmt: skip
        adjoint.scan = self.scan
        gradients = cast("list[Variable]", adjoint(*inputs, tape, *given, return_list=True))
        drawn = [DisconnectedType()() for _ in self.roles[self.learnt :]]
        return [DisconnectedType()(), DisconnectedType()(), *gradients, *drawn]

    def __str__(self) -> str:
        return f"Sweep{{{self.spec.name}}}"


class Adjoint(_SweepOp):
    """``(extent, lengths, *arrays, tape, *gradients of the taps) → gradients of the arrays``: the sweep backward.

    In place it uses up the tape; otherwise it works on a copy.  The gradients of joined inputs that are ``unasked`` for stay
    zero: each would be a product as large as the reads'."""

    __props__ = ("spec", "dtype", "roles", "inplace", "unasked", "threads", "stage", "products")

    def __init__(
        self, spec: GridSpec, dtype: str, roles: tuple[Role, ...], inplace: bool = False,
        unasked: tuple[Role, ...] = (), threads: int | None = None, stage: Stage | None = None, products: str = "",
    ):  # fmt: skip
        self.spec, self.dtype, self.roles, self.threads, self.stage = spec, dtype, roles, threads, stage
        self.products = products
        self.made = {}
        self.inplace, self.unasked = inplace, unasked
        if inplace:
            self.destroy_map = {0: [2 + len(roles)]}

    def make_node(self, *inputs: Any) -> Apply:
        """Apply to the sweep's inputs, its tape and a gradient for each of its taps."""
        variables = [pt.as_tensor_variable(v) for v in inputs]
        return Apply(self, variables, [v.type() for v in variables[2 : 2 + self.learnt]])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
        """Run the plan backward."""
        count = 2 + len(self.roles)
        given = self.inputs(inputs[:count])
        tape, *taps = inputs[count:]
        out = {}
        for storage, role in zip(output_storage, self.roles[: self.learnt], strict=True):
            storage[0] = None  # what PyTensor still held of the last call
            storage[0] = out[role] = again(self.made, role, given.by_role[role].shape, self.dtype)
        _, slopes, packed = given.rooms
        with lent(slopes, self.dtype) as scratch, lent(packed, self.dtype) as room:
            into = (tape if self.inplace else tape.copy(), scratch, room, taps, out,
                    lambda name: (name, "joined", "") not in self.unasked)  # fmt: skip
            if self.stage is None:
                back.backward(given, *into)
            else:
                pipeline.backward(given, self.stage.post, *into)

    def connection_pattern(self, node: Any) -> list[list[bool]]:
        """Say that the gradients follow from the arrays and from those of the taps; the tape is what the arrays made of it."""
        pattern = super().connection_pattern(node)
        pattern[2 + len(self.roles)] = [False] * len(node.outputs)
        return pattern

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        """Differentiate the plain lowering twice."""
        found = self.differentiated(inputs, inputs[3 + len(self.roles) :], cotangents)
        learnt, slopes = found[: self.learnt], found[self.learnt :]
        unknown = [DisconnectedType()() for _ in range(3 + len(self.roles) - self.learnt)]
        return [*unknown[:2], *learnt, *unknown[2:], *slopes]

    def __str__(self) -> str:
        return f"Adjoint{{{self.spec.name}{', inplace' * self.inplace}}}"


@node_rewriter([Adjoint])
def _use_up_the_tape(fgraph: Any, node: Any) -> list[Any] | bool:
    op = node.op
    if op.inplace:
        return False
    made = zip(op.roles, node.outputs, strict=False)
    unasked = tuple(role for role, out in made if role[1] == "joined" and not fgraph.clients[out])
    adjoint = Adjoint(op.spec, op.dtype, op.roles, inplace=True, unasked=unasked, threads=op.threads, stage=op.stage,
                      products=op.products)  # fmt: skip
    return cast("list[Variable]", adjoint(*node.inputs, return_list=True))


@node_rewriter([Sweep])
def _forget(fgraph: Any, node: Any) -> list[Any] | bool:
    op = node.op
    if op.forgets or op.spec.schedule.recompute or fgraph.clients[node.outputs[0]]:
        return False
    sweep = Sweep(op.spec, op.dtype, op.roles, forgets=True, threads=op.threads, stage=op.stage,
                  products=op.products)  # fmt: skip
    return cast("list[Variable]", sweep(*node.inputs, return_list=True))


optdb.register("gridc_forget", dfs_rewriter(_forget), INPLACE, "fast_run", position=74)
optdb.register("gridc_use_up_the_tape", dfs_rewriter(_use_up_the_tape), INPLACE, "fast_run", "inplace", position=75)
