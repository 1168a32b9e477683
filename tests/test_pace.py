"""Threads share a run only where that takes less time: told by times of the test's own, never by those of the machine."""

from __future__ import annotations

import itertools

import pytest

from gridc.benchmarks.cases import Case
from gridc.fusion import pace, sweep
from gridc.fusion.pace import FEWEST, MOST, OFTEN, RUNS, SENT_AWAY, Pace
from gridc.scheduling.threads import ALONE, Sharing
from sharing import share


def ran(made, runs, shared, alone, sent_away=SENT_AWAY):
    """Run so often, where a run takes so many thousandths of a second; which of the runs were shared."""
    found = []
    for _ in range(runs):
        found.append(made.shares)
        made.took(made.shares, 1e-3 * (shared if made.shares else alone), sent_away if made.shares else 0)
    return found


def test_threads_that_nobody_sends_away_share_every_run():
    assert all(ran(Pace(), 2000, shared=9.0, alone=1.0, sent_away=SENT_AWAY - 1))
    seldom = int(0.2 * OFTEN)  # as many as may be in a fifth of a second where nothing else computes
    assert all(ran(Pace(), 2000, shared=200.1, alone=100.0, sent_away=seldom))


def test_threads_that_keep_each_other_waiting_give_way_and_are_tried_again_ever_more_rarely():
    made = Pace()
    found = ran(made, 4000, shared=5.0, alone=1.0)
    assert found[: RUNS + 1] == [True] * RUNS + [False]
    tried = [n for n, shared in enumerate(found) if shared][RUNS:]
    assert tried[0] <= 2 * RUNS + FEWEST
    gaps = [b - a for a, b in itertools.pairwise(tried)]
    assert gaps == sorted(gaps)
    assert gaps[-1] in range(MOST, MOST + 3)
    assert sum(found) < 40
    again = ran(made, 2 * MOST, shared=0.5, alone=1.0, sent_away=0)  # the machine is quiet again
    assert all(again[again.index(True) :])


def test_threads_that_are_sent_away_and_still_faster_go_on():
    found = ran(Pace(), 4000, shared=1.0, alone=1.8)
    assert sum(found) > 0.97 * len(found)
    assert found.count(False) > 1  # asked again, ever more rarely


def test_a_sweep_follows_the_pace_to_the_same_bits(monkeypatch):
    case = Case("small", "grid", (5, 3), 8, 4)
    grid, (x, y) = case.grid(), case.data()
    share(monkeypatch, Sharing("wavefront", 2))
    expected, seen, crew = grid.loss_and_gradients({"x": x}, {"y": y}), [], sweep.crew_of

    def noted(program, sharing, *kind):
        seen.append(sharing)
        return crew(program, sharing, *kind)

    monkeypatch.setattr(sweep, "crew_of", noted)
    monkeypatch.setattr(Pace, "__call__", lambda self, run: run(False))
    loss, gradients, _ = grid.loss_and_gradients({"x": x}, {"y": y})
    assert seen == [ALONE, ALONE]
    assert loss == expected[0]
    assert all((array == expected[1][name]).all() for name, array in gradients.items())


def test_a_run_that_raises_is_not_learned_from():
    made = Pace()

    def fails(shared):
        raise KeyboardInterrupt

    for _ in range(RUNS + 1):
        with pytest.raises(KeyboardInterrupt):
            made(fails)
    made(lambda shared: None)
    assert made.shares
    assert pace.switches() >= 0
