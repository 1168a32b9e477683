"""The page of YAML as it is written: which keys there are and what shape their values have.

These models hold the grammar alone, and with ``document`` give the JSON Schema; what the keys mean together is worked out by
``reader``.
A field's ``title`` says in a few words what is expected; error messages quote it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from gridc.options import LARGEST, LARGEST_WEIGHT, Option, field
from gridc.tables.cells import CELLS, OPTIONS
from gridc.tables.choices import Choice, choice, either
from gridc.tables.definitions import GATES
from gridc.tables.losses import LOSSES

AMOUNT = r"^\d+(\.\d+)? ?(kB|MB|GB|TB)$"
"""How much memory: a number and a unit, of thousands."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$", title="a name (letters, digits, _ and -)")]
Size = Annotated[int, Field(ge=1, le=LARGEST, title="a positive integer")]
Integer = Annotated[int, Field(ge=-LARGEST, le=LARGEST, title="an integer")]


class Page(BaseModel):
    """Keys that are not declared are refused; numbers are not made from strings."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Alternating(Page):
    """A direction that changes with the index on another dimension."""

    over: Name = Field(title="a dimension", description="The dimension whose index chooses the direction.")
    cycle: list[Literal["forward", "backward"]] = Field(
        min_length=1, title="a list of forward and backward", description="The directions, in turn."
    )


Way = Literal["forward", "backward"] | Alternating


class Normal(Page):
    """Weights drawn from a normal distribution about 0."""

    normal: float = Field(gt=0, le=LARGEST_WEIGHT, title="a positive number", description="Standard deviation.")


class Uniform(Page):
    """Weights drawn evenly from an interval about 0."""

    uniform: float = Field(gt=0, le=LARGEST_WEIGHT, title="a positive number", description="Half the width.")


class Signs(Page):
    """Weights of one size and either sign, each as likely: Rademacher's distribution."""

    signs: float = Field(gt=0, le=LARGEST_WEIGHT, title="a positive number", description="The size.")


class Diagonal(Page):
    """Weights from every unit to itself, of one size and either sign; 0 between units."""

    diagonal: float = Field(gt=0, le=LARGEST_WEIGHT, title="a positive number", description="The size.")


Drawn = Normal | Uniform | Signs | Diagonal
INITS = "glorot, orthogonal, {normal: 0.1}, {uniform: 0.08}, {signs: 0.3} or {diagonal: 2.0}"
Init = Annotated[Literal["glorot", "orthogonal"] | Drawn, Field(title=INITS, description="How the weights start.")]


def initialiser(page: str | Drawn) -> tuple[str, float]:
    """Give an initialiser's name and number: the deviation, half width or size; 0 where the name says all."""
    if isinstance(page, str):
        return page, 0.0
    ((kind, number),) = page.model_dump().items()
    return kind, number


class ReadAt(Page):
    """A hidden vector of another cell."""

    of: Name = Field(title="the name of a transform")
    offset: dict[Name, Integer] = Field(
        title="a mapping of dimension to integer", description="Where the vector is read, relative to this cell."
    )


class Wrap(Page):
    """A start that takes what left the grid at the far end."""

    wrap: dict[Name, Integer] = Field(
        title="a mapping of dimension to integer", min_length=1,
        description="The state that left the far end, at this offset on other dimensions.",
    )  # fmt: skip


class _Recurrence(Page):
    """What every transform has, whatever its cell."""

    cell: str = Field(
        title="one of " + ", ".join(CELLS), description="The mechanism: one of these, or one of the page's own.",
        json_schema_extra={"anyOf": [{"enum": list(CELLS)}, {"pattern": "^[A-Za-z_][A-Za-z0-9_-]*$"}]},
    )  # fmt: skip
    hidden: Size | None = Field(None, title="a positive integer", description="Units.")
    along: Name | list[Name] | None = Field(
        None, title="a dimension or a list of dimensions", description="The dimensions that it travels along."
    )
    direction: Way | dict[Name, Way] = Field(
        "forward", title="forward, backward, {over: DIMENSION, cycle: [...]} or a mapping of dimension to one of these",
        description="Which way it travels.",
    )  # fmt: skip
    tied: Literal["all", "none"] | list[Name] = Field(
        "all", title="all, none or a list of dimensions", description="The dimensions along which weights are shared."
    )
    shares: Name | None = Field(
        None, title="the name of a transform", description="The transform whose weights it uses."
    )
    reads: list[Name | ReadAt] | None = Field(
        None, title="a list of transforms or {of: TRANSFORM, offset: {DIMENSION: INTEGER}}",
        description="Which hidden vectors it sees.",
    )  # fmt: skip
    start: Literal["zeros", "learned"] | Wrap = Field(
        "zeros", title="zeros, learned or {wrap: {DIMENSION: INTEGER}}",
        description="The state that enters the grid at its first cell.",
    )  # fmt: skip
    bias: bool = Field(True, title="true or false", description="Whether it has a bias.")
    forget_bias: float = Field(
        1.0, ge=-LARGEST_WEIGHT, le=LARGEST_WEIGHT, title="a number", description="Added to the forget gates' bias at the start."
    )
    init: Init = "glorot"


def _option(option: Option) -> tuple[Any, Any]:
    title = {0: "true or false" if option.kind == "bool" else None, 2: " or ".join(option.choices)}
    several = "one of " + ", ".join(option.choices)
    return field(option, title.get(len(option.choices), several), {"input": Name})


if TYPE_CHECKING:
    _WithOptions = _Recurrence
else:  # the rows of the table are the fields
    _WithOptions = create_model("_WithOptions", __base__=_Recurrence, **{option.name: _option(option) for option in OPTIONS})


class TransformPage(_WithOptions):
    """One transform of the grid."""

    dropout: float = Field(
        0.0, ge=0, lt=1, title="a number from 0 to below 1",
        description="The share of its hidden units hidden from other transforms while training, one mask a sequence.",
    )  # fmt: skip
    zoneout: float = Field(
        0.0, ge=0, lt=1, title="a number from 0 to below 1",
        description="The chance that a unit keeps its old value while training; in prediction, its expectation.",
    )  # fmt: skip


Select = Literal["first", "last", "all"] | Integer | list[Integer]
At = Annotated[
    dict[Name, Select],
    Field(title="a mapping of dimension to first, last, all, an index or a list of indices"),
]


class InputPage(Page):
    """One array that is given at the call."""

    features: Size | None = Field(None, title="a positive integer", description="A real vector of this size.")
    vocabulary: Size | None = Field(None, title="a positive integer", description="Integer ids below this number.")
    embed: Size | None = Field(None, title="a positive integer", description="The size of the embedding of an id.")
    enters: Name | None = Field(
        None, title="the name of a transform", description="The transform whose state it is projected into, where that enters."
    )
    into: list[Literal["hidden", "memory"]] | None = Field(
        None, min_length=1, title="a list of hidden and memory", description="Which vectors it is projected into."
    )
    joins: list[Name] | None = Field(
        None, min_length=1, title="a list of transforms", description="The transforms to whose reads it is appended."
    )
    at: At = Field(default_factory=dict, description="The cells that it reaches.")
    over: list[Name] | None = Field(
        None, title="a list of dimensions", description="The dimensions that the array has an axis for."
    )
    facts: bool = Field(False, title="true or false", description="A set of vectors that memory cells attend to.")
    init: Init = "glorot"


if TYPE_CHECKING:
    Minimised = Choice
else:
    Minimised = choice("Loss", LOSSES, lambda row: row.equation)


def _nan(value: Any) -> Any:
    """YAML's own ``.nan`` is as good as the word."""
    return "nan" if isinstance(value, float) and math.isnan(value) else value


class OutputPage(Page):
    """One array that the grid gives back."""

    reads: list[str] = Field(
        min_length=1, title="a list of TRANSFORM or TRANSFORM.memory", description="Vectors that it sees, one after the other."
    )
    at: At = Field(default_factory=dict, description="The cells that are read.")
    classes: int | None = Field(None, ge=2, le=LARGEST, title="an integer of at least 2", description="Softmax over classes.")
    binary: Literal[True] | None = Field(None, title="true", description="One probability.")
    features: Size | None = Field(None, title="a positive integer", description="A linear read-out.")
    raw: Literal[True] | None = Field(None, title="true", description="The vectors themselves.")
    loss: Minimised | None = Field(None, title=either(LOSSES), description="What is minimised (default: by kind).")
    ignore: Annotated[Integer | Literal["nan"] | None, BeforeValidator(_nan)] = Field(
        None, title="an integer, or nan for real numbers",
        description="The target of positions that count neither in the loss nor in the score: a number, or nan.",
    )  # fmt: skip
    init: Init = "glorot"


Formula = Annotated[str | float, Field(title="a formula")]


class CellPage(Page):
    """A cell of the page's own: gates, and formulas of them."""

    gates: dict[str, str] = Field(
        title="a mapping of gate to " + ", ".join(GATES[:-1]) + f" or {GATES[-1]}",
        description="What becomes of each gate's pre-activation zW + b, in the order of the weight's last axis.",
    )
    hidden: Formula = Field(title="a formula", description="The new hidden vector.")
    memory: Formula | None = Field(None, title="a formula", description="The new memory, where the cell keeps one.")
    each: list[str] = Field(
        default_factory=list[str], title="a list of gates and vectors", description="Of which there is one for each dimension."
    )
    vectors: dict[str, float] = Field(
        default_factory=dict[str, float], title="a mapping of name to number",
        description="Learned vectors, one number a unit, and what they start at.",
    )  # fmt: skip
    constants: dict[str, float] = Field(
        default_factory=dict[str, float], title="a mapping of name to number", description="Numbers by name."
    )
    let: dict[str, Formula] = Field(
        default_factory=dict[str, Any], title="a mapping of name to formula", description="Names for parts of the formulas."
    )
    peepholes: dict[str, Formula] = Field(
        default_factory=dict[str, Any], title="a mapping of gate to formula",
        description="What gates see through a learned vector each, where a transform has 'peepholes: true'.",
    )  # fmt: skip
    sees: dict[str, Literal["own", "others"]] = Field(
        default_factory=dict[str, Any], title="a mapping of gate to own or others",
        description="Gates whose products take the own entering vector alone, or all else.",
    )  # fmt: skip
    bias: dict[str, float] = Field(
        default_factory=dict[str, float], title="a mapping of gate to number", description="Biases that do not start at 0."
    )
    forget: list[str] = Field(
        default_factory=list[str], title="a list of gates", description="Gates whose bias starts at the transform's forget_bias."
    )
    init: Init | None = Field(
        None, title=INITS, description="How weights start where a transform does not say so."
    )
    source: str | None = Field(None, title="a text", description="The paper and section.")


class CellsPage(Page):
    """Cells alone, as a file of them or a call in Python has them."""

    cells: dict[Name, CellPage] = Field(title="a mapping of name to cell")


class SchedulePage(Page):
    """What is asked of the plan: it changes when steps run and what is kept, never what is computed."""

    order: Literal["auto", "cells", "steps", "levels"] = Field(
        "auto", title="auto, cells, steps or levels",
        description="Wavefronts of cells, wavefronts of steps, or level by level along a dimension.",
    )  # fmt: skip
    hoist: Literal["auto", "none"] | list[Name] = Field(
        "auto", title="auto, none or a list of transforms",
        description="The transforms whose products are made ahead of their recurrence.",
    )  # fmt: skip
    tile: dict[Name, Size] = Field(
        default_factory=dict, title="a mapping of dimension to a positive integer",
        description="Cells of a block along these dimensions; one block runs to its end before the next.",
    )  # fmt: skip
    threads: Literal["auto", "examples", "wavefront"] = Field(
        "auto", title="auto, examples or wavefront",
        description="What threads share: the examples of a mini-batch, or the steps of every turn.",
    )  # fmt: skip
    keep: Literal["all", "little"] | Annotated[str, Field(pattern=AMOUNT)] = Field(
        "all", title="all, little or an amount of memory such as 200 MB",
        description="What a training step keeps: every step, little, or as much as fits in so many bytes.",
    )  # fmt: skip


class GridPage(Page):
    """A page without its ``training:`` block: dimensions, transforms, priority, inputs and outputs."""

    name: str = Field(min_length=1, title="a name", description="What messages and files call it.")
    dimensions: dict[Name, Annotated[Size | Name, Field(title="a positive integer or a symbol")]] = Field(
        min_length=1, title="a mapping of name to a positive integer or a symbol", description="The axes of the grid."
    )
    transforms: dict[Name, TransformPage] = Field(
        min_length=1, title="a mapping of name to transform", description="What is computed at every cell."
    )
    cells: dict[Name, CellPage] | list[str] = Field(
        default_factory=dict[str, Any], title="a mapping of name to cell, or a list of files", description="Cells of one's own."
    )
    priority: list[Name | list[Name]] | None = Field(
        None, title="a list of transforms or of groups of them", description="The order of computation in a cell."
    )
    inputs: dict[Name, InputPage] = Field(
        default_factory=dict, title="a mapping of name to input", description="What goes in, and where."
    )
    outputs: dict[Name, OutputPage] = Field(
        default_factory=dict, title="a mapping of name to output", description="What comes out."
    )
    schedule: SchedulePage | None = Field(
        None, title="the schedule block", description="What is asked of the plan; never needed, always checked."
    )
