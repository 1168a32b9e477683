"""Streams: a run in pieces equals the full run, and specs that cannot be cut are refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gridc
from gridc.errors import DataError, UsageError

SPECS = Path(__file__).parent.parent / "specs"
TWO_GRID = """
name: two-grid
dimensions: {time: T, depth: 3}
transforms:
  depth: {cell: lstm, hidden: 4}
  time: {cell: lstm, hidden: 5, tied: [time]}
priority: [depth, time]
inputs: {x: {features: 2, enters: depth}}
outputs:
  every: {features: 2, reads: [depth], at: {depth: last}}
  end: {classes: 3, reads: [time.memory, time], at: {time: last, depth: last}}
"""
SOURCE = """
name: source
dimensions: {time: T, depth: 3}
transforms:
  depth: {cell: lstm, hidden: 4, reads: [{of: time, offset: {depth: -1}}, {of: depth, offset: {depth: -1}}]}
  time: {cell: lstm-paper, hidden: 4, start: learned, reads: [{of: time, offset: {time: -1}}, {of: depth, offset: {}}]}
inputs: {x: {features: 2, enters: depth}}
outputs: {y: {raw: true, reads: [time, depth]}}
"""
BEGUN = """
name: begun
dimensions: {time: T, level: 2, depth: 2}
transforms:
  time: {cell: gru, hidden: 4, start: learned}
  level: {cell: dense, hidden: 3}
  depth: {cell: highway, hidden: 3}
priority: [level, [time, depth]]
inputs:
  x: {features: 2, joins: [time], at: {level: first}}
  picture: {features: 3, enters: time}
  title: {vocabulary: 5, embed: 2, enters: depth, at: {time: first}, over: []}
  topic: {features: 2, joins: [level], over: []}
outputs: {y: {raw: true, reads: [time, level, depth], at: {level: last, depth: last}}}
"""
HIGHWAY = """
name: recurrent-highway
dimensions: {time: T, depth: 3}
transforms:
  depth: {cell: lstm, hidden: 4, tied: [time], start: {wrap: {time: -1}}}
inputs: {x: {features: 2, joins: [depth], at: {depth: first}}}
outputs: {y: {raw: true, reads: [depth, depth.memory], at: {depth: last}}}
"""
ROWS = """
name: rows
dimensions: {rows: R, columns: C, depth: 2}
transforms:
  rows: {cell: lstm, hidden: 3}
  columns: {cell: lstm, hidden: 4, direction: {over: depth, cycle: [forward, backward]}}
  depth: {cell: pass, reads: [rows]}
priority: [[rows, columns], depth]
inputs: {x: {features: 2, joins: [rows, columns], at: {depth: first}}}
outputs: {y: {raw: true, reads: [rows, columns], at: {depth: last}}}
"""


def compiled(page: str, lowering: Any = "auto", dtype: Any = "float64") -> gridc.Grid:
    grid = gridc.compile(page, lowering=lowering, dtype=dtype, seed=1, eager=False)
    rng = np.random.default_rng(2)
    for array in grid.parameters.values():
        array[...] = rng.normal(0, 0.5, array.shape)
    return grid


def arrays(grid: gridc.Grid, sizes: dict[str, int], batch: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    made = {}
    for name, x in grid.spec.inputs.items():
        shape = [batch, *(sizes.get(str(d.size), d.size) for d in (grid.spec.dimensions[a] for a in x.over))]
        made[name] = rng.normal(size=(*shape, x.size)) if x.kind == "features" else rng.integers(0, x.size, shape)
    return made


def piece(grid: gridc.Grid, inputs: dict[str, np.ndarray], axis: int, part: slice, first: bool) -> dict[str, np.ndarray]:
    result = {}
    for name, x in grid.spec.inputs.items():
        if axis in x.over:
            result[name] = inputs[name][(slice(None),) * (1 + x.over.index(axis)) + (part,)]
        elif first or name not in ("picture", "title"):
            result[name] = inputs[name]
    return result


@pytest.mark.parametrize(("cuts", "lowering"), [([3, 4], "fused"), ([1, 2, 3, 4, 5, 6], "fused"), ([3, 4], "plain")])
@pytest.mark.parametrize(
    ("page", "along", "sizes"),
    [(TWO_GRID, None, {"T": 7}), (SOURCE, None, {"T": 7}), (BEGUN, "time", {"T": 7}), (HIGHWAY, "time", {"T": 7}),
     (ROWS, "rows", {"R": 7, "C": 3})],
    ids=["two-grid", "source", "begun", "wrapped", "rows"],
)  # fmt: skip
def test_pieces_equal_the_full_run(page: str, along: str | None, sizes: dict[str, int], cuts: list[int], lowering: Any) -> None:
    if lowering == "plain" and page not in (TWO_GRID, HIGHWAY):
        pytest.skip("building plain graphs takes time, and two of them tell")
    grid = compiled(page, lowering)
    inputs = arrays(grid, sizes)
    whole = grid.predict(inputs)
    stream = grid.stream(along)
    axis = stream.axis
    for round_ in range(2):
        found: dict[str, list[np.ndarray]] = {name: [] for name in whole}
        for a, e in zip([0, *cuts], [*cuts, 7], strict=True):
            for name, array in stream(piece(grid, inputs, axis, slice(a, e), a == 0)).items():
                found[name].append(array)
        for name, o in grid.spec.outputs.items():
            parts = found[name]
            joined = np.concatenate(parts, axis=1 + o.axes.index(axis)) if axis in o.axes else parts[-1]
            np.testing.assert_allclose(joined, whole[name], rtol=1e-10, atol=1e-10, err_msg=f"{name}, round {round_}")
        stream.reset()


def test_each_example_goes_at_its_own_pace() -> None:
    grid = compiled(TWO_GRID)
    x = np.random.default_rng(0).normal(size=(2, 6, 2))
    stream = grid.stream()
    stream({"x": x[:, :4]}, lengths={"T": [4, 2]})
    second = np.stack([x[0, 4:6], x[1, 2:4]])
    found = stream({"x": second})
    np.testing.assert_allclose(found["end"][0], grid.predict({"x": x[:1]})["end"][0], atol=1e-10)
    np.testing.assert_allclose(found["end"][1], grid.predict({"x": x[1:, :4]})["end"][0], atol=1e-10)


def test_a_state_can_be_kept_and_set_again() -> None:
    grid = compiled(TWO_GRID)
    x = np.random.default_rng(0).normal(size=(2, 6, 2))
    stream = grid.stream("time")
    stream({"x": x[:, :3]})
    kept = stream.state
    assert kept is not None
    assert {name: array.shape for name, array in kept.items()} == {"time hidden": (2, 3, 5), "time memory": (2, 3, 5)}
    once = stream({"x": x[:, 3:]})
    stream.state = kept
    again = stream({"x": x[:, 3:]})
    np.testing.assert_array_equal(once["every"], again["every"])


def test_a_stream_follows_the_grids_parameters() -> None:
    grid = compiled(SOURCE)
    x = np.random.default_rng(0).normal(size=(2, 6, 2))
    stream = grid.stream()
    stream({"x": x[:, :3]})
    for array in grid.parameters.values():
        array *= 0.5
    grid.parameters["time.start.h"] = np.arange(4.0)
    stream.reset()
    stream({"x": x[:, :3]})
    np.testing.assert_allclose(stream({"x": x[:, 3:]})["y"], grid.predict({"x": x})["y"][:, 3:], atol=1e-10)


@pytest.mark.parametrize("name", ["character-language-model", "stacked-lstm", "recurrent-highway", "text-classifier"])
def test_specs_of_the_folder_stream_in_single_precision(name: str) -> None:
    path = SPECS / f"{name}.yaml"
    if not path.exists():
        pytest.skip(f"there is no {name}.yaml")
    grid = gridc.compile(path, eager=False)
    inputs = arrays(grid, dict.fromkeys(grid.spec.symbols, 6), batch=2)
    stream = grid.stream()
    whole = grid.predict(inputs)
    parts = [stream(piece(grid, inputs, stream.axis, part, part.start == 0)) for part in (slice(0, 2), slice(2, 6))]
    for output, o in grid.spec.outputs.items():
        found = [p[output] for p in parts]
        joined = np.concatenate(found, axis=1 + o.axes.index(stream.axis)) if stream.axis in o.axes else found[-1]
        np.testing.assert_allclose(joined, whole[output], rtol=1e-4, atol=1e-5)


TIME = "{cell: lstm, hidden: 3}"
X = "joins: [time]"
Y = "reads: [time]"
SIGN = "{over: %s, cycle: [forward, backward]}"


def page(time: str = TIME, depth: str = "", x: str = X, y: str = Y, size: str = "2") -> str:
    other = f", depth: {depth}" if depth else ""
    return (f"name: n\ndimensions: {{time: T, depth: {size}}}\ntransforms: {{time: {time}{other}}}\n"
            f"inputs: {{x: {{features: 2, {x}}}}}\noutputs: {{y: {{raw: true, {y}}}}}\n")  # fmt: skip


@pytest.mark.parametrize(
    ("text", "along", "why"),
    [
        (page("{cell: lstm, hidden: 3, direction: backward}"), None, "travels backward there"),
        (page("{cell: lstm, hidden: 3, direction: " + SIGN % "depth" + "}"), None, "travels backward there"),
        (page("{cell: lstm, hidden: 3, along: [time, depth]}"), None, "one state travels along time and depth"),
        (page("{cell: dense, hidden: 3, reads: [{of: time, offset: {time: -2}}]}"), None, "reads 'time' 2 behind on time"),
        (page(depth="{cell: lstm, hidden: 3, reads: [{of: depth, offset: {time: -1}}]}"), None, "reads 'depth' 1 behind on time"),
        (page(depth="{cell: lstm, hidden: 3, direction: " + SIGN % "time" + "}"), None, "alternates with the index on time"),
        (page("{cell: lstm, hidden: 3, start: {wrap: {depth: -1}}}"), None, "starts from its own far end"),
        (page(depth="{cell: lstm, hidden: 3, start: {wrap: {time: -2}}}"), None, "further than one step back"),
        (page(), "depth", "has the fixed size 2"),
        (page(), "tiem", "there is no dimension 'tiem'.*did you mean 'time'"),
        (page(x="joins: [time], at: {time: last}, over: [time, depth]"), None, "input 'x' reaches time last"),
        (page(y="reads: [time], at: {time: first}"), None, "output 'y' is read at time first"),
        (page(size="T"), "time", "as long as depth"),
        (page(size="D"), None, "has time and depth whose size"),
    ],
)
def test_what_cannot_be_cut_is_said(text: str, along: str | None, why: str) -> None:
    grid = gridc.compile(text, eager=False)
    with pytest.raises(UsageError, match=why):
        grid.stream(along)


def test_what_does_not_fit_a_piece_is_said() -> None:
    grid = compiled(BEGUN)
    inputs = arrays(grid, {"T": 4})
    stream = grid.stream()
    with pytest.raises(DataError, match="input 'picture' is missing"):
        stream(piece(grid, inputs, stream.axis, slice(0, 2), False))
    stream(inputs)
    with pytest.raises(DataError, match="input 'picture' begins the stream"):
        stream(inputs)
    with pytest.raises(DataError, match="found 2 examples; expected 3"):
        stream({name: array[:2] for name, array in inputs.items() if name not in ("picture", "title")})
    assert "carrying time hidden; under way" in repr(stream)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([1, 2], "The inputs are list, expected a mapping of names to arrays, such as {'x': …}."),
        ({"y": np.zeros((2, 3, 2))}, "there is no input 'y'; expected x"),
        ({}, "input 'x' is missing; found none"),
        ({"x": [np.zeros((1, 2)), np.zeros((3, 2)), np.zeros((1, 2))]}, "input 'x': found 3 examples; expected 2, those of the"),
        ({"x": None}, "input 'x': found NoneType; expected an array of numbers"),
    ],
)
def test_later_pieces_that_do_not_fit(given: Any, sentence: str) -> None:
    """What is carried is no input of the user's: no sentence names it."""
    text = """
name: later
dimensions: {time: T}
transforms: {time: {cell: gru, hidden: 3}}
inputs: {x: {features: 2, joins: [time]}}
outputs: {y: {features: 1, reads: [time]}}
"""
    stream = gridc.compile(text, eager=False).stream()
    stream({"x": np.zeros((2, 3, 2))})
    with pytest.raises(DataError) as caught:
        stream(given)
    assert sentence in str(caught.value)
    stream.state = {"wrong": np.zeros((2, 3))}
    with pytest.raises(DataError, match=r"the stream's state (has|lacks) '(wrong|time hidden)'; expected time hidden"):
        stream({"x": np.zeros((2, 3, 2))})
