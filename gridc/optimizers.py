"""Optimisers: an update rule of the table with its state, the learning rate's schedule and the clipping of gradients.

Everything happens in place, in blocks that stay in the cache, without temporaries: an update costs a few percent of a
training step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gridc.errors import DataError, UsageError, listed, nearest
from gridc.options import checked
from gridc.schedules import Schedule
from gridc.update_rules import OPTIMIZERS, Array, Block, Rule

BLOCK = 16384
"""Elements updated at a time: the block, its state and the scratch stay in the second-level cache over all passes."""
SMALL = 8192
"""Parameters with fewer elements are gathered into one vector, since each NumPy call costs half a microsecond."""


@dataclass
class _Unit:
    """Parameters that are updated together: one large one in place, or several small ones gathered into a vector."""

    names: tuple[str, ...]
    ends: tuple[int, ...]
    slots: tuple[Array, ...]
    gathered: tuple[Array, Array] | None
    """Parameters and gradients as one vector each, where the unit holds several small parameters."""


class Optimizer:
    """An update rule with its state; ``update`` changes the parameters in place.

    ``state`` is a flat mapping of name to array, ``count`` and ``SLOT/PARAMETER``: what a checkpoint keeps.
    ``clip`` is the largest global norm of the gradients (``optax.clip_by_global_norm``, Pascanu et al. 2013);
    ``schedule`` maps the number of steps done to the learning rate, and replaces the option ``learning_rate``.
    """

    def __init__(
        self, rule: Rule, options: Mapping[str, Any], *, schedule: Schedule | None = None, clip: float | None = None
    ):
        if clip is not None and not clip > 0:
            raise UsageError(f"The gradients' largest norm ('clip') is {clip!r}, expected a number above 0.")
        self.rule, self.options, self.schedule, self.clip = rule, dict(options), schedule, clip
        self.state: dict[str, Array] = {}
        self.norm = 0.0
        """The gradients' global norm at the last step, before clipping."""
        self._units: list[_Unit] = []
        self._scratch: dict[np.dtype[Any], tuple[Array, Array, Array]] = {}

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items() if value is not None)
        return f"{self.rule.name}({options})"

    @property
    def count(self) -> int:
        """How many updates were made."""
        return int(self.state["count"]) if self.state else 0

    @property
    def rate(self) -> float:
        """The learning rate of the next update."""
        return float(self.schedule(self.count)) if self.schedule else float(self.options["learning_rate"])

    def start(self, parameters: Mapping[str, Array]) -> None:
        """Makes the state for these parameters: every slot at its initial value."""
        initial = self.rule.slots(self.options)
        self.state = {"count": np.zeros((), np.int64)}
        self._units = []
        small: dict[np.dtype[Any], list[str]] = {}
        for name, p in parameters.items():
            if p.size < SMALL:
                small.setdefault(p.dtype, []).append(name)
        groups = [[name] for name, p in parameters.items() if p.size >= SMALL] + list(small.values())
        for names in groups:
            ends = np.cumsum([parameters[name].size for name in names]).tolist()
            dtype = parameters[names[0]].dtype
            slots = tuple(np.full(ends[-1], value, dtype) for value in initial.values())
            gathered = (np.empty(ends[-1], dtype), np.empty(ends[-1], dtype)) if len(names) > 1 else None
            self._units.append(_Unit(tuple(names), tuple(ends), slots, gathered))
            for slot, vector in zip(initial, slots, strict=True):
                for name, start, end in zip(names, [0, *ends], ends, strict=False):
                    # Views: the state that a checkpoint sees is the one that the update works on.
                    self.state[f"{slot}/{name}"] = vector[start:end].reshape(parameters[name].shape)

    def load(self, parameters: Mapping[str, Array], state: Mapping[str, Array]) -> None:
        """Takes over a saved state, bit for bit; DataError where it belongs to other parameters or another rule."""
        self.start(parameters)
        if set(state) != set(self.state):
            odd = listed(sorted(set(state) ^ set(self.state))[:3], "and")
            raise DataError(f"The saved optimiser state is not that of '{self.rule.name}' for this grid: it differs in {odd}.")
        for name, array in self.state.items():
            if state[name].shape != array.shape or state[name].dtype != array.dtype:
                raise DataError(
                    f"The saved optimiser state '{name}' is {state[name].dtype} {list(state[name].shape)}, "
                    f"expected {array.dtype} {list(array.shape)}.")  # fmt: skip
            array[...] = state[name]

    def update(
        self, parameters: Mapping[str, Array], gradients: Mapping[str, Array], *, norm: float | None = None
    ) -> None:
        """One step: parameters and state are changed in place, the gradients are left as they are.

        ``norm`` is the gradients' ``global_norm``, where the caller has it already.
        """
        if not self.state:
            self.start(parameters)
        rate = self.rate
        self.state["count"] += 1
        count = self.count
        scale = 1.0
        if self.clip is not None:
            self.norm = global_norm(gradients) if norm is None else norm
            scale = self.clip / self.norm if self.norm >= self.clip else 1.0
        for unit in self._units:
            if unit.gathered is None:
                p, g = _flat(parameters[unit.names[0]]), _flat(gradients[unit.names[0]])
            else:
                p, g = unit.gathered
                _gather(unit, parameters, p)
                _gather(unit, gradients, g)
            self._update(p, g, unit.slots, rate, count, scale)
            if unit.gathered is not None:
                start = 0
                for name, end in zip(unit.names, unit.ends, strict=True):
                    array = parameters[name]
                    np.copyto(array, p[start:end].reshape(array.shape))
                    start = end
            elif not np.may_share_memory(p, parameters[unit.names[0]]):
                array = parameters[unit.names[0]]  # not contiguous, so `p` was a copy
                array[...] = p.reshape(array.shape)

    def _update(self, p: Array, g: Array, slots: Sequence[Array], rate: float, count: int, scale: float) -> None:
        decay = self.options["weight_decay"]
        if p.dtype not in self._scratch:
            self._scratch[p.dtype] = (np.empty(BLOCK, p.dtype), np.empty(BLOCK, p.dtype), np.empty(BLOCK, p.dtype))
        u, s, scaled = self._scratch[p.dtype]
        for start in range(0, p.size, BLOCK):
            part = slice(start, min(start + BLOCK, p.size))
            length = part.stop - start
            p_, g_, u_, s_ = p[part], g[part], u[:length], s[:length]
            if scale != 1.0:
                g_ = np.multiply(g_, scale, out=scaled[:length])
            if decay and not self.rule.decoupled:
                np.multiply(p_, decay, out=s_)
                g_ = np.add(g_, s_, out=scaled[:length])
            self.rule.update(Block(g_, [slot[part] for slot in slots], u_, s_, rate, count), self.options)
            if decay and self.rule.decoupled:
                np.multiply(p_, rate * decay, out=s_)
                u_ += s_
            p_ -= u_


def optimizer(
    name: str = "adam", *, schedule: Schedule | None = None, clip: float | None = None, **options: Any
) -> Optimizer:
    """The optimiser of that name with these options; UsageError for a name or option that the table does not have."""
    if name not in OPTIMIZERS:
        raise UsageError(f"There is no optimizer '{name}', expected {listed(OPTIMIZERS)}{nearest(name, OPTIMIZERS)}.")
    rule = OPTIMIZERS[name]
    return Optimizer(rule, checked(f"Optimizer '{name}'", rule.options, options), schedule=schedule, clip=clip)


def global_norm(gradients: Mapping[str, Array]) -> float:
    """The root of the sum of all squared gradients; NaN or infinity where any of them is."""
    total = 0.0
    for g in gradients.values():
        flat = _flat(g)
        # Blocks, added in double precision: exact enough for any size, and never split between BLAS threads, whose
        # number would change the last bits.
        for start in range(0, flat.size, SMALL):
            block = flat[start : start + SMALL]
            total += float(np.dot(block, block))
    return total**0.5


def _flat(array: Array) -> Array:
    """The array as a vector; a view where it is contiguous."""
    return array.reshape(-1)


def _gather(unit: _Unit, arrays: Mapping[str, Array], out: Array) -> None:
    start = 0
    for name, end in zip(unit.names, unit.ends, strict=True):
        out[start:end].reshape(arrays[name].shape)[...] = arrays[name]
        start = end
