"""The kernels as they are built for processors with narrower vectors: the same numbers to rounding, from the same source."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from llvmlite import binding

SSE = "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt"
AVX2 = f"{SSE},+avx,+avx2,+fma,+f16c,+bmi,+bmi2"
NARROWER = {"AVX2": ("haswell", AVX2, 32, "ymm"), "SSE": ("nehalem", SSE, 16, "xmm")}
"""Numba's name of a processor, what it can do, the bytes of its vectors and how the registers are called."""
pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or not binding.get_host_cpu_features().get("avx2"), reason="its processor has no AVX2"
)

PRODUCTS = """
import json, re, sys
import numpy as np
from gridc.fusion import gemm, kernels, packing, registers
with kernels.cached():
    product, pack = gemm.panel_product("float32"), packing.panel_pack("float32")
    of_words, pack_words, lay = gemm.panel_product("bfloat16"), packing.panel_pack("bfloat16"), packing.lay_words()
code, errors = product._library.get_asm_str() + of_words._library.get_asm_str(), []
random, width = np.random.default_rng(0), packing.panel("float32")
for m in range(1, 2 * registers.TALLEST):
    a, w = (random.normal(size=shape).astype(np.float32) for shape in ((m, 37), (37, width)))
    for given, turned in ((w, 0), (np.ascontiguousarray(w.T), 1)):
        packed, c = np.zeros(packing.room(37, width, "float32"), np.float32), np.ones((m, width), np.float32)
        pack.ctypes(given.ctypes.data, 37, width, turned, packed.ctypes.data, 0, 1)
        product.ctypes(m, 37, a.ctypes.data, 37, 1, packed.ctypes.data, 0, c.ctypes.data, width, 1, 0, width)
        errors.append(float(np.abs(c - a.astype(float) @ w - 1).max()))
        a8, w8 = (np.round(x * 8) / 8 for x in (a, w))  # which bfloat16 holds
        given, words, c = w8 if not turned else np.ascontiguousarray(w8.T), np.zeros((m, 19), np.float32), np.ones_like(c)
        pack_words.ctypes(given.ctypes.data, 37, width, turned, packed.ctypes.data, 0, 1)
        lay.ctypes(a8.ctypes.data, m, 37, 37, 0, 0, words.ctypes.data)
        of_words.ctypes(m, 19, words.ctypes.data, 19, 1, packed.ctypes.data, 0, c.ctypes.data, width, 1, 0, width)
        errors.append(float(np.abs(c - a8.astype(float) @ w8 - 1).max()))
used = [name for name in ("zmm", "ymm", "xmm") if f"%{name}" in code]
print(json.dumps([registers.BYTES, max(errors), used, len(re.findall("vfmadd", code)), len(re.findall(r"fmaf", code))]))
"""
GRID = """
import json, sys
import numpy as np
import gridc
from gridc.fusion import registers
random, found = np.random.default_rng(0), []
x, y = {"x": random.normal(size=(5, 7, 3))}, {"y": random.integers(0, 4, 5)}
for dtype in ("float32", "float64"):
    grid = gridc.compile(sys.argv[1], dtype=dtype, seed=1)
    loss, gradients, outputs = grid.loss_and_gradients(x, y)
    found.append([loss, {name: array.tolist() for name, array in (gradients | outputs).items()}])
print(json.dumps([registers.BYTES, found]))
"""
SPEC = """
name: widths
dimensions: {time: T, depth: 3}
transforms:
  time: {cell: lstm, hidden: 19, peepholes: true}
  depth: {cell: gru, hidden: 13, tied: [time]}
inputs: {x: {features: 3, enters: depth}}
outputs: {y: {classes: 4, reads: [depth, time], at: {time: last, depth: last}}}
"""


def built_for(width, folder, *command):
    """What a Python prints whose Numba compiles for such a processor, with a cache folder of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_CPU")} | {"GRIDC_CACHE_DIR": str(folder)}
    if width in NARROWER:
        environment |= dict(zip(("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"), NARROWER[width], strict=False))
    done = subprocess.run([sys.executable, "-c", *command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("width", NARROWER)
def test_products_of_narrower_vectors(width, tmp_path):
    *_, size, register = NARROWER[width]
    found, error, used, fused, calls = built_for(width, tmp_path, PRODUCTS)
    assert found == size
    assert error < 1e-5
    assert used[0] == register
    assert (fused > 0) == (width == "AVX2")
    assert calls == 0  # without the instruction LLVM would call a function for every number


@pytest.mark.thorough
def test_every_width_computes_the_same(tmp_path):
    size, known = built_for("own", tmp_path / "own", GRID, SPEC)
    assert size == (64 if binding.get_host_cpu_features().get("avx512f") else 32)
    for width, (*_, narrow, _) in NARROWER.items():
        size, found = built_for(width, tmp_path / width, GRID, SPEC)
        assert size == narrow
        for (loss, arrays), (same_loss, same), tolerance in zip(found, known, (2e-5, 1e-12), strict=True):
            assert loss == pytest.approx(same_loss, rel=tolerance)
            for name, array in arrays.items():
                np.testing.assert_allclose(array, same[name], rtol=tolerance, atol=tolerance, err_msg=f"{width}: {name}")
