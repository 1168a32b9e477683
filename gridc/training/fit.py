"""Training a grid: mini-batches, evaluations, early stopping, checkpoints; to the last bit the same when resumed."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from gridc.data.fitting import as_dataset, for_spec
from gridc.data.mini_batches import Shuffled
from gridc.errors import UsageError, listed, nearest
from gridc.tables.training_block import Budget, Every, Stop
from gridc.training.checkpoint import Folder
from gridc.training.history import History
from gridc.training.loop import Callback, Run
from gridc.training.optimizers import Optimizer
from gridc.training.progress import Style, display
from gridc.training.setup import (
    Examples,
    Named,
    Weights,
    arguments,
    batches,
    block,
    known_outputs,
    made_optimizer,
    steps_of,
)
from gridc.training.standardizing import far_off, measured
from gridc.training.state import State, Trainable

DEFAULT_EVERY = {"epochs": 1}
DEFAULT_SAVE = {"seconds": 10}
ELSEWHERE = {
    "epochs": "budget={'epochs': 10}", "steps": "budget={'steps': 1000}", "max_epochs": "budget={'epochs': 10}",
    "batch_size": "batch=32", "validation_split": "held_out=0.2", "validation_data": "held_out=(inputs, targets)",
    "learning_rate": "optimizer={'adam': {'learning_rate': 0.001}}", "lr": "optimizer={'adam': {'learning_rate': 0.001}}",
    "patience": "stop={'patience': 5}", "verbose": "progress='none'", "random_state": "seed=0",
    "class_weight": "class_weights={…}",
}  # fmt: skip
"""What Keras, Lightning and scikit-learn call an option, and how it is written here."""


def check_options(options: Mapping[str, Any]) -> None:
    """UsageError for an option that ``fit`` does not have, with what other libraries call by that name."""
    known = [name for name in inspect.signature(fit).parameters if name not in ("grid", "train")]
    for name in options:
        if name not in known:
            say = ELSEWHERE.get(name)
            offer = f": write {say}." if say else nearest(name, known) or f"; it has {listed(known, 'and')}."
            raise UsageError(f"'fit' has no option '{name}'{offer}")


def fit(
    grid: Trainable,
    train: Examples,
    held_out: Examples | float | None = None,
    *,
    optimizer: Named | Optimizer = "adam",
    batch: int = 32,
    budget: Budget | Mapping[str, Any] | int = 10,
    stop: Stop | Mapping[str, Any] | None = None,
    seed: int = 0,
    clip: float | None = None,
    schedule: Named | None = None,
    weights: Mapping[str, float] | None = None,
    class_weights: Mapping[str, Any] | None = None,
    evaluate: Every | Mapping[str, Any] = DEFAULT_EVERY,
    checkpoint: Every | Mapping[str, Any] = DEFAULT_SAVE,
    keep: int = 3,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Iterable[Callback] = (),
    progress: Style = "auto",
    shuffle: bool = True,
    standardize: bool = False,
) -> History:
    """Trains the grid in place until the budget is spent or a stopping rule is met.

    ``train`` and ``held_out`` are ``Dataset``s or tuples of inputs, targets and maybe lengths; ``held_out`` may also be the
    share of ``train`` to hold out, drawn by seed, and ``train`` an iterable of such tuples, one a mini-batch.  ``budget`` is
    a number of epochs or a mapping of ``epochs``, ``samples``, ``steps`` and ``seconds``; ``stop`` a mapping of
    ``accuracy``, ``loss`` and ``patience`` (with ``patience`` the best weights are given back at the end).  ``weights`` is
    what each output's loss counts, ``class_weights`` what each class does: a list of numbers, or ``balanced``.
    With ``standardize`` real inputs and outputs are learned with mean 0 and deviation 1 (losses are those), and the grid and
    the models that it leaves take and give numbers in the units of ``train``.

    With ``folder`` the training leaves ``metrics.jsonl``, checkpoints, ``model.grid`` and ``curve.png`` there, and
    ``resume`` goes on from the last checkpoint bit for bit.

    Raises NumbersError where a loss or gradient is NaN or infinite, with the step, the batch and the parameter; DataError
    where arrays do not fit; KeyboardInterrupt after Ctrl-C, once the step is done and saved.
    """
    spec = grid.spec
    arguments(batch=batch, seed=seed, clip=clip, keep=keep, weights=weights or {}, standardize=standardize)
    if not isinstance(folder, str | os.PathLike | None):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may be untyped
        raise UsageError(f"'folder' is {folder!r}, expected a path.")
    if resume and folder is None:
        raise UsageError("'resume' goes on with the training in a folder; give the folder.")
    if not isinstance(callbacks, Iterable) or not all(map(callable, callbacks := tuple(callbacks))):  # pyright: ignore
        raise UsageError(f"'callbacks' is {callbacks!r}, expected functions that take a Record.")
    limits = block(Budget, "budget", {"epochs": budget} if isinstance(budget, int | float) else budget)
    rule = block(Stop, "stop", stop or {})
    known_outputs("stop", spec, [rule.output] if rule.output else [])
    if isinstance(held_out, int | float):
        if not 0 <= held_out < 1:
            raise UsageError(f"'held_out' is {held_out!r}, expected examples or a number from 0 to below 1.")
        train, held_out = as_dataset(train, spec).split(held_out, seed)
    source = batches(train, spec, batch, seed, shuffle)
    held = None if held_out is None else for_spec(as_dataset(held_out, spec), spec)
    standard = None
    if standardize:
        if not isinstance(source, Shuffled):
            raise UsageError("'standardize' needs a data set, whose numbers can be measured; scale those of an iterator before.")
        standard = measured(source.data, spec)
        source = replace(source, data=standard.applied(source.data))
        held = None if held is None else standard.applied(held)
    steps = steps_of(limits, source, batch)
    plan = made_optimizer(optimizer, schedule, clip, steps)
    counts = Weights(weights or {}, class_weights or {}, source, spec)
    data = source.data if isinstance(source, Shuffled) else None
    settings: dict[str, Any] = {
        "optimizer": repr(plan), "schedule": [schedule, steps] if schedule else None, "clip": plan.clip, "batch": batch,
        "seed": seed, "shuffle": shuffle, "weights": counts.outputs, "class_weights": class_weights,
        "standardize": standardize, "data": data.fingerprint if data else None, "held_out": held.fingerprint if held else None,
    }  # fmt: skip
    # As a checkpoint gives them back, so that they can be compared.
    settings = json.loads(json.dumps(settings))
    run = Run(
        grid, source, held, plan, limits, rule, block(Every, "evaluate", evaluate),
        block(Every, "checkpoint", checkpoint), counts, batch, data.vocabularies if data else {}, callbacks,
        None if folder is None else Folder(folder, keep=keep), standard)  # fmt: skip
    with display(progress, spec.name) as shown:
        if data is not None and not standardize and (hint := far_off(data, spec)):
            shown.say(hint)
        if run.folder is None:
            return run.train(State(settings), shown)
        with run.folder:
            return run.train(run.beginning(settings, resume, overwrite, shown), shown)
