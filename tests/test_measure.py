"""Predicted and measured times of wavefronts: that they are there and add up; how near they are is for a quiet machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import gridc
from gridc.insight import calibration, measure, scaling, steps
from gridc.insight.calibration import FEATURES, Prices
from gridc.insight.scaling import OnThreads
from gridc.scheduling import shares
from gridc.scheduling.program import MAKING
from gridc.scheduling.threads import BEHIND, FETCHED, Sharing

SPEC = """
name: small
dimensions: {time: T, depth: 3}
transforms:
  time: {cell: lstm, hidden: 16, tied: [time]}
  depth: {cell: gru, hidden: 16}
  up: {cell: pass, along: depth, reads: [{of: time, offset: {}}]}
priority: [time, depth]
inputs: {x: {features: 5, enters: depth}, y: {features: 2, joins: [time]}}
outputs: {z: {classes: 2, reads: [depth], at: {time: last, depth: last}}}
"""


def test_every_turn_is_predicted_and_measured():
    made = measure.measure(gridc.schedule(SPEC, T=12), batch=4, rounds=3)
    assert sum(turn.rows for turn in made.turns) == 12 * 3 * 2 * 4
    assert all(turn.measured > 0 and np.isfinite(turn.predicted) and turn.predicted > 0 for turn in made.turns)
    text = str(made)
    assert "wavefront" in text
    assert "whole sweep" in text


def test_errors_are_shares_of_what_was_measured():
    made = measure.Measurement("small", "wavefronts", 4, 3, (measure.Turn(8, 2.0, 1.0), measure.Turn(8, 1.0, 3.0)), 5)
    assert [turn.error for turn in made.turns] == [1.0, pytest.approx(2 / 3)]
    assert (made.total_error, made.median_error) == (0.25, pytest.approx(5 / 6))
    assert "predicted 3000.00 ms, measured 4000.00 ms, 25% off; a turn is 83% off in the median" in str(made)


def test_coefficients_are_found_and_never_negative():
    generator = np.random.default_rng(0)
    features = generator.uniform(1, 9, (40, 6))
    wanted = np.array([1.0, 2.0, 0.0, 3.0, 0.5, 4.0])
    found = calibration.coefficients(features, features @ wanted)
    assert np.allclose(found, wanted)
    assert (calibration.coefficients(features, features @ np.array([5.0, -1, 1, 1, 1, 1])) >= 0).all()
    features[:, 3] = 0  # a grid may have no turn that copies
    assert np.allclose(calibration.coefficients(features, features @ wanted), [1, 2, 0, 0, 0.5, 4])


MEMORY = """
name: hops
dimensions: {hops: 2}
transforms: {hops: {cell: memory, hidden: 4, attends: facts}}
inputs: {facts: {features: 3, facts: true}, q: {features: 3, enters: hops}}
outputs: {y: {classes: 2, reads: [hops], at: {hops: last}}}
"""


def test_memory_cells_are_measured_with_facts_of_their_own():
    made = gridc.schedule(MEMORY).measure(batch=3, rounds=2)
    assert [turn.rows for turn in made.turns] == [3, 3]
    assert all(turn.measured > 0 for turn in made.turns)
    told = gridc.schedule(MEMORY).scaling(2, batch=3).plain()
    assert [row["threads"] for row in told["threads"]] == [1, 2]
    assert all(row["measured"] > 0 and row["simulated"] > 0 for row in told["threads"])


def test_a_grid_without_products_is_measured():
    told = gridc.schedule(Path(__file__).parent.parent / "specs" / "memory-network.yaml").scaling(1, batch=3).plain()
    assert told["threads"][0]["simulated"] > 0


def priced(way, threads, cores, *, rows=0.0, begin=0.0, met=0.0):
    """Seconds of a sweep whose instructions cost so much for each row of a product, gathered or handed back, and nothing else."""
    plan = dataclasses.replace(gridc.schedule(SPEC, T=12).plan(4), sharing=Sharing(way, threads))
    price = np.zeros(len(FEATURES))
    price[FEATURES.index("numbers")] = rows
    return scaling.simulate(plan, Prices(price, price, np.zeros(3)), cores, begin, met)


@pytest.mark.parametrize("way", ["examples", "wavefront"])
def test_simulated_threads_do_their_shares_and_wait_where_they_meet(way):
    plan = gridc.schedule(SPEC, T=12).plan(4)
    (alone, none), (both, _) = priced(way, 1, 2, rows=1.0), priced(way, 2, 2, rows=1.0)
    assert none == 0
    assert alone / 2 <= both < alone
    if way == "examples":  # four of them, two each
        assert both == alone / 2
    dearer = FETCHED if way == "wavefront" else 1.0
    assert priced(way, 2, 1, rows=1.0)[0] == pytest.approx(alone * dearer)  # one core does it all
    one, _ = shares.share(plan.sweep.segments[0].program, Sharing(way, 2))
    each = np.concatenate([one.forward, one.backward])
    meetings = int(((each["kind"] == shares.MEET) & (each["does"] != shares.FORGETS)).sum())
    assert priced(way, 2, 2, met=1.0) == (meetings, meetings)
    assert priced(way, 2, 2, begin=1.0)[0] == 2  # forward and back


def test_a_simulated_thread_behind_waits_for_what_it_is_told():
    made = dataclasses.replace(gridc.schedule(SPEC, T=12).plan(4), sharing=BEHIND)
    nothing, weights = np.zeros(len(FEATURES)), np.array([1.0, 0.0, 0.0])
    whole = sum(adds for adds, _, _ in calibration.made_of(made.sweep.segments[0].program))
    assert scaling.simulate(made, Prices(nothing, nothing, weights), 2, 0.0, 0.0)[0] == pytest.approx(whole)
    work = nothing.copy()
    work[FEATURES.index("calls")] = 1.0  # each cell takes a second, and the weights of its rows can only come after it
    seconds = scaling.simulate(made, Prices(nothing, work, 1e-9 * weights), 2, 0.0, 0.0)[0]
    cells = sum(1 for step in shares.share(made.sweep.segments[0].program, BEHIND)[0].backward if step["kind"] in MAKING)
    assert cells < seconds < cells + 1e-9 * whole + 1e-6


def test_numbers_of_threads_are_doubled_up_to_the_last():
    assert [steps.counted(most) for most in (1, 2, 3, 8, 9)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 8], [1, 2, 4, 8, 9]]


def test_a_training_step_on_threads_is_told():
    taken = (1, 4.0, 3.0), (2, 2.0, 2.0), (4, 2.0, 6.0)
    rows = tuple(OnThreads(n, "way", None, simulated, measured, 0.0) for n, simulated, measured in taken)
    told = scaling.Scaling("small", "wavefronts", 4, 2, 0.5, 0.25, rows)
    assert [told.speedups(row) for row in rows] == [(1, 1), (2, 1.5), (2, 0.5)]
    lines = str(told).splitlines()
    assert lines[4].split("  ")[-1] == "way"
    assert lines[5].endswith("way; they share 2 cores")
    assert "4,000.00" in lines[3]
    assert [row["shares_cores"] for row in told.plain()["threads"]] == [False, False, True]
