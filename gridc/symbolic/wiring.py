"""What a sweep is wired to: the variables that reach it, whichever way it is then computed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from gridc.fusion.pipeline import Stage
from gridc.fusion.run import Role
from gridc.language.spec import GridSpec
from gridc.scheduling.padded import Plan
from gridc.symbolic.indices import Sizes

pt: Any = importlib.import_module("pytensor.tensor")  # its types are partly unknown
Variable = Any  # a pytensor TensorVariable
NO_SECOND_DERIVATIVE = (
    "the fused sweep has a gradient but no second derivative; compile or lower the spec with lowering='plain' for that"
)


@dataclass(frozen=True)
class Way:
    """How a graph is made."""

    lowering: str = "auto"
    """A row of ``gridc.symbolic.lowerings``, or ``auto``."""
    dtype: str = "float32"
    products: str = ""
    """``bfloat16`` where a sweep of float32 multiplies in that, else nothing."""
    scan: Any = None
    """The mode of a Scan's inner graph, None for that of the function around it."""
    static: Sizes | None = None
    """The sizes, where a backend needs them fixed."""
    device: Plan | None = None
    """What a fused sweep on a device is compiled for, whose sizes are ``static``."""
    threads: int | None = None
    """How many threads may share a fused sweep here; None for as many as there are cores."""
    stage: Stage | None = None
    """This rank's part of a fused sweep, where the grid is cut for several."""


class Extent(NamedTuple):
    """The sizes of a call: the batch and every dimension, ``[1 + dimensions]``, and ``lengths`` ``[batch, symbols]``."""

    extent: Variable
    lengths: Variable


@dataclass(frozen=True)
class Vectors:
    """The arrays that reach a sweep.

    ``weights[t]`` is (W, b, peepholes), each None where absent; ``entries[t, 'hidden' | 'memory']`` the vectors that enter,
    ``[batch × other dimensions, hidden]``, and one vector to be added to each of them, None for none; ``joined[input]`` its
    vectors ``[batch × over, width]``; ``facts[t]`` a memory cell's embedded facts; ``masks`` what training draws for dropout and
    zoneout (see ``gridc.language.noise``), none in prediction."""

    weights: Mapping[str, tuple[Variable, Variable, Variable]]
    parameters: Mapping[str, Variable]
    entries: Mapping[tuple[str, str], tuple[Variable, Variable | None]]
    joined: Mapping[str, Variable]
    facts: Mapping[str, Mapping[str, Variable]]
    masks: Mapping[str, Variable]


@dataclass(frozen=True)
class Wiring:
    """A grid, how it is to be lowered, the sizes of a call and its arrays; ``indices`` are the integer arrays made on the way."""

    spec: GridSpec
    way: Way
    call: Extent
    vectors: Vectors
    indices: tuple[Variable, ...] = ()

    def start(self, name: str, vector: str) -> Variable | None:
        """Give a learned start, or None where a transform starts at zero."""
        return self.vectors.parameters.get(f"{name}.start.{vector[0]}")

    def by_role(self) -> dict[Role, Variable]:
        """Every array that a fused sweep takes."""
        found: dict[Role, Variable] = {}
        for name in self.spec.transforms:
            found |= {(name, letter, ""): v for letter, v in zip("Wbp", self.vectors.weights[name], strict=True)}
            for vector in ("hidden", "memory"):
                found[name, "start", vector] = self.start(name, vector)
                entry, shift = self.vectors.entries.get((name, vector), (None, None))
                found |= {(name, "entry", vector): entry, (name, "shift", vector): shift}
        for name, facts in self.vectors.facts.items():
            found |= {(name, "facts", letter): hops_inside(v) if v.ndim == 4 else v for letter, v in facts.items()}
        found |= {(name, "joined", ""): variable for name, variable in self.vectors.joined.items()}
        for name, mask in self.vectors.masks.items():
            transform, role, *letter = name.split(".")
            vector = {"h": "hidden", "m": "memory"}[letter[0]] if letter else ""
            found[transform, role, vector] = mask
        return {role: variable for role, variable in found.items() if variable is not None}


def hops_inside(facts: Variable) -> Variable:
    """Give ``[hops + 1, batch, …]`` as ``[batch, hops + 1, …]``, or that as this."""
    return facts.dimshuffle(1, 0, 2, 3)


def take(table: Variable, index: Variable) -> Variable:
    """Take rows of a matrix, ``[*index's axes, columns]``.

    One row more is taken and dropped: PyTensor (3.0.7) refuses the gradient of a look-up by a single index, which it
    takes for broadcasting."""
    flat = index.flatten()
    found = table[pt.concatenate([flat, flat[:1]])][:-1]
    return found if index.ndim == 1 else found.reshape((*(index.shape[axis] for axis in range(index.ndim)), table.shape[1]))
