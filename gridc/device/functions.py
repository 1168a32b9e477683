"""A grid's functions on a device: a call is padded to its bucket, run by what was compiled for that, and cut back."""

# PyTensor and JAX say of most of their functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

import contextlib
import importlib
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from gridc.arrays.axes import counted
from gridc.data.fitting import Array, Call
from gridc.device.derivative import backward, forward
from gridc.device.plans import Plans, Prepared
from gridc.device.room import Left
from gridc.device.shards import Shards, exact
from gridc.language import noise
from gridc.language.shapes import output_axes
from gridc.language.spec import GridSpec
from gridc.scheduling.padded import Plan
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
        run = forward(op.plan, op.roles, op.dtype, op.products)

        def device_sweep(*inputs: Any) -> Any:
            tables, arrays, _ = op.cut(inputs)
            storage, taps = run(tables, arrays)
            return (*storage, *taps)

        return device_sweep

    def adjoint(op: device.DeviceAdjoint, **_: Any) -> Callable[..., Any]:
        run = backward(op.plan, op.roles, op.dtype, op.products)

        def device_adjoint(*inputs: Any) -> Any:
            tables, arrays, rest = op.cut(inputs)
            storage = len(op.plan.groups)
            found = run(tables, arrays, rest[:storage], rest[storage:])
            return found if len(found) > 1 else found[0]

        return device_adjoint

    jax_funcify.register(device.DeviceSweep)(sweeping)
    jax_funcify.register(device.DeviceAdjoint)(adjoint)


_register()


class Functions:
    """The functions of one grid, each compiled once a bucket.

    ``mode`` gives PyTensor's mode, ``timed`` a context for what is being built; ``products`` is the type of the operands of the
    sweep's products, where it is not ``dtype``."""

    def __init__(
        self, spec: GridSpec, dtype: str, mode: Any, timed: Callable[[str], Any], devices: int = 1, products: str = ""
    ):  # fmt: skip
        self.spec, self.dtype, self.mode, self.timed, self.products = spec, dtype, mode, timed, products
        self.shards = Shards(devices)
        self.plans = Plans(spec, self.shards)
        self._symbols: dict[tuple[Plan, bool], Symbols] = {}
        self._compiled: dict[tuple[str, Plan], Callable[..., Any]] = {}
        self._alone: dict[tuple[str, Plan], Callable[..., Any]] = {}
        self._left: weakref.WeakSet[Left] = weakref.WeakSet()
        self._seen: set[tuple[str, Plan]] = set()

    # -- compiling --------------------------------------------------------------------------------------------------

    def symbols(self, plan: Plan, call: Call, training: bool = False) -> Symbols:
        """Give the graph for a plan, of prediction or, where masks are drawn, of ``training``; a call tells the types."""
        key = plan, training and noise.noisy(self.spec)
        if key not in self._symbols:
            inputs = {name: pt.TensorType(str(array.dtype), self._input_shape(plan, name, array))(name)
                      for name, array in call.inputs.items()}  # fmt: skip
            extent = np.array([plan.batch, *plan.sizes], np.int64)
            lengths = np.array([[plan.sizes[self._axis(symbol)] for symbol in self.spec.symbols]] * plan.batch, np.int64)
            self._symbols[key] = lowering.lower(
                self.spec, inputs, weighted=True, training=training, extent=pt.vector("extent", dtype="int64"),
                lengths=pt.TensorType("int64", lengths.shape)("lengths"),
                way=Way("fused", self.dtype, self.products, static=Sizes(extent, lengths), device=plan),
            )  # fmt: skip
        return self._symbols[key]

    def _axis(self, symbol: str) -> int:
        return next(d for d, dimension in enumerate(self.spec.dimensions) if dimension.size == symbol)

    def function(self, name: str, plan: Plan, call: Call) -> Callable[..., Any]:
        """``predict``, ``loss`` or ``gradients`` for a plan: a function of JAX, jitted, of ``arguments``."""
        if (name, plan) not in self._compiled:
            s = self.symbols(plan, call, name == "gradients")
            told = [] if name == "predict" else [*s.targets.values(), *s.weights.values(), *s.masks.values()]
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

    def alone(self, name: str, plan: Plan, call: Call, numbers: int) -> Callable[..., Any]:
        """Give ``function``, compiled by itself and not as part of another one, for parameters of so many numbers."""
        if (name, plan) not in self._alone:
            function, options = self.function(name, plan, call), self.plans.options(plan, numbers)
            self._alone[name, plan] = jax.jit(function, compiler_options=options) if options else function
        return self._alone[name, plan]

    # -- calling ----------------------------------------------------------------------------------------------------

    def left(self) -> Left:
        """Make what a training's steps leave to each other, until something else is computed; on one processor alone, where it
        takes time to fill memory with zeros."""
        made = Left(self.dtype, self.shards.platform == "cpu" and self.shards.mesh is None)
        self._left.add(made)
        return made

    def run(self, name: str, parameters: Mapping[str, Any], call: Call, told: Sequence[Array]) -> list[Array]:
        """Give a function by name on a call: what it returns, outputs cut to the call's sizes."""
        for left in list(self._left):
            left.clear()
        with self.ready(name, call, told) as (plan, given):
            function = self.alone(name, plan, call, sum(array.size for array in parameters.values()))
            found = [np.asarray(array) for array in function(*parameters.values(), *given)]
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
        """Give inputs, and targets, weights and masks where they are told, with zeros up to the plan's sizes, on the device."""
        plan, outputs = prepared.plan, list(self.spec.outputs.values())
        arrays = [(array, self._input_shape(plan, name, array)) for name, array in call.inputs.items()]
        arrays += [(array, self._output_shape(plan, o, array)) for o, array in zip(outputs * 2, told, strict=False)]
        arrays += zip(told[2 * len(outputs) :], noise.shapes(self.spec, plan.batch, plan.sizes).values(), strict=False)
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
        return self.shards.handed(filled)

    def cut(self, call: Call, outputs: Sequence[Any]) -> list[Any]:
        """Give outputs of the call's own sizes."""
        sizes = [tuple(int(n) for n in (call.extent[0], *(call.extent[1 + d] for d in o.axes)))
                 for o in self.spec.outputs.values()]  # fmt: skip
        return [self.shards.cut(array, shape) for array, shape in zip(outputs, sizes, strict=True)]

    def _input_shape(self, plan: Plan, name: str, array: Array) -> tuple[int, ...]:
        if name in (facts := dict(plan.facts)):
            return (plan.batch, *facts[name])
        shape = (plan.batch, *(plan.sizes[d] for d in self.spec.inputs[name].over))
        return (*shape, *array.shape[len(shape) :])

    @staticmethod
    def _output_shape(plan: Plan, o: Any, array: Array) -> tuple[int, ...]:
        shape = (plan.batch, *(plan.sizes[d] for d in o.axes))
        return (*shape, *array.shape[len(shape) :])

