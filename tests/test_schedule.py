"""Schedules: known figures, golden figures of every spec, batches, paths, costs, and the doors to other programs."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

import gridc
import oracle
from gridc.insight import arithmetic, changes, report, simulation
from gridc.pictures import exports
from gridc.scheduling import counts, graph
from gridc.scheduling.graph import Step
from gridc.tables.mechanisms import POINTWISE
from strategies import Case, case_of, grids

SPECS = sorted((Path(__file__).parent.parent / "specs").glob("*.yaml"))


def two_grid(time: object = "T", depth: int = 3, *, priority: str = "", tied: str = "all", inputs: str = "") -> gridc.GridSpec:
    return gridc.read(
        textwrap.dedent(f"""
        name: two
        dimensions: {{time: {time}, depth: {depth}}}
        transforms:
          time: {{cell: lstm, hidden: 8, tied: {tied}}}
          depth: {{cell: lstm, hidden: 8, tied: {tied}}}
        {priority}
        inputs: {{x: {{features: 3, enters: depth}}}}
        outputs: {{y: {{classes: 2, reads: [depth], at: {{time: last, depth: last}}}}}}
        """)
    )


def corners(rows: str, columns: str) -> gridc.GridSpec:
    return gridc.read(
        textwrap.dedent(f"""
        name: corners
        dimensions: {{rows: 14, columns: 14, depth: 4}}
        transforms:
          rows: {{cell: lstm, hidden: 4, direction: {{over: depth, cycle: [{rows}]}}}}
          columns: {{cell: lstm, hidden: 4, direction: {{over: depth, cycle: [{columns}]}}}}
          depth: {{cell: lstm, hidden: 4}}
        inputs: {{image: {{features: 3, enters: depth}}}}
        outputs: {{y: {{classes: 2, reads: [depth], at: {{rows: last, columns: last, depth: last}}}}}}
        """)
    )


# -- known schedules ---------------------------------------------------------------------------------------------------


def test_18_by_49_without_priority_is_882_cells_in_66_wavefronts():
    plan = gridc.schedule(two_grid(49, 18))
    assert plan.cells is not None
    assert (plan.cells.work, plan.cells.span) == (882, 66)
    assert (plan.work, plan.span) == (2 * 882, 66)


def test_18_by_49_with_a_priority_has_a_span_of_84_steps():
    plan = gridc.schedule(two_grid(49, 18, priority="priority: [time, depth]"))
    assert plan.span == 84
    assert plan.cells is not None
    assert plan.cells.span == 66


def test_three_dimensions_from_one_corner():
    forward = ", ".join(["forward"] * 4)
    plan = gridc.schedule(corners(forward, forward))
    assert plan.cells is not None
    assert plan.cells.span == 30


F, B = "forward", "backward"


@pytest.mark.parametrize(
    ("order", "span"),
    [
        ([(F, F), (F, B), (B, B), (B, F)], 69),  # always a neighbouring corner next
        ([(F, F), (B, B), (F, B), (B, F)], 95),  # twice the opposite one
        ([(F, F), (F, B), (B, F), (B, B)], 82),  # once the opposite one
        ([(F, F), (B, B), (F, F), (B, B)], 108),  # always the opposite one
    ],
)
def test_four_corners_by_their_order(order: list[tuple[str, str]], span: int):
    plan = gridc.schedule(corners(", ".join(r for r, _ in order), ", ".join(c for _, c in order)))
    assert plan.cells is not None
    assert plan.cells.span == span


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_golden(path: Path, golden):
    spec = gridc.read(path)
    plan = gridc.schedule(spec, **dict.fromkeys(spec.symbols, 6))
    sums = arithmetic.arithmetic(plan)
    golden(path.stem, {
        "sizes": dict(zip(spec.names(range(len(spec.dimensions))), plan.sizes, strict=True)),
        "work": plan.work, "span": plan.span, "widths": plan.widths,
        "cells": plan.cells and {"span": plan.cells.span, "widths": plan.cells.widths},
        "critical_path": [str(step) for step in plan.critical_path], "products": changes.products(plan),
        "flops": sums.flops, "training_bytes": sums.training_bytes, "alive": arithmetic.lifetimes(plan).vectors.tolist(),
    })  # fmt: skip


# -- random grids, against the oracle ----------------------------------------------------------------------------------


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=100, print_blob=True)
@given(case=st.integers(0, 9).flatmap(lambda k: grids(memory=k == 9, noise=k == 8)))
def test_random_schedules_are_the_oracles(case: Case):
    known, levels = oracle.steps(case.spec, case.sizes), oracle.levels(case.spec, case.sizes)
    schedule = gridc.schedule(case.text, **case.sizes)
    event("planes" if schedule.plane is not None else "the explicit graph")
    assert dict(schedule.levels) == levels
    for step, needed in known.items():
        assert {before for before, _ in schedule.predecessors(step)} == set(needed), step
    fronts = [{step for step, level in levels.items() if level == k} for k in range(max(levels.values()) + 1)]
    assert [set(front) for front in schedule.wavefronts] == fronts
    assert list(schedule.widths) == [len(front) for front in fronts]
    assert (schedule.work, schedule.span) == (sum(schedule.widths), len(fronts)) == (len(known), max(levels.values()) + 1)
    transforms = oracle.Grid(case.spec).transforms
    for k, front in enumerate(fronts):  # a batch is what multiplies by one matrix, and of every matrix there is one
        batches = [set(batch.steps) for batch in schedule.batches(k)]
        by_weights: dict[object, set[oracle.Step]] = {}
        for name, p in front:
            t = transforms[name]
            by_weights.setdefault((t.weights, tuple(p[d] for d in t.untied)), set()).add((name, p))
        assert sorted(map(sorted, batches)) == sorted(map(sorted, by_weights.values()))
    cells, by_cell = schedule.cells, oracle.levels_of_cells(case.spec, case.sizes)
    event("cells wait for each other" if by_cell is None else "cells have wavefronts")
    assert (cells is None) == (by_cell is None)
    if cells is not None and by_cell is not None:
        assert list(cells.widths) == np.bincount(list(by_cell.values())).tolist()
        assert (cells.work, cells.span) == (len(by_cell), max(by_cell.values()) + 1)


WRAPS = {
    "name": "wraps",
    "dimensions": {"time": "T", "rows": 3},
    "transforms": {"time": {"cell": "gru", "hidden": 2, "reads": ["time"], "start": {"wrap": {"rows": -1}}}},
    "inputs": {"x": {"features": 1, "joins": ["time"]}},
    "outputs": {"y": {"reads": ["time"], "raw": True}},
}
"""The first cell of a row waits for the last of the row before: in a shorter example that is another one."""


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=50, print_blob=True)
@given(case=grids())
@example(case=case_of(WRAPS, {"T": 4}, 3, {"T": [2, 4, 1]}))
@example(case=case_of(WRAPS, {"T": 4}, 2, {"T": [2, 3]}))
def test_with_lengths_a_step_waits_for_what_any_example_needs(case: Case):
    grid = oracle.Grid(case.spec)
    lengths = {symbol: np.full(case.batch, n) for symbol, n in case.sizes.items()} | (case.lengths or {})
    own = [grid.sizes({symbol: int(n[b]) for symbol, n in lengths.items()}) for b in range(case.batch)]
    sizes = grid.sizes(case.sizes)
    known = {(before, after) for some in {sizes, *own} for after, needed in grid.steps(some).items() for before in needed}
    event("ragged" if set(own) != {sizes} else "whole")
    event("the lengths make steps wait" if len(known) > sum(map(len, grid.steps(sizes).values())) else "nothing more")
    built = graph.build(gridc.read(case.text), sizes, np.asarray(own, np.int64))
    found = {(built.step(a), built.step(b)) for a, b in zip(built.before.tolist(), built.after.tolist(), strict=True)}
    assert found == known


# -- what a schedule says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_wavefronts_batches_levels_and_graph_agree(path: Path):
    spec = gridc.read(path)
    plan = gridc.schedule(spec, **dict.fromkeys(spec.symbols, 3))
    assert nx.is_directed_acyclic_graph(plan.graph)
    assert plan.graph.number_of_nodes() == plan.work == sum(plan.widths) == len(plan.levels)
    assert [len(front) for front in plan.wavefronts] == list(plan.widths)
    for k, front in enumerate(plan.wavefronts):
        assert all(plan.levels[step] == k == plan.graph.nodes[step]["wavefront"] for step in front)
        batched = [step for batch in plan.batches(k) for step in batch.steps]
        assert sorted(batched) == sorted(front)
    for before, after in plan.graph.edges:
        assert plan.levels[before] < plan.levels[after]
        assert before in [step for step, _ in plan.predecessors(after)]
    assert nx.dag_longest_path_length(plan.graph) == plan.span - 1
    assert sum(len(plan.predecessors(step)) for step in plan.levels) >= plan.graph.number_of_edges()


def test_the_critical_path_is_a_path_of_the_graph_as_long_as_the_span():
    plan = gridc.schedule(two_grid(priority="priority: [time, depth]"), T=7)
    path = plan.critical_path
    assert len(path) == plan.span
    assert all(plan.graph.has_edge(a, b) for a, b in itertools.pairwise(path))
    assert all(isinstance(step, Step) for step in path)


def test_untied_weights_make_more_batches():
    tied, untied = (gridc.schedule(two_grid(5, 4, tied=t)) for t in ("all", "[time]"))
    assert len(tied.batches(3)) == 2
    assert len(untied.batches(3)) == 8
    assert {batch.weight for batch in untied.batches(3)} == {0, 1, 2, 3}


def test_wavefronts_are_a_sequence():
    plan = gridc.schedule(two_grid(3, 2))
    assert plan.wavefronts[0] == (("time", (0, 0)), ("depth", (0, 0)))
    assert plan.wavefronts[-1] == plan.wavefronts[plan.span - 1]
    assert len(plan.wavefronts[1:3]) == 2
    with pytest.raises(IndexError, match="0 to 3"):
        plan.wavefronts[4]
    with pytest.raises(KeyError):
        plan.levels["time", (3, 0)]  # pyright: ignore[reportArgumentType]  # a plain tuple is looked up too


def test_sizes_that_are_missing_unknown_or_not_positive():
    spec = two_grid()
    with pytest.raises(gridc.UsageError, match=r"needs the size of 'T'.*T=20"):
        gridc.schedule(spec)
    with pytest.raises(gridc.UsageError, match=r"'time' is a dimension; its size is the symbol 'T'"):
        gridc.schedule(spec, time=3)
    with pytest.raises(gridc.UsageError, match=r"fixed size 3"):
        gridc.schedule(spec, depth=3)
    with pytest.raises(gridc.UsageError, match=r"no symbol 'TT'.*did you mean 'T'"):
        gridc.schedule(spec, TT=3, T=3)
    for wrong in (0, -1, True, 2.5, "3"):
        with pytest.raises(gridc.UsageError, match="expected a positive integer"):
            gridc.schedule(spec, T=wrong)  # type: ignore[arg-type]


def test_a_spec_may_be_a_path_or_a_text():
    spec = two_grid(3, 2)
    assert gridc.schedule(spec.source.text) == gridc.schedule(spec)
    one = Path(__file__).parent.parent / "specs" / "one-grid-untied.yaml"
    assert gridc.schedule(one).spec == gridc.schedule(str(one)).spec == gridc.read(one)


def test_tables_say_the_figures():
    plan = gridc.schedule(two_grid(priority="priority: [time, depth]"), T=5)
    text = str(plan)
    rows = {line[:24].strip(): line[24:].split() for line in text.splitlines()}
    assert (rows["steps (work)"][0], rows["wavefronts (span)"][0], rows["parallelism"][0]) == ("30", "10", "3.0")
    assert "critical path  time[0, 0] → depth[0, 0] → …" in text
    said_all = report.report(plan, 4)
    for said in ("no priority", "Brent", "Graham", "vectors alive", "tiles of 2", "limits it most"):
        assert said in said_all
    both = report.comparison([plan, gridc.schedule(two_grid(5, 3))])
    assert both.splitlines()[2].split() == ["steps", "30", "30"]
    assert "time[entering]" in str(plan.spec)


@pytest.mark.parametrize("name", ["text-classifier", "three-grid", "four-corners", "bidirectional", "stacked-lstm"])
def test_what_people_read_of_a_schedule(name: str, golden_text):
    spec = gridc.read(SPECS[0].with_name(f"{name}.yaml"))
    plan = gridc.schedule(spec, **dict.fromkeys(spec.symbols, 12))
    # Costs of its own, and without the table of changes: the cost model's constants are measured, and may be again.
    model = simulation.Model(steps={name: 1e-5 * (i + 1) for i, name in enumerate(spec.transforms)}, move=2e-6)
    text, limits, rest = report.report(plan, 4, model).partition("limits it most")
    golden_text(f"{name}.report", text + limits + rest.partition(".")[0] + ".")
    golden_text(f"{name}.path", report.path_table(plan))


def test_specs_side_by_side(golden_text):
    specs = [SPECS[0].with_name(f"{name}.yaml") for name in ("two-grid", "two-grid-time-prioritised", "stacked-lstm")]
    plans = [gridc.schedule(spec, T=20) for spec in specs]
    golden_text("comparison", report.comparison(plans, 4, simulation.Model(steps={"time": 1e-5, "depth": 2e-5}, move=2e-6)))
    assert "two (1)" in report.comparison([gridc.schedule(two_grid(), T=3), gridc.schedule(two_grid(), T=4)]).splitlines()[0]


@pytest.mark.parametrize(
    ("widths", "said"),
    [
        ((1,), "1"),
        ((3, 3), "3 × 2"),
        ((1, 2, 3, 4, 4, 4, 3, 2, 1), "1, 2 … 4, 4 × 2, 3, 2, 1"),
        ((1, 2, 3, 3, 2, 1), "1, 2, 3 × 2, 2, 1"),
        ((1, 5, 1, 5), "1, 5, 1, 5"),
        ((2, 4, 6, 8, 1_000), "2, 4 … 8, 1,000"),
    ],
)
def test_widths_in_few_words(widths: tuple[int, ...], said: str):
    assert report.widths_text(widths, most=40) == said


def test_the_schedule_vector_is_said_and_others_that_serve():
    def row(plan: gridc.Schedule) -> list[str]:
        (line,) = (line for line in report.figures(plan).splitlines() if "schedule vector" in line)
        return line.split("schedule vector")[1].split(maxsplit=1)

    plan = gridc.schedule(two_grid(priority="priority: [time, depth]"), T=9)
    assert row(plan) == ["time", "+ 2·depth   depth 1 later"]
    assert plan.vectors[0].span == plan.span
    diagonal = gridc.schedule(
        "name: d\ndimensions: {x: 7, y: 7}\n"
        "transforms:\n  a: {cell: dense, hidden: 2, along: x, reads: [{of: a, offset: {x: -1, y: -1}}]}\n"
        "inputs: {i: {features: 1, joins: [a]}}\noutputs: {o: {classes: 2, reads: [a]}}\n"
    )
    assert {"x", "y"} == {row(diagonal)[0], row(diagonal)[1].split("; ")[1].split()[0]}
    assert {vector.direction for vector in diagonal.vectors} >= {(1, 0), (0, 1)}
    assert row(gridc.schedule(corners("forward, backward", "forward, backward")))[0] == "none"


def test_every_width_is_said():
    # What is written out again from the words is what went in.
    for spec, sizes in ((two_grid(49, 18), {}), (two_grid(priority="priority: [time, depth]"), {"T": 9})):
        widths: list[int] = []
        for part in report.widths_text(gridc.schedule(spec, **sizes).widths, most=1000).split(", "):
            if " × " in part:
                value, times = map(int, part.split(" × "))
                widths += [value] * times
            elif " … " in part:
                second, last = map(int, part.split(" … "))
                step = second - widths[-1]
                widths += range(second, last + step, step)
            else:
                widths.append(int(part))
        assert tuple(widths) == gridc.schedule(spec, **sizes).widths


def test_a_grid_too_large_to_simulate_has_its_figures():
    plan = gridc.schedule(two_grid(100_000, 20, priority="priority: [time, depth]"))
    text = report.report(plan, 8)
    assert "not simulated" in text
    assert "not counted" in text
    assert "not simulated" in str(plan.speedup(8))
    assert f"{plan.span:,}" in text
    assert len(plan.critical_path) == plan.span == 100_039
    rows = {line[:24].strip(): line[24:].split() for line in report.comparison([plan]).splitlines()}
    assert rows["simulated, in time"] == rows["vectors alive at most"] == ["–"]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_the_critical_path_is_the_same_by_planes_and_by_the_graph(path: Path):
    spec = gridc.read(path)
    plan = gridc.schedule(spec, **dict.fromkeys(spec.symbols, 4))
    by_graph = gridc.schedule(spec, **dict.fromkeys(spec.symbols, 4))
    vars(by_graph)["plane"] = None  # as if the grid were not uniform
    assert plan.critical_path == by_graph.critical_path
    assert len(report.reasons(plan)) == plan.span - 1


def test_no_pytensor_is_imported():
    code = (
        "import sys, gridc\n"
        f"plan = gridc.schedule({str(SPECS[0])!r}, **dict.fromkeys(gridc.read({str(SPECS[0])!r}).symbols, 3))\n"
        "plan.to_html(), plan.to_svg(), plan.to_json(), str(plan), plan.order, gridc.schedule\n"
        "assert callable(gridc.schedule)\n"
        "assert 'pytensor' not in sys.modules and 'matplotlib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- costs -------------------------------------------------------------------------------------------------------------


def test_bounds_hold_for_the_simulation():
    plan = gridc.schedule(two_grid(priority="priority: [time, depth]"), T=30)
    even = simulation.Model(steps={"time": 1.0, "depth": 1.0}, move=0.0)
    for workers in (1, 2, 3, 8):
        fast = plan.speedup(workers, even)
        assert fast.simulated is not None
        assert fast.graham - 1e-9 <= fast.simulated <= fast.most + 1e-9
        assert fast.brent <= fast.most + 1e-9
        assert fast.brent >= plan.work / (plan.span + (plan.work - plan.span) / workers) - 1e-9
    assert plan.speedup(1).simulated == pytest.approx(1.0)
    with pytest.raises(gridc.UsageError, match="positive"):
        plan.speedup(0)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_no_simulation_beats_the_longest_path_in_time(path: Path):
    spec = gridc.read(path)
    plan = gridc.schedule(spec, **dict.fromkeys(spec.symbols, 4))
    made = plan.simulate(3)
    assert made.speedup <= made.most + 1e-9
    cost = simulation.Model()
    graph = plan.graph
    for before, after in graph.edges:
        graph.edges[before, after]["seconds"] = cost.step_seconds(spec, after.transform)
    # networkx's own longest path, the first step's cost added by an edge from nowhere.
    graph.add_edges_from([("start", step, {"seconds": cost.step_seconds(spec, step.transform)}) for step in list(graph)])
    assert made.longest == pytest.approx(nx.dag_longest_path_length(graph, weight="seconds"))


def test_a_simulation_runs_every_step_once_after_what_it_reads():
    plan = gridc.schedule(two_grid(), T=6)
    model = simulation.Model(steps={"time": 2.0, "depth": 1.0}, move=0.5)
    made = plan.simulate(3, model)
    ends = {plan.step(run.step): run for run in made.runs}
    assert len(ends) == plan.work
    for step, run in ends.items():
        assert run.end - run.start == {"time": 2.0, "depth": 1.0}[step.transform]
        for before, _ in plan.predecessors(step):
            other = ends[before]
            assert run.start >= other.end + (0.5 if other.worker != run.worker else 0.0) - 1e-9
    for line in made.timeline:
        assert all(a[1] <= b[0] + 1e-9 for a, b in itertools.pairwise(line))
    assert made.moved > 0


def test_a_dear_move_is_avoided():
    plan = gridc.schedule(two_grid(), T=6)
    cheap, dear = (plan.simulate(4, simulation.Model(move=move)) for move in (0.0, 1.0))
    assert dear.seconds > cheap.seconds


def test_lifetimes_count_vectors_that_are_still_to_be_read():
    # One transform along time: at every wavefront its hidden and its memory vector, the last read by the output alone.
    spec = gridc.read(
        "name: one\ndimensions: {time: 4}\ntransforms:\n  time: {cell: lstm, hidden: 5}\n"
        "inputs: {x: {features: 3, enters: time}}\noutputs: {y: {classes: 2, reads: [time], at: {time: last}}}\n"
    )
    alive = arithmetic.lifetimes(gridc.schedule(spec))
    # A vector lives from its own wavefront to that of its last reader, where both are there.
    assert alive.vectors.tolist() == [2, 4, 4, 4]
    assert alive.numbers.tolist() == [10, 20, 20, 20]


def test_flops_of_an_lstm_step():
    spec = two_grid(4, 3)
    assert counts.step_flops(spec, "time") == (2 * 16 + POINTWISE) * 32
    sums = arithmetic.arithmetic(gridc.schedule(spec), batch=2)
    assert sums.flops == 2 * 12 * 2 * counts.step_flops(spec, "time")
    assert sums.peak_forward_bytes is not None
    assert sums.peak_forward_bytes < sums.training_bytes


def test_what_priority_costs():
    plan = gridc.schedule(two_grid(49, 18, priority="priority: [time, depth]"))
    found = {change.name: change for change in changes.changes(plan, 8)}
    assert found["no priority"].span == 66
    assert found["time 49 → 25"].span == 60
    assert changes.limiting(plan) == ("time", 24)
    bare = gridc.schedule(two_grid(49, 18))
    found = {change.name: change for change in changes.changes(bare, 8)}
    assert found["priority: depth last"].span == 84
    assert found["untied along depth"].products > found["tiles of 2 cells a side"].span  # type: ignore[operator]


# -- other doors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [
    None, "order=levels,tile.time=2,keep=1234567kB,hoist=depth", "hoist=none,order=auto", "keep=little", "keep=7kB",
])  # fmt: skip
def test_json_keeps_the_schedule_that_was_asked_for(asked):
    text = two_grid().source.text + "\nschedule: {order: steps, tile: {depth: 1}}\n"
    plan = gridc.schedule(text, schedule=asked, T=4)
    assert gridc.Schedule.from_json(plan.to_json(steps=False)).spec.schedule == plan.spec.schedule
    page = json.loads(plan.to_json(steps=False))
    del page["schedule"]  # as it was written before
    assert gridc.Schedule.from_json(json.dumps(page)).spec.schedule == gridc.read(text).schedule
    with pytest.raises(gridc.DataError, match="unknown key 'ordr'"):
        gridc.Schedule.from_json(json.dumps({**page, "schedule": {"ordr": "cells"}}))
    for odd in (3, "x", [1]):
        with pytest.raises(gridc.DataError):
            gridc.Schedule.from_json(json.dumps({**page, "schedule": odd}))


def test_json_there_and_back():
    plan = gridc.schedule(two_grid(priority="priority: [time, depth]"), T=4)
    text = plan.to_json()
    page = json.loads(text)
    assert gridc.Schedule.from_json(text) == plan
    assert gridc.Schedule.from_json(plan.to_json(steps=False)) == plan
    assert page["version"] == 1
    assert page["widths"] == list(plan.widths)
    assert sum(len(batch["steps"]) for front in page["wavefronts"] for batch in front) == plan.work
    assert page["vector"]["depth"] == {"vector": [1, 2], "offset": 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda page: page.update(version=9), "version 9"),
        (lambda page: page.update(format="other"), "other JSON"),
        (lambda page: page.update(widths=[1]), "widths is not that of its spec"),
        (lambda page: page.pop("spec"), "lacks its spec"),
        (lambda page: page.update(spec="name: x"), "spec cannot be read"),
        (lambda page: page["dimensions"][1].update(size=9), "not those that its spec fixes"),
    ],
)
def test_json_that_is_no_schedule(change, said: str):
    page = json.loads(gridc.schedule(two_grid(), T=4).to_json())
    change(page)
    with pytest.raises(gridc.DataError, match=said):
        gridc.Schedule.from_json(json.dumps(page))


def test_no_json_at_all():
    for text in ("", "[]", "{", "3"):
        with pytest.raises(gridc.DataError):
            gridc.Schedule.from_json(text)


def test_json_says_costs_and_speed_up():
    plan = gridc.schedule(two_grid(priority="priority: [time, depth]"), T=9)
    page = json.loads(plan.to_json(steps=False, workers=3, batch=2))
    assert page["costs"]["flops"] == arithmetic.arithmetic(plan, 2).flops
    assert page["costs"]["alive"] == arithmetic.lifetimes(plan).vectors.tolist()
    assert page["speedup"]["workers"] == 3
    assert page["speedup"]["most"] >= page["speedup"]["simulated"] >= 1


def test_the_documented_keys_are_those_that_are_written():
    page = json.loads(gridc.schedule(two_grid(), T=4).to_json())
    documented = set(re.findall(r"``(\w+)``", exports.__doc__ or ""))
    assert set(page) <= documented | {"format", "version"}


def test_the_graph_says_what_each_node_is_and_goes_into_other_formats(tmp_path: Path):
    plan = gridc.schedule(two_grid(tied="[time]", priority="priority: [time, depth]"), T=4)
    graph = plan.graph
    assert graph.nodes["time", (3, 2)] == {
        "transform": "time", "cell": "lstm", "hidden": 8, "weights": "time", "index": 2, "wavefront": plan.levels["time", (3, 2)],
        "flops": counts.step_flops(plan.spec, "time"), "critical": ("time", (3, 2)) in plan.critical_path,
    }  # fmt: skip
    assert graph.edges[("time", (1, 1)), ("depth", (1, 1))] == {"kind": "read", "read": "time[here]"}
    assert graph.edges[("time", (0, 1)), ("time", (1, 1))]["kind"] == "carry"
    assert sum(data["critical"] for _, data in graph.nodes(data=True)) == plan.span
    nx.write_graphml(graph, tmp_path / "grid.graphml")
    nx.write_gexf(graph, tmp_path / "grid.gexf")
    assert nx.read_graphml(tmp_path / "grid.graphml").number_of_edges() == graph.number_of_edges()
    assert len(json.loads(json.dumps(nx.node_link_data(graph, edges="edges")))["nodes"]) == plan.work


def test_dot_has_every_step_and_edge():
    plan = gridc.schedule(two_grid(), T=3)
    text = plan.to_dot()
    assert text.count("fillcolor") == plan.work
    assert text.count(" -> ") == plan.graph.number_of_edges()


def test_the_trace_is_nested_and_complete():
    plan = gridc.schedule(two_grid(), T=9)
    events = [e for e in json.loads(plan.to_trace(3))["traceEvents"] if e["ph"] == "X"]
    assert len(events) == plan.work
    assert {e["tid"] for e in events} == {1, 2, 3}
    for tid in (1, 2, 3):
        own = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e["tid"] == tid)
        assert all(a[1] <= b[0] + 1e-6 for a, b in itertools.pairwise(own))


def test_the_levels_of_a_large_grid_are_looked_up_without_its_graph():
    plan = gridc.schedule(two_grid(2000, 1000, priority="priority: [time, depth]"))
    assert plan.levels["depth", (1999, 999)] == plan.span - 1
    assert len(plan.wavefronts[5]) == plan.widths[5]
    assert np.sum(plan.widths) == plan.work == 4_000_000


def test_the_bound_of_list_schedules_is_graham_s_and_what_it_says_by_hand():
    plan = gridc.schedule(SPECS[0].with_name("text-classifier.yaml"), T=50)
    assert (plan.work, plan.span) == (300, 102)
    assert plan.speedup(8).graham == pytest.approx(300 / (300 / 8 + 102 * 7 / 8)) == pytest.approx(300 / 126.75)
    assert plan.speedup(1).graham == 1.0
    for workers in (2, 3, 8, 50):  # tighter than 2 - 1 / P from the least possible, and no more than is possible
        fast = plan.speedup(workers)
        assert fast.most / (2 - 1 / workers) - 1e-9 <= fast.graham <= fast.most + 1e-9
