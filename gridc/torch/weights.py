"""Whole models to and from PyTorch: an embedding, layers of LSTM or GRU in one direction or two, a linear read-out.

What is a layer is said by ``gridc.language.layers``.  An LSTM's gates are u f o c here and i f g o there; a GRU's are r v c s
here and r z n there, where n is c and s (PyTorch's GRU resets after the product, as ours does).  PyTorch has two biases, of which
an LSTM of ours has the sum.
"""

# PyTorch's types are partly unknown, and it is no dependency.
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import itertools
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from gridc.compiler import compile
from gridc.errors import UsageError
from gridc.grid import Grid
from gridc.language.layers import Layer, Layers, Place, layers
from gridc.torch.reading import Model, read

Kind = Literal["features", "classes", "binary"]
ORDER = {"lstm": (0, 1, 3, 2), "gru": (0, 1, 2)}
"""Their gates, as indices of ours, and the other way round."""
RECURRENT = {"lstm": nn.LSTM, "gru": nn.GRU}


def from_torch(module: nn.Module, output: Kind = "features", at: Literal["all", "last"] | None = None, **options: Any) -> Grid:
    """Make a grid with the same numbers and outputs as a PyTorch model of Embedding, LSTM or GRU, and Linear, in this order.

    The grid's input is ``x``, ``[batch, time, features]`` or ids ``[batch, time]``, its output ``y``: what Linear gives, or with
    ``output="classes"`` or ``"binary"`` probabilities made of that; without Linear the last layer's vectors.  They are read
    ``at`` all steps or the last of each direction; where nothing is said the module is tried, and whatever its own ``forward``
    reads is taken.  Options are those of ``gridc.compile``; the dtype is the module's where none is given.  Dropout between
    recurrent layers becomes the spec's, one mask a sequence; a warning names any other, which a grid has no place for.
    Raises UsageError for a module with other parts, or whose ``forward`` does something else with them."""
    model = read(module)
    last = model.reads(module) if at is None else at == "last"
    options.setdefault("dtype", str(next(module.parameters()).dtype).removeprefix("torch."))
    grid = compile(model.page(output, last), **options)
    _take(grid, model)
    return grid


def load_torch(grid: Grid, module: nn.Module) -> None:
    """Take the weights of a PyTorch model into a grid whose spec is the same layers; of an LSTM or a GRU alone the layers'.

    Raises UsageError where it is not."""
    _take(grid, read(module))


def to_torch(grid: Grid) -> nn.Module:
    """Make a PyTorch model (batch first) with a grid's numbers: an LSTM or a GRU where the spec is just that, else a ``Network``.

    Raises UsageError where the spec is not made of such layers."""
    found, numbers = layers(grid.spec), grid.parameters
    x, o = found.input, found.output
    dtype = getattr(torch, grid.dtype)
    parts: list[nn.Module] = []
    inputs = x.width
    for group in _grouped(found.layers):
        first, ways = group[0], len(group[0].places)
        made = RECURRENT[first.cell](
            inputs, first.hidden, len(group), bias=first.bias, batch_first=True, bidirectional=ways == 2, dtype=dtype,
            dropout=first.dropout if len(group) > 1 else 0.0)  # fmt: skip
        with torch.no_grad():
            for k, layer in enumerate(group):
                for place, tail in zip(layer.places, ("", "_reverse"), strict=False):
                    for name, array in _theirs(grid, layer, place).items():
                        getattr(made, f"{name}_l{k}{tail}").copy_(torch.from_numpy(np.ascontiguousarray(array)))
        parts.append(made)
        if group[-1].dropout and group[-1] is not found.layers[-1]:
            parts.append(nn.Dropout(group[-1].dropout))
        inputs = ways * first.hidden
    if x.kind == "features" and o.kind == "raw" and not found.last and len(parts) == 1:
        return parts[0]
    embedding = None
    if x.kind == "vocabulary":
        table = np.eye(x.size, dtype=grid.dtype) if x.embed is None else numbers[f"{x.name}.embed"]
        embedding = nn.Embedding.from_pretrained(torch.from_numpy(np.array(table)), freeze=x.embed is None)
    linear = None
    if o.kind != "raw":
        linear = nn.Linear(inputs, o.size, dtype=dtype)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(numbers[f"{o.name}.W"]).T)
            linear.bias.copy_(torch.from_numpy(numbers[f"{o.name}.b"]))
    return Network(embedding, parts, linear, found.last)


class Network(nn.Module):
    """Embedding, recurrent layers and a linear read-out, in PyTorch alone; what it gives are logits.

    ``forward(x, lengths=None)`` takes ``[batch, time, features]`` or ids ``[batch, time]``, and one length for each example;
    where it reads the last steps, they are the last of each direction."""

    def __init__(self, embedding: nn.Module | None, layers: list[nn.Module], linear: nn.Module | None, last: bool):
        super().__init__()
        self.embedding, self.layers, self.linear, self.last = embedding, nn.ModuleList(layers), linear, last

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute ``[batch, time, size]``, or ``[batch, size]`` where the last steps are read."""
        x = x if self.embedding is None else self.embedding(x)
        state: Any = None
        for layer in self.layers:
            if not isinstance(layer, nn.RNNBase):
                x = layer(x)
            elif lengths is None:
                x, state = layer(x)
            else:
                packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
                found, state = layer(packed)
                x, _ = nn.utils.rnn.pad_packed_sequence(found, batch_first=True, total_length=x.shape[1])
        if self.last:
            hidden = state[0] if isinstance(state, tuple) else state
            ways = 2 if self.layers[-1].bidirectional else 1
            x = torch.cat(list(hidden[-ways:]), dim=-1)
        return x if self.linear is None else self.linear(x)


def _grouped(found: tuple[Layer, ...]) -> list[list[Layer]]:
    """Group layers that one module of PyTorch's can be: alike but for the dropout after the last."""
    groups: list[list[Layer]] = []
    for _, run in itertools.groupby(found, lambda layer: (layer.cell, layer.hidden, layer.bias, len(layer.places))):
        own = list(run)
        alike = len({layer.dropout for layer in own[:-1]}) < 2
        groups += [own] if alike else [[layer] for layer in own]
    return groups


def _take(grid: Grid, model: Model) -> None:
    """Copy a model's numbers into a grid."""
    found = layers(grid.spec)
    _compare(found, model)
    numbers = grid.parameters
    for layer, theirs in zip(found.layers, model.layers, strict=True):
        for place, weights in zip(layer.places, theirs.weights(), strict=True):
            _put(grid, layer, place, {name: tensor.detach().cpu().numpy() for name, tensor in weights.items()})
    x, o = found.input, found.output
    if model.embedding is not None:
        numbers[f"{x.name}.embed"] = model.embedding.weight.detach().cpu().numpy()
    if model.linear is not None:
        numbers[f"{o.name}.W"] = model.linear.weight.detach().cpu().numpy().T
        bias = model.linear.bias
        numbers[f"{o.name}.b"] = np.zeros(o.size) if bias is None else bias.detach().cpu().numpy()


def _compare(found: Layers, model: Model) -> None:
    """Raise UsageError where a spec's layers are not a model's."""
    mine = [(layer.cell, layer.hidden, len(layer.places)) for layer in found.layers]
    theirs = [(layer.cell, layer.hidden, layer.ways) for layer in model.layers]
    if mine != theirs or found.input.width != model.features:
        def told(features: int, rows: list[tuple[str, int, int]]) -> str:
            return f"{features} features, " + ", ".join(f"{h} units of {c}{' both ways' * (n == 2)}" for c, h, n in rows)

        raise UsageError(f"the module has {told(model.features, theirs)}; the spec has {told(found.input.width, mine)}")
    for layer, own in zip(found.layers, model.layers, strict=True):
        if own.module.bias and not layer.bias:
            raise UsageError(f"the module has biases; transform '{layer.places[0].transform}' has 'bias: false'")
    if model.embedding is not None and (found.input.size, found.input.embed) != tuple(model.embedding.weight.shape):
        raise UsageError(f"the module embeds {model.embedding.num_embeddings} ids; the spec's '{found.input.name}' has "
                         f"{found.input.size} and {'no embedding' if found.input.embed is None else 'an embedding'}")  # fmt: skip
    if model.linear is not None and (found.output.kind == "raw" or found.output.size != model.linear.out_features):
        raise UsageError(f"the module's Linear gives {model.linear.out_features} numbers; the spec's '{found.output.name}' has "
                         f"{'no weights' if found.output.kind == 'raw' else found.output.size}")  # fmt: skip


def _array(grid: Grid, place: Place, letter: str) -> np.ndarray | None:
    array = grid.parameters.get(f"{place.transform}.{letter}")
    return array if array is None or place.level is None else array[place.level]


def _put(grid: Grid, layer: Layer, place: Place, theirs: dict[str, np.ndarray]) -> None:
    """Write one direction of one layer in our order: gates are columns, and what is below one row after the other."""
    gates, hidden = len(ORDER[layer.cell]), layer.hidden
    W, b = _array(grid, place, "W"), _array(grid, place, "b")
    assert W is not None
    W[...] = 0
    own, seen = (_ours(theirs[f"weight_{kind}"], layer.cell) for kind in ("hh", "ih"))
    end = gates * hidden
    if layer.cell == "gru":  # gate s takes the own vector alone, gate c everything else
        W[place.own, : 2 * hidden], W[place.own, end:] = own[:, : 2 * hidden], own[:, 2 * hidden :]
    else:
        W[place.own] = own
    starts = np.cumsum([0, *(rows.stop - rows.start for rows in place.below)])
    for rows, start in zip(place.below, starts, strict=False):
        W[rows, :end] = seen[start : start + rows.stop - rows.start]
    if b is None:
        return
    b[...] = 0
    if "bias_ih" in theirs:
        ih, hh = (_ours(theirs[f"bias_{kind}"], layer.cell) for kind in ("ih", "hh"))
        if layer.cell == "gru":
            b[:end], b[end:] = ih, hh[2 * hidden :]
            b[: 2 * hidden] += hh[: 2 * hidden]
        else:
            b[...] = ih + hh


def _theirs(grid: Grid, layer: Layer, place: Place) -> dict[str, np.ndarray]:
    """Give one direction of one layer under PyTorch's names, ``[gates × hidden, columns]``."""
    W, b = _array(grid, place, "W"), _array(grid, place, "b")
    assert W is not None
    hidden, end = layer.hidden, len(ORDER[layer.cell]) * layer.hidden
    own, seen = W[place.own], np.concatenate([W[rows, :end] for rows in place.below])
    if layer.cell == "gru":
        own = np.concatenate([own[:, : 2 * hidden], own[:, end:]], axis=1)
    found = {"weight_hh": own, "weight_ih": seen}
    if b is not None:
        tail = b[end:] if layer.cell == "gru" else b[:0]
        found |= {"bias_ih": b[:end], "bias_hh": np.concatenate([np.zeros(end - len(tail), b.dtype), tail])}
    return {name: _ours(array.T, layer.cell).T for name, array in found.items()}


def _ours(weight: np.ndarray, cell: str) -> np.ndarray:
    """Put gates ``[gates × hidden, columns]`` into the other library's order, and rows for columns; a bias has no columns."""
    parts = np.split(weight, len(ORDER[cell]))
    return np.concatenate([parts[g] for g in ORDER[cell]]).T
