"""``gridc.sweep``: a sweep from its page to its results, by workers that are processes of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from gridc import experiment
from gridc.errors import ResourceError, UsageError
from gridc.language.rewriting import rewritten
from gridc.language.spec import GridSpec
from gridc.options import integer
from gridc.resources import located
from gridc.scheduling.check import read
from gridc.search import space
from gridc.search.results import Sweep, read_results, write_best
from gridc.training.checkpoint import free_folder

THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
"""What tells the libraries of a process how many threads are theirs."""


def sweep(
    spec: GridSpec | str | os.PathLike[str],
    over: Mapping[str, Any] | None = None,
    *,
    trials: int | None = None,
    workers: int = 1,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Literal["lines", "none"] = "lines",
) -> Sweep:
    """Search for the values of a page that train best, as its ``sweep:`` block says; ``pip install "gridc[sweep]"``.

    Every trial is a training in a folder of its own, with checkpoints: whatever is killed, ``resume`` goes on from there.

    Args:
        spec: What is searched: a ``GridSpec``, the path of a page of YAML, or its text.
        over: The sweep block, in the page's words, in place of the page's own.
        trials: How many values are tried in all (default: those of the block, else 40; of a grid every combination).
        workers: Processes that train at once, which share the cores; 1 trains in this one.
        folder: Where everything goes (default: ``runs/NAME-sweep``).
        resume: Whether to go on with the sweep that the folder holds, by its own page.
        progress: ``lines``, one on stderr for every trial that ends, or ``none``.

    Returns:
        The trials, and the best of them.

    Raises:
        SpecError: The page means nothing, or cannot take a value that is to be tried.
        UsageError: The folder holds a sweep already, or there is nothing to search.
        DataError: What the page trains on is not there.
        ResourceError: Optuna is not installed, or the workers ended before the trials did.
    """
    workers = integer("workers", workers)
    if resume:
        if folder is None:
            raise UsageError("'resume' goes on with the sweep in a folder; give the folder.")
        there = located(folder)
    else:
        there = begin(spec, over, folder)
    return train(there, trials=trials, workers=workers, quiet=progress == "none")


def begin(
    spec: GridSpec | str | os.PathLike[str], over: Mapping[str, Any] | None, folder: str | os.PathLike[str] | None
) -> Path:
    """Check the page, and all pages that will be tried, and make the sweep's folder."""
    from gridc.search import study

    spec = spec if isinstance(spec, GridSpec) else read(spec)
    if over is not None:
        spec = experiment.with_text(spec, rewritten(spec.source.page, {("sweep",): dict(over)}, None))
    space.block_of(spec)
    there = located(folder) if folder is not None else free_folder(f"{spec.name}-sweep", used=_used)
    if _used(there):
        raise UsageError(f"{there} already holds a sweep; go on with it (--resume), or give another folder (--folder).")
    space.check(spec)
    space.check_files(spec)
    study.begin(there, spec)
    return there


def _used(path: Path) -> bool:
    from gridc.search import study

    return (path / study.SPEC).exists()


def train(folder: Path, *, trials: int | None = None, workers: int = 1, quiet: bool = False) -> Sweep:
    """Train what is left of the sweep in a folder; beside other workers, here or on other machines, where there are some.

    Raises ResourceError where the workers ended before the trials did."""
    from gridc.search.study import Search
    from gridc.search.worker import work

    search = Search(folder)
    if trials is not None:
        search.ask_for(integer("trials", trials))
    if workers == 1:
        work(folder, _silent if quiet else _say)
    else:
        _together(folder, workers, quiet)
    results = read_results(search)
    ended = sum(one.state != "running" for one in results.trials)
    if ended < search.total:
        raise ResourceError(f"The workers ended before the sweep did: {ended} of {search.total} trials are done. What the others "
                            f"saved is kept: gridc sweep --resume {folder} goes on.")  # fmt: skip
    write_best(results)
    return results


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _together(folder: Path, workers: int, quiet: bool) -> None:
    """Wait for workers that are processes; after a first Ctrl-C, which they get, too, until they have saved what they train."""
    share = {name: str(max(1, cores() // workers)) for name in THREADS}
    told = subprocess.DEVNULL if quiet else None
    words = [sys.executable, "-m", "gridc", "sweep", "--join", str(folder)]
    there = [subprocess.Popen(words, env={**share, **os.environ}, stdout=subprocess.DEVNULL, stderr=told) for _ in range(workers)]
    try:
        for one in there:
            one.wait()
    except KeyboardInterrupt:
        try:
            for one in there:
                one.wait()
        finally:
            for one in there:
                one.terminate()
        raise


def _say(line: str) -> None:
    print(f"gridc: {line}", file=sys.stderr, flush=True)


def _silent(line: str) -> None:
    """Say nothing."""
