"""Products in bfloat16 are what NumPy makes of operands that it rounds itself, forward and back; what is kept and said of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gridc
from gridc.errors import UsageError
from gridc.fusion import packing
from gridc.predictor import load
from gridc.symbolic import backends

backends.prepare()
from strategies import Case, grids  # noqa: E402
from test_grid import EXAMPLES, unchanged  # noqa: E402
from test_kernels import _grid, _rule, _run  # noqa: E402

ROOM = settings(deadline=None, suppress_health_check=list(HealthCheck))
PAGE = """
name: narrow
dimensions: {time: T, depth: 2}
transforms:
  time: {cell: lstm, hidden: 19}
  depth: {cell: gru, hidden: 13, tied: [time]}
inputs: {x: {features: 3, enters: depth}}
outputs: {y: {classes: 4, reads: [depth, time], at: {time: last, depth: last}}}
"""


def rounded(x: np.ndarray) -> np.ndarray:
    """To bfloat16, from the definition: the nearest of eight significant bits, the even one of two; in double precision."""
    fraction, exponent = np.frexp(np.asarray(x, np.float64))
    return np.ldexp(np.rint(np.ldexp(fraction, 8)), exponent - 8)


@pytest.mark.parametrize("rows", [1, 10**9])
@pytest.mark.parametrize(("untied", "hoist"), [(False, False), (True, True)])
def test_products_are_those_of_rounded_operands(
    untied: bool, hoist: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gridc.scheduling.program.ENOUGH_ROWS", rows)  # from which weights lie packed
    program, parameters, *arrays = _grid(3, untied, hoist)
    parameters.w = [None if w is None else w.astype(np.float32) for w in parameters.w]
    random = np.random.default_rng(5)
    slopes = [random.normal(size=(p.rows, p.hidden)) for p in program.transforms]
    work, gradients = _run(program, parameters, *arrays, "float32", slopes, "bfloat16")
    joined: list[Any] = [0.0, 0.0, 0.0]
    for t, p in enumerate(program.transforms):
        w = parameters.w[t]
        if not p.gates or w is None:
            continue
        z, dz, ends = work.z[t].astype(float), work.g[t].astype(float), p.weight_ends
        for k, (first, end) in enumerate(pairwise(ends)):
            of = slice(first, end)
            b, holes = (None if each[t] is None else each[t][k] for each in (parameters.b, parameters.p))
            own = p.memory_rows[0][of]
            m = work.m[t]
            new = _rule(p, rounded(z[of]) @ rounded(w[k]) + (0 if b is None else b), work.h[t][own],
                        [] if m is None else [m[own]], None if holes is None else holes[None])  # fmt: skip
            for found, expected in zip((work.h[t], m), new, strict=True):
                if expected is not None:
                    np.testing.assert_allclose(found[of], expected, rtol=0, atol=1e-5)
            np.testing.assert_allclose(gradients.w[t][k], rounded(z[of]).T @ rounded(dz[of]), rtol=1e-5, atol=1e-4)
            if gradients.b[t] is not None:
                np.testing.assert_allclose(gradients.b[t][k], dz[of].sum(0), rtol=1e-5, atol=1e-4)
            if p.joined:
                back = np.zeros((7, 3))
                there = p.joined_rows[0][of]
                np.add.at(back, there[there >= 0], (rounded(dz[of]) @ rounded(w[k][-3:]).T)[there >= 0])
                joined[t] += back
    for t, expected in enumerate(joined):
        np.testing.assert_allclose(work.djoined[t][0], expected, rtol=1e-5, atol=1e-4)


def test_words_are_the_nearest_and_what_is_no_number_stays_none() -> None:
    """Rows of 1 to 67 numbers by an identity, some of them halfway between two, and what is not finite."""
    lay = packing.lay_words().ctypes
    random = np.random.default_rng(0)
    given = random.normal(size=67).astype(np.float32)
    given[:6] = [1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8), 3.3895314e38, -0.0, 65280.5]
    for odd in (0, 1):
        for count in range(1, 68):
            words = np.full(40, 0x7FC07FC0, np.uint32)
            lay(given.ctypes.data, 1, count, 67, odd, 0, words.ctypes.data)
            halves = words.view(np.uint16)[: (odd + count + 1) // 2 * 2]
            found = (halves.astype(np.uint32) << 16).view(np.float32)
            assert np.array_equal(found[odd : odd + count], rounded(given[:count]))
            assert not np.delete(found, np.s_[odd : odd + count]).any()
            assert (words[len(halves) // 2 :] == 0x7FC07FC0).all()
    odd_ones = np.array([0x7F800001, 0xFFFFFFFF, 0x7F800000, 0xFF800000], np.uint32)  # two of them no numbers
    words = np.zeros(4, np.uint32)
    lay(odd_ones.ctypes.data, 2, 2, 2, 0, 1, words.ctypes.data)
    found = (words[:2].view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(2, 2).T
    assert np.isnan(found[0]).all()
    assert found[1].tolist() == [np.inf, -np.inf]


@settings(ROOM, max_examples=max(4, EXAMPLES // 100))
@given(st.integers(0, 9).flatmap(lambda k: grids(memory=k == 9)))
def test_any_grid_is_near_what_it_is_in_double_precision(case: Case) -> None:
    """And no nearer than that many bits say: operands lose 2^-9 of themselves."""
    loss, outputs, gradients = unchanged(case, "bfloat16", "fused")()
    known, exact, slopes = unchanged(case, "float64", "fused")()
    assert loss == pytest.approx(known, rel=0.1, abs=0.05)
    for found, expected in ((outputs, exact), (gradients, slopes)):
        for name, array in found.items():
            assert array.dtype == np.float32
            size = np.abs(expected[name]).max(initial=0)
            np.testing.assert_allclose(array, expected[name], rtol=0, atol=0.1 * size + 0.02, err_msg=name)


def test_it_is_kept_with_the_model(tmp_path: Any) -> None:
    grid = gridc.compile(PAGE, dtype="bfloat16", seed=1)
    assert (grid.dtype, grid.products) == ("float32", "bfloat16")
    assert str(grid.target).startswith("bfloat16, fused")
    assert {array.dtype for array in grid.parameters.values()} == {np.dtype(np.float32)}
    x = {"x": np.random.default_rng(0).normal(size=(5, 7, 3))}
    expected = grid.predict(x)["y"]
    grid.save(tmp_path / "a.grid")
    again = gridc.load(tmp_path / "a.grid")
    assert again.products == "bfloat16"
    assert np.array_equal(again.predict(x)["y"], expected)
    plain = gridc.compile(PAGE, seed=1)
    near, far = (np.abs(of.predict(x)["y"] - expected).mean() for of in (load(tmp_path / "a.grid"), plain))
    assert far > 1e-5, "it is as precise as float32"
    assert near < far / 2, "the predictor rounds nothing"
    plain.save(tmp_path / "b.grid")
    assert gridc.load(tmp_path / "b.grid").products == "float32"
    assert b'"products' not in (tmp_path / "b.grid").read_bytes()


def test_who_cannot_says_so() -> None:
    for options, told in (
        ({"lowering": "plain"}, "the plain lowering has no products in bfloat16; expected dtype='float32'"),
        ({"dtype": "float16"}, "found the dtype 'float16'; expected 'float32', 'float64' or 'bfloat16'"),
    ):
        with pytest.raises(UsageError) as caught:
            gridc.compile(PAGE, **{"dtype": "bfloat16", **options})  # type: ignore[arg-type]
        assert str(caught.value) == told
    with pytest.raises(UsageError, match="the plain lowering has no products in bfloat16"):
        gridc.lower(PAGE, dtype="bfloat16", lowering="plain")
