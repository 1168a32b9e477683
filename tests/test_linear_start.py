"""A linear start: memory cells attend without their softmax at first (Sukhbaatar et al. 2015)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gridc
from gridc.errors import DataError, UsageError
from gridc.training.fit import fit

PAGE = """
name: hops
dimensions: {hops: 2}
transforms: {hops: {cell: memory, hidden: 5, attends: facts, embeddings: adjacent, init: {normal: 0.3}ATTENTION}}
inputs:
  facts: {vocabulary: 9, facts: true}
  question: {vocabulary: 9, enters: hops, init: {normal: 0.3}}
outputs: {place: {classes: 3, reads: [hops], at: {hops: last}}}
"""
RATE, BATCH, LINEAR = 0.01, 8, 5
rng = np.random.default_rng(0)
DATA = ({"facts": rng.integers(0, 9, (24, 4, 3)), "question": rng.integers(0, 9, 24)}, {"place": rng.integers(0, 3, 24)})
HELD = ({"facts": rng.integers(0, 9, (10, 4, 3)), "question": rng.integers(0, 9, 10)}, {"place": rng.integers(0, 3, 10)})


def compiled(attention: str, backend: str) -> gridc.Grid:
    return gridc.compile(PAGE.replace("ATTENTION", f", attention: {attention}"), backend, dtype="float64", eager=False)


@pytest.mark.parametrize("backend", ["python", pytest.param("jax", marks=pytest.mark.thorough)])
def test_steps_are_those_of_the_linear_grid_and_then_of_the_grid(backend: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "batch": BATCH, "optimizer": {"adam": {"learning_rate": RATE}}, "linear_start": {"samples": (LINEAR - 1) * BATCH + 3},
        "evaluate": {"steps": 2}, "shuffle": False, "stop": {"patience": 1, "min_delta": 100.0}, "progress": "none",
    }  # fmt: skip
    grid = compiled("softmax", backend)
    history = fit(grid, DATA, HELD, budget={"steps": 20}, **options)
    # Nothing improves so much, and patience begins once the softmax is there.
    assert [record.step for record in history.records] == [2, 4, 6]

    linear, whole = compiled("linear", backend), compiled("softmax", backend)
    parameters = {name: array.copy() for name, array in whole.parameters.items()}
    first, second = ({name: np.zeros_like(array) for name, array in parameters.items()} for _ in range(2))
    losses: list[float] = []
    for step in range(6):
        rows = slice(step % 3 * BATCH, step % 3 * BATCH + BATCH)
        stepped = linear if step < LINEAR else whole
        for name, array in parameters.items():
            stepped.parameters[name] = array
        loss, gradients, _ = stepped.loss_and_gradients(*({name: a[rows] for name, a in part.items()} for part in DATA))
        losses.append(loss)
        for name, gradient in gradients.items():
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            m, v = first[name] / (1 - 0.9 ** (step + 1)), second[name] / (1 - 0.999 ** (step + 1))
            parameters[name] = parameters[name] - RATE * m / (np.sqrt(v) + 1e-8)
        if step % 2:
            for name, array in parameters.items():
                whole.parameters[name] = array
            record = history.records[step // 2]
            assert record.loss == pytest.approx(np.mean(losses[-2:]), rel=1e-9)
            assert record.held_out_loss == pytest.approx(whole.loss(*HELD), rel=1e-9), "with the softmax all the time"

    del options["stop"]
    def begin() -> None:
        for name, array in start.items():
            grid.parameters[name] = array

    start = compiled("softmax", backend).parameters
    begin()
    fit(grid, DATA, budget={"steps": 8}, **options)
    unbroken = {name: array.copy() for name, array in grid.parameters.items()}
    for broken in (3, 5, 7):
        some: Any = {"folder": tmp_path / str(broken), **options}
        begin()
        fit(grid, DATA, budget={"steps": broken}, **some)
        begin()  # a checkpoint says where it stood
        fit(grid, DATA, budget={"steps": 8}, resume=True, **some)
        for name, array in unbroken.items():
            assert np.array_equal(grid.parameters[name], array)
    options |= {"linear_start": {"steps": 4}}
    with pytest.raises(DataError, match="'linear_start' was 5 and is now 4"):
        fit(grid, DATA, budget=3, resume=True, folder=tmp_path / "3", **options)


def test_what_has_no_softmax_has_no_linear_start() -> None:
    with pytest.raises(UsageError, match="'hops' has none that has one"):
        fit(compiled("linear", "python"), DATA, linear_start=2, progress="none")
    with pytest.raises(UsageError, match="'linear_start' counts epochs, and nobody knows"):
        fit(compiled("softmax", "python"), iter([DATA]), linear_start=2, budget={"steps": 3}, progress="none")
    with pytest.raises(UsageError, match="'linear_start' has no 'seconds'"):
        fit(compiled("softmax", "python"), DATA, linear_start={"seconds": 2}, progress="none")


def test_a_page_means_what_it_meant_before_there_was_a_choice() -> None:
    texts = ("", ", attention: softmax", ", attention: linear")
    plain, softmax, linear = (gridc.read(PAGE.replace("ATTENTION", text)) for text in texts)
    assert plain.digest == softmax.digest != linear.digest
