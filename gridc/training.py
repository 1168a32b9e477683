"""Training a grid: mini-batches, evaluations, early stopping, checkpoints; to the last bit the same when resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from gridc.checkpoint import Folder
from gridc.datasets import Array, for_spec
from gridc.errors import NumbersError
from gridc.experiment import Budget, Every, Stop
from gridc.history import History
from gridc.mini_batches import Shuffled
from gridc.optimizers import Optimizer
from gridc.optimizers import optimizer as optimizer_of
from gridc.progress import Style, display
from gridc.training_loop import Callback, Run
from gridc.training_setup import (
    Examples,
    Named,
    Weights,
    batches,
    block,
    dataset,
    known_outputs,
    made_optimizer,
    steps_of,
)
from gridc.training_state import State, Trainable

DEFAULT_EVERY = {"epochs": 1}
DEFAULT_SAVE = {"seconds": 10}


def fit(
    grid: Trainable,
    train: Examples,
    held_out: Examples | None = None,
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
) -> History:
    """Trains the grid in place until the budget is spent or a stopping rule is met.

    ``train`` and ``held_out`` are ``Dataset``s or tuples of inputs, targets and maybe lengths; ``train`` may also be an
    iterable of such tuples, one a mini-batch.  ``budget`` is a number of epochs or a mapping of ``epochs``, ``samples``,
    ``steps`` and ``seconds``; ``stop`` a mapping of ``accuracy``, ``loss`` and ``patience`` (with ``patience`` the best
    weights are given back at the end).  ``weights`` is what each output's loss counts, ``class_weights`` what each class
    does: a list of numbers, or ``balanced``.

    With ``folder`` the training leaves ``metrics.jsonl``, checkpoints, ``model.grid`` and ``curve.png`` there, and
    ``resume`` goes on from the last checkpoint bit for bit.

    Raises NumbersError where a loss or gradient is NaN or infinite, with the step, the batch and the parameter; DataError
    where arrays do not fit; KeyboardInterrupt after Ctrl-C, once the step is done and saved.
    """
    spec = grid.spec
    limits = block(Budget, "budget", {"epochs": budget} if isinstance(budget, int | float) else budget)
    rule = block(Stop, "stop", stop or {})
    known_outputs("stop", spec, [rule.output] if rule.output else [])
    source = batches(train, spec, batch, seed, shuffle)
    held = None if held_out is None else for_spec(dataset(held_out), spec)
    steps = steps_of(limits, source, batch)
    plan = made_optimizer(optimizer, schedule, clip, steps)
    counts = Weights(weights or {}, class_weights or {}, source, spec)
    data = source.data if isinstance(source, Shuffled) else None
    settings: dict[str, Any] = {
        "optimizer": repr(plan), "schedule": [schedule, steps] if schedule else None, "clip": plan.clip, "batch": batch,
        "seed": seed, "shuffle": shuffle, "weights": counts.outputs, "class_weights": class_weights,
        "data": data.fingerprint if data else None, "held_out": held.fingerprint if held else None,
    }  # fmt: skip
    # As a checkpoint gives them back, so that they can be compared.
    settings = json.loads(json.dumps(settings))
    run = Run(
        grid, source, held, plan, limits, rule, block(Every, "evaluate", evaluate),
        block(Every, "checkpoint", checkpoint), counts, batch, data.vocabularies if data else {}, tuple(callbacks),
        None if folder is None else Folder(folder, keep=keep))  # fmt: skip
    with display(progress, spec.name) as shown:
        if run.folder is None:
            return run.train(State(settings), shown)
        with run.folder:
            return run.train(run.beginning(settings, resume, overwrite, shown), shown)


Step = Callable[..., float]
"""``step(inputs, targets, lengths=None, weights=None) -> loss``."""


def training_step(grid: Trainable, name: str = "adam", **options: Any) -> Step:
    """A function that updates every parameter once, in place, and gives the loss before the update.

    ``options`` are those of the optimizer, and ``clip``.  The function raises NumbersError, and changes nothing, where the
    loss or a gradient is NaN or infinite.
    """
    plan = optimizer_of(name, **options)

    def step(
        inputs: Mapping[str, Array], targets: Mapping[str, Array], lengths: Mapping[str, Array] | None = None,
        weights: Mapping[str, Any] | None = None,
    ) -> float:  # fmt: skip
        loss, gradients, _ = grid.loss_and_gradients(inputs, targets, lengths, weights)
        if not (np.isfinite(loss) and all(np.isfinite(g).all() for g in gradients.values())):
            odd = next((n for n, g in gradients.items() if not np.isfinite(g).all()), None)
            what = f"the gradient of '{odd}' holds NaN or infinity" if odd else "no gradient is to blame"
            raise NumbersError(f"At step {plan.count + 1:,} the loss is {loss:g} and {what}.")
        plan.update(grid.parameters, gradients)
        return float(loss)

    return step
