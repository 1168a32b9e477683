"""The plans of a grid's buckets, and the index arrays of its calls."""

# PyTensor and JAX say of most of their functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gridc.data.fitting import Array, Call
from gridc.device.shards import Shards, exact
from gridc.language.lattice import Ints
from gridc.language.spec import GridSpec
from gridc.resources import Memory
from gridc.scheduling import padded, turns
from gridc.scheduling.addresses import Addresses, own_extents, planned
from gridc.scheduling.padded import Misfit, Plan, Tables
from gridc.scheduling.shortened import Shortened
from gridc.scheduling.turns import Steps, Turns
from gridc.symbolic.lowering import Symbols
from gridc.symbolic.read_out import every_output_mask

WORTH = 2e7
"""Multiply-adds that a narrower phase must save on a processor, forward: about two milliseconds of a step on two cores, for half
a second of compiling.  Other devices hardly feel rows that are there anyway."""
SHARED = 1 << 14
"""Numbers that a loop in a turn must make on a processor to be worth handing out to its cores: ten microseconds of work, about
what it takes to wake one."""


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
        self._processor = shards.platform == "cpu"
        self._worth = WORTH if self._processor else math.inf
        self._turns, self._shortened, self._plans, self._tables = Memory(), Memory(), Memory(64), Memory(64)

    def _turns_of(self, sizes: tuple[int, ...], extents: Ints | None) -> Turns:
        """Give the turns of a bucket's grid; they depend on the examples where states wrap around."""
        own = extents if self.wraps else None
        key = (sizes, None if own is None else own.tobytes())
        return self._turns.get(key, lambda: turns.turns(self.spec, sizes, own))

    def _tables_of(self, plan: Plan, extents: Ints, every: Ints, complete: bool = True) -> Tables:
        """Give the index arrays of examples of these sizes, on one device; ``every`` are those on all."""
        if self.wraps:
            steps = Steps(self._turns_of(plan.sizes, every), plan.batch, extents)
            return Addresses(steps, plan).tables(complete)

        def shortened() -> Shortened:
            return Shortened(Steps(self._turns_of(plan.sizes, None), plan.batch, None), plan)

        return (self._shortened.get(plan, shortened) if complete else shortened()).tables(extents, complete)

    def tables(self, call: Call) -> tuple[Plan, list[Tables], list[Ints]]:
        """Give the plan for a call, and for each device its index arrays and the extents of its examples, ``[padded batch,
        dimensions]``."""
        actual, *sizes = (int(n) for n in call.extent)
        parts = self.shards.parts(actual)
        batch, most = padded.rounded(self.spec, parts[0].stop, tuple(sizes))
        told = {name: call.inputs[name].shape[1:] for name, x in self.spec.inputs.items() if x.facts}
        facts = tuple((name, (padded.bucket(count), *rest)) for name, (count, *rest) in told.items())
        counts = {f"facts.{name}": np.array([shape[0]], np.int32) for name, shape in told.items()}
        extents = [own_extents(self.spec, batch, most, call.lengths[part]) for part in parts]
        every = np.concatenate(extents)

        def each(plan: Plan, complete: bool = True) -> list[Tables]:
            return [self._tables_of(plan, own, every, complete) | counts for own in extents]

        def whole(examples: Ints | None) -> Steps:
            return Steps(self._turns_of(most, examples), batch, None)

        plan: Plan = self._plans.get((batch, most, facts), lambda: planned(whole(None), self._worth).attending(facts))
        try:
            return plan, each(plan), extents
        except Misfit:
            key = (batch, most, facts, every.tobytes())
            plan = self._plans.get(key, lambda: planned(
                whole(every), self._worth, lambda plan: each(plan, False)).attending(facts))  # fmt: skip
            return plan, each(plan), extents

    def options(self, plan: Plan, numbers: int) -> dict[str, str] | None:
        """Give XLA's options for what is compiled for a plan with so many ``numbers`` of parameters; None for its own.

        On a processor XLA has the cores share a loop by the bytes of its operands, and takes a turn that gathers a few rows of a
        large storage for one that reads all of it.  Where turns are small, every loop is one core's.  Products, which share
        by themselves, are not concerned, and the update of large parameters is worth sharing."""
        facts = {name: count for name, (count, *_) in plan.facts}
        groups = [(block.size, plan.groups[block.group]) for phase in plan.phases for block in phase.blocks]
        most = max((size * g.hidden * (facts[g.attends] if g.attends else 1) for size, g in groups), default=0)
        small = most < SHARED and numbers < SHARED * sum(phase.turns for phase in plan.phases)
        return {"xla_disable_hlo_passes": "cpu-parallel-task-assigner"} if self._processor and small else None

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

        facts = tuple(array.shape[1:] for name, array in call.inputs.items() if self.spec.inputs[name].facts)
        return self._tables.get((call.extent.tobytes(), call.lengths.tobytes(), facts), make)

    def _inside(self, plan: Plan, extents: list[Ints]) -> list[Array] | None:
        """Tell of each output which positions there are, over all devices; None for one device."""
        if len(extents) == 1:
            return None
        masks = zip(*(every_output_mask(self.spec, plan.sizes, plan.batch, own) for own in extents), strict=True)
        return [np.concatenate(each) for each in masks]
