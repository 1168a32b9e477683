"""The table of cells: one row a mechanism, and its pointwise rule written once.

A rule maps pre-activations, one per gate, and the state that enters along the transform's own dimensions to the new
hidden (and memory) vector.  It is written over an array protocol, ``x.tanh``, ``x.sigmoid``, ``x.relu`` and the
arithmetic operators, which ``pytensor.tensor``, NumPy and the kernel tracer satisfy: the plain graph and its gradient, the
fused kernel's body and its adjoint are all derived from it.  Adding a cell is adding a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Value = Any  # a scalar or array of whatever namespace interprets the rule


class Namespace(Protocol):
    """What a rule may call."""

    def tanh(self, a: Value, /) -> Value: ...
    def sigmoid(self, a: Value, /) -> Value: ...
    def relu(self, a: Value, /) -> Value: ...


@dataclass(frozen=True)
class Options:
    """What a transform may choose about its cell."""

    activation: str = "tanh"
    peepholes: bool = False


Vectors = Sequence[Value]
State = tuple[Value, Value | None]
Rule = Callable[[Namespace, Vectors, Value, Vectors, Vectors, Options], State]
"""``rule(x, a, h, m, p, options)``: ``a`` one pre-activation a gate, ``h`` the own entering hidden vector, ``m`` the own
entering memories, ``p`` the peephole vectors in the order of ``Cell.peepholes``; returns new hidden and memory."""


@dataclass(frozen=True)
class Cell:
    """One mechanism.

    ``gates(n)`` names its gates, in the order of the weight's last axis, where it travels along ``n`` dimensions;
    ``dimensions`` is the least and the largest ``n``; ``uses_hidden`` says that the rule reads ``h``;
    ``bias`` gives the initial bias of gates that do not start at 0 (forget gates get ``forget_bias`` besides);
    ``source`` is the paper and section, ``equation`` its text for people.
    """

    name: str
    gates: Callable[[int], tuple[str, ...]]
    rule: Rule | None
    equation: str
    source: str
    memory: bool = False
    uses_hidden: bool = False
    dimensions: tuple[int, int] = (1, 1)
    forget_gates: Callable[[int], tuple[str, ...]] = field(default=lambda n: ())
    bias: Mapping[str, float] = field(default_factory=dict[str, float])
    peepholes: Callable[[int], tuple[str, ...]] | None = None
    split_recurrent: tuple[str, str] | None = None
    """``(c, s)``: gate ``s`` takes the own entering vector alone, gate ``c`` everything else (gru)."""
    options: tuple[str, ...] = ()


ACTIVATIONS = ("tanh", "relu", "sigmoid", "identity")
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


def _peepholes(n: int) -> tuple[str, ...]:
    return (*(f"u_{d + 1}" for d in range(n)), *(f"f_{d + 1}" for d in range(n)), "o")


CELLS: Mapping[str, Cell] = {
    cell.name: cell
    for cell in (
        Cell("lstm", _lstm_gates, _lstm, "m' = Σ_d f_d∘m_d + u∘c;  h' = o∘tanh(m')",
             "Hochreiter and Schmidhuber 1997; along several dimensions Graves, Fernández and Schmidhuber 2007, section 2",
             memory=True, dimensions=(1, MANY), forget_gates=_forget, peepholes=_peepholes, options=("peepholes",)),
        Cell("lstm-paper", _lstm_gates, _lstm_paper, "m' = Σ_d f_d∘m_d + u∘c;  h' = tanh(o∘m')",
             "Kalchbrenner, Danihelka and Graves 2016 (arXiv 1507.01526), section 2",
             memory=True, dimensions=(1, MANY), forget_gates=_forget, peepholes=_peepholes, options=("peepholes",)),
        Cell("gru", _gates("r", "v", "c", "s"), _gru, "h' = v∘h + (1-v)∘tanh(a_c + r∘a_s)",
             "Cho et al. 2014, in cuDNN's form", uses_hidden=True, split_recurrent=("c", "s")),
        Cell("dense", _gates("a"), _dense, "h' = activation(zW + b)", "arXiv 1507.01526, section 3.3",
             dimensions=(1, MANY), options=("activation",)),
        Cell("highway", _gates("c", "g"), _highway, "h' = g∘c + (1-g)∘h", "Srivastava, Greff and Schmidhuber 2015, section 2",
             uses_hidden=True, bias={"g": -2.0}),
        Cell("leaky-lstm", _gates("u", "f", "λ", "o", "c"), _leaky_lstm, "m' = f∘(λ∘m_1 + (1-λ)∘m_2) + u∘c;  h' = o∘tanh(m')",
             "Leifert et al. 2016, section 4", memory=True, dimensions=(2, 2), forget_gates=_gates("f")),
        Cell("memory", _gates(), None, "p = softmax(h·A(facts));  h' = hW + b + Σ p·C(facts)",
             "Sukhbaatar et al. 2015, section 2", uses_hidden=True, options=("attends", "embeddings")),
        Cell("pass", _gates(), None, "h' = z", "hands a vector on unchanged"),
    )
}  # fmt: skip
