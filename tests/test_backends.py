"""Every backend that is installed gives the same numbers; the graph is ordinary PyTensor; the table of backends is honest."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

import gridc
from gridc.fusion import blas
from gridc.symbolic import backends
from gridc.symbolic.backends import BACKENDS

SPEC = """
name: backends
dimensions: {time: T, depth: 2}
transforms:
  depth: {cell: lstm, hidden: 3, start: learned}
  time: {cell: gru, hidden: 2, tied: [time], direction: {over: depth, cycle: [forward, backward]}}
priority: [depth, time]
inputs:
  tokens: {vocabulary: 5, enters: depth}
  x: {features: 2, joins: [time], at: {depth: first}}
outputs:
  label: {classes: 3, reads: [time, depth.memory], at: {time: last, depth: last}}
  each: {features: 2, reads: [time], at: {depth: last}}
"""


def example(batch: int, length: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    r = np.random.default_rng(batch)
    inputs = {"tokens": r.integers(0, 5, (batch, length)), "x": r.normal(size=(batch, length, 2))}
    targets = {"label": r.integers(0, 3, batch), "each": r.normal(size=(batch, length, 2))}
    return inputs, targets, {"T": r.integers(1, length + 1, batch)}


ROWS = [
    ("python", "plain"),
    ("jax", "plain"),
    ("jax", "fused"),
    pytest.param("c", "fused", marks=pytest.mark.thorough),
    pytest.param("c", "plain", marks=pytest.mark.thorough),
    pytest.param("numba", "fused", marks=pytest.mark.thorough),
]


@pytest.mark.filterwarnings("ignore")  # each linker warns in its own way about what it cannot do as fast
@pytest.mark.parametrize("dtype", [pytest.param("float32", id="single"), pytest.param("float64", id="double")])
@pytest.mark.parametrize(("backend", "lowering"), ROWS)
def test_every_backend_gives_the_same_numbers(backend: str, lowering: Any, dtype: Any) -> None:
    if BACKENDS[backend].missing():
        pytest.skip(f"{backend} is not installed")
    grid = gridc.compile(SPEC, backend=backend, lowering=lowering, dtype=dtype)
    reference = gridc.compile(SPEC, dtype=dtype)
    near, close = (1e-12, 1e-10) if dtype == "float64" else (1e-6, 1e-5)
    assert reference.lowering == "fused"
    # JAX compiles anew, which takes its time: one size is enough here.
    for batch, length in ((4, 5), (1, 1))[: 1 if BACKENDS[backend].static else 2]:
        inputs, targets, lengths = example(batch, length)
        loss, gradients, outputs = grid.loss_and_gradients(inputs, targets, lengths)
        known, slopes, results = reference.loss_and_gradients(inputs, targets, lengths)
        assert loss == pytest.approx(known, abs=near)
        for name, array in slopes.items():
            assert gradients[name].dtype == dtype
            np.testing.assert_allclose(gradients[name], array, atol=close, err_msg=name)
        for name, array in results.items():
            np.testing.assert_allclose(outputs[name], array, atol=near, err_msg=name)
            np.testing.assert_allclose(grid.predict(inputs, lengths)[name], array, atol=near, err_msg=name)


def test_the_python_backend_calls_numpy_at_once() -> None:
    """Its rewrites are there: without them a small grid's step takes a tenth longer, and nothing else would notice."""
    grid = gridc.compile(SPEC)
    for name in ("predict", "gradients"):
        nodes = grid.functions._function(name).maker.fgraph.apply_nodes  # type: ignore[attr-defined]
        assert any(type(node.op).__module__ == "gridc.symbolic.ufuncs" for node in nodes), name


def test_what_happens_in_place_leaves_what_is_remembered_alone() -> None:
    s = gridc.lower(SPEC, lowering="plain", dtype="float64", lengths=pytensor.tensor.lmatrix("lengths"))
    indices = pytensor.function([*s.inputs.values(), s.lengths], s.indices, on_unused_input="ignore", mode="FAST_COMPILE")
    inputs, _, lengths = example(4, 5)
    given = [*inputs.values(), np.stack(list(lengths.values()), axis=1)]
    before = [array.copy() for array in indices(*given)]
    for array in indices(*given):
        array[...] = 0  # as a function that compiles to work in place does
    for array, known in zip(indices(*given), before, strict=True):
        np.testing.assert_array_equal(array, known)


SMALL = """
name: small
dimensions: {time: T}
transforms:
  time: {cell: lstm, hidden: 2}
inputs:
  x: {features: 2, joins: [time]}
outputs:
  y: {features: 1, reads: [time], at: {time: last}}
"""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ["c", "numba"])
def test_the_slow_linkers_give_the_same_numbers_for_one_small_grid(backend: str) -> None:
    """The least that they can be asked to build; the rest of ``ROWS`` takes them minutes."""
    if BACKENDS[backend].missing():
        pytest.skip(f"{backend} is not installed")
    grid, reference = (gridc.compile(SMALL, backend=b, dtype="float64", eager=False) for b in (backend, "python"))
    assert grid.backend.name == backend
    r = np.random.default_rng(0)
    for batch, length in ((2, 3), (5, 1)):
        inputs, targets = {"x": r.normal(size=(batch, length, 2))}, {"y": r.normal(size=(batch, 1))}
        lengths = {"T": r.integers(1, length + 1, batch)}
        loss, gradients, outputs = grid.loss_and_gradients(inputs, targets, lengths)
        known, slopes, results = reference.loss_and_gradients(inputs, targets, lengths)
        assert loss == pytest.approx(known, abs=1e-12)
        np.testing.assert_allclose(outputs["y"], results["y"], atol=1e-12)
        for name, array in slopes.items():
            np.testing.assert_allclose(gradients[name], array, atol=1e-10, err_msg=name)


def test_an_unknown_backend_is_named_with_the_nearest() -> None:
    with pytest.raises(gridc.UsageError, match=r"no backend 'nunba'.*did you mean 'numba'"):
        gridc.compile(SPEC, backend="nunba")


def test_a_backend_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.Backend, "missing", lambda self: ("jax",))
    with pytest.raises(gridc.ResourceError, match=r"pip install 'gridc\[jax\]'"):
        gridc.compile(SPEC, backend="jax")


def test_numba_refuses_the_plain_lowering() -> None:
    with pytest.raises(gridc.UsageError, match="lowering='fused'"):
        gridc.compile(SPEC, backend="numba", lowering="plain")


def test_nothing_is_said_where_the_sweep_is_fused_or_asked_to_be_plain(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jax")
    specs = Path(__file__).parents[1] / "specs"
    for name in ("dropout", "two-grid", "memory-network"):
        for backend in ("python", "jax"):
            assert gridc.compile(specs / f"{name}.yaml", eager=False, backend=backend).lowering == "fused"
    gridc.compile(specs / "memory-network.yaml", eager=False, lowering="plain", backend="jax")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("lowering", ["fused", "plain"])
def test_small_products_keep_to_one_thread(lowering: Any) -> None:
    grid, pool = gridc.compile(SPEC, lowering=lowering, eager=False), blas.library()
    before = pool.get_threads()
    try:
        pool.set_threads(2)
        with grid.target.lowering.threads(grid.spec, np.array([2, 3, 2]), None):
            assert pool.get_threads() == 1
        assert pool.get_threads() in (1, 2), "a pool of one core has no second thread"
    finally:
        pool.set_threads(before)


def test_the_symbolic_grid_trains_in_a_function_written_by_hand() -> None:
    grid = gridc.compile(SPEC, dtype="float64")
    symbols = grid.symbolic
    shared = list(symbols.parameters.values())
    slopes = pytensor.grad(symbols.loss, shared)
    updates = [(variable, variable - 0.1 * slope) for variable, slope in zip(shared, slopes, strict=True)]
    train = pytensor.function(
        [*symbols.inputs.values(), *symbols.targets.values()], symbols.loss, updates=updates, mode=grid.backend.mode()
    )
    inputs, targets, _ = example(6, 4)
    before = grid.loss(inputs, targets)
    losses = [float(train(*inputs.values(), *targets.values())) for _ in range(40)]
    assert losses[0] == pytest.approx(before, abs=1e-12)
    assert losses[-1] < 0.8 * losses[0]
    # The grid's own functions see the numbers that the updates left.
    assert grid.loss(inputs, targets) < losses[-1]


@pytest.mark.parametrize("lowering", ["fused", "plain"])
def test_lowering_into_somebody_elses_graph(lowering: Any) -> None:
    grid = gridc.compile(SPEC, dtype="float64")
    z = pt.tensor3("z")
    tokens = pt.lmatrix("tokens")
    symbols = gridc.lower(SPEC, {"x": z * 2.0, "tokens": tokens}, dtype="float64", lowering=lowering, scan="FAST_COMPILE")
    out = symbols.outputs["each"]
    variables = [tokens, z, *symbols.parameters.values()]
    results = [out, pytensor.grad(out.sum(), z)]
    function = pytensor.function(variables, results, mode=grid.backend.mode(), on_unused_input="ignore")
    inputs, _, _ = example(3, 4)
    weights = list(grid.parameters.values())
    found, slope = function(inputs["tokens"], inputs["x"] / 2.0, *weights)
    np.testing.assert_allclose(found, grid.predict(inputs)["each"], atol=1e-12)
    moved = inputs["x"].copy()
    moved[1, 2, 0] += 1e-6
    difference = (grid.predict({**inputs, "x": moved})["each"].sum() - found.sum()) / 1e-6
    assert 2.0 * difference == pytest.approx(slope[1, 2, 0], rel=1e-4)


def test_a_wrong_name_or_rank_in_lower_is_a_sentence() -> None:
    with pytest.raises(gridc.UsageError, match="no input 'y'"):
        gridc.lower(SPEC, {"y": pt.dmatrix()}, dtype="float64")
    with pytest.raises(gridc.UsageError, match="found a variable of 2 axes; expected 3"):
        gridc.lower(SPEC, {"x": pt.dmatrix()}, dtype="float64")


def test_two_grids_in_two_threads() -> None:
    grids = [gridc.compile(SPEC, dtype="float64", seed=seed) for seed in (1, 2)]
    inputs, targets, lengths = example(8, 12)
    known = [grid.gradients(inputs, targets, lengths) for grid in grids]
    wrong: list[str] = []

    def work(k: int) -> None:
        for _ in range(30):
            found = grids[k].gradients(inputs, targets, lengths)
            wrong.extend(name for name in found if not np.array_equal(found[name], known[k][name]))

    threads = [threading.Thread(target=work, args=(k,)) for k in (0, 1, 0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_save_and_load(tmp_path: Path) -> None:
    grid = gridc.compile(SPEC, seed=3)
    inputs, targets, lengths = example(5, 4)
    grid.fit(inputs, targets, lengths, budget=2, batch=3, progress="none")
    grid.save(tmp_path / "model.grid")
    again = gridc.load(tmp_path / "model.grid")
    assert again.spec == grid.spec
    for name, array in grid.predict(inputs, lengths).items():
        np.testing.assert_array_equal(again.predict(inputs, lengths)[name], array)
    step = again.training_step("adam", learning_rate=1e-2)
    losses = [step(inputs, targets, lengths) for _ in range(30)]
    assert losses[-1] < losses[0]
    assert "parameters" in str(again.summary(batch=5, T=4))
    assert set(again.score(inputs, targets, lengths)) == {"label", "each"}
