"""What ``fit`` makes of its arguments: batches, an optimiser, a budget in steps, weights of outputs and classes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from gridc.arrays.axes import counted, valid
from gridc.arrays.dataset import Array, Dataset
from gridc.data.fitting import as_dataset, for_spec
from gridc.data.mini_batches import Batches, Shuffled, Streamed
from gridc.data.weights import spread
from gridc.errors import DataError, UsageError, listed, nearest
from gridc.language.spec import GridSpec
from gridc.options import plain
from gridc.tables.learning_rates import schedule as schedule_of
from gridc.tables.training_block import Beginning, Budget, Training
from gridc.training.optimizers import Optimizer
from gridc.training.optimizers import optimizer as optimizer_of
from gridc.training.ranks import Share

Examples = Dataset | tuple[Any, ...] | Iterable[Any]
Named = str | Mapping[str, Mapping[str, Any] | None]
"""A row of a table: its name, or its name with options."""
B = TypeVar("B", bound=BaseModel)


def block(kind: type[B], name: str, value: B | Mapping[str, Any]) -> B:
    """Make the block of a spec that a mapping stands for; UsageError where it has other keys or types."""
    if isinstance(value, kind):
        return value
    try:
        return kind.model_validate(plain(value))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = kind.model_fields
            offer = nearest(key, known) or f"; it takes {listed(known)}"
            raise UsageError(f"'{name}' has no '{key}'{offer}") from None
        title = kind.model_fields[key].title if key in kind.model_fields else f"a mapping of {listed(kind.model_fields)}"
        what = f"'{name}': '{key}'" if key else f"'{name}'"
        raise UsageError(f"{what} is {first['input']!r}, expected {title}.") from None


def arguments(**given: Any) -> dict[str, Any]:
    """Give them with Python's own numbers; UsageError where one is not what the training block's key of its name takes, or is no
    truth value and has no key there."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        field = Training.model_fields.get(name)
        kind: Any = bool if field is None else Annotated[field.annotation, field]
        config = ConfigDict(strict=True, allow_inf_nan=False)
        try:
            found[name] = TypeAdapter(kind, config=config).validate_python(plain(value))
        except ValidationError:
            raise UsageError(f"'{name}' is {value!r}, expected {field.title if field else 'true or false'}.") from None
    return found


def batches(examples: Examples, spec: GridSpec, size: int, seed: int, shuffle: bool) -> Batches:
    """Mini-batches of a data set, or those that an iterable gives."""
    if isinstance(examples, Iterable) and not isinstance(examples, tuple | str | Mapping):
        return Streamed(examples, spec)
    data = for_spec(as_dataset(examples, spec), spec)
    if not data.targets and spec.outputs:
        raise DataError(f"There are no targets to train on, expected {listed(spec.outputs, 'and')}.")
    return Shuffled(data, size, seed, shuffle)


def steps_of(budget: Budget, source: Batches, batch: int) -> int | None:
    """How many updates the budget allows; None where only time or the examples' end limits them."""
    limits: list[int] = []
    if budget.steps is not None:
        limits.append(budget.steps)
    if budget.samples is not None:
        if source.examples is not None and source.steps is not None:
            epochs, rest = divmod(budget.samples, source.examples)
            limits.append(epochs * source.steps + -(-rest // batch))
        else:
            limits.append(-(-budget.samples // batch))
    if budget.epochs is not None and math.isfinite(budget.epochs) and source.steps is not None:
        limits.append(math.ceil(budget.epochs * source.steps))
    return min(limits, default=None)


def linear_steps(start: Beginning, source: Batches, batch: int) -> int:
    """How many updates a linear start has; UsageError where it counts epochs, whose length nobody knows."""
    if start == Beginning():
        return 0
    steps = steps_of(Budget(epochs=start.epochs, samples=start.samples, steps=start.steps), source, batch)
    if steps is None:
        raise UsageError("'linear_start' counts epochs, and nobody knows how long one is where mini-batches are given one by "
                         "one; expected samples or steps.")  # fmt: skip
    return steps


def made_optimizer(
    named: Named | Optimizer, schedule: Named | None, clip: float | None, steps: int | None
) -> Optimizer:
    """Make the optimiser with its schedule, whose steps are those of the training where it does not say."""
    if isinstance(named, Optimizer):
        if schedule is not None or clip is not None:
            raise UsageError("A ready Optimizer brings its own schedule and clipping: give them to the call that made it.")
        return named
    name, options = row("optimizer", named)
    plan = optimizer_of(name, clip=clip, **options)
    if schedule is not None:
        name, options = row("schedule", schedule)
        plan.schedule = schedule_of(name, learning_rate=plan.options["learning_rate"], steps=steps, **options)
    return plan


def row(what: str, named: Named) -> tuple[str, dict[str, Any]]:
    """Read the name and the options of a row: ``adam`` or ``{adam: {b1: 0.8}}``."""
    if isinstance(named, str):
        return named, {}
    if not isinstance(named, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may be untyped
        raise UsageError(f"'{what}' is {named!r}, expected a name, or {{NAME: {{OPTION: VALUE}}}}.")
    if len(named) != 1:
        raise UsageError(f"'{what}' names {listed(named, 'and') or 'nothing'}, expected one name with its options.")
    name, options = next(iter(named.items()))
    if not isinstance(options, Mapping | None):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may be untyped
        raise UsageError(f"'{what}' gives '{name}' {options!r}, expected a mapping of its options.")
    return name, dict(plain(options or {}))


def known_outputs(what: str, spec: GridSpec, names: Iterable[str]) -> None:
    """UsageError where a name is no output of the spec."""
    for name in names:
        if name not in spec.outputs:
            raise UsageError(f"'{what}' names '{name}', which is no output of '{spec.name}', expected "
                             f"{listed(spec.outputs)}{nearest(name, spec.outputs)}")  # fmt: skip


class Weights:
    """What each output's loss counts, and each class of it."""

    def __init__(
        self, outputs: Mapping[str, float], classes: Mapping[str, Any], source: Batches, spec: GridSpec
    ):
        known_outputs("weights", spec, outputs)
        known_outputs("class_weights", spec, classes)
        self.outputs = {name: float(outputs.get(name, 1.0)) for name in spec.outputs}
        self.classes = {name: _classes(name, given, source, spec) for name, given in classes.items()}
        self.plain = not outputs and not classes
        self.axes = {name: len(output.axes) for name, output in spec.outputs.items()}

    def of(self, part: Dataset, shares: Mapping[str, float] | None = None) -> dict[str, Any] | None:
        """Give what the grid takes for one batch: a number for each output, or one for each position of its target; times the
        ``shares`` of a mini-batch's positions that these are, so that ranks' losses add up to the mean over all."""
        if self.plain and not part.weights:
            return None if shares is None else {**shares}
        found: dict[str, Any] = dict(self.outputs)
        for name, classes in self.classes.items():
            found[name] = found[name] * classes[_classed(part, name)]
        for name, own in part.weights.items():
            found[name] = found[name] * spread(own, part.targets[name].shape[: 1 + self.axes[name]])
        return found if shares is None else {name: one * shares[name] for name, one in found.items()}

    def total(self, figures: Mapping[str, Mapping[str, float]]) -> float:
        """Sum up the outputs' losses, each with its weight."""
        return sum(self.outputs[name] * one["loss"] for name, one in figures.items())


def shares(spec: GridSpec, batch: Dataset, share: Share) -> dict[str, float]:
    """Give the part of the positions that each output's loss is a mean over which lies in some examples of a mini-batch."""
    if not share.counts:
        return dict.fromkeys(spec.outputs, 0.0)
    if not batch.lengths and all(one.ignore is None for one in spec.outputs.values()):  # all examples are alike
        return dict.fromkeys(spec.outputs, float(share.rows.stop - share.rows.start) / share.of)
    from gridc.symbolic.read_out import every_output_mask

    extents = np.ones((share.of, len(spec.dimensions)), np.int64)
    for one in spec.inputs.values():
        for d, size in zip(one.over, batch.inputs[one.name].shape[1:], strict=False):
            extents[:, d] = batch.lengths.get(str(spec.dimensions[d].size), size)
    for d, dimension in enumerate(spec.dimensions):
        if isinstance(dimension.size, int):
            extents[:, d] = dimension.size
    sizes = tuple(extents.max(axis=0).tolist())
    parts: dict[str, float] = {}
    for name, mask in zip(spec.outputs, every_output_mask(spec, sizes, share.of, extents), strict=True):
        known = counted(batch.target_axes[name], batch.targets[name][tuple(map(slice, mask.shape))])
        count = (mask if known is None else mask & known).reshape(share.of, -1).sum(axis=1)
        parts[name] = float(count[share.rows].sum()) / max(1.0, float(count.sum()))
    return parts


def _classed(part: Dataset, name: str) -> Array:
    """Give the class at every position of an output's target, 0 where it is ignored."""
    target = part.targets[name].astype(np.int64)
    known = counted(part.target_axes[name], target)
    return target if known is None else np.where(known, target, 0)


def _classes(name: str, given: Any, source: Batches, spec: GridSpec) -> Array:
    """Weigh every class, ``[classes]``; ``balanced`` is places / (classes × places of the class), as scikit-learn's, of those
    within their examples."""
    output = spec.outputs[name]
    if output.kind not in ("classes", "binary"):
        raise UsageError(f"'class_weights' names '{name}', which has no classes.")
    size = output.size if output.kind == "classes" else 2
    if isinstance(given, str):
        if given != "balanced":
            raise UsageError(f"'class_weights' of '{name}' is '{given}', expected 'balanced' or {size} numbers.")
        if not isinstance(source, Shuffled):
            raise UsageError("Balanced class weights need a data set, whose classes can be counted; give the numbers.")
        data, target = source.data, np.asarray(source.data.targets[name])
        within = valid(data.target_axes[name], target, data.lengths)
        counts = np.bincount((target.reshape(-1) if within is None else target[within]).astype(np.int64), minlength=size)
        return counts.sum() / (size * np.maximum(counts, 1)).astype(np.float64)
    weights = np.asarray(given, np.float64)
    if weights.shape != (size,) or not bool(np.all(np.isfinite(weights) & (weights >= 0))):
        raise UsageError(f"'class_weights' of '{name}' is {given!r}, expected 'balanced' or {size} numbers from 0.")
    return weights
