"""Training a grid: mini-batches, evaluations, early stopping, checkpoints; to the last bit the same when resumed."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from gridc.arrays.dataset import Dataset
from gridc.arrays.signature import Signature
from gridc.data.fitting import as_dataset, for_spec
from gridc.data.mini_batches import Batches, Shuffled
from gridc.errors import UsageError, listed
from gridc.language.spec import GridSpec
from gridc.options import plain
from gridc.synonyms import in_call
from gridc.tables.training_block import Beginning, Budget, Every, Stop, Training
from gridc.training.checkpoint import CHECKPOINTS, Folder
from gridc.training.history import History
from gridc.training.loop import Callback, Run
from gridc.training.optimizers import Optimizer
from gridc.training.progress import Display, Style, display
from gridc.training.setup import (
    Examples,
    Named,
    Weights,
    arguments,
    batches,
    block,
    known_outputs,
    linear_steps,
    made_optimizer,
    steps_of,
)
from gridc.training.standardizing import Standard, coarse, far_off, measured
from gridc.training.state import State, Trainable
from gridc.training.world import joined

EVALUATE: Every = Training.model_fields["evaluate"].default
CHECKPOINT: Every = Training.model_fields["checkpoint"].default


def check_options(options: Mapping[str, Any]) -> None:
    """UsageError for an option that ``fit`` does not have, with what other libraries call by that name."""
    known = [name for name in inspect.signature(fit).parameters if name not in ("grid", "train")]
    for name in options:
        if name not in known:
            offer = in_call(name, known) or f"; it has {listed(known, 'and')}."
            raise UsageError(f"'fit' has no option '{name}'{offer}")


def fit(
    grid: Trainable,
    train: Examples,
    held_out: Examples | float | None = None,
    *,
    optimizer: Named | Optimizer = "adam",
    batch: int = 32,
    budget: Budget | Mapping[str, Any] | int = 10,
    linear_start: Beginning | Mapping[str, Any] | int | None = None,
    stop: Stop | Mapping[str, Any] | None = None,
    seed: int = 0,
    clip: float | None = None,
    schedule: Named | None = None,
    weights: Mapping[str, Any] | None = None,
    class_weights: Mapping[str, Any] | None = None,
    evaluate: Every | Mapping[str, Any] = EVALUATE,
    checkpoint: Every | Mapping[str, Any] = CHECKPOINT,
    keep: int = 3,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Iterable[Callback] = (),
    progress: Style = "auto",
    shuffle: bool = True,
    standardize: bool = False,
    ranks: Any = "auto",
) -> History:
    """Train the grid in place until the budget is spent or a stopping rule is met.

    Where examples are held out, the grid (and ``model.grid``) ends with the best weights of all that were evaluated on them, by
    accuracy where a single output decides and its classes count alike, else by loss; where what ``stop`` asks for was reached,
    with those that reached it.

    Args:
        grid: What is trained.  ``Grid.fit`` has the same options, and takes inputs, targets and lengths first.
        train: A ``Dataset``, a tuple of inputs, targets and maybe lengths and weights, or an iterable of such tuples, one a
            mini-batch.
        held_out: Examples that are evaluated on and never trained on, as ``train`` has them; or the share of ``train`` to hold
            out, from 0 to below 1, drawn by ``seed``.
        optimizer: A name (``adam``), a name with options (``{"adam": {"learning_rate": 0.01}}``), or an ``Optimizer``.
        batch: Examples in an update.
        budget: A number of epochs, or a mapping of ``epochs``, ``samples``, ``steps`` and ``seconds``; what is spent first ends
            the training.
        linear_start: How long memory cells attend without their softmax at first (Sukhbaatar et al. 2015): a number of epochs, or
            a mapping of ``epochs``, ``samples`` and ``steps``.  Held-out examples are evaluated on with the softmax all the
            time, and patience begins after it.
        stop: A mapping of ``accuracy``, ``loss`` or ``patience`` (evaluations without improvement), and of ``min_delta``,
            ``output`` and what tells the best weights, ``monitor``.
        seed: Draws what is held out, and the order of the examples.
        clip: The largest global norm of the gradients.
        schedule: How the learning rate changes, by name or with options (``{"cosine_decay_schedule": {"alpha": 0.1}}``).
        weights: By output, what its loss counts: a number; or an array of what each example of ``train`` counts in it, or each
            position, as in ``Grid.loss_and_gradients``.
        class_weights: By output, what each class counts: a list of numbers, or ``balanced``.
        evaluate: How often to evaluate: a mapping of ``epochs``, ``samples``, ``steps`` or ``seconds``.
        checkpoint: How often to save what a resumed training needs, as ``evaluate``; with a ``folder``.
        keep: How many checkpoints are kept.
        folder: Where ``metrics.jsonl``, checkpoints, ``model.grid`` and ``curve.png`` go; without, nothing is written.
        resume: Whether to go on from the folder's last checkpoint, bit for bit.
        overwrite: Whether to replace the training that the folder holds.
        callbacks: Functions that take the ``Record`` of each evaluation; one that returns True ends the training.
        progress: ``auto`` (a bar on a terminal, lines elsewhere), ``bar``, ``lines`` or ``none``.
        shuffle: Whether each epoch has an order of its own.
        standardize: Whether real inputs and outputs are learned with mean 0 and deviation 1 (losses are those); the grid, and
            the models that it leaves, take and give numbers in the units of ``train``.
        ranks: Which processes share every mini-batch: ``auto``, all that an ``mpiexec`` started; ``alone``, none; or a
            communicator of mpi4py's.  Each of them calls this with the same arguments and examples, and returns the same.

    Returns:
        A record for each evaluation, and why the training ended.

    Raises:
        UsageError: An option is none, or has another type.
        DataError: Arrays do not fit.
        NumbersError: A loss or gradient is NaN or infinite; with the step, the batch and the parameter.
        ResourceError: An ``mpiexec`` started this process, and there is no mpi4py.
        KeyboardInterrupt: After Ctrl-C or SIGTERM, once the step is done and saved.
    """
    who = joined(ranks)
    with who.guard():
        spec = grid.spec
        weights, train = _positions_weighed(spec, weights, train)
        told = arguments(
            batch=batch, seed=seed, clip=clip, keep=keep, weights=weights, standardize=standardize,
            class_weights={} if class_weights is None else class_weights, shuffle=shuffle, resume=resume,
            overwrite=overwrite)  # fmt: skip
        batch, seed, clip, keep = (told[name] for name in ("batch", "seed", "clip", "keep"))
        shuffle, standardize, resume, overwrite = (told[name] for name in ("shuffle", "standardize", "resume", "overwrite"))
        place = _folder(folder, keep, resume)
        called = _callbacks(callbacks)
        budget, schedule, linear_start = plain(budget), plain(schedule), plain(linear_start)
        limits = block(Budget, "budget", {"epochs": budget} if isinstance(budget, int | float) else budget)
        start = block(Beginning, "linear_start", {"epochs": linear_start} if isinstance(linear_start, int | float) else
                      linear_start or {})  # fmt: skip
        rule = block(Stop, "stop", stop or {})
        known_outputs("stop", spec, [rule.output] if rule.output else [])
        source, held = _examples(spec, train, held_out, batch, seed, shuffle)
        dtype = str(getattr(grid, "dtype", "float32"))
        data = source.data if isinstance(source, Shuffled) else None
        standard = trained_on = None
        if standardize:
            standard, source = _standardized(spec, source, dtype)
            # What is measured is the model that will be written, which takes numbers in their own units.
            trained_on = None if held is not None or data is None else standard.applied(data, inputs=False)
            held = None if held is None else standard.applied(held, inputs=False)
        steps = steps_of(limits, source, batch)
        linear = linear_steps(start, source, batch)
        rows = made_optimizer(optimizer, schedule, clip, steps)
        counts = Weights(told["weights"], told["class_weights"], source, spec)
        learned = source.data if isinstance(source, Shuffled) else None
        settings: dict[str, Any] = {
            "optimizer": repr(rows), "schedule": [schedule, steps] if schedule else None, "clip": rows.clip, "batch": batch,
            "seed": seed, "shuffle": shuffle, "weights": counts.outputs,
            "class_weights": None if class_weights is None else told["class_weights"],
            "standardize": standardize, "linear_start": linear, "data": learned.fingerprint if learned else None,
            "held_out": held.fingerprint if held else None,
        }  # fmt: skip
        vocabularies, signature = _keep_reading(grid, data)
        run = Run(
            grid, source, held, rows, limits, rule, block(Every, "evaluate", evaluate), block(Every, "checkpoint", checkpoint),
            counts, batch, vocabularies, signature.to_json(), called, place, standard, who, trained_on, linear)  # fmt: skip
        who.alike({**settings, "spec": spec.digest, "budget": limits, "stop": rule, "resume": resume, "folder": place is None,
                   "evaluate": run.evaluate, "checkpoint": run.checkpoint})  # fmt: skip
        with display(progress if who.first else "none", spec.name) as shown:
            for note in (*(data.notes if data else ()), *(held.notes if held else ())):
                shown.say(note)
            if data is not None and (hint := coarse(data, spec, dtype) or ("" if standardize else far_off(data, spec))):
                shown.say(hint)
            # As a checkpoint gives them back, so that they can be compared.
            return _trained(run, json.loads(json.dumps(settings)), resume, overwrite, shown)


def _folder(path: Any, keep: int, resume: bool) -> Folder | None:
    """Check the folder of the training, where it has one; UsageError where there is none to resume."""
    if not isinstance(path, str | os.PathLike | None):
        raise UsageError(f"'folder' is {path!r}, expected a path.")
    if resume and path is None:
        raise UsageError("'resume' goes on with the training in a folder; give the folder.")
    return None if path is None else Folder(path, keep=keep)  # pyright: ignore[reportUnknownArgumentType]  # a path of any type


def _callbacks(callbacks: Any) -> tuple[Callback, ...]:
    """Check the functions to call after every evaluation; UsageError where something else was given."""
    if not isinstance(callbacks, Iterable) or not all(map(callable, callbacks := tuple(callbacks))):  # pyright: ignore
        raise UsageError(f"'callbacks' is {callbacks!r}, expected functions that take a Record.")
    return callbacks


def _examples(
    spec: GridSpec, train: Examples, held_out: Examples | float | None, batch: int, seed: int, shuffle: bool
) -> tuple[Batches, Dataset | None]:
    """Make the mini-batches to train on, and what is held out, fitted to the spec."""
    held_out = held_out if isinstance(held_out, Dataset | tuple | list) else plain(held_out)
    if isinstance(held_out, int | float):
        if not 0 <= held_out < 1:
            raise UsageError(f"'held_out' is {held_out!r}, expected examples or a number from 0 to below 1.")
        train, held_out = as_dataset(train, spec).split(held_out, seed)
    source = batches(train, spec, batch, seed, shuffle)
    return source, None if held_out is None else for_spec(as_dataset(held_out, spec), spec)


def _positions_weighed(
    spec: GridSpec, weights: Mapping[str, Any] | None, train: Examples
) -> tuple[Mapping[str, Any] | None, Examples]:
    """Part the weights of whole outputs from those of examples and positions, which go with the examples."""
    if not isinstance(weights, Mapping):
        return ({} if weights is None else weights), train
    own: dict[str, Any] = {name: one for name, one in weights.items() if _several(one)}
    if not own:
        return weights, train
    known_outputs("weights", spec, own)
    rest = {name: one for name, one in weights.items() if name not in own}
    if isinstance(train, tuple) and 2 <= len(train) <= 4:
        given: list[Any] = [*train, None, None][:4]
        both: dict[str, Any] = {**(given[3] or {}), **own}
        return rest, (*given[:3], both)
    if isinstance(train, Dataset):
        return rest, replace(train, weights={**train.weights, **own})
    raise UsageError("'weights' has arrays, which go with examples: give each mini-batch its own, as a tuple of inputs, targets, "
                     "lengths and weights.")  # fmt: skip


def _several(value: Any) -> bool:
    """Whether it is an array or a list, not one number."""
    return isinstance(value, list | tuple) or bool(getattr(value, "ndim", 0))


def _keep_reading(grid: Trainable, data: Dataset | None) -> tuple[dict[str, tuple[str, ...]], Signature]:
    """Give the grid what the examples say of their words and columns, and return that: what it knew before stays where they say
    nothing."""
    known = dict(getattr(grid, "vocabularies", {}))
    signature = getattr(grid, "signature", Signature())
    if data is not None:
        known |= data.vocabularies
        signature = data.signature or signature
    for name, value in (("vocabularies", known), ("signature", signature)):
        if hasattr(grid, name):
            setattr(grid, name, value)
    return known, signature


def _standardized(spec: GridSpec, source: Batches, dtype: str) -> tuple[Standard, Batches]:
    """Measure the numbers, and shift and scale the examples to mean 0 and deviation 1; UsageError where that cannot be done."""
    if not isinstance(source, Shuffled):
        raise UsageError("'standardize' needs a data set, whose numbers can be measured; scale those of an iterator before.")
    standard = measured(source.data, spec, dtype)
    return standard, replace(source, data=standard.applied(source.data))


def _trained(run: Run, settings: Mapping[str, Any], resume: bool, overwrite: bool, shown: Display) -> History:
    """Train, holding the folder where there is one."""
    folder = run.folder
    if folder is None:
        return run.train(State(settings), shown)
    with run.ranks.watched(folder.path / CHECKPOINTS), run.ranks.guard(), contextlib.closing(folder):
        run.ranks.first_does(lambda: folder.open() and None)
        return run.train(run.beginning(settings, resume, overwrite, shown), shown)
