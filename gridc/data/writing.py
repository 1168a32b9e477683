"""Writing with a language model: each symbol is drawn from what the grid predicts after those before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from gridc.arrays.dataset import Array
from gridc.errors import UsageError
from gridc.language.spec import GridSpec


class Predicts(Protocol):
    """The part of a grid that writes."""

    spec: GridSpec

    def predict(self, inputs: Any) -> dict[str, Array]: ...


def sample(
    grid: Predicts, prompt: Sequence[int] | Array, count: int, *, temperature: float = 1.0, seed: int = 0, context: int = 100
) -> Iterator[int]:
    """``count`` ids after a prompt, one at a time.

    ``temperature`` below 1 makes likely symbols likelier, and 0 always takes the likeliest.  The grid sees the last ``context``
    ids.  Raises UsageError where the grid is no language model or the prompt is empty."""
    given, output = _ends(grid.spec)
    if temperature < 0:
        raise UsageError(f"found the temperature {temperature:g}; expected a number from 0")
    written = [int(i) for i in prompt]
    if not written:
        raise UsageError("the prompt is empty; expected at least one symbol to go on from")
    generator = np.random.default_rng(seed)
    for _ in range(count):
        p = grid.predict({given: np.array([written[-context:]], np.int64)})[output][0, -1].astype(np.float64)
        written.append(_drawn(p, temperature, generator))
        yield written[-1]


def _ends(spec: GridSpec) -> tuple[str, str]:
    """The input and the output of a language model: one sequence of ids, and a class for each of them."""
    inputs = [i for i in spec.inputs.values() if i.kind == "vocabulary" and len(i.over) == 1]
    outputs = [o for o in spec.outputs.values() if o.kind == "classes" and len(o.axes) == 1]
    if len(spec.inputs) != 1 or not inputs or not outputs or inputs[0].over != outputs[0].axes:
        raise UsageError(f"'{spec.name}' is no language model: it needs one sequence of ids in and a class for each out")
    return inputs[0].name, outputs[0].name


def _drawn(p: Array, temperature: float, generator: np.random.Generator) -> int:
    if temperature == 0:
        return int(p.argmax())
    logits = np.log(np.maximum(p, 1e-30)) / temperature
    weights = np.exp(logits - logits.max())
    return int(generator.choice(len(p), p=weights / weights.sum()))
