"""Elementwise code on vectors, written for NumPy in place, as one compiled loop that reads and writes each number once.

The code runs once on vectors that write down what is done to them; what they wrote down is compiled.  Numbers that change from
call to call stand for themselves meanwhile.  Whatever is not elementwise arithmetic that rounds exactly is not compiled:
whoever asks runs it in NumPy then, to the same bits.
"""

# pyright: basic, reportCallIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numba
import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from gridc.fusion import kernels
from gridc.fusion.functions import added
from gridc.fusion.native import peek
from gridc.fusion.workspace import address

Array = np.ndarray[Any, Any]
Given = Mapping[str, float]

PART = 1 << 15
"""Numbers of an array whose squares are summed up at a time, whoever does it."""
SIZE, FIRST = 0, 1
"""Words of an array's row, before the addresses: how many numbers it has, and how many those before it."""
EXACT: Mapping[np.ufunc, str] = {
    np.add: "{} + {}", np.subtract: "{} - {}", np.multiply: "{} * {}", np.divide: "{} / {}", np.negative: "-{}",
    np.absolute: "abs({})", np.sqrt: "np.sqrt({})", np.square: "{0} * {0}", np.positive: "{}",
}  # fmt: skip
"""What NumPy and compiled code compute to the same bit."""


class Number:
    """A number that only a call will tell, or what arithmetic makes of some."""

    def __init__(self, value: Callable[[Given], float]):
        self.value = value

    def _with(self, operation: Callable[[Any, Any], Any], other: Any, turned: bool) -> Any:
        if isinstance(other, Vector):
            return NotImplemented
        mine, theirs = self.value, value_of(other)
        one, two = (theirs, mine) if turned else (mine, theirs)
        return Number(lambda given: operation(one(given), two(given)))

    def __neg__(self) -> Number:
        return Number(lambda given: -self.value(given))


def _arithmetic(name: str) -> None:
    operation = getattr(operator, name)
    setattr(Number, f"__{name}__", lambda self, other: self._with(operation, other, False))
    setattr(Number, f"__r{name}__", lambda self, other: self._with(operation, other, True))


for _name in ("add", "sub", "mul", "truediv", "pow"):
    _arithmetic(_name)


def value_of(given: Any) -> Callable[[Given], float]:
    """Give what tells a number at a call; TypeError for what is none of Python's."""
    if isinstance(given, Number):
        return given.value
    if type(given) not in (int, float):  # NumPy's own would decide the type of a result
        raise TypeError(f"{given!r} is no number of Python's")
    return lambda _: given


class Vector(NDArrayOperatorsMixin):
    """Stands for a vector in the code that is written down in a ``Tracing``."""

    def __init__(self, tracing: Tracing, name: str):
        self.tracing, self.name = tracing, name

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype."""
        return self.tracing.dtype

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: tuple[Any, ...] = (), **options: Any) -> Any:
        if method != "__call__" or options or ufunc not in EXACT:
            return NotImplemented
        into = out[0] if out else Vector(self.tracing, "")
        into.name = self.tracing.line(EXACT[ufunc].format(*map(self.tracing.operand, inputs)))
        return into

    def __array_function__(self, function: Any, types: Any, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        if function is not np.copyto or options:
            return NotImplemented
        into, of = arguments
        into.name = self.tracing.operand(of)
        return None


class Tracing:
    """What code does to vectors, as lines of a loop over their numbers, and the numbers that it takes at a call."""

    def __init__(self, dtype: np.dtype[Any]):
        self.dtype, self.lines, self.numbers = dtype, list[str](), list[Callable[[Given], float]]()
        self.inputs: list[Vector] = []

    def vector(self) -> Vector:
        """Give one of the vectors that a call is given."""
        self.inputs.append(Vector(self, f"x{len(self.inputs)}"))
        return self.inputs[-1]

    def scratch(self) -> Vector:
        """Give a vector that nobody may read before it is written."""
        return Vector(self, "")

    def line(self, text: str) -> str:
        """Write down a number, and give the name that it has."""
        self.lines.append(f"t{len(self.lines)} = {text}")
        return f"t{len(self.lines) - 1}"

    def operand(self, given: Any) -> str:
        """Name what is an operand; TypeError for what cannot be one."""
        if isinstance(given, Vector):
            if not given.name:
                raise TypeError("a vector is read that nothing was written to")
            return given.name
        self.numbers.append(value_of(given))
        return f"n{len(self.numbers) - 1}"

    def source(self) -> str:
        """Write the module with the loop: over the numbers ``begin:end`` of all arrays, one after the other."""
        changed = [(k, v.name) for k, v in enumerate(self.inputs) if v.name != f"x{k}"]
        read = [f"x{k} = peek(F, a{k}, i, {k})" for k in range(len(self.inputs))]
        write = [f"poke(F, a{k}, i, {name}, {k})" for k, name in changed]
        loop = [*read, *self.lines, *write]
        return "\n".join([
            '"""An update of vectors, written from the code of one."""', "import numba", "import numpy as np",
            "from gridc.fusion.native import peek, poke", "", f"F = np.{self.dtype}", "", "",
            '@numba.njit(nogil=True, cache=True, error_model="numpy")', "def update(rows, numbers, begin, end):",
            *(f"    n{k} = numbers[{k}]" for k in range(len(self.numbers))),
            "    for r in range(rows.shape[0]):",
            f"        low, high = max(0, begin - rows[r, {FIRST}]), min(rows[r, {SIZE}], end - rows[r, {FIRST}])",
            *(f"        a{k} = rows[r, {k + FIRST + 1}]" for k in range(len(self.inputs))),
            "        for i in range(low, high):",
            *(f"            {line}" for line in loop), ""])  # fmt: skip


class Update:
    """Compiled code that changes vectors in place: those that ``trace`` made of itself, in their order."""

    def __init__(self, tracing: Tracing):
        self._tracing = tracing
        self._run = kernels.module(tracing.source(), f"update_{tracing.dtype}").update

    def numbers(self, given: Given) -> Array:
        """Work out the numbers of a call."""
        return np.array([value(given) for value in self._tracing.numbers], self._tracing.dtype)

    def __call__(self, rows: Array, numbers: Array, begin: int, end: int) -> None:
        """Run over the numbers ``begin:end`` of arrays (``rows``)."""
        self._run(rows, numbers, begin, end)


def trace(dtype: np.dtype[Any], code: Callable[[Tracing], None]) -> Update | None:
    """Compile what ``code`` does to the vectors that it asks a ``Tracing`` for; None where it does what cannot be compiled, or
    nothing can be."""
    tracing = Tracing(dtype)
    if not able():
        return None
    try:
        code(tracing)
    except Exception:  # whatever code says that was given something else than arrays and numbers
        return None
    return Update(tracing)


def able() -> bool:
    """Tell whether anything can be compiled."""
    return not numba.config.DISABLE_JIT


def rows(arrays: Sequence[Sequence[Array]]) -> Array:
    """Give a row for each position of some lists of arrays, which lie in C order and are equally long there: their size, how many
    numbers those before have, and their addresses.  Whoever uses them holds the arrays."""
    made: list[int] = []
    before = 0
    for each in zip(*arrays, strict=True):
        made += (each[0].size, before, *map(address, each))
        before += each[0].size
    return np.array(made, np.int64).reshape(-1, FIRST + 1 + len(arrays))


def moved(of: Array, first: Sequence[Array]) -> Array:
    """Give such rows of other arrays in the place of the first list's, which are as long."""
    made = of.copy()
    made[:, FIRST + 1] = [address(array) for array in first]
    return made


def squares(of: Array, sums: Array, unit: Array, begin: int, end: int) -> None:
    """Sum up the squares of the parts ``begin:end`` of arrays (``rows``), each of ``PART`` numbers or what an array has left, in
    double precision; ``unit`` is an array of their type."""
    _squares()(of, sums, unit, begin, end)


def parts(arrays: Sequence[Array]) -> int:
    """Count the parts of arrays."""
    return sum(-(-array.size // PART) for array in arrays)


@functools.cache
def _squares() -> Any:
    with kernels.cached(kernels.numbers_of(globals())):
        return numba.njit(nogil=True, cache=True, error_model="numpy")(_sum_squares)


def _sum_squares(of: Array, sums: Array, unit: Array, begin: int, end: int) -> None:
    before = 0
    for r in range(of.shape[0]):
        size, at = of[r, SIZE], of[r, FIRST + 1]
        count = (size + PART - 1) // PART
        for part in range(max(begin - before, 0), min(end - before, count)):
            total = 0.0
            for i in range(part * PART, min(size, (part + 1) * PART)):
                x = float(peek(unit, at, i, 0))
                total = added(total, x * x)
            sums[before + part] = total
        before += count
