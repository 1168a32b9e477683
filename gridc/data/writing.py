"""Writing with a language model: each symbol is drawn from what the grid predicts after those before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from gridc.arrays.conversion import Array
from gridc.errors import UsageError
from gridc.language.spec import GridSpec, Input, Output


class Predicts(Protocol):
    """The part of a grid that writes."""

    spec: GridSpec

    def predict(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """``Grid.predict``."""
        ...

    def stream(self, along: str | None = None) -> Callable[[Mapping[str, Any]], dict[str, Array]]:
        """``Grid.stream``: UsageError where the grid cannot be run piece by piece."""
        ...


def ends(spec: GridSpec) -> tuple[Input, Output]:
    """Find a language model's input and output: one sequence of ids, and a class for each of them; UsageError for others."""
    inputs = [x for x in spec.inputs.values() if x.kind == "vocabulary" and len(x.over) == 1]
    outputs = [o for o in spec.outputs.values() if o.kind == "classes" and inputs and o.axes == inputs[0].over]
    if len(spec.inputs) != 1 or not outputs:
        raise UsageError(f"'{spec.name}' is no language model: it needs one sequence of ids in and a class for each out.")
    return inputs[0], outputs[0]


def write(
    grid: Predicts, prompt: Sequence[int], count: int, *, temperature: float, seed: int, window: int, below: int
) -> Iterator[int]:
    """Draw ``count`` ids after a prompt of at least one, all ``below`` that number, one at a time.

    ``temperature`` under 1 makes likely symbols likelier, and 0 always takes the likeliest.  Each id is drawn after all before
    it: a prompt and text longer than ``window`` are fed as a stream, or, to a grid that cannot be one, the last ``window`` ids.
    Raises UsageError where the grid is no language model."""
    x, output = ends(grid.spec)
    if not temperature >= 0:
        raise UsageError(f"'temperature' is {temperature!r}, expected a number from 0.")
    generator = np.random.default_rng(seed)
    text = [int(symbol) for symbol in prompt]
    long = len(text) + count > window
    stream = _stream(grid, x) if long else None
    new = text
    for _ in range(count):
        predicted = grid.predict({x.name: [text[-window:]]}) if stream is None else stream({x.name: [new]})
        text.append(_drawn(predicted[output.name][0, -1, :below].astype(np.float64), temperature, generator))
        new = text[-1:]
        yield text[-1]


def _stream(grid: Predicts, x: Input) -> Callable[[Mapping[str, Any]], dict[str, Array]] | None:
    """Make a function that reads the next symbols after all that it has read; None where the grid must see all at once."""
    try:
        return grid.stream(grid.spec.dimensions[x.over[0]].name)
    except UsageError:
        return None


def _drawn(p: Array, temperature: float, generator: np.random.Generator) -> int:
    """One id, drawn from the probabilities ``[ids]``, float64."""
    if temperature == 0:
        return int(p.argmax())
    logits = np.log(np.maximum(p, 1e-30))
    # The largest is taken off first: however small the temperature, 0 stays 0 and the others go to no less than -infinity.
    with np.errstate(over="ignore"):
        weights = np.exp((logits - logits.max()) / temperature)
    return int(generator.choice(len(p), p=weights / weights.sum()))
