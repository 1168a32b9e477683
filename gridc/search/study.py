"""The folder of a sweep, shared by its workers: the page, Optuna's journal, a folder for every trial, and who holds which.

A worker that trains a trial holds an flock on a file in the trial's folder.  The system lets it go when the worker dies, however
it dies and at once, so that a trial which runs and whose lock is free is one that a dead worker left; a heartbeat would have to
guess how long a worker may be silent while a grid is compiled, and Optuna's journal keeps none.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from gridc.errors import DataError, ResourceError
from gridc.files import locked, write_atomically
from gridc.language.spec import GridSpec
from gridc.resources import located
from gridc.scheduling.check import read
from gridc.search import space
from gridc.tables.sweep_block import Range
from gridc.training.checkpoint import Folder

try:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
    from optuna.trial import FrozenTrial, TrialState
except ImportError as error:
    raise ResourceError("A sweep needs Optuna: pip install 'gridc[sweep]'.") from error

SPEC, JOURNAL, TRIALS, LOCK = "spec.yaml", "journal.log", "trials", "lock"
TRIALS_UNLESS_SAID = 40
PAUSE = 0.5
"""Seconds between two looks for what a dying worker leaves."""
LIVES = 5
"""Workers that may die of a trial, none of which came further than the one before, until it is given up."""


class Turn(JournalFileOpenLock):
    """One writer of the journal at a time.

    Optuna's open-file lock stays behind when its holder is killed, until somebody breaks it after ``grace_period`` seconds, and
    two that break it at once may both write.  So workers take an flock before it, which no dead process holds; the open-file
    lock remains for other programs.  A line that a killed writer left without its end is cut off before the next is written."""

    def __init__(self, path: str):
        super().__init__(path, grace_period=3)
        self._path = path
        self._turn: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Wait for our turn."""
        self._turn = open(f"{self._path}.turn", "ab")  # noqa: SIM115  # closed by release
        locked(self._turn, wait=True)
        taken = super().acquire()
        whole(Path(self._path))
        return taken

    def release(self) -> None:
        """Let the next one write."""
        try:
            super().release()
        finally:
            if self._turn is not None:
                self._turn.close()


def whole(path: Path) -> None:
    """Cut off what stands after the last end of a line."""
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        keep, block = end, 1 << 16
        while keep:
            start = max(0, keep - block)
            file.seek(start)
            found = file.read(keep - start).rfind(b"\n")
            keep = start + found + 1 if found >= 0 else start
            if found >= 0:
                break
        if keep < end:
            file.truncate(keep)


@dataclass(frozen=True)
class Held:
    """A trial that this worker holds, to train it from where it stands."""

    number: int
    chosen: space.Chosen
    folder: Path
    lock: IO[bytes]
    trial: optuna.trial.Trial

    @property
    def finished(self) -> dict[str, float]:
        """The seeds that have been trained, with what each came to."""
        return dict(self.trial.user_attrs.get("seeds", {}))


class Search:
    """A sweep's folder, open; several processes may have it open at once."""

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = located(folder)
        if not (self.folder / SPEC).is_file():
            raise DataError(f"{self.folder} is no folder of a sweep: there is no {SPEC} in it.")
        self.spec = read(self.folder / SPEC)
        self.axes, self.seeds, self.block = space.axes(self.spec), space.seeds(self.spec), space.block_of(self.spec)
        self.monitor: Literal["loss", "accuracy"] = space.monitor(self.spec)
        self.maximize = self.monitor == "accuracy"
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        path = str(self.folder / JOURNAL)
        storage = JournalStorage(JournalFileBackend(path, lock_obj=Turn(path)))
        with self._alone():
            self.study = optuna.create_study(
                storage=storage, study_name=self.spec.name, direction="maximize" if self.maximize else "minimize",
                sampler=optuna.samplers.RandomSampler(), pruner=_pruner(self.block.pruner.name, self.block.pruner.options),
                load_if_exists=True)  # fmt: skip
            begun = {word: str(tried) for word, tried in self.block.space.items()} | {"monitor": self.monitor}
            if self.study.user_attrs.get("begun", begun) != begun:
                raise DataError(f"{self.folder / SPEC} searches for something else than when the sweep began; give a new sweep a "
                                "folder of its own.")  # fmt: skip
            if not self.study.user_attrs:
                self.study.set_user_attr("begun", begun)
        self.distributions = {axis.word: _distribution(axis.tried) for axis in self.axes}

    @property
    def total(self) -> int:
        """How many trials there are to be."""
        asked: int = self.study.user_attrs.get("trials") or self.block.trials or 0
        if self.block.sampler.name != "grid":
            return asked or TRIALS_UNLESS_SAID
        every = 1
        for axis in self.axes:
            every *= axis.count or 1
        return min(asked or every, every)

    def ask_for(self, trials: int) -> None:
        """Have so many trials in all, whatever the page says."""
        if self.total != trials:
            self.study.set_user_attr("trials", trials)

    def trials(self) -> list[FrozenTrial]:
        """Give what the journal holds of every trial."""
        return self.study.get_trials(deepcopy=False)

    def where(self, number: int) -> Path:
        """Give the folder of a trial."""
        return self.folder / TRIALS / f"{number:04d}"

    @contextlib.contextmanager
    def _alone(self) -> Generator[None]:
        with (self.folder / LOCK).open("ab") as file:
            locked(file, wait=True)
            yield

    def take(self) -> Held | None:
        """Take a trial that a dead worker left, or a new one, or wait while others train what they may yet leave; None where all
        are finished."""
        while True:
            with self._alone():
                there = self.trials()
                running = [one for one in there if one.state == TrialState.RUNNING]
                for one in running:
                    lock = self._hold(one.number)
                    if lock is not None and self._alive(one, lock):
                        return self._held(one.number, lock, one)
                if len(there) < self.total or any(one.state == TrialState.WAITING for one in there):
                    return self._held(len(there), None, None)
            if not running:
                return None
            time.sleep(PAUSE)

    def _hold(self, number: int) -> IO[bytes] | None:
        folder = self.where(number)
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("ab")
        if locked(file):
            return file
        file.close()
        return None

    def _held(self, number: int, lock: IO[bytes] | None, left: FrozenTrial | None) -> Held:
        """Hold a new trial, or one that was left, of which a worker may have died before all its values were drawn."""
        with self._sampler(number):
            trial = self.study.ask() if left is None else self._live(left)
            for word, distribution in self.distributions.items():
                _suggest(trial, word, distribution)
        lock = lock or self._hold(trial.number)
        assert lock is not None  # nobody else looks for work meanwhile
        chosen = self.chosen(trial.params)
        held = Held(trial.number, chosen, self.where(trial.number), lock, trial)
        write_atomically(held.folder / "trial.yaml", space.page(self.spec, chosen).source.page)
        return held

    def _live(self, one: FrozenTrial) -> optuna.trial.Trial:
        return optuna.trial.Trial(self.study, one._trial_id)  # pyright: ignore[reportPrivateUsage]  # it has no other name

    def chosen(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Give the values of a trial as the page has them."""
        return {axis.word: _value(axis.tried, params[axis.word]) for axis in self.axes if axis.word in params}

    def _alive(self, one: FrozenTrial, lock: IO[bytes]) -> bool:
        """Note how far the trial came; give it up where the last workers all died of it at the same place."""
        saved = [path.name for seed in self.seeds for path in Folder(self.where(one.number) / f"seed-{seed}").checkpoints()[:1]]
        came = [len(one.user_attrs.get("seeds", {})), *saved]
        died = [*one.user_attrs.get("left", []), came][-LIVES:]
        if len(died) == LIVES and all(each == came for each in died):
            self.give_up(one.number, f"{LIVES} workers died of it, one after the other, without a checkpoint in between.")
            lock.close()
            return False
        self._live(one).set_user_attr("left", died)
        return True

    @contextlib.contextmanager
    def _sampler(self, number: int) -> Generator[None]:
        """Draw a trial's values by the sweep's seed and the trial's number, whichever worker asks.

        Telling what became of a trial is left to another sampler: a grid would stop a loop that there is none of."""
        usual, name = self.study.sampler, self.block.sampler.name
        seed = (self.block.seed * 1_000_003 + number) % 2**32
        if name == "grid":
            every = {axis.word: _labels(axis.tried) for axis in self.axes}
            self.study.sampler = optuna.samplers.GridSampler(every, seed=self.block.seed)
        elif name == "tpe":
            startup = self.block.sampler.options["startup"]
            self.study.sampler = optuna.samplers.TPESampler(n_startup_trials=startup, seed=seed, constant_liar=True)
        else:
            self.study.sampler = optuna.samplers.RandomSampler(seed=seed)
        try:
            yield
        finally:
            self.study.sampler = usual

    def finish(self, number: int, value: float) -> None:
        """Write down what a trial came to, unless somebody did."""
        self.study.tell(number, value, skip_if_finished=True)

    def prune(self, number: int, why: str) -> None:
        """Write down that a trial was ended, and why."""
        self._end(number, TrialState.PRUNED, why)

    def give_up(self, number: int, why: str) -> None:
        """Write down that a trial cannot be trained, and why."""
        self._end(number, TrialState.FAIL, why)

    def _end(self, number: int, state: TrialState, why: str) -> None:
        one = self.trials()[number]
        if not one.state.is_finished():
            self._live(one).set_user_attr("why", why)
            self.study.tell(number, state=state, skip_if_finished=True)


def begin(folder: Path, spec: GridSpec) -> None:
    """Make the folder of a sweep: the page, with the whole paths of the files that it names."""
    write_atomically(folder / SPEC, space.movable(spec))


def _pruner(name: str, options: Mapping[str, Any]) -> optuna.pruners.BasePruner:
    if name == "none":
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=options["startup"], n_warmup_steps=options["after"])


def _distribution(tried: Range | tuple[Any, ...]) -> BaseDistribution:
    if not isinstance(tried, Range):
        return CategoricalDistribution(_labels(tried))
    low, high, step = tried.low, tried.high, tried.step
    if step is not None:  # the last that is reached
        high = low + int((high - low) / step + 1e-9) * step
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=tried.log, step=int(step or 1))
    return FloatDistribution(float(low), float(high), log=tried.log, step=step)


def _suggest(trial: optuna.trial.Trial, word: str, over: BaseDistribution) -> None:
    """Draw a value, where the trial has none yet."""
    if isinstance(over, CategoricalDistribution):
        trial.suggest_categorical(word, over.choices)
    elif isinstance(over, IntDistribution):
        trial.suggest_int(word, over.low, over.high, step=over.step, log=over.log)
    elif isinstance(over, FloatDistribution):
        trial.suggest_float(word, over.low, over.high, step=over.step, log=over.log)


def _labels(tried: Range | tuple[Any, ...]) -> list[Any]:
    """Name the values to Optuna, which knows numbers and words alone."""
    if isinstance(tried, Range):
        count = space.Axis("", tried).count or 0
        return [tried.low + i * (tried.step or 1) for i in range(count)]
    return [json.dumps(value) if isinstance(value, dict | list) else value for value in tried]


def _value(tried: Range | tuple[Any, ...], label: Any) -> Any:
    return label if isinstance(tried, Range) else tried[_labels(tried).index(label)]
