"""Models to and from PyTorch: the same outputs, and the same again after a round trip."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gridc
from gridc.errors import UsageError
from gridc.language.layers import layers
from gridc.torch.weights import from_torch, load_torch, to_torch

SPECS = Path(__file__).parent.parent / "specs"
X = np.random.default_rng(0).normal(size=(3, 7, 5))
IDS = np.random.default_rng(1).integers(0, 9, (4, 6))


def outputs(module: Any, x: np.ndarray, *lengths: Any) -> np.ndarray:
    module.eval()
    dtype = next(module.parameters()).dtype
    with torch.no_grad():
        found = module(torch.tensor(x, dtype=dtype if x.dtype.kind == "f" else None), *lengths)
    return (found[0] if isinstance(found, tuple) else found).numpy()


class Tagger(nn.Module):
    """What people write: an embedding, recurrent layers, a linear read-out, and what it reads in ``forward``."""

    def __init__(self, make: Callable[..., nn.Module], read: str, bidirectional: bool, between: Any = None, outputs: int = 3):
        super().__init__()
        self.embedding = nn.Embedding(9, 5, padding_idx=0)
        self.first = make(5, 4, num_layers=2, batch_first=True, bidirectional=bidirectional)
        ways = 1 + bidirectional
        self.between = between or nn.Identity()
        self.second = nn.GRU(4 * ways, 3, batch_first=True, bidirectional=bidirectional)
        self.linear = nn.Linear(3 * ways, outputs)
        self.read, self.ways = read, ways

    def forward(self, ids: Any) -> Any:
        found, _ = self.first(self.embedding(ids))
        found, hidden = self.second(self.between(found))
        if self.read == "all":
            return self.linear(found)
        return self.linear(found[:, -1] if self.read == "step" else torch.cat(list(hidden[-self.ways :]), 1))


@settings(max_examples=6, deadline=None)
@given(
    kind=st.sampled_from([nn.LSTM, nn.GRU]), layers_=st.integers(1, 3), bias=st.booleans(), both=st.booleans(),
    first=st.booleans(), dtype=st.sampled_from(["float32", "float64"]), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_recurrent_module_becomes_a_grid_and_a_module_again(
    kind: Any, layers_: int, bias: bool, both: bool, first: bool, dtype: str, seed: int
) -> None:
    torch.manual_seed(seed)
    module = kind(5, 6, num_layers=layers_, bias=bias, bidirectional=both, batch_first=first, dtype=getattr(torch, dtype))
    grid = from_torch(module, eager=False)
    assert grid.dtype == dtype
    expected = outputs(module, X) if first else outputs(module, X.swapaxes(0, 1)).swapaxes(0, 1)
    np.testing.assert_allclose(grid.predict({"x": X})["y"], expected, atol=1e-6)
    back = to_torch(grid)
    assert type(back) is kind
    np.testing.assert_allclose(outputs(back, X), expected, atol=1e-6)


@pytest.mark.parametrize("make", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("read", ["all", "last"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_whole_model_goes_in_and_out(make: Any, read: str, bidirectional: bool) -> None:
    torch.manual_seed(1)
    module = Tagger(make, read, bidirectional).double()
    grid = from_torch(module, eager=False)
    expected = outputs(module, IDS)
    np.testing.assert_allclose(grid.predict({"x": IDS})["y"], expected, atol=1e-6)
    back = to_torch(grid)
    np.testing.assert_allclose(outputs(back, IDS), expected, atol=1e-6)
    np.testing.assert_allclose(from_torch(back, eager=False).predict({"x": IDS})["y"], expected, atol=1e-6)
    classes = from_torch(module, output="classes", eager=False).predict({"x": IDS})["y"]
    np.testing.assert_allclose(classes, torch.tensor(expected).softmax(-1).numpy(), atol=1e-6)


def test_modules_in_a_sequential_are_taken_in_their_order() -> None:
    parts = nn.Sequential(nn.Embedding(9, 5), nn.LSTM(5, 4, batch_first=True), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        expected = parts[2](parts[1](parts[0](torch.tensor(IDS)))[0]).numpy()
    np.testing.assert_allclose(from_torch(parts, eager=False).predict({"x": IDS})["y"], expected, atol=1e-6)
    last = from_torch(parts, at="last", eager=False).predict({"x": IDS})["y"]
    np.testing.assert_allclose(last, expected[:, -1], atol=1e-6)


def test_dropout_becomes_the_specs_or_is_said() -> None:
    grid = from_torch(nn.LSTM(5, 6, num_layers=3, dropout=0.3), eager=False)
    assert [layer.dropout for layer in layers(grid.spec).layers] == [0.3, 0.3, 0.0]
    assert to_torch(grid).dropout == 0.3
    between = from_torch(Tagger(nn.LSTM, "all", False, nn.Dropout(0.2)), eager=False)
    assert [layer.dropout for layer in layers(between.spec).layers] == [0.0, 0.2, 0.0]
    assert [p.p for p in to_torch(between).modules() if isinstance(p, nn.Dropout)] == [0.2]
    with pytest.warns(UserWarning, match=r"Dropout\(0.5\) before its Linear has no place in a grid"):
        from_torch(nn.Sequential(nn.LSTM(5, 4), nn.Dropout(0.5), nn.Linear(4, 2)), eager=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_torch(nn.Sequential(nn.LSTM(5, 4), nn.Dropout(0.0), nn.Linear(4, 2)), eager=False)


@pytest.mark.parametrize("name", ["stacked-lstm", "bidirectional"])
def test_specs_leave_as_whole_models(name: str) -> None:
    grid = gridc.compile(SPECS / f"{name}.yaml", dtype="float64", seed=3, eager=False)
    module = to_torch(grid)
    ids = IDS % next(iter(grid.spec.inputs.values())).size
    for lengths in (None, [6, 2, 1, 5]):
        expected = grid.predict({"symbols": ids}, lengths and {"T": lengths})["answer"]
        found = torch.tensor(outputs(module, ids, *([torch.tensor(lengths)] if lengths else []))).softmax(-1).numpy()
        inside = np.arange(6)[None] < np.array(lengths or [6] * 4)[:, None]
        np.testing.assert_allclose(found[inside], expected[inside], atol=1e-6)
    other = gridc.compile(SPECS / f"{name}.yaml", dtype="float64", seed=4, eager=False)
    load_torch(other, nn.Sequential(*module.layers, module.linear))
    np.testing.assert_allclose(other.predict({"symbols": ids})["answer"], grid.predict({"symbols": ids})["answer"], atol=1e-6)


def test_what_is_no_stack_of_layers_is_said() -> None:
    page = (SPECS / "stacked-lstm.yaml").read_text(encoding="utf-8")
    for old, new, why in [
        ("cell: lstm", "cell: lstm-paper", "'time' is a lstm-paper along time; expected an lstm or a gru along time"),
        ("tied: [time]", "tied: all", "no weights of its own at every level"),
        ("at: {depth: first}", "at: {depth: last}", "does not read exactly the layer below"),
        ("at: {depth: first}", "at: {depth: all}", "does not join the first layer at every step"),
        ("hidden: 64", "hidden: 64, start: learned", "a start"),
        ("at: {depth: last}", "at: {depth: first}", "does not read the hidden vectors of the last layer"),
        ("reads: [time], at", "reads: [time.memory], at", "does not read the hidden vectors of the last layer"),
        ("at: {depth: last}", "at: {depth: last, time: first}", "is read at first"),
        ("{cell: pass, reads: [time]}", "{cell: lstm, hidden: 64, tied: [time]}", "'depth' is a lstm along depth"),
    ]:
        with pytest.raises(UsageError, match=why):
            layers(gridc.read(page.replace(old, new, 1)))
    for name in ("two-grid", "digits", "memory-network", "dropout", "four-directions"):
        with pytest.raises(UsageError, match=f"'{name}' is not a stack of LSTM or GRU layers"):
            layers(gridc.read(SPECS / f"{name}.yaml"))


def test_what_is_no_such_module_is_said() -> None:
    grid = gridc.compile(SPECS / "stacked-lstm.yaml", eager=False)
    with pytest.raises(UsageError, match="the module has 5 features, 6 units of lstm, 6 units of lstm; the spec has 9 "):
        load_torch(grid, nn.LSTM(5, 6, num_layers=2))
    with pytest.raises(UsageError, match="'layer-1' has 'bias: false'"):
        load_torch(from_torch(nn.LSTM(5, 6, bias=False), eager=False), nn.LSTM(5, 6))
    for module, why in [
        (nn.LSTM(5, 6, proj_size=2), "projects its output"),
        (nn.RNN(5, 6), "found RNN; expected Embedding, LSTM or GRU, Linear, in this order"),
        (nn.Sequential(nn.Linear(5, 5), nn.LSTM(5, 6)), "found Linear in Sequential"),
        (nn.Sequential(nn.LSTM(5, 6), nn.ReLU()), "found ReLU in Sequential"),
        (nn.Sequential(nn.LSTM(5, 6), nn.GRU(5, 6)), "GRU takes 5 features, and what is before it gives 6"),
        (nn.Linear(5, 6), "found Linear"),
        (nn.Sequential(nn.Embedding(3, 4, max_norm=1.0), nn.LSTM(4, 2)), "max_norm"),
        (Tagger(nn.LSTM, "step", True), "reads both directions at the last step"),
    ]:
        with pytest.raises(UsageError, match=why):
            from_torch(module)

    class Odd(Tagger):
        def forward(self, ids: Any) -> Any:
            return super().forward(ids) * 2

    class Wide(Tagger):
        def forward(self, ids: Any, more: Any) -> Any:
            return super().forward(ids) + more

    with pytest.raises(UsageError, match="forward of Odd does not give what its parts give"):
        from_torch(Odd(nn.LSTM, "all", False))
    with pytest.raises(UsageError, match="forward of Wide cannot be tried on one array of shape"):
        from_torch(Wide(nn.LSTM, "all", False))
    assert from_torch(Wide(nn.LSTM, "all", False), at="all", eager=False).predict({"x": IDS})["y"].shape == (4, 6, 3)
    with pytest.raises(UsageError, match="a binary output is made of one number"):
        from_torch(Tagger(nn.LSTM, "all", False), output="binary")
