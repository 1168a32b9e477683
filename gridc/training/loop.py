"""The loop of a training: step, evaluate, save, stop, and go on from a checkpoint to the last bit."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np

from gridc.arrays.dataset import Array, Dataset
from gridc.data.mini_batches import Batch, Batches
from gridc.errors import NumbersError, ResourceError, listed
from gridc.model_file import Model
from gridc.tables.training_block import Budget, Every, Stop
from gridc.training.checkpoint import BEST, CURVE, METRICS, MODEL, Folder
from gridc.training.early_stopping import EarlyStopping, monitor
from gridc.training.history import History, Record, curve
from gridc.training.interrupts import Interrupts
from gridc.training.metrics import evaluate as evaluate_on
from gridc.training.metrics import gathered
from gridc.training.metrics import meters as meters_of
from gridc.training.optimizers import Optimizer
from gridc.training.progress import Display
from gridc.training.ranks import ALONE, Ranks
from gridc.training.setup import Weights, shares
from gridc.training.standardizing import InTrainingsUnits, Standard
from gridc.training.state import (
    State,
    Trainable,
    compile_seconds,
    differences,
    from_model,
    load_parameters,
    narrow,
    saved_state,
    spec_text,
    to_model,
    without_softmax,
)
from gridc.training.step import Here, Step, updates

Callback = Callable[[Record], bool | None]
"""Called after every evaluation; True ends the training."""


@dataclass(frozen=True)
class _Flight:
    """A step that was begun: its mini-batch, what was given, what waits for it, where the training stood before, whether the part
    of this rank ``counts``, and what the ranks ``told`` each other, where there are several."""

    batch: Batch
    part: Dataset
    given: tuple[Any, ...]
    look: Callable[[], Step]
    before: tuple[int, int, float]
    counts: bool
    told: tuple[float, float] | None


@dataclass
class Run:
    """One call of ``fit``, its arguments checked and made: ``train`` steps until something ends it."""

    grid: Trainable
    batches: Batches
    held_out: Dataset | None
    optimizer: Optimizer
    budget: Budget
    stop: Stop
    evaluate: Every
    checkpoint: Every
    weights: Weights
    batch: int
    vocabularies: Mapping[str, Any]
    signature: Mapping[str, Any]
    callbacks: tuple[Callback, ...]
    folder: Folder | None
    standard: Standard | None = None
    ranks: Ranks = ALONE
    """Who trains: every rank has a run of its own, and they stay alike."""
    trained_on: Dataset | None = None
    """The examples to measure the written model on in the end, where its numbers are folded and nothing is held out."""
    linear_start: int = 0
    """At how many steps in the beginning memory cells attend without their softmax."""

    def __post_init__(self) -> None:
        self.meters = meters_of(self.grid.spec, self.weights.classes)
        self.dtype = str(getattr(self.grid, "dtype", "float32"))
        self.stepped = self.grid if not self.linear_start else without_softmax(self.grid)
        self.update = updates(self.stepped, self.optimizer, self.ranks)
        weighed = bool(self.weights.classes) or (self.held_out is not None and bool(self.held_out.weights))
        self.stopping = EarlyStopping(self.stop, monitor(self.grid.spec, self.stop, self.held_out is not None, weighed))

    def beginning(self, settings: Mapping[str, Any], resume: bool, overwrite: bool, shown: Display) -> State:
        """Make the state to start from: a new one, or that of the last checkpoint; its records become ``metrics.jsonl``."""
        folder = cast(Folder, self.folder)
        state = State(settings)
        if resume:
            model = self.ranks.first_does(lambda: folder.latest(shown.say, saved_state))
            if model is None:
                shown.say(f"There is no checkpoint in {folder.path} yet: training starts from the beginning.")
            else:
                found = self.ranks.part(model)
                state = self.ranks.everywhere(
                    lambda: from_model(found, self.grid, self.optimizer, self.meters, settings))  # fmt: skip
                self._only_the_first_counts()
                if told := differences(model, self.grid):
                    shown.say(told)

        def write() -> None:
            if not resume:
                if not overwrite:
                    folder.refuse_if_taken()
                folder.clear()
            folder.write(METRICS, "".join(json.dumps(record.to_json()) + "\n" for record in state.records))

        self.ranks.first_does(write)
        return state

    def _only_the_first_counts(self) -> None:
        """Of what the ranks have counted together the first keeps all, and the others nothing."""
        for meter in () if self.ranks.first else self.meters.values():
            meter.clear()

    def train(self, state: State, shown: Display) -> History:
        """Make steps until something ends it; whatever that is, the grid is then one for numbers in the units of the data."""
        try:
            reason = self._steps(state, shown)
        except BaseException:
            load_parameters(self.grid.parameters, self._own(self.grid.parameters))
            raise
        return self._finish(state, reason, shown)

    def _steps(self, state: State, shown: Display) -> str:
        self.ranks.begin(self.grid)
        if not self.optimizer.started:
            self.optimizer.start(self.grid.parameters)
        reason = self._ended(state) or (self.stopping.met(state.records[-1], state.waited) if state.records else "")
        started = self._clock() - state.seconds
        flights: deque[_Flight] = deque()
        with Interrupts() as interrupts:

            def now() -> tuple[float, float]:
                return float(interrupts.asked), self._clock() - started

            try:
                for batch in () if reason else self.batches.after(state.step):
                    if self.stepped is not self.grid and state.step >= self.linear_start:
                        self._put_softmax_in(state, flights, shown)
                    before = (state.step, state.samples, state.epoch)
                    flights.append(flight := self._begin(state, batch, now))
                    asked, state.seconds = flight.told or now()
                    reason = self._ended(state)
                    evaluate = bool(reason) or _due(self.evaluate, before, state, state.evaluated)
                    save = bool(reason) or _due(self.checkpoint, before, state, state.saved)
                    # A device does one step while the next one's examples are made ready, unless this one must be seen.
                    self._land(state, flights, shown, all_=evaluate or save or not self.update.ahead)
                    asked, state.seconds = flight.told or now()
                    if evaluate:
                        record = self._evaluate(state, shown)
                        state.seconds = state.evaluated = self.ranks.first_does(lambda: now()[1])
                        told = self.ranks.first_does(partial(self._call, record))
                        reason = self.stopping.met(record, state.waited) or reason or ("A callback ended it." if told else "")
                        asked, _ = flight.told or now()
                    if asked:
                        self._land(state, flights, shown, all_=True)
                    if self.folder and (reason or asked or save):
                        state.saved = state.seconds
                        self._save(state)
                    if asked:
                        self._interrupted(state, shown)
                    if reason:
                        break
                else:
                    reason = reason or "The examples came to an end."
                    self._land(state, flights, shown, all_=True)
                    if not state.records or state.records[-1].step != state.step:
                        self._evaluate(state, shown)
            except Exception:
                self._land(state, flights, shown, all_=True)  # what went wrong before says more
                raise
        return reason

    def _put_softmax_in(self, state: State, flights: deque[_Flight], shown: Display) -> None:
        """Step the grid itself from now on; what its linear start left on a device comes home first."""
        self._land(state, flights, shown, all_=True)
        _ = self.optimizer.state
        self.stepped, self.update = self.grid, updates(self.grid, self.optimizer, self.ranks)

    def _interrupted(self, state: State, shown: Display) -> None:
        place = self.folder and self.folder.path
        kept = f" All is saved: the same command with --folder {place} --resume goes on." if place else ""
        shown.say(f"Interrupted after step {state.step:,}.{kept}")
        raise self.ranks.agreed(KeyboardInterrupt())

    def _clock(self) -> float:
        """Seconds, without those that compiling took."""
        return time.perf_counter() - compile_seconds(self.grid)

    def _call(self, record: Record) -> bool:
        told = [callback(record) for callback in self.callbacks]  # each is called, whatever those before it said
        return any(told)

    def _begin(self, state: State, batch: Batch, now: Callable[[], tuple[float, float]]) -> _Flight:
        share, several = self.ranks.share(len(batch.data)), self.ranks.size > 1
        part = batch.data.ready(self.dtype, share.rows if several else None)
        counts = shares(self.grid.spec, batch.data, share) if several else None
        given = (part.inputs, part.targets, part.lengths or None, self.weights.of(part, counts))
        before, told = (state.step, state.samples, state.epoch), None
        if several:
            look = cast(Here, self.update).begin(*given, (share.rows.start, share.of), now)
            told = look().told
        else:
            look = self.update.begin(*given)
        flight = _Flight(batch, part, given, look, before, share.counts and share.measured, told)
        state.step += 1
        state.samples += share.of
        size = self.batches.examples
        state.epoch = batch.epoch + 1.0 if batch.last else state.samples / size if size else float(batch.epoch)
        return flight

    def _land(self, state: State, flights: deque[_Flight], shown: Display, all_: bool) -> None:
        """Wait for the steps that were begun, or for all but the last of them, and count what they saw."""
        while len(flights) > (not all_):
            flight = flights.popleft()
            done = flight.look()
            if not done.good:
                flights.clear()
                state.step, state.samples, state.epoch = flight.before
                gradients = done.gradients or self.stepped.loss_and_gradients(*flight.given)[1]
                self._complain(state, flight.batch, done.loss, gradients)
            part = flight.part
            for name, meter in self.meters.items() if flight.counts else ():
                meter.add(part.targets[name], done.outputs[name], part.lengths, part.weights.get(name))
            shown.step(self._share(state), state.samples, state.seconds, done.loss)

    def _complain(self, state: State, batch: Batch, loss: float, gradients: Mapping[str, Array]) -> None:
        """NumbersError that says where the first number went wrong."""
        odd = [f"parameter '{name}'" for name, array in self.grid.parameters.items() if not np.isfinite(array).all()]
        odd = odd or [f"the gradient of '{name}'" for name, array in gradients.items() if not np.isfinite(array).all()]
        odd = next((each for each in self.ranks.gather(odd) if each), odd)
        where = f"At step {state.step + 1:,} ({batch.where()})"
        what = f"{odd[0]} holds NaN or infinity" if odd else "no parameter or gradient is to blame"
        if self.folder and not any(one.startswith("parameter '") for one in odd):
            self._save(state)  # what the steps before this one left is good
        last = self.ranks.first_does(lambda: self.folder.checkpoints()[:1] if self.folder else [])
        kept = f" The last good checkpoint is {last[0]}." if last else ""
        own = list(dict.fromkeys(f"'{t.cell}'" for t in self.grid.spec.transforms.values() if not t.mechanism.shipped))
        whose = f" Or a formula of {listed(own)} divides by zero, or leaves what log, sqrt and ** are defined for." if own else ""
        raise self.ranks.agreed(NumbersError(f"{where} the loss is {loss:g} and {what}. A smaller learning rate or clipping of "
                                             f"the gradients may help.{whose}{kept}"))  # fmt: skip

    def _evaluate(self, state: State, shown: Display) -> Record:
        self.ranks.same(self.grid.parameters)
        gathered(self.meters, self.ranks)
        trained = {name: meter.result() for name, meter in self.meters.items()}
        for meter in self.meters.values():
            meter.clear()
        held = {} if self.held_out is None else self._measured(self.held_out)
        record = Record(
            state.step, state.samples, state.epoch, state.seconds, self.optimizer.rate, self.weights.total(trained),
            trained, self.weights.total(held) if held else None, held)  # fmt: skip
        state.records.append(record)
        state.waited = state.waited + 1 if state.step >= self.linear_start else 0
        if state.best is None or self.stopping.better(record, state.best):
            state.keep_best(record, self.grid.parameters)
        if self.folder:
            folder = self.folder
            self.ranks.first_does(lambda: folder.append(METRICS, json.dumps(record.to_json())))
        shown.record(record)
        return record

    def _measured(self, data: Dataset) -> dict[str, dict[str, float]]:
        """Figures of the model as it is written, its numbers folded and rounded, in the units that losses have in training."""
        batch = max(self.batch, 128)
        if self.standard is None:
            return evaluate_on(self.grid, data, batch=batch, classes=self.weights.classes, ranks=self.ranks)
        kept = {name: array.copy() for name, array in self.grid.parameters.items()}
        load_parameters(self.grid.parameters, self._own(kept))
        try:
            return evaluate_on(InTrainingsUnits(self.grid, self.standard), data, batch=batch,
                               classes=self.weights.classes, ranks=self.ranks)  # fmt: skip
        finally:
            load_parameters(self.grid.parameters, kept)

    def _share(self, state: State) -> float:
        """How much of the budget is spent."""
        limits = ((self.budget.epochs, state.epoch), (self.budget.samples, state.samples),
                  (self.budget.steps, state.step), (self.budget.seconds, state.seconds))  # fmt: skip
        return max((spent / limit for limit, spent in limits if limit), default=0.0)

    def _ended(self, state: State) -> str:
        return "The budget is spent." if self._share(state) >= 1 else ""

    def _save(self, state: State) -> None:
        folder = cast(Folder, self.folder)
        gathered(self.meters, self.ranks)
        self._only_the_first_counts()

        whole = self.ranks.whole(
            to_model(self.grid, state, self.optimizer, self.meters, self.vocabularies, self.signature))  # fmt: skip
        best = None if state.best is None else self.ranks.whole(self._model(state.best_parameters, state, state.best))

        def write() -> None:
            folder.save(state.step, whole)
            if best is not None:
                folder.save_model(best, BEST)

        self.ranks.first_does(write)

    def _model(self, parameters: Mapping[str, Array], state: State, record: Record | None) -> Model:
        """Make a model for people to use, with what is known about its training."""
        spec = self.grid.spec
        told = {
            "settings": dict(state.settings), "steps": state.step, "samples": state.samples, "seconds": state.seconds,
            "record": None if record is None else record.to_json(),
        }  # fmt: skip
        return Model(self._own(parameters), spec_text(spec), spec.digest, told, self.vocabularies, signature=self.signature,
                     products=narrow(self.grid))  # fmt: skip

    def _own(self, parameters: Mapping[str, Array]) -> dict[str, Array]:
        """Return the parameters for numbers in the units of the data."""
        return dict(parameters) if self.standard is None else self.standard.folded(self.grid.spec, parameters, self.ranks.mine)

    def _finish(self, state: State, reason: str, shown: Display) -> History:
        # Weights that have what was asked for are the ones; else the best, where something tells which they are.
        told = bool(state.records) and (self.held_out is not None or self.stop.patience is not None)
        restored = told and bool(state.best_parameters) and not self.stopping.reached(state.records[-1])
        if restored:
            load_parameters(self.grid.parameters, state.best_parameters)
        kept = state.best if restored else state.records[-1] if state.records else None
        if self.trained_on is not None and kept is not None:
            trained = self._measured(self.trained_on)
            told_again = replace(kept, loss=self.weights.total(trained), outputs=trained)
            state.records = [told_again if record is kept else record for record in state.records]
            state.best, kept = told_again if kept is state.best else state.best, told_again
        if self.folder:
            model = self.ranks.whole(self._model(self.grid.parameters, state, kept))
            self.ranks.first_does(partial(self._leave, self.folder, state, model, shown))
        load_parameters(self.grid.parameters, self._own(self.grid.parameters))
        return History(
            self.grid.spec.name, tuple(state.records), reason, state.best, self.stopping.monitor, restored, state.step,
            state.samples, state.seconds, compile_seconds(self.grid), None if self.folder is None else self.folder.path,
        )  # fmt: skip

    def _leave(self, folder: Folder, state: State, model: Model, shown: Display) -> None:
        """Write the model and the curve."""
        folder.save_model(model, MODEL)
        try:
            folder.write(CURVE, curve(self.grid.spec.name, tuple(state.records)))
        except ResourceError as error:
            shown.say(str(error))


def _due(every: Every, before: tuple[int, int, float], state: State, last: float) -> bool:
    """Whether the last step reached a multiple of one of the limits; ``last`` is when the seconds began to count."""
    pairs = ((every.steps, before[0], state.step), (every.samples, before[1], state.samples),
             (every.epochs, before[2], state.epoch))  # fmt: skip
    # A little is added, since a third of an epoch may come out as 0.333… × 3 < 1.
    passed = any(limit and (limit < new - old or int(old / limit + 1e-9) < int(new / limit + 1e-9)) for limit, old, new in pairs)
    return passed or (every.seconds is not None and state.seconds - last >= every.seconds)
