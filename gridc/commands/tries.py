"""``gridc schedule --try``: a grid under several schedules, on paper and, where it is asked for, run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gridc import plain_text
from gridc.errors import UsageError
from gridc.insight import tries
from gridc.insight.timing import Timing
from gridc.scheduling.check import asked

if TYPE_CHECKING:
    from gridc.language.spec import GridSpec

OWN = "the page's own"
ROUNDS, LEAST = 15, 0.25
"""Training steps of each schedule at least, taken in turns, and seconds of all of them together."""


def compared(plan: Timing, batch: int, wanted: Sequence[str], measure: bool, as_json: bool) -> str:
    """Put schedules side by side: the page's own, then each that is ``wanted``; timed in turns to ``measure``.

    Raises UsageError for one that the dependences forbid."""
    specs = {OWN: plan.spec, **{text: asked(plan.spec, text) for text in wanted}}
    found = [tries.on_paper(Timing(spec, plan.sizes), batch, text) for text, spec in specs.items()]
    if measure:
        seconds = _measured([_step(spec, plan.sizes, batch) for spec in specs.values()])
        found = [tries.timed(one, each) for one, each in zip(found, seconds, strict=True)]
    if as_json:
        pages = {"name": plan.spec.name, "sizes": plan.sizes, "batch": batch, "tries": [one.plain() for one in found]}
        return json.dumps(pages, indent=2, ensure_ascii=False)
    sizes = plain_text.sizes((d.name, n) for d, n in zip(plan.spec.dimensions, plan.sizes, strict=True))
    return tries.table(plan.spec.name, sizes, batch, found)


def _measured(steps: Sequence[Callable[[], Any]]) -> list[float]:
    """Time steps in turns; of each the median, so that a busy moment of the machine falls on all alike."""
    for step in steps:
        step()
    times: list[list[float]] = [[] for _ in steps]
    start = time.perf_counter()
    while len(times[0]) < ROUNDS or time.perf_counter() - start < LEAST * len(steps):
        for step, own in zip(steps, times, strict=True):
            began = time.perf_counter()
            step()
            own.append(time.perf_counter() - began)
    return [float(np.median(own)) for own in times]


def _step(spec: GridSpec, sizes: tuple[int, ...], batch: int) -> Callable[[], Any]:
    """Make a training step on numbers drawn for these sizes."""
    import gridc

    if not spec.inputs or not spec.outputs:
        raise UsageError(f"the spec '{spec.name}' has no {'inputs' if not spec.inputs else 'outputs'}, so nothing can be timed")
    grid = gridc.compile(spec, lowering="fused", eager=False)
    generator = np.random.default_rng(0)
    inputs = _inputs(spec, sizes, batch, generator)
    targets = _targets(spec, sizes, batch, generator)
    return lambda: grid.loss_and_gradients(inputs, targets)


def _inputs(spec: GridSpec, sizes: tuple[int, ...], batch: int, generator: np.random.Generator) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for name, x in spec.inputs.items():
        shape = (batch, *(sizes[d] for d in x.over))
        real = x.kind == "features"
        found[name] = generator.standard_normal((*shape, x.size), np.float32) if real else generator.integers(x.size, size=shape)
    return found


def _targets(spec: GridSpec, sizes: tuple[int, ...], batch: int, generator: np.random.Generator) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for name, o in spec.outputs.items():
        shape = (batch, *(sizes[d] for d in o.axes))
        if o.kind in ("classes", "binary"):
            found[name] = generator.integers(2 if o.kind == "binary" else o.size, size=shape)
        else:
            found[name] = generator.standard_normal((*shape, o.size), np.float32)
    return found

