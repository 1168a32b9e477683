"""Infinity, NaN, huge and NumPy's numbers wherever a number may stand: in every key of a page and every option of a call."""

from __future__ import annotations

import contextlib
import math
import os
import types
import zlib
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import numpy as np
import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

import gridc
from gridc import parameters
from gridc.errors import GridcError, SpecError, UsageError
from gridc.language.document import Document
from gridc.language.page import parse
from gridc.language.spec import GridSpec
from gridc.options import Option, checked
from gridc.tables.training_block import Training
from gridc.training import setup
from gridc.training.fit import fit
from small_grid import SmallGrid, spec_of

ODD = [".inf", "-.inf", ".nan", "1.0e+300", "-1.0e+300", "1e400", "-1", "0", "1" + "0" * 30, "1.0e-320"]
THOROUGH = int(os.environ.get("GRIDC_EXAMPLES", "1")) > 1000
PAGE = """
name: odd
dimensions: {depth: 2, side: 3}
transforms:
  depth: {cell: lstm, hidden: 2, init: {normal: 0.1}, forget_bias: 1.0, dropout: 0.1, zoneout: 0.1}
  side: {cell: lstm, hidden: 2, init: {uniform: 0.1}, reads: [{of: depth, offset: {depth: -1}}]}
inputs: {x: {features: 4, enters: depth, init: {normal: 0.1}, at: {side: 1}}, w: {vocabulary: 3, embed: 2, joins: [side]}}
outputs: {y: {classes: 3, reads: [depth], at: {depth: last, side: [0, 1]}}, z: {features: 2, reads: [side], at: {depth: 0}}}
"""


def drawn(path: tuple[Any, ...]) -> list[str]:
    """The numbers that are tried there: all of them where the search is thorough, else two."""
    number = zlib.crc32(repr(path).encode())
    return ODD if THOROUGH else [ODD[number % len(ODD)], ODD[(number + 3) % len(ODD)]]


def numbers(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a page numbers stand."""
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(one, (*path, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def with_number(text: str, path: tuple[Any, ...], number: str) -> str:
    page, out = parse(text, "")[0], StringIO()
    inner = page
    for key in path[:-1]:
        inner = inner.setdefault(key, {}) if isinstance(inner, dict) else inner[key]
    inner[path[-1]] = "SET"
    YAML(typ="safe", pure=True).dump(page, out)
    return out.getvalue().replace("SET", number)


def meaning(text: str) -> GridSpec | SpecError:
    """The spec, or the mistake in it, which has a place."""
    try:
        return gridc.read(text)
    except SpecError as error:
        found = error
    assert found.line, (text, found)
    return found


@pytest.mark.parametrize("path", list(numbers(parse(PAGE, "")[0])), ids=str)
def test_a_number_of_a_page_is_used_or_refused_at_its_place(path: tuple[Any, ...]) -> None:
    for odd in drawn(path):
        spec = meaning(with_number(PAGE, path, odd))
        if isinstance(spec, GridSpec):
            assert all(np.isfinite(array).all() for array in parameters.initial(spec, 0, "float32").values()), odd
        else:
            assert "unknown key" not in spec.sentence


def fields(model: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of a block that takes a number, in mappings and rows of tables, too."""
    for name, field in model.model_fields.items():
        yield from holders(field.annotation, (*path, field.alias or name))


def holders(kind: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    origin = get_origin(kind)
    if kind in (int, float):
        yield path
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        yield from fields(kind, path)
    elif origin in (Union, types.UnionType) or hasattr(kind, "__metadata__"):
        for arm in get_args(kind):
            yield from holders(arm, path)
    elif origin is list:
        yield from holders(get_args(kind)[0], path)
    elif origin is dict and get_args(kind)[1] is not str:
        key = "y" if get_args(kind)[0] is str else 7
        yield from holders(get_args(kind)[1], (*path, key))


BLOCK = """
name: odd
dimensions: {depth: 2}
transforms: {depth: {cell: lstm, hidden: 4}}
inputs: {x: {features: 4, enters: depth}}
outputs: {y: {classes: 2, reads: [depth], at: {depth: last}}}
training: {task: parity, stop: {accuracy: 0.0}}
"""
PATHS = sorted({path for path in fields(Training) if path[0] not in ("task", "data")}, key=str)


def test_every_key_is_drawn() -> None:
    drawn = {path[0] for path in PATHS}
    assert drawn == {"batch", "budget", "checkpoint", "class_weights", "clip", "evaluate", "held_out", "keep", "linear_start",
                     "optimizer", "schedule", "seed", "stop", "weights"}  # fmt: skip
    assert {path for path in PATHS if path[0] == "evaluate"} == {
        ("evaluate", name) for name in ("epochs", "samples", "steps", "seconds")}  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_a_number_of_the_training_block_is_trained_with_or_refused_at_its_place(path: tuple[Any, ...], tmp_path: Path) -> None:
    data = ({"x": np.eye(4, dtype="float32")}, {"y": np.array([0, 1, 0, 1])})
    for odd in drawn(path):
        text = with_number(BLOCK, path, f"[{odd}, 1]" if path[0] == "class_weights" else odd)
        spec = meaning(text)
        if isinstance(spec, SpecError):
            continue
        block = spec.training
        assert block is not None
        grid: Any = SmallGrid(spec)
        rows = {block.optimizer.name: block.optimizer.options}
        schedule = None if block.schedule is None else {block.schedule.name: block.schedule.options}
        with contextlib.suppress(GridcError):
            fit(grid, data, block.held_out, optimizer=rows, batch=block.batch, budget=block.budget, stop=block.stop,
                linear_start=block.linear_start, seed=block.seed, clip=block.clip, schedule=schedule, weights=block.weights,
                class_weights=block.class_weights,
                keep=block.keep, evaluate=block.evaluate, checkpoint=block.checkpoint, progress="none", folder=tmp_path,
                overwrite=True)  # fmt: skip


ROWS = {"int": 3, "float": 0.5, "bool": True, "ints": [1, 2], "steps": {3: 0.5}}


@pytest.mark.parametrize("kind", list(ROWS))
def test_numbers_of_numpy_are_options(kind: Any) -> None:
    option = Option("one", kind, None, "")
    given = ROWS[kind]
    forms = [np.asarray(given), np.asarray(given)[()]] if kind != "steps" else [{np.int64(3): np.float32(0.5)}]
    for form in [*forms, given]:
        found = checked("a row", (option,), {"one": form})["one"]
        assert found == given
        assert type(found) is type(given)


def test_numbers_of_numpy_train_as_python_s_do(tmp_path: Path) -> None:
    spec = spec_of(y="classes: 2")
    rng = np.random.default_rng(0)
    data = ({"x": rng.normal(size=(40, 4)).astype("float32")}, {"y": rng.integers(0, 2, 40)})
    options: dict[str, Any] = {
        "optimizer": {"adam": {"learning_rate": 0.01}}, "batch": 8, "budget": 2, "seed": 3, "clip": 1.0,
        "stop": {"patience": 3, "min_delta": 0.5},
        "weights": {"y": 1.0}, "class_weights": {"y": [1.0, 2.0]}, "evaluate": {"steps": 2},
        "checkpoint": {"steps": 2}, "keep": 2, "shuffle": True, "standardize": False, "held_out": 0.25,
        "schedule": {"piecewise_constant_schedule": {"boundaries_and_scales": {3: 0.5}}},
    }  # fmt: skip

    def numpys(value: Any) -> Any:
        if isinstance(value, dict):
            return {numpys(key) if isinstance(key, int) else key: numpys(one) for key, one in value.items()}
        return np.asarray(value)[()] if not isinstance(value, str) else value

    ends = []
    for number, form in enumerate((options, numpys(options))):
        grid: Any = SmallGrid(spec)
        fit(grid, data, folder=tmp_path / str(number), progress="none", **form)
        ends.append(grid.parameters)
    for name, array in ends[0].items():
        np.testing.assert_array_equal(array, ends[1][name])
    # The two are one training: each goes on with the other's checkpoint.
    fit(SmallGrid(spec), data, folder=tmp_path / "0", progress="none", resume=True, **numpys(options))


@pytest.mark.parametrize("odd", [-1, 1.5, "x", None, math.inf, math.nan, True, np.float64(2)])
def test_counts_of_calls(odd: Any) -> None:
    plan = gridc.schedule(BLOCK)
    calls = [lambda: gridc.compile(BLOCK, seed=odd, eager=False), lambda: plan.plan(odd), lambda: plan.simulate(odd),
             lambda: plan.to_json(batch=odd)]  # fmt: skip
    for call in calls:
        with pytest.raises(UsageError, match=r"found .*; expected (a positive integer|an integer from 0)"):
            call()


def test_a_budget_without_end_is_ended_by_the_rule() -> None:
    data = ({"x": np.eye(4, dtype="float32")}, {"y": np.array([0, 1, 0, 1])})
    for budget in (math.inf, {"epochs": math.inf}, {"seconds": math.inf}):
        grid: Any = SmallGrid(spec_of(y="classes: 2"))
        done = fit(grid, data, budget=budget, stop={"accuracy": 0.0}, progress="none")
        assert done.reason == "It reached the accuracy of 0."


def test_titles_name_what_a_number_of_a_mapping_is() -> None:
    with pytest.raises(SpecError, match=r"'training', weights\.y: found -1; expected a number from 0"):
        gridc.read(BLOCK.replace("task: parity", "task: parity, weights: {y: -1}"))
    with pytest.raises(UsageError, match=r"'weights' is \{'y': nan\}, expected a mapping of output to a number from 0\."):
        setup.arguments(weights={"y": math.nan})
    assert Document.model_config["allow_inf_nan"] is False
