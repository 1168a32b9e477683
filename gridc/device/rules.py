"""A cell's rule in JAX, over the steps of a turn."""

# JAX says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax import numpy as jnp

from gridc.scheduling.padded import Group

Array = Any


class Names:
    """The namespace in which a cell's rule runs on a device."""

    tanh = staticmethod(jnp.tanh)
    sigmoid = staticmethod(jax.nn.sigmoid)
    relu = staticmethod(jax.nn.relu)
    softplus = staticmethod(jax.nn.softplus)
    exp, log, sqrt = staticmethod(jnp.exp), staticmethod(jnp.log), staticmethod(jnp.sqrt)

    @staticmethod
    def number(value: float, like: Array) -> Array:
        """Give a number in the dtype of another value."""
        return jnp.asarray(value, like.dtype)

    @staticmethod
    def mean(a: Array) -> Array:
        """Take the mean over the units of each step, which stay as an axis of length 1."""
        return jnp.mean(a, axis=-1, keepdims=True)

    @staticmethod
    def where(sign: str, a: Array, b: Array, x: Array, y: Array) -> Array:
        """Give ``x`` where ``a sign b`` holds and ``y`` elsewhere."""
        return jnp.where({">": jnp.greater, "<": jnp.less, ">=": jnp.greater_equal, "<=": jnp.less_equal}[sign](a, b), x, y)


def apart(group: Group, a: Array) -> list[Array]:
    """Cut pre-activations ``[…, gates × hidden]`` by gates."""
    return [a[..., k * group.hidden : (k + 1) * group.hidden] for k in range(group.gates)]


def rule(
    group: Group, gates: list[Array], own: list[Array], p: Array | None, keeps: Sequence[Array]
) -> tuple[Array, Array | None]:  # fmt: skip
    """Give a cell's rule over the pre-activations of each gate, ``[slots, rows, hidden]``; peepholes are ``[slots, …]``.
    ``keeps`` says how much of the old state stays (``Sweep.keeps``)."""
    n = group.hidden
    holes = [] if p is None else [p[:, None, k * n : (k + 1) * n] for k in range(p.shape[-1] // n)]
    made = group.cell.rule
    assert made is not None
    hidden, memories = own[-1] if group.cell.uses_hidden else None, own[: group.entering] if group.memory else []
    h, m = made(Names, gates, hidden, memories, holes, group.options)  # type: ignore[arg-type]
    if keeps:
        h = keeps[0] * own[-1] + (1 - keeps[0]) * h
        m = None if m is None else keeps[1] * own[0] + (1 - keeps[1]) * m
    return h, m
