"""JAX's ways to do a case: ``lax.scan`` over time with depth unrolled, and over wavefronts."""

# pyright: basic

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from gridc.benchmarks.cases import RATE, Array, Case, Contestant

Parameters = dict[str, Any]


def contestants(case: Case, parameters: dict[str, Array]) -> list[Callable[[], Contestant]]:
    """List what JAX can do with a case, each made when it is called."""
    ways: dict[str, Callable[..., Any]] = {}
    if case.kind == "depth":
        ways["jax scan"] = _depth
    elif case.kind in ("grid", "stacked"):
        ways["jax scan"] = _unrolled
    if case.kind == "stacked":
        ways["jax layers"] = _layers
    elif case.kind != "depth":
        ways["jax wavefronts"] = _wavefronts
    return [lambda name=name, way=way: _contestant(name, case, parameters, way) for name, way in ways.items()]


def _contestant(name: str, case: Case, parameters: dict[str, Array], way: Callable[..., Any]) -> Contestant:
    wide = case.numbers.itemsize == 8
    with _of(wide):
        return _made(name, case, parameters, way, wide)


def _of(wide: bool) -> contextlib.AbstractContextManager[Any]:
    """Have JAX keep numbers in double precision where they are ``wide``: by default it makes single ones of them."""
    return jax.enable_x64(True) if wide else contextlib.nullcontext()


def _made(name: str, case: Case, parameters: dict[str, Array], way: Callable[..., Any], wide: bool) -> Contestant:
    x, y = (jnp.asarray(a) for a in case.data())

    def predict(p: Parameters, x: Any) -> Any:
        return way(case, p, x) @ p["y.W"] + p["y.b"]

    def loss(p: Parameters, x: Any, y: Any) -> Any:
        return -jax.nn.log_softmax(predict(p, x))[jnp.arange(case.batch), y].mean()

    both = jax.jit(jax.value_and_grad(loss))

    def updated(p: Parameters, x: Any, y: Any) -> tuple[Any, Parameters]:
        value, slopes = jax.value_and_grad(loss)(p, x, y)
        return value, {n: a - RATE * slopes[n] for n, a in p.items()}

    training = jax.jit(updated, donate_argnums=0)
    forward = jax.jit(lambda p, x: jax.nn.softmax(predict(p, x)))
    own = {n: jnp.array(a) for n, a in parameters.items()}
    state = [{n: jnp.array(a) for n, a in parameters.items()}]

    def step() -> None:
        with _of(wide):
            value, state[0] = training(state[0], x, y)
            jax.block_until_ready((value, state[0]))

    def gradients() -> tuple[float, dict[str, Array]]:
        with _of(wide):
            value, slopes = both(own, x, y)
            return float(value), {n: np.asarray(a) for n, a in slopes.items()}

    def ahead() -> None:
        with _of(wide):
            forward(own, x).block_until_ready()

    return Contestant(name, step, gradients, ahead)


def _cell(a: Any, *m: Any) -> tuple[Any, Any]:
    """Apply the LSTM's rule, with a forget gate for each entering memory."""
    parts = jnp.split(a, len(m) + 3, -1)
    u, *f, o = map(jax.nn.sigmoid, parts[:-1])
    new = u * jnp.tanh(parts[-1]) + sum(forget * memory for forget, memory in zip(f, m, strict=True))
    return o * jnp.tanh(new), new


def _enter(p: Parameters, x: Any) -> tuple[Any, Any]:
    hidden = x @ p["x.hidden.W"] + p["x.hidden.b"]
    return hidden, (x @ p["x.memory.W"] + p["x.memory.b"] if "x.memory.W" in p else hidden)


def _depth(case: Case, p: Parameters, x: Any) -> Any:
    def cell(state: Any, own: Any) -> tuple[Any, None]:
        w, b = own if case.untied else (p["depth.W"], p["depth.b"])
        return _cell(state[0] @ w + b, state[1]), None

    weights = (p["depth.W"], p["depth.b"]) if case.untied else None
    return jax.lax.scan(cell, _enter(p, x), weights, length=case.sizes[0])[0][0]


def _unrolled(case: Case, p: Parameters, x: Any) -> Any:
    depth = case.sizes[1]
    zero = jnp.zeros((case.batch, case.hidden), x.dtype)

    def weights(name: str, d: int) -> tuple[Any, Any]:
        w, b = p[f"{name}.W"], p[f"{name}.b"]
        return (w[d], b[d]) if case.untied else (w, b)

    def row(carry: Any, entering: Any) -> tuple[Any, None]:
        states, _ = carry
        hd, md = entering
        new = []
        for d, (ht, mt) in enumerate(states):
            w, b = weights("time", d)
            ht, mt = _cell(jnp.concatenate([ht, hd], 1) @ w + b, mt)
            new.append((ht, mt))
            if case.kind == "stacked":
                hd = ht
            else:
                w, b = weights("depth", d)
                hd, md = _cell(jnp.concatenate([ht, hd], 1) @ w + b, md)
        return (tuple(new), hd), None

    entering = tuple(jnp.moveaxis(v, 1, 0) for v in _enter(p, x))
    return jax.lax.scan(row, (((zero, zero),) * depth, zero), entering)[0][1]


def _layers(case: Case, p: Parameters, x: Any) -> Any:
    """Run a stacked LSTM layer by layer, each layer's input as one product."""
    below = jnp.moveaxis(_enter(p, x)[0], 1, 0)
    zero = jnp.zeros((case.batch, case.hidden), x.dtype)
    for d in range(case.sizes[1]):
        w, b = p["time.W"][d], p["time.b"][d]

        def cell(state: Any, a: Any, w: Any = w) -> tuple[Any, Any]:
            new = _cell(a + state[0] @ w[: case.hidden], state[1])
            return new, new[0]

        below = jax.lax.scan(cell, (zero, zero), below @ w[case.hidden :] + b)[1]
    return below[-1]


def _wavefronts(case: Case, p: Parameters, x: Any) -> Any:
    """Any uniform grid by wavefronts of cells, padded to all the cells of a plane across the first dimension."""
    sizes, rest = case.sizes, case.sizes[1:]
    count = sum(sizes) - len(sizes) + 1
    others = np.indices(rest)
    first = np.arange(count).reshape(-1, *(1,) * len(rest)) - others.sum(0)
    inside = np.clip(first, 0, sizes[0] - 1)
    zero = jnp.zeros((*rest, case.batch, case.hidden), x.dtype)
    x = jnp.moveaxis(x, 0, -2)

    def shifted(state: Any, axis: int, edge: Any) -> Any:
        return jnp.concatenate([edge, jax.lax.slice_in_dim(state, 0, rest[axis] - 1, axis=axis)], axis)

    def edge(axis: int) -> Any:
        return zero[(slice(None),) * axis + (slice(0, 1),)]

    def linear(name: str, z: Any) -> Any:
        w, b = p[f"{name}.W"], p[f"{name}.b"]
        return jnp.einsum("dbi,dij->dbj", z, w) + b[:, None] if w.ndim == 3 else z @ w + b

    last = len(rest) - 1

    def front(states: Any, given: Any) -> tuple[Any, None]:
        exists, entering = given
        if case.kind == "plane":
            (h, m), = states
            a = linear("plane", jnp.concatenate([h, shifted(h, 0, edge(0)), entering], -1))
            new = [_cell(a, m, shifted(m, 0, edge(0)))]
        else:
            *others, (hd, md) = states
            above = [others[0], *((shifted(h, k, edge(k)), shifted(m, k, edge(k))) for k, (h, m) in enumerate(others[1:]))]
            above.append((shifted(hd, last, entering[0]), shifted(md, last, entering[1])))
            if case.kind == "grid":
                (ht, mt), (hd, md) = above
                ht, mt = _cell(linear("time", jnp.concatenate([ht, hd], -1)), mt)
                new = [(ht, mt), _cell(linear("depth", jnp.concatenate([ht, hd], -1)), md)]
            else:
                z = jnp.concatenate([h for h, _ in above], -1)
                new = [_cell(linear(n, z), m) for n, (_, m) in zip(("rows", "columns", "depth"), above, strict=True)]
        return tuple((jnp.where(exists, h, 0), jnp.where(exists, m, 0)) for h, m in new), None

    if case.kind == "plane":
        entering = x[inside, others[0]]
        states = ((zero, zero),)
    else:
        across = (slice(None),) * last + (slice(0, 1),)
        index = (inside[(slice(None), *across)], *(o[across][None] for o in others[:-1]))
        entering = tuple(v[index] for v in _enter(p, x))
        states = ((zero, zero),) * len(sizes)
    exists = jnp.asarray(first >= 0)[..., None, None]
    states = jax.lax.scan(front, states, (exists, entering))[0]
    corner = (-1,) * len(rest)
    if case.kind == "grid":
        return states[1][0][corner]
    return jnp.concatenate([h[corner] for h, _ in states], -1)
