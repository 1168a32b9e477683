"""From a cell's definition to its mechanism: the formulas as one rule, over whatever a rule is interpreted in."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gridc.tables.definitions import NUMBERED, Definition
from gridc.tables.formulas import Call, Formula, Name, Negative, Number, Operation, walk
from gridc.tables.mechanisms import (
    ACTIVATION,
    PEEPHOLES,
    POINTWISE,
    Cell,
    Namespace,
    Options,
    State,
    Units,
    Value,
    Vectors,
    Weight,
    gated,
)  # fmt: skip
from gridc.tables.notation import TEX

EPSILON = 1e-5
"""What ``norm`` adds to the variance."""
MULTIPLIED = 8
"""The largest whole exponent that is written as products."""
SQUASHED = 5
"""Floating-point operations that a function of a number counts."""


def numbered(words: tuple[str, ...], each: tuple[str, ...], n: int) -> tuple[str, ...]:
    """Name gates or vectors along ``n`` dimensions: ``f`` is ``f_1``, ``f_2``, … where there is one for each of several."""
    found: list[str] = []
    for word in words:
        found += [f"{word}_{d + 1}" for d in range(n)] if word in each and n > 1 else [word]
    return tuple(found)


@functools.lru_cache(maxsize=1024)
def cell(definition: Definition, name: str, shipped: bool = False) -> Cell:
    """Give the mechanism of a definition under a name: one object for equal ones."""
    of = definition
    gates = tuple(word for word, _ in of.gates)
    vectors = tuple(word for word, _ in of.vectors)
    starts = dict(of.vectors)

    def weights(u: Units) -> dict[str, Weight]:
        own = {vector: Weight((u.hidden,), drawn=False, start=starts[vector.rpartition("_")[0]] if vector not in starts
                              else starts[vector]) for vector in numbered(vectors, of.each, u.dimensions)}  # fmt: skip
        return {**gated(u), **own}

    def holes(n: int) -> tuple[str, ...]:
        return tuple(f"{gate}_{d + 1}" if many else gate for gate, many in _holes(of)
                     for d in range(n if many else 1))  # fmt: skip

    return Cell(
        name, lambda n: numbered(gates, of.each, n), Rule(of), of.equation(), of.source, memory=of.memory is not None,
        uses_hidden=of.uses_hidden, dimensions=of.dimensions, forget_gates=lambda n: numbered(of.forget, of.each, n),
        bias=lambda n: {gate: value for word, value in of.bias for gate in numbered((word,), of.each, n)},
        peepholes=holes if of.peepholes else None, vectors=lambda n: numbered(vectors, of.each, n), sees=dict(of.sees),
        options=(ACTIVATION,) * of.activated() + (PEEPHOLES,) * bool(of.peepholes), weights=weights,
        flops=lambda u: 2 * u.rows * u.columns + u.hidden * max(POINTWISE * u.gates, operations(of, u.dimensions)),
        init=of.init, definition=of, shipped=shipped, again=(cell, (definition, name, shipped)),
    )  # fmt: skip


def _holes(of: Definition) -> Iterator[tuple[str, bool]]:
    """Give each gate that has peepholes, and whether there is one for each dimension."""
    for gate, formula in of.peepholes:
        yield gate, gate in of.each or of.indexed(formula)


def tex(mechanism: Cell) -> str:
    """Write a cell's equation as TeX."""
    return mechanism.definition.equation(TEX) if mechanism.definition else rf"\text{{{mechanism.equation}}}"


def operations(of: Definition, n: int) -> int:
    """Count the floating-point operations of the formulas, for one unit along ``n`` dimensions."""

    def count(formula: Formula) -> int:
        total = 0
        for node in walk(formula):
            if isinstance(node, Call):
                total += 9 if node.function == "norm" else n - 1 if node.function == "sum" else SQUASHED
            total += isinstance(node, Operation | Negative)
        return total * (n if of.indexed(formula) else 1)

    squashed = sum(SQUASHED * (function != "identity") * (n if gate in of.each else 1) for gate, function in of.gates)
    return squashed + sum(map(count, of.every()))


@dataclass(frozen=True)
class Rule:
    """A definition's formulas as the rule of a cell (``mechanisms.Rule``)."""

    definition: Definition

    def __call__(self, x: Namespace, a: Vectors, h: Value, m: Vectors, p: Vectors, options: Options) -> State:
        """Give the new hidden vector, and the new memory where the cell keeps one."""
        frame = _Frame(self.definition, x, a, h, m, p, options)
        memory = None if self.definition.memory is None else frame.vector("memory", 0)
        return frame.array(frame.evaluate(self.definition.hidden, 0)), memory


class _Frame:
    """One run of a rule: every name is worked out at its first use, and once."""

    def __init__(self, of: Definition, x: Namespace, a: Vectors, h: Value, m: Vectors, p: Vectors, options: Options):
        self.of, self.x, self.options, self.like = of, x, options, a[0]
        count = sum(word in of.each for word, _ in of.gates)
        self.n = len(m) or (len(a) - (len(of.gates) - count)) // max(1, count)
        self.known: dict[tuple[str, int], Value] = {("h", 0): h, **{("m", d): v for d, v in enumerate(m)}}
        self.functions, self.let, self.seen = dict(of.gates), dict(of.let), dict(of.peepholes)
        self.a = self.spread((word for word, _ in of.gates), a)
        self.holes: dict[str, list[Value]] = {}
        rest = list(p)
        for gate, many in _holes(of) if options.peepholes else ():
            taken = self.n if many else 1
            self.holes[gate], rest = rest[:taken], rest[taken:]
        self.known |= self.spread((word for word, _ in of.vectors), rest)

    def spread(self, words: Iterator[str], values: Vectors) -> dict[tuple[str, int], Value]:
        """Give values by their words, in order, one for each dimension where there are so many."""
        feed = iter(values)
        return {(word, d): next(feed) for word in words for d in range(self.n if word in self.of.each else 1)}

    def vector(self, word: str, d: int) -> Value:
        """Give what a word stands for, in dimension ``d`` where that matters."""
        found = NUMBERED.fullmatch(word)
        if found:
            word, d = found[1], int(found[2]) - 1
        many = word == "m" or word in self.of.each or (word in self.let and self.of.indexed(Name(word)))
        key = (word, d if many else 0)
        if key not in self.known:
            self.known[key] = self.made(*key)
        return self.known[key]

    def made(self, word: str, d: int) -> Value:
        if word in self.let:
            return self.evaluate(self.let[word], d)
        if word == "memory":
            assert self.of.memory is not None
            return self.array(self.evaluate(self.of.memory, d))
        value = self.a[word, d]
        if word in self.holes:
            own, formula = self.holes[word], self.seen[word]
            for k, hole in [(d, own[d])] if word in self.of.each else enumerate(own):
                value = value + hole * self.array(self.evaluate(formula, k))
        return self.function(self.functions[word], value)

    def array(self, value: Value) -> Value:
        """Give a value, a plain number as one of the namespace."""
        return self.x.number(value, self.like) if isinstance(value, float) else value

    def evaluate(self, formula: Formula, d: int) -> Value:
        """Work out a formula in dimension ``d``; a plain float is a number that stands in the text."""
        match formula:
            case Number():
                return formula.value
            case Name():
                return self.vector(formula.word, d)
            case Negative():
                return -self.evaluate(formula.of, d)
            case Operation(sign="**", left=left, right=Number(value=exponent)):
                return self.power(self.evaluate(left, d), exponent)
            case Operation(sign="+", left=left, right=Call(function="sum", arguments=(term,))):  # one by one onto what is before
                return self.summed(term, self.evaluate(left, d))
            case Operation():
                return self.operate(formula.sign, self.evaluate(formula.left, d), self.evaluate(formula.right, d))
            case Call(function="sum"):
                return self.summed(formula.arguments[0])
            case Call(function="where"):
                comparison = formula.arguments[0]
                assert isinstance(comparison, Operation)
                a, b = (self.array(self.evaluate(side, d)) for side in (comparison.left, comparison.right))
                x, y = (self.array(self.evaluate(branch, d)) for branch in formula.arguments[1:])
                return self.x.where(comparison.sign, a, b, x, y)
            case Call():
                return self.call(formula.function, [self.array(self.evaluate(given, d)) for given in formula.arguments])
            case _:
                raise TypeError(f"{formula!r} is no formula")

    def operate(self, sign: str, left: Value, right: Value) -> Value:
        if isinstance(left, float):
            left = self.x.number(left, self.like if isinstance(right, float) else right)
        if isinstance(right, float):
            right = self.x.number(right, left)
        return _SIGNS[sign](left, right)

    def summed(self, formula: Formula, value: Value = None) -> Value:
        """Add a formula of every dimension to a value."""
        for d in range(self.n):
            term = self.evaluate(formula, d)
            value = term if value is None else self.operate("+", value, term)
        return value

    def call(self, word: str, given: list[Value]) -> Value:
        if len(given) == 1:
            return self.function(word, given[0])
        sign, found = {"max": ">", "min": "<"}[word], given[0]
        for other in given[1:]:
            found = self.x.where(sign, other, found, other, found)
        return found

    def function(self, word: str, value: Value) -> Value:
        x: Any = self.x
        if word == "activation":
            word = self.options.activation
        if word == "identity":
            return value
        if word == "abs":
            return x.where("<", value, x.number(0.0, value), -value, value)
        if word == "norm":
            apart = value - x.mean(value)
            return apart * (x.number(1.0, value) / x.sqrt(x.mean(apart * apart) + x.number(EPSILON, value)))
        return getattr(x, word)(value)

    def power(self, value: Value, exponent: float) -> Value:
        """Give a power: products for a small whole exponent, a root for a half, else by logarithm."""
        x = self.x
        if isinstance(value, float):
            value = x.number(value, self.like)
        if exponent == int(exponent) and 0 < abs(exponent) <= MULTIPLIED:
            found = value
            for _ in range(int(abs(exponent)) - 1):
                found = found * value
        elif abs(exponent) == 0.5:
            found = x.sqrt(value)
        else:
            return x.exp(x.number(exponent, value) * x.log(value))
        return x.number(1.0, value) / found if exponent < 0 else found


_SIGNS: dict[str, Callable[[Value, Value], Value]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
}  # fmt: skip
