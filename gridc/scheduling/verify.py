"""Whether a program can be run: everything that is read is there, and nothing is made twice.

``verify`` is for tests, for ``gridc doctor`` and for whoever changes a pass: with ``GRIDC_VERIFY=1`` every plan is verified.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridc.scheduling.program import ATTEND, CELL, COPY, KINDS, MAKING, PRODUCT, WRAP, Array, Program, check_bounds

NEVER = np.iinfo(np.int64).max


class Unsound(ValueError):
    """A program that computes something else than its rows say; the sentence names instruction and row."""


def verify(program: Program, read: list[Array] | None = None) -> Program:
    """Give a program back if it is sound.

    Every row that an instruction reads is computed before it, or enters the grid or was handed over, with whatever wraps
    around to it added before; every row is computed once, by its own weight, and its pre-activations are made once of every
    block and completed before its cell; so are the rows ``read`` of each transform that are looked at afterwards.  Raises
    Unsound, and ValueError where something lies outside its array."""
    check_bounds(program)
    ready = _ready(program)
    for t, p in enumerate(program.transforms):
        missing = np.flatnonzero(ready[t][: p.rows] == NEVER)
        if len(missing):
            raise Unsound(f"row {missing[0]} of transform {t} is never computed")
    made = [np.zeros((p.rows, p.blocks), bool) for p in program.transforms]
    for n, step in enumerate(program.instructions):
        _check_instruction(program, n, step, ready, made)
    for t, rows in enumerate(read or []):
        _there(ready[t], rows, len(program.instructions), "what is read afterwards", t)
    return program


def _check_instruction(program: Program, n: int, step: Any, ready: list[Array], made: list[Array]) -> None:
    """Raise Unsound where instruction ``n`` reads what is not there yet; note in ``made`` which blocks it multiplies."""
    t, rows = int(step["transform"]), slice(int(step["first"]), int(step["end"]))
    p, where = program.transforms[t], f"instruction {n} ({KINDS[step['kind']]} of transform {step['transform']})"
    if step["kind"] == WRAP:
        _there(ready[t], np.array([step["source"]]), n, where, t)
        return
    first, end = (int(p.weight_ends[step["weight"] + k]) for k in (0, 1))
    if not first <= rows.start <= rows.stop <= end:
        raise Unsound(f"{where} takes rows {rows.start}:{rows.stop}; weight {step['weight']} has rows {first}:{end}")
    start = program.block_starts[t]
    blocks = range(int(step["low"]) - start, int(step["high"]) - start)
    if step["kind"] in (PRODUCT, COPY):
        for j in (j for j in blocks if j < len(p.sources)):
            _there(ready[p.sources[j]], p.read_rows[j][rows], n, where, p.sources[j])
    if step["kind"] == PRODUCT:
        _multiply(made[t], rows, slice(blocks.start, blocks.stop), bool(step["adds"]), where)
    elif step["kind"] in (CELL, ATTEND):
        if p.gates:
            _check_complete(made[t], rows, where)
        for index in p.carried_rows:
            _there(ready[t], index[rows], n, where, t)


def _multiply(made: Array, rows: slice, blocks: slice, adds: bool, where: str) -> None:
    """Note that a product multiplies these blocks of rows; Unsound where it does so again, or ``adds`` to what is not there."""
    begun = made[rows].any(axis=1)
    if begun.any() if not adds else not begun.all():
        odd = rows.start + int(np.flatnonzero(begun != adds)[0])
        raise Unsound(f"{where} {'adds to' if adds else 'makes'} pre-activations of row {odd} that were "
                      f"{'not ' * adds}made before")  # fmt: skip
    if made[rows, blocks].any():
        raise Unsound(f"{where} multiplies a block of rows {rows.start}:{rows.stop} that was multiplied before")
    made[rows, blocks] = True


def _check_complete(made: Array, rows: slice, where: str) -> None:
    """Raise Unsound where not every block of these rows is multiplied."""
    if not made[rows].all():
        odd = rows.start + int(np.flatnonzero(~made[rows].all(axis=1))[0])
        raise Unsound(f"{where} comes before all that row {odd} reads was multiplied")


def _ready(program: Program) -> list[Array]:
    """Give of every row the instruction after which it holds what it should: -1 for what enters, NEVER where none does it."""
    ready = [np.concatenate([np.full(p.rows, NEVER), np.full(p.boundary, -1)]) for p in program.transforms]
    for t, _, target in program.wraps.tolist():
        ready[t][target] = NEVER
    known = {(t, target): source for t, source, target in program.wraps.tolist()}
    for n, step in enumerate(program.instructions):
        t = int(step["transform"])
        if step["kind"] in MAKING:
            twice = np.flatnonzero(ready[t][step["first"] : step["end"]] != NEVER)
            if len(twice):
                raise Unsound(f"instruction {n} computes row {step['first'] + twice[0]} of transform {t}, which was there before")
            ready[t][step["first"] : step["end"]] = n
        elif step["kind"] == WRAP:
            target = int(step["target"])
            if known.pop((t, target), None) != step["source"]:
                raise Unsound(f"instruction {n} wraps row {step['source']} of transform {t} around to row {target}, where "
                              "nothing, or something else, should")  # fmt: skip
            ready[t][target] = n
    return ready


def _there(ready: Array, rows: Array, n: int, where: str, t: int) -> None:
    late = rows[(rows >= 0) & (ready[np.maximum(rows, 0)] >= n)]
    if len(late):
        when = ready[late[0]]
        told = "never is" if when == NEVER else f"is by instruction {when}"
        raise Unsound(f"{where} reads row {late[0]} of transform {t} before it is there: it {told}")
