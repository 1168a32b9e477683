"""Threads of our own: whoever waits for them takes their memory away, and waits until they have ended."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from gridc.benchmarks.cases import Case
from gridc.fusion import sweep, threads
from gridc.scheduling.threads import Sharing
from sharing import share


class Slow:
    """A task that says when it began and ends when it is let."""

    def __init__(self):
        self.began, self.let, self.ended = threading.Event(), threading.Event(), threading.Event()

    def __call__(self):
        self.began.set()
        assert self.let.wait(60)
        self.ended.set()


def interrupted_waits(monkeypatch, slow, times):
    """Ctrl-C so many times while the others are waited for; the slow task ends no earlier than the last."""
    really, left = threads.Future.exception, [times]

    def exception(future):
        if left[0]:
            left[0] -= 1
            raise KeyboardInterrupt
        slow.let.set()
        return really(future)

    monkeypatch.setattr(threads.Future, "exception", exception)


@pytest.mark.parametrize("times", [1, 3])
def test_ctrl_c_while_waiting_is_raised_when_all_have_ended(monkeypatch, times):
    slow = Slow()
    interrupted_waits(monkeypatch, slow, times)
    with pytest.raises(KeyboardInterrupt):
        threads.together([lambda: slow.began.wait(60), slow])
    assert slow.ended.is_set()


def test_an_error_in_the_first_is_raised_when_the_others_have_ended():
    slow = Slow()

    def fails():
        slow.began.wait(60)
        threading.Timer(0.05, slow.let.set).start()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        threads.together([fails, slow])
    assert slow.ended.is_set()


def test_an_error_in_another_is_raised():
    def fails():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        threads.together([lambda: None, fails])


def test_what_one_thread_cannot_be_given_does_not_leave_the_others_running(monkeypatch):
    slow, given = Slow(), []

    class Workers:
        def submit(self, task):
            if given:
                threading.Timer(0.05, slow.let.set).start()
                raise RuntimeError("can't start new thread")
            given.append(threads.ThreadPoolExecutor(1).submit(task))
            return given[0]

    monkeypatch.setattr(threads, "workers", Workers)
    with pytest.raises(RuntimeError, match="thread"):
        threads.together([lambda: pytest.fail("was begun"), slow, slow])
    assert slow.ended.is_set()


def test_ctrl_c_while_another_sweeps_is_raised_when_it_has_ended(monkeypatch):
    """Whoever fails on the way opens the gate: nobody waits for one who does not come."""
    case, slow = Case("small", "grid", (5, 3), 8, 4), Slow()
    grid, (x, y) = case.grid(), case.data()
    share(monkeypatch, Sharing("wavefront", 3))
    real, machine = grid.gradients({"x": x}, {"y": y}), sweep.machine.compiled()
    interrupted = [threading.Event(), threading.Event()]

    def back(*arguments):
        thread = arguments[-3]
        if thread == 0:
            interrupted[0].set()
            raise KeyboardInterrupt
        if thread == 1:
            assert interrupted[0].wait(60)
            slow.let.set()
            slow()
        machine[1](*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(sweep.machine, "compiled", lambda: (machine[0], back, machine[2]))
        with pytest.raises(KeyboardInterrupt):
            grid.gradients({"x": x}, {"y": y})
        assert slow.ended.is_set()
    for name, array in grid.gradients({"x": x}, {"y": y}).items():
        assert np.array_equal(array, real[name])
