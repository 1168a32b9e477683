"""Threads of our own: whoever waits for them takes their memory away, and waits until they have ended."""

from __future__ import annotations

import functools
import threading

import numpy as np
import pytest

from gridc.benchmarks.cases import Case
from gridc.fusion import jobs, sweep, threads
from gridc.scheduling.shares import STEP
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


def test_ctrl_c_while_others_sweep_is_raised_when_they_have_ended(monkeypatch):
    """Whoever fails on the way opens the gate: nobody waits for one who does not come, nor still works when it is raised."""
    case = Case("small", "grid", (40, 3), 8, 4)
    grid, (x, y) = case.grid(), case.data()
    share(monkeypatch, Sharing("wavefront", 3))
    real = grid.gradients({"x": x}, {"y": y})
    do, hand, serve, wait = jobs.posts()
    left = [2]

    def interrupted(job):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        do(job)

    for _ in range(5):  # forward, then back, from threads that sleep and from threads that linger
        for left[0] in (0, 1):
            with monkeypatch.context() as patch:
                patch.setattr(jobs, "posts", lambda: (interrupted, hand, serve, wait))
                with pytest.raises(KeyboardInterrupt):
                    grid.gradients({"x": x}, {"y": y})
            assert threads._posts().rows[:, jobs.STATE].max() <= jobs.LINGERS
        for name, array in grid.gradients({"x": x}, {"y": y}).items():
            assert np.array_equal(array, real[name])


def test_threads_that_cannot_be_started_are_not_waited_for(monkeypatch):
    case = Case("small", "grid", (40, 3), 8, 4)
    grid, (x, y) = case.grid(), case.data()
    share(monkeypatch, Sharing("wavefront", 4))
    real, given = grid.gradients({"x": x}, {"y": y}), []
    monkeypatch.setattr(threads, "_posts", functools.cache(threads._Posts))  # nobody lingers there

    class Workers:
        def submit(self, *task):
            if given:
                raise RuntimeError("can't start new thread")
            given.append(threads.ThreadPoolExecutor(1).submit(*task))

    with monkeypatch.context() as patch:
        patch.setattr(threads, "workers", Workers)
        with pytest.raises(RuntimeError, match="thread"):
            grid.gradients({"x": x}, {"y": y})
    assert len(given) == 1
    assert threads._posts().rows[:, jobs.STATE].max() <= jobs.LINGERS
    for name, array in grid.gradients({"x": x}, {"y": y}).items():
        assert np.array_equal(array, real[name])


def test_a_thread_lingers_for_its_next_job_and_leaves_when_none_comes():
    """By hand: a job is done, another is taken while the thread looks for it, one that was taken back is not begun."""
    _, hand, serve, wait = jobs.posts()
    steps = np.zeros(0, STEP)
    given = sweep.only(steps, 2)
    given[:, jobs.THREADS] = 1  # neither waits for the other
    post = np.zeros(2 * jobs.POST, np.int64)
    at, job = post.ctypes.data + 8 * jobs.POST, given.ctypes.data + 8 * given.shape[1]
    state = post[jobs.POST :]
    assert hand(post.ctypes.data, given.ctypes.data, 2) == 0  # nobody is there
    serve(at, job, 10**6)  # it was not given to this thread
    state[jobs.STATE] = job
    serve(at, job, 0)
    assert state.tolist()[:3] == [jobs.IDLE, 0, 0]
    state[jobs.STATE] = job
    serve(at, job, 10)
    assert state.tolist()[:3] == [jobs.IDLE, 0, -jobs.VAIN]  # it has lingered behind a way back, and for nothing
    state[jobs.CREDIT + 1], state[jobs.STATE] = 0, job
    other = threading.Thread(target=serve, args=(at, job, 2**62))
    other.start()
    for _ in range(1000):
        wait(post.ctypes.data, given.ctypes.data, 2, 10, False)
        assert hand(post.ctypes.data, given.ctypes.data, 2) == 1
    wait(post.ctypes.data, given.ctypes.data, 2, 10, False)
    state[jobs.STATE] = jobs.IDLE  # it finds nothing that it was given, and leaves
    other.join(60)
    assert not other.is_alive()
