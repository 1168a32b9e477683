"""Reads a cell's rule with symbols in place of numbers, differentiates it, and writes both as straight-line code.

The rule of a cell (``gridc.tables.cells``) is run once on symbols; equal expressions are one node.  Reverse-mode differentiation
on these nodes gives the adjoint.  Between the two passes each gate keeps one number in its *slot*: the output of the
nonlinearity where its pre-activation goes nowhere else, otherwise the pre-activation; all else is recomputed.

Every node stands for one number a unit, but for the mean over the units of a step, which is the same number for all of them.
As a matrix that takes the mean is symmetric, its adjoint is the mean of the gradients.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gridc.tables.mechanisms import Cell, Options

UNARY = ("tanh", "sigmoid", "relu", "softplus", "exp", "log", "sqrt")
FROM_OUTPUT = ("tanh", "sigmoid", "relu", "exp", "sqrt")
"""Those whose slope follows from their value."""


class Expression:
    """One node: an operation on others, a constant or a leaf (``a_k``, ``h``, ``m_d``, ``p_k``, ``k_h``, ``k_m``, ``dh``,
    ``dm``)."""

    __slots__ = ("arguments", "graph", "index", "operation")

    def __init__(self, graph: Graph, operation: str, arguments: tuple[object, ...], index: int) -> None:
        self.graph, self.operation, self.arguments, self.index = graph, operation, arguments, index

    @property
    def inputs(self) -> tuple[Expression, ...]:
        """The arguments that are expressions: those of a node without its constants, names and numbers."""
        return tuple(a for a in self.arguments if isinstance(a, Expression))

    def __add__(self, other: Expression | float) -> Expression:
        return self.graph.binary("+", self, other)

    def __radd__(self, other: float) -> Expression:
        return self.graph.binary("+", other, self)

    def __sub__(self, other: Expression | float) -> Expression:
        return self.graph.binary("-", self, other)

    def __rsub__(self, other: float) -> Expression:
        return self.graph.binary("-", other, self)

    def __mul__(self, other: Expression | float) -> Expression:
        return self.graph.binary("*", self, other)

    def __rmul__(self, other: float) -> Expression:
        return self.graph.binary("*", other, self)

    def __truediv__(self, other: Expression | float) -> Expression:
        return self.graph.binary("/", self, other)

    def __rtruediv__(self, other: float) -> Expression:
        return self.graph.binary("/", other, self)

    def __neg__(self) -> Expression:
        return self.graph.binary("-", 0.0, self)


class Graph:
    """The nodes made so far, each once; also the namespace that a rule is interpreted in."""

    def __init__(self) -> None:
        self.nodes: dict[tuple[object, ...], Expression] = {}

    def node(self, operation: str, *arguments: object) -> Expression:
        """Give the node of an operation on these arguments: the one that is there already, or a new one."""
        key = (operation, *(a.index if isinstance(a, Expression) else ("constant", a) for a in arguments))
        if key not in self.nodes:
            self.nodes[key] = Expression(self, operation, arguments, len(self.nodes))
        return self.nodes[key]

    def leaf(self, name: str) -> Expression:
        """Give the leaf of this name, which stands for what is given: ``a_0``, ``h``, ``dm``."""
        return self.node("leaf", name)

    def constant(self, value: float) -> Expression:
        """Give the node of a number."""
        return self.node("constant", float(value))

    def binary(self, operation: str, left: Expression | float, right: Expression | float) -> Expression:
        """Give ``left operation right`` (``+``, ``-``, ``*`` or ``/``), without operations on 0 and 1 that change nothing."""
        x, y = (a if isinstance(a, Expression) else self.constant(a) for a in (left, right))
        known = [a.arguments[0] if a.operation == "constant" else None for a in (x, y)]
        if operation == "*":
            if 0.0 in known:
                return self.constant(0.0)
            if known[0] == 1.0 or known[1] == 1.0:
                return y if known[0] == 1.0 else x
        elif operation == "/":
            return x if known[1] == 1.0 else self.node(operation, x, y)
        elif known[1] == 0.0:
            return x
        elif known[0] == 0.0 and operation == "+":
            return y
        return self.node(operation, x, y)

    def number(self, value: float, like: Expression) -> Expression:
        """Give the node of a number."""
        return self.constant(value)

    def where(self, sign: str, a: Expression, b: Expression, x: Expression, y: Expression) -> Expression:
        """Give ``x`` where ``a sign b`` holds and ``y`` elsewhere."""
        return self.node("where", sign, a, b, x, y)

    def mean(self, a: Expression) -> Expression:
        """Give the mean of a node over the units of a step."""
        return a if a.operation == "constant" else self.node("mean", a)

    def softplus(self, a: Expression) -> Expression:
        """Give ``log(1 + exp(a))``."""
        return self.node("softplus", a)

    def exp(self, a: Expression) -> Expression:
        """Give the exponential of a node."""
        return self.node("exp", a)

    def log(self, a: Expression) -> Expression:
        """Give the natural logarithm of a node."""
        return self.node("log", a)

    def sqrt(self, a: Expression) -> Expression:
        """Give the square root of a node."""
        return self.node("sqrt", a)

    def tanh(self, a: Expression) -> Expression:
        """Give the hyperbolic tangent of a node."""
        return self.node("tanh", a)

    def sigmoid(self, a: Expression) -> Expression:
        """Give the logistic function of a node."""
        return self.node("sigmoid", a)

    def relu(self, a: Expression) -> Expression:
        """Give a node where it is positive, and 0 elsewhere."""
        return self.node("relu", a)


@dataclass(frozen=True)
class Trace:
    """A cell's rule as expressions; its vectors are among the ``peepholes``.

    ``slots``: what is kept for each gate.  ``gradients``: of each leaf that has one (``a_k``, ``h``, ``m_d``, ``p_k``),
    in terms of the leaves ``dh``, ``dm`` and the forward nodes.
    """

    gates: int
    memories: int
    peepholes: int
    hidden: Expression
    memory: Expression | None
    slots: tuple[Expression, ...]
    gradients: Mapping[str, Expression] = field(default_factory=dict[str, Expression])


@functools.cache
def trace(cell: Cell, options: Options, dimensions: int, zoneout: bool = False) -> Trace:
    """Trace the rule of a cell travelling along so many dimensions, and its adjoint.

    With ``zoneout`` the leaves ``k_h`` and ``k_m`` say how much of the old hidden vector and memory is kept."""
    graph = Graph()
    if cell.rule is None:
        raise ValueError(f"the cell `{cell}` has no pointwise rule")
    gates = len(cell.gates(dimensions))
    memories = dimensions if cell.memory else 0
    peepholes = len(cell.peepholes(dimensions)) if cell.peepholes and options.peepholes else 0
    peepholes += len(cell.vectors(dimensions))
    counts = (("a", gates), ("m", memories), ("p", peepholes))
    a, m, p = ([graph.leaf(f"{kind}_{k}") for k in range(count)] for kind, count in counts)
    hidden, memory = cell.rule(graph, a, graph.leaf("h"), m, p, options)
    if zoneout:
        hidden = _zoned_out(graph.leaf("k_h"), graph.leaf("h"), hidden)
        memory = None if memory is None else _zoned_out(graph.leaf("k_m"), m[0], memory)
    outputs = [node for node in (hidden, memory) if node is not None]
    slots = _slots(a, outputs)
    seeds = {hidden: graph.leaf("dh")}
    if memory is not None:
        seeds[memory] = seeds[memory] + graph.leaf("dm") if memory in seeds else graph.leaf("dm")
    return Trace(gates, memories, peepholes, hidden, memory, slots, _gradients(graph, seeds))


def _zoned_out(keep: Expression, old: Expression, new: Expression) -> Expression:
    return keep * old + (1.0 - keep) * new


def reachable(outputs: Sequence[Expression], stop: Callable[[Expression], bool] = lambda node: False) -> list[Expression]:
    """List what the outputs are made of, arguments before what uses them, not looking behind nodes where ``stop`` holds."""
    found: dict[Expression, None] = {}
    waiting = [(output, False) for output in reversed(outputs)]
    while waiting:  # a stack of our own: formulas may be deeper than Python's
        node, ready = waiting.pop()
        if ready:
            found[node] = None
        elif node not in found:
            waiting.append((node, True))
            waiting += [(argument, False) for argument in (() if stop(node) else reversed(node.inputs)) if argument not in found]
    return list(found)


def _slots(gates: Sequence[Expression], outputs: Sequence[Expression]) -> tuple[Expression, ...]:
    users: dict[Expression, list[Expression]] = {}
    for node in reachable(outputs):
        for argument in node.inputs:
            users.setdefault(argument, []).append(node)
    slots: list[Expression] = []
    for gate in gates:
        node = gate
        while node not in outputs and len(users.get(node, ())) == 1 and users[node][0].operation in "+-":
            node = users[node][0]
        last = users.get(node, ())
        saved = last[0] if node not in outputs and len(last) == 1 and last[0].operation in FROM_OUTPUT else gate
        slots.append(gate if saved in slots else saved)
    return tuple(slots)


def _gradients(graph: Graph, seeds: Mapping[Expression, Expression]) -> dict[str, Expression]:
    """Go in reverse from the gradients of the outputs to those of the leaves."""
    total: dict[Expression, Expression] = dict(seeds)

    def add(node: Expression, value: Expression) -> None:
        total[node] = total[node] + value if node in total else value

    for node in reversed(reachable(list(seeds))):
        if node not in total or node.operation in ("leaf", "constant"):
            continue
        for argument, slope in zip(node.inputs, _slopes(graph, node, total[node]), strict=True):
            if slope is not None:
                add(argument, slope)
    leaves = {str(node.arguments[0]): value for node, value in total.items() if node.operation == "leaf"}
    return {name: value for name, value in leaves.items() if not name.startswith("k_")}  # masks are not learnt


def _slopes(graph: Graph, node: Expression, gradient: Expression) -> list[Expression | None]:
    """Give what a node hands back to each of its inputs."""
    x, y, zero = node.inputs[0], node.inputs[-1], graph.constant(0.0)
    match node.operation:
        case "+" | "-":
            return [gradient, gradient if node.operation == "+" else -gradient]
        case "*":
            return [gradient * y, gradient * x]
        case "/":
            return [gradient / y, -(gradient * node) / y]
        case "where":
            sign, a, b = node.arguments[0], *node.inputs[:2]
            return [None, None, graph.node("where", sign, a, b, gradient, zero), graph.node("where", sign, a, b, zero, gradient)]
        case "mean":
            return [graph.mean(gradient)]
        case "relu":
            return [graph.node("where", ">", node, zero, gradient, zero)]
        case "tanh":
            return [gradient * (1.0 - node * node)]
        case "sigmoid":
            return [gradient * (node * (1.0 - node))]
        case "softplus":
            return [gradient * graph.sigmoid(x)]
        case "exp":
            return [gradient * node]
        case "log":
            return [gradient / x]
        case _:
            return [gradient * (0.5 / node)]


class Writer:
    """Writes expressions as assignments, one a node, each once; ``known`` maps nodes to the text that reads them."""

    def __init__(self, known: Mapping[Expression, str]) -> None:
        self.known, self.names = dict(known), dict[Expression, str]()
        self.lines: list[str] = []

    def write(self, *outputs: Expression) -> list[str]:
        """Write the assignments that compute these expressions, and give the names of their values."""
        for node in reachable(outputs, lambda node: node in self.known or node in self.names):
            if node not in self.names:
                self.names[node] = f"v{node.index}" if node.operation != "constant" else f"F({node.arguments[0]!r})"
                if node.operation != "constant":
                    self.lines.append(f"v{node.index} = {self.known.get(node) or self._text(node)}")
        return [self.names[output] for output in outputs]

    def _text(self, node: Expression) -> str:
        names = [self.names[argument] for argument in node.inputs]
        if node.operation in UNARY:
            return f"{node.operation}({names[0]})"
        if node.operation == "where":
            return f"{names[2]} if {names[0]} {node.arguments[0]} {names[1]} else {names[3]}"
        if node.operation == "mean":
            raise ValueError("a mean over units is known before it is written")
        if node.operation == "leaf":
            raise ValueError(f"nothing gives `{node.arguments[0]}`: the slots do not suffice")
        return f"{names[0]} {node.operation} {names[1]}"
