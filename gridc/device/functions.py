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

from gridc.data.fitting import Array, Call
from gridc.device.adjoint import backward, forward
from gridc.language.lattice import Ints
from gridc.language.spec import GridSpec
from gridc.resources import Memory
from gridc.scheduling import addresses, padded
from gridc.scheduling.addresses import Steps, Turns
from gridc.scheduling.padded import Misfit, Plan, Tables
from gridc.symbolic import device, lowering
from gridc.symbolic.backends import SETTINGS
from gridc.symbolic.indices import Sizes
from gridc.symbolic.lowering import Symbols
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


class Plans:
    """The plans of a grid's buckets, and the index arrays of the last few calls."""

    def __init__(self, spec: GridSpec):
        self.spec = spec
        self.wraps = any(t.start == "wrap" for t in spec.transforms.values())
        self._turns, self._plans, self._tables = Memory(), Memory(64), Memory(64)

    def _steps(self, batch: int, sizes: tuple[int, ...], extents: Ints | None) -> Steps:
        """Give the steps of some examples in a bucket; when they run depends on the examples where states wrap around."""
        own = extents if self.wraps else None
        key = (sizes, None if own is None else own.tobytes())
        turns: Turns = self._turns.get(key, lambda: addresses.turns(self.spec, sizes, own))
        return Steps(turns, batch, extents)

    def tables(self, call: Call) -> tuple[Plan, Tables, Ints]:
        """Give the plan for a call, its index arrays, and the extents of its examples, ``[padded batch, dimensions]``."""
        actual, *sizes = (int(n) for n in call.extent)
        batch, most = padded.rounded(self.spec, actual, tuple(sizes))
        extents = addresses.own_extents(self.spec, batch, most, call.lengths)
        steps = self._steps(batch, most, extents)
        plan: Plan = self._plans.get((batch, most), lambda: self._steps(batch, most, None).plan())
        try:
            return plan, steps.tables(plan), extents
        except Misfit:
            plan = self._plans.get((batch, most, extents.tobytes()), steps.plan)
            return plan, steps.tables(plan), extents

    def prepared(self, call: Call, symbols: Callable[[Plan, Call], Symbols]) -> Prepared:
        """Give the plan and the index arrays of a call; ``symbols`` gives the graph that is compiled for a plan."""

        def make() -> Prepared:
            plan, tables, extents = self.tables(call)
            indices: list[Any] = []
            for variable in symbols(plan, call).indices:
                if variable.owner is None:
                    indices.append(tables[variable.name])
                    continue
                made = variable.owner.op.plan(self.spec, plan.sizes, plan.batch, extents)
                indices.append(made[variable.owner.outputs.index(variable)])
            with exact():
                return Prepared(plan, tuple(jax.device_put(indices)))

        return self._tables.get((call.extent.tobytes(), call.lengths.tobytes()), make)


class Functions:
    """The functions of one grid, each compiled once a bucket.

    ``mode`` gives PyTensor's mode, ``timed`` a context for what is being built."""

    def __init__(self, spec: GridSpec, dtype: str, mode: Any, timed: Callable[[str], Any]):
        self.spec, self.dtype, self.mode, self.timed = spec, dtype, mode, timed
        self.plans = Plans(spec)
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
            self._compiled[name, plan] = made.vm.jit_fn
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
                yield plan, [*self.padded(plan, call, told), *prepared.indices]
            self._seen.add((name, plan))

    def padded(self, plan: Plan, call: Call, told: Sequence[Array]) -> list[Array]:
        """Give inputs, and targets and weights where they are told, with zeros up to the plan's sizes."""
        inputs = [_filled(array, self._input_shape(plan, name, array)) for name, array in call.inputs.items()]
        outputs = list(self.spec.outputs.values())
        return inputs + [_filled(array, self._output_shape(plan, o, array)) for o, array in zip(outputs * 2, told, strict=False)]

    def cut(self, call: Call, outputs: Sequence[Any]) -> list[Any]:
        """Give outputs of the call's own sizes."""
        places = [tuple(slice(int(n)) for n in (call.extent[0], *(call.extent[1 + d] for d in o.axes)))
                  for o in self.spec.outputs.values()]  # fmt: skip
        return [array[place] for array, place in zip(outputs, places, strict=True)]

    def _input_shape(self, plan: Plan, name: str, array: Array) -> tuple[int, ...]:
        shape = (plan.batch, *(plan.sizes[d] for d in self.spec.inputs[name].over))
        return (*shape, *array.shape[len(shape) :])

    @staticmethod
    def _output_shape(plan: Plan, o: Any, array: Array) -> tuple[int, ...]:
        shape = (plan.batch, *(plan.sizes[d] for d in o.axes))
        return (*shape, *array.shape[len(shape) :])


def _filled(array: Array, shape: tuple[int, ...]) -> Array:
    """Give the array with zeros behind each axis, up to this shape."""
    if array.shape == shape:
        return array
    whole = np.zeros(shape, array.dtype)
    whole[tuple(map(slice, array.shape))] = array
    return whole
