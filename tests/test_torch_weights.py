"""Weights in and out of PyTorch's LSTM: the same outputs, and the same weights after a round trip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gridc
from gridc.errors import UsageError
from gridc.torch.weights import from_torch, load_torch, stack, to_torch

STACKED = Path(__file__).parent.parent / "specs" / "stacked-lstm.yaml"
X = np.random.default_rng(0).normal(size=(3, 7, 5))


def outputs(module: Any, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.tensor(x, dtype=next(module.parameters()).dtype))[0].numpy()


@pytest.mark.parametrize(("layers", "bias", "dtype"), [(1, True, "float64"), (3, True, "float32"), (2, False, "float64")])
def test_a_module_becomes_a_grid_and_a_module_again(layers: int, bias: bool, dtype: str) -> None:
    torch.manual_seed(0)
    module = torch.nn.LSTM(5, 6, num_layers=layers, bias=bias, batch_first=True, dtype=getattr(torch, dtype))
    grid = from_torch(module, eager=False)
    assert grid.dtype == dtype
    np.testing.assert_allclose(grid.predict({"x": X})["y"], outputs(module, X), atol=1e-6)
    np.testing.assert_allclose(outputs(to_torch(grid), X), outputs(module, X), atol=1e-6)


def test_the_stacked_spec_and_a_trained_grid() -> None:
    grid = gridc.compile(STACKED, dtype="float64", seed=3, eager=False)
    module = to_torch(grid)
    ids = np.random.default_rng(1).integers(0, 9, (4, 6))
    top = outputs(module, np.eye(9)[ids])
    logits = top @ grid.parameters["answer.W"] + grid.parameters["answer.b"]
    expected = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(grid.predict({"symbols": ids})["answer"], expected, atol=1e-6)
    other = gridc.compile(STACKED, dtype="float64", seed=4, eager=False)
    for name in ("answer.W", "answer.b"):
        other.parameters[name] = grid.parameters[name]
    load_torch(other, module)
    np.testing.assert_allclose(other.predict({"symbols": ids})["answer"], expected, atol=1e-6)


def test_one_layer_needs_no_pass() -> None:
    page = """
    name: one
    dimensions: {time: T}
    transforms: {time: {cell: lstm, hidden: 6}}
    inputs: {x: {features: 5, joins: [time]}}
    outputs: {y: {raw: true, reads: [time]}}
    """
    grid = gridc.compile(page, dtype="float64", eager=False)
    module = torch.nn.LSTM(5, 6, batch_first=True, dtype=torch.float64)
    load_torch(grid, module)
    np.testing.assert_allclose(grid.predict({"x": X})["y"], outputs(module, X), atol=1e-6)
    np.testing.assert_allclose(outputs(to_torch(grid), X), outputs(module, X), atol=1e-6)


def test_what_is_no_stacked_lstm_is_said() -> None:
    page = STACKED.read_text(encoding="utf-8")
    for old, new, why in [
        ("cell: lstm", "cell: gru", "one transform with an lstm cell"),
        ("tied: [time]", "tied: all", "weights of its own at every level"),
        ("at: {depth: first}", "at: {depth: last}", "an input that joins the first"),
        ("hidden: 64", "hidden: 64, start: learned", "another start"),
        ("priority: [time, depth]", "priority: [time, depth]", ""),
    ]:
        spec = gridc.read(page.replace(old, new, 1))
        if not why:
            assert stack(spec).layers == 2
            continue
        with pytest.raises(UsageError, match=why):
            stack(spec)
    grid = gridc.compile(STACKED, eager=False)
    with pytest.raises(UsageError, match="the module has 5 features, 6 units and 2 layers; the spec has 9, 64 and 2"):
        load_torch(grid, torch.nn.LSTM(5, 6, num_layers=2))
    with pytest.raises(UsageError, match="bidirectional"):
        from_torch(torch.nn.LSTM(5, 6, bidirectional=True))
    with pytest.raises(UsageError, match="found GRU"):
        from_torch(torch.nn.GRU(5, 6))
