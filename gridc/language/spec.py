"""What a spec means: frozen, typed, printable, and valid by construction.

``reader.read`` makes these from a page of YAML, with every default filled in.  Dimensions are referred to by their index
in ``GridSpec.dimensions``; a tuple indexed by dimension has one entry for each of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

from gridc.arrays.axes import Ignored
from gridc.tables.mechanisms import Cell, Options

if TYPE_CHECKING:
    from gridc.tables.sweep_block import Sweep
    from gridc.tables.training_block import Training

Selection = Literal["all", "first", "last"] | tuple[int, ...]
"""Which indices of a dimension: by name, or the indices themselves."""


@dataclass(frozen=True)
class Dimension:
    """An axis of the grid; ``size`` is a number, or the symbol that is bound at the call."""

    name: str
    size: int | str


@dataclass(frozen=True)
class Direction:
    """Which way a transform travels along one of its dimensions: ``cycle[index on dimension over]``, +1 is forward."""

    cycle: tuple[int, ...] = (1,)
    over: int | None = None


@dataclass(frozen=True)
class Read:
    """One vector that a transform sees: that of ``of`` at ``p + offset``, or, where ``via`` is a dimension, the vector
    that enters the cell along it."""

    of: str
    offset: tuple[int, ...]
    via: int | None = None


@dataclass(frozen=True)
class Transform:
    """One recurrence of the grid: a cell, the dimensions that it travels ``along`` and its ``direction`` on each, the
    dimensions along which its weights are ``untied``, what it ``reads``, and how it starts."""

    name: str
    cell: str
    hidden: int
    along: tuple[int, ...]
    direction: tuple[Direction, ...]
    untied: tuple[int, ...]
    reads: tuple[Read, ...]
    shares: str | None = None
    start: Literal["zeros", "learned", "wrap"] = "zeros"
    wrap: tuple[int, ...] = ()
    bias: bool = True
    forget_bias: float = 1.0
    init: tuple[str, float] = ("glorot", 0.0)
    options: Options = field(default_factory=Options)
    attends: str | None = None
    embeddings: Literal["layerwise", "adjacent"] = "layerwise"
    dropout: float = 0.0
    zoneout: float = 0.0
    mechanism: Cell = field(kw_only=True, compare=False, repr=False)
    """What ``cell`` names."""

    @property
    def gates(self) -> tuple[str, ...]:
        """The names of its gates, in the order in which their columns lie in ``W`` and ``b``."""
        return self.mechanism.gates(len(self.along))

    @property
    def has_memory(self) -> bool:
        """Whether a memory vector goes with its hidden one."""
        return self.mechanism.memory

    @property
    def carries(self) -> bool:
        """Whether its own state enters each cell along its dimensions."""
        return self.mechanism.carries

    def peephole_names(self) -> tuple[str, ...]:
        """Name its peepholes, in the order in which they lie in ``p``; none where it has not chosen to have them."""
        rule = self.mechanism.peepholes
        return rule(len(self.along)) if self.options.peepholes and rule else ()

    @property
    def vectors(self) -> tuple[str, ...]:
        """Name the vectors of one number a unit that its cell looks at, each a parameter of its own."""
        return self.mechanism.vectors(len(self.along))


@dataclass(frozen=True)
class Input:
    """An array given at the call: ``[batch, *over, size]`` for features, ``[batch, *over]`` for ids below ``size``."""

    name: str
    kind: Literal["features", "vocabulary"]
    size: int
    embed: int | None = None
    enters: str | None = None
    into: tuple[Literal["hidden", "memory"], ...] = ()
    joins: tuple[str, ...] = ()
    at: tuple[Selection, ...] = ()
    over: tuple[int, ...] = ()
    facts: bool = False
    init: tuple[str, float] = ("glorot", 0.0)

    @property
    def width(self) -> int:
        """How many numbers stand for it where it joins or is projected."""
        return self.embed if self.embed is not None else self.size


class Tap(NamedTuple):
    """What an output reads: a transform's hidden vector or its memory."""

    transform: str
    memory: bool

    def __str__(self) -> str:
        return f"{self.transform}.memory" if self.memory else self.transform


@dataclass(frozen=True)
class Output:
    """What the grid gives back: ``[batch, *dimensions selected all, ...]``."""

    name: str
    reads: tuple[Tap, ...]
    at: tuple[Selection, ...]
    kind: Literal["classes", "binary", "features", "raw"]
    size: int
    loss: str
    init: tuple[str, float] = ("glorot", 0.0)
    loss_options: tuple[tuple[str, int | float | str], ...] = field(default=(), repr=False)
    """Those that are not as they are by default; ``digest`` has them beside what is here."""
    ignore: Ignored | None = field(default=None, repr=False)
    """The target of positions that do not count: an id, or ``nan`` for real numbers; ``digest`` has it, too."""

    @property
    def axes(self) -> tuple[int, ...]:
        """The dimensions that its array has an axis for."""
        return tuple(d for d, selection in enumerate(self.at) if selection == "all")


@dataclass(frozen=True)
class Directives:
    """What a page asks of its plan: when steps run and what is kept, never what is computed; ``auto`` leaves it to the costs."""

    order: Literal["auto", "cells", "steps", "levels"] = "auto"
    """Wavefronts of cells, wavefronts of steps, or level by level along a dimension."""
    hoist: tuple[str, ...] | None = None
    """The transforms whose products may be made ahead of their recurrence; None leaves it to the costs."""
    tile: tuple[tuple[int, int], ...] = ()
    """Of some dimensions, how many cells a block has along them: one block runs to its end before the next."""
    threads: Literal["auto", "examples", "wavefront"] = "auto"
    """What threads share: the examples of a mini-batch, or the steps of every turn."""
    keep: Literal["all", "little"] | int = "all"
    """What training keeps for the way back: every step, little, or as much as fits so many bytes."""

    @property
    def recompute(self) -> bool:
        """Whether training keeps less than all, and runs segments twice."""
        return self.keep != "all"


@dataclass(frozen=True)
class Source:
    """The user's own text, and where each thing stands in it: path of keys → (line, column, length), 1-based."""

    text: str = ""
    path: str = "<spec>"
    positions: Mapping[tuple[str | int, ...], tuple[int, int, int]] = field(
        default_factory=dict[tuple[str | int, ...], tuple[int, int, int]], repr=False
    )
    own: str = field(default="", repr=False)
    """The page with the cells that it has from elsewhere among its own; empty where there are none."""

    @property
    def page(self) -> str:
        """The page as a model keeps it: it means the same wherever it is read."""
        return self.own or self.text


@dataclass(frozen=True)
class GridSpec:
    """A grid, as its spec declares it.  Made by ``gridc.read``."""

    name: str
    dimensions: tuple[Dimension, ...]
    transforms: Mapping[str, Transform]
    priority: tuple[tuple[str, ...], ...]
    inputs: Mapping[str, Input]
    outputs: Mapping[str, Output]
    training: Training | None = field(default=None, compare=False, repr=False)
    schedule: Directives = field(default=Directives(), repr=False)
    """What is asked of the plan; ``digest`` knows nothing of it, since it changes no number."""
    source: Source = field(default_factory=Source, compare=False, repr=False)
    sweep: Sweep | None = field(default=None, compare=False, repr=False)

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that a call binds, in the order of declaration."""
        return tuple(dict.fromkeys(d.size for d in self.dimensions if isinstance(d.size, str)))

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The index of every transform, by its name."""
        return {name: i for i, name in enumerate(self.transforms)}

    @cached_property
    def digest(self) -> str:
        """A hash of what the spec means: equal for two texts that say the same grid."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def canonical(self) -> str:
        """Write the meaning as text, the same for two texts that say the same grid."""
        parts: list[object] = [self.dimensions, self.priority]
        own = {t.cell: t.mechanism.definition for t in self.transforms.values() if not t.mechanism.shipped}
        parts += [own] * bool(own)
        for mapping in (self.transforms, self.inputs, self.outputs):
            parts.append(tuple(mapping.values()))
        told = {name: o.loss_options for name, o in self.outputs.items() if o.loss_options}
        parts += [told] * bool(told)
        ignored = {name: o.ignore for name, o in self.outputs.items() if o.ignore is not None}
        parts += [{"ignore": ignored}] * bool(ignored)
        return repr(parts)

    def __hash__(self) -> int:
        return hash(self.digest)

    def axis(self, name: str) -> int:
        """Give the index of a dimension by its name."""
        return next(i for i, d in enumerate(self.dimensions) if d.name == name)

    def names(self, axes: Iterable[int]) -> tuple[str, ...]:
        """Name these dimensions, given by index."""
        return tuple(self.dimensions[a].name for a in axes)

    def sizes(self, binding: Mapping[str, int]) -> tuple[int, ...]:
        """Give every dimension's size, symbols looked up in the binding (KeyError where one is missing)."""
        return tuple(binding[d.size] if isinstance(d.size, str) else d.size for d in self.dimensions)

    def weight_owner(self, name: str) -> str:
        """Name the transform whose ``W`` and ``b`` this one uses."""
        return self.transforms[name].shares or name

    def relayed(self, transform: Transform) -> bool:
        """Tell whether readers can go straight to what a transform hands on, so that it takes no step of its own when it runs.

        Not where something is added to that on the way, or where it comes back to where it was; what dropout hides on the way,
        the reader hides (``Layout.masks``)."""
        first, seen = transform.name, set[str]()
        while transform.mechanism.relays and transform.start != "wrap" and transform.name not in seen:
            seen.add(transform.name)
            transform = self.transforms[transform.reads[0].of]
        return bool(seen) and transform.name != first

    def joined(self, name: str) -> tuple[Input, ...]:
        """List the inputs that join a transform, in the order of declaration."""
        return tuple(i for i in self.inputs.values() if name in i.joins)

    def entering(self, name: str) -> tuple[Input, ...]:
        """List the inputs that enter the grid along a transform."""
        return tuple(i for i in self.inputs.values() if i.enters == name)

    def rows(self, name: str) -> int:
        """Count how many numbers a transform sees: the rows of its weight matrix."""
        reads = sum(self.transforms[read.of].hidden for read in self.transforms[name].reads)
        return reads + sum(i.width for i in self.joined(name))

    def __str__(self) -> str:
        from gridc.language.printing import spec_table

        return spec_table(self)

    def _repr_html_(self) -> str:
        from gridc.pictures.drawing import notebook

        return notebook(self)
