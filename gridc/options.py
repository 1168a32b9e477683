"""Options of the rows of a table (optimisers, schedules, tasks): declared once, checked in Python calls and in specs.

A row lists its ``Option``s; ``checked`` validates the keyword arguments of a Python call against them, and ``model``
makes the pydantic model that reads them from a spec's ``training:`` block and writes them into the JSON Schema.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, Optional, cast

from gridc import synonyms
from gridc.errors import UsageError, listed, nearest

if TYPE_CHECKING:
    from pydantic import BaseModel

Kind = Literal["int", "float", "bool", "str", "ints", "steps", "input"]
"""What an option holds; ``steps`` is a mapping of step number to a factor, ``input`` the name of an input."""

LARGEST = 2**31 - 1
"""The largest number that counts units, cells, classes or steps between cells; what is larger is no grid, and NumPy's integers
are to hold sums and products of them."""
MOST_WORKERS = 100_000
"""Workers that a schedule is simulated with: no machine has more cores, and each takes a line of a picture."""
MOST_THREADS = 4096
"""Threads that may share a call."""
LARGEST_WEIGHT = 1e30
"""The largest number that weights and biases start from: what is drawn around it still fits float32."""
_NAMES: Mapping[Kind, str] = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a word",
    "ints": "a list of whole numbers",
    "steps": "a mapping of step to factor",
    "input": "the name of an input",
}


@dataclass(frozen=True)
class Option:
    """One option of a row: its ``default``, what it means, and the values that it takes, bounds included.

    ``optional`` says that it may be left out although it has no value of its own: the default is then None.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    optional: bool = False

    def expected(self) -> str:
        """Say what it takes: ``a number from 0 to 1``."""
        if self.choices:
            return listed(f"'{choice}'" for choice in self.choices)
        bounds = ""
        if self.low is not None and self.high is not None:
            bounds = f" from {self.low:g} to {self.high:g}"
        elif self.low is not None:
            bounds = f" of at least {self.low:g}"
        elif self.high is not None:
            bounds = f" of at most {self.high:g}"
        return _NAMES[self.kind] + bounds

    def accepts(self, value: object) -> bool:
        """Whether the value may stand for this option."""
        if value is None:
            return self.optional
        match self.kind:
            case "bool":
                return isinstance(value, bool)
            case "str" | "input":
                return isinstance(value, str) and (not self.choices or value in self.choices)
            case "ints":
                return isinstance(value, list | tuple) and all(
                    _whole(v) and self._within(v) for v in cast(Sequence[object], value))  # fmt: skip
            case "steps":
                return isinstance(value, Mapping) and all(
                    _whole(step) and _number(factor)
                    for step, factor in cast(Mapping[object, object], value).items())  # fmt: skip
            case "int":
                return _whole(value) and self._within(value)
            case "float":
                return _number(value) and self._within(value)

    def _within(self, value: Any) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floating-point ones
        return False


def plain(value: Any) -> Any:
    """Give Python's own numbers and lists for those of NumPy and its like, inside mappings and lists, too; all else as it is."""
    if isinstance(value, Mapping):
        return {plain(name): plain(one) for name, one in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]  # pyright: ignore[reportUnknownVariableType]
    if type(value) in (bool, int, float, str):
        return value
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return value.tolist()
    return int(value) if isinstance(value, Integral) else float(value) if isinstance(value, Real) else value


def integer(what: str, value: Any, *, low: int = 1, high: int | None = None) -> int:
    """Give a whole number of any type as Python's; UsageError, which calls it ``what``, where it is none or out of bounds."""
    found = plain(value)
    if not _whole(found) or found < low or (high is not None and found > high):
        expected = "a positive integer" if low == 1 else f"an integer from {low}"
        up_to = f", up to {high:,}" if high is not None and _whole(found) and found > high else ""
        raise UsageError(f"{what}: found {value!r}; expected {expected}{up_to}")
    return found


def checked(what: str, options: tuple[Option, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the options' defaults; UsageError for an unknown name or a value that does not fit.

    ``what`` names the row in the message: ``optimizer 'adam'``.
    """
    known = {option.name: option for option in options}
    given = plain(given)
    for name, value in given.items():
        if name not in known:
            meant = synonyms.OPTIONS.get(name)
            near = f" — did you mean '{meant}'?" if meant in known else nearest(name, known)
            offer = near or f"; it takes {listed(known, 'and')}" if known else "; it takes none"
            raise UsageError(f"{what} has no option '{name}'{offer}")
        if not known[name].accepts(value):
            raise UsageError(f"{what}: '{name}' is {value!r}, expected {known[name].expected()}.")
    return {name: given.get(name, option.default) for name, option in known.items()}


@cache
def model(title: str, options: tuple[Option, ...], doc: str) -> type[BaseModel]:
    """Make the strict, frozen pydantic model of a row's options, for a spec and for its JSON Schema."""
    from pydantic import create_model

    fields: dict[str, Any] = {option.name: field(option) for option in options}
    return create_model(title, __config__=STRICT, __doc__=doc, **fields)


def field(option: Option, title: str | None = None, types: Mapping[Kind, Any] | None = None) -> tuple[Any, Any]:
    """Give the type and the pydantic field of an option; ``types`` are those of kinds that are not as below."""
    from pydantic import Field

    known: dict[Kind, Any] = {
        "int": int, "float": float, "bool": bool, "str": str, "ints": list[int], "steps": dict[int, float], "input": str,
        **(types or {})}  # fmt: skip
    kind = Literal[option.choices] if option.choices else known[option.kind]  # type: ignore[valid-type]  # the choices of a table
    bounds: dict[str, Any] = {"ge": option.low, "le": option.high} if option.kind in ("int", "float") else {}
    return (
        Optional[kind] if option.optional else kind,  # noqa: UP045  # a type made at run time
        Field(option.default, title=title or option.expected(), description=option.help, **bounds),
    )


STRICT: Any = {"strict": True, "extra": "forbid", "frozen": True, "populate_by_name": True, "allow_inf_nan": False}
"""The configuration of every model of a spec's ``training:`` block."""
