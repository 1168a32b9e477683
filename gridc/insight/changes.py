"""What one change to a grid would do to its schedule: no priority, a shorter dimension, tying or untying, tiles."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from gridc.insight import simulation
from gridc.insight.simulation import Model
from gridc.insight.timing import Timing
from gridc.language.lattice import points, weights
from gridc.language.spec import GridSpec, Read, Transform
from gridc.scheduling import graph, order


@dataclass(frozen=True)
class Change:
    """One change, and the schedule that it makes: steps, wavefronts, matrix products a sweep, and the model's time on so
    many workers.  ``gain`` is how many times as fast a sweep is as the grid's own; a shorter dimension also does less."""

    kind: str
    name: str
    work: int
    span: int
    products: int | None
    seconds: float
    gain: float

    @property
    def parallelism(self) -> float:
        """Steps a wavefront on the average: how many workers the changed grid could keep busy."""
        return self.work / self.span


def without_priority(spec: GridSpec) -> GridSpec | None:
    """Give the same grid where every vector read at its own cell is replaced by what enters along its dimensions, which is the
    default rule without priority; None where that changes nothing."""

    def entering(read: Read, name: str) -> tuple[Read, ...]:
        if read.via is not None or any(read.offset) or read.of == name:
            return (read,)
        return tuple(Read(read.of, read.offset, axis) for axis in spec.transforms[read.of].along)

    transforms = {
        name: dataclasses.replace(t, reads=tuple(r for old in t.reads for r in entering(old, name)))
        if t.mechanism.reads != "one" else t
        for name, t in spec.transforms.items()
    }
    if transforms == dict(spec.transforms):
        return None
    return dataclasses.replace(spec, transforms=transforms, priority=(tuple(transforms),))


def prioritised(spec: GridSpec, last: str) -> GridSpec | None:
    """Give the same grid where ``last`` reads the new vectors of all others; None where that changes nothing."""

    def new(read: Read) -> Read:
        return Read(read.of, read.offset) if read.of != last and read.via is not None and not any(read.offset) else read

    t = spec.transforms[last]
    changed = dataclasses.replace(t, reads=tuple(dict.fromkeys(new(r) for r in t.reads)))
    if changed == t or len(spec.transforms) < 2:
        return None
    others = tuple(name for name in spec.transforms if name != last)
    return dataclasses.replace(spec, transforms={**spec.transforms, last: changed}, priority=(others, (last,)))


def tied(spec: GridSpec, along: int, tie: bool) -> GridSpec | None:
    """Give the same grid with every transform's weights shared along a dimension, or not; None where that changes nothing."""

    def new(t: Transform) -> Transform:
        if not t.gates or t.shares or (along in t.untied) != tie:
            return t
        untied = tuple(d for d in t.untied if d != along) if tie else tuple(sorted((*t.untied, along)))
        return dataclasses.replace(t, untied=untied)

    transforms = {name: new(t) for name, t in spec.transforms.items()}
    if transforms == dict(spec.transforms) or any(t.shares for t in transforms.values()):
        return None
    return dataclasses.replace(spec, transforms=transforms)


def shorter(plan: Timing, axis: int) -> Timing | None:
    """Give the same grid with one dimension half as long (its other dimensions of the same symbol stay as they are)."""
    n = plan.sizes[axis]
    return Timing(plan.spec, tuple((n + 1) // 2 if d == axis else m for d, m in enumerate(plan.sizes))) if n > 1 else None


def products(plan: Timing) -> int | None:
    """Count the matrix products of a sweep that goes over wavefronts of steps: batches of equal weights."""
    if plan.work > 500_000:
        return None
    at, total = points(plan.sizes), 0
    owners = [plan.spec.weight_owner(name) for name in plan.spec.transforms]
    keys: dict[str, list[np.ndarray]] = {}
    for i, (name, t) in enumerate(plan.spec.transforms.items()):
        own = weights(t, at, plan.sizes)
        level = plan.level_numbers[i * plan.cell_count : (i + 1) * plan.cell_count]
        if not t.mechanism.relays:
            keys.setdefault(plan.spec.weight_owner(name), []).append(level * (int(own.max(initial=0)) + 1) + own)
    for owner in dict.fromkeys(owners):
        if owner in keys:
            total += len(np.unique(np.concatenate(keys[owner])))
    return total


def sweep_seconds(plan: Timing, batch: int) -> float:
    """Give the cost model's seconds of a whole sweep in its cheapest order."""
    return min(order.seconds(plan.steps, way, batch) for way in order.orders(plan.steps))


def tiles(plan: Timing, edge: int, workers: int, model: Model) -> tuple[int, int, float] | None:
    """Put cells in blocks of ``edge`` on every dimension, each block on one worker: blocks, wavefronts of blocks, and the
    simulated time, in which a block takes as long as its steps together and sends its vectors in one message.  None where
    blocks would wait for each other."""
    sizes = plan.sizes
    counts = tuple(-(-n // edge) for n in sizes)
    if edge >= max(sizes):
        return None
    steps = plan.steps
    block = np.ravel_multi_index(tuple(x // edge for x in points(sizes).T), counts)
    node = np.tile(block, len(plan.spec.transforms))
    before, after = node[steps.before], node[steps.after]
    apart = before != after
    # A vector travels once: pairs of (step, block that reads it).
    total = int(np.prod(counts))
    try:
        levels = graph.longest_paths(total, before[apart], after[apart])
    except graph.Cycle:
        return None
    own = np.repeat([model.step_seconds(plan.spec, name) for name in plan.spec.transforms], plan.cell_count)
    leaves = np.unique(steps.before[apart])
    move = np.repeat([model.move_seconds(plan.spec, name) - model.latency for name in plan.spec.transforms], plan.cell_count)
    cost = np.bincount(node, weights=own, minlength=total).astype(np.float64)
    # One message a block: its latency once, its vectors' bytes together.
    moves = np.bincount(node[leaves], weights=np.maximum(move[leaves], 0), minlength=total).astype(np.float64) + model.latency
    runs, *_ = simulation.list_schedule(workers, cost, moves, before[apart], after[apart], levels)
    return total, int(levels.max()) + 1, max(run.end for run in runs)


def changes(plan: Timing, workers: int = 8, model: Model | None = None) -> list[Change]:
    """Try every single change that the grid allows, the one that helps most on so many workers first."""
    model = model or Model()
    now = simulation.seconds(plan, workers, model)
    found: list[Change] = []

    def add(kind: str, name: str, other: Timing | None) -> None:
        if other is None:
            return
        try:
            time = simulation.seconds(other, workers, model)
        except graph.Cycle:
            return
        found.append(Change(kind, name, other.work, other.span, products(other), time, now / time))

    bare = without_priority(plan.spec)
    add("priority", "no priority", bare and Timing(bare, plan.sizes))
    if bare is None:
        for name in plan.spec.transforms:
            other = prioritised(plan.spec, name)
            add("priority", f"priority: {name} last", other and Timing(other, plan.sizes))
    for axis, dimension in enumerate(plan.spec.dimensions):
        other = shorter(plan, axis)
        add("dimension", f"{dimension.name} {plan.sizes[axis]} → {(plan.sizes[axis] + 1) // 2}", other)
    if plan.work <= 30_000:
        sweep = sweep_seconds(plan, model.batch)
        for axis, dimension in enumerate(plan.spec.dimensions):
            for tie in (True, False):
                other = tied(plan.spec, axis, tie)
                if other is None or (not tie and isinstance(dimension.size, str)):
                    continue
                twin = Timing(other, plan.sizes)
                time = sweep_seconds(twin, model.batch)
                name = f"{'tied' if tie else 'untied'} along {dimension.name}"
                found.append(Change("tying", name, twin.work, twin.span, products(twin), now * time / sweep, sweep / time))
        for edge in (2, 4, 8):
            made = tiles(plan, edge, workers, model)
            if made is not None:
                blocks, span, time = made
                found.append(Change("tiles", f"tiles of {edge} cells a side", blocks, span, None, time, now / time))
    return sorted(found, key=lambda change: -change.gain)


def limiting(plan: Timing) -> tuple[str, int]:
    """Find the dimension that limits the parallelism, and how many wavefronts would go with half of it."""
    gone = [(plan.span - other.span if other is not None else 0) for other in (shorter(plan, d) for d in range(len(plan.sizes)))]
    axis = int(np.argmax(gone))
    return plan.spec.dimensions[axis].name, gone[axis]
