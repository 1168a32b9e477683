"""A sweep in segments, run twice: the same numbers in less memory; and runs that would not fit are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gridc
from gridc import resources
from gridc.errors import ResourceError, UsageError
from gridc.scheduling import segments
from gridc.scheduling.plan import plan
from gridc.scheduling.threads import Sharing
from gridc.symbolic import backends
from strategies import Case, grids

backends.prepare()
import pytensor  # noqa: E402, F401  # now: it raises the recursion limit, which hypothesis would notice in the middle of a test

from sharing import share, sharings  # noqa: E402

EXAMPLES = int(os.environ.get("GRIDC_EXAMPLES", "200"))
ROOM = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
SPEC = """
name: stack
dimensions: {{time: T, depth: {depth}}}
transforms:
  time: {{cell: lstm, hidden: {hidden}, tied: {tied}}}
  depth: {{cell: lstm, hidden: {hidden}, tied: {tied}}}
priority: [time, depth]
inputs:
  x: {{features: 3, enters: depth}}
outputs:
  y: {{classes: 4, reads: [depth], at: {{depth: last}}}}
"""


def stack(depth: int = 3, hidden: int = 8, tied: str = "all", **options: Any) -> gridc.Grid:
    return gridc.compile(SPEC.format(depth=depth, hidden=hidden, tied=tied), **options)


def call(time: int, batch: int = 2) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return {"x": rng.standard_normal((batch, time, 3))}, {"y": rng.integers(0, 4, (batch, time))}


def loaded(case: Case, recompute: bool) -> gridc.Grid:
    grid = gridc.compile(case.text, lowering="fused", dtype="float64", recompute=recompute)
    for name, array in case.parameters.items():
        grid.parameters[name] = array
    return grid


def same(one: gridc.Grid, other: gridc.Grid, *arrays: Any) -> None:
    loss, gradients, outputs = one.loss_and_gradients(*arrays)
    loss2, gradients2, outputs2 = other.loss_and_gradients(*arrays)
    assert loss == pytest.approx(loss2, rel=1e-12, abs=1e-12)
    for name, array in {**gradients, **outputs}.items():
        np.testing.assert_allclose({**gradients2, **outputs2}[name], array, rtol=1e-12, atol=1e-12, err_msg=name)
    inputs, lengths = arrays[0], arrays[2] if len(arrays) > 2 else None
    for (name, array), again in zip(one.predict(inputs, lengths).items(), other.predict(inputs, lengths).values(), strict=True):
        np.testing.assert_allclose(again, array, rtol=1e-12, atol=1e-12, err_msg=name)


@settings(ROOM, max_examples=14 if EXAMPLES <= 200 else EXAMPLES // 8)
@given(st.integers(0, 4).flatmap(lambda k: grids(memory=k == 4)), st.integers(1, 9), sharings())
def test_recomputing_changes_nothing(case: Case, count: int, sharing: Sharing) -> None:
    with pytest.MonkeyPatch.context() as patch:
        share(patch, sharing)
        patch.setattr(segments, "number", lambda program: min(count, len(program.batches)))
        same(loaded(case, False), loaded(case, True), case.inputs, case.targets, case.lengths)


@pytest.mark.parametrize("tied", ["all", "[time]"])
def test_every_step_of_training_agrees(tied: str) -> None:
    time, one, other = 12, *(stack(tied=tied, dtype="float64", recompute=r) for r in (False, True))
    steps = [grid.training_step("adam", learning_rate=0.01) for grid in (one, other)]
    for batch in (3, 3, 5, 3):
        arrays = call(time, batch)
        first, second = (step(*arrays) for step in steps)
        assert first == pytest.approx(second, rel=1e-9)
    same(one, other, *call(time))


def tape(grid: gridc.Grid, time: int) -> int:
    """Numbers that a training step's sweep really keeps, forward and backward."""
    spec = grid.spec
    return sum(plan(spec, spec.sizes({"T": time}), 2).sweep.room)


def test_memory_grows_as_the_square_root() -> None:
    grid = stack(hidden=32, recompute=True)
    small, large = tape(grid, 64), tape(grid, 256)
    assert large / small == pytest.approx(2, rel=0.15)
    assert tape(grid, 1024) / large == pytest.approx(2, rel=0.1)
    plain = stack(hidden=32)
    assert tape(grid, 256) * 4 < fused_numbers(plain, 256)


def fused_numbers(grid: gridc.Grid, time: int) -> int:
    return sum(plan(grid.spec, grid.spec.sizes({"T": time}), 2).sweep.room)


ALLOCATES = """
import tracemalloc
from test_recompute import call, stack
step, arrays = stack(hidden=32, recompute=True).training_step("sgd", learning_rate=0.1), call(200, 16)
step(*arrays)  # plans, and has its arrays made
step = stack(hidden=32, recompute=True).training_step("sgd", learning_rate=0.1)
tracemalloc.start()
step(*arrays)
print(tracemalloc.get_traced_memory()[1])
"""


def test_what_a_step_allocates_is_what_was_counted() -> None:
    # In a process of its own: to stop tracing beside threads that allocate can crash Python before 3.12.8.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    peak = int(subprocess.check_output([sys.executable, "-c", ALLOCATES], env=environment, text=True))
    grid = stack(hidden=32, recompute=True)
    assert peak <= 1.25 * grid.summary(batch=16, T=200).training_bytes
    assert grid.summary(batch=16, T=200).training_bytes * 4 < stack(hidden=32).summary(batch=16, T=200).training_bytes


PLAIN = """
import sys, tracemalloc
import numpy as np
import gridc
spec = gridc.read(sys.argv[1])
grid = gridc.compile(spec, lowering="plain")
def arrays(batch, length):
    sizes = spec.sizes({"T": length})
    return ({i.name: np.zeros((batch, *(sizes[d] for d in i.over)), int) for i in spec.inputs.values()},
            {o.name: np.zeros((batch, *(sizes[d] for d in o.axes)), int) for o in spec.outputs.values()})
for call in (grid.loss_and_gradients, lambda x, y: grid.predict(x)):
    call(*arrays(2, 2))  # builds, and keeps little
    tracemalloc.start()
    call(*arrays(12, 24))
    call(*arrays(12, 24))
    print(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
told = grid.summary(batch=12, T=24)
print(told.training_bytes, told.predict_bytes)
"""


@pytest.mark.parametrize("name", ["dropout", "two-grid"])
def test_what_the_plain_lowering_allocates_is_what_was_counted(name: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    spec = Path(__file__).parent.parent / "specs" / f"{name}.yaml"
    words = subprocess.check_output([sys.executable, "-c", PLAIN, str(spec)], env=environment, text=True).split()
    training, prediction, counted, counted_prediction = map(int, words)
    assert 0.8 * counted <= training <= 1.25 * counted
    assert 0.7 * counted_prediction <= prediction <= 1.35 * counted_prediction


def test_what_cannot_be_run_again_is_refused() -> None:
    with pytest.raises(UsageError, match=r"fused lowering"):
        stack(recompute=True, lowering="plain")


# -- what does not fit ---------------------------------------------------------------------------------------------


def test_a_step_that_would_not_fit_is_refused_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "available_memory", lambda: 8_000_000_000)
    grid = stack(hidden=256)
    monkeypatch.setattr(grid.functions, "_function", lambda name: pytest.fail("work was started"))
    arrays = call(2, 400_000)
    said = r"training step with 400,000 examples of 2 × 3 cells needs \d+\.\d GB .* 8\.0 GB .*recompute=True"
    with pytest.raises(ResourceError, match=said):
        grid.gradients(*arrays)
    with pytest.raises(ResourceError, match=r"needs \d+\.\d GB of memory and 8\.0 GB are available; a smaller batch may help"):
        grid.loss(*arrays)


def test_recomputing_fits_where_keeping_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, again = stack(hidden=32), stack(hidden=32, recompute=True)
    arrays, between = call(300, 8), [g.summary(batch=8, T=300).training_bytes for g in (kept, again)]
    monkeypatch.setattr(resources, "available_memory", lambda: sum(between) // 2)
    again.gradients(*arrays)
    with pytest.raises(ResourceError):
        kept.gradients(*arrays)
    monkeypatch.setattr(resources, "available_memory", lambda: between[1] // 8)
    again.gradients(*arrays)  # its arrays are there already
    with pytest.raises(ResourceError, match="a smaller batch"):
        again.gradients(*call(300, 32))


def test_memory_is_read_from_the_machine_and_its_groups(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    available = resources.available_memory()
    assert available is None or available > 0
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 5000 kB\n")
    monkeypatch.setattr(resources, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(resources, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(resources, "CGROUPS", tmp_path)
    assert resources.available_memory() == 5000 * 1024
    (tmp_path / "membership").write_text("0::/a/b\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    for folder, limit, used in ((tmp_path / "a", "3000000", "1000000"), (tmp_path / "a" / "b", "max", "5")):
        (folder / "memory.max").write_text(limit + "\n")
        (folder / "memory.current").write_text(used + "\n")
    (tmp_path / "a" / "memory.stat").write_text("anon 900000\ninactive_file 100000\n")
    assert resources.available_memory() == 2_100_000
    (tmp_path / "membership").write_text("4:memory:/c\n0::/\n")
    (tmp_path / "memory" / "c").mkdir(parents=True)
    (tmp_path / "memory" / "c" / "memory.limit_in_bytes").write_text("1000\n")
    (tmp_path / "memory" / "c" / "memory.usage_in_bytes").write_text("400\n")
    assert resources.available_memory() == 600
