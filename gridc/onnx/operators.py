"""Layers of LSTM or GRU as ONNX's own operators, which runtimes have kernels for; lengths are the operators' own."""

# pyright: basic

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gridc.arrays.conversion import Array
from gridc.language.layers import Layer, Layers, Place
from gridc.language.spec import GridSpec
from gridc.onnx.ends import Ends
from gridc.onnx.graph import Graph, Value

LSTM = (0, 2, 1, 3)
"""ONNX's gates i o f c, as indices of ours u f o c."""


def write(graph: Graph, spec: GridSpec, found: Layers, numbers: Mapping[str, Array], ends: Ends) -> None:
    """Write a network of layers: an operator for each, whose input is ``[steps, batch, numbers]``."""
    g, x, o = graph, found.input, found.output
    value = ends.joined(x)
    value = g.op("Squeeze", value, g.ints(1)) if ends.open is not None else value
    small = g.helper.np_dtype_to_tensor_dtype(np.dtype("int32"))
    lengths = None if ends.lengths is None else g.op("Cast", ends.lengths, to=small)
    state: Value | None = None
    for layer in found.layers:
        ways, hidden = len(layer.places), layer.hidden
        stacked = zip(*(_weights(numbers, layer, place) for place in layer.places), strict=True)
        arrays = [g.const(np.stack(each)) for each in stacked]
        more = {"linear_before_reset": 1} if layer.cell == "gru" else {}
        found_, state = g.ops(layer.cell.upper(), [value, *arrays, lengths], 2, hidden_size=hidden,
                              direction="bidirectional" if ways == 2 else "forward", **more)  # fmt: skip
        value = g.reshape(g.transpose(found_, 0, 2, 1, 3), 0, 0, ways * hidden)
    assert state is not None
    if found.last:
        value = g.reshape(g.transpose(state, 1, 0, 2), 0, -1)
    else:
        value = g.transpose(value, 1, 0, 2)
    ends.answer(o, [value])


def _weights(numbers: Mapping[str, Array], layer: Layer, place: Place) -> tuple[Array, Array, Array]:
    """Give one direction's ``W``, ``R`` and ``B``, gates first."""
    w, b = (numbers.get(f"{place.transform}.{letter}") for letter in "Wb")
    assert w is not None
    w = w if place.level is None else w[place.level]
    hidden = layer.hidden
    b = np.zeros(w.shape[1]) if b is None else b if place.level is None else b[place.level]
    gates, below = np.split(w[place.own], w.shape[1] // hidden, axis=1), np.concatenate([w[rows] for rows in place.below])
    seen, biases = np.split(below, len(gates), axis=1), np.split(b, len(gates))
    if layer.cell == "lstm":
        order = [(k, k) for k in LSTM]
        own_bias = [np.zeros(hidden)] * 4
    else:  # ONNX's z r h are our v, r, and c of what is seen with s of the own vector
        order = [(1, 1), (0, 0), (2, 3)]
        own_bias = [np.zeros(hidden), np.zeros(hidden), biases[3]]
    bias = np.concatenate([*(biases[k] for k, _ in order), *own_bias])
    return np.concatenate([seen[k] for k, _ in order], 1).T, np.concatenate([gates[k] for _, k in order], 1).T, bias
