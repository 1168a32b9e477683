"""Hyperplanes agree with the explicit graph on small grids, and are quick and small on large ones."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import gridc
from gridc.scheduling import graph, hyperplane
from gridc.scheduling.hyperplane import Dependence

AXES = ("x", "y", "z")


@st.composite
def uniform_grids(draw) -> tuple[str, tuple[int, ...]]:
    """A spec of one to three dimensions with directions, a priority and explicit offsets, and its sizes."""
    count = draw(st.integers(1, 3))
    sizes = tuple(draw(st.lists(st.integers(1, 5), min_size=count, max_size=count)))
    names = [f"t{i}" for i in range(draw(st.integers(1, 3)))]
    lines = ["name: g", f"dimensions: {{{', '.join(f'{a}: {n}' for a, n in zip(AXES, sizes, strict=False))}}}", "transforms:"]
    for name in names:
        along = draw(st.sampled_from(AXES[:count]))
        way = draw(st.sampled_from(["forward", "forward", "forward", "backward"]))
        cell = draw(st.sampled_from(["lstm", "dense", "gru"]))
        reads = ""
        if draw(st.integers(0, 2)) == 0:
            chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=2))
            entries = []
            for of in chosen:
                offset = {a: draw(st.sampled_from([-1, 0, -1, -2, 1])) for a in AXES[:count]}
                entries.append(f"{{of: {of}, offset: {{{', '.join(f'{a}: {o}' for a, o in offset.items())}}}}}")
            reads = f", reads: [{', '.join(entries)}]"
        lines.append(f"  {name}: {{cell: {cell}, hidden: 2, along: {along}, direction: {way}{reads}}}")
    if draw(st.booleans()):
        lines.append(f"priority: [{', '.join(draw(st.permutations(names)))}]")
    lines.append("inputs: {i: {features: 1, joins: [t0]}}")
    lines.append("outputs: {o: {classes: 2, reads: [t0], at: {x: last}}}")
    return "\n".join(lines) + "\n", sizes


@settings(max_examples=250, deadline=None)
@given(uniform_grids())
def test_planes_are_the_longest_paths(drawn: tuple[str, tuple[int, ...]]):
    text, sizes = drawn
    try:
        spec = gridc.read(text)
    except gridc.SpecError:
        return  # steps that wait for each other
    try:
        explicit = graph.build(spec, sizes).levels
    except graph.Cycle:
        return
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


def _valid(vector: hyperplane.Vector, needs: tuple[Dependence, ...], sizes: tuple[int, ...]) -> None:
    for need in needs:
        if any(abs(o) >= n for o, n in zip(need.offset, sizes, strict=True)):
            continue
        shift = sum(a * o for a, o in zip(vector.direction, need.offset, strict=True))
        assert vector.delays[need.after] - vector.delays[need.before] - shift >= 1


@settings(max_examples=120, deadline=None)
@given(uniform_grids())
def test_cells_too(drawn: tuple[str, tuple[int, ...]]):
    text, _ = drawn
    try:
        spec = gridc.read(text)
        plan = gridc.schedule(spec)
        steps = plan.steps
        before, after = steps.before % steps.cells, steps.after % steps.cells
        apart = before != after
        explicit = graph.longest_paths(steps.cells, before[apart], after[apart])
    except (gridc.SpecError, graph.Cycle):
        return
    assert plan.cells is not None
    assert list(plan.cells.widths) == np.bincount(explicit).tolist()


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
        import time
        from pathlib import Path
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
        start = time.process_time()
        plan = gridc.schedule(spec)
        print(plan.work, plan.span, sum(plan.widths), plan.cells.span, "steps" in vars(plan))
        print(time.process_time() - start)
        # The peak of this process alone: getrusage's counts that of the process that started it, too.
        print(*[line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")])
    """)
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert out[0] == out[2] == str(12_000_000)
    assert (int(out[3]), out[4]) == (2002, "False")
    assert float(out[5]) <= 1.0
    assert all(int(peak) <= 200 * 1024 for peak in out[6:])


def test_an_explicit_graph_of_a_hundred_thousand_steps():
    spec = _ordinary("x: 1000, y: 50", "priority: [x, y]")
    start = time.process_time()
    steps = graph.build(spec, (1000, 50))
    levels = steps.levels
    assert time.process_time() - start <= 3.0
    assert steps.count == 100_000
    assert int(levels.max()) + 1 == gridc.schedule(spec).span
