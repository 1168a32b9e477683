"""A child that is forked while other threads of its parent are inside calls works, and computes what they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gridc.locks import Lock

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
PROGRAM = """
import os, signal, sys, threading, time, warnings
import numpy as np
import gridc
from gridc.fusion import blas

warnings.simplefilter("ignore")  # Python 3.12 warns of what is tried here
SPEC = '''
name: forked
dimensions: {time: T, depth: 2}
transforms: {depth: {cell: lstm, hidden: 16}, time: {cell: lstm, hidden: 16}}
inputs: {x: {features: 3, enters: depth}}
outputs: {y: {classes: 3, reads: [depth], at: {depth: last, time: last}}}
'''
rng = np.random.default_rng(0)
inputs, targets = {"x": rng.normal(size=(64, 40, 3)).astype("float32")}, {"y": rng.integers(0, 3, 64)}
grid = gridc.compile(SPEC)
loss, gradients, _ = grid.loss_and_gradients(inputs, targets)
threads = blas.default_threads()

def go_on():
    while True:
        grid.loss_and_gradients(inputs, targets)
        grid.predict(inputs)

for _ in range(2):
    threading.Thread(target=go_on, daemon=True).start()
time.sleep(0.2)
for child in range(CHILDREN):
    number = os.fork()
    if number == 0:
        signal.alarm(60)  # ends a child that hangs
        mine = gridc.compile(SPEC) if child % 2 else grid
        again, slopes, _ = mine.loss_and_gradients(inputs, targets)
        assert abs(again - loss) < 1e-6
        assert all(np.allclose(slopes[name], gradients[name], atol=1e-6) for name in gradients)
        assert blas.default_threads() == threads
        os._exit(0)
    _, status = os.waitpid(number, 0)
    if status:
        sys.exit(f"child {child} ended with {status}")
os._exit(0)
"""


def test_children_of_a_parent_whose_threads_are_inside_calls() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM.replace("CHILDREN", "6")], env=os.environ | {"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, check=False, timeout=500)  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # JAX's, of any fork
def test_a_lock_that_another_thread_holds_is_free_in_a_child() -> None:
    lock, held, ended = Lock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            ended.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # ends it where it waits
        with lock:
            os._exit(0)
    try:
        assert os.waitpid(child, 0)[1] == 0
    finally:
        ended.set()
        thread.join()


def test_a_lock_of_the_thread_that_forked_stays_its_own() -> None:
    lock = Lock()
    with lock:
        lock.renew()
        found: list[bool] = []
        thread = threading.Thread(target=lambda: found.append(lock._lock.acquire(blocking=False)))
        thread.start()
        thread.join()
        assert found == [False]


def test_no_module_has_a_lock_of_another_kind() -> None:
    for path in (ROOT / "gridc").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert path.name == "locks.py" or "threading.Lock" not in text.replace("threading.RLock", "threading.Lock"), path
