"""Learning-rate schedules: a table of functions from the number of steps done to the learning rate.

Names, options and values are optax's (0.2).  Two things are ours: where a rate is left out it is the optimiser's own
``learning_rate`` (warm-ups start from 0), and where a number of steps is left out it is that of the whole training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gridc.errors import UsageError, listed, nearest
from gridc.options import Option, checked

Schedule = Callable[[int], float]
"""``schedule(steps done) -> learning rate``."""


@dataclass(frozen=True)
class Row:
    """One schedule: its options, which of them default to the optimiser's rate and to the training's steps."""

    name: str
    options: tuple[Option, ...]
    make: Callable[[Mapping[str, Any]], Schedule]
    rates: tuple[str, ...]
    steps: tuple[str, ...]
    help: str


def _linear(first: float, last: float, steps: int, begin: int = 0, power: float = 1.0) -> Schedule:
    """``optax.polynomial_schedule``; power 1 is ``optax.linear_schedule``."""
    if steps <= 0:
        return lambda count: first

    def rate(count: int) -> float:
        share = 1.0 - min(max(count - max(begin, 0), 0), steps) / steps
        return (first - last) * share**power + last

    return rate


def _exponential(o: Mapping[str, Any], first: float) -> Schedule:
    """``optax.exponential_decay``."""

    def rate(count: int) -> float:
        past = count - max(o["transition_begin"], 0)
        if past <= 0:
            return first
        share = past / o["transition_steps"]
        value = first * o["decay_rate"] ** (math.floor(share) if o["staircase"] else share)
        if o["end_value"] is None:
            return value
        return max(value, o["end_value"]) if o["decay_rate"] < 1 else min(value, o["end_value"])

    return rate


def _cosine(first: float, steps: int, alpha: float, exponent: float) -> Schedule:
    """``optax.cosine_decay_schedule``; Loshchilov and Hutter 2017."""

    def rate(count: int) -> float:
        share = 0.5 * (1.0 + math.cos(math.pi * min(count, steps) / steps))
        return first * ((1.0 - alpha) * share**exponent + alpha)

    return rate


def _joined(first: Schedule, second: Schedule, boundary: int) -> Schedule:
    """``optax.join_schedules`` of two."""
    return lambda count: first(count) if count < boundary else second(count - boundary)


def _warmup_cosine(o: Mapping[str, Any]) -> Schedule:
    peak, warm, steps = o["peak_value"], o["warmup_steps"], o["decay_steps"]
    if steps <= warm:
        raise UsageError(
            f"Schedule 'warmup_cosine_decay_schedule': 'decay_steps' is {steps}, which includes the warm-up, "
            f"expected more than the {warm} of 'warmup_steps'.")  # fmt: skip
    alpha = o["end_value"] / peak if peak else 0.0
    return _joined(
        _linear(o["init_value"], peak, warm), _cosine(peak, steps - warm, alpha, o["exponent"]), warm)  # fmt: skip


def _steps_at(o: Mapping[str, Any]) -> Schedule:
    """``optax.piecewise_constant_schedule``."""
    given: Mapping[int, float] = o["boundaries_and_scales"] or {}
    factors = sorted(given.items())
    return lambda count: o["init_value"] * math.prod(scale for step, scale in factors if count >= step)


def _rate(name: str, text: str, default: float | None = None) -> Option:
    return Option(name, "float", default, text, low=0, optional=default is None)


def _count(name: str, text: str) -> Option:
    return Option(name, "int", None, text, low=1, optional=True)


_INIT = _rate("init_value", "the rate at the start (default: the optimizer's learning_rate)")
_PEAK = _rate("peak_value", "the rate after the warm-up (default: the optimizer's learning_rate)")
_FROM_ZERO = _rate("init_value", "the rate at the start", 0.0)
_WARM = Option("warmup_steps", "int", 100, "steps of the warm-up", low=1)
_TRANSITION = _count("transition_steps", "steps of the change (default: the whole training)")
_BEGIN = Option("transition_begin", "int", 0, "steps before the change begins", low=0)
_EXPONENT = Option("exponent", "float", 1.0, "power of the cosine", low=0)
_DECAY = (
    Option("decay_rate", "float", 0.1, "the factor over transition_steps", low=1e-30),
    _BEGIN,
    Option("staircase", "bool", False, "whether the rate falls in steps"),
    _rate("end_value", "where the rate stops"),
)

SCHEDULES: Mapping[str, Row] = {
    row.name: row
    for row in (
        Row("constant_schedule", (_rate("value", "the rate (default: the optimizer's learning_rate)"),),
            lambda o: lambda count: o["value"], ("value",), (), "the same rate throughout"),
        Row("linear_schedule", (_INIT, _rate("end_value", "the rate at the end", 0.0), _TRANSITION, _BEGIN),
            lambda o: _linear(o["init_value"], o["end_value"], o["transition_steps"], o["transition_begin"]),
            ("init_value",), ("transition_steps",), "a straight line from one rate to another"),
        Row("polynomial_schedule",
            (_INIT, _rate("end_value", "the rate at the end", 0.0),
             Option("power", "float", 1.0, "power of the line", low=0), _TRANSITION, _BEGIN),
            lambda o: _linear(o["init_value"], o["end_value"], o["transition_steps"], o["transition_begin"], o["power"]),
            ("init_value",), ("transition_steps",), "a power of the straight line"),
        Row("exponential_decay", (_INIT, _TRANSITION, *_DECAY),
            lambda o: _exponential(o, o["init_value"]),
            ("init_value",), ("transition_steps",), "decay_rate times smaller every transition_steps"),
        Row("cosine_decay_schedule",
            (_INIT, _count("decay_steps", "steps of the decay (default: the whole training)"),
             Option("alpha", "float", 0.0, "share of the rate that is left at the end", low=0), _EXPONENT),
            lambda o: _cosine(o["init_value"], o["decay_steps"], o["alpha"], o["exponent"]),
            ("init_value",), ("decay_steps",), "half a cosine, from the rate to a share of it"),
        Row("piecewise_constant_schedule",
            (_INIT, Option("boundaries_and_scales", "steps", None, "the factor at each step", optional=True)),
            _steps_at, ("init_value",), (), "multiplied by a factor at each of the given steps"),
        Row("warmup_constant_schedule", (_FROM_ZERO, _PEAK, _WARM),
            lambda o: _linear(o["init_value"], o["peak_value"], o["warmup_steps"]),
            ("peak_value",), (), "a straight line up, then constant"),
        Row("warmup_cosine_decay_schedule",
            (_FROM_ZERO, _PEAK, _WARM, _count("decay_steps", "steps in all, warm-up included (default: the training)"),
             _rate("end_value", "the rate at the end", 0.0), _EXPONENT),
            _warmup_cosine, ("peak_value",), ("decay_steps",), "a straight line up, then half a cosine down"),
        Row("warmup_exponential_decay_schedule", (_FROM_ZERO, _PEAK, _WARM, _TRANSITION, *_DECAY),
            lambda o: _joined(_linear(o["init_value"], o["peak_value"], o["warmup_steps"]),
                              _exponential(o, o["peak_value"]), o["warmup_steps"]),
            ("peak_value",), ("transition_steps",), "a straight line up, then exponential decay"),
    )
}  # fmt: skip


def schedule(name: str, *, learning_rate: float, steps: int | None = None, **options: Any) -> Schedule:
    """Make the schedule of that name; ``learning_rate`` and ``steps`` (of the whole training) stand in where none is given.

    UsageError for a name or option that the table does not have, or where the number of steps is not known.
    """
    if name not in SCHEDULES:
        raise UsageError(f"There is no schedule '{name}', expected {listed(SCHEDULES)}{nearest(name, SCHEDULES)}")
    row = SCHEDULES[name]
    values = checked(f"Schedule '{name}'", row.options, options)
    for option in row.rates:
        if values[option] is None:
            values[option] = learning_rate
    for option in row.steps:
        if values[option] is None:
            if steps is None:
                raise UsageError(
                    f"Schedule '{name}' needs '{option}', since the training's number of steps is not known "
                    "beforehand; give it, or a budget of epochs, samples or steps.")  # fmt: skip
            values[option] = steps
    return row.make(values)
