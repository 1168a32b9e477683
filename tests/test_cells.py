"""The table of cells: a row says all that gridc knows of a mechanism, and a new row is a new word of the language."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import gridc
from gridc.language.shapes import weights
from gridc.tables.cells import CELLS, OPTIONS
from gridc.tables.mechanisms import Options

ROOT = Path(gridc.__file__).parent
SPECS = sorted((ROOT.parent / "specs").glob("*.yaml"))
PECULIAR = {cell.name for cell in CELLS.values() if cell.rule is None}


def test_no_module_asks_for_a_cell_that_is_not_pointwise_by_its_name():
    assert {"pass", "memory"} <= PECULIAR
    for path in sorted(ROOT.rglob("*.py")):
        if path == ROOT / "tables" / "cells.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path.relative_to(ROOT.parent)}:{getattr(node, 'lineno', 0)}"
            # "memory" is also the name of a vector; what is compared with a cell is not.
            assert not (isinstance(node, ast.Constant) and node.value in PECULIAR - {"memory"}), where
            if isinstance(node, ast.Compare):
                said = [n for side in (node.left, *node.comparators) for n in ast.walk(side)]
                cells = [n for n in said if isinstance(n, ast.Attribute) and n.attr == "cell"]
                assert not (cells and any(isinstance(n, ast.Constant) and n.value in PECULIAR for n in said)), where


def test_every_row_has_a_rule_or_an_update():
    for cell in CELLS.values():
        assert (cell.rule is None) != (cell.update is None), cell.name
        assert not (cell.relays and cell.reads != "one"), cell.name


def test_digests_of_specs_stay(golden):
    golden("digests", {path.stem: gridc.read(path).digest for path in SPECS})


def test_weights_follow_from_the_row():
    spec = gridc.read(ROOT.parent / "specs" / "memory-network.yaml")
    own = {name: list(weights(spec, t)) for name, t in spec.transforms.items()}
    assert [w for w in own["hops"] if w != "b"] == ["W", "A", "C"]
    assert all(w.facts == (letter in "AC") for letter, w in weights(spec, spec.transforms["hops"]).items())


def test_options_are_printed_as_ever_and_those_of_one_row_are_attributes():
    assert repr(Options()) == "Options(activation='tanh', peepholes=False)"
    one = Options(own=(("temperature", 2.0),))
    assert one.temperature == 2.0
    assert repr(one) == "Options(activation='tanh', peepholes=False, temperature=2.0)"
    assert hash(one) != hash(Options())
    assert not hasattr(one, "heat")
    assert [option.name for option in OPTIONS] == ["activation", "peepholes", "attends", "embeddings", "attention"]


TOY = '''
import numpy as np
from gridc.options import Option
from gridc.tables import cells
from gridc.tables.cells import CELLS
from gridc.tables.mechanisms import Cell, Weight, gated


def competed(x, t):
    score = t.a * t.options.sharpness
    weight = x.exp(score - x.max(score, axis=-1, keepdims=True))
    return t.weights["gain"] * weight / x.sum(weight, axis=-1, keepdims=True) + 0.5 * t.h, None


SHARPNESS = Option("sharpness", "float", 1.0, "How much the largest takes.", low=0)
CELLS["contest"] = Cell(
    "contest", lambda n: ("a",), None, "h' = gain∘softmax(s(zW + b)) + h/2", "this test", uses_hidden=True, options=(SHARPNESS,),
    update=competed, weights=lambda u: {**gated(u), "gain": Weight((1, u.hidden))})
cells.OPTIONS += (SHARPNESS,)

import gridc
from gridc.errors import SpecError, UsageError
from gridc.language.document import json_schema

PAGE = """
name: toy
dimensions: {time: T, depth: 2}
transforms:
  a: {cell: contest, hidden: 3, along: time, sharpness: 2.0, reads: [a], tied: TIED}
inputs: {x: {features: 2, joins: [a], over: [time]}}
outputs: {y: {raw: true, reads: [a], at: {depth: 1}}}
"""
assert "sharpness" in json_schema()["definitions"]["TransformPage"]["properties"]
for tied in ("all", "[time]"):
    spec = gridc.read(PAGE.replace("TIED", tied))
    grid = gridc.compile(spec, dtype="float64", seed=3)
    assert grid.lowering == "plain", grid.lowering
    p, x = grid.parameters, np.random.default_rng(0).normal(size=(4, 5, 2))
    assert list(p) == ["a.W", "a.b", "a.gain"] and np.abs(p["a.gain"]).min() > 0 and not p["a.b"].any()
    lead = () if tied == "all" else (2,)
    assert p["a.W"].shape == (*lead, 5, 3) and p["a.gain"].shape == (*lead, 1, 3)
    W, b, gain = (p[f"a.{name}"] if tied == "all" else p[f"a.{name}"][1] for name in ("W", "b", "gain"))
    h = np.zeros((4, 3))
    for t in range(5):
        e = np.exp(2.0 * (np.concatenate([h, x[:, t]], axis=1) @ W + b))
        h = gain * e / e.sum(axis=1, keepdims=True) + h / 2
        np.testing.assert_allclose(grid.predict({"x": x[:, : t + 1]})["y"][:, -1, :], h, rtol=1e-12)
    slope = grid.gradients({"x": x}, {"y": np.zeros((4, 5, 3))})["a.gain"]
    assert np.isfinite(slope).all() and np.abs(slope).max() > 0
try:
    gridc.compile(spec, lowering="fused")
except UsageError as error:
    assert "a contest cell has no fused kernel" in str(error), error
else:
    raise AssertionError("fused")
try:
    gridc.read(PAGE.replace("contest", "dense").replace("TIED", "all"))
except SpecError as error:
    assert "a dense cell has no sharpness; contest has" in str(error), error
else:
    raise AssertionError("an option of another cell")
'''


def test_a_cell_that_is_not_pointwise_is_one_row():
    """In a process of its own: the row is put into the table before anything has read it."""
    done = subprocess.run([sys.executable, "-c", TOY], capture_output=True, text=True, cwd=ROOT.parent, check=False)
    assert done.returncode == 0, done.stderr
