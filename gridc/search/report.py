"""The page of a sweep: the best spec, every trial, its curve, and how much each value that was tried mattered.

It is ``report.html`` with the results in it; it loads nothing, and its own policy forbids it to.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from gridc.files import write_atomically
from gridc.pictures.explorer import filled
from gridc.search import space
from gridc.search.results import Sweep, Trial, read_results, write_best
from gridc.search.study import Search, optuna
from gridc.tables.sweep_block import Range

PAGE = "report.html"
FEWEST = 4
"""Finished trials from which something can be said of what mattered."""


def write_report(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Write the page of the sweep in a folder, and its best spec; returns where they are, by what they are.

    Raises DataError where the folder is none of a sweep, ResourceError where Optuna is not installed."""
    search = Search(folder)
    results = read_results(search)
    best = write_best(results)
    path = search.folder / PAGE
    write_atomically(path, filled(Path(__file__).with_name(PAGE), results.name, data(search, results)))
    return {"report": path} if best is None else {"report": path, "best spec": best}


def data(search: Search, results: Sweep) -> dict[str, Any]:
    """Gather what the page knows."""
    mattered = importances(search, results)
    return {
        "name": results.name,
        "monitor": results.monitor,
        "maximize": search.maximize,
        "total": search.total,
        "seeds": list(search.seeds),
        "best": None if results.best is None else results.best.number,
        "page": None if results.spec is None else results.spec.source.page,
        "train": f"gridc train {search.folder / 'best.yaml'}",
        "axes": [{"word": axis.word, **_axis(axis), "mattered": mattered.get(axis.word)} for axis in search.axes],
        "trials": [_trial(search, one) for one in results.trials],
    }


def importances(search: Search, results: Sweep) -> dict[str, float]:
    """Give the share that each value that was tried has in what came of it, by PED-ANOVA (Watanabe et al. 2023), which compares
    the better trials with all; nothing where too few finished."""
    finished = [one for one in results.trials if one.state == "finished"]
    if len(finished) < FEWEST or len({one.value for one in finished}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is not sure yet in Optuna's own names
        found = optuna.importance.get_param_importances(search.study, evaluator=optuna.importance.PedAnovaImportanceEvaluator())
    return {word: float(share) for word, share in found.items()}


def _axis(axis: space.Axis) -> dict[str, Any]:
    if isinstance(axis.tried, Range):
        return {"low": axis.tried.low, "high": axis.tried.high, "log": axis.tried.log}
    return {"choices": [space.said(value) for value in axis.tried]}


def _trial(search: Search, one: Trial) -> dict[str, Any]:
    found = one.to_json()
    where = os.path.relpath(one.folder, search.folder)
    placed = {axis.word: one.values[axis.word] if isinstance(axis.tried, Range) else axis.tried.index(one.values[axis.word])
              for axis in search.axes if axis.word in one.values}  # fmt: skip
    return {**found, "folder": where, "values": {word: space.said(value) for word, value in one.values.items()}, "at": placed}
