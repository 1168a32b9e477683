"""From rows to instructions: batches, then what wraps around, then products that are made ahead of their recurrence.

Each pass takes a value and gives a new one; ``verify`` tells after each whether what it gave can be run.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from gridc.scheduling.program import ATTEND, CELL, COPY, MAKING, PRODUCT, WRAP, Array, Program, TransformProgram, instructions


def assemble(transforms: tuple[TransformProgram, ...], batches: Array, wraps: Array) -> Program:
    """Make a program of batches in order of execution: for each one product of all that its rows read, then its
    cell or its attention to facts."""
    program = Program(transforms, instructions([]), wraps)
    starts = program.block_starts
    steps: list[dict[str, int]] = []
    for batch in batches:
        t, first, end = (int(batch[name]) for name in ("transform", "first", "end"))
        rows = {"transform": t, "first": first, "end": end, "weight": int(batch["weight"])}
        if end <= first:
            continue
        if transforms[t].gates:
            steps += _product(rows, starts[t], starts[t + 1])
        if transforms[t].fact_rows is not None:
            steps.append({"kind": ATTEND, **rows})
        elif transforms[t].gates:
            steps.append({"kind": CELL, **rows})
        else:
            steps.append({"kind": COPY, **rows, "low": starts[t], "high": starts[t] + 1})
    return replace(program, instructions=instructions(steps))


def wrap(program: Program) -> Program:
    """Add each computed row that wraps around to the row that stands for what enters, as soon as it is there: behind the batch
    that computes it, or first where it was handed over from before."""
    if not len(program.wraps):
        return program
    ready = [np.full(p.extent, -1, np.int64) for p in program.transforms]  # the instruction that computes each row
    for n, step in enumerate(program.instructions):
        if step["kind"] in MAKING:
            ready[step["transform"]][step["first"] : step["end"]] = n
    after = np.array([ready[t][source] for t, source, _ in program.wraps.tolist()], np.int64)
    order = np.argsort(after, kind="stable")
    added = instructions([{"kind": WRAP, "transform": t, "source": source, "target": target}
                          for t, source, target in program.wraps[order].tolist()])  # fmt: skip
    return replace(program, instructions=np.insert(program.instructions, after[order] + 1, added))


def hoist(program: Program) -> Program:
    """Make the products of what is read early for all batches of a stretch at once, before the first of them.

    One product of many rows instead of many of few; each batch then adds what it reads late."""
    batches = [program.batches[program.batches["transform"] == t] for t in range(len(program.transforms))]
    ahead: dict[tuple[int, int], tuple[int, int]] = {}  # transform and first row of a batch → the rows of its stretch
    for t, own in enumerate(program.transforms):
        if own.stretch is None or not own.gates or not (any(own.early) or own.joined):
            continue
        mine = batches[t][np.argsort(batches[t]["first"])]
        key = np.stack([mine["weight"], own.stretch[mine["first"]]], axis=1)
        cuts = [0, *(np.flatnonzero((key[1:] != key[:-1]).any(axis=1)) + 1).tolist(), len(mine)]
        for a, e in itertools.pairwise(cuts):
            if e - a > 1:
                rows = (int(mine["first"][a]), int(mine["end"][e - 1]))
                ahead |= {(t, int(first)): rows for first in mine["first"][a:e]}
    if not ahead:
        return program
    steps: list[dict[str, int]] = []
    made: set[tuple[int, int]] = set()
    names = program.instructions.dtype.names or ()
    for step in program.instructions:
        row = {name: int(step[name]) for name in names}
        t = row["transform"]
        rows = ahead.get((t, row["first"])) if row["kind"] == PRODUCT else None
        if rows is None:
            steps.append(row)
            continue
        own, start = program.transforms[t], program.block_starts[t]
        early = [start + j for j in range(len(own.sources)) if own.early[j]]
        inputs = start + len(own.sources)
        if (t, rows[0]) not in made:
            made.add((t, rows[0]))
            groups = [(block, block + 1) for block in early] + [(inputs, inputs + len(own.joined))] * bool(own.joined)
            for n, (low, high) in enumerate(groups):
                steps += _product({**row, "first": rows[0], "end": rows[1]}, low, high, adds=n > 0)
        for low, high in _runs([start + j for j in range(len(own.sources)) if not own.early[j]]):
            steps += _product(row, low, high, adds=True)
    return replace(program, instructions=instructions(steps))


def _product(rows: dict[str, int], low: int, high: int, adds: bool = False) -> list[dict[str, int]]:
    return [{**rows, "kind": PRODUCT, "low": low, "high": high, "adds": int(adds)}] * (high > low)


def _runs(blocks: list[int]) -> list[tuple[int, int]]:
    """Put neighbouring blocks together, as half-open ranges."""
    runs: list[tuple[int, int]] = []
    for block in blocks:
        if runs and runs[-1][1] == block:
            runs[-1] = (runs[-1][0], block + 1)
        else:
            runs.append((block, block + 1))
    return runs
