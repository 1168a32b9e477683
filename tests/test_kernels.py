"""The engine of the fused lowering: BLAS by address, traced cells, the sweep."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import interpreter
from gridc.fusion import blas, kernels, native, sweep, tracer
from gridc.fusion.workspace import Parameters, Workspace
from gridc.resources import cache_folder
from gridc.scheduling import passes
from gridc.scheduling.program import BATCH, TransformProgram
from gridc.tables.cells import CELLS
from gridc.tables.mechanisms import ACTIVATIONS, Options

DTYPES = ("float32", "float64")


class NumPy:
    """What a rule may call."""

    tanh = staticmethod(np.tanh)
    exp, log, sqrt = staticmethod(np.exp), staticmethod(np.log), staticmethod(np.sqrt)
    number = staticmethod(lambda value, like: value)
    mean = staticmethod(lambda a: a.mean(axis=-1, keepdims=True))
    softplus = staticmethod(lambda a: np.logaddexp(0, a))
    where = staticmethod(lambda sign, a, b, x, y: np.where(interpreter.COMPARE[sign](a, b), x, y))

    @staticmethod
    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    @staticmethod
    def relu(a):
        return np.maximum(a, 0)


def _variants():
    for name, cell in CELLS.items():
        if cell.rule is None:
            continue
        for n in sorted({cell.dimensions[0], min(2, cell.dimensions[1]), min(3, cell.dimensions[1])}):
            activations = ACTIVATIONS if cell.has("activation") else ("tanh",)
            for options in (Options(activation=a) for a in activations):
                yield pytest.param(name, options, n, id=f"{name}-{n}-{options.activation}")
            if cell.has("peepholes"):
                yield pytest.param(name, Options(peepholes=True), n, id=f"{name}-{n}-peepholes")


def batches_of(rows):
    """Batches in order, (transform, first row, end, weight)."""
    return np.array([tuple(map(int, row)) for row in rows], BATCH)


def made(transform, rows):
    """A program of one transform that reads nothing."""
    return passes.assemble((transform,), batches_of(rows), np.zeros((0, 3), np.int64))


def _count_peepholes(cell, options, n):
    return len(CELLS[cell].peepholes(n)) if options.peepholes else 0


def _rule(transform, a, h, m, p):
    """The table's own rule on rows ``[..., hidden]``: new hidden and memory."""
    split = lambda x: np.split(x, x.shape[-1] // transform.hidden, -1) if x is not None else []  # noqa: E731
    return transform.cell.rule(NumPy, split(a), h, m, split(p), transform.options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cell", "options", "n"), list(_variants()))
def test_cell_equals_its_rule_and_adjoint_its_slope(cell, options, n, dtype):
    random = np.random.default_rng(1)
    hidden, rows, boundary = 37, 6, 5
    entering = tuple(random.integers(rows, rows + boundary, rows) for _ in range(n))
    gates, ends = len(CELLS[cell].gates(n)), np.array([0, 2, rows])
    transform = TransformProgram(CELLS[cell], options, n, hidden, gates, (), (), rows, boundary, (), entering, (), ends)
    work = Workspace(made(transform, [[0, 0, 2, 0], [0, 2, 4, 1], [0, 4, 6, 1]]), dtype)
    peepholes = _count_peepholes(cell, options, n)
    memory = CELLS[cell].memory
    draw = lambda *shape: random.normal(size=shape)  # noqa: E731
    a, b, p = draw(rows, transform.width) * 2, draw(2, transform.width), draw(2, peepholes * hidden) if peepholes else None
    h, m = draw(rows + boundary, hidden), draw(rows + boundary, hidden)
    slope_h, slope_m = draw(rows, hidden), draw(rows, hidden)
    which = np.repeat([0, 1], [2, 4])

    def value(a, b, h, m, p):
        state = [m[e] for e in entering] if memory else []
        return _rule(transform, a + b[which], h[entering[0]], state, None if p is None else p[which])

    parameters = Parameters(
        [np.zeros((2, 0, transform.width), dtype)], [b.astype(dtype)], [None if p is None else p.astype(dtype)]
    )
    work.h[0][:], work.g[0][:] = h, a
    if memory:
        work.m[0][:] = m
    sweep.forward(work, parameters)
    tolerance = 2e-6 if dtype == "float32" else 1e-13
    for got, expected in zip((work.h[0], work.m[0]), value(a, b, h, m, p), strict=True):
        if expected is not None:
            np.testing.assert_allclose(got[:rows], expected, rtol=0, atol=tolerance * 10)

    work.clear_gradients()
    work.dh[0][:rows] = slope_h
    if memory:
        work.dm[0][:rows] = slope_m
    gradients = sweep.backward(work, parameters)
    outputs = [work.g[0], gradients.b[0], work.dh[0][rows:], work.dm[0][rows:] if memory else None, gradients.p[0]]

    def loss(*arrays):
        new_h, new_m = value(*arrays)
        return float((new_h * slope_h).sum() + ((new_m * slope_m).sum() if memory else 0))

    arrays = (a, b, h, m, p)
    for k, got in enumerate(outputs):
        if got is None or arrays[k] is None:
            continue
        for _ in range(4):
            direction = np.zeros_like(arrays[k])
            target = direction[rows:] if k in (2, 3) else direction
            target[:] = random.normal(size=target.shape)
            step = 1e-6
            moved = [loss(*(x + sign * step * direction if i == k else x for i, x in enumerate(arrays))) for sign in (1, -1)]
            slope = (moved[0] - moved[1]) / (2 * step)
            assert np.sum(got * target) == pytest.approx(slope, rel=2e-5, abs=1e-3 if dtype == "float32" else 2e-6)


def test_saved_slots_are_outputs_of_gates_where_that_suffices():
    kinds = lambda *a: [slot.operation for slot in tracer.trace(CELLS[a[0]], *a[1:]).slots]  # noqa: E731
    assert kinds("lstm", Options(), 2) == ["sigmoid"] * 4 + ["tanh"]
    assert kinds("lstm", Options(peepholes=True), 1) == ["sigmoid"] * 3 + ["tanh"]
    assert kinds("gru", Options(), 1) == ["sigmoid", "sigmoid", "tanh", "leaf"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_is_as_exact_as_its_type(dtype):
    random = np.random.default_rng(0)
    special = np.array([0.0, 1e4, -1e4, np.inf, -np.inf, np.nan])
    x = np.concatenate([*(random.normal(size=4000) * scale for scale in (1e-3, 0.1, 1, 10, 100)), special])
    empty = np.zeros(0, np.int64)
    transform = TransformProgram(CELLS["dense"], Options("tanh"), 1, len(x), 1, (), (), 1, 0, (), (empty,), (), np.array([0, 1]))
    work = Workspace(made(transform, [[0, 0, 1, 0]]), dtype)
    work.g[0][0] = x
    sweep.forward(work, Parameters([np.zeros((1, 0, len(x)), dtype)], [None], [None]))
    rtol, atol = (0, 3e-7) if dtype == "float32" else (1e-14, 0)
    np.testing.assert_allclose(work.h[0][0], np.tanh(x), rtol=rtol, atol=atol)


# --- a generic program against a plain loop


def _grid(batch, untied, hoist, seed=3, t_size=4, d_size=3):
    """An LSTM along time, a GRU along depth (priority: time), a dense one fed by a ``pass``; joins, wraps, untied weights."""
    hidden = (5, 4, 6, 4)
    kinds = (("lstm", Options(peepholes=True)), ("gru", Options()), ("dense", Options("tanh")), ("pass", Options()))
    cells = [(x, y) for y in range(d_size) for x in range(t_size)]
    position = {c: k for k, c in enumerate(cells)}
    steps, n = len(cells), len(cells) * batch

    def rows(find):
        return np.array([find(x, y) * batch + e for x, y in cells for e in range(batch)], np.int64)

    along = (0, 1, 1, 1)
    boundary = (d_size, t_size, t_size, t_size)

    def entering(t):
        def find(x, y):
            before = (x - 1, y) if along[t] == 0 else (x, y - 1)
            return position[before] if min(before) >= 0 else steps + (y if along[t] == 0 else x)

        return rows(find)

    here = rows(lambda x, y: position[x, y])
    reads = ((0, entering(0)), (1, entering(1))), ((0, here), (1, entering(1))), ((3, here), (2, entering(2))), ((1, here),)
    joins = np.where(here % 3 == 0, -1, np.arange(n) % 7)
    weights = d_size if untied else 1
    ends = np.arange(weights + 1, dtype=np.int64) * (n // weights)
    transforms = tuple(
        TransformProgram(
            cell=CELLS[cell],
            options=options,
            dimensions=1,
            hidden=hidden[t],
            gates=len(CELLS[cell].gates(1)),
            sources=tuple(source for source, _ in reads[t]),
            joined=(3,) if t != 3 else (),
            rows=n,
            boundary=boundary[t] * batch,
            read_rows=tuple(index for _, index in reads[t]),
            memory_rows=(entering(t),),
            joined_rows=(joins,) if t != 3 else (),
            weight_ends=ends,
            stretch=np.repeat(np.arange(d_size), t_size * batch) if hoist else None,
            early=((False, True), (False, False), (True, False), (False,))[t],
        )
        for t, (cell, options) in enumerate(kinds)
    )
    batches = []
    for y in range(d_size):
        w = y if untied else 0
        level = (y * t_size * batch, (y + 1) * t_size * batch)
        for x in range(t_size):
            start = position[x, y] * batch
            batches.append((0, start, start + batch, w))
        batches += [(1, *level, w), (3, *level, w), (2, *level, w)]
    wraps = np.array([[0, (t_size - 1) * batch, (steps + 1) * batch]])  # time's last state at depth 0 starts depth 1
    program = passes.hoist(passes.wrap(passes.assemble(transforms, batches_of(batches), wraps)))
    random = np.random.default_rng(seed)
    draw = lambda *shape: random.normal(size=shape) * 0.7  # noqa: E731
    peepholes = lambda t: draw(weights, 3 * hidden[t]) if kinds[t][1].peepholes else None  # noqa: E731
    parameters = Parameters(
        [draw(weights, sum(program.widths(t)), p.width) if p.gates else None for t, p in enumerate(transforms)],
        [draw(weights, p.width) if p.gates and t != 2 else None for t, p in enumerate(transforms)],
        [peepholes(t) for t in range(len(transforms))],
    )
    memory = [draw(p.boundary, p.hidden) if t == 0 else None for t, p in enumerate(transforms)]
    state = [draw(p.boundary, p.hidden) for p in transforms], memory
    return program, parameters, *state, draw(7, 3)


def _loop(program, parameters, h0, m0, joined):
    """The same, row by row."""
    h = [np.concatenate([np.zeros((p.rows, p.hidden)), h]) for p, h in zip(program.transforms, h0, strict=True)]
    m = [
        None if x is None else np.concatenate([np.zeros((p.rows, p.hidden)), x])
        for p, x in zip(program.transforms, m0, strict=True)
    ]
    for t, first, end, w in program.batches:
        p = program.transforms[t]
        for r in range(first, end):
            z = [h[u][rows[r]] for u, rows in zip(p.sources, p.read_rows, strict=True)]
            z += [joined[rows[r]] if rows[r] >= 0 else np.zeros(3) for rows in p.joined_rows]
            if p.gates == 0:
                h[t][r] = z[0]
                continue
            a = np.concatenate(z) @ parameters.w[t][w] + (0 if parameters.b[t] is None else parameters.b[t][w])
            own = p.memory_rows[0][r]
            state = [m[t][own]] if m[t] is not None else []
            new = _rule(p, a, h[t][own], state, None if parameters.p[t] is None else parameters.p[t][w])
            h[t][r] = new[0]
            if m[t] is not None:
                m[t][r] = new[1]
        for t_, source, target in program.wraps:
            if t_ == t and first <= source < end:
                h[t_][target] += h[t_][source]
                m[t_][target] += m[t_][source]
    return h, m


def _cast(arrays, dtype):
    return [None if a is None else a.astype(dtype) for a in arrays]


def _run(program, parameters, h0, m0, joined, dtype, slopes, products=""):
    work = Workspace(program, dtype, products=products)
    parameters = Parameters(*(_cast(x, dtype) for x in (parameters.w, parameters.b, parameters.p)))
    for t, p in enumerate(program.transforms):
        work.h[t][p.rows :] = h0[t]
        if m0[t] is not None:
            work.m[t][p.rows :] = m0[t]
        work.joined[t] = [joined.astype(dtype)] * len(p.joined)
        work.djoined[t] = [np.zeros_like(joined, dtype)] * len(p.joined)
    sweep.forward(work, parameters)
    work.clear_gradients()
    for t, p in enumerate(program.transforms):
        work.dh[t][: p.rows] = slopes[t]
    return work, sweep.backward(work, parameters)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("untied", "hoist"), [(False, False), (True, False), (True, True), (False, True)])
def test_a_generic_program_equals_a_plain_loop(untied, hoist, dtype):
    program, parameters, h0, m0, joined = _grid(2, untied, hoist)
    random = np.random.default_rng(5)
    slopes = [random.normal(size=(p.rows, p.hidden)) for p in program.transforms]
    work, gradients = _run(program, parameters, h0, m0, joined, dtype, slopes)
    h, m = _loop(program, parameters, h0, m0, joined)
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    for got, expected in zip((*work.h, work.m[0]), (*h, m[0]), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)

    def loss(w, b, p, h0, m0, joined):
        h, _ = _loop(program, Parameters(w, b, p), h0, m0, joined)
        return sum(float((x[: len(s)] * s).sum()) for x, s in zip(h, slopes, strict=True))

    rows = [p.rows for p in program.transforms]
    dh, dm = ([None if a is None else a[n:] for a, n in zip(arrays, rows, strict=True)] for arrays in (work.dh, work.dm))
    djoined = sum(a for t in range(3) for a in work.djoined[t])
    inputs = [parameters.w, parameters.b, parameters.p, h0, m0, joined]
    for k, got in enumerate((gradients.w, gradients.b, gradients.p, dh, dm, djoined)):
        many = isinstance(got, list)
        direction = [None if a is None else random.normal(size=a.shape) for a in (inputs[k] if many else [joined])]
        step, moved = 1e-6, []
        for sign in (1, -1):
            values = [
                None if a is None else a + sign * step * d
                for a, d in zip(inputs[k] if many else [joined], direction, strict=True)
            ]
            moved.append(loss(*(*inputs[:k], values if many else values[0], *inputs[k + 1 :])))
        slope = sum(float((g * d).sum()) for g, d in zip(got if many else [got], direction, strict=True) if d is not None)
        assert slope == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-3 if dtype == "float32" else 1e-7)


def test_hoisting_changes_nothing():
    plain, hoisted = (_grid(3, untied=True, hoist=hoist) for hoist in (False, True))
    slopes = [np.ones((p.rows, p.hidden)) for p in plain[0].transforms]
    one, two = (_run(*case, "float64", slopes) for case in (plain, hoisted))
    for a, b in zip((*one[0].h, *one[0].dh, *one[1].w[:3]), (*two[0].h, *two[0].dh, *two[1].w[:3]), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_packed_weights_change_nothing(monkeypatch):
    case = _grid(3, untied=True, hoist=True)
    slopes = [np.ones((p.rows, p.hidden)) for p in case[0].transforms]
    monkeypatch.setattr("gridc.scheduling.program.ENOUGH_ROWS", 10**9)
    one = _run(*case, "float64", slopes)
    assert not one[0].places.holders[:, native.PACKED].any()
    monkeypatch.setattr("gridc.scheduling.program.ENOUGH_ROWS", 1)
    two = _run(replace(case[0]), *case[1:], "float64", slopes)
    assert ((two[0].places.holders[:, native.PACKED] > 0) | two[0].places.alone)[:3].all()
    for a, b in zip((*one[0].dh, *one[1].w[:3]), (*two[0].dh, *two[1].w[:3]), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("hoist", "untied"), [(True, True), (True, False), (False, False)])
def test_a_sweep_that_forgets_finds_the_same(hoist, untied):
    program, parameters, h0, m0, joined = _grid(3, untied=untied, hoist=hoist)
    found = []
    for forgets in (False, True):
        work = Workspace(program, "float64")
        for t, p in enumerate(program.transforms):
            work.h[t][p.rows :] = h0[t]
            if m0[t] is not None:
                work.m[t][p.rows :] = m0[t]
            work.joined[t] = [joined] * len(p.joined)
        sweep.forward(work, parameters, forgets)
        found.append((*work.h, *(m for m in work.m if m is not None)))
    for kept, forgotten in zip(*found, strict=True):
        np.testing.assert_allclose(forgotten, kept, rtol=0, atol=1e-12)


def test_arrays_of_another_type_are_refused():
    program, parameters, *_ = _grid(1, untied=False, hoist=False)
    with pytest.raises(ValueError, match="float32"):
        sweep.forward(Workspace(program, "float32"), parameters)


# --- BLAS and the disk cache


def test_blas_was_checked_and_its_threads_are_restored():
    pool = blas.library()
    assert set(pool.gemm) == set(DTYPES)
    before = pool.get_threads()
    with blas.single_threaded(), blas.single_threaded():
        assert pool.get_threads() == 1
    assert pool.get_threads() == before
    assert all(blas._multiplies(address, dtype) for dtype, address in pool.gemm.items())


PROGRAM = """
import sys
from gridc.fusion import jobs, kernels, sweep
from gridc.tables.cells import CELLS
from gridc.tables.mechanisms import Options
sweep.prepare([(CELLS["lstm"], Options(), 1, False)], "float32")
modules = [module for name, module in sys.modules.items() if name.startswith("gridc_cell")]
print(sum(module.forward.cache_hits + module.adjoint.cache_hits for module in modules),
      sum(each.cache_hits for each in jobs._kept))
"""


def test_a_second_process_takes_everything_from_the_disk_cache(tmp_path):
    root = str(Path(kernels.__file__).parents[2])
    environment = {**os.environ, "GRIDC_CACHE_DIR": str(tmp_path), "PYTHONPATH": root}
    command = [sys.executable, "-c", PROGRAM]
    run = lambda: subprocess.check_output(command, env=environment, text=True).split()  # noqa: E731
    assert run() == ["0", "0"]
    assert run() == ["2", "6"]


def test_kernels_are_written_where_the_cache_may_be_and_elsewhere_when_not(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("GRIDC_CACHE_DIR", str(blocked))
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(blocked / name))
    folder = cache_folder.__wrapped__("kernels")
    assert folder.is_dir()
    assert blocked not in folder.parents
    monkeypatch.setenv("GRIDC_CACHE_DIR", str(tmp_path / "mine"))
    assert cache_folder.__wrapped__("kernels") == tmp_path / "mine" / "kernels"


@pytest.mark.skipif("x86" not in os.uname().machine if hasattr(os, "uname") else True, reason="reads x86 assembly")
def test_single_precision_kernels_are_vectorised(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "cache_folder", lambda part: tmp_path)
    kernels.load.__wrapped__(CELLS["lstm"], Options(peepholes=True), 5, "float32")
    module = next(m for name, m in sys.modules.items() if name.startswith("gridc_cell_float32") and str(tmp_path) in m.__file__)
    for kernel in (module.forward, module.adjoint):
        assembly = kernel._library.get_asm_str()
        assert "vdivps" in assembly
        assert "vfmadd" in assembly
    del sys.modules[module.__name__]


def test_what_is_out_of_bounds_is_refused_before_it_is_run():
    program, parameters, *_ = _grid(2, untied=True, hoist=True)
    first = program.transforms[0]
    broken = replace(first, read_rows=(first.read_rows[0] + first.rows + first.boundary, first.read_rows[1]))
    with pytest.raises(ValueError, match="out of bounds"):
        _ = replace(program, transforms=(broken, *program.transforms[1:])).steps
    with pytest.raises(ValueError, match="joins an array of 7 rows of 3"):
        sweep.forward(Workspace(program, "float64"), parameters)


def test_single_precision_tanh_reaches_one() -> None:
    """A slope that is left over where the true one is zero grows with the memory that it multiplies."""
    x = np.array([7.91, 8.5, 20.0, 1e4, np.inf], np.float32)
    for value in x:
        assert native.tanh_float32(value) == 1.0
        assert native.tanh_float32(-value) == -1.0
    assert np.isnan(native.tanh_float32(np.float32(np.nan)))
