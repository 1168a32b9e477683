"""A sweep as one kernel forward and one back: the same source as on a GPU, here compiled for the processor."""

import ctypes
import importlib
import math
import os
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cuda_on_host
import gridc
from gridc.benchmarks import gpu_rows, gpu_tiles
from gridc.cuda import compiler, source, tiles
from gridc.cuda.persistent import Persistent
from gridc.errors import ResourceError
from strategies import grids
from test_grid import ROOM
from test_jax import SPECS, data, pair, same

THOROUGH = int(os.environ.get("GRIDC_EXAMPLES", "200")) > 200
NOISY = """
name: noisy
dimensions: {time: T, depth: 3}
transforms:
  time: {cell: lstm, hidden: 8, dropout: 0.3, zoneout: 0.2, peepholes: true, tied: all}
  depth: {cell: pass, reads: [time]}
  slow: {cell: gru, hidden: 4, along: time, zoneout: 0.3, dropout: 0.2, tied: [time], start: learned}
priority: [time, depth, slow]
inputs: {x: {features: 3, joins: [time, slow]}}
outputs: {y: {classes: 3, reads: [time.memory, depth, slow], at: {time: last, depth: last}}}
"""
PAGES = {"mixed": gpu_rows.MIXED, "noisy": NOISY, "wrapped": gpu_rows.WRAPPED}


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    return cuda_on_host.kernels(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def on_host(host, monkeypatch):
    monkeypatch.setattr(compiler, "kernels", lambda: host)
    host.launcher.built.clear()
    return host.launcher


@pytest.mark.parametrize("name", PAGES)
def test_kernels_have_the_numbers_of_the_cpu(name, on_host):
    there, here = pair(PAGES[name], "float32")
    if here.random_state is not None:
        there.random_state = here.random_state  # the same masks
    same(there, here, data(here.spec, 6, 3), 2e-5)
    assert [kernel for kernel, _ in on_host.built] == ["forward", "back"]
    for _, kernel in on_host.built:  # and an H100 has machine code for it
        assert compiler.compiled(importlib.import_module("cuda.bindings.nvrtc"), kernel, "sm_90").startswith(b"\x7fELF")


def test_no_thread_needs_what_another_one_does_in_the_same_step(monkeypatch, tmp_path):
    backwards = cuda_on_host.kernels(tmp_path, backwards=True)
    monkeypatch.setattr(compiler, "kernels", lambda: backwards)
    there, here = pair(PAGES["mixed"], "float32")
    same(there, here, data(here.spec, 5, 2), 2e-5)
    assert len(backwards.launcher.built) == 2


def test_what_kernels_do_not_cover_keeps_the_loops(on_host):
    for page, dtype in ((SPECS / "memory-network.yaml", "float32"), (gpu_rows.WRAPPED, "float64")):
        there, here = pair(page, dtype)
        same(there, here, data(here.spec, 3, 2), 1e-5)
    assert on_host.built == []


@pytest.mark.thorough
@settings(ROOM, max_examples=100 if THOROUGH else 3)
@given(case=st.integers(0, 2).flatmap(lambda k: grids(noise=k > 0)))
def test_random_grids_have_the_numbers_of_the_cpu(case, host):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "kernels", lambda: host)
        there, here = (gridc.compile(case.text, backend=b, dtype="float32", lowering="fused", eager=False)
                       for b in ("jax", "python"))  # fmt: skip
        for name, array in case.parameters.items():
            there.parameters[name] = here.parameters[name] = array
        if here.random_state is not None:
            there.random_state = here.random_state
        same(there, here, (case.inputs, case.targets, case.lengths), 1e-4)


@pytest.mark.parametrize("shared", [1 << 12, 1 << 14, 1 << 17])
def test_tiles_fit_and_cover_every_sum(shared):
    card = tiles.Card(blocks=16, shared=shared)
    for slots, rows, units, columns, inputs in [(1, 1, 1, 1, 1), (2, 128, 128, 4, 256), (3, 832, 100, 4, 300), (1, 8, 5, 8, 10)]:
        for cut in tiles.cuts(card, slots, rows, units, columns, inputs):
            lanes = cut.rows // cut.each * cut.units
            assert cut.rows % cut.each == 0
            assert lanes * cut.sums <= cut.threads <= card.threads
            assert cut.weights + cut.room <= shared
            assert cut.passes * card.blocks >= slots * -(-units // cut.units) * cut.parts
            assert cut.parts <= -(-rows // cut.rows)


def test_a_switch_without_what_it_needs_says_so(monkeypatch):
    def missing(*_):
        raise ImportError("cuda")

    monkeypatch.setattr(compiler.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(compiler, "Compiler", missing)
    compiler._on_card.cache_clear()
    assert compiler.kernels() is None  # XLA's loops do it
    assert 'pip install "gridc[cuda]"' in compiler.state()
    monkeypatch.setenv(compiler.SWITCH, "1")
    with pytest.raises(ResourceError, match=r'GRIDC_GPU_KERNEL=1 asks .* pip install "gridc\[cuda\]"'):
        compiler.kernels()
    monkeypatch.setenv(compiler.SWITCH, "0")
    assert compiler.kernels() is None
    compiler._on_card.cache_clear()


def test_tiles_are_timed_one_by_one(tmp_path, monkeypatch):
    host = cuda_on_host.Host(tmp_path, cuda_on_host.SMALL)

    def clear(to, value, count, _):
        assert (value, count.value) == (0, 1)
        ctypes.memset(to, 0, 4)
        return 0

    launch = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_void_p] * 10)(host.launch)
    cuda = SimpleNamespace(cuMemsetD32Async=clear, cuCtxSynchronize=lambda: 0, cuLaunchCooperativeKernel=launch)
    monkeypatch.setattr(gpu_tiles, "REPEATS", 1)
    monkeypatch.setattr(source, "tiles", source.tiles)  # so that it is put back
    monkeypatch.setattr(tiles, "UNITS", (4,))
    monkeypatch.setattr(tiles, "ROWS", (4,))
    monkeypatch.setattr(tiles, "EACH", (2, 4))
    monkeypatch.setitem(gpu_tiles.SIZES, "small", gpu_rows.SMALL[0])
    made, turns = gpu_tiles.sweep("small")
    alone = gpu_tiles.Alone(host, cuda)
    found = gpu_tiles.tried(alone, Persistent(made, alone), True, math.inf)
    assert turns > 9
    assert found[0][1] == "as chosen"
    assert len(host.built) == len(found) == 3
    assert all(ms > 0 for ms, _ in found)
