"""Grids as ONNX models: onnxruntime gives what the grid gives, whatever the sizes that were left open."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import gridc
import oracle
from gridc.errors import ResourceError, UsageError
from gridc.language.shapes import input_axes
from gridc.onnx.export import export
from gridc.onnx.sweep import uniform
from strategies import Case, grids

SPECS = sorted((Path(__file__).parent.parent / "specs").glob("*.yaml"))
MEMORY = {"memory-network", "memory-network-adjacent"}
SCANNED = """
name: scanned
dimensions: {time: T, depth: 2}
transforms:
  time: {cell: lstm, hidden: 3, start: learned, peepholes: true, zoneout: 0.2, direction: DIRECTION, tied: [time]}
  depth: {cell: gru, hidden: 3, start: {wrap: {time: STEP}}}
  up: {cell: pass, along: depth, reads: [time]}
priority: [time, depth]
inputs:
  x: {features: 2, enters: depth}
  first: {features: 2, enters: time}
  ids: {vocabulary: 4, embed: 2, joins: [time], at: {depth: last}}
outputs:
  words: {classes: 3, reads: [time, depth]}
  sign: {binary: true, reads: [time.memory], at: {time: last, depth: last}}
  begin: {features: 2, reads: [depth, up], at: {time: first}}
  all: {raw: true, reads: [depth], at: {depth: [1]}}
"""
"""A start, peepholes, zoneout, a wrap, a pass, inputs that enter along the open dimension and across it, every kind of output."""


def drawn(spec: gridc.GridSpec, sizes: dict[str, int], batch: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    for name, axes in input_axes(spec).items():
        shape = (batch, *(n if isinstance(n, int) else sizes[n or ""] for n in axes.axes))
        found[name] = (random.normal(size=shape).astype(np.float32) if axes.real else
                       random.integers(0, axes.below or 0, shape))  # fmt: skip
    return found


def session(path: Path) -> Any:
    onnx.checker.check_model(onnx.load(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def same(grid: gridc.Grid, run: Any, inputs: dict[str, np.ndarray], lengths: dict[str, Any] | None = None) -> None:
    more = {f"{symbol}.lengths": np.array(n, np.int64) for symbol, n in (lengths or {}).items()}
    found = run.run(None, {**inputs, **more})
    for (name, expected), array in zip(grid.predict(inputs, lengths).items(), found, strict=True):
        assert array.shape == expected.shape, name
        np.testing.assert_allclose(array, expected, atol=1e-5, err_msg=name)


def small(path: Path) -> gridc.Grid:
    """A network of ``specs/``, narrow, its numbers drawn anew so that biases are not zero."""
    text = re.sub(r"hidden: \d+", "hidden: 5", path.read_text(encoding="utf-8")).partition("\ntraining:")[0]
    grid = gridc.compile(text, eager=False)
    random = np.random.default_rng(5)
    for name, array in grid.parameters.items():
        grid.parameters[name] = random.normal(scale=0.5, size=array.shape)
    return grid


@pytest.mark.parametrize("path", [p for p in SPECS if p.stem not in MEMORY], ids=lambda p: p.stem)
def test_every_network_of_specs_gives_the_same_in_onnxruntime(path: Path, tmp_path: Path) -> None:
    grid = small(path)
    spec = grid.spec
    open_ = [str(d.size) for axis, d in enumerate(spec.dimensions) if uniform(spec, axis)][:1]
    sizes = {symbol: 3 + k for k, symbol in enumerate(spec.symbols)}
    fixed = {symbol: size for symbol, size in sizes.items() if symbol not in open_ and path.stem != "bidirectional"}
    written = grid.to_onnx(tmp_path / "model.onnx", **fixed)
    run = session(tmp_path / "model.onnx")
    for batch, longer in ((3, 0), (1, 2)) if written.open else ((3, 0), (1, 0)):
        same(grid, run, drawn(spec, {**sizes, **({written.open: sizes[written.open] + longer} if written.open else {})}, batch))


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=st.integers(0, 4).flatmap(lambda k: grids(noise=k == 4)), kept=st.booleans())
def test_any_grid_is_what_the_oracle_says(case: Case, kept: bool) -> None:
    spec = gridc.read(case.text)
    ways = {str(d.size): uniform(spec, axis) for axis, d in enumerate(spec.dimensions)}
    able = [symbol for symbol, way in ways.items() if way][:1] if kept else []
    ended = case.lengths is not None and list(case.lengths) == able and ways[able[0]] > 0
    fixed = {symbol: size for symbol, size in case.sizes.items() if symbol not in able}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        written = export(spec, case.parameters, path, fixed, lengths=ended)
        run = session(path)
    event(f"{written.way}{' with lengths' * ended}")
    given_ = {name: np.asarray(a, np.float32 if a.dtype.kind == "f" else np.int64) for name, a in case.inputs.items()}
    lengths = case.lengths if ended else None
    more = {f"{symbol}.lengths": np.array(n, np.int64) for symbol, n in (lengths or {}).items()}
    expected = oracle.predict(case.spec, case.parameters, case.inputs, lengths)
    for (name, array), found in zip(expected.items(), run.run(None, {**given_, **more}), strict=True):
        assert found.shape == array.shape, name
        np.testing.assert_allclose(found, array, rtol=1e-4, atol=1e-4, err_msg=name)


def test_a_stacked_lstm_becomes_the_operator_that_runtimes_have(tmp_path: Path) -> None:
    for name, kind, count in (("stacked-lstm", "LSTM", 2), ("bidirectional", "LSTM", 2)):
        grid = small(SPECS[0].with_name(f"{name}.yaml"))
        assert grid.to_onnx(tmp_path / "a.onnx", lengths=True).way == "operators"
        kinds = [node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node]
        assert kinds.count(kind) == count
        assert "Scan" not in kinds
        inputs = drawn(grid.spec, {"T": 6}, 4)
        same(grid, session(tmp_path / "a.onnx"), inputs, {"T": [6, 1, 3, 5]})
    page = """
name: gru
dimensions: {time: T}
transforms:
  there: {cell: gru, hidden: 3, along: time, reads: [{of: there, offset: {time: -1}}]}
  back: {cell: gru, hidden: 3, along: time, direction: backward, reads: [{of: back, offset: {time: 1}}]}
inputs: {x: {features: 2, joins: [there, back]}}
outputs: {y: {features: 2, reads: [there, back], at: {time: last}}}
"""
    grid = gridc.compile(page, eager=False)
    grid.parameters["back.b"] = np.random.default_rng(0).normal(size=12)
    assert grid.to_onnx(tmp_path / "g.onnx", lengths=True).way == "operators"
    same(grid, session(tmp_path / "g.onnx"), drawn(grid.spec, {"T": 6}, 4), {"T": [6, 1, 3, 5]})


@pytest.mark.parametrize(("direction", "step"), [("forward", -1), ("backward", 1)])
def test_a_scan_has_starts_wraps_entries_and_every_kind_of_output(direction: str, step: int, tmp_path: Path) -> None:
    grid = gridc.compile(SCANNED.replace("DIRECTION", direction).replace("STEP", str(step)), eager=False, dtype="float64")
    random = np.random.default_rng(1)
    for name, array in grid.parameters.items():
        grid.parameters[name] = random.normal(scale=0.5, size=array.shape)
    assert grid.to_onnx(tmp_path / "scan.onnx").way == "scan"
    run = session(tmp_path / "scan.onnx")
    for size in (1, 2, 5):
        same(grid, run, drawn(grid.spec, {"T": size}, 3))
    whole = grid.to_onnx(tmp_path / "whole.onnx", T=4)
    assert (whole.way, whole.sizes) == ("whole", {"time": 4, "depth": 2})
    same(grid, session(tmp_path / "whole.onnx"), drawn(grid.spec, {"T": 4}, 2))
    if direction == "forward":
        grid.to_onnx(tmp_path / "lengths.onnx", lengths=True)
        same(grid, session(tmp_path / "lengths.onnx"), drawn(grid.spec, {"T": 5}, 4), {"T": [5, 1, 3, 2]})
    else:
        with pytest.raises(UsageError, match="read backwards, from an end that lengths would move"):
            grid.to_onnx(tmp_path / "lengths.onnx", lengths=True)


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    memory = gridc.compile(SPECS[0].with_name("memory-network.yaml"), eager=False)
    with pytest.raises(UsageError, match="'hops' is a memory cell, which is not written as ONNX"):
        memory.to_onnx(tmp_path / "m.onnx")
    plane = gridc.compile(SPECS[0].with_name("leaky-lstm.yaml"), eager=False)
    with pytest.raises(UsageError, match=r"only 'R' can stay open in ONNX.*say how large C is, for instance C=10"):
        plane.to_onnx(tmp_path / "p.onnx")
    with pytest.raises(UsageError, match="has no symbol 'D'"):
        plane.to_onnx(tmp_path / "p.onnx", D=3)
    with pytest.raises(UsageError, match=r"the size of 'C' is 0; expected a whole number"):
        plane.to_onnx(tmp_path / "p.onnx", C=0)
    with pytest.raises(UsageError, match=r"lengths need an open dimension.*its size is fixed"):
        plane.to_onnx(tmp_path / "p.onnx", lengths=True, R=3, C=3)
    assert not list(tmp_path.iterdir())


def test_without_onnx_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = gridc.compile(SPECS[0].with_name("parity.yaml"), eager=False)
    monkeypatch.setattr("gridc.onnx.export.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ResourceError, match=r"pip install 'gridc\[onnx\]'"):
        grid.to_onnx(tmp_path / "p.onnx")


def test_the_command_writes_words_and_says_what_is_open(tmp_path: Path) -> None:
    grid = small(SPECS[0].with_name("text-classifier.yaml"))
    grid.vocabularies["label"] = ("no", "yes")
    grid.save(tmp_path / "model.grid")
    done = subprocess.run([sys.executable, "-m", "gridc", "export", "model.grid", "-o", "model.onnx"], cwd=tmp_path, check=False,
                          capture_output=True, text=True)  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "Wrote model.onnx as a Scan; batch and T are open, depth = 3." in done.stderr
    about = session(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(about["words.label"]) == ["no", "yes"]
    assert gridc.read(about["gridc.spec"]).digest == about["gridc.digest"] == grid.spec.digest
    same(grid, session(tmp_path / "model.onnx"), drawn(grid.spec, {"T": 7}, 2))
