"""What a row of the table is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gridc
from gridc.arrays.dataset import Dataset
from gridc.data.fitting import for_spec
from gridc.training import metrics

HERE = Path(__file__).parent
SPECS = HERE.parent.parent / "specs"
TEST_SEED = 1_000_003
"""Test sets of tasks are drawn from this seed, the same one for every run."""


@dataclass(frozen=True)
class Published:
    """Somebody else's figure."""

    what: str
    value: float
    source: str


@dataclass(frozen=True)
class Row:
    """One row: a spec, the changes to its training block, its seeds, and where its test set comes from.

    Without ``test`` the figure is that of the strings held out, which also end the training: it says that they were learned."""

    name: str
    spec: Path
    shows: str
    seeds: int
    minutes: float
    """About how long one seed takes on one core."""
    changes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    page: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Other values of the spec's keys, by their paths."""
    tried: Callable[[Path], Sequence[Mapping[str, Any]]] | None = None
    """Other values, of which each seed takes those that come to most on examples held out of what is trained on."""
    data: Callable[[Path], Mapping[str, Any]] | None = None
    """Writes its data under a folder and gives the changes that name them."""
    test: Callable[[Path], Dataset] | None = None
    """Makes the test set; what of it was trained on does not count."""
    also: Mapping[str, Callable[[Path], Dataset]] = field(default_factory=dict[str, Callable[[Path], Dataset]])
    """Other test sets, by what they ask."""
    whole: bool = False
    """Whether an answer is right only where every one of its symbols is."""
    solved: bool = False
    """Whether what counts is from how many seeds every answer is right."""
    bits: bool = False
    """Whether what counts is the bits of a symbol, of which fewer are better, and not how many answers are right."""
    published: tuple[Published, ...] = ()
    apart: bool = False
    """Whether it runs only where it is asked for by its name: the whole table takes two hours without it."""
    beside: Callable[[Path], Mapping[str, float]] | None = None
    """Computes what other models come to on the same test set, from the same data."""

    def score(self, grid: gridc.Grid, test: Dataset) -> float:
        """The share of answers that are right, or the bits of a symbol."""
        ((name, output),) = grid.spec.outputs.items()
        test = for_spec(test, grid.spec)  # a task names a single output as it likes
        if not self.whole:
            figures = metrics.evaluate(grid, test)[name]
            return figures["loss"] / math.log(2) if self.bits else figures["accuracy"]
        found, wanted = grid.predict(test.inputs, test.lengths)[name], test.targets[name]
        found = found > 0.5 if output.kind == "binary" else found.argmax(axis=-1)
        # Behind the end of an answer 0 is what is padded with, and what is predicted.
        return float(((found == wanted) | (wanted == output.ignore)).reshape(len(wanted), -1).all(axis=1).mean())
