"""However many threads share a sweep, and whatever they share: the same bits, and no two of them in each other's way."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gridc
from gridc import resources
from gridc.benchmarks.cases import Case as Benchmark
from gridc.scheduling import check, segments, shares
from gridc.scheduling.plan import plan
from gridc.scheduling.program import ATTEND, CELL, COPY, PRODUCT, WRAP, Program
from gridc.scheduling.threads import ALONE, BEHIND, HELPING, Sharing
from gridc.symbolic import backends

backends.prepare()
from sharing import WAYS, share  # noqa: E402
from strategies import Case, grids  # noqa: E402
from test_grid import EXAMPLES, unchanged  # noqa: E402
from test_masks import drawn  # noqa: E402
from test_program import extents_of  # noqa: E402

ROOM = settings(deadline=None, suppress_health_check=list(HealthCheck))


@settings(ROOM, max_examples=max(6, EXAMPLES // 30))
@given(st.booleans().flatmap(lambda n: grids(noise=n)), st.sampled_from(["float32", "float64", "bfloat16"]),
       st.integers(1, 3), st.booleans())  # fmt: skip
def test_the_bits_are_the_same(case: Case, dtype: Any, count: int, few: bool) -> None:
    step = unchanged(case, dtype, "fused", drawn(case, "float32" if dtype == "bfloat16" else dtype), count > 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "number", lambda program: min(count, len(program.batches)))
        patch.setattr("gridc.scheduling.program.ENOUGH_ROWS", 10**9 if few else 1)
        share(patch, ALONE)
        known = step()
        for sharing in (BEHIND, HELPING, *(Sharing(way, n) for way in WAYS for n in (2, 3, 8))):
            share(patch, sharing)
            loss, *found = step()
            assert loss == known[0]
            for one, other in zip(known[1:], found, strict=True):
                for name, array in one.items():
                    assert np.array_equal(array, other[name], equal_nan=True), f"{name} where {sharing}"


# -- no two in each other's way ------------------------------------------------------------------------------------------
#
# Two threads do not meet in a test when they would on a machine with more cores; so what each touches between two meetings is
# worked out here from the rows alone, and nothing that one writes may another read or write.


def accesses(program: Program, step: Any, back: bool) -> list[tuple[str, int, np.ndarray, str]]:
    """What a step of a thread touches: ``(what, of which transform or block, rows, 'r' or 'w')``."""
    t, p = int(step["transform"]), program.transforms[step["transform"]]
    rows, kind, does = np.arange(step["first"], step["end"]), step["kind"], int(step["does"])
    start = program.block_starts[t]
    found: list[tuple[str, int, np.ndarray, str]] = []
    if kind == WRAP:
        found += [("dh" if back else "h", t, np.array([step[name]]), "w" if (name == "source") == back else "r")
                  for name in ("source", "target")]  # fmt: skip
    for j in range(int(step["low"]) - start, int(step["high"]) - start) if kind in (PRODUCT, COPY) else ():
        joined = j >= len(p.sources)
        index = (p.joined_rows[j - len(p.sources)] if joined else p.read_rows[j])[rows]
        where = ("joined", start + j) if joined else ("dh" if back else "h", p.sources[j])
        if back or (not joined and (kind == COPY or does & shares.READ)):
            found.append((*where, index[index >= 0], "w" if back else "r"))
    if kind == PRODUCT:
        found.append(("g", t, rows, "r" if back else "w" if does & shares.MULTIPLY else "r"))
        found.append(("z", t, rows, "r" if back or not does & shares.READ else "w"))
    if kind in (CELL, COPY, ATTEND):
        found.append(("dh" if back else "h", t, rows, "r" if back and kind == COPY else "w"))
    if kind in (CELL, ATTEND):
        if back and p.fact_rows is not None:
            found += [("facts", t, p.fact_rows[rows] + k, "w") for k in (0, 1)]
        found.append(("g", t, rows, "w"))
        found += [("dh" if back else "h", t, index[rows], "w" if back else "r") for index in p.carried_rows]
    return found


def check_apart(program: Program, told: list[np.ndarray], back: bool) -> None:
    """Between two meetings a thread touches nothing that another writes, but other columns of it."""
    stretches = [np.split(own, np.flatnonzero((own["kind"] == shares.MEET) & (own["does"] == 0))) for own in told]
    assert len({len(each) for each in stretches}) == 1, "all of them meet as often"
    for now in zip(*stretches, strict=True):
        touched: dict[tuple[str, int], dict[int, set[tuple[int, str, int]]]] = defaultdict(lambda: defaultdict(set))
        for thread, steps in enumerate(now):
            for step in steps[steps["kind"] < shares.PACK]:
                columns = int(step["parts"]) if step["kind"] == PRODUCT and step["parts"] > 1 else 0
                for what, of, rows, how in accesses(program, step, back):
                    # Columns of one product are apart; those of two need not be.
                    mine = (int(step["first"]), int(step["low"])) if columns else None
                    for row in rows.tolist():
                        touched[what, of][row].add((thread, how, hash(mine) if columns else 0))
        for (what, of), by in touched.items():
            for row, who in by.items():
                threads = {thread for thread, *_ in who}
                product = {mark for *_, mark in who}
                apart = len(threads) == 1 or all(how == "r" for _, how, _ in who) or (len(product) == 1 and product != {0})
                assert apart, f"row {row} of {what} {of} is touched by threads {sorted(threads)} without a meeting"


def check_packed(program: Program, *told: Any) -> None:
    """Weights that are packed ahead have room to lie in; a product that alone uses some packs a part at a time, elsewhere."""
    for step in np.concatenate(told):
        if step["kind"] == shares.PACK:
            slots = program.slots[step["transform"]]
            assert slots == 1 or step["weight"] < slots


@settings(ROOM, max_examples=max(20, EXAMPLES // 5))
@given(grids(), st.sampled_from(WAYS), st.sampled_from((2, 3, 8)), st.integers(1, 4), st.integers(0, 9))
def test_no_two_threads_are_in_each_others_way(case: Case, way: Any, threads: int, count: int, rows: int) -> None:
    spec = gridc.read(case.text)
    sizes, extents = extents_of(case, spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "number", lambda program: min(count, len(program.batches)))
        patch.setattr("gridc.scheduling.program.ENOUGH_ROWS", rows)
        patch.setattr(shares, "narrow", lambda rows_, *_: rows_ < rows)
        asked = check.asked(spec, None, count > 1)
        for segment in plan(asked, sizes, case.batch, extents).sweep.segments:
            each = shares.share(segment.program, Sharing(way, threads))
            for own in (*each, *shares.share(segment.program, ALONE)):
                check_packed(segment.program, own.forward, own.backward)
            for name in ("forward", "backward"):
                told = [getattr(own, name) for own in each]
                check_apart(segment.program, told, name == "backward")
                done = np.concatenate([own[own["kind"] == CELL] for own in told])
                alone = segment.program.steps[segment.program.steps["kind"] == CELL]
                assert sum(done["end"] - done["first"]) == sum(alone["end"] - alone["first"])


# -- wherever they run ---------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # JAX's, of any fork
def test_more_threads_than_cores_end_and_so_do_those_of_a_forked_child() -> None:
    case = Benchmark("small", "grid", (6, 5), 16, 3)
    grid, (x, y) = case.grid(threads=1), case.data()
    known = grid.gradients({"x": x}, {"y": y})
    with pytest.MonkeyPatch.context() as patch:
        for sharing in (Sharing("wavefront", 3 + (os.cpu_count() or 1)), Sharing("examples", 3), BEHIND):
            share(patch, sharing)
            for name, array in grid.gradients({"x": x}, {"y": y}).items():
                assert np.array_equal(array, known[name])
        share(patch, Sharing("wavefront", 4))
        child = os.fork()
        if not child:
            found = grid.gradients({"x": x}, {"y": y})
            os._exit(0 if all(np.array_equal(found[name], array) for name, array in known.items()) else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_the_cores_of_a_process_are_those_that_it_may_use(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    able = os.sched_getaffinity(0)
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    monkeypatch.setattr(resources, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(resources, "CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)))

    def cores() -> int:
        resources.quota.cache_clear()
        return resources.threads()

    assert cores() == 12
    (tmp_path / "membership").write_text("0::/a/b\n")
    (here / "cpu.max").write_text("max 100000\n")
    (tmp_path / "a" / "cpu.max").write_text("250000 100000\n")
    assert cores() == 3, "what a group around it may take"
    (here / "cpu.max").write_text("50000 100000\n")
    assert cores() == 1
    (tmp_path / "membership").write_text("3:cpu,cpuacct:/a\n")
    old = tmp_path / "cpu" / "a"
    old.mkdir(parents=True)
    (old / "cpu.cfs_quota_us").write_text("-1\n")
    (old / "cpu.cfs_period_us").write_text("100000\n")
    assert cores() == 12
    (old / "cpu.cfs_quota_us").write_text("400000\n")
    assert cores() == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    assert cores() == 2
    resources.hold(5)
    try:
        assert cores() == 5, "what somebody asked for"
    finally:
        resources.hold(None)
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert cores() == 4
    monkeypatch.undo()
    resources.quota.cache_clear()
    assert 1 <= resources.threads() <= len(able)
