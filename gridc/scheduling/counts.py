"""The counter: floating-point operations, numbers kept and bytes of a sweep, from its spec and sizes alone.

Whoever says or decides anything about costs asks here: ``gridc schedule``, ``Grid.summary``, the check of memory before a call.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from gridc.language import noise
from gridc.language.lattice import home
from gridc.language.shapes import columns, parameter_shapes, units
from gridc.language.spec import GridSpec
from gridc.resources import Memory
from gridc.scheduling import graph, plan
from gridc.scheduling.tiles import axes


class Kept(NamedTuple):
    """Numbers that a sweep keeps: ``tape`` from forward to backward, ``slopes`` more while it goes back."""

    tape: int
    slopes: int


def step_flops(spec: GridSpec, name: str) -> int:
    """Count the floating-point operations of one step for one example, forward, as the cell's row says; a multiply-add is two."""
    t = spec.transforms[name]
    return t.mechanism.flops(units(spec, t))


def multiply_adds(spec: GridSpec, sizes: tuple[int, ...], batch: int) -> int:
    """Count the multiply-adds of a forward sweep's products by the weights of gates."""
    return sum(spec.rows(name) * columns(spec, t) for name, t in spec.transforms.items()) * math.prod(sizes) * batch


def flops(spec: GridSpec, sizes: tuple[int, ...], batch: int) -> int:
    """Count the floating-point operations of a forward sweep; a training step takes three times as many."""
    return sum(step_flops(spec, name) for name in spec.transforms) * math.prod(sizes) * batch


def parameters(spec: GridSpec) -> int:
    """Count the numbers that are learnt."""
    return sum(math.prod(shape) for shape in parameter_shapes(spec).values())


def step_numbers(spec: GridSpec, name: str) -> tuple[int, int]:
    """Count the numbers of one step for one example: its new vectors, and what training keeps besides, which is what it read and
    its pre-activations.  What only hands on keeps nothing of its own."""
    t = spec.transforms[name]
    vectors = t.hidden * (1 + t.has_memory)
    made = columns(spec, t)
    return vectors, (spec.rows(name) + made) * bool(made)


def kept(spec: GridSpec, sizes: tuple[int, ...], batch: int) -> Kept:
    """Count what a whole sweep keeps: the tape to the number, as its program has it; of the slopes the states' gradients, and
    those of the vectors that rules look at, beside which there is room for the largest product's."""
    rows = math.prod(sizes) * batch
    tape = states = vectors = 0
    for name, t in spec.transforms.items():
        besides = step_numbers(spec, name)[1]
        alone = len(t.along) == 1 and (t.start == "wrap" or bool(spec.entering(name)))
        entering = (rows // sizes[t.along[0]] if alone else 0) + batch  # the start alone
        computed = 0 if spec.relayed(t) else rows
        states += (computed + entering) * step_numbers(spec, home(spec, name))[0]
        tape += computed * besides
        vectors += computed * (len(t.peephole_names()) + len(t.vectors)) * t.hidden
    return Kept(tape + states, states + vectors)


def indices(spec: GridSpec, sizes: tuple[int, ...], batch: int) -> int:
    """Count the row numbers that say where a sweep's vectors are found."""
    noisy = any(t.dropout for t in spec.transforms.values())
    own = [t for t in spec.transforms.values() if not spec.relayed(t)]
    reads = sum((1 + noisy) * len(t.reads) + len(t.along) + len(spec.joined(t.name)) + (t.zoneout > 0) + (t.attends is not None)
                for t in own)  # fmt: skip
    return reads * math.prod(sizes) * batch


def surface(spec: GridSpec, sizes: tuple[int, ...], batch: int) -> int:
    """Count the numbers that enter a sweep and that outputs read of it."""
    count = 0
    for x in spec.inputs.values():
        if x.enters:
            t = spec.transforms[x.enters]
            count += len(x.into) * t.hidden * math.prod(sizes) // sizes[t.along[0]]
        elif x.joins:
            count += x.width * math.prod(sizes[d] for d in x.over)
    for o in spec.outputs.values():
        read = math.prod(sizes[d] for d in o.axes) * math.prod(len(at) for at in o.at if isinstance(at, tuple))
        count += read * (sum(spec.transforms[tap.transform].hidden for tap in o.reads) + 2 * o.size)
    return batch * count


def call_bytes(
    spec: GridSpec, sizes: tuple[int, ...], batch: int, itemsize: int, training: bool, recompute: bool = False,
    limit: float = math.inf,
) -> int:  # fmt: skip
    """Count the bytes that a call holds at its peak, a training step or a prediction: states, what was read and pre-activations,
    what enters, what outputs read and masks, parameters and their gradients, and, to ``recompute``, the row numbers.

    Where the row numbers alone are above the ``limit``, the rest is not counted."""
    learnt, beside = parameters(spec), (1 + training) * surface(spec, sizes, batch)
    beside += training * sum(math.prod(shape) for shape in noise.shapes(spec, batch, sizes).values())
    if not recompute:
        tape, slopes = kept(spec, sizes, batch)
        return itemsize * (tape + slopes * training + beside + (1 + training) * learnt)
    index_bytes = np.dtype(np.int64).itemsize * indices(spec, sizes, batch)
    if index_bytes > limit:
        return index_bytes
    key = (spec.digest, spec.schedule, sizes, batch, itemsize)
    tape, slopes = _segmented.get(key, lambda: segmented(spec, sizes, batch, itemsize))
    return index_bytes + itemsize * (tape + slopes * training + beside + _gradients(learnt, training))


def rank_bytes(
    spec: GridSpec, sizes: tuple[int, ...], dimension: int, cells: int, batch: int, itemsize: int, training: bool,
    recompute: bool = False, limit: float = math.inf,
) -> int:  # fmt: skip
    """Count the bytes that a call holds at its peak on a rank that has so many ``cells`` of a dimension that is cut: its part of
    the states and of the weights that are untied there, and all of what enters, of masks and of what outputs read."""
    own = tuple(cells if d == dimension else n for d, n in enumerate(sizes))
    untied = axes(spec, dimension)
    others = sum(math.prod(shape) // sizes[dimension] for name, shape in parameter_shapes(spec).items() if name in untied)
    found = call_bytes(spec, own, batch, itemsize, training, recompute, limit) // itemsize
    found -= (1 + training) * others * (sizes[dimension] - cells)
    found += (1 + training) * (surface(spec, sizes, batch) - surface(spec, own, batch))
    masks, mine = (sum(math.prod(shape) for shape in noise.shapes(spec, batch, one).values()) for one in (sizes, own))
    return itemsize * (found + training * (masks - mine))


def _gradients(learnt: int, training: bool) -> int:
    """Count parameters and gradients in segments: those of a segment are made apart, and added up."""
    return (1 + training * 3) * learnt


def room(spec: GridSpec, sizes: tuple[int, ...], batch: int, itemsize: int) -> float:
    """Give how many numbers a training step may hold of one example in segments, where the page's schedule keeps so many bytes;
    infinity where all of it may be kept."""
    keep = spec.schedule.keep
    if isinstance(keep, str) or call_bytes(spec, sizes, batch, itemsize, True) <= keep:
        return math.inf
    beside = 2 * surface(spec, sizes, batch) + sum(math.prod(shape) for shape in noise.shapes(spec, batch, sizes).values())
    fixed = np.dtype(np.int64).itemsize * indices(spec, sizes, batch)
    fixed += itemsize * (beside + _gradients(parameters(spec), True))
    return (keep - fixed) / (itemsize * batch)


def segmented(spec: GridSpec, sizes: tuple[int, ...], batch: int, itemsize: int) -> Kept:
    """Count, on one example, what a sweep in segments keeps."""
    steps = graph.build(spec, sizes)
    own = None if spec.schedule.keep in ("all", "little") else room(spec, sizes, batch, itemsize)
    tape, slopes = plan.single(steps, plan.frugal(steps, batch), own).room
    return Kept(batch * tape, batch * slopes)


_segmented = Memory()
