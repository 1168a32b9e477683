"""A sweep on a GPU as one kernel forward and one back, which stay on the card from the first turn to the last.

They take the place of the loops of ``Sweep`` and ``Backward``, read the same index arrays and leave the same storage; all that
is before and behind the loops stays XLA's.  A plan that kernels do not cover, and what has no room, keeps the loops.
"""

# JAX says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from gridc.cuda import compiler
from gridc.cuda.launching import Kernels
from gridc.cuda.source import Writer
from gridc.cuda.statements import Statements, covered

Array = Any


@dataclass
class _Fields:
    """A kernel's pointers: what it takes and what it gives, by name."""

    taken: list[tuple[str, str, Array]] = field(default_factory=list[Any])
    given: list[tuple[str, str, tuple[int, ...]]] = field(default_factory=list[Any])

    def take(self, name: str, array: Array) -> None:
        """Add an argument."""
        kind = "const int*" if np.issubdtype(array.dtype, np.integer) else "const float*"
        self.taken.append((name, kind, array))

    def give(self, name: str, shape: tuple[int, ...]) -> None:
        """Add a result, of float32."""
        self.given.append((name, "float*", shape))

    @property
    def all(self) -> list[tuple[str, str]]:
        """Their names and types, in order."""
        return [(name, kind) for name, kind, _ in (*self.taken, *self.given)]


class Persistent:
    """The kernels of one sweep (``gridc.device.sweep.Sweep``)."""

    def __init__(self, sweep: Any, kernels: Kernels):
        self.sweep, self.plan, self.kernels = sweep, sweep.plan, kernels

    def _statements(self) -> Statements:
        sweep, plan = self.sweep, self.plan
        gated = [g for g, group in enumerate(plan.groups) if group.gates]
        return Statements(
            plan,
            ahead={g: tuple(len(a) // sum(plan.groups[g].weights) for a in sweep.ahead[g]) for g in gated if sweep.ahead[g]},
            biased=frozenset(g for g in gated if sweep.weights[g][1] is not None),
            holes={g: sweep.weights[g][2].shape[-1] // plan.groups[g].hidden for g in gated if sweep.weights[g][2] is not None},
            masks=frozenset(g for g, masks in enumerate(sweep.dropped) if masks is not None),
            kept={g: len(masks[0]) > 1 for g, masks in enumerate(sweep.kept) if masks},
        )

    def _told(self, fields: _Fields, g: int) -> None:
        """Add the arguments that a group has both ways."""
        sweep, group, tables = self.sweep, self.plan.groups[g], self.sweep.tables
        for name, key in ((f"read{g}", f"{g}.read"), (f"own{g}", f"{g}.own"), (f"masked{g}", f"{g}.masked"),
                          (f"kept{g}", f"{g}.kept")):  # fmt: skip
            for end in ("", ".far"):
                if key + end in tables:
                    fields.take(name + end.replace(".", "_"), tables[key + end])
        if sweep.dropped[g] is not None:
            fields.take(f"dropped{g}", sweep.dropped[g])
        for k, masks in enumerate(sweep.kept[g]):
            fields.take(f"keep{g}_{k}", masks)
        for number in range(len(self.plan.phases)):
            if f"{g}.chosen.{number}" in tables:
                fields.take(f"chosen{g}_{number}", tables[f"{g}.chosen.{number}"])
        for letter, array in zip("WbP", sweep.weights[g], strict=True):
            if array is not None and group.gates:
                fields.take(f"{letter}{g}", array)

    def _readers(self, fields: _Fields, g: int) -> None:
        """Add the lists of a group's readers."""
        group, tables = self.plan.groups[g], self.sweep.tables
        lists = [(f"readers{g}_{r}_{c}", f"readers.{r}.{c}", most) for r, c, most in group.readers]
        lists += [(f"carried{g}", "readers.own", group.carried)]
        lists += [(f"tapped{g}_{n}", f"readers.tap.{n}", most) for n, most in group.tapped]
        for name, key, most in lists:
            if most:
                fields.take(name, tables[f"{g}.{key}"])

    def forward(self) -> list[Array] | None:
        """Give every group's storage, ``[rows × vectors, hidden]``; None where a kernel has no room."""
        sweep, plan, fields = self.sweep, self.plan, _Fields()
        begin: list[str] = []
        for g, group in enumerate(plan.groups):
            entries = sweep.entering(group)
            count = 0
            if entries is not None:
                fields.take(f"entries{g}", entries)
                count = entries.size
                begin.append(f"lay(args.S{g}, args.entries{g}, {count});")
            begin.append(f"clear(args.S{g} + {count}, {group.base * group.vectors * group.hidden - count});")
            self._told(fields, g)
            for j, made in enumerate(sweep.ahead[g]):
                fields.take(f"ahead{g}_{j}", made)
            for j in range(len(group.joined)):
                fields.take(f"join{g}_{j}", sweep.tables[f"{g}.joined.{j}"])
                if not sweep.ahead[g]:
                    fields.take(f"joined{g}_{j}", sweep.joined[g][j])
        for g, group in enumerate(plan.groups):
            fields.give(f"S{g}", ((group.base + group.rows) * group.vectors, group.hidden))
        return self._run("forward", fields, begin, {})

    def back(
        self, storage: Sequence[Array], given: Sequence[Array]
    ) -> tuple[list[Array], list[list[Array]], dict[int, Array], dict[int, Array]] | None:  # fmt: skip
        """Give the storage with gradients in it, what is handed to readers by group and channel, and by group of every row the
        gradients of what joined, where weights are chosen, and those of peepholes; None where a kernel has no room."""
        plan, fields = self.plan, _Fields()
        begin: list[str] = []
        for g in range(len(plan.groups)):
            fields.take(f"before{g}", storage[g])
        for g in range(len(plan.groups)):
            self._told(fields, g)
            self._readers(fields, g)
        for n, gradient in enumerate(given):
            fields.take(f"given{n}", gradient)
        for g, group in enumerate(plan.groups):
            fields.give(f"S{g}", ((group.base + group.rows) * group.vectors, group.hidden))
        for g, group in enumerate(plan.groups):
            for c, channel in enumerate(group.channels):
                width, count = group.widths[channel[0]], len(channel)
                fields.give(f"handed{g}_{c}", ((group.rows + 1) * count, width))
                begin.append(f"clear(args.handed{g}_{c} + {group.rows * count * width}LL, {count * width});")
        joined = [g for g, group in enumerate(plan.groups) if group.chosen and group.joined]
        for g in joined:
            fields.give(f"joined{g}", (plan.groups[g].rows, sum(plan.groups[g].joined)))
        holes = {g: p for g, (_, _, p) in enumerate(self.sweep.weights) if p is not None}
        for g, p in holes.items():
            fields.give(f"dp{g}", (plan.groups[g].rows, p.shape[-1]))
        aliases = {g: g for g in range(len(plan.groups))}
        made = self._run("back", fields, begin, aliases)
        if made is None:
            return None
        groups = len(plan.groups)
        feed = iter(made[groups:])
        handed = [[next(feed) for _ in group.channels] for group in plan.groups]
        return made[:groups], handed, {g: next(feed) for g in joined}, {g: next(feed) for g in holes}

    def _run(self, name: str, fields: _Fields, begin: Sequence[str], aliases: dict[int, int]) -> list[Array] | None:
        kernel = Writer(self.plan, self.kernels.launcher.card, self._statements()).kernel(name == "back", fields.all, begin)
        if kernel is None:
            return None
        results = [jax.ShapeDtypeStruct(shape, np.dtype("float32")) for _, _, shape in fields.given]
        return self.kernels.call(kernel, name, [jnp.asarray(a) for _, _, a in fields.taken], results, aliases)


def of(sweep: Any) -> Persistent | None:
    """Give the kernels of a sweep, where there is a card for them, they cover its plan, and it is one of float32."""
    single = np.dtype("float32")
    if sweep.dtype != single or sweep.products != single or not covered(sweep.plan):
        return None
    kernels = compiler.kernels()
    return None if kernels is None else Persistent(sweep, kernels)
