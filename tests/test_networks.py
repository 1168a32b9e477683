"""Every network of ``specs/`` against what its paper says: equations typed in with NumPy, or PyTorch's own modules.

``prove`` compares outputs, the loss, and the gradient along a random direction with the slope of the equations' own loss.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

import gridc
from gridc import parameters
from gridc.language.shapes import parameter_shapes
from gridc.scheduling import graph

SPECS = Path(__file__).parent.parent / "specs"
Array = np.ndarray
Equations = Callable[[Mapping[str, Array], Mapping[str, Array]], dict[str, Array]]
# One network of each kind is proved in both lowerings; on random specs test_grid compares the two anyway.
both = pytest.mark.parametrize("lowering", ["fused", "plain"])
fused = pytest.mark.parametrize("lowering", ["fused"])


# -- what the papers' equations are made of ---------------------------------------------------------------------------


def sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


def softmax(a: Array) -> Array:
    e = np.exp(a - a.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def cat(*vectors: Array) -> Array:
    return np.concatenate(vectors, axis=-1)


def lstm(z: Array, m: Array, w: Array, b: Array) -> tuple[Array, Array]:
    """The ordinary LSTM: h' = o tanh(m')."""
    u, f, o, c = np.split(z @ w + b, 4, axis=-1)
    m = sigmoid(f) * m + sigmoid(u) * np.tanh(c)
    return sigmoid(o) * np.tanh(m), m


def paper(z: Array, m: Array, w: Array, b: Array) -> tuple[Array, Array]:
    """The Grid LSTM paper's: h' = tanh(o m')."""
    u, f, o, c = np.split(z @ w + b, 4, axis=-1)
    m = sigmoid(f) * m + sigmoid(u) * np.tanh(c)
    return np.tanh(sigmoid(o) * m), m


def gru(x: Array, h: Array, w: Array, b: Array, own: slice, rest: slice) -> Array:
    """cuDNN's: the reset gate stands after the product with the old vector; ``own`` and ``rest`` are rows of ``w``."""
    w_r, w_v, w_c, w_s = np.split(w, 4, axis=-1)
    b_r, b_v, b_c, b_s = np.split(b, 4)
    r = sigmoid(x @ w_r[rest] + h @ w_r[own] + b_r)
    v = sigmoid(x @ w_v[rest] + h @ w_v[own] + b_v)
    return v * h + (1 - v) * np.tanh(x @ w_c[rest] + b_c + r * (h @ w_s[own] + b_s))


def highway(s: Array, x: Array, w: Array, b: Array) -> Array:
    """y = T(s) H(s) + (1 - T(s)) s, with x beside s in both."""
    c, g = np.split(cat(s, x) @ w + b, 2, axis=-1)
    return sigmoid(g) * np.tanh(c) + (1 - sigmoid(g)) * s


def entering(p: Mapping[str, Array], name: str, x: Array) -> tuple[Array, Array]:
    """An input's projections into the hidden and memory vector."""
    return x @ p[f"{name}.hidden.W"] + p[f"{name}.hidden.b"], x @ p[f"{name}.memory.W"] + p[f"{name}.memory.b"]


def read_out(p: Mapping[str, Array], name: str, h: Array) -> Array:
    return h @ p[f"{name}.W"] + p[f"{name}.b"]


def one_hot(ids: Array, size: int) -> Array:
    return np.eye(size)[ids]


# -- the proof --------------------------------------------------------------------------------------------------------


def small(name: str, **changes: Any) -> str:
    """The text of a spec with some values changed: ``transforms__time__hidden=4``; ``hidden`` alone is for all transforms."""
    yaml = YAML()  # which keeps the order, and the order means something
    page = yaml.load(SPECS / f"{name}.yaml") if "\n" not in name else yaml.load(name)
    page.pop("training", None)
    hidden = changes.pop("hidden", None)
    for transform in page["transforms"].values():
        if hidden and "hidden" in transform:
            transform["hidden"] = hidden
    for path, value in changes.items():
        *parts, last = path.split("__")
        place = page
        for part in parts:
            place = place[part]
        place[last] = value
    out = StringIO()
    yaml.dump(page, out)
    return out.getvalue()


def drawn(grid: gridc.Grid, rng: np.random.Generator, scale: float = 0.5) -> dict[str, Array]:
    """Gives every parameter numbers, biases too, and returns them."""
    for name in grid.parameters:
        grid.parameters[name] = rng.normal(0, scale, grid.parameters[name].shape)
    return {name: array.copy() for name, array in grid.parameters.items()}


def loss_of(spec: Any, logits: Mapping[str, Array], targets: Mapping[str, Array]) -> float:
    total = 0.0
    for name, o in spec.outputs.items():
        a, y = logits[name], targets[name]
        if o.kind == "classes":
            total -= np.log(np.take_along_axis(softmax(a), y[..., None], axis=-1)).mean()
        elif o.kind == "binary":
            total -= (y * np.log(sigmoid(a[..., 0])) + (1 - y) * np.log(sigmoid(-a[..., 0]))).mean()
        else:
            total += ((a - y) ** 2).mean()
    return float(total)


def prove(text: str, inputs: Mapping[str, Array], equations: Equations, lowering: Any, scale: float = 0.5) -> gridc.Grid:
    """Outputs, loss and gradient of a spec are those of the equations, which give logits for each output."""
    grid = gridc.compile(text, lowering=lowering, dtype="float64")
    rng = np.random.default_rng(1)
    p = drawn(grid, rng, scale)
    logits = equations(p, inputs)
    expected, targets = {}, {}
    for name, o in grid.spec.outputs.items():
        a = logits[name]
        if o.kind == "classes":
            expected[name], targets[name] = softmax(a), rng.integers(0, o.size, a.shape[:-1])
        elif o.kind == "binary":
            expected[name], targets[name] = sigmoid(a[..., 0]), rng.integers(0, 2, a.shape[:-1])
        else:
            expected[name], targets[name] = a, rng.normal(size=a.shape)
    found = grid.predict(inputs)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-11)
    loss, gradients, _ = grid.loss_and_gradients(inputs, targets)
    assert loss == pytest.approx(loss_of(grid.spec, logits, targets), rel=1e-9)
    for _ in range(3):
        way = {name: rng.normal(size=array.shape) for name, array in p.items()}
        slope = 0.0
        for sign in (1, -1):
            shifted = {name: array + sign * 1e-6 * way[name] for name, array in p.items()}
            slope += sign * loss_of(grid.spec, equations(shifted, inputs), targets) / 2e-6
        assert sum((gradients[name] * way[name]).sum() for name in p) == pytest.approx(slope, rel=1e-5, abs=1e-7)
    return grid


BATCH, T = 3, 5


def ids(size: int, *shape: int) -> Array:
    return np.random.default_rng(sum(shape) + size).integers(0, size, (BATCH, *shape))


def floats(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=(BATCH, *shape))


def levels_of(text: str, **binding: int) -> Mapping[Any, int]:
    """The level of every step, ``(transform, coordinate)``, from the compiler's own graph."""
    spec = gridc.read(text)
    shape = spec.sizes(binding)
    levels = graph.build(spec, shape).levels.reshape(len(spec.transforms), -1)
    cells = list(itertools.product(*map(range, shape)))
    return {(name, cell): int(levels[i, k]) for i, name in enumerate(spec.transforms) for k, cell in enumerate(cells)}


# -- one dimension ----------------------------------------------------------------------------------------------------


@fused
@pytest.mark.parametrize("tied", ["all", "none"])
@pytest.mark.parametrize(("cell", "rule"), [("lstm-paper", paper), ("lstm", lstm)])
def test_a_1_grid_is_an_lstm_along_its_layers_with_no_input(lowering: str, tied: str, cell: str, rule: Any) -> None:
    text = small("one-grid-untied", hidden=4, transforms__depth__tied=tied, transforms__depth__cell=cell)

    def equations(p: Mapping[str, Array], x: Mapping[str, Array]) -> dict[str, Array]:
        h, m = entering(p, "bits", x["bits"])
        for layer in range(5):
            w, b = (p["depth.W"], p["depth.b"]) if tied == "all" else (p["depth.W"][layer], p["depth.b"][layer])
            h, m = rule(h, m, w, b)
        return {"parity": read_out(p, "parity", cat(h, m))}

    prove(text, {"bits": floats(10)}, equations, lowering)


@fused
def test_highway(lowering: str) -> None:
    """Srivastava et al. 2015, equation 3; the gate's bias starts at -2."""
    text = small("highway", hidden=6, dimensions__depth=4, inputs__image__features=5)

    def equations(p: Mapping[str, Array], x: Mapping[str, Array]) -> dict[str, Array]:
        s = x["image"] @ p["image.hidden.W"] + p["image.hidden.b"]
        for level in range(4):
            s = highway(s, s[..., :0], p["depth.W"][level], p["depth.b"][level])
        return {"digit": read_out(p, "digit", s)}

    prove(text, {"image": floats(5)}, equations, lowering)
    fresh = parameters.initial(gridc.read(text), 0, "float64")["depth.b"]
    assert (fresh[:, :6] == 0).all()
    assert (fresh[:, 6:] == -2).all()


@pytest.mark.parametrize(("embeddings", "attention"), [("layerwise", "softmax"), ("adjacent", "softmax"), ("adjacent", "linear")])
def test_memory_network(embeddings: str, attention: str) -> None:
    """Sukhbaatar et al. 2015, section 2: u' = Hu + o with shared A and C, or u' = u + o with A of a hop the C before; without the
    softmax as in its linear start."""
    name = "memory-network" if embeddings == "layerwise" else "memory-network-adjacent"
    text = small(name, hidden=6, dimensions__hops=3, transforms__hops__attention=attention)
    facts, question = ids(20, 4, 3), ids(20)

    def equations(p: Mapping[str, Array], x: Mapping[str, Array]) -> dict[str, Array]:
        u = p["question.hidden.W"][x["question"]] + p["question.hidden.b"]
        for k in range(3):
            a, c = (p["hops.A"], p["hops.C"]) if embeddings == "layerwise" else (p["hops.E"][k], p["hops.E"][k + 1])
            keys, values = a[x["facts"]].sum(axis=2), c[x["facts"]].sum(axis=2)
            weight = np.einsum("bh,bfh->bf", u, keys)
            weight = softmax(weight) if attention == "softmax" else weight
            o = np.einsum("bf,bfh->bh", weight, values)
            u = (u @ p["hops.W"] + p["hops.b"] if embeddings == "layerwise" else u) + o
        return {"place": read_out(p, "place", u)}

    prove(text, {"facts": facts, "question": question}, equations, "auto")


# -- time and depth ---------------------------------------------------------------------------------------------------

def two_grid(p: Mapping[str, Array], x: Array, variant: str, rule: Any = paper, levels: int = 3) -> Array:
    """The 2-Grid LSTM, rows of both matrices: depth's vector, then time's.  Returns depth's top row ``[batch, T, hidden]``."""
    hidden = p["depth.W"].shape[0] // 2
    zero = np.zeros((BATCH, hidden))
    along_time = [(zero, zero)] * levels  # (h_1, m_1) of the moment before, by level
    top = []
    for t in range(x.shape[1]):
        h2, m2 = entering(p, "symbols", x[:, t])
        column = []
        for level in range(levels):
            h1, m1 = along_time[level]
            if variant == "source":
                # LSTM 2 reads h_1 of the cell below, at this moment; LSTM 1 the new h_2.
                below = column[-1][0] if column else zero
                h2, m2 = rule(cat(h2, below), m2, p["depth.W"], p["depth.b"])
                h1, m1 = rule(cat(h2, h1), m1, p["time.W"], p["time.b"])
            elif variant == "two-grid-depth-prioritised":
                h1, m1 = rule(cat(h2, h1), m1, p["time.W"], p["time.b"])
                h2, m2 = rule(cat(h2, h1), m2, p["depth.W"], p["depth.b"])
            elif variant == "two-grid-time-prioritised":
                h2, m2 = rule(cat(h2, h1), m2, p["depth.W"], p["depth.b"])
                h1, m1 = rule(cat(h2, h1), m1, p["time.W"], p["time.b"])
            else:
                z = cat(h2, h1)
                (h1, m1), (h2, m2) = rule(z, m1, p["time.W"], p["time.b"]), rule(z, m2, p["depth.W"], p["depth.b"])
            column.append((h1, m1))
        along_time = column
        top.append(h2)
    return np.stack(top, axis=1)


SOURCE = """
name: source
dimensions: {time: T, depth: 3}
transforms:
  depth: {cell: lstm-paper, hidden: 4, reads: [{of: depth, offset: {depth: -1}}, {of: time, offset: {depth: -1}}]}
  time: {cell: lstm-paper, hidden: 4, reads: [{of: depth, offset: {}}, {of: time, offset: {time: -1}}]}
inputs:
  symbols: {vocabulary: 9, enters: depth}
outputs:
  answer: {classes: 9, reads: [depth], at: {depth: last}}
"""
VARIANTS = ("two-grid", "two-grid-depth-prioritised", "two-grid-time-prioritised", "source")


@both
@pytest.mark.parametrize("variant", VARIANTS)
def test_2_grid(lowering: str, variant: str) -> None:
    text = SOURCE if variant == "source" else small(variant, hidden=4)

    def equations(p: Mapping[str, Array], x: Mapping[str, Array]) -> dict[str, Array]:
        return {"answer": read_out(p, "answer", two_grid(p, one_hot(x["symbols"], 9), variant))}

    prove(text, {"symbols": ids(9, T)}, equations, lowering)


def test_the_four_2_grids_differ() -> None:
    """The same weights and inputs, four orders of computation, four results."""
    x, results = {"symbols": ids(9, T)}, []
    for variant in VARIANTS:
        grid = gridc.compile(SOURCE if variant == "source" else small(variant, hidden=4), dtype="float64")
        drawn(grid, np.random.default_rng(1), 1.5)
        results.append(grid.predict(x)["answer"])
    for one, other in itertools.combinations(results, 2):
        assert np.abs(one - other).max() > 1e-3


def test_the_sources_spec_has_the_sources_reads() -> None:
    """``source-2grid.yaml`` is wired as the source's two equations say, whatever its cells and sizes."""
    theirs, ours = gridc.read(SPECS / "source-2grid.yaml"), gridc.read(SOURCE)
    for name in ("depth", "time"):
        one, other = ({(r.of, frozenset(zip(s.names(range(2)), r.offset, strict=True))) for r in s.transforms[name].reads}
                      for s in (theirs, ours))  # fmt: skip
        assert one == other


@fused
def test_two_dimensions_that_share_their_weights(lowering: str) -> None:
    text = small("shared-dimensions", hidden=4)

    def equations(p: Mapping[str, Array], x: Mapping[str, Array]) -> dict[str, Array]:
        own = {**p, "time.W": p["depth.W"], "time.b": p["depth.b"]}
        return {"answer": read_out(p, "answer", two_grid(own, one_hot(x["symbols"], 9), "two-grid", lstm, 2))}

    x = {"symbols": ids(9, T)}
    shared = prove(text, x, equations, lowering)
    apart = gridc.compile(text.replace("shares: depth", "shares: null"), lowering=lowering, dtype="float64")  # type: ignore[arg-type]
    for name in apart.parameters:
        apart.parameters[name] = shared.parameters[name.replace("time.", "depth.")]
    targets = {"answer": ids(9, T)}
    one, two = shared.gradients(x, targets), apart.gradients(x, targets)
    for letter in "Wb":
        np.testing.assert_allclose(one[f"depth.{letter}"], two[f"depth.{letter}"] + two[f"time.{letter}"], rtol=1e-9, atol=1e-12)


@fused
@pytest.mark.parametrize("name", ["feed-forward-depth", "feed-forward-depth-relu"])
def test_a_feed_forward_layer_between_lstm_levels(lowering: str, name: str) -> None:
    """Time has its own weights at every level, and so has depth; time's rows: its own vector, then that from below."""
    text = small(name, hidden=4)

    def equations(p: Mapping[str, Array], x: Mapping[str, Array]) -> dict[str, Array]:
        symbols = one_hot(x["symbols"], 9)
        below = symbols @ p["symbols.hidden.W"] + p["symbols.hidden.b"]
        for level in range(2):
            h = m = np.zeros((BATCH, 4))
            above = []
            for t in range(T):
                h, m = lstm(cat(h, below[:, t]), m, p["time.W"][level], p["time.b"][level])
                a = h @ p["depth.W"][level] + p["depth.b"][level]
                above.append(np.maximum(a, 0) if name.endswith("relu") else np.tanh(a))
            below = np.stack(above, axis=1)
        return {"answer": read_out(p, "answer", below)}

    prove(text, {"symbols": ids(9, T)}, equations, lowering, 0.7)


@fused
@pytest.mark.parametrize("name", ["gru-grid", "rnn-grid"])
def test_gru_and_rnn_grids(lowering: str, name: str) -> None:
    """Rows of both matrices: depth's vector, then time's; depth reads time's new one."""
    text = small(name, hidden=4)
    first, second = slice(0, 4), slice(4, 8)

    def equations(p: Mapping[str, Array], x: Mapping[str, Array]) -> dict[str, Array]:
        symbols = one_hot(x["symbols"], 9)
        along, top = [np.zeros((BATCH, 4))] * 2, []
        for t in range(T):
            h = symbols[:, t] @ p["symbols.hidden.W"] + p["symbols.hidden.b"]
            for level in range(2):
                if name == "gru-grid":
                    along[level] = gru(h, along[level], p["time.W"], p["time.b"], own=second, rest=first)
                    h = gru(along[level], h, p["depth.W"], p["depth.b"], own=first, rest=second)
                else:
                    along[level] = np.tanh(cat(h, along[level]) @ p["time.W"] + p["time.b"])
                    h = np.tanh(cat(h, along[level]) @ p["depth.W"] + p["depth.b"])
            top.append(h)
        return {"answer": read_out(p, "answer", np.stack(top, axis=1))}

    prove(text, {"symbols": ids(9, T)}, equations, lowering)


@both
def test_recurrent_highway(lowering: str) -> None:
    """Zilly et al. 2017, equations 6 to 8: x joins at the first micro-layer; s_0 of a moment is s_L of the one before."""
    text = small("recurrent-highway", hidden=4)

    def equations(p: Mapping[str, Array], x: Mapping[str, Array]) -> dict[str, Array]:
        symbols = one_hot(x["symbols"], 17)
        s, top = np.zeros((BATCH, 4)), []
        for t in range(T):
            for level in range(3):
                s = highway(s, symbols[:, t] * (level == 0), p["depth.W"][level], p["depth.b"][level])
            top.append(s)
        return {"answer": read_out(p, "answer", np.stack(top, axis=1))}

    prove(text, {"symbols": ids(17, T)}, equations, lowering)


def test_a_recurrent_highway_has_nothing_to_do_side_by_side() -> None:
    """Each micro-layer waits for the one before, across moments too: as many wavefronts as steps."""
    levels = levels_of(small("recurrent-highway"), T=7)
    assert [levels["depth", (t, d)] for t in range(7) for d in range(3)] == list(range(21))


@fused
def test_peepholes(lowering: str) -> None:
    """Graves 2013 (arXiv 1308.0850), equations 7 to 11: two gates see the old memory, the output gate the new one."""
    text = small("peepholes", hidden=4)

    def equations(p: Mapping[str, Array], x: Mapping[str, Array]) -> dict[str, Array]:
        symbols = one_hot(x["symbols"], 9)
        w_ci, w_cf, w_co = np.split(p["time.p"], 3)
        h = m = np.zeros((BATCH, 4))
        every = []
        for t in range(T):
            i, f, o, c = np.split(cat(h, symbols[:, t]) @ p["time.W"] + p["time.b"], 4, axis=-1)
            m = sigmoid(f + w_cf * m) * m + sigmoid(i + w_ci * m) * np.tanh(c)
            h = sigmoid(o + w_co * m) * np.tanh(m)
            every.append(h)
        return {"answer": read_out(p, "answer", np.stack(every, axis=1))}

    prove(text, {"symbols": ids(9, T)}, equations, lowering)


@both
def test_peepholes_along_two_dimensions(lowering: str) -> None:
    """Graves et al. 2007: the input gate sees both old memories, each forget gate its own, the output gate the new one."""
    text = small("multi-dimensional-lstm", hidden=3, transforms__plane__peepholes=True)
    prove(text, {"square": floats(3, 4, 1)}, lambda p, x: {"mark": plane(p, x["square"], graves)}, lowering)


def test_the_papers_count_of_parameters() -> None:
    """A tied 2-LSTM of 1,000 units over 205 symbols: 16.8 million, with six levels as with one."""
    shapes = parameter_shapes(gridc.read(SPECS / "wikipedia.yaml"))
    assert round(sum(int(np.prod(shape)) for shape in shapes.values()) / 1e6, 1) == 16.8


# -- several dimensions -----------------------------------------------------------------------------------------------


@fused
@pytest.mark.parametrize("name", ["three-grid", "four-grid"])
def test_n_lstm_block(lowering: str, name: str) -> None:
    """Section 3.1: H = [h_1 … h_N] of what enters; every transform maps the same H and its own memory."""
    side, features = (2, 4) if name == "three-grid" else (2, 1)
    text = small(name, hidden=3, **({"dimensions__rows": 2, "dimensions__columns": 2} if name == "three-grid" else {}))
    spec = gridc.read(text)
    n, result = len(spec.transforms), "digit" if name == "three-grid" else "mark"
    data = "image" if name == "three-grid" else "cube"

    def equations(p: Mapping[str, Array], x: Mapping[str, Array]) -> dict[str, Array]:
        state: dict[tuple[str, tuple[int, ...]], tuple[Array, Array]] = {}
        for cell in itertools.product(*[range(side)] * n):
            enters = []
            for d, t in enumerate(spec.transforms):
                before = tuple(i - (k == d) for k, i in enumerate(cell))
                if cell[d] > 0:
                    enters.append(state[t, before])
                elif t == "depth":
                    enters.append(entering(p, data, x[data][(slice(None), *cell[:-1])]))
                else:
                    enters.append((np.zeros((BATCH, 3)),) * 2)
            z = cat(*(h for h, _ in enters))
            for d, t in enumerate(spec.transforms):
                state[t, cell] = paper(z, enters[d][1], p[f"{t}.W"], p[f"{t}.b"])
        if name == "three-grid":
            last = cat(*(state[t, (side - 1,) * n][0] for t in spec.transforms))
            return {result: read_out(p, result, last)}
        top = np.stack([state["depth", (*cell, side - 1)][0] for cell in itertools.product(*[range(side)] * (n - 1))], axis=1)
        return {result: read_out(p, result, top.reshape(BATCH, *[side] * (n - 1), 3))}

    prove(text, {data: floats(*[side] * (n - 1), features)}, equations, lowering)


def graves(z: Array, m: list[Array], w: Array, b: Array, p: Array | None) -> tuple[Array, Array]:
    """Graves et al. 2007, section 2: one input gate, a forget gate for each dimension, one output gate."""
    u, f1, f2, o, c = np.split(z @ w + b, 5, axis=-1)
    if p is not None:
        u1, u2, p1, p2, po = np.split(p, 5)
        u, f1, f2 = u + u1 * m[0] + u2 * m[1], f1 + p1 * m[0], f2 + p2 * m[1]
    new = sigmoid(u) * np.tanh(c) + sigmoid(f1) * m[0] + sigmoid(f2) * m[1]
    return sigmoid(o if p is None else o + po * new) * np.tanh(new), new


def leaky(z: Array, m: list[Array], w: Array, b: Array, p: Array | None) -> tuple[Array, Array]:
    """Leifert et al. 2016: λ weighs the memories of the two dimensions, so that they cannot add up to more than one."""
    u, f, a, o, c = np.split(z @ w + b, 5, axis=-1)
    mixed = sigmoid(a) * m[0] + (1 - sigmoid(a)) * m[1]
    new = sigmoid(f) * mixed + sigmoid(u) * np.tanh(c)
    return sigmoid(o) * np.tanh(new), new


def sweep(x: Array, rule: Any, w: Array, b: Array, p: Array | None = None) -> Array:
    """One multi-dimensional LSTM from the top left corner: every cell's h; rows: h from above, h from the left, x."""
    _, rows, columns, _ = x.shape
    hidden = w.shape[1] // 5
    h = np.zeros((BATCH, rows + 1, columns + 1, hidden))
    m = np.zeros_like(h)
    for i, j in itertools.product(range(1, rows + 1), range(1, columns + 1)):
        z = cat(h[:, i - 1, j], h[:, i, j - 1], x[:, i - 1, j - 1])
        h[:, i, j], m[:, i, j] = rule(z, [m[:, i - 1, j], m[:, i, j - 1]], w, b, p)
    return h[:, 1:, 1:]


def plane(p: Mapping[str, Array], x: Array, rule: Any) -> Array:
    return read_out(p, "mark", sweep(x, rule, p["plane.W"], p["plane.b"], p.get("plane.p")))


@both
@pytest.mark.parametrize(("name", "rule"), [("multi-dimensional-lstm", graves), ("leaky-lstm", leaky)])
def test_multi_dimensional_lstm(lowering: str, name: str, rule: Any) -> None:
    text = small(name, hidden=3)
    prove(text, {"square": floats(3, 4, 1)}, lambda p, x: {"mark": plane(p, x["square"], rule)}, lowering)


@fused
def test_four_directions(lowering: str) -> None:
    """A transform from another corner is one from the first corner on the image turned over."""
    text = small("four-directions", hidden=3, dimensions__rows=2, dimensions__columns=3)

    def equations(p: Mapping[str, Array], x: Mapping[str, Array]) -> dict[str, Array]:
        image, ends = x["image"], []
        for name, turned in (("south-east", image), ("south-west", image[:, :, ::-1]), ("north-east", image[:, ::-1]),
                             ("north-west", image[:, ::-1, ::-1])):  # fmt: skip
            ends.append(sweep(turned, leaky, p[f"{name}.W"], p[f"{name}.b"])[:, -1, -1])
        return {"digit": read_out(p, "digit", cat(*ends))}

    prove(text, {"image": floats(2, 3, 4)}, equations, lowering)


@fused
def test_four_corners(lowering: str) -> None:
    """Section 4.6: each level sweeps the image from another corner; depth carries its result up to the same place."""
    text = small("four-corners", hidden=3, dimensions__rows=2, dimensions__columns=3)
    down, right = (1, 1, -1, -1), (1, -1, -1, 1)

    def equations(p: Mapping[str, Array], x: Mapping[str, Array]) -> dict[str, Array]:
        up = {(i, j): entering(p, "image", x["image"][:, i, j]) for i in range(2) for j in range(3)}
        zero = (np.zeros((BATCH, 3)),) * 2
        for level in range(4):
            over, across, end = {}, {}, None
            for i in range(2)[:: down[level]]:
                for j in range(3)[:: right[level]]:
                    r, c, d = over.get((i - down[level], j), zero), across.get((i, j - right[level]), zero), up[i, j]
                    z = cat(r[0], c[0], d[0])
                    over[i, j] = paper(z, r[1], p["rows.W"], p["rows.b"])
                    across[i, j] = paper(z, c[1], p["columns.W"], p["columns.b"])
                    up[i, j] = paper(z, d[1], p["depth.W"], p["depth.b"])
                    end = i, j
        # Rows ends at its own last row; on the other dimension, columns' own last too, since both have directions there.
        last_row, last_column = (1 if down[3] > 0 else 0), (2 if right[3] > 0 else 0)
        assert end == (last_row, last_column)
        vectors = (*over[last_row, 2], *across[1, last_column], *up[1, 2])
        return {"digit": read_out(p, "digit", cat(*vectors))}

    prove(text, {"image": floats(2, 3, 4)}, equations, lowering)


@both
def test_reencoder(lowering: str) -> None:
    """Source words enter along target, target words along source; the source is read to at depth 0 and fro at depth 1."""
    text = small("reencoder", hidden=3)

    def equations(p: Mapping[str, Array], x: Mapping[str, Array]) -> dict[str, Array]:
        words, before = one_hot(x["words"], 9), one_hot(x["before"], 9)
        length, target = words.shape[1], before.shape[1]
        zero = (np.zeros((BATCH, 3)),) * 2
        up: dict[tuple[int, int], Any] = {}
        along: dict[tuple[int, int], Any] = {}
        for step in (1, -1):
            onward: dict[tuple[int, int], Any] = {}
            along = {}
            for j in range(target):
                for i in range(length)[::step]:
                    s = along.get((i - step, j)) or entering(p, "before", before[:, j])
                    t = onward.get((i, j - 1)) or entering(p, "words", words[:, i])
                    d = up.get((i, j), zero)
                    z = cat(s[0], t[0], d[0])
                    along[i, j] = paper(z, s[1], p["source.W"], p["source.b"])
                    onward[i, j] = paper(z, t[1], p["target.W"], p["target.b"])
                    up[i, j] = paper(z, d[1], p["depth.W"], p["depth.b"])
        read = [cat(along[0, j][0], up[length - 1, j][0]) for j in range(target)]
        return {"next": read_out(p, "next", np.stack(read, axis=1))}

    prove(text, {"words": ids(9, 4), "before": ids(9, 3)}, equations, lowering)


def test_the_reencoders_wavefronts_are_its_longest_paths() -> None:
    """A cell waits for its neighbours on the side from which each transform comes at that depth, and for nothing else."""
    source, target, depth = 5, 4, 4
    levels = levels_of(small("reencoder", dimensions__depth=depth), S=source, T=target)
    longest: dict[tuple[int, int, int], int] = {}
    for d in range(depth):
        step = (1, -1)[d % 2]
        for t in range(target):
            for s in range(source)[::step]:
                waits = [(s - step, t, d), (s, t - 1, d), (s, t, d - 1)]
                longest[s, t, d] = 1 + max((longest[w] for w in waits if w in longest), default=-1)
    for (_, cell), level in levels.items():
        assert level == longest[cell]
    # Turning round at every depth costs a whole reading of the source: the grid of one direction has fewer wavefronts.
    assert max(longest.values()) + 1 > source + target + depth - 2


# -- PyTorch's modules, weights copied --------------------------------------------------------------------------------

TORCH = [0, 1, 3, 2]
"""PyTorch's gates i f g o, as indices of ours u f o c."""


def gates(w: Array, order: list[int], hidden: int) -> Array:
    """Rows × our gates as PyTorch's gates × rows."""
    return np.concatenate([w[..., k * hidden : (k + 1) * hidden] for k in order], axis=-1).T


def compared(grid: gridc.Grid, x: Array, y: Array, module: Any, pairs: Mapping[str, Array], lengths: Array | None = None) -> Any:
    """Copies weights into a PyTorch module, runs both, compares outputs; returns torch's gradients and the grid's."""
    torch = pytest.importorskip("torch")
    module = module.double()
    with torch.no_grad():
        for name, array in pairs.items():
            getattr(module, name).copy_(torch.tensor(np.ascontiguousarray(array)))
    given = torch.tensor(x)
    if lengths is None:
        found, _ = module(given)
    else:
        packed = torch.nn.utils.rnn.pack_padded_sequence(given, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
        found, _ = torch.nn.utils.rnn.pad_packed_sequence(module(packed)[0], batch_first=True)
    ours = grid.predict({"x": x}, None if lengths is None else {"T": lengths})["y"]
    np.testing.assert_allclose(ours, found.detach().numpy(), rtol=1e-9, atol=1e-12)
    inside = torch.arange(x.shape[1])[None] < torch.tensor([x.shape[1]] * len(x) if lengths is None else lengths)[:, None]
    loss = ((found - torch.tensor(y)) ** 2).mean(dim=-1)[inside].mean()
    loss.backward()
    mine, gradients, _ = grid.loss_and_gradients({"x": x}, {"y": y}, None if lengths is None else {"T": lengths})
    assert mine == pytest.approx(loss.item(), rel=1e-10)
    return {name: getattr(module, name).grad.numpy() for name in pairs}, gradients


def same(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> None:
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, rtol=1e-6, atol=1e-9, err_msg=name)


def with_raw_output(name: str, reads: list[str], inputs: list[str], **changes: Any) -> str:
    """A spec with real vectors of 3 joined in and its vectors themselves as output."""
    page = {"inputs": {"x": {"features": 3, "joins": inputs}}, "outputs": {"y": {"raw": True, "reads": reads}}}
    if "depth" in gridc.read(SPECS / f"{name}.yaml").names(range(2)):
        page["inputs"]["x"]["at"] = {"depth": "first"}
        page["outputs"]["y"]["at"] = {"depth": "last"}
    return small(name, hidden=4, inputs=page["inputs"], outputs=page["outputs"], **changes)


@both
def test_stacked_lstm_is_pytorchs(lowering: Any) -> None:
    torch = pytest.importorskip("torch")
    grid = gridc.compile(with_raw_output("stacked-lstm", ["time"], ["time"]), lowering=lowering, dtype="float64")
    p = drawn(grid, np.random.default_rng(2))

    def named(w: Array, b: Array) -> dict[str, Array]:
        """Rows of each level: time's own, the level's below, x."""
        return {
            "weight_hh_l0": gates(w[0, :4], TORCH, 4), "weight_ih_l0": gates(w[0, 8:], TORCH, 4),
            "weight_hh_l1": gates(w[1, :4], TORCH, 4), "weight_ih_l1": gates(w[1, 4:8], TORCH, 4),
            "bias_ih_l0": gates(b[0], TORCH, 4), "bias_ih_l1": gates(b[1], TORCH, 4),
        }  # fmt: skip

    zeros = {f"bias_hh_l{k}": np.zeros(16) for k in range(2)}
    module = torch.nn.LSTM(3, 4, num_layers=2, batch_first=True)
    theirs, ours = compared(grid, floats(T, 3), floats(T, 4), module, {**named(p["time.W"], p["time.b"]), **zeros})
    mine = named(ours["time.W"], ours["time.b"])
    same(mine, {name: array for name, array in theirs.items() if name in mine})
    # What no level has: the first one nothing below it, the second no x.
    assert not ours["time.W"][0, 4:8].any()
    assert not ours["time.W"][1, 8:].any()


@both
@pytest.mark.parametrize("ragged", [False, True])
def test_bidirectional_stacked_lstm_is_pytorchs(lowering: Any, ragged: bool) -> None:
    torch = pytest.importorskip("torch")
    text = with_raw_output("bidirectional", ["forth", "back"], ["forth", "back"])
    grid = gridc.compile(text, lowering=lowering, dtype="float64")
    p = drawn(grid, np.random.default_rng(2))

    def named(p: Mapping[str, Array]) -> dict[str, Array]:
        """Rows of each level: forth below, back below, its own, x."""
        result = {}
        for name, tail in (("forth", ""), ("back", "_reverse")):
            w, b = p[f"{name}.W"], p[f"{name}.b"]
            result |= {f"weight_hh_l{k}{tail}": gates(w[k, 8:12], TORCH, 4) for k in range(2)}
            result |= {f"bias_ih_l{k}{tail}": gates(b[k], TORCH, 4) for k in range(2)}
            result[f"weight_ih_l0{tail}"] = gates(w[0, 12:], TORCH, 4)
            result[f"weight_ih_l1{tail}"] = gates(w[1, :8], TORCH, 4)
        return result

    zeros = {f"bias_hh_l{k}{tail}": np.zeros(16) for k in range(2) for tail in ("", "_reverse")}
    module = torch.nn.LSTM(3, 4, num_layers=2, batch_first=True, bidirectional=True)
    lengths = np.array([5, 2, 4]) if ragged else None
    theirs, ours = compared(grid, floats(T, 3), floats(T, 8), module, {**named(p), **zeros}, lengths)
    mine = named(ours)
    same(mine, {name: array for name, array in theirs.items() if name in mine})


ONE = """
name: one
dimensions: {time: T}
transforms:
  time: {cell: CELL, hidden: 4}
inputs:
  x: {features: 3, joins: [time]}
outputs:
  y: {raw: true, reads: [time]}
"""


@both
def test_gru_is_pytorchs(lowering: Any) -> None:
    torch = pytest.importorskip("torch")
    grid = gridc.compile(ONE.replace("CELL", "gru"), lowering=lowering, dtype="float64")
    p = drawn(grid, np.random.default_rng(2))

    def named(w: Array, b: Array) -> dict[str, Array]:
        """PyTorch's r z n are our r v and, in n, c for what comes in and s for what it was."""
        n, s = slice(8, 12), slice(12, 16)
        return {
            "weight_ih_l0": cat(w[4:, :8], w[4:, n]).T, "weight_hh_l0": cat(w[:4, :8], w[:4, s]).T,
            "bias_ih_l0": cat(b[:8], b[n]), "bias_hh_l0": cat(np.zeros(8), b[s]),
        }  # fmt: skip

    module = torch.nn.GRU(3, 4, batch_first=True)
    theirs, ours = compared(grid, floats(T, 3), floats(T, 4), module, named(p["time.W"], p["time.b"]))
    mine = named(ours["time.W"], ours["time.b"])
    theirs["bias_hh_l0"][:8] = 0
    same(mine, theirs)


@fused
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_rnn_is_pytorchs(lowering: Any, activation: str) -> None:
    torch = pytest.importorskip("torch")
    grid = gridc.compile(ONE.replace("CELL", f"dense, activation: {activation}"), lowering=lowering, dtype="float64")
    p = drawn(grid, np.random.default_rng(2))
    module = torch.nn.RNN(3, 4, batch_first=True, nonlinearity=activation)

    def named(w: Array, b: Array) -> dict[str, Array]:
        return {"weight_hh_l0": w[:4].T, "weight_ih_l0": w[4:].T, "bias_ih_l0": b}

    pairs = {**named(p["time.W"], p["time.b"]), "bias_hh_l0": np.zeros(4)}
    theirs, ours = compared(grid, floats(T, 3), floats(T, 4), module, pairs)
    theirs.pop("bias_hh_l0")
    same(named(ours["time.W"], ours["time.b"]), theirs)


# -- what every spec file owes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_spec_is_a_page_that_says_what_it_is(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    assert all(line.startswith("# ") for line in lines[:2])
    assert lines[2] == "# yaml-language-server: $schema=gridc.schema.json"
    assert not lines[3].startswith("#")
    spec = gridc.read(path)
    assert spec.name == path.stem
