"""Gradients and predictions where freed memory is another thread's at once: ``test_one_arena.py`` sets the environment.

glibc gives each thread an arena, in which what one thread freed too early lies untouched for a while.  Other allocators do not,
and neither do containers that set ``MALLOC_ARENA_MAX``.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gridc
from gridc.benchmarks.cases import Case
from gridc.scheduling.threads import ALONE, BEHIND, Sharing
from gridc.symbolic import backends

backends.prepare()
import test_grid  # noqa: E402  # hypothesis notices if PyTensor, which raises the recursion limit, comes in the middle of a test
from sharing import WAYS, share, sharings  # noqa: E402
from strategies import Case as Drawn  # noqa: E402
from strategies import grids  # noqa: E402

REPEATS, RANDOM = (6, 12) if test_grid.EXAMPLES <= 200 else (20, test_grid.EXAMPLES // 4)
FAR = {"float32": 2e-5, "float64": 1e-12}
"""Of the largest gradient: the sums are long, and made in another order where threads share them."""
S1 = Case("S1", "grid", (6, 4), 128, 32)
UNTIED = Case("S1-untied", "grid", (6, 4), 128, 32, untied=True)
NARROW = Case("narrow", "grid", (9, 3), 19, 7)
"""Its gates are no whole number of panels."""
ONE = Case("one", "grid", (3, 1), 256, 8)
"""All rows of its depth are one product, whose weights are packed a part at a time."""
Gradients = dict[str, np.ndarray]


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sharing], None]:
    """``share`` until the test ends."""
    return functools.partial(share, monkeypatch)


def drawn_grid(case: Case, dtype: Any, **options: Any) -> gridc.Grid:
    """Always with the same parameters."""
    grid, draw = case.grid(dtype=dtype, **options), np.random.default_rng(1)
    for name, array in grid.parameters.items():
        grid.parameters[name] = 0.1 * draw.normal(size=array.shape)
    return grid


def gradients(case: Case, dtype: Any, **options: Any) -> Callable[[], Gradients]:
    grid, (x, y) = drawn_grid(case, dtype, **options), case.data()
    return lambda: grid.gradients({"x": x}, {"y": y})


def equal(found: Gradients, known: Gradients, far: float) -> None:
    for name, array in known.items():
        off = float(np.abs(found[name] - array).max() / np.abs(array).max())
        assert off < far, f"{name} is off by {off:.1e} of its largest number"


@pytest.mark.parametrize("case", [S1, UNTIED, NARROW, ONE], ids=lambda case: case.name)
def test_what_the_others_are_held_against_is_the_slope_of_the_loss(case: Case, shared: Any) -> None:
    shared(ALONE)
    known = gradients(case, "float64")()
    grid, (x, y), draw = drawn_grid(case, "float64"), case.data(), np.random.default_rng(2)
    for name, array in {name: np.array(array) for name, array in grid.parameters.items()}.items():
        along = np.sign(known[name]) * draw.random(array.shape)
        losses = []
        for side in (1, -1):
            grid.parameters[name] = array + side * 1e-5 * along
            losses.append(grid.loss({"x": x}, {"y": y}))
        grid.parameters[name] = array
        assert (known[name] * along).sum() == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-6), name


@pytest.mark.parametrize("dtype", FAR)
@pytest.mark.parametrize("case", [S1, UNTIED, NARROW, ONE], ids=lambda case: case.name)
@pytest.mark.parametrize("sharing", [ALONE, BEHIND, *(Sharing(w, n) for w in WAYS for n in (2, 3, 5))], ids=str)
def test_every_step_is_right(case: Case, sharing: Sharing, dtype: str, shared: Any) -> None:
    shared(ALONE)
    known = gradients(case, "float64")()
    shared(sharing)
    step = gradients(case, dtype)
    for _ in range(REPEATS):
        equal(step(), known, FAR[dtype])


@pytest.mark.parametrize("dtype", FAR)
@pytest.mark.parametrize("sharing", [ALONE, Sharing("examples", 2), Sharing("wavefront", 3)], ids=str)
def test_every_step_that_computes_again_is_right(sharing: Sharing, dtype: str, shared: Any) -> None:
    shared(ALONE)
    known = gradients(S1, "float64")()
    shared(sharing)
    step = gradients(S1, dtype, recompute=True)
    for _ in range(REPEATS):
        equal(step(), known, FAR[dtype])


@pytest.mark.parametrize("dtype", FAR)
@pytest.mark.parametrize("sharing", [ALONE, BEHIND, Sharing("examples", 2), Sharing("wavefront", 2)], ids=str)
def test_callers_in_several_threads_are_right(sharing: Sharing, dtype: str, shared: Any) -> None:
    shared(ALONE)
    known = [gradients(case, "float64")() for case in (S1, UNTIED, S1)]
    shared(sharing)
    steps = [gradients(case, dtype) for case in (S1, UNTIED, S1)]
    wrong: list[AssertionError] = []

    def call(step: Callable[[], Gradients], expected: Gradients) -> None:
        for _ in range(REPEATS // 2):
            try:
                equal(step(), expected, FAR[dtype])
            except AssertionError as error:
                wrong.append(error)

    callers = [threading.Thread(target=call, args=pair) for pair in zip(steps, known, strict=True)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong, wrong[0]


@pytest.mark.parametrize("dtype", FAR)
@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=RANDOM, print_blob=True)
@given(drawn=grids(), sharing=sharings(), again=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_random_grids_are_right(drawn: Drawn, sharing: Sharing, again: bool, seed: int, dtype: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        share(patch, sharing)
        grid = gridc.compile(drawn.text, lowering="fused", dtype=dtype, eager=False, recompute=again)
        for name, array in drawn.parameters.items():
            grid.parameters[name] = array
        for _ in range(2):  # the second time in buffers that come again, and are looked at
            loss, slopes, outputs = grid.loss_and_gradients(drawn.inputs, drawn.targets, drawn.lengths)
            test_grid.equal_to_the_oracle(drawn, (loss, outputs, slopes), test_grid.TOLERANCE[dtype])
        predicted = grid.predict(drawn.inputs, drawn.lengths)
        test_grid.equal_to_the_oracle(drawn, (loss, predicted, slopes), test_grid.TOLERANCE[dtype])
        if dtype == "float64":
            test_grid.equal_to_differences(drawn, slopes, seed)
