"""The fused sweep on JAX: the CPU's numbers for every spec, nothing compiled within a bucket, a training on the device."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gridc
from gridc.language import noise
from gridc.scheduling import padded
from gridc.symbolic import backends
from strategies import Case, case_of, grids
from test_backends import SMALL, SPEC, example
from test_grid import ROOM, WRAPS_BACK

jax = pytest.importorskip("jax")
backends.prepare()
import pytensor  # noqa: E402
import pytensor.tensor as pt  # noqa: E402

SPECS = Path(__file__).parents[1] / "specs"
THOROUGH = int(os.environ.get("GRIDC_EXAMPLES", "200")) > 200


@pytest.fixture(autouse=True)
def _nothing_in_room_means_anything(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    """What a training's first step finds in the room that it writes over is not a number."""
    from gridc.device import room

    monkeypatch.setattr(room, "fresh", lambda shape, dtype: jax.numpy.full(shape, np.nan, dtype))


def sweeps(path: Path) -> bool:
    """Whether a spec can be compiled and its sweep be fused."""
    spec = gridc.read(path)
    return bool(spec.inputs and spec.outputs)


FUSED = [path.stem for path in sorted(SPECS.glob("*.yaml")) if sweeps(path)]
FEW = {"stacked-lstm", "one-grid-untied", "peepholes", "recurrent-highway", "multi-dimensional-lstm", "reencoder"}
"""Specs that hand on, are untied, have peepholes, wrap, travel along two dimensions at once, and turn round."""
EVERY = [path.stem for path in sorted(SPECS.glob("*.yaml")) if gridc.read(path).inputs]


def data(spec: gridc.GridSpec, length: int, batch: int, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Inputs and targets, ``[batch, *axes, …]``, and a length for each example, the first of which fills the grid."""
    random = np.random.default_rng(seed)
    sizes = spec.sizes(dict.fromkeys(spec.symbols, length))

    def drawn(below: int | None, shape: tuple[int, ...]) -> Any:
        return random.normal(size=shape) if below is None else random.integers(0, below, shape)

    inputs: dict[str, Any] = {}
    for name, x in spec.inputs.items():
        shape = (batch, 3) if x.facts else (batch, *(sizes[d] for d in x.over))
        if x.kind == "features":
            inputs[name] = drawn(None, (*shape, x.size))
        else:
            inputs[name] = drawn(x.size, (*shape, *(4,) * x.facts))
    targets: dict[str, Any] = {}
    for name, o in spec.outputs.items():
        shape = (batch, *(sizes[d] for d in o.axes))
        below = {"classes": o.size, "binary": 2}.get(o.kind)
        targets[name] = drawn(below, shape if below else (*shape, o.size))
    lengths = {symbol: np.r_[length, random.integers(1, length + 1, batch - 1)] for symbol in spec.symbols}
    return inputs, targets, lengths


def pair(page: Any, dtype: Any, seed: int = 3) -> tuple[gridc.Grid, gridc.Grid]:
    """The grid on JAX and the same on the CPU, with parameters that are nowhere zero."""
    there, here = (gridc.compile(page, backend=b, lowering="fused", dtype=dtype, eager=False) for b in ("jax", "python"))
    random = np.random.default_rng(seed)
    for name, array in here.parameters.items():
        there.parameters[name] = array[...] = array + 0.1 * random.normal(size=array.shape)
    return there, here


def same(there: gridc.Grid, here: gridc.Grid, call: Any, tolerance: float) -> None:
    loss, gradients, outputs = there.loss_and_gradients(*call)
    known, slopes, results = here.loss_and_gradients(*call)
    assert loss == pytest.approx(known, rel=tolerance)
    for name, array in results.items():
        np.testing.assert_allclose(outputs[name], array, rtol=tolerance, atol=tolerance, err_msg=name)
    for name, array in slopes.items():
        assert gradients[name].dtype == array.dtype
        largest = np.abs(array).max()
        np.testing.assert_allclose(gradients[name], array, rtol=tolerance, atol=tolerance * largest, err_msg=name)


WITHIN = {"float32": 1e-5, "float64": 1e-11}


@pytest.mark.parametrize("name", sorted(FEW))
def test_a_spec_has_the_losses_and_gradients_of_the_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridc.device.weights.AT_ONCE", 1 << 12)  # so that few rows are already several products
    there, here = pair(SPECS / f"{name}.yaml", "float64")
    assert there.lowering == "fused"
    same(there, here, data(there.spec, 5, 3), WITHIN["float64"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUSED)
def test_every_spec_trains_as_on_the_cpu(name: str, dtype: str) -> None:
    close, apart = {"float32": (1e-5, 1e-3), "float64": (1e-11, 1e-8)}[dtype]
    there, here = pair(SPECS / f"{name}.yaml", dtype)
    before = {n: array.copy() for n, array in here.parameters.items()}
    call = data(there.spec, 5, 3)
    steps = [grid.training_step("sgd", learning_rate=0.5) for grid in (there, here)]
    for _ in range(3):
        ours, theirs = (step(*call) for step in steps)
        assert ours == pytest.approx(theirs, rel=close, abs=close / 20)  # a small loss is the difference of numbers of about 1
    for n, array in here.parameters.items():
        moved = np.abs(array - before[n]).max()
        assert moved > 0
        np.testing.assert_allclose(there.parameters[n], array, rtol=close / 10, atol=apart * moved, err_msg=n)


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUSED)
def test_every_spec_in_both_precisions_and_other_sizes(name: str, dtype: str) -> None:
    there, here = pair(SPECS / f"{name}.yaml", dtype)
    for length, batch in ((9, 5), (1, 1)):
        same(there, here, data(there.spec, length, batch), WITHIN[dtype])
        for output, array in here.predict(*data(there.spec, length, batch)[::2]).items():
            found = there.predict(*data(there.spec, length, batch)[::2])[output]
            np.testing.assert_allclose(found, array, atol=WITHIN[dtype])


@pytest.mark.thorough
@pytest.mark.filterwarnings("error::FutureWarning")
@pytest.mark.parametrize("name", EVERY)
def test_every_spec_trains_plain_in_single_precision(name: str) -> None:
    grid = gridc.compile(SPECS / f"{name}.yaml", backend="jax", lowering="plain", eager=False)
    call = data(grid.spec, 4, 2)
    step = grid.training_step("adam", learning_rate=1e-2)
    losses = [step(*call) for _ in range(3)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] or noise.noisy(grid.spec)


@pytest.mark.thorough
def test_single_precision_stays_so_in_a_scan() -> None:
    spec = SPECS / "rnn-grid.yaml"
    there, here = (gridc.compile(spec, backend=b, lowering=how, eager=False)
                   for b, how in (("jax", "plain"), ("python", "fused")))  # fmt: skip
    same(there, here, data(here.spec, 3, 2), WITHIN["float32"])


def test_pytensor_still_needs_the_rewrite_of_accumulators() -> None:
    """Where this fails PyTensor has been mended: ``gridc.symbolic.accumulators`` can go."""
    x = pt.fvector("x")
    function = pytensor.function([x], pt.sum(x, acc_dtype="float64"), mode="JAX")
    mended = pytensor.function([x], pt.sum(x, acc_dtype="float64"), mode=backends.BACKENDS["jax"].mode())
    given = np.ones(3, "float32")
    assert function.vm.jit_fn(given)[0].dtype == "float64"
    assert mended.vm.jit_fn(given)[0].dtype == "float32"


def on_jax(case: Case) -> None:
    there, here = (gridc.compile(case.text, backend=b, dtype="float64", lowering="fused", eager=False)
                   for b in ("jax", "python"))  # fmt: skip
    for name, array in case.parameters.items():
        there.parameters[name] = here.parameters[name] = array
    if here.random_state is not None:
        there.random_state = here.random_state  # the same masks
    call = case.inputs, case.targets, case.lengths
    loss, gradients, outputs = there.loss_and_gradients(*call)
    known, slopes, results = here.loss_and_gradients(*call)
    assert loss == pytest.approx(known, rel=1e-10, abs=1e-10)
    for found, expected in ((outputs, results), (gradients, slopes)):
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-10, err_msg=name)


@settings(ROOM, max_examples=100 if THOROUGH else 3)
@given(case=st.integers(0, 4).flatmap(lambda k: grids(memory=k == 4, noise=k > 1)))
def test_random_grids_have_the_numbers_of_the_cpu(case: Case) -> None:
    on_jax(case)


def test_what_wraps_in_a_shorter_example_comes_from_its_own_far_end() -> None:
    on_jax(case_of(WRAPS_BACK, {"T": 4}, batch=3, lengths={"T": [2, 4, 1]}))


@pytest.mark.parametrize("reader", [{}, {"u": {"cell": "gru", "hidden": 2, "reads": ["t", "u"]}}], ids=["alone", "read"])
def test_a_pass_that_hands_on_itself_keeps_what_enters_alone(reader: dict[str, Any]) -> None:
    page = {
        "name": "handed", "dimensions": {"time": "T", "depth": 2},
        "transforms": {"t": {"cell": "pass", "hidden": 1, "along": "depth", "reads": ["t"]},
                       **{name: {**t, "along": "time"} for name, t in reader.items()}},
        "inputs": {"x": {"features": 1, "enters": "t"}},
        "outputs": {"y": {"reads": ["t", *reader], "classes": 2}},
    }  # fmt: skip
    on_jax(case_of(page, {"T": 3}, batch=2, lengths={"T": [2, 3]}))


def test_what_joins_few_cells_is_multiplied_before_the_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    from gridc.device.sweep import Sweep

    page = {
        "name": "ahead", "dimensions": {"time": "T", "depth": 6},
        "transforms": {name: {"cell": "lstm", "hidden": 2, "along": name} for name in ("time", "depth")},
        "inputs": {"x": {"features": 3, "joins": ["time", "depth"], "at": {"depth": "first"}}},
        "outputs": {"y": {"reads": ["time", "depth"], "at": {"depth": "last"}, "classes": 2}},
    }  # fmt: skip
    made: list[list[Any]] = []
    ahead = Sweep._ahead

    def seen(self: Sweep, g: int) -> list[Any]:
        made.append(ahead(self, g))
        return made[-1]

    monkeypatch.setattr(Sweep, "_ahead", seen)
    on_jax(case_of(page, {"T": 3}, batch=2, lengths={"T": [2, 3]}))
    assert [array.shape for array in made[0]] == [(2 * (2 * 3 + 1), 5 * 2 - 2)]


# -- what is compiled --------------------------------------------------------------------------------------------------


@pytest.fixture
def compilations(caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    """``count()``: how many programs XLA has compiled since it was last asked."""
    jax.config.update("jax_log_compiles", True)
    caplog.set_level(logging.WARNING)

    def count() -> int:
        found = sum("Finished XLA compilation" in record.getMessage() for record in caplog.records)
        caplog.clear()
        return found

    yield count
    jax.config.update("jax_log_compiles", False)


def test_nothing_is_compiled_within_a_bucket(compilations: Any) -> None:
    grid = gridc.compile(SPECS / "two-grid.yaml", backend="jax", eager=False)
    step = grid.training_step("adam")
    assert padded.bucket(33) == padded.bucket(34) == 34
    step(*data(grid.spec, 34, 34)[:2])
    assert compilations() > 0
    for length, batch in ((33, 33), (34, 34), (33, 34)):
        inputs, targets, lengths = data(grid.spec, length, batch, seed=length)
        step(inputs, targets)
        step(inputs, targets, lengths)
    assert compilations() == 0
    step(*data(grid.spec, 35, 34))
    assert compilations() > 0


def test_a_bucket_is_at_most_a_sixteenth_larger() -> None:
    sizes = [padded.bucket(n) for n in range(1, 3000)]
    assert all(n <= size <= max(n, 1.0625 * n + 1) for n, size in enumerate(sizes, 1))
    assert sizes == sorted(sizes)
    assert all(padded.bucket(size) == size for size in sizes)


def test_turns_that_need_much_more_room_are_a_phase_of_their_own() -> None:
    needed = np.array([[100, 0], *[[0, 2]] * 30])
    assert padded.phases(needed, int(needed.sum())) == [(0, 1), (1, 31)]
    ramps = np.minimum(np.arange(1, 20), np.arange(1, 20)[::-1])[:, None]
    assert padded.phases(ramps, int(ramps.sum())) == [(0, 19)]
    assert padded.phases(ramps, int(ramps.sum()), worth=20) == [(0, 4), (4, 13), (13, 19)]


PADDED = """
name: padded
dimensions: {time: T, depth: 2}
transforms:
  time: {cell: lstm, hidden: 3, dropout: 0.5, zoneout: 0.3, tied: [time], reads: [time, {of: depth, offset: {depth: -1}}]}
  depth: {cell: lstm, hidden: 3, dropout: 0.4, zoneout: 0.3, reads: [depth, time]}
  back: {cell: gru, along: time, direction: backward, hidden: 3, reads: [back, time, depth]}
  up: {cell: pass, along: depth, reads: [{of: time, offset: {time: 1}}]}
  hops: {cell: memory, along: depth, hidden: 2, attends: story, start: learned, dropout: 0.3}
  sum: {cell: dense, along: depth, hidden: 2, zoneout: 0.1, reads: [sum, back, up, hops]}
inputs:
  x: {features: 2, joins: [time, back], at: {time: last}}
  y: {features: 2, enters: depth}
  story: {vocabulary: 5, facts: true}
outputs:
  z: {features: 1, reads: [sum, up]}
"""
"""Masks of two members of one group, what a `pass` sees ahead of it, what joins at the end, and facts."""


def test_masks_and_facts_are_filled_up_to_the_bucket(compilations: Any) -> None:
    there, here = pair(PADDED, "float64")
    for length, batch, facts in ((33, 33, 33), (34, 34, 34)):
        inputs, targets, lengths = data(here.spec, length, batch, seed=facts)
        inputs["story"] = np.random.default_rng(0).integers(0, 5, (batch, facts, 2))
        assert here.random_state is not None
        there.random_state = here.random_state
        if length == 34:
            compilations()
        same(there, here, (inputs, targets, lengths), WITHIN["float64"])
    assert compilations() == 0


NARROW = """
name: narrow
dimensions: {time: T, depth: 2}
transforms:
  time: {cell: lstm, hidden: 6, tied: [time]}
  depth: {cell: lstm, hidden: 5}
inputs:
  x: {features: 3, enters: depth}
  z: {features: 4, joins: [time], at: {depth: first}}
outputs: {y: {classes: 4, reads: [depth, time], at: {time: last, depth: last}}}
"""


def test_products_in_bfloat16_are_those_of_the_cpu() -> None:
    there, here = pair(NARROW, "bfloat16")
    exact = pair(NARROW, "float32")[1]
    assert (there.dtype, there.products, there.lowering) == ("float32", "bfloat16", "fused")
    call = data(here.spec, 6, 3)
    (loss, slopes, _), (known, ours, _), (_, others, _) = (grid.loss_and_gradients(*call) for grid in (there, here, exact))
    assert loss == pytest.approx(known, rel=1e-4)
    apart = 0.0
    for name, array in ours.items():
        largest = np.abs(array).max()
        assert slopes[name].dtype == np.float32
        # What differs in the last digit before it is rounded may differ by one in the eighth after that.
        np.testing.assert_allclose(slopes[name], array, rtol=0, atol=5e-4 * largest, err_msg=name)
        apart = max(apart, float(np.abs(others[name] - array).max() / largest))
    assert apart > 2e-3, "it multiplies in float32"
    there.training_step("sgd", learning_rate=0.1)(*call)
    assert {array.dtype for array in there.parameters.values()} == {np.dtype(np.float32)}


def compiled(grid: gridc.Grid, inputs: Any, targets: Any) -> tuple[padded.Plan, str, list[str]]:
    """A training step as XLA compiled it: the plan, the whole text, and the bodies of its loops."""
    from gridc.device.shards import exact
    from gridc.training.optimizers import optimizer

    run: Any = grid.updates(optimizer("sgd"))
    run.begin(inputs, targets)()
    call, told = run.check(inputs, targets)
    with exact(), run.functions.ready("training step", call, told) as (plan, given):
        text: str = run._steps[plan].lower(*run.arguments(given, run.left.take(plan))).compile().as_text()
    names = set(re.findall(r"body=%([\w.-]+)", text))
    return plan, text, [text[text.index(f"\n%{name} (") :].split("\n}", 1)[0] for name in names]


def test_no_storage_is_copied_in_a_loop() -> None:
    grid = gridc.compile(SPECS / "two-grid.yaml", backend="jax", eager=False)
    plan, _, bodies = compiled(grid, *data(grid.spec, 17, 20)[:2])
    rows = min(group.rows for group in plan.groups)
    assert len(bodies) >= 2 * len(plan.phases)
    written = 0
    for body in bodies:
        written += "dynamic-update-slice" in body
        copied = [tuple(map(int, shape.split(","))) for shape in re.findall(r"= f32\[([\d,]+)\]\S* copy\(", body)]
        assert all(math.prod(shape) < rows * plan.groups[0].hidden for shape in copied), body
    assert written >= 2 * len(plan.phases)


SMALL_TURNS = """
name: small-turns
dimensions: {time: T, depth: 24}
transforms: {time: {cell: lstm, hidden: 24}, depth: {cell: lstm, hidden: 24}}
priority: [time, depth]
inputs: {x: {features: 2, enters: depth}}
outputs: {y: {features: 1, reads: [depth], at: {time: last, depth: last}}}
"""


def test_small_turns_are_one_cores_and_find_their_weights_as_they_lie() -> None:
    grid = gridc.compile(SMALL_TURNS, backend="jax", eager=False)
    plan, text, bodies = compiled(grid, *data(grid.spec, 48, 1)[:2])
    assert max(4 * g.rows * g.vectors * g.hidden for g in plan.groups) > 1 << 20, "so small that XLA would not share it anyway"
    assert len(bodies) >= 2
    assert not re.search(r'outer_dimension_partitions":\["', text)
    products = [line for line in text.splitlines() if re.search(r"= f32\[2,\d+,\d+\]\S* dot\(", line) and "/while/body/" in line]
    assert len(products) >= 2
    assert all("rhs_contracting_dims={1}" in line for line in products), products
    # Nor is the storage copied between the loops, although one row of it is read again behind them.
    copied = [tuple(map(int, shape.split(","))) for shape in re.findall(r"= f32\[([\d,]+)\]\S* copy\(", text)]
    assert all(math.prod(shape) < plan.groups[0].rows * plan.groups[0].hidden for shape in copied), copied
    # Where parameters are large, or turns, the cores share.
    plans: Any = grid._on_device.functions.plans  # type: ignore[union-attr]
    wide = [replace(block, rows=100 * block.rows) for block in plan.phases[0].blocks]
    assert plans.options(plan, 4000)
    assert plans.options(plan, 1 << 30) is None
    assert plans.options(replace(plan, phases=(replace(plan.phases[0], blocks=tuple(wide)),)), 4000) is None


def test_a_step_writes_over_what_the_last_one_left() -> None:
    from gridc.device import room
    from gridc.training.optimizers import optimizer

    grid = gridc.compile(SMALL_TURNS, backend="jax", eager=False)
    run: Any = grid.updates(optimizer("sgd"))
    inputs, targets, _ = data(grid.spec, 7, 2)

    def left() -> dict[str, int]:
        return {name: array.unsafe_buffer_pointer() for name, array in run.left._last[1].items()}

    run.begin(inputs, targets)()
    first = left()
    assert set(first) == set(room.shapes(run.left._last[0]))
    assert all(not np.isnan(array).any() for array in run.left._last[1].values())
    run.begin(inputs, targets)()
    assert left() == first
    grid.predict(inputs)
    assert run.left._last is None, "memory is kept while something else is computed"
    assert run.begin(inputs, targets)().good
    last, known = run.left._last
    run.begin(*data(grid.spec, 9, 2)[:2])()  # another bucket
    assert run.left._last[0] is not last
    assert set(run.left._last[1]) == set(known)


# -- for other people's programs ---------------------------------------------------------------------------------------


def test_jax_differentiates_a_lowered_loss() -> None:
    from gridc.data import fitting
    from gridc.device.functions import Functions
    from gridc.device.shards import exact

    here = gridc.compile(SPEC, dtype="float64", eager=False)
    functions = Functions(here.spec, "float64", backends.BACKENDS["jax"].mode, None)
    inputs, targets, lengths = example(3, 4)
    call = fitting.check(here.spec, inputs, lengths, "float64")
    told = [*fitting.check_targets(here.spec, targets, call, "float64").values(),
            *fitting.check_weights(here.spec, {}, call, "float64")]  # fmt: skip
    with exact():
        prepared = functions.plans.prepared(call, functions.symbols)
        given = [*functions.padded(prepared, call, told), *prepared.indices]
        loss = functions.function("loss", prepared.plan, call)
        first, *others = here.parameters.values()
        found = jax.grad(lambda parameters: loss(*parameters, *given)[0])([first, *others])
        known = here.gradients(inputs, targets, lengths)
        for slope, (name, array) in zip(found, known.items(), strict=True):
            np.testing.assert_allclose(slope, array, rtol=1e-10, atol=1e-13, err_msg=name)
        slopes = functions.function("gradients", prepared.plan, call)
        with pytest.raises(gridc.UsageError, match="lowering='plain'"):
            jax.grad(lambda w: slopes(w, *others, *given)[-1].sum())(first)


# -- training ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "adagrad", "sgd"])
def test_a_rule_on_a_device_is_the_rule_on_the_host(name: str) -> None:
    """On arrays alone: the rules know nothing of grids."""
    from gridc.device.packing import pack
    from gridc.device.shards import exact
    from gridc.device.updates import step
    from gridc.training.optimizers import optimizer

    random = np.random.default_rng(0)
    own: dict[str, Any] = {"rmsprop": {"centered": True, "momentum": 0.5}, "sgd": {"momentum": 0.9, "nesterov": True}}
    options = own.get(name, {})
    start = {"a": random.normal(size=(3, 4)).astype("float32"), "b": random.normal(size=5).astype("float32")}
    gradients = {n: random.normal(size=(3, *array.shape)).astype("float32") for n, array in start.items()}
    here, there = (optimizer(name, clip=2.0, weight_decay=0.01, **options) for _ in range(2))
    parameters = {n: array.copy() for n, array in start.items()}
    there.start(start)
    run = step(lambda a, b, loss, *slopes: (loss, *slopes), list(start), there, 0)
    held, state = {n: jax.numpy.array(a) for n, a in start.items()}, {n: jax.numpy.array(a) for n, a in there.slots.items()}
    for k in range(3):
        now = {n: g[k] for n, g in gradients.items()}
        here.update(parameters, now)
        with exact():
            numbers, layout = pack([np.array([there.rate, k + 1]), np.array(1, np.float32)])  # rate, count, and a loss
            held, state, _, told, _ = run(held, state, {}, np.ones(3), numbers, layout, *now.values())
        loss, norm, good = told.tolist()
        assert (loss, good) == (1, 1)
        assert norm == pytest.approx(here.norm, rel=1e-6)
    for n, array in parameters.items():
        np.testing.assert_allclose(held[n], array, rtol=1e-6, atol=1e-7)
    for n, array in here.slots.items():
        np.testing.assert_allclose(state[n], array, rtol=1e-6, atol=1e-7)
    with exact():
        nan = [np.full_like(g, np.nan) for g in now.values()]
        after, _, _, told, _ = run(held, state, {}, np.ones(3), numbers, layout, *nan)
    assert not told[2]
    np.testing.assert_allclose(after["a"], parameters["a"], rtol=1e-6, atol=1e-7)


def test_arrays_of_every_kind_travel_as_one() -> None:
    from gridc.device.packing import pack, unpack
    from gridc.device.shards import exact

    random = np.random.default_rng(0)
    kinds = ("float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool", "float16")
    arrays = [random.integers(0, 2 + 97 * (k != "bool"), shape).astype(k) for k in kinds for shape in ((3, 5), (), (0, 2), (7,))]
    whole, layout = pack(arrays)
    assert hash(layout) == hash(pack(arrays)[1])
    with exact():
        for array, found in zip(arrays, jax.jit(lambda w: unpack(w, layout))(whole), strict=True):
            assert (found.dtype, found.shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(found, array)


SHORT: dict[str, Any] = {
    "batch": 4, "seed": 1, "evaluate": {"steps": 2}, "checkpoint": {"steps": 1}, "progress": "none", "clip": 1.0}  # fmt: skip


def test_a_training_on_jax_is_that_on_the_cpu_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    call = {"x": random.normal(size=(12, 4, 2))}, {"y": random.normal(size=(12, 1))}, {"T": random.integers(1, 5, 12)}
    page = SMALL.replace("hidden: 2", "hidden: 2, zoneout: 0.2")
    here, whole, broken, resumed = (
        gridc.compile(page, backend=b, seed=3, eager=False) for b in ("python", "jax", "jax", "jax"))  # fmt: skip
    histories = [grid.fit(*call, budget={"steps": 7}, **SHORT) for grid in (here, whole)]
    for ours, theirs in zip(*(history.records for history in histories), strict=True):
        assert theirs.loss == pytest.approx(ours.loss, rel=1e-4)
    broken.fit(*call, budget={"steps": 4}, folder=tmp_path / "run", **SHORT)
    resumed.fit(*call, budget={"steps": 7}, folder=tmp_path / "run", resume=True, **SHORT)
    for name, array in whole.parameters.items():
        np.testing.assert_array_equal(resumed.parameters[name], array)
        np.testing.assert_allclose(array, here.parameters[name], rtol=1e-3, atol=1e-4)
    # The file is the same for every backend.
    whole.save(tmp_path / "model.grid")
    loaded = gridc.load(tmp_path / "model.grid")
    assert loaded.backend.name == "python"
    assert loaded.loss(*call) == pytest.approx(whole.loss(*call), rel=1e-5)
    assert loaded.score(*call)["y"] == pytest.approx(whole.score(*call)["y"], rel=1e-4)


def test_a_step_that_was_begun_after_one_that_went_wrong_changes_nothing() -> None:
    from gridc.training.optimizers import optimizer

    random = np.random.default_rng(0)
    call = {"x": random.normal(size=(12, 4, 2))}, {"y": random.normal(size=(12, 1))}
    call[1]["y"][4:8] = 1e30  # whose square is infinite
    left: list[Any] = []
    for backend in ("python", "jax"):
        grid, adam = gridc.compile(SMALL, backend=backend, seed=3, eager=False), optimizer("adam", learning_rate=0.1)
        with pytest.raises(gridc.NumbersError, match=r"At step 2 \(batch 2 of epoch 1, examples 4, 5, 6, 7…\) the loss is inf"):
            grid.fit(*call, optimizer=adam, batch=4, budget={"steps": 3}, shuffle=False, progress="none")
        assert adam.count == 1
        left.append(dict(grid.parameters))
    for name, array in left[0].items():
        np.testing.assert_allclose(left[1][name], array, rtol=1e-4, atol=1e-6)


def test_the_hosts_parameters_and_the_devices_are_one_thing() -> None:
    page = SPECS / "parity.yaml"
    grid = gridc.compile(page, backend="jax", eager=False)
    inputs, targets, _ = data(grid.spec, 1, 4)
    step = grid.training_step("sgd", learning_rate=0.1)
    step(inputs, targets)
    name = next(iter(grid.parameters))
    moved = grid.parameters[name].copy()
    step(inputs, targets)
    assert not np.array_equal(grid.parameters[name], moved)
    known = grid.loss(inputs, targets)
    grid.parameters[name][...] = 0  # in place, on the host
    assert grid.loss(inputs, targets) != known
    step(inputs, targets)
    assert np.abs(grid.parameters[name]).max() <= 0.2


def test_a_step_that_is_not_finite_changes_nothing_and_says_so() -> None:
    grid = gridc.compile(SPECS / "parity.yaml", backend="jax", eager=False)
    inputs, targets, _ = data(grid.spec, 1, 4)
    step = grid.training_step("adam")
    step(inputs, targets)
    name = next(iter(grid.parameters))
    grid.parameters[name][...] = np.nan
    others = {n: array.copy() for n, array in grid.parameters.items() if n != name}
    with pytest.raises(gridc.NumbersError, match="at update 2"):
        step(inputs, targets)
    for n, array in others.items():
        np.testing.assert_array_equal(grid.parameters[n], array)


def test_a_stream_follows_a_training_on_the_device() -> None:
    page = """
name: streamed
dimensions: {time: T, depth: 2}
transforms: {time: {cell: lstm, hidden: 3, start: learned}, depth: {cell: lstm, hidden: 3}}
priority: [time, depth]
inputs: {x: {features: 2, enters: depth}}
outputs: {y: {features: 1, reads: [depth], at: {depth: last}}}
"""
    grid = gridc.compile(page, backend="jax", eager=False)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(2, 6, 2)), random.normal(size=(2, 6, 1))
    stream = grid.stream()
    step = grid.training_step("sgd", learning_rate=0.5)
    step({"x": x}, {"y": y})
    parts = [stream({"x": x[:, :4]})["y"], stream({"x": x[:, 4:]})["y"]]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), grid.predict({"x": x})["y"], rtol=1e-5, atol=1e-6)


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_every_spec_is_fused_on_jax_and_keeps_every_step() -> None:
    for name in FUSED:
        assert gridc.compile(SPECS / f"{name}.yaml", backend="jax", eager=False).lowering == "fused"
    with pytest.raises(gridc.UsageError, match="recompute=True needs the backend 'python'"):
        gridc.compile(SPECS / "two-grid.yaml", backend="jax", recompute=True)
