"""What the text of a page says of a cell, in NumPy: formulas are read by Python's own grammar, and nothing comes from gridc."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray
COMPARE = {ast.Gt: np.greater, ast.Lt: np.less, ast.GtE: np.greater_equal, ast.LtE: np.less_equal}
FUNCTIONS = {
    "tanh": np.tanh, "sigmoid": lambda a: np.exp(-np.logaddexp(0, -a)), "relu": lambda a: np.maximum(a, 0), "abs": np.abs,
    "softplus": lambda a: np.logaddexp(0, a), "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "identity": lambda a: a,
    "max": lambda *a: np.max(np.stack(np.broadcast_arrays(*a)), axis=0),
    "min": lambda *a: np.min(np.stack(np.broadcast_arrays(*a)), axis=0),
    "norm": lambda a: (a - np.mean(a, -1, keepdims=True)) / np.sqrt(np.var(a, -1, keepdims=True) + 1e-5) if np.ndim(a) else 0.0,
}  # fmt: skip


class OwnCell:
    """A cell of a page along ``n`` dimensions."""

    def __init__(self, words: Mapping[str, Any], n: int):
        self.words, self.n, self.each = words, n, set(words.get("each", ()))
        self.keeps_memory = "memory" in words
        texts = [words[key] for key in ("memory", "hidden") if key in words] + list(words.get("let", {}).values())
        nodes = [node for text in texts for node in ast.walk(ast.parse(str(text)))]
        self.uses_hidden = any(isinstance(node, ast.Name) and node.id == "h" for node in nodes)

    def places(self, section: str) -> list[tuple[str, int]]:
        """Every gate or vector with its dimension, in order."""
        return [(name, d) for name in self.words.get(section, {}) for d in range(self.n if name in self.each else 1)]

    def names(self, section: str) -> list[str]:
        """What parameters call them."""
        return [f"{name}_{d + 1}" if name in self.each and self.n > 1 else name for name, d in self.places(section)]

    def step(
        self, a: Sequence[Array], h: Array | None, m: Sequence[Array], vectors: Mapping[str, Array], activation: str = "tanh"
    ) -> tuple[Array, Array | None]:  # fmt: skip
        """The new vectors, from one pre-activation a gate, what enters, and the vectors by the names of their parameters."""
        gates = dict(zip(self.places("gates"), a, strict=True))
        own = dict(zip(self.places("vectors"), (vectors[name] for name in self.names("vectors")), strict=True))
        functions = {**FUNCTIONS, "activation": FUNCTIONS[activation]}

        def named(word: str, d: int) -> Any:
            head, _, tail = word.rpartition("_")
            if tail.isdigit() and (head == "m" or head in self.each):
                word, d = head, int(tail) - 1
            if word == "h":
                return h
            if word == "m":
                return m[d]
            if word == "memory":
                return value(self.words["memory"], d)
            if word in self.words.get("constants", {}):
                return self.words["constants"][word]
            if word in self.words.get("let", {}):
                return value(self.words["let"][word], d)
            d = d if word in self.each else 0
            return functions[self.words["gates"][word]](gates[word, d]) if word in self.words["gates"] else own[word, d]

        def value(text: Any, d: int) -> Any:
            return found(ast.parse(str(text), mode="eval").body, d)

        def found(node: ast.AST, d: int) -> Any:
            match node:
                case ast.Constant():
                    return node.value
                case ast.Name():
                    return named(node.id, d)
                case ast.UnaryOp(op=ast.USub()):
                    return -found(node.operand, d)
                case ast.BinOp():
                    left, right = found(node.left, d), found(node.right, d)
                    sign = {ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide, ast.Pow: np.power}
                    return sign[type(node.op)](left, np.float64(right))
                case ast.Call(func=ast.Name(id="sum")):
                    return sum(found(node.args[0], k) for k in range(self.n))
                case ast.Call(func=ast.Name(id="where")):
                    test = node.args[0]
                    assert isinstance(test, ast.Compare)
                    holds = COMPARE[type(test.ops[0])](found(test.left, d), found(test.comparators[0], d))
                    return np.where(holds, found(node.args[1], d), found(node.args[2], d))
                case ast.Call(func=ast.Name()):
                    return functions[node.func.id](*(found(one, d) for one in node.args))
                case _:
                    raise ValueError(ast.dump(node))

        memory = value(self.words["memory"], 0) if self.keeps_memory else None
        shape = np.shape(a[0])
        return np.broadcast_to(value(self.words["hidden"], 0), shape), None if memory is None else np.broadcast_to(memory, shape)
