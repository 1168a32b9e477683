"""Weights in and out of ``torch.nn.LSTM``, for specs that are a stacked LSTM.

A spec is one where an ``lstm`` travels forward, with weights of its own at every level of another dimension along which a
``pass`` hands its new vector up, and one input joins its first level (``specs/stacked-lstm.yaml``); or, for one layer, an
``lstm`` alone.  Gates are u f o c here and i f g o there; PyTorch has two biases, of which we are the sum.
"""

# PyTorch's types are partly unknown, and it is no dependency.
# pyright: basic, reportMissingImports=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gridc.errors import UsageError
from gridc.language.spec import GridSpec

if TYPE_CHECKING:
    from gridc.grid import Grid

GATES = (0, 1, 3, 2)
"""Our gates u f o c, as the indices of PyTorch's i f g o; and the other way round."""
PAGE = """\
name: stacked-lstm
dimensions: {{time: T, depth: {layers}}}
transforms:
  time: {{cell: lstm, hidden: {hidden}, tied: [time], bias: {bias}}}
  depth: {{cell: pass, reads: [time]}}
priority: [time, depth]
inputs:
  x: {{features: {features}, joins: [time], at: {{depth: first}}}}
outputs:
  y: {{raw: true, reads: [time], at: {{depth: last}}}}
"""


class Stack(NamedTuple):
    """Where a stacked LSTM lies in a spec: its transform, its number of layers, and the rows of ``W`` by what they multiply;
    ``below`` is None where there is one layer and nothing below it."""

    transform: str
    layers: int
    features: int
    own: slice
    below: slice | None
    joined: slice


def stack(spec: GridSpec) -> Stack:
    """Find the stacked LSTM that a spec is; UsageError where it is none."""
    no = f"'{spec.name}' is not a stacked LSTM as torch.nn.LSTM has it: "
    lstms = [t for t in spec.transforms.values() if not t.mechanism.relays]
    passes = [t for t in spec.transforms.values() if t.mechanism.relays]
    if len(lstms) != 1 or lstms[0].cell != "lstm" or len(lstms[0].along) != 1:
        raise UsageError(f"{no}expected one transform with an lstm cell along one dimension, and at most a pass beside it")
    t = lstms[0]
    if len(passes) > 1 or len(spec.dimensions) != 1 + len(passes):
        raise UsageError(
            f"{no}expected the dimension of '{t.name}', and for more than one layer another one with a pass along it"
        )
    if t.options.peepholes or set(t.direction[0].cycle) != {1} or t.start != "zeros" or t.zoneout:
        raise UsageError(f"{no}'{t.name}' has peepholes, zoneout, another direction or another start")
    joins = spec.joined(t.name)
    if len(spec.inputs) != 1 or len(joins) != 1 or joins[0].enters is not None:
        raise UsageError(f"{no}expected one input, joining '{t.name}' and entering nothing")
    layers, level = 1, None
    if passes:
        up = passes[0]
        level = up.along[0]
        layers = int(spec.dimensions[level].size) if level in t.untied else 0  # untied along it, so its size is a number
        zero = (0,) * len(spec.dimensions)
        hands_up = up.reads[0].of == t.name and up.reads[0].via is None and up.reads[0].offset == zero
        forward = set(up.direction[0].cycle) == {1} and up.start == "zeros"
        if level == t.along[0] or not hands_up or not forward or t.untied != (level,) or joins[0].at[level] != "first":
            raise UsageError(f"{no}expected a pass that hands '{t.name}' up a dimension, weights of its own at every level, and "
                             "an input that joins the first")  # fmt: skip
    own = below = None
    row = 0
    for read in t.reads:
        rows = slice(row, row + spec.transforms[read.of].hidden)
        row = rows.stop
        back = tuple(-1 if d == t.along[0] else 0 for d in range(len(spec.dimensions)))
        down = tuple(-1 if d == level else 0 for d in range(len(spec.dimensions)))
        steps = tuple(o - (d == read.via) for d, o in enumerate(read.offset))
        if read.of == t.name and steps == back and own is None:
            own = rows
        elif level is not None and steps == down and below is None:  # the vector below, directly or as the pass handed it on
            below = rows
        else:
            raise UsageError(f"{no}'{t.name}' reads more than its own vector and the one below")
    if own is None or (below is None) != (level is None):
        raise UsageError(f"{no}'{t.name}' does not read its own vector{' and the one below' if passes else ''}")
    return Stack(t.name, layers, joins[0].width, own, below, slice(row, row + joins[0].width))


def load_torch(grid: Grid, module: Any) -> None:
    """Take the weights of a ``torch.nn.LSTM`` into a grid whose spec is the same stack.  Raises UsageError where it is not."""
    s, w = stack(grid.spec), dict(module.named_parameters())
    theirs = _described(module)
    mine = (s.features, grid.spec.transforms[s.transform].hidden, s.layers)
    if theirs != mine:
        raise UsageError("the module has {} features, {} units and {} layers; the spec has {}, {} and {}".format(*theirs, *mine))
    has_bias = grid.spec.transforms[s.transform].bias
    if module.bias and not has_bias:
        raise UsageError(f"the module has biases; transform '{s.transform}' has 'bias: false'")
    W, b = grid.parameters[f"{s.transform}.W"], grid.parameters.get(f"{s.transform}.b")
    for k in range(s.layers):
        level = W[k] if s.below is not None else W
        level[...] = 0
        level[s.own] = _ours(w[f"weight_hh_l{k}"])
        level[s.joined if k == 0 else s.below] = _ours(w[f"weight_ih_l{k}"])
        if b is not None:
            into = b[k] if s.below is not None else b
            into[...] = _ours(w[f"bias_ih_l{k}"] + w[f"bias_hh_l{k}"]) if module.bias else 0


def from_torch(module: Any, **options: Any) -> Grid:
    """Make a grid with the weights of a ``torch.nn.LSTM``: input ``x`` ``[batch, time, features]``, output ``y``, the last
    layer's vectors.  The options are those of ``gridc.compile``; the dtype is the module's where none is given."""
    from gridc.compiler import compile

    features, hidden, layers = _described(module)
    options.setdefault("dtype", str(next(module.parameters()).dtype).removeprefix("torch."))
    page = PAGE.format(features=features, hidden=hidden, layers=layers, bias=str(module.bias).lower())
    grid = compile(page, **options)
    load_torch(grid, module)
    return grid


def to_torch(grid: Grid) -> Any:
    """Make a ``torch.nn.LSTM`` (batch first) with a grid's weights; ids of a vocabulary go in as one-hot vectors, or embedded.

    Raises UsageError where the spec is no stacked LSTM."""
    import torch

    s = stack(grid.spec)
    t = grid.spec.transforms[s.transform]
    dtype = getattr(torch, grid.dtype)
    module = torch.nn.LSTM(s.features, t.hidden, s.layers, bias=t.bias, batch_first=True, dtype=dtype)
    W, b = grid.parameters[f"{s.transform}.W"], grid.parameters.get(f"{s.transform}.b")
    with torch.no_grad():
        for k in range(s.layers):
            level = W[k] if s.below is not None else W
            getattr(module, f"weight_hh_l{k}").copy_(_theirs(level[s.own], torch))
            getattr(module, f"weight_ih_l{k}").copy_(_theirs(level[s.joined if k == 0 else s.below], torch))
            if b is not None:
                getattr(module, f"bias_ih_l{k}").copy_(_theirs(b[k] if s.below is not None else b, torch))
                getattr(module, f"bias_hh_l{k}").zero_()
    return module


def _described(module: Any) -> tuple[int, int, int]:
    """Features, units and layers; UsageError for what a stacked LSTM of ours does not have."""
    if type(module).__name__ != "LSTM" or not hasattr(module, "num_layers"):
        raise UsageError(f"found {type(module).__name__}; expected a torch.nn.LSTM")
    if module.bidirectional or module.proj_size:
        raise UsageError("the module is bidirectional or projects its output; expected a forward torch.nn.LSTM without proj_size")
    return module.input_size, module.hidden_size, module.num_layers


def _ours(weight: Any) -> np.ndarray:
    """``[gates × hidden, rows]`` in their order of gates, as ``[rows, gates × hidden]`` in ours; a bias without rows."""
    array = weight.detach().cpu().numpy()
    return np.concatenate([np.split(array, 4)[g] for g in GATES]).T


def _theirs(weight: np.ndarray, torch: Any) -> Any:
    parts = np.split(weight, 4, axis=-1)
    return torch.tensor(np.ascontiguousarray(np.concatenate([parts[g] for g in GATES], axis=-1).T))
