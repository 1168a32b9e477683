"""PyTorch's ways to do a case: the cell loop, the hand-written wavefront, ``nn.LSTM``."""

# PyTorch is in the environment of the benchmark alone.
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from gridc.benchmarks.cases import RATE, Array, Case, Contestant
from gridc.benchmarks.figures import IN_TORCH
from gridc.torch import GridModule

Parameters = dict[str, Any]


def contestants(case: Case, parameters: dict[str, Array], compiled: bool = False) -> list[Callable[[], Contestant]]:
    """List what PyTorch can do with a case, each made when it is called."""
    ways: dict[str, Callable[..., Any]] = {}
    if case.kind == "stacked":
        return [lambda: _layered(case, parameters), lambda: _ours(case, parameters)]
    ways["torch eager"] = _LOOPS[case.kind]
    if case.kind != "depth":
        ways["torch wavefront"] = _diagonals if case.kind == "grid" else _wavefronts
    if compiled:
        ways["torch.compile"] = torch.compile(ways.get("torch wavefront", ways["torch eager"]), dynamic=False)
    made = [lambda name=name, way=way: _contestant(name, case, parameters, way) for name, way in ways.items()]
    return [*made[:-1], lambda: _ours(case, parameters), made[-1]] if compiled else [*made, lambda: _ours(case, parameters)]


def _contestant(name: str, case: Case, parameters: dict[str, Array], way: Callable[..., Any]) -> Contestant:
    x, y = (torch.from_numpy(a) for a in case.data())
    own = {n: torch.from_numpy(a.copy()).requires_grad_() for n, a in parameters.items()}
    leaves = list(own.values())

    def predict() -> Any:
        return way(case, own, x) @ own["y.W"] + own["y.b"]

    def both() -> tuple[Any, Any]:
        loss = functional.cross_entropy(predict(), y)
        return loss, torch.autograd.grad(loss, leaves, allow_unused=True)

    def gradients() -> tuple[float, dict[str, Array]]:
        loss, slopes = both()
        return loss.item(), {n: s.numpy() for n, s in zip(own, slopes, strict=True) if s is not None}

    def step() -> None:
        _, slopes = both()
        with torch.no_grad():
            used = [(p, s) for p, s in zip(leaves, slopes, strict=True) if s is not None]
            torch._foreach_add_(  # pyright: ignore[reportPrivateImportUsage]  # what its own optimisers call
                [p for p, _ in used], [s for _, s in used], alpha=-RATE)

    def forward() -> None:
        with torch.inference_mode():
            functional.softmax(predict(), 1)

    return Contestant(name, step, gradients, forward)


def _ours(case: Case, parameters: dict[str, Array]) -> Contestant:
    """PyTorch's own loop of training, with a GridModule for its network."""
    x, y = (torch.from_numpy(a) for a in case.data())
    module = GridModule(case.read(), dtype=x.dtype)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in parameters.items()})
    sgd = torch.optim.SGD(module.parameters(), lr=RATE, foreach=True)

    def both() -> Any:
        sgd.zero_grad()
        loss = functional.cross_entropy(module(x=x)["y"], y)
        loss.backward()
        return loss

    def step() -> None:
        both()
        sgd.step()

    def gradients() -> tuple[float, dict[str, Array]]:
        loss = both()
        return loss.item(), {name: np.asarray(p.grad) for name, p in module.named_parameters()}

    def forward() -> None:
        with torch.inference_mode():
            functional.softmax(module(x=x)["y"], 1)

    return Contestant(IN_TORCH, step, gradients, forward)


def _cell(a: Any, *m: Any) -> tuple[Any, Any]:
    """Apply the LSTM's rule, with a forget gate for each entering memory."""
    n = len(m)
    u, *rest = torch.sigmoid(a[..., : a.shape[-1] * (n + 2) // (n + 3)]).chunk(n + 2, -1)
    c = torch.tanh(a[..., a.shape[-1] * (n + 2) // (n + 3) :])
    new = u * c
    for f, memory in zip(rest, m, strict=False):
        new = new + f * memory
    return rest[-1] * torch.tanh(new), new


def _enter(p: Parameters, x: Any) -> tuple[Any, Any]:
    hidden = x @ p["x.hidden.W"] + p["x.hidden.b"]
    return hidden, (x @ p["x.memory.W"] + p["x.memory.b"] if "x.memory.W" in p else None)


def _linear(w: Any, b: Any, z: Any) -> Any:
    """``[cells, batch, rows]`` times one weight, or one for each cell."""
    if w.ndim == 3:
        return torch.baddbmm(b[:, None], z, w)
    return torch.addmm(b, z.reshape(-1, z.shape[-1]), w).view(*z.shape[:-1], -1)


def _untied(p: Parameters, name: str, case: Case, where: slice) -> tuple[Any, Any]:
    w, b = p[f"{name}.W"], p[f"{name}.b"]
    return (w[where], b[where]) if case.untied else (w, b)


def _levels(p: Parameters, name: str, case: Case) -> list[tuple[Any, Any]]:
    """Each level's weights; unbound, so that their gradients are stacked once and not padded to all levels each."""
    w, b = p[f"{name}.W"], p[f"{name}.b"]
    return list(zip(w.unbind(), b.unbind(), strict=True)) if case.untied else [(w, b)] * case.sizes[-1]


def _grid_loop(case: Case, p: Parameters, x: Any) -> Any:
    steps, depth = case.sizes
    hidden, memory = _enter(p, x)
    zero = x.new_zeros(case.batch, case.hidden)
    weights = list(zip(_levels(p, "time", case), _levels(p, "depth", case), strict=True))
    states = [(zero, zero)] * depth
    hd = zero
    for t in range(steps):
        hd, md = hidden[:, t], memory[:, t]
        for d in range(depth):
            (wt, bt), (wd, bd) = weights[d]
            ht, mt = states[d]
            ht, mt = states[d] = _cell(torch.addmm(bt, torch.cat([ht, hd], 1), wt), mt)
            hd, md = _cell(torch.addmm(bd, torch.cat([ht, hd], 1), wd), md)
    return hd


def _depth_loop(case: Case, p: Parameters, x: Any) -> Any:
    h, m = _enter(p, x)
    for w, b in _levels(p, "depth", case):
        h, m = _cell(torch.addmm(b, h, w), m)
    return h


def _cube_loop(case: Case, p: Parameters, x: Any) -> Any:
    names = ("rows", "columns", "depth")
    w, b = (torch.cat([p[f"{name}.{letter}"] for name in names], -1) for letter in "Wb")
    hidden, memory = _enter(p, x)
    zero = x.new_zeros(case.batch, case.hidden)
    states: dict[Any, Any] = {}
    new: list[Any] = []
    for at in itertools.product(*map(range, case.sizes)):
        entering = []
        for k in range(3):
            before = (*at[:k], at[k] - 1, *at[k + 1 :])
            start = (hidden[:, at[0], at[1]], memory[:, at[0], at[1]]) if k == 2 else (zero, zero)
            entering.append(states[before][k] if at[k] else start)
        a = torch.addmm(b, torch.cat([h for h, _ in entering], 1), w).chunk(3, 1)
        new = states[at] = [_cell(part, m) for part, (_, m) in zip(a, entering, strict=True)]
    return torch.cat([h for h, _ in new], 1)


def _plane_loop(case: Case, p: Parameters, x: Any) -> Any:
    zero = x.new_zeros(case.batch, case.hidden)
    states: dict[Any, Any] = {}
    new = (zero, zero)
    for i, j in itertools.product(*map(range, case.sizes)):
        (h0, m0), (h1, m1) = states.get((i - 1, j), (zero, zero)), states.get((i, j - 1), (zero, zero))
        a = torch.addmm(p["plane.b"], torch.cat([h0, h1, x[:, i, j]], 1), p["plane.W"])
        new = states[i, j] = _cell(a, m0, m1)
    return new[0]


_LOOPS = {"grid": _grid_loop, "depth": _depth_loop, "cube": _cube_loop, "plane": _plane_loop}


def _diagonals(case: Case, p: Parameters, x: Any) -> Any:
    """Run a grid of time × depth by wavefronts of cells, with slices."""
    steps, depth = case.sizes
    hidden, memory = (v.transpose(0, 1) for v in _enter(p, x))
    zero = x.new_zeros(1, case.batch, case.hidden)
    ht = mt = hd = md = zero[:0]
    low = 0
    for s in range(steps + depth - 1):
        before, low, high = low, max(0, s - steps + 1), min(depth, s + 1)
        time = slice(low - before, high - before)
        if s < depth:
            ht, mt = torch.cat([ht, zero]), torch.cat([mt, zero])
        if s < steps:
            hd, md = torch.cat([hidden[s : s + 1], hd]), torch.cat([memory[s : s + 1], md])
        below = slice(low - before, high - before) if s < steps else slice(low - before - 1, high - before - 1)
        ht, mt, hd, md = ht[time], mt[time], hd[below], md[below]
        ht, mt = _cell(_linear(*_untied(p, "time", case, slice(low, high)), torch.cat([ht, hd], 2)), mt)
        hd, md = _cell(_linear(*_untied(p, "depth", case, slice(low, high)), torch.cat([ht, hd], 2)), md)
    return hd[-1]


def _wavefronts(case: Case, p: Parameters, x: Any) -> Any:
    """Any uniform grid without priority by wavefronts of cells, with gathers."""
    sizes, plane = case.sizes, case.kind == "plane"
    names = ("plane",) * 2 if plane else ("rows", "columns", "depth")
    w, b = (torch.cat([p[f"{n}.{letter}"] for n in dict.fromkeys(names)], -1) for letter in "Wb")
    x = x.movedim(0, -2)
    hidden, memory = (x, x) if plane else _enter(p, x)
    zero = x.new_zeros(1, case.batch, case.hidden)
    state: list[Any] = [(zero[:0], zero[:0])] * len(names)
    for cells, found in _indices(sizes):
        entering = []
        for k, index in enumerate(found):
            h, m = torch.cat([state[k][0], zero]), torch.cat([state[k][1], zero])
            entering.append((h[index], m[index]))
        if plane:
            own = torch.cat([*(h for h, _ in entering), x[cells[:, 0], cells[:, 1]]], 2)
            state = [_cell(_linear(w, b, own), *(m for _, m in entering))] * 2
        else:
            bottom = cells[:, 2] == 0
            if bottom.any():
                at, first = torch.nonzero(bottom)[:, 0], cells[bottom]
                h, m = entering[2]
                entering[2] = (h.index_copy(0, at, hidden[first[:, 0], first[:, 1]]),
                               m.index_copy(0, at, memory[first[:, 0], first[:, 1]]))  # fmt: skip
            a = _linear(w, b, torch.cat([h for h, _ in entering], 2)).chunk(3, -1)
            state = [_cell(part, m) for part, (_, m) in zip(a, entering, strict=True)]
    return state[0][0][-1] if plane else torch.cat([h[-1] for h, _ in state], 1)


_known: dict[tuple[int, ...], list[tuple[Any, list[Any]]]] = {}


def _indices(sizes: tuple[int, ...]) -> list[tuple[Any, list[Any]]]:
    """For each wavefront its cells, and where each dimension finds what enters in the wavefront before: -1 at the edge."""
    if sizes not in _known:
        cells = np.stack([*np.indices(sizes)], -1).reshape(-1, len(sizes))
        found: list[tuple[Any, list[Any]]] = []
        before: dict[tuple[int, ...], int] = {}
        for s in range(sum(sizes) - len(sizes) + 1):
            here = cells[cells.sum(1) == s]
            index = [[before.get(tuple(at - np.eye(len(sizes), dtype=int)[k]), -1) for at in here] for k in range(len(sizes))]
            index = [torch.tensor([i if i >= 0 else len(before) for i in column]) for column in index]
            found.append((torch.from_numpy(here), index))
            before = {tuple(at): i for i, at in enumerate(here)}
        _known[sizes] = found
    return _known[sizes]


def _layered(case: Case, parameters: dict[str, Array]) -> Contestant:
    """``nn.LSTM`` with gridc's numbers in its own parameters; its gates are i f g o where ours are u f o c."""
    x, y = (torch.from_numpy(a) for a in case.data())
    n, depth = case.hidden, case.sizes[1]
    lstm = torch.nn.LSTM(n, n, depth, dtype=x.dtype)
    own = {name: torch.nn.Parameter(torch.from_numpy(a.copy())) for name, a in parameters.items() if name[0] in "xy"}

    def exchanged(a: Any) -> Any:
        one, two, three, four = a.split(n)
        return torch.cat([one, two, four, three])

    with torch.no_grad():
        for d in range(depth):
            w = exchanged(torch.from_numpy(parameters["time.W"][d]).T)
            getattr(lstm, f"weight_hh_l{d}").copy_(w[:, :n])
            getattr(lstm, f"weight_ih_l{d}").copy_(w[:, n:])
            getattr(lstm, f"bias_ih_l{d}").copy_(exchanged(torch.from_numpy(parameters["time.b"][d])))
            getattr(lstm, f"bias_hh_l{d}").zero_()
    sgd = torch.optim.SGD([*lstm.parameters(), *own.values()], lr=RATE, foreach=True)

    def predict() -> Any:
        hidden, _ = _enter(own, x.transpose(0, 1))
        return lstm(hidden)[0][-1] @ own["y.W"] + own["y.b"]

    def step() -> Any:
        sgd.zero_grad()
        loss = functional.cross_entropy(predict(), y)
        loss.backward()
        sgd.step()
        return loss

    def gradients() -> tuple[float, dict[str, Array]]:
        sgd.zero_grad()
        loss = functional.cross_entropy(predict(), y)
        loss.backward()
        found = {name: np.asarray(p.grad) for name, p in own.items()}
        w = [torch.cat([getattr(lstm, f"weight_{k}_l{d}").grad for k in ("hh", "ih")], 1) for d in range(depth)]
        found["time.W"] = np.stack([exchanged(part).T.numpy() for part in w])
        found["time.b"] = np.stack([exchanged(getattr(lstm, f"bias_ih_l{d}").grad).numpy() for d in range(depth)])
        return loss.item(), found

    def forward() -> None:
        with torch.inference_mode():
            functional.softmax(predict(), 1)

    return Contestant("torch nn.LSTM", step, gradients, forward)
