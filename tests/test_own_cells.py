"""Cells of one's own against their text: kernels as Python, whole grids plain, fused and under JAX, the examples as loops."""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import sys
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
    EXAMPLES,
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
PAGES = sorted(path.stem for path in SPECS.glob("*.yaml"))
MANY = max(1, EXAMPLES // 200)
"""How many times as many examples `make thorough` draws."""


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
    row = np.zeros(work.places.row, dtype)
    tables = work.tables(parameters, out).of_thread(work.places, row, row, row[:0])
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
    # A kernel makes what each row adds to the gradients of biases and vectors.
    of_rows = work.slopes[work.places.states :].reshape(rows, -1)
    added = [np.stack([each[which == w].sum(axis=0) for w in (0, 1)]) for each in (work.g[0], of_rows)]
    found = [work.g[0], added[0], work.dh[0][rows:], work.dm[0][rows:] if own.keeps_memory else None,
             added[1] if vectors else None]  # fmt: skip
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
@settings(ROOM, max_examples=150 * MANY)
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
@settings(ROOM, max_examples=4 * MANY)
@given(case=grids_of_own_cells().filter(has_own), seed=st.integers(0, 2**32 - 1))
def test_random_grids_plain(case: Case, seed: int) -> None:
    found = run_unchanged(case, "float64")
    equal_to_the_oracle(case, found, TOLERANCE["float64"])
    equal_to_differences(case, found[2], seed)


@pytest.mark.usefixtures("plain_shapes")
@settings(ROOM, max_examples=3 * MANY)
@given(case=grids_of_own_cells().filter(has_own))
def test_random_grids_fused(case: Case) -> None:
    plain, fused = run_unchanged(case, "float64"), in_training(case, compiled(case, "fused", "float64"))
    equal_to_the_oracle(case, fused, TOLERANCE["float64"])
    equal_gradients(fused[2], plain[2], 1e-9, 1e-10)


@settings(ROOM, max_examples=2 * MANY)
@given(case=grids_of_own_cells().filter(has_own), seed=st.integers(0, 2**32 - 1))
def test_random_grids_on_jax(case: Case, seed: int) -> None:
    pytest.importorskip("jax")
    there = gridc.compile(case.text, backend="jax", dtype="float64", eager=False)
    for name, array in case.parameters.items():
        there.parameters[name] = array
    loss, gradients, outputs = there.loss_and_gradients(case.inputs, case.targets, case.lengths)
    equal_to_the_oracle(case, (loss, outputs, gradients), TOLERANCE["float64"])
    equal_to_differences(case, gradients, seed)


# -- the examples, each by its paper's equations -----------------------------------------------------------------------------


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def min_gru(a: list[np.ndarray], h: np.ndarray, m: np.ndarray, p: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    z = sigmoid(a[0])
    return (1 - z) * h + z * a[1], m


def min_lstm(a: list[np.ndarray], h: np.ndarray, m: np.ndarray, p: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    f, i = sigmoid(a[0]), sigmoid(a[1])
    new = f / (f + i) * m + i / (f + i) * a[2]
    return new, new


def layer_norm_lstm(a: list[np.ndarray], h: np.ndarray, m: np.ndarray, p: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    new = sigmoid(a[1]) * m + sigmoid(a[0]) * np.tanh(a[3])
    normed = (new - new.mean(1)[:, None]) / np.sqrt(((new - new.mean(1)[:, None]) ** 2).mean(1)[:, None] + 1e-5)
    return sigmoid(a[2]) * np.tanh(normed * p["gain"] + p["shift"]), new


def coupled_lstm(a: list[np.ndarray], h: np.ndarray, m: np.ndarray, p: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    new = sigmoid(a[0]) * m + (1 - sigmoid(a[0])) * np.tanh(a[2])
    return sigmoid(a[1]) * np.tanh(new), new


def janet(a: list[np.ndarray], h: np.ndarray, m: np.ndarray, p: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    new = sigmoid(a[0]) * m + (1 - sigmoid(a[0] - 1)) * np.tanh(a[1])
    return new, new


def ind_rnn(a: list[np.ndarray], h: np.ndarray, m: np.ndarray, p: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return np.maximum(a[0] + p["u"] * h, 0), m


def sru(a: list[np.ndarray], h: np.ndarray, m: np.ndarray, p: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    forget, reset = sigmoid(a[1] + p["vf"] * m), sigmoid(a[2] + p["vr"] * m)
    new = forget * m + (1 - forget) * a[0]
    return reset * new + (1 - reset) * a[3], new


def fo_pool(a: list[np.ndarray], h: np.ndarray, m: np.ndarray, p: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    new = sigmoid(a[1]) * m + (1 - sigmoid(a[1])) * np.tanh(a[0])
    return sigmoid(a[2]) * new, new


def swept(z: Any, w: np.ndarray, b: np.ndarray, step: Any, p: dict[str, np.ndarray], steps: int) -> list[np.ndarray]:
    """The hidden vectors of a chain; ``z(t, h)`` is what the step at time t sees."""
    h = m = np.zeros((2, w.shape[-1] // COUNTS[step.__name__]))
    found = []
    for t in range(steps):
        h, m = step(np.split(z(t, h) @ w + b, COUNTS[step.__name__], axis=1), h, m, p)
        found.append(h)
    return found


COUNTS = {"min_gru": 2, "min_lstm": 3, "layer_norm_lstm": 4, "coupled_lstm": 3, "janet": 2, "ind_rnn": 1, "sru": 4, "fo_pool": 3}
LOOPS = {"min-gru": min_gru, "min-lstm": min_lstm, "layer-norm-lstm": layer_norm_lstm, "coupled-lstm": coupled_lstm,
         "janet": janet, "ind-rnn": ind_rnn}  # fmt: skip


def read_out(p: Mapping[str, np.ndarray], h: np.ndarray) -> np.ndarray:
    e = np.exp(h @ p["label.W"] + p["label.b"])
    return e / e.sum(1, keepdims=True)


def by_loop(name: str, p: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    def vectors(k: Any = slice(None)) -> dict[str, np.ndarray]:
        return {key.removeprefix("time."): value[k] for key, value in p.items() if key.startswith("time.")}

    if name in LOOPS:
        own = p["time.W"].shape[0] > 16  # it reads its own vector, then the input
        see = lambda t, h: np.concatenate([h, x[:, t]], axis=1) if own else x[:, t]  # noqa: E731
        return swept(see, p["time.W"], p["time.b"], LOOPS[name], vectors(), x.shape[1])[-1]
    if name == "sru":  # what the level below hands up, then the input, which joins the first
        zeros, first = np.zeros((2, 64)), p["time.W"].shape[-2] - 16
        w, b, n = p["time.W"], p["time.b"], x.shape[1]
        below = swept(lambda t, h: np.concatenate([zeros, x[:, t]], axis=1), w[0], b[0], sru, vectors(0), n)
        return swept(lambda t, h: below[t], w[1][:first], b[1], sru, vectors(1), n)[-1]
    if name == "qrnn":
        words = [np.zeros((2, 16)), *(x[:, t] @ p["word.W"] + p["word.b"] for t in range(x.shape[1]))]
        return swept(lambda t, h: np.concatenate(words[t : t + 2], axis=1), p["time.W"], p["time.b"], fo_pool, {}, x.shape[1])[-1]
    return by_two_loops(p, x)


def by_two_loops(p: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Graves' cell with peepholes: gates u f_1 f_2 o c of the vectors above and to the left, then the input."""
    nothing = np.zeros((2, 32))
    h: dict[tuple[int, int], np.ndarray] = {}
    m: dict[tuple[int, int], np.ndarray] = {}
    for i, j in np.ndindex(*x.shape[1:3]):
        above, left = (i - 1, j), (i, j - 1)
        z = np.concatenate([h.get(above, nothing), h.get(left, nothing), x[:, i, j]], axis=1)
        u, f_1, f_2, o, c = np.split(z @ p["state.W"] + p["state.b"], 5, axis=1)
        m_1, m_2 = m.get(above, nothing), m.get(left, nothing)
        new = sigmoid(u + p["state.pu_1"] * m_1 + p["state.pu_2"] * m_2) * np.tanh(c)
        new = new + sigmoid(f_1 + p["state.pf_1"] * m_1) * m_1 + sigmoid(f_2 + p["state.pf_2"] * m_2) * m_2
        h[i, j], m[i, j] = sigmoid(o + p["state.po"] * new) * np.tanh(new), new
    return h[x.shape[1] - 1, x.shape[2] - 1]


@pytest.mark.parametrize("name", PAGES)
def test_examples_are_their_papers_equations(name: str) -> None:
    """Compiled as a user does, with the kernels of float64; the slope of one direction by differences of the loop."""
    grid = gridc.compile(SPECS / f"{name}.yaml", dtype="float64", eager=False)
    assert grid.lowering == "fused"
    random = np.random.default_rng(3)
    x = random.normal(size=(2, 3, 2, 4) if name == "peephole-lstm" else (2, 5, 16))
    for key in grid.parameters:
        grid.parameters[key] = 0.3 * random.normal(size=grid.parameters[key].shape)
    known = {key: value.copy() for key, value in grid.parameters.items()}
    y = np.array([0, 1])

    def loss(p: Mapping[str, np.ndarray]) -> float:
        return float(-np.log(read_out(p, by_loop(name, p, x))[[0, 1], y]).mean())

    assert loss(known) == pytest.approx(grid.loss({"x": x}, {"label": y}), rel=1e-12)
    np.testing.assert_allclose(grid.predict({"x": x})["label"], read_out(known, by_loop(name, known, x)), rtol=1e-10)
    slopes = grid.gradients({"x": x}, {"label": y})
    directions = {key: random.normal(size=value.shape) for key, value in known.items()}
    moved = [loss({key: value + by * directions[key] for key, value in known.items()}) for by in (1e-6, -1e-6)]
    slope = sum(float((slopes[key] * d).sum()) for key, d in directions.items())
    assert slope == pytest.approx((moved[0] - moved[1]) / 2e-6, rel=1e-5, abs=1e-7)


# -- where cells come from -------------------------------------------------------------------------------------------------

CHAIN = """
name: chain
dimensions: {time: T}
transforms: {time: {cell: mine, hidden: 3}}
inputs: {x: {features: 2, joins: [time]}}
outputs: {y: {features: 1, reads: [time]}}
"""
MINE = {"gates": {"f": "sigmoid", "c": "tanh"}, "memory": "f*m + (1 - f)*c", "hidden": "memory", "init": {"normal": 0.05}}


def test_a_model_holds_its_cells(tmp_path: Path) -> None:
    grid = gridc.compile(CHAIN, cells={"mine": MINE}, eager=False, dtype="float64")
    x = np.random.default_rng(0).normal(size=(2, 4, 2))
    before = grid.predict({"x": x})["y"]
    grid.save(tmp_path / "model.grid")
    again = gridc.load(tmp_path / "model.grid")
    np.testing.assert_array_equal(again.predict({"x": x})["y"], before)
    assert again.spec.digest == grid.spec.digest
    lines = {**MINE, "hidden": "memory\n  + 0*h", "source": "a paper,\nits second section"}  # a page has each in one line
    gridc.compile(CHAIN, cells={"mine": lines}, eager=False).save(tmp_path / "lines.grid")
    assert gridc.load(tmp_path / "lines.grid").spec.digest == gridc.read(CHAIN, cells={"mine": lines}).digest
    with pytest.raises(gridc.SpecError, match="cell 'mine', source: found the control character"):
        gridc.read(CHAIN, cells={"mine": {**MINE, "source": "a\x07b"}})
    again.save(tmp_path / "again.grid")
    assert gridc.load(tmp_path / "again.grid").spec.digest == grid.spec.digest
    assert 0.02 < np.std(grid.parameters["time.W"]) < 0.09


def test_the_page_of_a_model_opens_no_file(tmp_path: Path) -> None:
    """A model may come from anybody: what it says must not make gridc read, and quote, a file of this machine."""
    from gridc import model_file
    from gridc.scheduling import check

    (tmp_path / "secret.yaml").write_text("cells: {secret: {gates: {a: tanh}, hidden: a}}\n")
    page = f"{CHAIN}cells: [{tmp_path / 'secret.yaml'}]\n"
    with pytest.raises(gridc.SpecError, match="found the names of files, of which the page of a model has none"):
        check.parse(page.replace("mine", "secret"))
    grid = gridc.compile(page.replace("cell: mine", "cell: lstm"), eager=False)  # it names a file, and uses none of its cells
    grid.save(tmp_path / "model.grid")
    assert "secret" not in model_file.load(tmp_path / "model.grid").spec
    assert gridc.load(tmp_path / "model.grid").spec.digest == grid.spec.digest


def test_one_page_is_one_digest_and_another_rule_another() -> None:
    own = "{gates: {f: sigmoid, c: tanh}, memory: f * m+(1-f)*c, hidden: memory, init: {normal: 0.05}}"
    inline = f"{CHAIN}cells:\n  mine: {own}\n"
    given_ = gridc.read(CHAIN, cells={"mine": MINE})
    assert gridc.read(inline).digest == given_.digest
    assert gridc.read(inline, cells={"mine": MINE}).digest == given_.digest
    assert gridc.read(CHAIN, cells={"mine": {**MINE, "hidden": "tanh(memory)"}}).digest != given_.digest
    with pytest.raises(gridc.SpecError, match="cell 'mine' is defined twice, in different ways"):
        gridc.read(inline, cells={"mine": {**MINE, "hidden": "tanh(memory)"}})


def test_a_cell_is_a_word_once_it_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    from gridc.language import own_cells

    monkeypatch.setattr(own_cells, "REGISTERED", {})
    with pytest.raises(gridc.SpecError, match="found 'mine'; expected one of lstm"):
        gridc.read(CHAIN)
    gridc.register_cell("mine", MINE)
    assert gridc.read(CHAIN).digest == gridc.read(CHAIN, cells={"mine": MINE}).digest
    assert "mine" in gridc.read(CHAIN).source.page
    with pytest.raises(gridc.UsageError, match="there is a cell 'lstm' already"):
        gridc.register_cell("lstm", MINE)
    with pytest.raises(gridc.SpecError, match="there is nothing called 'n'"):
        gridc.register_cell("other", {**MINE, "hidden": "n"})


def test_an_installed_package_brings_cells(tmp_path: Path) -> None:
    """In a process of its own, with a package beside it as installers lay one out."""
    (tmp_path / "brought.py").write_text(f"CELLS = {MINE!r}\ndef made(): return CELLS\n")
    info = tmp_path / "brought-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gridc.cells]\nmine = brought:CELLS\nmade = brought:made\nbad = brought:nothing\n")
    (tmp_path / "chain.yaml").write_text(CHAIN)
    run = functools.partial(subprocess.run, capture_output=True, text=True, check=False,
                            env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{SPECS.parent.parent}"})  # fmt: skip
    shown = run([sys.executable, "-m", "gridc", "show", "--cells", str(tmp_path / "chain.yaml")])
    assert "f*m + (1 - f)*c" in shown.stdout, shown.stderr
    (tmp_path / "chain.yaml").write_text(CHAIN.replace("cell: mine", "cell: made"))
    assert run([sys.executable, "-m", "gridc", "check", str(tmp_path / "chain.yaml")]).returncode == 0
    (tmp_path / "chain.yaml").write_text(CHAIN.replace("cell: mine", "cell: bad"))
    assert "the cell 'bad' of the entry point brought:nothing cannot be loaded" in run(
        [sys.executable, "-m", "gridc", "check", str(tmp_path / "chain.yaml")]).stderr  # fmt: skip


def test_what_comes_with_gridc_is_shown_as_it_is_written() -> None:
    shown = subprocess.run([sys.executable, "-m", "gridc", "show", "--cells"], capture_output=True, text=True, check=True).stdout
    page = (Path(gridc.__file__).parent / "tables" / "cells.yaml").read_text(encoding="utf-8")
    for line in page.splitlines()[2:]:
        _, _, value = line.strip().partition(":")
        assert not value or value.strip(" {}[]") in shown, line


def test_a_picture_has_the_formulas_as_tex() -> None:
    svg = gridc.schedule(SPECS / "layer-norm-lstm.yaml", T=3).to_svg("cell")
    assert r"\operatorname{norm}\left(m&#x27;\right)" in svg
    assert "h&#x27; = o∘tanh(gain∘norm(m&#x27;) + shift)" in svg


def test_cells_that_compute_the_same_share_their_kernels() -> None:
    lstm = {"gates": {"u": "sigmoid", "f": "sigmoid", "o": "sigmoid", "c": "tanh"}, "memory": "u*c + f*m",
            "hidden": "o*tanh(memory)"}  # fmt: skip
    from gridc.tables.cells import CELLS

    for dtype in ("float32", "float64"):
        assert kernels.source(cell_of(lstm), Options(), 1, dtype) == kernels.source(CELLS["lstm"], Options(), 1, dtype)


BOTH = {"gates": {"f": "sigmoid", "c": "tanh", "o": "softplus"}, "memory": "f*m + where(h > 0.1, c, -c) + exp(-abs(h))/8",
        "hidden": "max(o*norm(memory) - 0.3*h, log(1 + c**2)) + sqrt(f)"}  # fmt: skip
"""It looks at the own hidden vector and at the memory, of which JAX's way back keeps lists of readers."""


@pytest.mark.parametrize("name", ["min-lstm", "layer-norm-lstm", "both"])
def test_under_jax_and_streamed(name: str) -> None:
    page = CHAIN.replace("features: 2", "features: 16").replace("features: 1,", "features: 1, at: {time: last},")
    page = page.replace("y: {features: 1,", "label: {classes: 2,").replace("hidden: 3", "hidden: 3, start: learned")
    spec = gridc.read(page, cells={"mine": BOTH}) if name == "both" else gridc.read(SPECS / f"{name}.yaml")
    x, y = np.random.default_rng(1).normal(size=(2, 5, 16)), np.array([1, 0])
    here = gridc.compile(spec, dtype="float64", eager=False, seed=5)
    loss, slopes, _ = here.loss_and_gradients({"x": x}, {"label": y}, lengths={"T": [5, 3]})
    pytest.importorskip("jax")
    there = gridc.compile(spec, backend="jax", dtype="float64", eager=False, seed=5)
    found = there.loss_and_gradients({"x": x}, {"label": y}, lengths={"T": [5, 3]})
    assert found[0] == pytest.approx(loss, rel=1e-12)
    equal_gradients(found[1], slopes, 1e-10, 1e-12)
    single = gridc.compile(spec, eager=False, seed=5)
    assert single.loss({"x": x}, {"label": y}, lengths={"T": [5, 3]}) == pytest.approx(loss, rel=1e-5)
    stream, whole = here.stream(), here.predict({"x": x})["label"]
    stream({"x": x[:, :2]})
    np.testing.assert_allclose(stream({"x": x[:, 2:]})["label"], whole, rtol=1e-10)


def test_weights_of_own_cells_are_shared_and_sweeps_are_run_again() -> None:
    page = """
name: shared
dimensions: {time: T, depth: 2}
transforms:
  time: {cell: own, hidden: 4, reads: [time, depth]}
  depth: {cell: own, hidden: 4, reads: [depth, time], shares: time}
inputs: {x: {features: 3, enters: depth}}
outputs: {y: {features: 2, reads: [time, depth], at: {time: last, depth: last}}}
"""
    own = {"gates": {"f": "sigmoid", "c": "tanh"}, "vectors": {"gain": 1.0}, "memory": "f*m + norm(c)", "hidden": "gain*memory"}
    random = np.random.default_rng(0)
    x, y = random.normal(size=(3, 9, 3)), random.normal(size=(3, 2))
    found = [gridc.compile(page, cells={"own": own}, dtype="float64", seed=1, eager=False, recompute=recompute)
             .loss_and_gradients({"x": x}, {"y": y}) for recompute in (False, True)]  # fmt: skip
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
    equal_gradients(found[0][1], found[1][1], 1e-10, 1e-11)
    assert found[0][1]["time.gain"].shape == (4,)
    bare = {"gates": own["gates"], "memory": "f*m + c", "hidden": "memory"}
    with pytest.raises(gridc.SpecError, match=r"transform 'depth' has other vectors \(none\) than 'time' \(gain\)"):
        gridc.read(page.replace("depth: {cell: own", "depth: {cell: bare"), cells={"own": own, "bare": bare})
