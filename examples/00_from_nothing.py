"""From nothing: Grid LSTMs in plain Python and NumPy, to be read like a chapter.

    python examples/00_from_nothing.py

Nothing of gridc is used until section 7, where it is asked for the same numbers.
"""

from __future__ import annotations

import time

import numpy as np

# ======================================================================================================================
# 1. One cell
# ======================================================================================================================
#
# An LSTM cell takes a *hidden vector* h and a *memory vector* m, and gives new ones.  The memory is the point.  A gate is a
# vector of numbers from 0 to 1, and the memory is only ever multiplied by the forget gate and added to: what is written into
# it can stay for a long time, and its gradient comes back just as undisturbed.


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def lstm(z, m, W, b):
    """New hidden and memory vectors from what the cell sees, ``z``, and the memory that comes in, ``m``."""
    u, f, o, c = np.split(z @ W + b, 4, axis=-1)  # the update, forget and output gates, and the candidate
    m = sigmoid(f) * m + sigmoid(u) * np.tanh(c)
    return sigmoid(o) * np.tanh(m), m


HIDDEN, FEATURES, BATCH = 6, 3, 2
rng = np.random.default_rng(0)


def weights(rows):
    """Small random weights for four gates."""
    return rng.normal(0, 0.4, (rows, 4 * HIDDEN)), rng.normal(0, 0.4, 4 * HIDDEN)


# ======================================================================================================================
# 2. A 1-Grid: cells in a row
# ======================================================================================================================
#
# Put cells one after another, and hand h and m from each to the next.  That is all that "recurrent" means.  If the row is
# called *time* and an input is given to every cell, this is the ordinary LSTM.  But nothing says that the row must be time.
# Call it *depth*, project the input into the first h and m, read the last ones, and it is a deep network for one vector,
# whose layers are LSTM cells: Kalchbrenner, Danihelka and Graves taught one to add up bits modulo 2 this way.


def one_grid(h, m, depth, W, b):
    """The states after ``depth`` cells that all use the same weights (they are *tied*)."""
    for _ in range(depth):
        h, m = lstm(h, m, W, b)
    return h, m


x = rng.normal(size=(BATCH, FEATURES))
into_hidden, into_memory = rng.normal(0, 0.4, (2, FEATURES, HIDDEN))
W, b = weights(HIDDEN)
h, m = one_grid(x @ into_hidden, x @ into_memory, 4, W, b)
print(f"1-Grid: {FEATURES} numbers in, 4 cells on the way, {h.shape[1]} numbers out")

# ======================================================================================================================
# 3. A 2-Grid: cells in a lattice
# ======================================================================================================================
#
# Now both at once.  A grid of time × depth has a cell at every pair (t, d), and *two* pairs of vectors meet there: one that
# travels along time, from (t-1, d), and one along depth, from (t, d-1).  The cell holds two LSTMs, which are called
# *transforms*.  Both see both hidden vectors, joined end to end; each has its own memory and its own weights, and sends its
# new vectors on along its own dimension.
#
#                       depth ↑ (h, m)
#                        ┌─────┴─────┐
#         time (h, m) ──→│  (t, d)   ├──→ time (h', m')
#                        └─────┬─────┘
#                       depth ↑ (h, m)
#
# A stacked LSTM hands only h upwards, and what it hands up has gone through no gate that could say "leave it as it was".  Here
# depth has a memory like time has: that is the whole idea of the paper, and the reason why grids can be deep.
#
# Inputs enter along depth, from below: one vector a time step.  Along time, zeros enter.


def two_grid(x, depth, time_weights, depth_weights):
    """Every cell's new vectors, {(t, d): (time's h and m, depth's h and m)}, in the plainest order there is."""
    length, zeros = x.shape[1], np.zeros((len(x), HIDDEN))
    at = {}
    for t in range(length):
        for d in range(depth):
            time_h, time_m = at[t - 1, d][0] if t else (zeros, zeros)
            depth_h, depth_m = at[t, d - 1][1] if d else (x[:, t] @ into_hidden, x[:, t] @ into_memory)
            z = np.concatenate([time_h, depth_h], axis=-1)
            at[t, d] = lstm(z, time_m, *time_weights), lstm(z, depth_m, *depth_weights)
    return at


LENGTH, DEPTH = 7, 3
x = rng.normal(size=(BATCH, LENGTH, FEATURES))
time_weights, depth_weights = weights(2 * HIDDEN), weights(2 * HIDDEN)
at = two_grid(x, DEPTH, time_weights, depth_weights)
print(f"2-Grid: {LENGTH} × {DEPTH} cells, {2 * len(at)} steps, one after another")

# ======================================================================================================================
# 4. Priority
# ======================================================================================================================
#
# The two transforms of a cell need not be blind to each other.  Let depth go first: then time can see depth's *new* hidden
# vector of the same cell, not the one that came in.  One line changes, and it is another network.  (The paper calls the last
# one the *prioritised* dimension.)


def cell_with_priority(time_h, time_m, depth_h, depth_m):
    new_depth = lstm(np.concatenate([time_h, depth_h], axis=-1), depth_m, *depth_weights)
    new_time = lstm(np.concatenate([time_h, new_depth[0]], axis=-1), time_m, *time_weights)
    return new_time, new_depth


# ======================================================================================================================
# 5. What waits for what: wavefronts
# ======================================================================================================================
#
# The loops above do 42 steps, one after another.  Must they?  A step needs the vectors that it reads, and nothing else.  So
# (0, 0) can go first; when it is done (1, 0) and (0, 1) can go *side by side*; then (2, 0), (1, 1) and (0, 2).  Give every step a
# number, one more than the largest of those that it waits for.  Steps with the same number make a *wavefront*.


def needs(step):
    """The steps whose vectors this one reads: the newest of both transforms to the left, and of both below."""
    _, t, d = step
    return [("time", t - 1, d)] * (t > 0) + [("depth", t, d - 1)] * (d > 0)


def numbered(needs):
    """The number of every step, given what each waits for; depth comes first in a cell, in case time waits for it."""
    number = {}
    for t in range(LENGTH):
        for d in range(DEPTH):
            for transform in ("depth", "time"):
                step = (transform, t, d)
                number[step] = max((1 + number[other] for other in needs(step)), default=0)
    return number


number = numbered(needs)
wavefronts = [[step for step, n in number.items() if n == level] for level in range(max(number.values()) + 1)]
print(f"        in {len(wavefronts)} wavefronts, the widest of {max(map(len, wavefronts))} steps")
for d in reversed(range(DEPTH)):
    print("       ", " ".join(f"{number['time', t, d]:2}" for t in range(LENGTH)))

# The picture shows the numbers: they are t + d, so a wavefront is a diagonal that sweeps over the grid, and the grid takes
# LENGTH + DEPTH - 1 turns however many cells it has.  (Leslie Lamport found this in 1974 for loops in general.)
#
# With the priority of section 4 a time step waits for one step more, the depth step of its own cell.  How much longer does the
# whole take?  One might fear twice as long.  Count:


def needs_with_priority(step):
    """The same, and time waits for depth's new vector of its own cell instead of the one that came in."""
    transform, t, d = step
    return [("time", t - 1, d)] * (t > 0) + ([("depth", t, d)] if transform == "time" else [("depth", t, d - 1)] * (d > 0))


later = numbered(needs_with_priority)
print(f"        and with depth before time in {max(later.values()) + 1}, since a step along time now costs two, "
      "and a step up still one")  # fmt: skip

# Doing a diagonal at once pays even on one processor.  All its steps multiply by the *same* matrix, so their vectors can be
# laid under one another and multiplied in one go, and one large product is faster than many small ones.


def by_wavefronts(x):
    """The same grid, a diagonal at a time: its cells are stacked on a new first axis."""
    zeros = np.zeros((len(x), HIDDEN))
    at = {}
    for level in range(LENGTH + DEPTH - 1):
        cells = [(t, level - t) for t in range(LENGTH) if 0 <= level - t < DEPTH]
        left = [at[t - 1, d][0] if t else (zeros, zeros) for t, d in cells]
        below = [at[t, d - 1][1] if d else (x[:, t] @ into_hidden, x[:, t] @ into_memory) for t, d in cells]
        (time_h, time_m), (depth_h, depth_m) = (map(np.stack, zip(*pairs, strict=True)) for pairs in (left, below))
        z = np.concatenate([time_h, depth_h], axis=-1)
        new_time, new_depth = lstm(z, time_m, *time_weights), lstm(z, depth_m, *depth_weights)
        for i, cell in enumerate(cells):
            at[cell] = (new_time[0][i], new_time[1][i]), (new_depth[0][i], new_depth[1][i])
    return at


def seconds(function):
    """The shortest of twenty runs."""
    times = []
    for _ in range(20):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


corner = (LENGTH - 1, DEPTH - 1)
again = by_wavefronts(x)
assert np.allclose(again[corner], at[corner], rtol=0, atol=1e-14)
one_by_one, by_diagonals = seconds(lambda: two_grid(x, DEPTH, time_weights, depth_weights)), seconds(lambda: by_wavefronts(x))
print("        the last cell has the same vectors either way: "
      f"{1e3 * one_by_one:.1f} ms cell by cell, {1e3 * by_diagonals:.1f} ms by wavefronts")  # fmt: skip

# ======================================================================================================================
# 6. A spec
# ======================================================================================================================
#
# Everything that was decided so far fits on half a page: the dimensions, the transforms and their cells, what is read, where
# the input enters, which cells are looked at.  The rest followed: the order, the loops, the wavefronts, the stacking.  What
# follows can be left to a compiler, and then the half page can say other things: a third dimension, a transform that runs
# backward, weights of its own for each level, an input that reaches some cells only.

SPEC = f"""
name: from-nothing
dimensions: {{time: T, depth: {DEPTH}}}
transforms:
  time:  {{cell: lstm, hidden: {HIDDEN}}}
  depth: {{cell: lstm, hidden: {HIDDEN}}}
inputs:
  x: {{features: {FEATURES}, enters: depth}}
outputs:
  corner: {{raw: true, reads: [time, time.memory, depth, depth.memory], at: {{time: last, depth: last}}}}
"""

# ======================================================================================================================
# 7. The same, compiled
# ======================================================================================================================


def main():
    import gridc

    plan = gridc.schedule(SPEC, T=LENGTH)
    assert (plan.work, plan.span) == (len(number), len(wavefronts))
    assert [set(front) for front in plan.wavefronts] == [{(name, (t, d)) for name, t, d in front} for front in wavefronts]
    print(f"gridc:  {plan.work} steps in {plan.span} wavefronts: the same schedule")
    assert gridc.schedule(SPEC + "priority: [depth, time]\n", T=LENGTH).span == max(later.values()) + 1

    grid = gridc.compile(SPEC, dtype="float64")
    ours = {
        "time.W": time_weights[0], "time.b": time_weights[1], "depth.W": depth_weights[0], "depth.b": depth_weights[1],
        "x.hidden.W": into_hidden, "x.hidden.b": 0 * into_hidden[0], "x.memory.W": into_memory, "x.memory.b": 0 * into_memory[0],
    }  # fmt: skip
    for name, array in ours.items():
        grid.parameters[name] = array
    found = grid.predict({"x": x})["corner"]
    expected = np.concatenate([vector for pair in at[corner] for vector in pair], axis=-1)
    assert np.allclose(found, expected, rtol=0, atol=1e-12)
    print(f"        and the same vectors, to {np.abs(found - expected).max():.0e}")

    # It differentiates, too.  The gradient says how the loss would change with each number of each matrix; a few of them can
    # be checked by hand, by moving one number a little.
    target = {"corner": np.zeros_like(expected)}
    gradient = grid.gradients({"x": x}, target)["time.W"]
    little = 1e-6
    grid.parameters["time.W"][0, 0] += little
    more = grid.loss({"x": x}, target)
    grid.parameters["time.W"][0, 0] -= 2 * little
    less = grid.loss({"x": x}, target)
    assert np.isclose(gradient[0, 0], (more - less) / (2 * little), rtol=1e-4)
    print(f"        and the gradient of time.W[0, 0], {gradient[0, 0]:.6f}, is the slope of the loss")

    # ==================================================================================================================
    # 8. It learns
    # ==================================================================================================================
    #
    # Gradients are all that learning needs: move every number a little against its own, again and again.  Here is a question
    # that takes a memory: do the first and the last vector of a sequence have the same sign in their first place?  What lies
    # between does not matter, and has to be sat out.  Guessing is right half the time.

    learner = gridc.compile(SPEC.replace("raw: true", "classes: 2").replace("corner", "same"), seed=1)
    sequences = rng.normal(size=(2000, LENGTH, FEATURES))
    same = (sequences[:, 0, 0] * sequences[:, -1, 0] > 0).astype(int)
    history = learner.fit({"x": sequences}, {"same": same}, held_out=0.25, budget={"epochs": 12}, progress="none",
                          optimizer={"adam": {"learning_rate": 0.01}})  # fmt: skip
    before, after = history.records[0].accuracy(), history.best.accuracy()
    print(f"        and it learns: {before:.0%} of 500 new sequences right after one epoch, {after:.0%} after "
          f"{history.best.epoch:.0f}")  # fmt: skip
    assert after > 0.9


if __name__ == "__main__":
    main()
