"""Training on a device: parameters and an optimiser's state stay there from step to step, and come home when they are looked at.

An optimiser's rule is the one of ``gridc.tables.update_rules``, written for NumPy's arrays in place; here it runs on arrays
that stand for JAX's, and what it does becomes part of the compiled step.
"""

# JAX says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from numpy.lib.mixins import NDArrayOperatorsMixin

from gridc.data.fitting import Call
from gridc.device.functions import Functions
from gridc.device.packing import Layout, pack, unpack
from gridc.device.room import lend
from gridc.scheduling.padded import Plan
from gridc.training.optimizers import Optimizer, apply_rule
from gridc.training.step import Step

Array = Any


class Traced(NDArrayOperatorsMixin):
    """A JAX array where a rule expects one of NumPy's: what writes to it replaces ``value``."""

    __slots__ = ("value",)

    def __init__(self, value: Array):
        self.value = value

    @property
    def dtype(self) -> Any:
        """The dtype, a NumPy one."""
        return np.dtype(self.value.dtype)

    def _as(self, given: Any) -> Array:
        """Give an operand; numbers that are no arrays take this array's dtype, as they do in NumPy."""
        return given.value if isinstance(given, Traced) else jnp.asarray(given).astype(self.value.dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: tuple[Traced, ...] | None = None, **options: Any):
        if method != "__call__" or options:
            return NotImplemented
        found = getattr(jnp, ufunc.__name__)(*map(self._as, inputs))
        if out is None:
            return Traced(found)
        out[0].value = found
        return out[0]

    def __array_function__(self, function: Any, types: Any, arguments: Sequence[Any], options: Mapping[str, Any]):
        if function is not np.copyto:
            return NotImplemented
        into, of = arguments
        into.value = self._as(of)
        return None


class Mirror:
    """Arrays on the device that stand for some of the host's, by name; ``look`` gives the host's, ``place`` puts one there.

    They are copied there when they are first needed.  ``come_home`` brings back what changed, and whoever called for it may then
    change the host's arrays, so that they are copied again."""

    def __init__(self, look: Callable[[], Mapping[str, np.ndarray]], place: Callable[[Any], Any] = jax.device_put):
        self.look, self.place, self._held, self._newer = look, place, None, False

    def arrays(self) -> dict[str, Array]:
        """Give the arrays on the device."""
        if self._held is None:
            # Copies: on a CPU JAX may otherwise use the host's own memory, which can change.
            self._held = {name: self.place(np.array(array)) for name, array in self.look().items()}
        return self._held

    def replace(self, arrays: Mapping[str, Array]) -> None:
        """Take these as the arrays now."""
        # JAX sorts the keys of what it returns.
        self._held, self._newer = {name: arrays[name] for name in self.look()}, True

    def come_home(self) -> None:
        """Make the host's arrays equal to the device's, in place."""
        held, newer, self._held, self._newer = self._held, self._newer, None, False
        if held is not None and newer:
            for name, array in self.look().items():
                np.copyto(array, np.asarray(held[name]))


class Updates:
    """One optimiser's updates of a grid's parameters, which lie in a ``Mirror``.

    ``check`` gives the call and what is told for the arrays of ``Grid.loss_and_gradients``; ``lock`` is held while a step begins,
    for which ``draw`` gives its masks, and what undoes that."""

    ahead = True

    def __init__(
        self, functions: Functions, parameters: Mirror, optimizer: Optimizer, lock: contextlib.AbstractContextManager[Any],
        check: Callable[..., tuple[Call, Sequence[np.ndarray]]], draw: Callable[[Call], tuple[Sequence[np.ndarray], Any]],
    ):  # fmt: skip
        self.functions, self.parameters, self.optimizer, self.lock = functions, parameters, optimizer, lock
        self.check, self.draw = check, draw
        self.state = Mirror(lambda: optimizer.slots, functions.shards.whole)
        optimizer.watch = self.state.come_home
        self._steps: dict[Plan, Callable[..., Any]] = {}
        self.left = functions.left()
        self._told: Any = None  # what the last step told, on the device
        self._begun = 0  # steps that nobody has looked at

    def begin(
        self, inputs: Mapping[str, Any], targets: Mapping[str, Any], lengths: Mapping[str, Any] | None = None,
        weights: Mapping[str, Any] | None = None,
    ) -> Callable[[], Step]:  # fmt: skip
        """Hand a step to the device, and its arrays while the step before may still be running there."""
        call, told = self.check(inputs, targets, lengths, weights)
        with contextlib.ExitStack() as held:
            held.enter_context(self.lock)
            masks, undo = self.draw(call)
            plan, given = held.enter_context(self.functions.ready("training step", call, [*told, *masks]))
            if not self.optimizer.started:
                self.optimizer.start(self.parameters.look())
            if plan not in self._steps:
                function = self.functions.function("gradients", plan, call)
                numbers = {name: array.size for name, array in self.parameters.look().items()}
                options = self.functions.plans.options(plan, sum(numbers.values()))
                self._steps[plan] = step(function, list(numbers), self.optimizer, len(self.functions.spec.outputs), options)
            parameters, state, room, told, outputs = self._steps[plan](*self.arguments(given, self.left.take(plan)))
            self.left.leave(plan, room)
            for array in (told, *outputs):
                array.copy_to_host_async()  # so that whoever looks waits once
            self.parameters.replace(parameters)
            self.state.replace(state)
            self._told = told
            self.optimizer.counted(1)
            self._begun += 1
        return functools.partial(self._look, call, undo, told, outputs)

    def arguments(self, given: Sequence[Any], room: dict[str, Array]) -> tuple[Any, ...]:
        """Give what a compiled step takes, of which ``given`` is what it computes from and ``room`` what it may write over."""
        shards, optimizer = self.functions.shards, self.optimizer
        before = shards.whole(np.ones(3)) if self._told is None else self._told
        here = [array for array in given if isinstance(array, np.ndarray)]  # the first of them
        numbers, layout = pack([np.array([optimizer.rate, optimizer.count + 1]), *here])
        own = self.parameters.arrays(), self.state.arrays(), room
        return *own, before, shards.handed_whole(numbers), layout, *given[len(here) :]

    def _look(self, call: Call, undo: Callable[[], None], told: Array, outputs: Sequence[Array]) -> Step:
        """Wait for the oldest step that nobody has looked at."""
        spec = self.functions.spec
        found = self.functions.cut(call, [np.asarray(array) for array in outputs])
        loss, norm, good = np.asarray(told).tolist()
        done = Step(loss, norm, dict(zip(spec.outputs, found, strict=True)), bool(good), {})
        if done.good:
            self.optimizer.norm = done.norm
            self._begun -= 1
        else:  # neither was any that was begun after it
            self.optimizer.counted(-self._begun)
            self._told, self._begun = None, 0
            undo()  # whoever looks for what went wrong is to find it under the same masks
        return done


def step(
    function: Callable[..., Any], names: Sequence[str], optimizer: Optimizer, outputs: int, options: dict[str, str] | None = None
) -> Callable[..., Any]:  # fmt: skip
    """Give a jitted ``f(parameters, slots, room, before, numbers, layout, *given) → (parameters, slots, room, told, outputs)``.

    ``function`` maps parameters and the rest of what a call gives to the loss, the outputs and the gradients; ``numbers`` are the
    rate and the number of the step, and then what of a call comes from the host, as ``pack`` lays them.  ``told`` ``[3]``
    are the loss, the norm of all gradients, and whether everything is good, which is finite: unless it is, and was in the step
    ``before`` by what that told, parameters and slots stay as they are.  ``room`` are the arrays of ``gridc.device.room``, and
    ``options`` XLA's."""
    slots = list(optimizer.rule.slots(optimizer.options))
    traced = inspect.unwrap(function)  # not one that was traced before, whose room was another step's

    def run(
        parameters: dict[str, Array], state: dict[str, Array], room: dict[str, Array], before: Array, numbers: Array,
        layout: Layout, *given: Array,
    ) -> Any:  # fmt: skip
        (rate, count), *here = unpack(numbers, layout)
        with lend(room) as left:
            loss, *rest = traced(*(parameters[name] for name in names), *here, *given)
        gradients = dict(zip(names, rest[outputs:], strict=True))
        squares = [jnp.sum(jnp.square(g)).astype(jnp.float64) for g in gradients.values()]
        norm = jnp.sqrt(sum(squares, start=jnp.zeros((), jnp.float64)))
        good = (before[2] > 0) & jnp.isfinite(loss)
        for gradient in gradients.values():
            good &= jnp.isfinite(gradient).all()
        scale = None
        if optimizer.clip is not None:
            scale = jnp.where(norm >= optimizer.clip, optimizer.clip / norm, 1.0)
        after, kept = dict(parameters), dict(state)
        for name in names:
            p: Any = Traced(parameters[name])
            g: Any = Traced(gradients[name])
            own: list[Any] = [Traced(state[f"{slot}/{name}"]) for slot in slots]
            scratch: list[Any] = [Traced(jnp.zeros_like(p.value)) for _ in range(3)]
            apply_rule(optimizer, p, g, own, scratch, rate, count, scale)
            after[name] = jnp.where(good, p.value, parameters[name])
            for slot, array in zip(slots, own, strict=True):
                key = f"{slot}/{name}"
                kept[key] = jnp.where(good, array.value, state[key])
        told = jnp.stack([loss.astype(jnp.float64), norm, good.astype(jnp.float64)])
        return after, kept, left.arrays, told, rest[:outputs]

    return jax.jit(run, donate_argnums=(0, 1, 2), static_argnums=5, compiler_options=options)
