"""A grid's functions on a device: a call is padded to its bucket, run by what was compiled for that, and cut back."""

# PyTensor and JAX say of most of their functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from gridc.arrays.axes import counted
from gridc.data.fitting import Array, Call
from gridc.device.adjoint import backward, forward
from gridc.device.shards import Shards
from gridc.language.lattice import Ints
from gridc.language.shapes import output_axes
from gridc.language.spec import GridSpec
from gridc.resources import Memory
from gridc.scheduling import addresses, padded
from gridc.scheduling.addresses import Steps, Turns
from gridc.scheduling.padded import Misfit, Plan, Tables
from gridc.symbolic import device, lowering
from gridc.symbolic.backends import SETTINGS
from gridc.symbolic.indices import Sizes
from gridc.symbolic.lowering import Symbols
from gridc.symbolic.read_out import every_output_mask
from gridc.symbolic.wiring import Way

pytensor: Any = importlib.import_module("pytensor")
pt: Any = importlib.import_module("pytensor.tensor")


def _register() -> None:
    """Tell PyTensor's JAX linker what the two Ops are."""
    jax_funcify: Any = importlib.import_module("pytensor.link.jax.dispatch").jax_funcify

    def sweeping(op: device.DeviceSweep, **_: Any) -> Callable[..., Any]:
        run = forward(op.plan, op.roles, op.dtype)

        def device_sweep(*inputs: Any) -> Any:
            tables, arrays, _ = op.cut(inputs)
            storage, taps = run(tables, arrays)
            return (*storage, *taps)

        return device_sweep

    def adjoint(op: device.DeviceAdjoint, **_: Any) -> Callable[..., Any]:
        run = backward(op.plan, op.roles, op.dtype)

        def device_adjoint(*inputs: Any) -> Any:
            tables, arrays, rest = op.cut(inputs)
            storage = len(op.plan.groups)
            found = run(tables, arrays, rest[:storage], rest[storage:])
            return found if len(found) > 1 else found[0]

        return device_adjoint

    jax_funcify.register(device.DeviceSweep)(sweeping)
    jax_funcify.register(device.DeviceAdjoint)(adjoint)


_register()


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Products in the type of their factors, and double precision where it is asked for, whatever JAX is set to."""
    chosen = getattr(jax.config, "jax_default_matmul_precision", None) or "highest"
    with jax.enable_x64(True), jax.default_matmul_precision(chosen):
        yield


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a call's sizes and lengths come to: the plan that is compiled, and the index arrays, on the device."""

    plan: Plan
    indices: tuple[Any, ...]
    inside: Sequence[Array] | None = None
    """For each output which positions there are, ``[devices × padded batch, …]``, where there are several devices."""


class Plans:
    """The plans of a grid's buckets, and the index arrays of the last few calls."""

    def __init__(self, spec: GridSpec, shards: Shards):
        self.spec, self.shards = spec, shards
        self.wraps = any(t.start == "wrap" for t in spec.transforms.values())
        self._turns, self._plans, self._tables = Memory(), Memory(64), Memory(64)

    def _turns_of(self, sizes: tuple[int, ...], extents: Ints | None) -> Turns:
        """Give the turns of a bucket's grid; they depend on the examples where states wrap around."""
        own = extents if self.wraps else None
        key = (sizes, None if own is None else own.tobytes())
        return self._turns.get(key, lambda: addresses.turns(self.spec, sizes, own))

    def tables(self, call: Call) -> tuple[Plan, list[Tables], list[Ints]]:
        """Give the plan for a call, and for each device its index arrays and the extents of its examples, ``[padded batch,
        dimensions]``."""
        actual, *sizes = (int(n) for n in call.extent)
        parts = self.shards.parts(actual)
        batch, most = padded.rounded(self.spec, parts[0].stop, tuple(sizes))
        extents = [addresses.own_extents(self.spec, batch, most, call.lengths[part]) for part in parts]
        every = np.concatenate(extents)
        turns = self._turns_of(most, every)
        steps = [Steps(turns, batch, own) for own in extents]
        plan: Plan = self._plans.get((batch, most), lambda: Steps(self._turns_of(most, None), batch, None).plan())
        try:
            return plan, [one.tables(plan) for one in steps], extents
        except Misfit:
            plan = self._plans.get((batch, most, every.tobytes()), lambda: Steps(turns, batch, None).plan(steps))
            return plan, [one.tables(plan) for one in steps], extents

    def prepared(self, call: Call, symbols: Callable[[Plan, Call], Symbols]) -> Prepared:
        """Give the plan and the index arrays of a call; ``symbols`` gives the graph that is compiled for a plan."""

        def make() -> Prepared:
            plan, tables, extents = self.tables(call)
            indices: list[Any] = []
            for variable in symbols(plan, call).indices:
                if variable.owner is None:
                    each = [one[variable.name] for one in tables]
                else:
                    k, op = variable.owner.outputs.index(variable), variable.owner.op
                    each = [op.plan(self.spec, plan.sizes, plan.batch, own)[k] for own in extents]
                indices.append(each[0] if len(each) == 1 else np.concatenate(each))
            with exact():
                placed = self.shards.split(indices)
            return Prepared(plan, tuple(placed), self._inside(plan, extents))

        return self._tables.get((call.extent.tobytes(), call.lengths.tobytes()), make)

    def _inside(self, plan: Plan, extents: list[Ints]) -> list[Array] | None:
        """Tell of each output which positions there are, over all devices; None for one device."""
        if len(extents) == 1:
            return None
        masks = zip(*(every_output_mask(self.spec, plan.sizes, plan.batch, own) for own in extents), strict=True)
        return [np.concatenate(each) for each in masks]


class Functions:
    """The functions of one grid, each compiled once a bucket.

    ``mode`` gives PyTensor's mode, ``timed`` a context for what is being built."""

    def __init__(self, spec: GridSpec, dtype: str, mode: Any, timed: Callable[[str], Any], devices: int = 1):
        self.spec, self.dtype, self.mode, self.timed = spec, dtype, mode, timed
        self.shards = Shards(devices)
        self.plans = Plans(spec, self.shards)
        self._symbols: dict[Plan, Symbols] = {}
        self._compiled: dict[tuple[str, Plan], Callable[..., Any]] = {}
        self._seen: set[tuple[str, Plan]] = set()

    # -- compiling --------------------------------------------------------------------------------------------------

    def symbols(self, plan: Plan, call: Call) -> Symbols:
        """Give the graph for a plan; the call tells the types of inputs, and axes that are not of the grid."""
        if plan not in self._symbols:
            inputs = {name: pt.TensorType(str(array.dtype), self._input_shape(plan, name, array))(name)
                      for name, array in call.inputs.items()}  # fmt: skip
            extent = np.array([plan.batch, *plan.sizes], np.int64)
            lengths = np.array([[plan.sizes[self._axis(symbol)] for symbol in self.spec.symbols]] * plan.batch, np.int64)
            self._symbols[plan] = lowering.lower(
                self.spec, inputs, weighted=True, extent=pt.vector("extent", dtype="int64"),
                lengths=pt.TensorType("int64", lengths.shape)("lengths"),
                way=Way("fused", self.dtype, static=Sizes(extent, lengths), device=plan),
            )  # fmt: skip
        return self._symbols[plan]

    def _axis(self, symbol: str) -> int:
        return next(d for d, dimension in enumerate(self.spec.dimensions) if dimension.size == symbol)

    def function(self, name: str, plan: Plan, call: Call) -> Callable[..., Any]:
        """``predict``, ``loss`` or ``gradients`` for a plan: a function of JAX, jitted, of ``arguments``."""
        if (name, plan) not in self._compiled:
            s = self.symbols(plan, call)
            told = [] if name == "predict" else [*s.targets.values(), *s.weights.values()]
            outputs = {"predict": [*s.outputs.values()], "loss": [s.loss], "gradients": [s.loss, *s.outputs.values()]}[name]
            with SETTINGS, pytensor.config.change_flags(floatX=self.dtype):
                if name == "gradients" and s.parameters:
                    outputs += pytensor.grad(s.loss, list(s.parameters.values()), disconnected_inputs="ignore")
                made = pytensor.function(
                    [*s.parameters.values(), *s.inputs.values(), *told, *s.indices], outputs, mode=self.mode(),
                    on_unused_input="ignore", name=f"{self.spec.name}.{name}", trust_input=True,
                )  # fmt: skip
            summed = [k >= len(s.outputs) for k in range(len(outputs))] if name == "predict" else [
                not 1 <= k <= len(s.outputs) for k in range(len(outputs))]  # fmt: skip
            self._compiled[name, plan] = self.shards.over(made.vm.jit_fn, len(s.parameters), summed)
        return self._compiled[name, plan]

    # -- calling ----------------------------------------------------------------------------------------------------

    def run(self, name: str, parameters: Mapping[str, Any], call: Call, told: Sequence[Array]) -> list[Array]:
        """Give a function by name on a call: what it returns, outputs cut to the call's sizes."""
        with self.ready(name, call, told) as (plan, given):
            found = [np.asarray(array) for array in self.function(name, plan, call)(*parameters.values(), *given)]
        first = 0 if name == "predict" else 1
        if name != "loss":
            found[first : first + len(self.spec.outputs)] = self.cut(call, found[first : first + len(self.spec.outputs)])
        return found

    @contextlib.contextmanager
    def ready(self, name: str, call: Call, told: Sequence[Array]) -> Iterator[tuple[Plan, list[Any]]]:
        """Give the plan for a call, and what a function takes after the parameters; the first call of each plan is timed."""
        with exact():
            prepared = self.plans.prepared(call, self.symbols)
            plan = prepared.plan
            seen = (name, plan) in self._seen
            sizes = " × ".join(map(str, (plan.batch, *plan.sizes)))
            with contextlib.nullcontext() if seen else self.timed(f"{name} for up to {sizes}"):
                yield plan, [*self.padded(prepared, call, told), *prepared.indices]
            self._seen.add((name, plan))

    def padded(self, prepared: Prepared, call: Call, told: Sequence[Array]) -> list[Any]:
        """Give inputs, and targets and weights where they are told, with zeros up to the plan's sizes, on the device."""
        plan, outputs = prepared.plan, list(self.spec.outputs.values())
        arrays = [(array, self._input_shape(plan, name, array)) for name, array in call.inputs.items()]
        arrays += [(array, self._output_shape(plan, o, array)) for o, array in zip(outputs * 2, told, strict=False)]
        filled = [self.shards.filled(array, shape) for array, shape in arrays]
        if told and prepared.inside is not None:
            # The mean on each device counts in that of all as many positions as it is over.
            first = len(call.inputs)
            for k, (axes, inside) in enumerate(zip(output_axes(self.spec).values(), prepared.inside, strict=True), first):
                known = counted(axes, filled[k])
                count = (inside if known is None else inside & known).reshape(-1, plan.batch, *inside.shape[1:])
                count = count.sum(axis=tuple(range(1, count.ndim)))
                share = (count / max(1, count.sum())).repeat(plan.batch).astype(self.dtype)
                weight = filled[k + len(outputs)]
                filled[k + len(outputs)] = weight * share.reshape(-1, *[1] * (weight.ndim - 1))
        return self.shards.split(filled)

    def cut(self, call: Call, outputs: Sequence[Any]) -> list[Any]:
        """Give outputs of the call's own sizes."""
        sizes = [tuple(int(n) for n in (call.extent[0], *(call.extent[1 + d] for d in o.axes)))
                 for o in self.spec.outputs.values()]  # fmt: skip
        return [self.shards.cut(array, shape) for array, shape in zip(outputs, sizes, strict=True)]

    def _input_shape(self, plan: Plan, name: str, array: Array) -> tuple[int, ...]:
        shape = (plan.batch, *(plan.sizes[d] for d in self.spec.inputs[name].over))
        return (*shape, *array.shape[len(shape) :])

    @staticmethod
    def _output_shape(plan: Plan, o: Any, array: Array) -> tuple[int, ...]:
        shape = (plan.batch, *(plan.sizes[d] for d in o.axes))
        return (*shape, *array.shape[len(shape) :])

