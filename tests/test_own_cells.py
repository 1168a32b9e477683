"""Cells of one's own against their text: kernels as Python, whole grids plain, fused and under JAX, the examples as loops."""

from __future__ import annotations

import ctypes
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gridc
from gridc.fusion import kernels, workspace
from gridc.fusion.workspace import Parameters, Workspace
from gridc.scheduling import passes
from gridc.scheduling.program import BATCH, TransformProgram
from gridc.tables import definitions, rules
from gridc.tables.mechanisms import Cell, Options
from own_cell import FUNCTIONS, OwnCell
from strategies import Case
from strategies_cells import cells, grids_of_own_cells
from test_grid import (
    ROOM,
    TOLERANCE,
    compiled,
    equal_gradients,
    equal_to_differences,
    equal_to_the_oracle,
    in_training,
    plain_shapes,  # noqa: F401  # a fixture
    run_unchanged,
)

SPECS = Path(gridc.__file__).parent.parent / "specs" / "cells"
EXAMPLES = sorted(path.stem for path in SPECS.glob("*.yaml"))
QUICK = settings(deadline=None, max_examples=150, print_blob=True)


def cell_of(words: Mapping[str, Any]) -> Cell:
    return rules.cell(definitions.define("own", words), "own")


# -- kernels, run as the Python that they are written in -----------------------------------------------------------------


def as_python(source: str, dtype: str) -> dict[str, Any]:
    """The kernels of a source as functions of Python, on addresses, number by number."""
    number, of = (ctypes.c_double, np.float64) if dtype == "float64" else (ctypes.c_float, np.float32)

    def peek(like: Any, address: int, j: int, stream: int) -> Any:
        return of(number.from_address(address + j * ctypes.sizeof(number)).value)

    def poke(like: Any, address: int, j: int, value: Any, stream: int) -> None:
        number.from_address(address + j * ctypes.sizeof(number)).value = float(value)

    names: dict[str, Any] = {
        **{name: lambda a, f=f: of(f(a)) for name, f in FUNCTIONS.items()}, "F": of, "peek": peek, "poke": poke,
        "word": lambda t, k: ctypes.c_int64.from_address(int(t) + 8 * int(k)).value, "added": lambda total, term: total + term,
    }  # fmt: skip
    lines = [line for line in source.splitlines() if not line.startswith(("import", "from", "@", "F = "))]
    exec(compile("\n".join(lines), "<kernels>", "exec"), names)
    return names


def kernels_agree(words: Mapping[str, Any], n: int, dtype: str, seed: int) -> None:
    """A cell's kernels, run in Python, against its text; the adjoint against differences along random directions."""
    cell, own, random, hidden, rows, boundary = cell_of(words), OwnCell(words, n), np.random.default_rng(seed), 3, 3, 4
    assert (cell.memory, cell.uses_hidden, cell.gates(n)) == (own.keeps_memory, own.uses_hidden, tuple(own.names("gates")))
    entering = tuple(random.integers(rows, rows + boundary, rows) for _ in range(n))
    gates, vectors = len(own.places("gates")), len(own.places("vectors"))
    ends = np.array([0, 1, rows])
    transform = TransformProgram(cell, Options(), n, hidden, gates, (), (), rows, boundary, (), entering, (), ends)
    steps = np.array([(0, 0, 1, 0), (0, 1, rows, 1)], BATCH)
    work = Workspace(passes.assemble((transform,), steps, np.zeros((0, 3), np.int64)), dtype)
    draw = lambda *shape: random.normal(size=shape).astype(dtype).astype(float)  # noqa: E731
    a, b, h, m, p = (draw(rows, gates * hidden), draw(2, gates * hidden), draw(rows + boundary, hidden),
                     draw(rows + boundary, hidden), draw(2, vectors * hidden))  # fmt: skip
    slopes = draw(rows, hidden), draw(rows, hidden)
    which = np.array([0] + [1] * (rows - 1))

    def value(a: Any, b: Any, h: Any, m: Any, p: Any) -> Any:
        columns = np.split(a + b[which], gates, axis=-1)
        named = dict(zip(own.names("vectors"), np.split(p[which], max(1, vectors), axis=-1), strict=False))
        return own.step(columns, h[entering[0]], [m[e] for e in entering], named)

    def loss(*arrays: Any) -> float:
        made = value(*arrays)
        return sum(float((new * slope).sum()) for new, slope in zip(made, slopes, strict=True) if new is not None)

    parameters = Parameters([np.zeros((2, 0, gates * hidden), dtype)], [b.astype(dtype)], [p.astype(dtype) if vectors else None])
    out = Parameters(parameters.w, [np.zeros_like(b, dtype)], [np.zeros_like(p, dtype) if vectors else None])
    work.h[0][:], work.g[0][:] = h, a
    if own.keeps_memory:
        work.m[0][:] = m
    tables = work.tables(parameters, out)
    record, run = tables.records[0].ctypes.data, as_python(kernels.source(cell, Options(), n, dtype), dtype)
    for step in steps:
        run["forward"](record, int(step["first"]), int(step["end"]), int(step["weight"]))
    tolerance = 1e-10 if dtype == "float64" else 2e-4
    expected = value(a, b, h, m, p)
    np.testing.assert_allclose(work.h[0][:rows], expected[0], rtol=tolerance, atol=tolerance)
    if own.keeps_memory:
        np.testing.assert_allclose(work.m[0][:rows], expected[1], rtol=tolerance, atol=tolerance)
    work.clear_gradients()
    work.dh[0][:rows] = slopes[0]
    if own.keeps_memory:
        work.dm[0][:rows] = slopes[1]
    for step in steps[::-1]:
        run["adjoint"](record, int(step["first"]), int(step["end"]), int(step["weight"]))
    found = [work.g[0], out.b[0], work.dh[0][rows:], work.dm[0][rows:] if own.keeps_memory else None, out.p[0]]
    for k, got in enumerate(found):
        if got is None:
            continue
        direction, arrays = np.zeros_like((a, b, h, m, p)[k]), [a, b, h, m, p]
        target = direction[rows:] if k in (2, 3) else direction
        target[:] = random.normal(size=target.shape)
        moved = {by: loss(*(x + by * direction if i == k else x for i, x in enumerate(arrays)))
                 for by in (2e-6, 1e-6, -1e-6, -2e-6)}  # fmt: skip
        slope, wide = ((moved[by] - moved[-by]) / (2 * by) for by in (1e-6, 2e-6))
        if abs(slope - wide) > 1e-4 * (1 + abs(slope)):  # where, max or abs has a step or an edge between
            continue
        close = 2e-5 if dtype == "float64" else 2e-3
        assert np.sum(got * target) == pytest.approx(slope, rel=close, abs=close)


LAYER_NORM = {"gates": {"u": "sigmoid", "f": "sigmoid", "o": "sigmoid", "c": "tanh"}, "vectors": {"gain": 1.0, "shift": 0.0},
              "memory": "f*m + u*c", "hidden": "o * tanh(gain*norm(memory) + shift)"}  # fmt: skip
NESTED = {"gates": {"a": "norm", "g": "softplus"}, "hidden": "norm(a*norm(g + h)) - norm(h)*g", "memory": "norm(m*a)"}


@pytest.fixture(autouse=True)
def _uncompiled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "python" in request.node.name:
        nothing = types.SimpleNamespace(address=0)
        monkeypatch.setattr(workspace.kernels, "load", lambda *_: (nothing, nothing))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@QUICK
@given(st.data(), st.sampled_from([1, 1, 2, 3]), st.integers(0, 2**16))
def test_random_kernels_as_python(dtype: str, data: st.DataObject, n: int, seed: int) -> None:
    kernels_agree(data.draw(cells(several=n > 1)), n, dtype, seed)


@pytest.mark.parametrize("words", [LAYER_NORM, NESTED], ids=["layer-norm", "norms within norms"])
def test_means_over_units_as_python(words: dict[str, Any]) -> None:
    for seed in range(3):
        kernels_agree(words, 1, "float64", seed)


# -- random grids ----------------------------------------------------------------------------------------------------------


def has_own(case: Case) -> bool:
    return bool(case.spec["cells"])


@pytest.mark.usefixtures("plain_shapes")
@settings(ROOM, max_examples=4)
@given(case=grids_of_own_cells().filter(has_own), seed=st.integers(0, 2**32 - 1))
def test_random_grids_plain(case: Case, seed: int) -> None:
    found = run_unchanged(case, "float64")
    equal_to_the_oracle(case, found, TOLERANCE["float64"])
    equal_to_differences(case, found[2], seed)


@pytest.mark.usefixtures("plain_shapes")
@settings(ROOM, max_examples=3)
@given(case=grids_of_own_cells().filter(has_own))
def test_random_grids_fused(case: Case) -> None:
    plain, fused = run_unchanged(case, "float64"), in_training(case, compiled(case, "fused", "float64"))
    equal_to_the_oracle(case, fused, TOLERANCE["float64"])
    equal_gradients(fused[2], plain[2], 1e-9, 1e-10)
