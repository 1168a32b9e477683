"""The ``sweep:`` block of a spec: which of its keys are searched, over what, how, and for how many trials.

Its own keys stand beside those that are searched, which are keys of the page by their paths: ``transforms.depth.hidden``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import ConfigDict, Field

from gridc.options import Option
from gridc.tables.choices import Block, Choice, choice, either

Number = int | float


class Range(Block):
    """Numbers between two ends, both of them included; whole ones where both ends are."""

    low: Number = Field(title="a number", description="The lowest.")
    high: Number = Field(title="a number", description="The highest; with 'low' a whole number, only whole ones are tried.")
    log: bool = Field(default=False, title="true or false", description="Whether orders of magnitude count alike.")
    step: Number | None = Field(default=None, gt=0, title="a positive number", description="From one to the next that is tried.")


@dataclass(frozen=True)
class Row:
    """One way to choose what is tried next, or to end what is not worth going on with."""

    name: str
    help: str
    options: tuple[Option, ...] = ()


_SAMPLERS = (
    Row("tpe", "tree-structured Parzen estimators: what is likely to be better than what was tried (Bergstra et al. 2011)",
        (Option("startup", "int", 10, "trials at random before it begins", low=0),)),
    Row("random", "each trial by itself, evenly over every range"),
    Row("grid", "every combination once, in an order drawn by the seed; ranges need whole numbers or a step"),
)  # fmt: skip
SAMPLERS = {row.name: row for row in _SAMPLERS}
"""How the next trial is chosen."""
_PRUNERS = (
    Row("median", "end a trial whose best evaluation so far is worse than the median of the others' at the same step",
        (Option("startup", "int", 5, "finished trials before any is ended", low=0),
         Option("after", "int", 0, "steps of every trial that are left alone", low=0))),
    Row("none", "train every trial to its end"),
)  # fmt: skip
PRUNERS = {row.name: row for row in _PRUNERS}
"""What ends a trial early."""

if TYPE_CHECKING:
    Sampler: TypeAlias = Choice
    Pruner: TypeAlias = Choice
else:
    Sampler = choice("Sampler", SAMPLERS, lambda row: row.help)
    Pruner = choice("Pruner", PRUNERS, lambda row: row.help)

Tried = Annotated[
    Range | Annotated[list[Any], Field(min_length=1)],
    Field(title="a list of values, or a range such as {low: 1e-4, high: 1e-2, log: true}", description="What is tried."),
]
Seed = Annotated[int, Field(ge=0)]


class Sweep(Block):
    """What ``gridc sweep`` does with this spec; every other key is one of the page, by its path."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Tried] = Field(init=False)  # pyright: ignore  # where pydantic looks for the type of other keys
    others: ClassVar[Any] = Tried
    """The type of the keys that are not declared."""

    trials: int | None = Field(
        default=None, ge=1, title="a positive integer", description="Settings that are tried (default: 40; of a grid all)."
    )
    seeds: Annotated[int, Field(ge=1)] | Annotated[list[Seed], Field(min_length=1)] = Field(
        default=1, title="a positive integer, or a list of integers from 0",
        description="Trainings of each trial, whose mean counts: so many seeds from the training's on, or these.",
    )  # fmt: skip
    sampler: Sampler = Field(
        default="tpe",  # type: ignore[assignment]  # validated into a Choice
        validate_default=True, title=either(SAMPLERS), description="How the next trial is chosen.",
    )  # fmt: skip
    pruner: Pruner = Field(
        default="median",  # type: ignore[assignment]  # validated into a Choice
        validate_default=True, title=either(PRUNERS), description="What ends a trial early, by the curve of its first seed.",
    )  # fmt: skip
    monitor: Literal["loss", "accuracy"] | None = Field(
        default=None, title="loss or accuracy", description="What is made best (default: what tells the training's best weights)."
    )
    seed: int = Field(default=0, ge=0, title="an integer from 0", description="Of what the sampler draws.")

    @property
    def space(self) -> dict[str, Range | list[Any]]:
        """What is searched: the values of every key of the page, by its path."""
        return self.model_extra or {}
