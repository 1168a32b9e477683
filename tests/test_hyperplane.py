"""Hyperplanes agree with the oracle's longest paths on small grids; on large ones they take few calls and little memory."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections import Counter
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings

import gridc
import oracle
from gridc.scheduling import graph, hyperplane
from gridc.scheduling.hyperplane import Dependence

AXES = ("x", "y", "z")


@st.composite
def uniform_grids(draw) -> dict[str, Any]:
    """A spec of one to three dimensions with directions, a priority and explicit offsets; some have cycles."""
    count = draw(st.integers(1, 3))
    sizes = draw(st.lists(st.integers(1, 5), min_size=count, max_size=count))
    names = [f"t{i}" for i in range(draw(st.integers(1, 3)))]
    transforms: dict[str, Any] = {}
    for name in names:
        way = draw(st.sampled_from(["forward", "forward", "forward", "backward"]))
        cell = draw(st.sampled_from(["lstm", "dense", "gru"]))
        transforms[name] = {"cell": cell, "hidden": 2, "along": draw(st.sampled_from(AXES[:count])), "direction": way}
        if draw(st.integers(0, 2)) == 0:
            transforms[name]["reads"] = [
                {"of": of, "offset": {a: draw(st.sampled_from([-1, 0, -1, -2, 1])) for a in AXES[:count]}}
                for of in draw(st.lists(st.sampled_from(names), min_size=1, max_size=2))
            ]
    return {
        "name": "g",
        "dimensions": dict(zip(AXES, sizes, strict=False)),
        "transforms": transforms,
        "inputs": {"i": {"features": 1, "joins": ["t0"]}},
        "outputs": {"o": {"classes": 2, "reads": ["t0"], "at": {"x": "last"}}},
    } | ({"priority": draw(st.permutations(names))} if draw(st.booleans()) else {})


def test_planes_are_the_longest_paths():
    proven: list[bool] = []

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
    @given(uniform_grids())
    def look(spec: dict[str, Any]):
        proven.append(_equal_to_the_oracle(spec))

    look()
    assert sum(proven) > 0.5 * len(proven) > 50, "a uniform grid whose longest paths are planes is found to be one"


def _equal_to_the_oracle(page: dict[str, Any]) -> bool:
    """Whether a spec's wavefronts were proven to be planes; compared they are in any case."""
    try:
        spec = gridc.read(json.dumps(page))
    except gridc.SpecError:
        assume(False)  # steps that wait for each other
        raise
    sizes, known = spec.sizes({}), oracle.levels(page, {})
    explicit = np.array([known[step] for step in graph.build(spec, sizes).steps])
    planes = hyperplane.of_steps(spec, sizes)
    if planes is not None:
        assert np.array_equal(planes.levels(), explicit)
        assert np.array_equal(planes.widths(), np.bincount(explicit))
        for k in range(planes.span):
            assert np.array_equal(planes.wavefront(k), np.flatnonzero(explicit == k))
    # Whichever way a schedule goes about it, the figures are those of the explicit graph.
    plan = gridc.schedule(spec)
    assert (plan.span, plan.work) == (int(explicit.max()) + 1, len(explicit))
    assert list(plan.widths) == np.bincount(explicit).tolist()
    # No schedule vector makes fewer wavefronts than the longest path.
    needs = hyperplane.dependences(spec)
    assert needs is not None
    for vector in hyperplane.optimal_vectors(needs, len(spec.transforms), sizes)[:3]:
        assert vector.span >= plan.span
        _valid(vector, needs, sizes)
    by_cell = oracle.levels_of_cells(page, {})
    assert (plan.cells is None) == (by_cell is None)
    if plan.cells is not None and by_cell is not None:
        assert list(plan.cells.widths) == np.bincount(list(by_cell.values())).tolist()
    return planes is not None


def _valid(vector: hyperplane.Vector, needs: tuple[Dependence, ...], sizes: tuple[int, ...]) -> None:
    for need in needs:
        if any(abs(o) >= n for o, n in zip(need.offset, sizes, strict=True)):
            continue
        shift = sum(a * o for a, o in zip(vector.direction, need.offset, strict=True))
        assert vector.delays[need.after] - vector.delays[need.before] - shift >= 1


def _ordinary(dimensions: str, priority: str = "") -> gridc.GridSpec:
    names = [part.split(":")[0].strip() for part in dimensions.split(",")]
    transforms = "\n".join(f"  {name}: {{cell: lstm, hidden: 8}}" for name in names)
    return gridc.read(
        f"name: g\ndimensions: {{{dimensions}}}\ntransforms:\n{transforms}\n{priority}\n"
        f"inputs: {{i: {{features: 1, enters: {names[-1]}}}}}\noutputs: {{o: {{classes: 2, reads: [{names[-1]}]}}}}\n"
    )


@pytest.mark.parametrize("dimensions", ["x: 9", "x: 9, y: 7", "x: 6, y: 5, z: 3", "x: 9, y: 1, z: 2"])
@pytest.mark.parametrize("reverse", [False, True])
def test_ordinary_grids_are_all_proven(dimensions: str, reverse: bool):
    names = [part.split(":")[0].strip() for part in dimensions.split(",")]
    for priority in ("", f"priority: [{', '.join(reversed(names) if reverse else names)}]"):
        plan = gridc.schedule(_ordinary(dimensions, priority))
        assert plan.plane is not None
        assert np.array_equal(plan.plane.levels(), plan.steps.levels)


def test_opposite_directions_have_a_vector_each():
    plan = gridc.schedule(
        "name: g\ndimensions: {x: 9}\ntransforms:\n  a: {cell: lstm, hidden: 2, along: x, reads: [a]}\n"
        "  b: {cell: lstm, hidden: 2, along: x, direction: backward, reads: [b]}\n"
        "inputs: {i: {features: 1, joins: [a]}}\noutputs: {o: {classes: 2, reads: [a]}}\n"
    )
    assert plan.plane is not None
    assert plan.plane.vectors == ((1,), (-1,))
    assert plan.widths == (2,) * 9


def test_stairs_are_no_plane():
    # Of every two cells the second waits for nobody: the longest paths climb in steps of two.
    needs = (Dependence(0, 0, (-2,)),)
    assert hyperplane.planes(("t",), needs, (9,)) is None
    assert hyperplane.optimal_vectors(needs, 1, (9,))[0].direction == (1,)


@pytest.mark.parametrize(
    ("needs", "transforms", "sizes", "direction", "span"),
    [
        ([(0, 0, (-1, 0)), (0, 0, (0, -1))], 1, (49, 18), (1, 1), 66),
        ([(0, 0, (-1, 0)), (1, 1, (0, -1)), (0, 1, (0, -1)), (1, 0, (0, 0)), (1, 0, (0, 0))], 2, (49, 18), (1, 2), 84),
        ([(0, 0, (-1, 1)), (0, 0, (-1, -1)), (0, 0, (-1, 0))], 1, (5, 50), (1, 0), 5),  # a stencil: time alone
        ([(0, 0, (0, -1)), (0, 0, (-1, 3))], 1, (6, 8), (4, 1), 28),  # skewed: the rows start four apart
    ],
)
def test_optimal_vectors(needs, transforms: int, sizes: tuple[int, int], direction: tuple[int, int], span: int):
    best = hyperplane.optimal_vectors([Dependence(*need) for need in needs], transforms, sizes)
    assert best[0].direction == direction
    assert best[0].span == span


def test_several_vectors_serve():
    # Diagonal moves alone on a square grid: (1, 0) and (0, 1) make equally few wavefronts.
    best = hyperplane.optimal_vectors([Dependence(0, 0, (-1, -1))], 1, (7, 7))
    assert {(1, 0), (0, 1)} <= {vector.direction for vector in best}
    assert {vector.span for vector in best} == {7}


def test_irregular_grids_have_none():
    spec = gridc.read(
        "name: g\ndimensions: {x: 3, y: 4}\ntransforms:\n"
        "  x: {cell: lstm, hidden: 2, direction: {over: y, cycle: [forward, backward]}}\n  y: {cell: lstm, hidden: 2}\n"
        "inputs: {i: {features: 1, enters: y}}\noutputs: {o: {classes: 2, reads: [y]}}\n"
    )
    assert hyperplane.dependences(spec) is None
    assert gridc.schedule(spec).span == 12


def test_a_thousand_by_a_thousand_by_four():
    code = textwrap.dedent("""
        from collections import Counter
        from pathlib import Path
        import sys
        import gridc
        spec = gridc.read('''
        name: large
        dimensions: {rows: 1000, columns: 1000, depth: 4}
        transforms:
          rows: {cell: lstm, hidden: 8}
          columns: {cell: lstm, hidden: 8}
          depth: {cell: lstm, hidden: 8}
        priority: [rows, columns, depth]
        inputs: {i: {features: 1, enters: depth}}
        outputs: {o: {classes: 2, reads: [depth]}}
        ''')
        calls = Counter()
        sys.setprofile(lambda frame, event, argument: calls.update([event]))
        plan = gridc.schedule(spec)
        print(plan.work, plan.span, sum(plan.widths), plan.cells.span, "steps" in vars(plan))
        sys.setprofile(None)
        print(calls["call"] + calls["c_call"])
        # The peak of this process alone: getrusage's counts that of the process that started it, too.
        print(*[line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")])
    """)
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert out[0] == out[2] == str(12_000_000)
    assert (int(out[3]), out[4]) == (2002, "False")
    assert int(out[5]) <= 20_000, "calls, for 12 million steps"
    assert all(int(peak) <= 200 * 1024 for peak in out[6:])


def test_an_explicit_graph_of_a_hundred_thousand_steps_is_levelled_without_a_loop_over_them():
    spec, calls = _ordinary("x: 1000, y: 50", "priority: [x, y]"), Counter[str]()
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, argument: calls.update([event]))
    try:
        steps = graph.build(spec, (1000, 50))
        levels = steps.levels
    finally:
        sys.setprofile(before)
    assert steps.count == 100_000
    assert int(levels.max()) + 1 == gridc.schedule(spec).span
    assert calls["call"] + calls["c_call"] < steps.count
