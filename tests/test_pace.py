"""Threads share a run only where that takes less time: told by times of the test's own, never by those of the machine."""

from __future__ import annotations

import pytest

from gridc.benchmarks.cases import Case
from gridc.fusion import pace, sweep
from gridc.fusion.pace import LOST, OFTEN, RUNS, SENT_AWAY, SOON, Pace
from gridc.scheduling.threads import ALONE, Sharing
from sharing import share


def ran(made, steps, shared, alone, sent_away=SENT_AWAY, ways=(False, True)):
    """Run forward and back so often, where a run takes so many thousandths of a second; which of the steps were shared."""
    found = []
    for _ in range(steps):
        found.append(made.shares)
        for back in ways:
            made.took(back, made.shares, 1e-3 * (shared if made.shares else alone), sent_away if made.shares else 0)
    return found


def lost(found, shared, alone):
    """The part of the time that steps of the slower way took more than the faster one would have."""
    taken = sum(shared if each else alone for each in found)
    return taken / (len(found) * min(shared, alone)) - 1


def test_threads_that_nobody_sends_away_share_every_long_run():
    assert all(ran(Pace(), 2000, shared=9.0, alone=1.0, sent_away=SENT_AWAY - 1))
    seldom = int(0.2 * OFTEN)  # as many as may be in a fifth of a second where nothing else computes
    assert all(ran(Pace(), 2000, shared=200.1, alone=100.0, sent_away=seldom))


@pytest.mark.parametrize("ways", [(False, True), (False,), (True,)])
@pytest.mark.parametrize(("shared", "alone", "sent_away"), [
    (8.0, 6.0, SENT_AWAY), (90.0, 6.0, 20), (0.4, 0.3, 0), (0.3, 0.5, 0), (6.0, 11.0, SENT_AWAY)])  # fmt: skip
def test_the_faster_way_goes_on_and_trials_of_the_other_cost_little(shared, alone, sent_away, ways):
    made = Pace()
    ran(made, 50, shared, alone, sent_away, ways)
    found = ran(made, 4000, shared, alone, sent_away, ways)
    assert 0 < found.count(shared > alone) < len(found) / 8  # tried, and given up
    assert lost(found, shared, alone) < 2 * LOST


def test_what_was_found_in_a_disturbance_is_soon_found_otherwise():
    made = Pace()
    assert not ran(made, 400, shared=60.0, alone=25.0, sent_away=10)[-1]
    quiet = ran(made, 200, shared=14.0, alone=25.0, sent_away=0)
    assert all(quiet[quiet.index(True) :])
    assert quiet.index(True) * 2 * 25.0 < (60.0 - 25.0) / LOST + 1000 * SOON


def test_a_short_run_that_has_woken_threads_is_not_judged_by_that():
    """The first of a trial is three times as slow, and the others are faster."""
    made = Pace()
    ran(made, 20, shared=9.0, alone=1.5)
    found, before = [], made.shares
    for _ in range(4000):
        found.append(made.shares)
        woken = made.shares and not before
        before = made.shares
        for back in (False, True):
            made.took(back, made.shares, 1e-3 * (3.5 if woken else 1.0 if made.shares else 1.5), 0)
    assert not found[0]
    assert found.count(True) > 3000


def test_one_thread_that_is_sent_away_itself_goes_on_alone():
    made, found = Pace(), []
    for n in range(1500):
        found.append(made.shares)
        for back in (False, True):
            made.took(back, made.shares, 0.006 if made.shares else 0.004, 4 if made.shares or n < 1000 else 0)
    assert not any(found[20:1000])
    assert any(found[1000:])


def test_forward_and_back_go_together():
    """A way forward that is faster when shared does not make up for a way back that is slower."""
    made, found = Pace(), []
    for _ in range(1000):
        found.append(made.shares)
        for back, shared, alone in ((False, 0.3, 0.4), (True, 0.9, 0.5)):
            made.took(back, made.shares, 1e-3 * (shared if made.shares else alone), 0)
    assert found.count(True) < 150


def test_a_trial_of_a_caller_that_only_goes_forward_from_then_on_ends():
    made = Pace()
    ran(made, RUNS, 0.4, 0.3, 0)
    assert not made.shares
    assert not all(ran(made, 200, 0.4, 0.3, 0, ways=(False,))[100:])


def test_a_sweep_follows_the_pace_to_the_same_bits(monkeypatch):
    case = Case("small", "grid", (5, 3), 8, 4)
    grid, (x, y) = case.grid(), case.data()
    share(monkeypatch, Sharing("wavefront", 2))
    expected, seen, crew = grid.loss_and_gradients({"x": x}, {"y": y}), [], sweep.crew_of

    def noted(program, sharing, *kind):
        seen.append(sharing)
        return crew(program, sharing, *kind)

    monkeypatch.setattr(sweep, "crew_of", noted)
    monkeypatch.setattr(Pace, "__call__", lambda self, back, run: run(False))
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
            made(False, fails)
    made(False, lambda shared: None)
    assert made.shares
    assert pace.switches() >= 0
