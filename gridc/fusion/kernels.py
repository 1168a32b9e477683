"""Numba kernels of the cells: source written from each rule, one module a cell and type in the cache folder, compiled once.

A kernel runs over the rows ``first..last`` of one transform.  It is a C function of four integers (the address of the
transform's record, first row, last row, weight), so that the sweep (``gridc.fusion.sweep``) calls any cell by address and is
itself compiled once.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numba  # pyright: ignore[reportMissingTypeStubs]
import numpy as np

from gridc.errors import ResourceError
from gridc.files import write_atomically
from gridc.fusion import attention, bfloat16, functions, gemm, native, packing, registers, tracer
from gridc.fusion.kept import cannot_keep, kept
from gridc.fusion.native import DH, DM, DP_ROWS, HIDDEN, KEPT, KEPT_H, KEPT_M, KEPT_STEP, ROWS, SCRATCH, B, G, H, M, P
from gridc.locks import Lock
from gridc.resources import cache_folder
from gridc.tables.mechanisms import Cell, Options

_lock = Lock()


@contextmanager
def cached(numbers: str = "") -> Generator[None]:
    """Have functions that are decorated inside keep their machine code in the cache folder, apart from what was built with other
    ``numbers`` (``numbers_of``) than theirs."""
    with _lock:
        config: Any = numba.config
        before = config.CACHE_DIR
        config.CACHE_DIR = str(Path(before or cache_folder("kernels")) / _digest(numbers)[:16])
        try:
            with kept():
                yield
        finally:
            config.CACHE_DIR = before


@functools.cache
def _digest(text: str) -> str:
    """Name what is built from this text and the functions of ``gridc.fusion.native``, ``functions``, ``bfloat16``, ``registers``,
    ``packing``, ``gemm`` and ``attention``."""
    modules = (native, functions, bfloat16, registers, packing, gemm, attention)
    sources = [Path(each.__file__ or "").read_text(encoding="utf-8") for each in modules]
    return hashlib.sha256("".join([*sources, *(numbers_of(vars(each)) for each in modules), text]).encode()).hexdigest()


def numbers_of(names: Mapping[str, Any]) -> str:
    """Write out the constants among a module's names: compiled code has them in it, and Numba, which looks at the module's own
    file only, would take up what was built with those of another version."""
    constant: Any = (int, float, str, tuple)
    return repr(sorted((name, value) for name, value in names.items() if name.isupper() and isinstance(value, constant)))


@functools.cache
def load(cell: Cell, options: Options, dimensions: int, dtype: str, zoneout: bool = False) -> tuple[Any, Any]:
    """Give the forward and the adjoint kernel of a cell, with zoneout or without, from the disk cache where they are in it.

    They are kept for the life of the process, as their addresses are."""
    if cell.attention:
        with cached():
            return attention.built(dtype, options.attention == "linear")
    text = source(cell, options, dimensions, dtype, zoneout)
    made = module(text, f"cell_{dtype}")
    return made.forward, made.adjoint


def module(text: str, kind: str) -> ModuleType:
    """Give the module of this text, a ``kind`` of kernels, run once in a process; the cache folder keeps its machine code."""
    with _lock, kept():
        return _run(text, f"gridc_{kind}_{_digest(text)[:16]}")


def _run(text: str, name: str) -> ModuleType:
    if name not in sys.modules:
        path = cache_folder("kernels") / f"{name}.py"
        try:
            if not (path.exists() and path.read_bytes() == text.encode()):
                write_atomically(path, text)
        except (OSError, ResourceError) as error:
            cannot_keep(str(path.parent), error)
        made = ModuleType(name)
        made.__file__ = str(path)
        sys.modules[name] = made  # first: Numba looks there for the module of what it takes from its cache
        exec(compile(text, path, "exec"), made.__dict__)
    return sys.modules[name]


def source(cell: Cell, options: Options, dimensions: int, dtype: str, zoneout: bool = False) -> str:
    """Write the text of the module with the two kernels of a cell: ``forward`` and ``adjoint``.

    Nothing in it is the cell's name: cells that compute the same have the same kernels."""
    traced = tracer.trace(cell, options, dimensions, zoneout)
    title = '"""The kernels of a cell, written from its rule."""'
    head = [title, "import numba", "import numpy as np", "from gridc.fusion.native import OPTIONS, SIGNATURE, peek, poke, word"]
    head += [f"from gridc.fusion.native import tanh_{dtype} as tanh", "", f"F = np.{dtype}"]
    head += ["", "", "@numba.njit(**OPTIONS)", "def sigmoid(x):", "    return F(0.5) * tanh(F(0.5) * x) + F(0.5)"]
    head += ["", "", "@numba.njit(**OPTIONS)", "def relu(x):", "    return F(0.0) if x < F(0.0) else x", ""]
    body = [*_forward(traced, dtype), "", "", *_adjoint(traced, dtype), ""]
    needed = [line for word, line in NEEDED.items() if any(f"{word}(" in text for text in body)]
    return "\n".join([*head, *(line.format(dtype=dtype) for line in needed), "", *body])


NEEDED = {
    "exp": "from gridc.fusion.functions import exp_{dtype} as exp",
    "log": "from gridc.fusion.functions import log_{dtype} as log",
    "softplus": "from gridc.fusion.functions import softplus_{dtype} as softplus",
    "sqrt": "from numpy import sqrt",
    "added": "from gridc.fusion.functions import added",
}
"""What a kernel takes from elsewhere where its rule asks for it."""


class _Body:
    """The lines of one kernel: pointers before the rows, pointers of a row, the columns."""

    def __init__(self, name: str, traced: tracer.Trace, dtype: str) -> None:
        self.size, self.streams, self.traced = np.dtype(dtype).itemsize, 0, traced
        self.before = [f"n = word(t, {HIDDEN})", f"s = n * {self.size}"]
        self.row: list[str] = []
        self.sums: list[str] = []
        self.column: list[str] = []
        self.after: list[str] = []
        self.head = ["@numba.cfunc(SIGNATURE, cache=True, **OPTIONS)", f"def {name}(t, first, last, weight):"]

    def once(self, name: str, text: str) -> None:
        self.before.append(f"{name} = {text}")

    def stream(self, name: str, text: str, once: bool = False) -> tuple[str, str]:
        """Make a pointer to numbers that no other stream touches, and the texts that read and write (``%s``) a column of it."""
        (self.before if once else self.row).append(f"{name} = {text}")
        stream, self.streams = self.streams, self.streams + 1
        return f"peek(F, {name}, j, {stream})", f"poke(F, {name}, j, %s, {stream})"

    def per_weight(self, prefix: str, field: int, count: int) -> list[tuple[str, str]]:
        if count:
            self.once(prefix, f"word(t, {field}) + weight * {count} * s")
        return [self.stream(f"{prefix}{k}", f"{prefix} + {k} * s", once=True) for k in range(count)]

    def per_row(self, prefix: str, field: int, count: int = 1) -> list[tuple[str, str]]:
        self.once(prefix, f"word(t, {field})")
        return [self.stream(f"{prefix}{k}", f"{prefix} + (r * {count} + {k}) * s") for k in range(count)]

    def text(self) -> list[str]:
        row = [*self.row, *self.sums, "for j in range(n):", *(f"    {line}" for line in self.column), *self.after]
        lines = [*self.before, "for r in range(first, last):", *(f"    {line}" for line in row)]
        return [*self.head, *(f"    {line}" for line in lines)]


def _means(body: _Body, known: dict[Any, str], outputs: list[Any], early: list[tuple[Any, tuple[str, str], Any]]) -> None:
    """Write the loops that take the means over the units which the outputs need, each after those that it needs itself.

    Every loop works out anew what it needs, but for what is written ``early``: (a node, the texts of its stream, the leaf that
    lay there before) as soon as the node can be."""
    level: dict[Any, int] = {}
    nodes = tracer.reachable(outputs, lambda node: node in known)
    for node in nodes:
        inputs = () if node in known else node.inputs
        level[node] = max((level[a] for a in inputs), default=0) + (node.operation == "mean" and node not in known)
    means = [node for node in nodes if node.operation == "mean" and node not in known]
    for stage in sorted({level[node] for node in means}):
        writer, mine = tracer.Writer(known), [node for node in means if level[node] == stage]
        sums = [f"s{node.index}" for node in mine]
        parts = writer.write(*(node.inputs[0] for node in mine))
        able = [each for each in early if level.get(each[0], 0) < stage]
        stored = [target[1] % name for (_, target, _), name in zip(able, writer.write(*(each[0] for each in able)), strict=True)]
        column = [*writer.lines, *(f"{name} = added({name}, {part})" for name, part in zip(sums, parts, strict=True)), *stored]
        body.sums += [*(f"{name} = F(0.0)" for name in sums), "for j in range(n):", *(f"    {line}" for line in column)]
        body.sums += [f"{name} = {name} / F(n)" for name in sums]
        known |= dict(zip(mine, sums, strict=True))
        for node, target, leaf in able:
            if leaf is not None:
                known.pop(leaf)
            known[node] = target[0]
        early[:] = [each for each in early if each not in able]


def _entering(body: _Body, known: dict[Any, str], leaves: dict[str, Any]) -> None:
    """Give the rows of the own state where what enters along each dimension is found, and those of what zoneout keeps of it."""
    hidden, memories = int("h" in leaves or "h" in body.traced.gradients), body.traced.memories
    if hidden or memories:
        body.once("rows", f"word(t, {ROWS})")
    for d in range(max(hidden, memories)):
        body.once(f"rows{d}", f"word(rows, {d})")
        body.row.append(f"e{d} = word(rows{d}, r) * s")
    for kind, field, names in (("m", M, [f"m_{d}" for d in range(memories)]), ("h", H, ["h"] * hidden)):
        if names:
            body.once(f"{kind}_in", f"word(t, {field})")
        for d, name in enumerate(names):
            text = body.stream(f"enter_{name}", f"{kind}_in + e{d}")[0]
            if name in leaves:
                known[leaves[name]] = text
    kept = [(name, field) for name, field in (("k_h", KEPT_H), ("k_m", KEPT_M)) if name in leaves]
    if kept:
        body.once("kept", f"word(t, {KEPT})")
        body.row.append(f"k = word(kept, r) * word(t, {KEPT_STEP})")
    for name, field in kept:
        body.once(f"in_{name}", f"word(t, {field})")
        known[leaves[name]] = body.stream(name, f"in_{name} + k")[0]


def _leaves(*outputs: Any) -> dict[str, Any]:
    return {str(node.arguments[0]): node for node in tracer.reachable(outputs) if node.operation == "leaf"}


def _forward(traced: tracer.Trace, dtype: str) -> list[str]:
    body, known = _Body("forward", traced, dtype), dict[Any, str]()
    outputs = [node for node in (traced.hidden, traced.memory) if node is not None]
    leaves = _leaves(*outputs, *traced.slots)
    _entering(body, known, leaves)
    slots, bias = body.per_row("g", G, traced.gates), body.per_weight("b", B, traced.gates)
    known |= {leaves[f"a_{k}"]: f"{slots[k][0]} + {bias[k][0]}" for k in range(traced.gates)}
    peepholes = body.per_weight("p", P, traced.peepholes)
    known |= {leaves[f"p_{k}"]: text[0] for k, text in enumerate(peepholes) if f"p_{k}" in leaves}
    targets = [*slots, *body.per_row("h", H), *(body.per_row("m", M) if traced.memory is not None else [])]
    before = [leaves[f"a_{k}"] for k in range(traced.gates)] + [None] * len(outputs)
    waiting = list(zip([*traced.slots, *outputs], targets, before, strict=True))
    _means(body, known, [*traced.slots, *outputs], waiting)
    writer = tracer.Writer(known)
    names = writer.write(*(node for node, *_ in waiting))
    body.column = [*writer.lines, *(target[1] % name for (_, target, _), name in zip(waiting, names, strict=True))]
    return body.text()


def _adjoint(traced: tracer.Trace, dtype: str) -> list[str]:
    """Write gradients of the slots over the slots, of what entered added to ``dh`` and ``dm``, and a row of the vectors'."""
    body, known, zero = _Body("adjoint", traced, dtype), dict[Any, str](), "F(0.0)"
    gradients, n = traced.gradients, traced.memories
    leaves = _leaves(*gradients.values())
    _entering(body, known, leaves)
    if traced.memory is not None:
        known[traced.memory] = body.per_row("m", M)[0][0]
    known[traced.hidden] = body.per_row("h", H)[0][0]
    slots = body.per_row("g", G, traced.gates)
    known |= {node: text[0] for node, text in zip(traced.slots, slots, strict=True)}
    known |= {leaves[name]: body.per_row(name, field)[0][0] for name, field in (("dh", DH), ("dm", DM)) if name in leaves}
    peepholes = body.per_weight("p", P, traced.peepholes)
    known |= {leaves[f"p_{k}"]: text[0] for k, text in enumerate(peepholes) if f"p_{k}" in leaves}
    _means(body, known, list(gradients.values()), [])
    writer = tracer.Writer(known)

    def value(name: str) -> str:
        return writer.write(gradients[name])[0] if name in gradients else zero

    stores = [slot[1] % value(f"a_{k}") for k, slot in enumerate(slots)]
    if traced.peepholes:
        stores += [to[1] % value(f"p_{k}") for k, to in enumerate(body.per_row("dp", DP_ROWS, traced.peepholes))]
    sums: list[tuple[tuple[str, str], str]] = []
    if "h" in gradients:
        body.once("dh_in", f"word(t, {DH})")
        sums.append((body.stream("enter_dh", "dh_in + e0"), value("h")))
    if n:
        body.once("dm_in", f"word(t, {DM})")
    if n == 1:
        sums.append((body.stream("enter_dm", "dm_in + e0"), value("m_0")))
    elif n:  # two dimensions may enter from one row: their gradients are added one after the other
        body.once("scratch", f"word(t, {SCRATCH})")
        for d in range(n):
            stores.append(body.stream(f"x{d}", f"scratch + {d} * s", once=True)[1] % value(f"m_{d}"))
            add = f"peek(F, dm_in + e{d}, j, -1) + peek(F, x{d}, j, -1)"
            body.after += ["for j in range(n):", f"    poke(F, dm_in + e{d}, j, {add}, -1)"]
    stores += [target[1] % f"{target[0]} + {name}" for target, name in sums]
    body.column = [*writer.lines, *stores]
    return body.text()
