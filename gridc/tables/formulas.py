"""The formulas of cells: text to a tree, by a grammar of its own; nothing of it is ever evaluated as Python.

======================  ===============================================================================================
``+ - * / **``          number by number; ``**`` takes a number as its exponent and binds tighter than a sign before it
``tanh(x)``             one of ``FUNCTIONS``, with as many arguments as it takes
``where(a > b, x, y)``  ``x`` where the comparison (``> < >= <=``) holds, ``y`` elsewhere
``sum(x)``              over the dimensions that the cell travels along
``norm(x)``             over the units of the step: mean 0, variance 1
======================  ===============================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from gridc.errors import listed, nearest

LONGEST = 1000
"""Characters of a formula."""
MOST = 200
"""Words, numbers and signs of a formula."""
DEEPEST = 32
"""Brackets and signs within one another."""
MANY = 1 << 30
FUNCTIONS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("tanh", "sigmoid", "relu", "softplus", "exp", "log", "sqrt", "abs", "norm", "activation", "sum"), (1, 1)),
    **dict.fromkeys(("max", "min"), (2, MANY)),
    "where": (3, 3),
}
"""The fewest and the most arguments of each function."""
COMPARISONS = (">=", "<=", ">", "<")
POWERS = {"+": 10, "-": 10, "*": 20, "/": 20, "**": 40}
"""How tightly each sign binds."""
SIGN = 30
"""How tightly a minus before a formula does."""
_LETTER = "A-Za-z_\u0391-\u03a9\u03b1-\u03c9"
NAME = re.compile(f"[{_LETTER}][{_LETTER}0-9]*")
_TOKEN = re.compile(
    rf"\s*(?:(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)|(?P<name>{NAME.pattern})|(?P<sign>\*\*|>=|<=|[-+*/(),<>]))")


class Misread(Exception):
    """A formula or a definition that means nothing: a ``sentence``, the keys that lead to it (``path``), and where it is: ``at``
    a character of the value, ``width`` characters long; None for the value as a whole, or with ``key`` for its key."""

    def __init__(self, sentence: str, at: int | None = None, width: int = 1, path: tuple[str | int, ...] = (), key: bool = False):
        super().__init__(sentence)
        self.sentence, self.at, self.width, self.path, self.key = sentence, at, width, path, key


@dataclass(frozen=True)
class Formula:
    """A node of the tree; ``at`` is the character at which it begins in its text, ``width`` how many it takes there."""

    at: int = field(default=0, compare=False, repr=False, kw_only=True)
    width: int = field(default=1, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True)
class Number(Formula):
    """A number that stands in the text."""

    value: float


@dataclass(frozen=True)
class Name(Formula):
    """A gate, a vector, a state, a constant, or what ``let`` gives a name."""

    word: str


@dataclass(frozen=True)
class Operation(Formula):
    """``left sign right``, where the sign is one of ``+ - * /``, ``**`` or a comparison."""

    sign: str
    left: Formula
    right: Formula


@dataclass(frozen=True)
class Negative(Formula):
    """A formula with a minus before it."""

    of: Formula


@dataclass(frozen=True)
class Call(Formula):
    """A function of other formulas; the first one of ``where`` is a comparison."""

    function: str
    arguments: tuple[Formula, ...]


class _Token(NamedTuple):
    kind: str
    text: str
    at: int

    def __str__(self) -> str:
        return f"'{self.text}'" if self.text else "the end"


def parse(text: str) -> Formula:
    """Read a formula.  Raises Misread, with the place in the text, where it is none."""
    if len(text) > LONGEST:
        raise Misread(f"found {len(text):,} characters; expected a formula of at most {LONGEST:,}")
    return _Parser(text).whole()


def walk(formula: Formula) -> Iterator[Formula]:
    """Give every node of a tree, the formula itself first."""
    yield formula
    for part in parts(formula):
        yield from walk(part)


def parts(formula: Formula) -> tuple[Formula, ...]:
    """Give the formulas that a node is made of."""
    match formula:
        case Operation():
            return formula.left, formula.right
        case Negative():
            return (formula.of,)
        case Call():
            return formula.arguments
        case _:
            return ()


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            odd = len(text) - len(text[at:].lstrip())
            raise Misread(f"found {text[odd]!r}; expected a name, a number, a bracket or one of + - * / **", odd)
        yield _Token(found.lastgroup, found[found.lastgroup], found.start(found.lastgroup))
        at = found.end()
    yield _Token("end", "", len(text))


class _Parser:
    """Operator precedence by binding powers (Pratt 1973)."""

    def __init__(self, text: str):
        self.tokens = list(_tokens(text))
        if len(self.tokens) > MOST:
            raise Misread(f"found {len(self.tokens) - 1} words and signs; expected a formula of at most {MOST}")
        self.next, self.depth = 0, 0

    def peek(self) -> _Token:
        return self.tokens[self.next]

    def take(self) -> _Token:
        token = self.tokens[self.next]
        self.next += token.kind != "end"
        return token

    def whole(self) -> Formula:
        found = self.formula(0)
        left = self.peek()
        if left.kind != "end":
            hint = "; a product is written with *" if left.kind in ("name", "number") or left.text == "(" else ""
            hint = "; a comparison stands in where(a > b, x, y) alone" if left.text in COMPARISONS else hint
            raise Misread(f"found {left}; expected an operator or the end{hint}", left.at, len(left.text))
        return found

    def formula(self, power: int) -> Formula:
        """Read what binds tighter than ``power``."""
        left = self.operand()
        while (sign := self.peek().text) in POWERS and self.peek().kind == "sign" and POWERS[sign] > power:
            at = self.take()
            # What stands on the right of ** may be another power, or have a sign.
            right = self.formula(SIGN - 1 if sign == "**" else POWERS[sign])
            left = Operation(sign, left, right, at=at.at, width=len(at.text))
        return left

    def operand(self) -> Formula:
        token = self.take()
        at, width = token.at, len(token.text)
        if token.kind == "number":
            value = float(token.text)
            if value == float("inf"):
                raise Misread(f"found {token}, which is larger than any number", at, width)
            return Number(value, at=at, width=width)
        if token.kind == "name":
            return self.call(token) if self.peek().text == "(" else Name(token.text, at=at, width=width)
        if token.text not in ("-", "("):
            raise Misread(f"found {token}; expected a name, a number or a bracket", at, max(1, width))
        self.depth += 1
        if self.depth > DEEPEST:
            raise Misread(f"found more than {DEEPEST} brackets and signs within one another", at)
        if token.text == "-":
            found: Formula = Negative(self.formula(SIGN), at=at)
        else:
            found = self.formula(0)
            self.close(token)
        self.depth -= 1
        return found

    def close(self, opened: _Token) -> None:
        token = self.take()
        if token.text == ")":
            return
        if token.kind == "end":
            raise Misread("this bracket is not closed; expected ')'", opened.at)
        raise Misread(f"found {token}; expected ')'", token.at, len(token.text))

    def call(self, name: _Token) -> Formula:
        word, width = name.text, len(name.text)
        if word not in FUNCTIONS:
            raise Misread(f"there is no function '{word}'; expected {listed(FUNCTIONS)}{nearest(word, FUNCTIONS)}",
                          name.at, width)  # fmt: skip
        opened = self.take()
        self.depth += 1
        if self.depth > DEEPEST:
            raise Misread(f"found more than {DEEPEST} brackets and signs within one another", opened.at)
        given = [self.comparison() if word == "where" else self.formula(0)]
        while self.peek().text == ",":
            self.take()
            given.append(self.formula(0))
        self.close(opened)
        self.depth -= 1
        least, most = FUNCTIONS[word]
        if not least <= len(given) <= most:
            wanted = f"{least}" if least == most else f"{least} or more"
            raise Misread(f"{word} takes {wanted} argument{'s' * (least > 1)}; found {len(given)}", name.at, width)
        return Call(word, tuple(given), at=name.at, width=width)

    def comparison(self) -> Formula:
        left = self.formula(0)
        sign = self.take()
        if sign.text not in COMPARISONS:
            raise Misread(f"found {sign}; expected a comparison, where(a > b, x, y)", sign.at, max(1, len(sign.text)))
        return Operation(sign.text, left, self.formula(0), at=sign.at, width=len(sign.text))
