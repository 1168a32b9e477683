"""The fused lowering: the whole sweep over the grid as one Op, and its adjoint as another.

Both run the compiled kernels of ``sweep`` over the index arrays of ``layout``, worked out from the sizes of the call.  What
the adjoint needs goes from one to the other on a *tape*, a flat vector that PyTensor keeps between calls; with ``recompute`` it
is short, and the adjoint runs the sweep again, segment by segment.
"""

# PyTensor says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.mode import optdb
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.tensor.type import TensorType

from gridc.errors import UsageError
from gridc.fusion import recompute, segments, workspace
from gridc.fusion import sweep as engine
from gridc.fusion.buffers import again, lent
from gridc.fusion.sweep import backward, forward
from gridc.fusion.workspace import Parameters, Workspace
from gridc.language.spec import GridSpec
from gridc.scheduling.layout import Boundary, Lane, Tap
from gridc.scheduling.program import Array
from gridc.symbolic import splitting
from gridc.symbolic.indices import recall
from gridc.symbolic.wiring import NO_SECOND_DERIVATIVE, Role, Variable, Wiring

INPLACE = "gridc_inplace"
"""The tag of the rewrite that lets an adjoint use up its tape."""


def sweep(wiring: Wiring) -> tuple[dict[str, list[Variable]], list[Variable]]:
    """What every output reads, ``[batch, *axes, cells × hidden]`` for each of its reads."""
    spec, arrays = wiring.spec, wiring.by_role()
    op = Sweep(spec, wiring.dtype, tuple(arrays), wiring.recompute)
    _, *taps = cast("list[Variable]", op(wiring.extent, wiring.lengths, *arrays.values(), return_list=True))
    feed = iter(taps)
    return {name: [next(feed) for _ in o.reads] for name, o in spec.outputs.items()}, []


def prepare(spec: GridSpec, dtype: str) -> None:
    """Build, or take from the disk cache, the kernels of a spec's cells and of the sweep itself."""
    engine.prepare([(t.cell, t.options, len(t.along)) for t in spec.transforms.values() if t.gates], dtype)


def _room(lane: Lane | segments.Lane, dtype: np.dtype[Any]) -> tuple[int, int]:
    """How many numbers the tape and the slopes of a lane hold."""
    if isinstance(lane, segments.Lane):
        return segments.room(lane)
    where = workspace.places(lane.program, dtype)
    return where.tape, where.slopes


class _Arrays:
    """The inputs of a sweep by their role, and how they lie in a lane's arrays."""

    def __init__(self, op: _SweepOp, inputs: Any):
        extent, lengths, *arrays = inputs
        self.spec, self.dtype = op.spec, np.dtype(op.dtype)
        by_role = zip(op.roles, arrays, strict=True)
        self.by_role: Mapping[Role, Array] = {role: np.ascontiguousarray(array) for role, array in by_role}
        self.layout = recall(splitting.plan_segments if op.recompute else splitting.plan, op.spec, extent, lengths)
        self.names, self.recomputes = list(op.spec.transforms), op.recompute

    def parameters(self) -> Parameters:
        w, b, p = ([self._flat(name, letter) for name in self.names] for letter in "Wbp")
        return Parameters(w, b, p)

    def _flat(self, name: str, letter: str) -> Any:
        array = self.by_role.get((name, letter, ""))
        return None if array is None else flat_weights(array, letter)

    def rows(self, lane: Lane | segments.Lane, count: int) -> slice:
        """A lane's rows of an array ``[batch × places, …]``."""
        each = count // self.layout.batch
        return slice(lane.examples.start * each, lane.examples.stop * each)

    def workspaces(self, tape: np.ndarray, packed: np.ndarray, scratch: np.ndarray | None = None) -> list[Workspace]:
        spaces: list[Workspace] = []
        used = lent = held = 0
        for lane in self.layout.lanes:
            where = workspace.places(lane.program, self.dtype)
            size, more, room = where.tape, where.slopes, where.packed
            space = Workspace(lane.program, self.dtype, tape[used : used + size],
                              None if scratch is None else scratch[lent : lent + more], packed[held : held + room])  # fmt: skip
            used, lent, held = used + size, lent + more, held + room
            self.join(lane, space)
            spaces.append(space)
        return spaces

    def packed_size(self) -> int:
        """Numbers of the packed weights of all lanes; the segments of a sweep that keeps little make their own."""
        lanes = () if self.recomputes else self.layout.lanes
        return sum(workspace.places(lane.program, self.dtype).packed for lane in lanes)

    def join(self, lane: Lane | segments.Lane, space: Workspace) -> None:
        """Give a workspace the vectors that join."""
        for i, name in enumerate(self.names):
            for j, x in enumerate(self.spec.joined(name)):
                vectors = self.by_role[x.name, "joined", ""]
                space.joined[i][j] = vectors[self.rows(lane, len(vectors))]

    def enter(self, lane: Lane, space: Workspace) -> None:
        """Fill the boundary rows with what enters the grid."""
        for boundary in lane.boundaries:
            for vector, states in (("hidden", space.h), ("memory", space.m)):
                state = states[boundary.storage]
                if state is None:
                    continue
                start = self.by_role.get((boundary.transform, "start", vector), 0)
                entry = self.by_role.get((boundary.transform, "entry", vector))
                if entry is None:
                    state[boundary.first : boundary.start + 1] = start
                else:
                    state[boundary.start] = start
                    shift = self.by_role.get((boundary.transform, "shift", vector), 0)
                    np.add(entry[self.rows(lane, len(entry))], shift, out=state[boundary.first : boundary.start])


def flat_weights(array: np.ndarray, letter: str) -> np.ndarray:
    """``[*untied, …]`` as ``[weights, …]``."""
    return array.reshape(-1, *array.shape[-2 if letter == "W" else -1 :])


class _SweepOp(Op):
    """What the sweep and its adjoint have in common: the spec, the dtype, and the roles of the inputs."""

    spec: GridSpec
    dtype: str
    roles: tuple[Role, ...]
    recompute: bool
    made: dict[Any, tuple[np.ndarray, int]]
    """The arrays that it gave away last (``buffers.again``)."""

    def tap_types(self) -> list[TensorType]:
        return [TensorType(self.dtype, (None,) * (2 + len(o.axes))) for o in self.spec.outputs.values() for _ in o.reads]

    def connection_pattern(self, node: Any) -> list[list[bool]]:
        return [[i >= 2] * len(node.outputs) for i in range(len(node.inputs))]

    def do_constant_folding(self, fgraph: Any, node: Any) -> bool:
        return False


class Sweep(_SweepOp):
    """``(extent, lengths, *arrays) → (tape, *taps)``: the forward sweep.

    Where it ``forgets``, nothing goes back over its tape, which need not hold what the adjoint reads."""

    __props__ = ("spec", "dtype", "roles", "recompute", "forgets")

    def __init__(self, spec: GridSpec, dtype: str, roles: tuple[Role, ...], recompute: bool = False, forgets: bool = False):
        self.spec, self.dtype, self.roles, self.recompute, self.forgets = spec, dtype, roles, recompute, forgets
        self.made = {}

    def make_node(self, *inputs: Any) -> Apply:
        variables = [pt.as_tensor_variable(v) for v in inputs]
        return Apply(self, variables, [t() for t in (TensorType(self.dtype, (None,)), *self.tap_types())])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
        arrays = _Arrays(self, inputs)
        size = sum(_room(lane, arrays.dtype)[0] for lane in arrays.layout.lanes)
        output_storage[0][0] = None  # what PyTensor still holds of the last call
        output_storage[0][0] = tape = again(self.made, "tape", (size,), self.dtype)
        if self.recompute:
            self._segments(arrays, tape, output_storage[1:])
            return
        with lent(arrays.packed_size(), self.dtype) as packed:
            spaces = arrays.workspaces(tape, packed)
            for lane, space in zip(arrays.layout.lanes, spaces, strict=True):
                arrays.enter(lane, space)
            forward(spaces, arrays.parameters(), self.forgets)
        storages = iter(output_storage[1:])
        for name, o in self.spec.outputs.items():
            for j in range(len(o.reads)):
                parts = [_tapped(lane.taps[name][j], space) for lane, space in zip(arrays.layout.lanes, spaces, strict=True)]
                next(storages)[0] = parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _segments(self, arrays: _Arrays, tape: np.ndarray, storage: Any) -> None:
        """Segment by segment, in one workspace."""
        hidden = [self.spec.transforms[tap.transform].hidden for o in self.spec.outputs.values() for tap in o.reads]
        for cell, (_, *shape, cells), n in zip(storage, arrays.layout.lanes[0].taps, hidden, strict=True):
            cell[0] = np.zeros((arrays.layout.batch, *shape, cells * n), self.dtype)
        recompute.forward(arrays, tape, [cell[0] for cell in storage])

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        tape, *taps = outputs
        known = zip(taps, cotangents[1:], strict=True)
        given = [tap.zeros_like() if isinstance(c.type, DisconnectedType) else c for tap, c in known]
        adjoint = Adjoint(self.spec, self.dtype, self.roles, self.recompute)
        gradients = cast("list[Variable]", adjoint(*inputs, tape, *given, return_list=True))
        return [DisconnectedType()(), DisconnectedType()(), *gradients]

    def __str__(self) -> str:
        return f"Sweep{{{self.spec.name}}}"


def _tapped(tap: Tap, space: Workspace) -> np.ndarray:
    state = (space.m if tap.memory else space.h)[tap.storage]
    assert state is not None
    found = state[tap.rows if tap.everywhere else np.maximum(tap.rows, 0)]
    if not tap.everywhere:
        found[tap.rows < 0] = 0
    return found.reshape(*tap.rows.shape[:-1], -1)


class Adjoint(_SweepOp):
    """``(extent, lengths, *arrays, tape, *gradients of the taps) → gradients of the arrays``: the sweep backward.

    In place it uses up the tape; otherwise it works on a copy.  The gradients of joined inputs that are ``unasked`` for stay
    zero: each would be a product as large as the reads'."""

    __props__ = ("spec", "dtype", "roles", "recompute", "inplace", "unasked")

    def __init__(
        self, spec: GridSpec, dtype: str, roles: tuple[Role, ...], recompute: bool = False, inplace: bool = False,
        unasked: tuple[Role, ...] = (),
    ):  # fmt: skip
        self.spec, self.dtype, self.roles, self.recompute = spec, dtype, roles, recompute
        self.made = {}
        self.inplace, self.unasked = inplace, unasked
        if inplace:
            self.destroy_map = {0: [2 + len(roles)]}

    def make_node(self, *inputs: Any) -> Apply:
        variables = [pt.as_tensor_variable(v) for v in inputs]
        return Apply(self, variables, [v.type() for v in variables[2 : 2 + len(self.roles)]])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
        count = 2 + len(self.roles)
        arrays = _Arrays(self, inputs[:count])
        tape, *given = inputs[count:]
        size = sum(_room(lane, arrays.dtype)[1] for lane in arrays.layout.lanes)
        with lent(size, self.dtype) as scratch, lent(arrays.packed_size(), self.dtype) as packed:
            self._run(arrays, tape if self.inplace else tape.copy(), scratch, packed, given, output_storage)

    def _run(
        self, arrays: _Arrays, tape: np.ndarray, scratch: np.ndarray, packed: np.ndarray, given: list[np.ndarray], storage: Any
    ) -> None:
        out: dict[Role, np.ndarray] = {}
        for cell, (role, array) in zip(storage, arrays.by_role.items(), strict=True):
            cell[0] = None  # what PyTensor still held of the last call
            cell[0] = out[role] = again(self.made, role, array.shape, self.dtype)
        for role, array in out.items():
            if role[1] in ("start", "shift", "joined") or (role[1] == "entry" and self.recompute):
                array.fill(0)
        letters = [[flat_weights(out[n, letter, ""], letter) if (n, letter, "") in out else None for n in arrays.names]
                   for letter in "Wbp"]  # fmt: skip

        def attach(lane: Lane | segments.Lane, space: Workspace) -> None:
            for i, name in enumerate(arrays.names):
                for j, x in enumerate(self.spec.joined(name)):
                    if (x.name, "joined", "") not in self.unasked:
                        total = out[x.name, "joined", ""]
                        space.djoined[i][j] = total[arrays.rows(lane, len(total))]

        if self.recompute:
            taps = [np.ascontiguousarray(gradient) for gradient in given]
            recompute.backward(arrays, tape, scratch, taps, attach, Parameters(*letters), out)
            return
        lanes = list(zip(arrays.layout.lanes, arrays.workspaces(tape, packed, scratch), strict=True))
        for lane, space in lanes:
            space.clear_gradients()
            feed = iter(given)
            for name, o in self.spec.outputs.items():
                for j in range(len(o.reads)):
                    _hand_back(lane.taps[name][j], space, next(feed)[lane.examples])
            attach(lane, space)
        backward([space for _, space in lanes], arrays.parameters(), Parameters(*letters))
        for lane, space in lanes:
            for boundary in lane.boundaries:
                _leave(arrays, out, lane, boundary, space)

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        raise UsageError(NO_SECOND_DERIVATIVE)

    def connection_pattern(self, node: Any) -> list[list[bool]]:
        # The tape follows from the inputs: its own gradient is not asked for.
        return [[i >= 2] * len(node.outputs) for i in range(len(node.inputs))]

    def __str__(self) -> str:
        return f"Adjoint{{{self.spec.name}{', inplace' * self.inplace}}}"


def _hand_back(tap: Tap, space: Workspace, gradient: np.ndarray) -> None:
    """Add the gradient of what an output read to the rows that it read."""
    state = (space.dm if tap.memory else space.dh)[tap.storage]
    assert state is not None
    flat, rows_of = tap.rows.ravel(), gradient.reshape(-1, state.shape[1])
    if not tap.everywhere:
        there = flat >= 0
        flat, rows_of = flat[there], rows_of[there]
    if tap.once:
        state[flat] += rows_of
    else:
        np.add.at(state, flat, rows_of)


def _leave(arrays: _Arrays, out: dict[Role, np.ndarray], lane: Lane, boundary: Boundary, space: Workspace) -> None:
    """The gradient of what entered the grid, from the boundary rows."""
    for vector, states in (("hidden", space.dh), ("memory", space.dm)):
        state = states[boundary.storage]
        if state is None:
            continue
        start, entry, shift = (out.get((boundary.transform, role, vector)) for role in ("start", "entry", "shift"))
        if start is None and entry is None and shift is None:
            continue
        entering = state[boundary.first : boundary.first + boundary.count]
        if entry is not None:
            entry[arrays.rows(lane, len(entry))] = entering
        if shift is not None:
            shift += entering.sum(axis=0)
        if start is not None:
            start += state[boundary.start]
            if entry is None:
                start += entering.sum(axis=0)


@node_rewriter([Adjoint])
def _use_up_the_tape(fgraph: Any, node: Any) -> list[Any] | bool:
    op = node.op
    if op.inplace:
        return False
    unasked = tuple(r for r, out in zip(op.roles, node.outputs, strict=True) if r[1] == "joined" and not fgraph.clients[out])
    adjoint = Adjoint(op.spec, op.dtype, op.roles, op.recompute, inplace=True, unasked=unasked)
    return cast("list[Variable]", adjoint(*node.inputs, return_list=True))


@node_rewriter([Sweep])
def _forget(fgraph: Any, node: Any) -> list[Any] | bool:
    op = node.op
    if op.forgets or op.recompute or fgraph.clients[node.outputs[0]]:
        return False
    return cast("list[Variable]", Sweep(op.spec, op.dtype, op.roles, forgets=True)(*node.inputs, return_list=True))


optdb.register("gridc_forget", dfs_rewriter(_forget), INPLACE, "fast_run", position=74)
optdb.register("gridc_use_up_the_tape", dfs_rewriter(_use_up_the_tape), INPLACE, "fast_run", "inplace", position=75)
