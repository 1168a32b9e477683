"""A worker of a sweep: takes trials until there are none, and trains each as ``gridc train`` would."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from statistics import fmean

import numpy as np

from gridc import experiment
from gridc.errors import DataError, NumbersError, TooLarge, UsageError
from gridc.search import space
from gridc.search.results import read_results
from gridc.search.study import Held, Search, optuna
from gridc.training.history import Record

Say = Callable[[str], None]


class Curve:
    """Reports the held-out curve of a trial's first seed, and ends the training where it is not worth going on: a callback."""

    def __init__(self, search: Search, held: Held):
        self._trial, self._measure = held.trial, search.monitor
        self._told = set(search.trials()[held.number].intermediate_values)
        self.why = ""

    def __call__(self, record: Record) -> bool:
        """Report an evaluation; True ends the training."""
        if record.step not in self._told:  # which a worker that died after its checkpoint may have told
            try:
                self._trial.report(measured(record, self._measure), record.step)
            except optuna.exceptions.UpdateFinishedTrialError:
                self.why = "Somebody else finished it."
                return True
        if self._trial.should_prune():
            self.why = f"Worse than the median of the others at step {record.step:,}."
        return bool(self.why)


def measured(record: Record, measure: str) -> float:
    """Give the figure that a sweep makes best."""
    return record.accuracy() if measure == "accuracy" else record.shown_loss


def work(folder: str | os.PathLike[str], say: Say) -> None:
    """Train the sweep's trials, one after another, until none is left.

    Raises DataError where this machine does not see the data, and what compiling and training raise where it is no fault of a
    trial's own values; a trial that was running then is taken up again by another worker, or by a later one."""
    search = Search(folder)
    space.check_files(search.spec)
    while (held := search.take()) is not None:
        with held.lock, np.errstate(over="ignore", invalid="ignore"):  # the loop itself says where a number became infinite
            _train(search, held)
        say(_told(search, held))


def _train(search: Search, held: Held) -> None:
    finished = held.finished
    for place, seed in enumerate(search.seeds):
        if str(seed) in finished:
            continue
        curve = Curve(search, held) if place == 0 else None
        try:
            # Alone, also where a cluster's launcher started many workers at once, as an mpiexec starts the ranks of one training.
            done = experiment.run(space.page(search.spec, held.chosen, seed), folder=held.folder / f"seed-{seed}", resume=True,
                                  callbacks=[curve] if curve else [], progress="none", ranks="alone")  # fmt: skip
        except NumbersError as error:
            return search.prune(held.number, str(error))  # as a bad one, not as none: what is like it is then not tried
        except (UsageError, DataError, TooLarge) as error:  # values that do not go together; the files are there
            return search.give_up(held.number, str(error))
        except MemoryError:
            return search.give_up(held.number, "There was not enough memory for it.")
        if curve and curve.why:
            return search.prune(held.number, curve.why)
        kept = done.history.kept
        if kept is None:
            return search.give_up(held.number, "The training made no evaluation.")
        finished[str(seed)] = measured(kept, search.monitor)
        held.trial.set_user_attr("seeds", finished)
    value = fmean(finished[str(seed)] for seed in search.seeds)
    if math.isfinite(value):
        return search.finish(held.number, value)
    return search.prune(held.number, f"Its {search.monitor} is {value:g}.")


def _told(search: Search, held: Held) -> str:
    results = read_results(search)
    one = results.trials[held.number]
    values = ", ".join(f"{word} {space.said(value)}" for word, value in one.values.items())
    came = f"{search.monitor} {one.value:.4g}" if one.value is not None and one.state == "finished" else f"{one.state}: {one.why}"
    best = results.best
    so_far = "" if best is None or best.value is None else f"; the best so far is trial {best.number}, {best.value:.4g}"
    return f"trial {one.number} of {search.total}: {values}: {came}{so_far}"
