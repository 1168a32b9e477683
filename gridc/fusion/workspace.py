"""The memory that a program runs on, and where in it everything lies: worked out once a program, then only moved."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from gridc.fusion import kernels, native, packing
from gridc.fusion.buffers import fresh
from gridc.locks import once
from gridc.scheduling.program import Array, Program, Shapes, total

LINE = 64
"""Bytes of a line of the cache, or more."""
BLOCK = ("column", "width", "source", "index", "gradient", "mask", "masked")
"""Words of a block, one read or joined input of one transform."""
HOLDERS = ("", "tape", "slopes", "packed")
COLUMN, WIDTH, SOURCE, INDEX, GRADIENT, MASK, MASKED = range(len(BLOCK))


@dataclass(frozen=True)
class Places:
    """Where a program's arrays lie.  Addresses in ``records`` and ``blocks`` count in bytes from the start of what holds them:
    ``holders`` says of each word which of the tape, the slopes and the packed weights that is (1 to 3).

    ``shapes`` are those of ``h``, ``m``, ``z`` and ``g``; ``tape``, ``slopes`` and ``packed`` sizes in numbers, ``states`` that
    of the part of the slopes that gradients of states take; ``joined`` (block, transform, number), ``masked`` (block, source)."""

    shapes: tuple[Shapes, Shapes, Shapes, Shapes]
    tape: int
    slopes: int
    states: int
    packed: int
    once: int
    """Numbers that each thread packs at a time of the weights that serve one product only, which ``alone`` have."""
    row: int
    """Numbers that a cell's adjoint works in."""
    records: Array
    blocks: Array
    holders: Array
    gated: tuple[int, ...]
    """The transforms that have weights."""
    alone: Array
    """Of each transform, whether a thread packs its weights itself."""
    joined: tuple[tuple[int, int, int], ...]
    masked: tuple[tuple[int, int], ...]
    owners: tuple[Any, ...]
    """What the addresses in ``records`` and ``blocks`` lead to."""
    last: dict[bool, tuple[Hashable, Array, Array]] = field(default_factory=dict[bool, tuple[Hashable, Array, Array]])
    """Where the arrays of the last tables lay, with gradients or without, and their records and blocks: numbers, which hold
    nothing."""
    no_bias: dict[int, Array] = field(default_factory=dict[int, Array])
    """Zeros for the gated transforms that have none."""


_known: WeakKeyDictionary[Program, dict[np.dtype[Any], Places]] = WeakKeyDictionary()


def places(program: Program, dtype: Any) -> Places:
    """Work out where everything lies, at the first call: always the same, also where two callers work it out at once, since what
    is bound for a program follows addresses to what this owns for as long as the program lives."""
    key = np.dtype(dtype)
    known = _known.setdefault(program, {})
    return known[key] if key in known else known.setdefault(key, _placed(program, key))


def address(array: Array | None) -> int:
    """Give the address of the first number; 0 for None."""
    if array is None:
        return 0
    try:
        buffer: Any = array  # a quarter of the other way's time, thirty times a step
        return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    except (TypeError, ValueError):  # read-only, or empty
        return int(array.__array_interface__["data"][0])


def aligned(numbers: Array) -> Array:
    """Give what is left of a vector from the first line of the cache on."""
    return numbers[-address(numbers) % packing.ALIGNMENT // numbers.itemsize :]


class Addresses:
    """Gives addresses, and holds what they lead to: ``owners`` must live as long as whatever they are written into."""

    def __init__(self) -> None:
        self.owners: list[Any] = []

    def of(self, array: Array | None) -> int:
        """Give the address of the first number, 0 for None, and hold the array."""
        self.owners.append(array)
        return address(array)


@dataclass(frozen=True)
class Tables:
    """What compiled code runs on: ``records`` ``[transforms, words]`` and ``blocks`` ``[blocks, words]``, and the owners of all
    that their addresses lead to.

    Whoever holds it can follow them, so this is what goes to another thread, never the words alone."""

    records: Array
    blocks: Array
    owners: tuple[Any, ...]

    def of_thread(self, where: Places, once: Array, row: Array, scores: Array) -> Tables:
        """Give the tables of one thread, which packs weights in ``once``, whose cells work in ``row``, and which attends to facts
        in ``scores``, two for each."""
        records, owners = self.records.copy(), (*self.owners, once, row, scores)
        records[:, native.SCRATCH] = address(row)
        if where.once:
            records[where.alone, native.PACKED] = address(once)
        records[:, native.SCORES] = address(scores)
        return Tables(records, self.blocks, owners)


def _packed(program: Program, dtype: np.dtype[Any]) -> tuple[list[int], int]:
    """Count per transform the numbers of its packed weights, forward or backward, 0 where too few rows use each; and those that
    are packed at a time where one product alone does."""
    found, once = [0] * len(program.transforms), 0
    for t, own in enumerate(program.transforms):
        inputs = sum(program.widths(t))
        shapes = ((inputs, own.width), (own.width, inputs))
        if program.packed[t] and program.slots[t]:
            found[t] = program.slots[t] * max(packing.room(*shape, dtype) for shape in shapes)
        elif program.packed[t]:
            once = max(once, *(packing.room(rows, packing.group(rows) * packing.panel(dtype), dtype) for rows, _ in shapes))
    return found, once


def _starts(sizes: list[int]) -> list[int]:
    return np.cumsum([0, *sizes]).tolist()


def _placed(program: Program, dtype: np.dtype[Any]) -> Places:
    shapes, size = program.shapes, dtype.itemsize
    count = len(program.transforms)
    flat = [rows * columns for group in shapes for rows, columns in group]
    starts, (packed, once) = _starts(flat), _packed(program, dtype)
    states = starts[2 * count]
    packs, vectors = _starts(packed), _starts([rows * columns for rows, columns in program.vectors])
    records = np.zeros((count, len(native.RECORD)), np.int64)
    holders = np.zeros_like(records)
    addresses = Addresses()

    def put(t: int, where: str, word: int, value: int) -> None:
        records[t, word] = value
        holders[t, word] = HOLDERS.index(where)

    for t, own in enumerate(program.transforms):
        rows = np.array([addresses.of(index) for index in own.memory_rows], np.int64)
        records[t, native.HIDDEN], records[t, native.COLUMNS] = own.hidden, own.width
        records[t, native.INPUTS] = sum(program.widths(t))
        records[t, native.ROWS], records[t, native.ENDS] = addresses.of(rows), addresses.of(own.weight_ends)
        records[t, native.WEIGHTS] = len(own.weight_ends) - 1 if own.gates else 0
        records[t, native.KEPT] = addresses.of(own.kept_rows)
        for k, word in enumerate((native.H, native.M, native.Z, native.G)):
            if k != 1 or own.memory:
                put(t, "tape", word, starts[k * count + t] * size)
        for k, word in enumerate((native.DH, native.DM)):
            if k == 0 or own.memory:
                put(t, "slopes", word, starts[k * count + t] * size)
        put(t, "slopes", native.DP_ROWS, (states + vectors[t]) * size)
        records[t, native.CHUNK] = own.chunk
        records[t, native.VECTORS] = program.vectors[t][1] * (own.gates > 0)
        records[t, native.SLOTS], records[t, native.TURNS] = program.slots[t], program.in_turn[t]
        if packed[t]:
            put(t, "packed", native.PACKED, packs[t] * size)
        records[t, native.SETS] = addresses.of(own.fact_rows)
        if own.gates or own.fact_rows is not None:
            both = kernels.load(own.cell, own.options, own.dimensions, dtype.name, own.keeps)
            records[t, [native.FORWARD, native.ADJOINT]] = [kernel.address for kernel in both]
    blocks: list[tuple[int, ...]] = []
    joined: list[tuple[int, int, int]] = []
    masked: list[tuple[int, int]] = []
    for t, own in enumerate(program.transforms):
        column = 0
        for u, index, mask in zip(own.sources, own.read_rows, own.masks, strict=True):
            width = program.transforms[u].hidden
            masked += [(len(blocks), u)] * (mask is not None)
            blocks.append((column, width, starts[u] * size, addresses.of(index), starts[u] * size, 0, addresses.of(mask)))
            column += width
        for j, (width, index) in enumerate(zip(own.joined, own.joined_rows, strict=True)):
            joined.append((len(blocks), t, j))
            blocks.append((column, width, 0, addresses.of(index), 0, 0, 0))
            column += width
    gated = [t for t, own in enumerate(program.transforms) if own.gates]
    alone = np.array([packs and not slots for packs, slots in zip(program.packed, program.slots, strict=True)], bool)
    row = max((p.hidden * p.dimensions for p in program.transforms), default=0)
    return Places(
        shapes, program.sizes[0], states + vectors[-1], states, packs[-1] + packing.ALIGNMENT // size, once, row, records,
        np.array(blocks, np.int64).reshape(-1, len(BLOCK)), holders, tuple(gated), alone,
        tuple(joined), tuple(masked), tuple(addresses.owners),
    )  # fmt: skip


def _keys_and_values(places: list[int], one: Array) -> tuple[int, int]:
    """Give the addresses of keys and of values, which are the keys of the next set where they have no array of their own."""
    return places[0], places[1] if len(places) > 1 else places[0] + one[:1].nbytes


_PARAMETERS = np.array([native.W, native.B, native.P, native.DW, native.DB, native.DP])


@dataclass
class Parameters:
    """Per transform ``w [weights, rows, gates * hidden]``, ``b [weights, gates * hidden]``, ``p [weights, peepholes * hidden]``;
    also their gradients.  An absent bias or peephole is None, and so is everything of a ``pass``."""

    w: list[Array | None]
    b: list[Array | None]
    p: list[Array | None]

    def all(self) -> list[Array]:
        """List those that there are."""
        return [array for array in (*self.w, *self.b, *self.p) if array is not None]

    def empty(self) -> Parameters:
        """Make arrays of the same shapes and dtypes, with nothing written to them."""
        arrays = (self.w, self.b, self.p)
        return Parameters(*([None if a is None else fresh(a.shape, a.dtype) for a in each] for each in arrays))

    def add(self, other: Parameters) -> None:
        """Add another's arrays, those of the same transforms, to these in place."""
        for mine, theirs in zip((*self.w, *self.b, *self.p), (*other.w, *other.b, *other.p), strict=True):
            if mine is not None and theirs is not None:
                np.add(mine, theirs, out=mine)


class Workspace:
    """A program and the arrays that it runs on.

    The caller fills the boundary rows of ``h`` and ``m`` and the joined arrays (``[rows, features]``, per transform) before
    the sweep forward; ``dh`` and ``dm`` (zero but for the gradients of the outputs) before that backward, after which their
    boundary rows hold the gradient of what entered, and ``djoined``, where given, has the joined inputs' gradients added.

    ``dropped`` are the dropout masks of transforms that are read through them, ``[rows, hidden]``, None to read them whole;
    ``kept`` what zoneout keeps of each transform's hidden vectors and memories, ``[rows, hidden]``, or one row for all.

    ``facts`` are the embedded facts of each transform that attends to any, keys and values ``[sets, facts, hidden]``, or one
    array where the values of a set are the keys of the next; ``dfacts``, of their shapes, have the gradients added.

    ``tape`` holds what lasts from forward to backward (states, inputs and activations), ``slopes`` what backward works
    with and ``packed`` the weights as products want them; their sizes are in ``places``.  They are made where they are not
    given.  ``products`` is the kind of its products, the dtype's or, of float32, ``bfloat16``.
    """

    def __init__(
        self, program: Program, dtype: Any, tape: Array | None = None, slopes: Array | None = None, packed: Array | None = None,
        products: str = "",
    ) -> None:  # fmt: skip
        self.program, self.dtype = program, np.dtype(dtype)
        self.products = products or self.dtype.name
        self.places = where = places(program, self.dtype)
        self.tape = np.zeros(where.tape, self.dtype) if tape is None else tape
        self._slopes, self._packed = slopes, packed
        self.joined: list[list[Array]] = [[np.zeros((0, width), self.dtype) for width in p.joined] for p in program.transforms]
        self.djoined: list[list[Array | None]] = [[None] * len(p.joined) for p in program.transforms]
        self.dropped: list[Array | None] = [None] * len(program.transforms)
        self.kept = [[np.zeros((1, p.hidden), self.dtype)] * (1 + p.memory) * p.keeps for p in program.transforms]

        self.facts: list[list[Array]] = [[] for _ in program.transforms]
        self.dfacts: list[list[Array]] = [[] for _ in program.transforms]

    @once
    def slopes(self) -> Array:
        """Gradients of states, zero at first, and after them rows of those of the vectors: ``places.slopes`` numbers."""
        return np.zeros(self.places.slopes, self.dtype) if self._slopes is None else self._slopes

    @once
    def packed(self) -> Array:
        """From a line of the cache on."""
        return aligned(fresh(self.places.packed, self.dtype) if self._packed is None else self._packed)

    def _views(self, buffer: Array, kind: int) -> list[Array]:
        shapes = self.places.shapes
        used = total(*shapes[:kind])
        views: list[Array] = []
        for rows, columns in shapes[kind]:
            views.append(buffer[used : used + rows * columns].reshape(rows, columns))
            used += rows * columns
        return views

    def _kept(self, memories: list[Array]) -> list[Array | None]:
        return [m if p.memory else None for p, m in zip(self.program.transforms, memories, strict=True)]

    @once
    def h(self) -> list[Array]:
        """Hidden vectors, per transform ``[rows and boundary rows, hidden]``: views of the tape."""
        return self._views(self.tape, 0)

    @once
    def m(self) -> list[Array | None]:
        """Memories, shaped as ``h`` is; None for a transform that has none."""
        return self._kept(self._views(self.tape, 1))

    @once
    def z(self) -> list[Array]:
        """What each row read, side by side, per transform ``[rows, columns read]``: views of the tape."""
        return self._views(self.tape, 2)

    @once
    def g(self) -> list[Array]:
        """What each gate keeps of a row, per transform ``[rows, gates * hidden]``: views of the tape."""
        return self._views(self.tape, 3)

    @once
    def dh(self) -> list[Array]:
        """Gradients of ``h``, in its shapes: views of the slopes."""
        return self._views(self.slopes, 0)

    @once
    def dm(self) -> list[Array | None]:
        """Gradients of ``m``, in its shapes; None for a transform that has no memory."""
        return self._kept(self._views(self.slopes, 1))

    def clear_gradients(self) -> None:
        """Zero ``dh`` and ``dm``."""
        self.slopes[: self.places.states] = 0

    def _given(self, parameters: Parameters, gradients: Parameters | None) -> list[Array | None]:
        """List all arrays that are not the program's own, in one order."""
        where, back = self.places, gradients is not None
        found: list[Array | None] = [self.tape, self.packed, self.slopes if back else None]
        for _, t, j in where.joined:
            found += (self.joined[t][j], self.djoined[t][j])
        found += [self.dropped[u] for _, u in where.masked]
        for each in (*self.kept, *self.facts, *self.dfacts):
            found += each
        for t in where.gated:
            found += (parameters.w[t], self._bias(parameters, t), parameters.p[t])
            if gradients is not None:
                found += (gradients.w[t], gradients.b[t], gradients.p[t])
        return found

    def _bias(self, parameters: Parameters, t: int) -> Array:
        given, own, known = parameters.b[t], self.program.transforms[t], self.places.no_bias
        if given is None and t not in known:
            known.setdefault(t, np.zeros((len(own.weight_ends) - 1, own.width), self.dtype))
        return known[t] if given is None else given

    def tables(self, parameters: Parameters, gradients: Parameters | None = None) -> Tables:
        """Give the program's own, with the addresses of these arrays: those of the last call where these lie where its lay."""
        where, given = self.places, self._given(parameters, gradients)
        found = list(map(address, given))
        shapes = [array.shape for each in (*self.facts, *self.kept) for array in each]
        key, back = (*found, *shapes), gradients is not None
        last = where.last.get(back)
        if last is None or last[0] != key:
            at = {id(array): place for array, place in zip(given, found, strict=True)}
            last = where.last[back] = (key, *self._filled(parameters, gradients, lambda array: at[id(array)]))
        return Tables(last[1].copy(), last[2], (*where.owners, *given))

    def _filled(
        self, parameters: Parameters, gradients: Parameters | None, at: Callable[[Array | None], int]
    ) -> tuple[Array, Array]:
        """Make records and blocks."""
        where = self.places
        slopes = 0 if gradients is None else at(self.slopes)
        bases = np.array([0, at(self.tape), slopes, at(self.packed)])
        records = where.records + bases[where.holders]
        blocks = where.blocks.copy()
        blocks[:, SOURCE] += bases[1]
        blocks[:, GRADIENT] += slopes
        for n, t, j in where.joined:
            blocks[n, SOURCE], blocks[n, GRADIENT] = at(self.joined[t][j]), at(self.djoined[t][j])
        for n, u in where.masked:
            blocks[n, MASK] = at(self.dropped[u])
        for t, (own, kept) in enumerate(zip(self.program.transforms, self.kept, strict=True)):
            for word, array in zip((native.KEPT_H, native.KEPT_M), kept, strict=False):
                records[t, word] = at(array)
                records[t, native.KEPT_STEP] = own.hidden * self.dtype.itemsize * (len(array) > 1)
        for t, facts in enumerate(self.facts):
            if facts:
                own = records[t]
                own[native.FACTS] = facts[0].shape[1]
                own[native.KEYS], own[native.VALUES] = _keys_and_values([at(array) for array in facts], facts[0])
                if self.dfacts[t]:
                    own[native.DKEYS], own[native.DVALUES] = _keys_and_values([at(array) for array in self.dfacts[t]], facts[0])
        rows: list[list[int]] = []
        for t in where.gated:
            mine = [at(parameters.w[t]), at(self._bias(parameters, t)), at(parameters.p[t])]
            theirs = [0] * 3 if gradients is None else [at(gradients.w[t]), at(gradients.b[t]), at(gradients.p[t])]
            rows.append(mine + theirs)
        if rows:
            records[np.array(where.gated)[:, None], _PARAMETERS] = rows
        return records, blocks
