"""What a cell is to gridc: a mechanism, which says all that there is to know of it.

Most have a *rule*: it maps pre-activations, one per gate, and the state that enters along the transform's own dimensions to the
new hidden (and memory) vector.  It is interpreted over an array protocol, ``Namespace``, which PyTensor, JAX, NumPy and the
kernel tracer satisfy: the plain graph and its gradient, the fused kernel's body and its adjoint are all derived from it.  What no
rule says is an *update* of whole arrays; it has no fused kernel, unless it only hands a vector on or attends to facts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from gridc.options import Option
from gridc.tables.definitions import Definition

Value = Any  # a scalar or array of whatever namespace interprets the rule


class Namespace(Protocol):
    """What a rule may call, besides the operators ``+ - * /`` of its values."""

    def number(self, value: float, like: Value, /) -> Value:
        """Give a number in the type of another value."""

    def tanh(self, a: Value, /) -> Value:
        """Take the hyperbolic tangent, number by number."""

    def sigmoid(self, a: Value, /) -> Value:
        """Take the logistic function, number by number."""

    def relu(self, a: Value, /) -> Value:
        """Put 0 for every number below it."""

    def softplus(self, a: Value, /) -> Value:
        """Take ``log(1 + exp(a))``, number by number."""

    def exp(self, a: Value, /) -> Value:
        """Take the exponential, number by number."""

    def log(self, a: Value, /) -> Value:
        """Take the natural logarithm, number by number."""

    def sqrt(self, a: Value, /) -> Value:
        """Take the square root, number by number."""

    def mean(self, a: Value, /) -> Value:
        """Take the mean over the units of each step, which stay as an axis of length 1."""

    def where(self, sign: str, a: Value, b: Value, x: Value, y: Value, /) -> Value:
        """Give ``x`` where the comparison ``a sign b`` (``>``, ``<``, ``>=`` or ``<=``) holds and ``y`` elsewhere."""


class Arrays(Namespace, Protocol):
    """What an update may call besides."""

    def sum(self, a: Value, /, axis: int, keepdims: bool = False) -> Value:
        """Add up along an axis, which stays with length 1 where it is to be kept."""

    def max(self, a: Value, /, axis: int, keepdims: bool = False) -> Value:
        """Take the largest along an axis, which stays with length 1 where it is to be kept."""


@dataclass(frozen=True, repr=False)
class Options:
    """What a transform chose about its cell; an option that one row alone declares is an attribute, too."""

    activation: str = "tanh"
    peepholes: bool = False
    own: tuple[tuple[str, Any], ...] = ()
    """Further options, by name."""

    def __getattr__(self, name: str) -> Any:
        own: tuple[tuple[str, Any], ...] = self.__dict__.get("own", ())
        for word, value in own:
            if word == name:
                return value
        raise AttributeError(f"there is no option '{name}'")

    def replaced(self, **values: Any) -> Options:
        """Give the same with other values of further options."""
        return Options(self.activation, self.peepholes, tuple((word, values.get(word, value)) for word, value in self.own))

    def __repr__(self) -> str:
        told = (each for each in self.own if each not in UNSAID)
        values = (("activation", self.activation), ("peepholes", self.peepholes), *told)
        return f"Options({', '.join(f'{name}={value!r}' for name, value in values)})"


Vectors = Sequence[Value]
State = tuple[Value, Value | None]
Rule = Callable[[Namespace, Vectors, Value, Vectors, Vectors, Options], State]
"""``rule(x, a, h, m, p, options)``: ``a`` one pre-activation a gate, ``h`` the own entering hidden vector, ``m`` the own
entering memories, ``p`` the peepholes and then the vectors, in the order of ``Cell.peepholes`` and ``Cell.vectors``; returns new
hidden and memory."""


class Taken(NamedTuple):
    """What an update takes: arrays of one wavefront's steps, ``[steps, examples, numbers]`` where each step has weights or facts
    of its own, else ``[steps × examples, numbers]``."""

    z: Value
    """All that is read, one after the other."""
    a: Value | None
    """``zW + b``; None without ``W``."""
    h: Value | None
    """The own entering hidden vector, where the cell looks at it."""
    m: Vectors
    """The own entering memories, one a dimension."""
    weights: Mapping[str, Value]
    """Its weights besides ``W``, ``b`` and ``p``; where steps have their own, a vector is ``[steps, 1, n]`` and a matrix
    ``[steps, rows, columns]``.  For one that multiplies facts these, embedded: ``[…, facts, hidden]``."""
    chosen: Value
    """Which of its weights each step uses, ``[steps]``; where it attends to facts, which hop it is."""
    options: Options


Update = Callable[[Arrays, Taken], State]


class Weight(NamedTuple):
    """One array of weights: its ``shape`` for one of the places that have weights of their own."""

    shape: tuple[int, ...]
    drawn: bool = True
    """Whether it starts as ``init`` says; else at ``start``."""
    facts: bool = False
    """Whether facts are multiplied by it, once for all steps: then it is the same everywhere."""
    start: float = 0.0


class Units(NamedTuple):
    """What the weights of a transform follow from."""

    rows: int
    """Numbers that it sees."""
    hidden: int
    gates: int
    """How many gates it has."""
    peepholes: int
    """How many peephole vectors it has."""
    bias: bool
    hops: int | None
    """Cells along its first dimension; None where only a call tells."""
    facts: int
    """Numbers of a fact that it attends to; 0 for none."""
    embeddings: str
    options: Options
    dimensions: int = 1
    """Along how many it travels."""

    @property
    def columns(self) -> int:
        """Numbers of its pre-activations."""
        return self.gates * self.hidden


Weights = Callable[[Units], dict[str, Weight]]
POINTWISE = 10
"""Floating-point operations that a pre-activation costs besides its product: a squashing function is about eight."""


def gated(u: Units) -> dict[str, Weight]:
    """Give the weights of a cell with gates: ``W``, ``b`` and ``p``, ``hidden`` columns a gate or peephole vector."""
    weights = {"W": Weight((u.rows, u.columns))}
    if u.bias:
        weights["b"] = Weight((u.columns,), drawn=False)
    if u.peepholes:
        weights["p"] = Weight((u.peepholes * u.hidden,), drawn=False)
    return weights


@dataclass(frozen=True, eq=False)
class Cell:
    """One mechanism."""

    name: str
    gates: Callable[[int], tuple[str, ...]]
    """Names its gates, in the order of the weight's last axis, where it travels along ``n`` dimensions."""
    rule: Rule | None
    """Its pointwise rule; None for a cell with an ``update``."""
    equation: str
    """The rule for people."""
    source: str
    """The paper and section."""
    memory: bool = False
    """Whether it keeps a memory."""
    uses_hidden: bool = False
    """Whether it looks at the own entering hidden vector."""
    dimensions: tuple[int, int] = (1, 1)
    """Along how many dimensions it can travel, the least and the largest."""
    forget_gates: Callable[[int], tuple[str, ...]] = field(default=lambda n: ())
    """The gates whose bias starts at ``forget_bias``."""
    bias: Callable[[int], Mapping[str, float]] = field(default=lambda n: {})
    """The initial bias of other gates that do not start at 0."""
    peepholes: Callable[[int], tuple[str, ...]] | None = None
    vectors: Callable[[int], tuple[str, ...]] = field(default=lambda n: ())
    """Names the vectors of one number a unit that its rule looks at, each one of its weights."""
    sees: Mapping[str, Literal["own", "others"]] = field(default_factory=dict[str, Any])
    """The gates that take the own entering vector alone, or everything else; others take all that is read."""
    options: tuple[Option, ...] = ()
    """What a transform may choose about it."""
    update: Update | None = None
    """What it does where that is not pointwise."""
    weights: Weights = gated
    reads: Literal["any", "one", "itself"] = "any"
    """What it can read: any vectors and inputs, exactly one vector, or its own entering one."""
    attention: bool = False
    """Whether its update is attention to facts as ``memory``'s is, for which a fused sweep has a kernel."""
    relays: bool = False
    """Whether it hands on the one vector that it reads, unchanged, so that its readers can go straight to that."""
    flops: Callable[[Units], int] = lambda u: (2 * u.rows + POINTWISE) * u.columns
    """Floating-point operations of one step for one example, forward; a multiply-add counts two.  What depends on the number of
    facts is left out."""
    init: tuple[str, float] | None = None
    """How its weights start where a transform does not say so."""
    definition: Definition | None = None
    """The page that defines it; None for one that no formula says."""
    shipped: bool = False
    """Whether it comes with gridc."""
    again: tuple[Callable[..., Any], tuple[Any, ...]] | None = None
    """A function that gives it, and its arguments: what is pickled, since a rule may be no function of a module."""

    @property
    def carries(self) -> bool:
        """Whether its own state enters each cell along its dimensions: a memory, or a hidden vector that it looks at."""
        return self.memory or self.uses_hidden

    @property
    def fused(self) -> bool:
        """Whether a fused sweep can run it."""
        return self.rule is not None or self.relays or self.attention

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> Any:
        return self.again or super().__reduce__()

    def has(self, option: str) -> bool:
        """Tell whether a transform may choose the option of this name."""
        return any(option == one.name for one in self.options)


ACTIVATIONS = ("tanh", "relu", "sigmoid", "identity")
ACTIVATION = Option("activation", "str", "tanh", "Of a dense cell.", choices=ACTIVATIONS)
PEEPHOLES = Option("peepholes", "bool", False, "Gates see the memory too (lstm, lstm-paper).")
ATTENDS = Option("attends", "input", None, "The facts of a memory cell.", optional=True)
EMBEDDINGS = Option("embeddings", "str", "layerwise", "How the hops of a memory network share embeddings.",
                    choices=("layerwise", "adjacent"))  # fmt: skip
ATTENTION = Option("attention", "str", "softmax", "How much each fact counts: softmax of its product with the query, or linear, "
                   "the product itself.", choices=("softmax", "linear"))  # fmt: skip
UNSAID = ((ATTENTION.name, ATTENTION.default),)
"""Options that shipped cells have got since, with what they did before: a grid's text and digest stay what they were."""
SHARED = (ACTIVATION, PEEPHOLES, ATTENDS, EMBEDDINGS)
"""Options that every transform has a place for, at their defaults; any others are those of one row alone."""
MANY = 64
