"""What came of a sweep: its trials, and the best of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import stdev
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from gridc.language.spec import GridSpec
from gridc.plain_text import table
from gridc.search import space

if TYPE_CHECKING:
    from gridc.search.study import Search

State = Literal["finished", "pruned", "failed", "running"]
BEST = "best.yaml"


@dataclass(frozen=True)
class Trial:
    """One trial of a sweep.

    Attributes:
        number: Its number, from 0.
        state: ``finished``, ``pruned`` (ended early), ``failed`` or ``running``.
        values: What was tried, by the words of the sweep block.
        value: What it came to, the mean over the seeds; None where it did not finish.
        seeds: What each seed came to.
        curve: The evaluations of its first seed: the step, and what is made best.
        seconds: From its beginning to its end; None while it runs.
        why: Why it did not finish, where it did not.
        folder: Where it is: ``trial.yaml``, and a folder of a training for each seed.
    """

    number: int
    state: State
    values: Mapping[str, Any]
    value: float | None
    seeds: Mapping[int, float]
    curve: tuple[tuple[int, float], ...]
    seconds: float | None
    why: str
    folder: Path

    @property
    def spread(self) -> float | None:
        """The standard deviation over the seeds; None where there are not several."""
        return stdev(self.seeds.values()) if len(self.seeds) > 1 else None

    def to_json(self) -> dict[str, Any]:
        """Make a plain mapping."""
        return {"number": self.number, "state": self.state, "values": dict(self.values), "value": self.value,
                "spread": self.spread, "seeds": {str(seed): value for seed, value in self.seeds.items()},
                "curve": [list(point) for point in self.curve], "seconds": self.seconds, "why": self.why,
                "folder": str(self.folder)}  # fmt: skip


@dataclass(frozen=True)
class Sweep:
    """A sweep, as ``gridc.sweep`` returns it.

    Attributes:
        name: The grid's.
        monitor: What was made best: ``accuracy``, the higher the better, or ``loss``.
        trials: All of them, in the order of their numbers.
        best: The best that finished; None where none did.
        spec: The page of the best, ready to train; None where there is none.
        folder: Where everything is.
    """

    name: str
    monitor: Literal["loss", "accuracy"]
    trials: tuple[Trial, ...]
    best: Trial | None
    spec: GridSpec | None
    folder: Path

    @property
    def value(self) -> float | None:
        """What the best trial came to."""
        return None if self.best is None else self.best.value

    def ranked(self) -> list[Trial]:
        """List the trials from the best on, then those that did not finish."""
        sign = -1.0 if self.monitor == "accuracy" else 1.0
        return sorted(self.trials, key=lambda one: (one.state != "finished", sign * (one.value or 0.0), one.number))

    def to_json(self) -> dict[str, Any]:
        """Make a plain mapping with every trial."""
        return {"name": self.name, "monitor": self.monitor, "folder": str(self.folder), "value": self.value,
                "best": None if self.best is None else self.best.to_json(),
                "trials": [one.to_json() for one in self.trials]}  # fmt: skip

    def __str__(self) -> str:
        several = any(one.spread is not None for one in self.trials)
        words = list(self.trials[0].values) if self.trials else []
        rows = [[f"{one.number}", one.state, *(space.said(one.values.get(word)) for word in words), _said(one.value),
                 *([_said(one.spread)] * several)] for one in self.ranked()]  # fmt: skip
        counts = {state: sum(one.state == state for one in self.trials) for state in ("finished", "pruned", "failed", "running")}
        head = f"{self.name}: {len(self.trials)} trials, " + ", ".join(f"{n} {state}" for state, n in counts.items() if n)
        return f"{head}\n\n" + table(("trial", "state", *words, self.monitor, *["±"] * several), rows)


def _said(figure: float | None) -> str:
    return "–" if figure is None else f"{figure:.4g}"


def read_results(search: Search) -> Sweep:
    """Read what the journal of a sweep holds."""
    states: Mapping[str, State] = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
    trials: list[Trial] = []
    for one in search.trials():
        state: State = states.get(one.state.name, "running")
        seeds = {int(seed): float(value) for seed, value in one.user_attrs.get("seeds", {}).items()}
        trials.append(Trial(
            one.number, state, MappingProxyType(search.chosen(one.params)), one.value if state == "finished" else None,
            MappingProxyType(seeds), tuple(sorted(one.intermediate_values.items())),
            None if one.duration is None else one.duration.total_seconds(), one.user_attrs.get("why", ""),
            search.where(one.number),
        ))  # fmt: skip
    good = [one for one in trials if one.value is not None]
    best = (max if search.maximize else min)(good, key=lambda one: one.value or 0.0, default=None)
    spec = None if best is None else space.page(search.spec, best.values)
    return Sweep(search.spec.name, search.monitor, tuple(trials), best, spec, search.folder)


def write_best(results: Sweep) -> Path | None:
    """Write the best page into the sweep's folder, ready to train."""
    from gridc.files import write_atomically

    if results.spec is None:
        return None
    path = Path(os.fspath(results.folder)) / BEST
    write_atomically(path, results.spec.source.page)
    return path
