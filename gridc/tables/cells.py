"""The table of cells: one row a mechanism, which says all that gridc knows of it; adding a cell is adding a row.

Most have a *rule*, written once: it maps pre-activations, one per gate, and the state that enters along the transform's own
dimensions to the new hidden (and memory) vector, unit by unit.  It is written over an array protocol, ``x.tanh``, ``x.sigmoid``,
``x.relu`` and the arithmetic operators, which ``pytensor.tensor``, NumPy and the kernel tracer satisfy: the plain graph and its
gradient, the fused kernel's body and its adjoint are all derived from it.  What is not pointwise is an *update* of whole
arrays; it has no fused kernel, unless it only hands a vector on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from gridc.options import Option

Value = Any  # a scalar or array of whatever namespace interprets the rule


class Namespace(Protocol):
    """What a rule may call."""

    def tanh(self, a: Value, /) -> Value:
        """Take the hyperbolic tangent, number by number."""

    def sigmoid(self, a: Value, /) -> Value:
        """Take the logistic function, number by number."""

    def relu(self, a: Value, /) -> Value:
        """Put 0 for every number below it."""


class Arrays(Namespace, Protocol):
    """What an update may call besides."""

    def exp(self, a: Value, /) -> Value:
        """Take the exponential, number by number."""

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

    def __repr__(self) -> str:
        values = (("activation", self.activation), ("peepholes", self.peepholes), *self.own)
        return f"Options({', '.join(f'{name}={value!r}' for name, value in values)})"


Vectors = Sequence[Value]
State = tuple[Value, Value | None]
Rule = Callable[[Namespace, Vectors, Value, Vectors, Vectors, Options], State]
"""``rule(x, a, h, m, p, options)``: ``a`` one pre-activation a gate, ``h`` the own entering hidden vector, ``m`` the own
entering memories, ``p`` the peephole vectors in the order of ``Cell.peepholes``; returns new hidden and memory."""


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
    """Whether it starts as ``init`` says; else at 0."""
    facts: bool = False
    """Whether facts are multiplied by it, once for all steps: then it is the same everywhere."""


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


def _embedding(u: Units) -> dict[str, Weight]:
    if u.embeddings == "adjacent":
        assert u.hops is not None
        return {"E": Weight((u.hops + 1, u.facts, u.hidden), facts=True)}
    bias = {"b": Weight((u.hidden,), drawn=False)} if u.bias else {}
    fact = Weight((u.facts, u.hidden), facts=True)
    return {"W": Weight((u.hidden, u.hidden)), **bias, "A": fact, "C": fact}


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
    bias: Mapping[str, float] = field(default_factory=dict[str, float])
    """The initial bias of other gates that do not start at 0."""
    peepholes: Callable[[int], tuple[str, ...]] | None = None
    split_recurrent: tuple[str, str] | None = None
    """``(c, s)``: gate ``s`` takes the own entering vector alone, gate ``c`` everything else (gru)."""
    options: tuple[Option, ...] = ()
    """What a transform may choose about it."""
    update: Update | None = None
    """What it does where that is not pointwise."""
    weights: Weights = gated
    reads: Literal["any", "one", "itself"] = "any"
    """What it can read: any vectors and inputs, exactly one vector, or its own entering one."""
    relays: bool = False
    """Whether it hands on the one vector that it reads, unchanged, so that its readers can go straight to that."""
    flops: Callable[[Units], int] = lambda u: (2 * u.rows + POINTWISE) * u.columns
    """Floating-point operations of one step for one example, forward; a multiply-add counts two.  What depends on the number of
    facts is left out."""

    @property
    def carries(self) -> bool:
        """Whether its own state enters each cell along its dimensions: a memory, or a hidden vector that it looks at."""
        return self.memory or self.uses_hidden

    @property
    def fused(self) -> bool:
        """Whether a fused sweep can run it."""
        return self.rule is not None or self.relays

    def __str__(self) -> str:
        return self.name

    def has(self, option: str) -> bool:
        """Tell whether a transform may choose the option of this name."""
        return any(option == one.name for one in self.options)


ACTIVATIONS = ("tanh", "relu", "sigmoid", "identity")
ACTIVATION = Option("activation", "str", "tanh", "Of a dense cell.", choices=ACTIVATIONS)
PEEPHOLES = Option("peepholes", "bool", False, "Gates see the memory too (lstm, lstm-paper).")
ATTENDS = Option("attends", "input", None, "The facts of a memory cell.", optional=True)
EMBEDDINGS = Option("embeddings", "str", "layerwise", "How the hops of a memory network share embeddings.",
                    choices=("layerwise", "adjacent"))  # fmt: skip
SHARED = (ACTIVATION, PEEPHOLES, ATTENDS, EMBEDDINGS)
"""Options that every transform has a place for, at their defaults; any others are those of one row alone."""
MANY = 64


def _forget(n: int) -> tuple[str, ...]:
    return ("f",) if n == 1 else tuple(f"f_{d + 1}" for d in range(n))


def _gates(*names: str) -> Callable[[int], tuple[str, ...]]:
    return lambda n: names


def _lstm_gates(n: int) -> tuple[str, ...]:
    return ("u", *_forget(n), "o", "c")


def _next_memory(x: Namespace, a: Vectors, m: Vectors, p: Vectors) -> Value:
    """``Σ_d f_d∘m_d + u∘c``; with peepholes every gate but ``c`` sees a memory too (Gers and Schmidhuber 2000)."""
    n = len(m)
    u, forget, c = a[0], a[1 : 1 + n], x.tanh(a[2 + n])
    if p:
        for d in range(n):
            u = u + p[d] * m[d]
        forget = [f + p[n + d] * m[d] for d, f in enumerate(forget)]
    memory = x.sigmoid(u) * c
    for f, m_d in zip(forget, m, strict=True):
        memory = memory + x.sigmoid(f) * m_d
    return memory


def _output_gate(x: Namespace, a: Vectors, memory: Value, p: Vectors) -> Value:
    return x.sigmoid(a[-2] + p[-1] * memory if p else a[-2])


def _lstm(x: Namespace, a: Vectors, h: Value, m: Vectors, p: Vectors, options: Options) -> State:
    memory = _next_memory(x, a, m, p)
    return _output_gate(x, a, memory, p) * x.tanh(memory), memory


def _lstm_paper(x: Namespace, a: Vectors, h: Value, m: Vectors, p: Vectors, options: Options) -> State:
    memory = _next_memory(x, a, m, p)
    return x.tanh(_output_gate(x, a, memory, p) * memory), memory


def _leaky_lstm(x: Namespace, a: Vectors, h: Value, m: Vectors, p: Vectors, options: Options) -> State:
    u, f, leak, o, c = a
    share = x.sigmoid(leak)
    memory = x.sigmoid(f) * (share * m[0] + (1.0 - share) * m[1]) + x.sigmoid(u) * x.tanh(c)
    return x.sigmoid(o) * x.tanh(memory), memory


def _gru(x: Namespace, a: Vectors, h: Value, m: Vectors, p: Vectors, options: Options) -> State:
    r, v, c, s = a
    update = x.sigmoid(v)
    return update * h + (1.0 - update) * x.tanh(c + x.sigmoid(r) * s), None


def _highway(x: Namespace, a: Vectors, h: Value, m: Vectors, p: Vectors, options: Options) -> State:
    gate = x.sigmoid(a[1])
    return gate * x.tanh(a[0]) + (1.0 - gate) * h, None


def _dense(x: Namespace, a: Vectors, h: Value, m: Vectors, p: Vectors, options: Options) -> State:
    return a[0] if options.activation == "identity" else getattr(x, options.activation)(a[0]), None


def _attention(x: Arrays, t: Taken) -> State:
    if "E" in t.weights:
        keys, values = t.weights["E"][t.chosen], t.weights["E"][t.chosen + 1]
    else:
        keys, values = t.weights["A"][None], t.weights["C"][None]
    score = x.sum(t.z[:, :, None, :] * keys, axis=-1)
    weight = x.exp(score - x.max(score, axis=-1, keepdims=True))
    weight = weight / x.sum(weight, axis=-1, keepdims=True)
    return (t.z if t.a is None else t.a) + x.sum(weight[..., None] * values, axis=-2), None


def _handed_on(x: Arrays, t: Taken) -> State:
    return t.z, None


def _peepholes(n: int) -> tuple[str, ...]:
    return (*(f"u_{d + 1}" for d in range(n)), *(f"f_{d + 1}" for d in range(n)), "o")


CELLS: dict[str, Cell] = {
    cell.name: cell
    for cell in (
        Cell("lstm", _lstm_gates, _lstm, "m' = Σ_d f_d∘m_d + u∘c;  h' = o∘tanh(m')",
             "Hochreiter and Schmidhuber 1997; along several dimensions Graves, Fernández and Schmidhuber 2007, section 2",
             memory=True, dimensions=(1, MANY), forget_gates=_forget, peepholes=_peepholes, options=(PEEPHOLES,)),
        Cell("lstm-paper", _lstm_gates, _lstm_paper, "m' = Σ_d f_d∘m_d + u∘c;  h' = tanh(o∘m')",
             "Kalchbrenner, Danihelka and Graves 2016 (arXiv 1507.01526), section 2",
             memory=True, dimensions=(1, MANY), forget_gates=_forget, peepholes=_peepholes, options=(PEEPHOLES,)),
        Cell("gru", _gates("r", "v", "c", "s"), _gru, "h' = v∘h + (1-v)∘tanh(a_c + r∘a_s)",
             "Cho et al. 2014, in cuDNN's form", uses_hidden=True, split_recurrent=("c", "s")),
        Cell("dense", _gates("a"), _dense, "h' = activation(zW + b)", "arXiv 1507.01526, section 3.3",
             dimensions=(1, MANY), options=(ACTIVATION,)),
        Cell("highway", _gates("c", "g"), _highway, "h' = g∘c + (1-g)∘h", "Srivastava, Greff and Schmidhuber 2015, section 2",
             uses_hidden=True, bias={"g": -2.0}),
        Cell("leaky-lstm", _gates("u", "f", "λ", "o", "c"), _leaky_lstm, "m' = f∘(λ∘m_1 + (1-λ)∘m_2) + u∘c;  h' = o∘tanh(m')",
             "Leifert et al. 2016, section 4", memory=True, dimensions=(2, 2), forget_gates=_gates("f")),
        Cell("memory", _gates(), None, "p = softmax(h·A(facts));  h' = hW + b + Σ p·C(facts)",
             "Sukhbaatar et al. 2015, section 2", uses_hidden=True, options=(ATTENDS, EMBEDDINGS), update=_attention,
             weights=_embedding, reads="itself", flops=lambda u: 2 * u.hidden**2),
        Cell("pass", _gates(), None, "h' = z", "hands a vector on unchanged", update=_handed_on, weights=lambda u: {},
             reads="one", relays=True),
    )
}  # fmt: skip
OPTIONS = tuple(dict.fromkeys((*SHARED, *(option for cell in CELLS.values() for option in cell.options))))
"""What transforms may choose about their cells."""
