"""What of a formula is known before it runs: constants by name, and operations on nothing but numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from gridc.tables.formulas import Call, Formula, Misread, Name, Negative, Number, Operation, parts

_SIGNS: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b, "**": lambda a, b: a**b,
}  # fmt: skip
_CALLS: dict[str, Callable[[list[float]], float]] = {
    "tanh": lambda a: math.tanh(a[0]), "sigmoid": lambda a: 1 / (1 + math.exp(-a[0])), "relu": lambda a: max(a[0], 0.0),
    "softplus": lambda a: math.log1p(math.exp(a[0])), "exp": lambda a: math.exp(a[0]), "log": lambda a: math.log(a[0]),
    "sqrt": lambda a: math.sqrt(a[0]), "abs": lambda a: abs(a[0]), "norm": lambda a: 0.0, "max": max, "min": min,
}  # fmt: skip


def folded(formula: Formula, constants: Mapping[str, float]) -> Formula:
    """Put constants in, and work out what has nothing but numbers in it.

    Misread where that comes to no number, or where an exponent is none."""
    match formula:
        case Name() if formula.word in constants:
            return Number(float(constants[formula.word]), at=formula.at, width=formula.width)
        case Negative():
            made: Formula = replace(formula, of=folded(formula.of, constants))
        case Operation():
            made = replace(formula, left=folded(formula.left, constants), right=folded(formula.right, constants))
            if formula.sign == "**" and not isinstance(made.right, Number):
                raise Misread("found an exponent that is no number; expected one, or exp(y * log(x))", formula.at, formula.width)
        case Call():
            made = replace(formula, arguments=tuple(folded(argument, constants) for argument in formula.arguments))
        case _:
            return formula
    numbers = [part.value for part in parts(made) if isinstance(part, Number)]
    if len(numbers) < len(parts(made)):
        return made
    try:
        value = _worked_out(made, numbers)
    except (ArithmeticError, ValueError):
        value = math.nan
    if value is None:
        return made
    if isinstance(value, complex) or not math.isfinite(value):
        raise Misread("this comes to no finite number", formula.at, formula.width)
    return Number(value, at=formula.at, width=formula.width)


def _worked_out(formula: Formula, numbers: list[float]) -> float | complex | None:
    """Give the value of an operation on numbers; None for one on more than numbers, whatever it is given."""
    match formula:
        case Negative():
            return -numbers[0]
        case Operation() if formula.sign in _SIGNS:
            return _SIGNS[formula.sign](*numbers)
        case Call() if formula.function in _CALLS:
            return _CALLS[formula.function](numbers)
        case _:
            return None
