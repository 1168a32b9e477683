"""What ``gridc check`` and ``gridc train`` say of the data of a spec, and cells that no example reaches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import gridc
from gridc import cli
from gridc.arrays.dataset import Dataset
from gridc.data.fitting import for_spec
from gridc.errors import DataError

SPEC = """
name: said
dimensions: {time: T, depth: 2}
transforms: {depth: {cell: lstm, hidden: 4}, time: {cell: lstm, hidden: 4}}
inputs: {x: {features: 3, enters: depth, AT}}
outputs: {kind: {classes: 2, reads: [depth], at: {depth: last, time: last}}}
training: {data: x.csv, budget: {steps: 1}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(SPEC.replace(", AT", ""))
    rng = np.random.default_rng(0)
    rows = [",".join([*map(str, rng.normal(size=24).round(2)), ("high", "low")[i % 2]]) for i in range(20)]
    (tmp_path / "x.csv").write_text("\n".join([",".join([*(f"x{i}" for i in range(24)), "kind"]), *rows]))
    return tmp_path


def test_check_says_how_data_are_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["check", "s.yaml"]) == 0
    told = capsys.readouterr().out
    assert "x.csv: 16 examples to train on, 4 held out" in told
    assert "24 columns x0 … x23, as T 8 × 3 numbers" in told
    assert "column kind, as one of 2 words ('high', 'low')" in told
    assert cli.run(["check", "s.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["arrays"]["x"] == "24 columns x0 … x23, as T 8 × 3 numbers"
    assert cli.run(["train", "s.yaml", "--lowering", "plain"]) == 0
    assert "x.csv: x: 24 columns x0 … x23, as T 8 × 3 numbers; kind: column kind" in capsys.readouterr().err


@pytest.mark.parametrize(("old", "new", "sentence"), [
    ("x.csv", "nix.csv", "There is no file nix.csv"),
    ("features: 3", "features: 5", "takes 24 columns"),
    ("classes: 2", "classes: 2, loss: cross_entropy", ""),
    ("time: last", "time: [2, 9]", "output 'kind' is at cell 9 of 'time', and with 'T' = 8 the last is 7"),
])  # fmt: skip
def test_check_says_what_does_not_fit(
    old: str, new: str, sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "s.yaml"
    path.write_text(path.read_text().replace(old, new))
    for words in (["check", "s.yaml"], ["check", "s.yaml", "--json"]):
        assert cli.run(words) == (3 if sentence else 0)
        told = capsys.readouterr()
        assert sentence in told.err
    if sentence:
        assert sentence in json.loads(told.out)["error"]


PLACES = [("{time: 4}", "{time: 0}", 5), ("{time: [1, 6]}", "{time: last}", 7), ("{time: first}", "{time: [0, 3]}", 4)]


@pytest.mark.parametrize(("into", "out", "least"), PLACES)
def test_a_cell_that_no_example_reaches_is_refused(into: str, out: str, least: int) -> None:
    page = SPEC.replace("enters: depth, AT", f"joins: [time], over: [], at: {into}").replace("training:", "#")
    page = page.replace("time: last}", f"{out[1:]}").replace("outputs:", "  z: {features: 1, enters: depth}\noutputs:")
    page = page.replace("inputs: {x", "inputs:\n  x").replace("}}\n  z", "}\n  z", 1)
    spec = gridc.read(page)
    grid = gridc.compile(spec, lowering="plain", eager=False)

    def given(steps: int) -> dict[str, np.ndarray]:
        return {"x": np.ones((2, 3)), "z": np.ones((2, steps, 1))}

    assert grid.predict(given(least))["kind"].shape == (2, 2)
    sentence = f"is at cell {least - 1} of 'time', and with 'T' = {least - 1} the last is {least - 2}"
    with pytest.raises(DataError, match=f"these inputs are too short: .* {sentence}"):
        grid.predict(given(least - 1))
    for lengths in ({}, {"T": [1, least - 1]}):
        data = Dataset(given(least - (not lengths)), {"kind": np.array([0, 1])}, lengths)
        with pytest.raises(DataError, match=f"No example is long enough: .* {sentence}"):
            for_spec(data, spec)
    for_spec(Dataset(given(least), {"kind": np.array([0, 1])}, {"T": [1, least]}), spec)
