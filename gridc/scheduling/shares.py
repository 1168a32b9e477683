"""How threads share a program: what each of them does, forward and back, and where they meet.

Of an instruction every thread does some rows, whole; or, where rows are few or a weight serves one product only, all rows of some
columns.  They *meet* where one of them needs what another made.  Every number is made by the same sums in the same order,
whoever makes it: the bits of a sweep do not depend on how many share it, nor on how.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from gridc.scheduling.program import ATTEND, CELL, PRODUCT, WRAP, Array, Program, record
from gridc.scheduling.threads import ALONE, Sharing, narrow

PACK, MEET, SIGNAL, AWAIT, GRADIENTS = range(5, 10)
"""What a thread does besides a program's own kinds: lay a weight, transposed on the way back, as products want it; wait until
all have come so far; say that it has come so far, or wait until ``source`` has said so ``target`` times; make the part of a chunk
in the gradients of its weight."""
READ, MULTIPLY, FORGETS = 1, 2, 4
"""What a product ``does``: fetch what rows read, or hand back its gradient; multiply.  A meeting that ``FORGETS`` alone needs."""
STEP = record("kind transform first end weight low high adds source target does part parts")
"""An instruction of a thread: a program's, of which a product does ``part`` of so many parts of its columns."""
EVERYBODY = -2


@dataclass(frozen=True, eq=False)
class Share:
    """What one thread does; ``backward`` is in the order in which it runs."""

    forward: Array
    backward: Array
    widest: tuple[tuple[int, int, int], ...]
    """Rows, columns and parts of the products whose adjoint is the largest, of each number of parts."""


def share(program: Program, sharing: Sharing) -> tuple[Share, ...]:
    """Give every thread its share of a program."""
    if sharing.way == "weights":
        return _behind(program, sharing.helps)
    forward, backward = _Forward(program, sharing), _Backward(program, sharing)
    steps = program.steps
    for step in steps:
        forward.add(step)
    for step in steps[::-1]:
        backward.add(step)
    backward.meet()
    return tuple(Share(_table(ahead), _table(back), _widest(program, back))
                 for ahead, back in zip(forward.told, backward.told, strict=True))  # fmt: skip


def _behind(program: Program, helps: bool) -> tuple[Share, Share]:
    """Give one thread all of a program, and another the weights' gradients, each chunk as soon as the first is done with it; one
    that ``helps`` shares the way forward before."""
    (all_,) = share(program, ALONE)
    ahead = [each.forward for each in share(program, Sharing("wavefront", 2))] if helps else [all_.forward, _table([])]
    left: dict[tuple[int, int, int], int] = {}
    chunks: dict[tuple[int, int, int], tuple[int, int, int]] = {}
    for t, own in enumerate(program.transforms):
        for weight, (low, high) in enumerate(itertools.pairwise(own.weight_ends.tolist() if own.gates else ())):
            count = max(1, -(-(high - low) // own.chunk))
            for n in range(count):
                first, end = low + n * own.chunk, min(high, low + (n + 1) * own.chunk)
                left[t, weight, n], chunks[t, weight, n] = end - first, (first, end, int(n < count - 1))
    first: list[tuple[int, ...]] = []
    second: list[tuple[int, ...]] = [(GRADIENTS, t, low, end, weight, 0, 0, adds, 0, 0, 0, 0, 1)
              for (t, weight, n), (low, end, adds) in chunks.items() if left[t, weight, n] == 0]  # fmt: skip
    said = 0
    for step in all_.backward:
        first.append(step.item())
        t, weight = int(step["transform"]), int(step["weight"])
        own, done = program.transforms[t], list[tuple[int, int, int]]()
        if step["kind"] not in (CELL, ATTEND) or not own.gates:  # facts have weights elsewhere
            continue
        low = int(own.weight_ends[weight])
        for n in range((int(step["first"]) - low) // own.chunk, (int(step["end"]) - 1 - low) // own.chunk + 1):
            begin, end, _ = chunks[t, weight, n]
            left[t, weight, n] -= min(end, int(step["end"])) - max(begin, int(step["first"]))
            done += [(t, weight, n)] * (left[t, weight, n] == 0)
        if done:
            said += 1
            first.append((SIGNAL, *(0,) * 11, 1))
            second.append((AWAIT, *(0,) * 7, 0, said, 0, 0, 1))
        for t, weight, n in sorted(done, reverse=True):
            begin, end, adds = chunks[t, weight, n]
            second.append((GRADIENTS, t, begin, end, weight, 0, 0, adds, 0, 0, 0, 0, 1))
    meet = (MEET, *(0,) * 9, 0, 0, 1)
    second += [(SIGNAL, *(0,) * 11, 1)] * (said)
    return (replace(all_, forward=ahead[0], backward=_table([*first, meet])), Share(ahead[1], _table([*second, meet]), ()))


def _table(rows: list[tuple[int, ...]]) -> Array:
    return np.array(rows, STEP) if rows else np.zeros(0, STEP)


def _widest(program: Program, rows: list[tuple[int, ...]]) -> tuple[tuple[int, int, int], ...]:
    found: dict[int, tuple[int, int, int]] = {}
    for kind, t, first, end, _, low, high, *_, parts in rows:
        if kind == PRODUCT:
            start = program.block_starts[t]
            width = sum(program.widths(t)[low - start : high - start])
            found[parts] = max(found.get(parts, (0, 0, parts)), (end - first, width, parts), key=lambda each: each[0] * each[1])
    return tuple(found.values())


class _Sharing:
    """Hands out instructions; knows which thread touched which row last, in which stretch between two meetings."""

    transposed = 0

    def __init__(self, program: Program, sharing: Sharing):
        self.program, self.threads = program, sharing.threads
        self.wavefront = self.threads > 1 and sharing.way == "wavefront"
        self.told: list[list[tuple[int, ...]]] = [[] for _ in range(self.threads)]
        self.now = 0
        self.touched: dict[tuple[str, int], tuple[Array, Array]] = {}
        self._joined: dict[int, int] = {}
        for t, (p, extents) in enumerate(zip(program.transforms, program.joined_extents, strict=True)):
            self._joined |= {program.block_starts[t] + len(p.sources) + j: n for j, n in enumerate(extents)}
        self.held = [-1] * len(program.transforms)
        self.ends, self.anew = self._by_example()
        for t, own in enumerate(program.transforms):
            if program.packed[t] and (program.slots[t] > 1 or (program.slots[t] == 1 and len(own.weight_ends) == 2)):
                for weight in range(len(own.weight_ends) - 1):
                    self._pack(t, weight)
                self.held[t] = 0
        self.meet()

    # -- what is handed out

    def meet(self, does: int = 0) -> None:
        """Have all threads wait for each other."""
        if self.threads > 1:
            for own in self.told:
                own.append((MEET, *(0,) * 9, does, 0, 1))
            self.now += not does

    def _pack(self, t: int, weight: int) -> None:
        for k, own in enumerate(self.told):
            own.append((PACK, t, 0, 0, weight, 0, 0, self.transposed, 0, 0, 0, k, self.threads))

    def give(self, step: Array, cuts: Array, does: int) -> None:
        """Give every thread its rows of an instruction."""
        fields = tuple(step.item())
        for k, own in enumerate(self.told):
            if cuts[k + 1] > cuts[k]:
                own.append((*fields[:2], int(cuts[k]), int(cuts[k + 1]), *fields[4:], does, 0, 1))

    def give_columns(self, step: Array, does: int) -> None:
        """Give every thread some columns of a product."""
        for k, own in enumerate(self.told):
            own.append((*step.item(), does, k, self.threads))

    def begin(self, t: int, weight: int) -> None:
        """Have the weight packed that a product is about to use, where another lies there; and meet where rows move."""
        turned = self.held[t] != weight
        if turned and self.program.in_turn[t] and self.held[t] >= 0 and not self.transposed:
            self.meet(FORGETS)
        if turned and self.program.packed[t] and self.program.slots[t] == 1:
            self.meet()
            self._pack(t, weight)
            self.meet()
        self.held[t] = weight

    def by_columns(self, step: Array) -> bool:
        """Whether threads share the columns of a product: where each would have to pack all of its weight, or for few rows."""
        t, rows = int(step["transform"]), int(step["end"] - step["first"])
        if self.threads == 1:
            return False
        if not self.program.packed[t] or self.program.slots[t] == 0:
            return True
        start = self.program.block_starts[t]
        inner, columns = sum(self.program.widths(t)[step["low"] - start : step["high"] - start]), self.program.transforms[t].width
        return self.wavefront and narrow(rows, inner, columns, self.threads)

    # -- which rows are whose

    def _by_example(self) -> tuple[Array, list[Array]]:
        """Give the examples at which threads begin, so that each has as many rows, ``[threads + 1]``; and per transform how
        often the examples began anew before each row, ``[rows + 1]``."""
        examples = [np.zeros(p.rows, np.int64) if p.example is None else p.example[: p.rows] for p in self.program.transforms]
        before: Array = np.cumsum(np.bincount(np.concatenate([np.zeros(1, np.int64), *examples])))
        shares = float(before[-1]) * np.arange(self.threads + 1) / self.threads
        ends = np.asarray(np.searchsorted(before, shares), np.int64) + 1
        ends[0], ends[-1] = 0, len(before)
        return ends, [np.concatenate([[0], np.cumsum(np.diff(each, prepend=0) < 0)]) for each in examples]

    def rows(self, step: Array) -> tuple[Array, bool]:
        """Give the rows of an instruction at which threads begin, ``[threads + 1]``, and whether no thread's examples are
        among another's."""
        first, end, t = int(step["first"]), int(step["end"]), int(step["transform"])
        example, anew = self.program.transforms[t].example, self.anew[t]
        if not self.wavefront and example is not None and (end == first or anew[end] == anew[first + 1]):
            return first + np.searchsorted(example[first:end], self.ends), True
        return first + (end - first) * np.arange(self.threads + 1) // self.threads, self.threads == 1

    def who(self, cuts: Array) -> Array:
        """Name the thread of each row."""
        return np.repeat(np.arange(self.threads), np.diff(cuts))

    # -- who touched what

    def ready(self, name: str, t: int, rows: Array, who: Array | int) -> bool:
        """Tell whether these threads may touch these rows without a meeting."""
        if (name, t) not in self.touched:
            return True
        thread, when = self.touched[name, t]
        return bool(((when[rows] < self.now) | ((thread[rows] == who) & (thread[rows] != EVERYBODY))).all())

    def touch(self, name: str, t: int, rows: Array, who: Array | int) -> None:
        """Note who touches these rows."""
        if (name, t) not in self.touched:
            size = self._joined[t] if name == "joined" else self.program.transforms[t].extent
            size = self.program.fact_extents[t] + 1 if name == "facts" else size
            self.touched[name, t] = np.full(size, -1), np.full(size, -1)
        thread, when = self.touched[name, t]
        thread[rows], when[rows] = who, self.now


class _Forward(_Sharing):
    """Shares the way forward."""

    def add(self, step: Array) -> None:
        """Share one instruction, or its adjoint."""
        t = int(step["transform"])
        if step["kind"] == WRAP:
            self._wrap(step, t)
        else:
            self._add(step, t, *self.rows(step))

    def _add(self, step: Array, t: int, cuts: Array, own: bool) -> None:
        self.begin(t, int(step["weight"]))
        if not own:
            self._await(step, t, self.who(cuts))
        if step["kind"] != PRODUCT:
            self.give(step, cuts, 0)
            self._made(step, t, cuts, "state")
        elif self.by_columns(step):
            self.give(step, cuts, READ)
            self.meet()
            self.give_columns(step, MULTIPLY)
            self.meet()
        else:
            self.give(step, cuts, READ | MULTIPLY)
            self._made(step, t, cuts, "gates")
            if not self.wavefront and not own:
                self.meet()

    def _made(self, step: Array, t: int, cuts: Array, name: str) -> None:
        if self.wavefront:
            self.touch(name, t, np.arange(int(step["first"]), int(step["end"])), self.who(cuts))

    def _await(self, step: Array, t: int, who: Array) -> None:
        """Meet where a thread reads rows that another made since all last met."""
        rows, p = slice(int(step["first"]), int(step["end"])), self.program.transforms[t]
        if not self.wavefront:
            self.meet()
            return
        found = self.ready("gates", t, np.arange(rows.start, rows.stop), who)
        start = self.program.block_starts[t]
        if step["kind"] in (CELL, ATTEND):
            found = found and all(self.ready("state", t, index[rows], who) for index in p.carried_rows)
        else:
            for j in range(int(step["low"]) - start, min(int(step["high"]) - start, len(p.sources))):
                found = found and self.ready("state", p.sources[j], p.read_rows[j][rows], who)
        if not found:
            self.meet()

    def _wrap(self, step: Array, t: int) -> None:
        thread = self.wrapper(step, t)
        if self.wavefront and not self.ready("state", t, np.array([step["source"]]), thread):
            self.meet()
        self.told[thread].append((*step.item(), 0, 0, 1))
        if self.wavefront:
            self.touch("state", t, np.array([step["target"]]), thread)

    def wrapper(self, step: Array, t: int) -> int:
        """Choose who adds what wraps around: whoever has the example."""
        example = self.program.transforms[t].example
        if self.wavefront or example is None:
            return 0
        return int(np.searchsorted(self.ends, example[step["source"]], side="right")) - 1


class _Backward(_Forward):
    """Shares the way back."""

    transposed = 1

    def _add(self, step: Array, t: int, cuts: Array, own: bool) -> None:
        if step["kind"] == PRODUCT:
            self.begin(t, int(step["weight"]))
        if own:
            self._own(step, cuts)
        else:
            self._shared(step, t, cuts)

    def _own(self, step: Array, cuts: Array) -> None:
        """Give every thread the rows of its examples, which nobody else touches."""
        if step["kind"] == PRODUCT and self.by_columns(step):
            self.meet()
            self.give_columns(step, READ | MULTIPLY)
            self.meet()
        else:
            self.give(step, cuts, READ | MULTIPLY)

    def _shared(self, step: Array, t: int, cuts: Array) -> None:
        """Give every thread rows whose gradients go to rows of others: by rows where no two go to one, else all rows of some
        columns, or all to one thread."""
        who, rows = self.who(cuts), np.arange(int(step["first"]), int(step["end"]))
        inside, outside = self._touches(step, t)
        if not self.wavefront:
            self.meet()
        columns = step["kind"] == PRODUCT and self.by_columns(step)
        if not columns and not self._apart(outside, who):
            columns = step["kind"] == PRODUCT
            cuts = cuts if columns else np.concatenate([[rows[0]], np.full(self.threads, rows[-1] + 1)])
            who = self.who(cuts)
        touched: list[tuple[str, int, Array, Array | int]] = []
        for name, u, index in [*((name, u, rows) for name, u in inside), *outside]:
            there = index >= 0
            touched.append((name, u, index[there], EVERYBODY if columns else who[there]))
        if self.wavefront and not all(self.ready(*each) for each in touched):
            self.meet()
        if columns:
            self.give_columns(step, READ | MULTIPLY)
        else:
            self.give(step, cuts, READ | MULTIPLY)
        for each in touched if self.wavefront else ():
            self.touch(*each)
        if not self.wavefront:
            self.meet()

    def _touches(self, step: Array, t: int) -> tuple[list[tuple[str, int]], list[tuple[str, int, Array]]]:
        """Give what an adjoint touches of its own rows, and which other rows' gradients it adds to; -1 stands for none."""
        rows, p = slice(int(step["first"]), int(step["end"])), self.program.transforms[t]
        if step["kind"] in (CELL, ATTEND):
            added = [("state", t, index[rows]) for index in p.carried_rows]
            if p.fact_rows is not None:  # values may be the next set's keys
                added += [("facts", t, p.fact_rows[rows]), ("facts", t, p.fact_rows[rows] + 1)]
            return [("gates", t), ("state", t)], added
        start, found = self.program.block_starts[t], list[tuple[str, int, Array]]()
        for j in range(int(step["low"]) - start, int(step["high"]) - start):
            if j < len(p.sources):
                found.append(("state", p.sources[j], p.read_rows[j][rows]))
            else:
                index = p.joined_rows[j - len(p.sources)][rows]
                found.append(("joined", start + j, index))
        return [("gates" if step["kind"] == PRODUCT else "state", t)], found

    def _apart(self, outside: list[tuple[str, int, Array]], who: Array) -> bool:
        """Tell whether no row is added to by two threads."""
        for name, u in dict.fromkeys(each[:2] for each in outside):
            pairs = np.concatenate([np.stack([index, who]) for n, v, index in outside if (n, v) == (name, u)], axis=1)
            pairs = np.unique(pairs[:, pairs[0] >= 0], axis=1)
            if len(np.unique(pairs[0])) < pairs.shape[1]:
                return False
        return True

    def _wrap(self, step: Array, t: int) -> None:
        thread = self.wrapper(step, t)
        rows = np.array([step["source"], step["target"]])
        if self.wavefront and not self.ready("state", t, rows, thread):
            self.meet()
        self.told[thread].append((*step.item(), 0, 0, 1))
        if self.wavefront:
            self.touch("state", t, rows, thread)
