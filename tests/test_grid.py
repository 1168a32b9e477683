"""Random grids three ways, against the oracle, plain and fused: outputs, losses and gradients, in both precisions.

The plain lowering is run as it stands, before PyTensor rewrites it and with what ``plain_shapes`` saves: rewriting takes ten
times as long as everything else here and its rules are PyTensor's own.  So the plain lowering *as shipped* is compared on few
random grids: ``test_plain_as_compiled`` has two of them, each the way that a user compiles it, and two hundred where
GRIDC_EXAMPLES asks for two thousand of the others (``make thorough``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytensor.tensor.basic
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Constant
from pytensor.link.vm import VMLinker

import gridc
import oracle
from gridc.scheduling import counts
from strategies import Case, case_of, grids

EXAMPLES = int(os.environ.get("GRIDC_EXAMPLES", "200"))
EACH = 200 if EXAMPLES > 200 else min(EXAMPLES, 90)
"""Many examples come in parts of so many, each drawn from a seed of its own, so that workers share them.  A run of the whole
suite draws fewer: nearly all of their time goes into PyTensor's graphs of the plain lowering."""
IN_PARTS = pytest.mark.parametrize("part", range(EXAMPLES // 200 or 1))
ROOM = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
TOLERANCE = {"float64": 1e-10, "float32": 2e-4}
UNCHANGED = Mode(VMLinker(use_cloop=False, c_thunks=False), None)

Results = tuple[float, dict[str, np.ndarray], dict[str, np.ndarray]]  # loss, outputs, gradients


@pytest.fixture
def plain_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every array that a Scan's gradient makes looks through the whole graph for sizes that happen to be constant, which
    takes most of the time to build it.  Here it takes only those that are written as constants."""

    def written(shape: Any) -> Any:
        sizes = [pytensor.tensor.basic.as_tensor_variable(size, ndim=0) for size in shape]
        return sizes, tuple(size.data.item() if isinstance(size, Constant) else None for size in sizes)

    monkeypatch.setattr(pytensor.tensor.basic, "infer_static_shape", written)
    monkeypatch.setattr(pytensor.config, "traceback__limit", 0)


def compiled(case: Case, lowering: Any, dtype: Any, recompute: bool = False) -> gridc.Grid:
    grid = gridc.compile(case.text, lowering=lowering, dtype=dtype, eager=False, recompute=recompute)
    assert {name: array.shape for name, array in grid.parameters.items()} == {n: a.shape for n, a in case.parameters.items()}
    for name, array in case.parameters.items():
        grid.parameters[name] = array
    return grid


def run(case: Case, lowering: Any, dtype: Any) -> Results:
    """As a user compiles and calls it."""
    return in_training(case, compiled(case, lowering, dtype))


def in_training(case: Case, grid: gridc.Grid) -> Results:
    loss, gradients, outputs = grid.loss_and_gradients(case.inputs, case.targets, case.lengths)
    return loss, outputs, gradients


def run_unchanged(
    case: Case, dtype: Any, lowering: Any = "plain", masks: Mapping[str, np.ndarray] | None = None, recompute: bool = False,
    schedule: Mapping[str, Any] | str | None = None,
) -> Results:  # fmt: skip
    """A lowering as it stands: that of prediction, or where there are masks that of a training step under them."""
    return unchanged(case, dtype, lowering, masks, recompute, schedule)()


def unchanged(
    case: Case, dtype: Any, lowering: Any = "plain", masks: Mapping[str, np.ndarray] | None = None, recompute: bool = False,
    schedule: Mapping[str, Any] | str | None = None,
) -> Callable[[], Results]:  # fmt: skip
    """``run_unchanged``, to be called as often as one likes."""
    s = gridc.lower(case.text, dtype=dtype, lowering=lowering, scan=UNCHANGED, lengths=pytensor.tensor.lmatrix("lengths"),
                    training=masks is not None, recompute=recompute, schedule=schedule)  # fmt: skip
    slopes = pytensor.grad(s.loss, list(s.parameters.values()), disconnected_inputs="ignore")
    named = {**s.parameters, **s.inputs, **s.targets, **s.masks}
    results = [s.loss, *s.outputs.values(), *slopes]
    function = pytensor.function([*named.values(), s.lengths], results, mode=UNCHANGED, on_unused_input="ignore")
    spec = gridc.read(case.text)
    lengths = {symbol: np.full(case.batch, n) for symbol, n in case.sizes.items()} | (case.lengths or {})
    rows = np.array([lengths[symbol] for symbol in spec.symbols], np.int64).reshape(-1, case.batch).T
    values = {**case.parameters, **case.inputs, **case.targets, **(masks or {})}
    given = [np.asarray(values[name], variable.dtype) for name, variable in named.items()]

    def call() -> Results:
        loss, *rest = (np.array(result) for result in function(*given, rows))
        outputs = dict(zip(s.outputs, rest, strict=False))
        return float(loss), outputs, dict(zip(s.parameters, rest[len(outputs) :], strict=True))

    return call


def equal_to_the_oracle(case: Case, found: Results, tolerance: float) -> None:
    loss, outputs, _ = found
    expected = oracle.predict(case.spec, case.parameters, case.inputs, case.lengths)
    assert outputs.keys() == expected.keys()
    for name, array in expected.items():
        assert outputs[name].shape == array.shape
        np.testing.assert_allclose(outputs[name], array, rtol=tolerance, atol=tolerance, err_msg=name)
    known = oracle.loss(case.spec, case.parameters, case.inputs, case.targets, case.lengths)
    assert loss == pytest.approx(known, rel=tolerance, abs=tolerance)


def equal_to_differences(case: Case, gradients: dict[str, np.ndarray], seed: int) -> None:
    differences = oracle.gradients(case.spec, case.parameters, case.inputs, case.targets, case.lengths,
                                   max_entries=4, rng=np.random.default_rng(seed))  # fmt: skip
    for name, (entries, values) in differences.items():
        np.testing.assert_allclose(gradients[name].ravel()[entries], values, rtol=1e-6, atol=1e-6, err_msg=name)


def equal_gradients(found: dict[str, np.ndarray], known: dict[str, np.ndarray], rtol: float, atol: float) -> None:
    assert found.keys() == known.keys()
    for name, array in known.items():
        np.testing.assert_allclose(found[name], array, rtol=rtol, atol=atol, err_msg=name)


def attends(case: Case) -> bool:
    return any(t["cell"] == "memory" for t in case.spec["transforms"].values())


def noisy(case: Case) -> bool:
    return any("dropout" in t or "zoneout" in t for t in case.spec["transforms"].values())


def all_kinds() -> st.SearchStrategy[Case]:
    """One in ten attends to facts, and one in ten has noise."""
    return st.integers(0, 9).flatmap(lambda k: grids(memory=k == 9, noise=k == 8))


@IN_PARTS
@pytest.mark.usefixtures("plain_shapes")
@settings(ROOM, max_examples=EACH)
@given(case=all_kinds(), seed=st.integers(0, 2**32 - 1))
def test_three_ways(case: Case, seed: int, part: int) -> None:
    event("attends to facts" if attends(case) else "noise" if noisy(case) else "three ways")
    plain = run_unchanged(case, "float64")
    equal_to_the_oracle(case, plain, TOLERANCE["float64"])
    equal_to_differences(case, plain[2], seed)
    grid = compiled(case, "fused", "float64")
    # A training step draws masks: test_masks is about these.
    loss, outputs, gradients = run_unchanged(case, "float64", "fused") if noisy(case) else in_training(case, grid)
    equal_to_the_oracle(case, (loss, outputs, gradients), TOLERANCE["float64"])
    equal_to_the_oracle(case, (loss, grid.predict(case.inputs, case.lengths), gradients), TOLERANCE["float64"])
    equal_gradients(gradients, plain[2], rtol=1e-9, atol=1e-10)


@IN_PARTS
@pytest.mark.usefixtures("plain_shapes")
@settings(ROOM, max_examples=max(10, EACH // 10))
@given(case=all_kinds())
def test_three_ways_in_single_precision(case: Case, part: int) -> None:
    exact = run_unchanged(case, "float64")[2]
    ways = [run_unchanged(case, "float32", lowering) for lowering in ("plain", "fused")]
    for found in ways:
        equal_to_the_oracle(case, found, TOLERANCE["float32"])
        equal_gradients(found[2], exact, rtol=2e-3, atol=2e-4)


@IN_PARTS
@settings(ROOM, max_examples=2 if EXAMPLES <= 200 else 20)
@given(case=all_kinds())
def test_plain_as_compiled(case: Case, part: int) -> None:
    grid = compiled(case, "plain", "float64")
    predicted, loss = grid.predict(case.inputs, case.lengths), grid.loss(case.inputs, case.targets, case.lengths)
    equal_to_the_oracle(case, (loss, predicted, {}), TOLERANCE["float64"])
    if not noisy(case):  # gradients are those of a training step, which draws masks: test_masks is about these
        equal_in_training(case, grid)


def equal_in_training(case: Case, grid: gridc.Grid) -> None:
    found = in_training(case, grid)
    equal_to_the_oracle(case, found, TOLERANCE["float64"])
    equal_to_differences(case, found[2], 0)


WRAPS_BACK = {
    "name": "wraps-back",
    "dimensions": {"time": "T", "rows": "T"},
    "transforms": {
        "time": {"cell": "dense", "hidden": 2, "start": {"wrap": {"rows": -1}}, "reads": [
            {"of": "time", "offset": {"rows": 1}}, {"of": "time", "offset": {"time": 1}}]},
        "rows": {"cell": "lstm", "hidden": 2, "reads": ["rows", "time"]},
    },
    "inputs": {"x": {"features": 1, "enters": "time"}},
    "outputs": {"y": {"reads": ["rows"], "raw": True}},
}  # fmt: skip
"""What wraps is read from the far end, and the steps there run from the far end on: in a shorter example it comes later."""


def test_what_wraps_in_a_shorter_example_comes_from_its_own_far_end() -> None:
    case = case_of(WRAPS_BACK, {"T": 4}, batch=3, lengths={"T": [2, 4, 1]})
    plain, fused = (run(case, lowering, "float64") for lowering in ("plain", "fused"))
    for found in (plain, fused):
        equal_to_the_oracle(case, found, TOLERANCE["float64"])
        equal_to_differences(case, found[2], 0)


RELAYED = {
    "name": "relayed",
    "dimensions": {"time": "T", "cols": "T"},
    "transforms": {
        "w": {"cell": "dense", "hidden": 2, "along": "cols", "start": {"wrap": {"time": -1}}, "reads": [
            {"of": "p", "offset": {}}, {"of": "p", "offset": {"cols": -1}}]},
        "p": {"cell": "pass", "along": "cols", "reads": [{"of": "w", "offset": {"cols": -1}}]},
    },
    "inputs": {"x": {"features": 1, "joins": ["w"]}},
    "outputs": {"y": {"reads": ["p"], "raw": True}},
}  # fmt: skip
"""What a `pass` hands on is a wrapped state: in examples of different lengths the far end of another cell each."""


def test_a_pass_hands_on_what_wraps_in_every_example() -> None:
    case = case_of(RELAYED, {"T": 4}, batch=3, lengths={"T": [1, 4, 3]})
    for lowering in ("plain", "fused"):
        found = run(case, lowering, "float64")
        equal_to_the_oracle(case, found, TOLERANCE["float64"])
        equal_to_differences(case, found[2], 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_prediction_keeps_what_products_of_other_weights_come_before(dtype: str) -> None:
    """Each weight has one product, made ahead, and its cells come after the other's product: neither may take its place."""
    spec = {
        "name": "ahead",
        "dimensions": {"time": 2, "depth": "D", "rows": "D"},
        "transforms": {
            "t0": {"cell": "lstm", "hidden": 1, "along": ["time", "depth", "rows"], "tied": ["depth", "rows"],
                   "reads": [{"of": "t1", "offset": {}}]},
            "t1": {"cell": "pass", "hidden": 1, "along": "time", "reads": ["t1"]},
        },
        "priority": ["t0"],
        "inputs": {"x": {"vocabulary": 2, "joins": ["t0"]}},
        "outputs": {"y": {"reads": ["t0"], "classes": 2}},
    }  # fmt: skip
    case = case_of(spec, {"D": 2}, batch=2)
    grid = compiled(case, "fused", dtype)
    predicted = grid.predict(case.inputs)
    loss, gradients, _ = grid.loss_and_gradients(case.inputs, case.targets)
    equal_to_the_oracle(case, (loss, predicted, gradients), TOLERANCE[dtype])


WRAPS_LAST = {
    "name": "wraps-last",
    "dimensions": {"rows": 3, "columns": "C"},
    "transforms": {
        "b": {"cell": "lstm", "hidden": 2, "along": "columns", "reads": ["b"]},
        "a": {"cell": "dense", "hidden": 2, "along": "rows", "start": {"wrap": {"columns": -1}},
              "reads": [{"of": "b", "offset": {}}]},
        "p": {"cell": "pass", "along": "rows", "reads": ["a"]},
    },
    "inputs": {"x": {"features": 1, "joins": ["a", "b"]}},
    "outputs": {"y": {"raw": True, "reads": ["p"]}, "z": {"features": 1, "reads": ["p"], "at": {"rows": "first"}}},
}  # fmt: skip
"""The cells of ``a``, which does not read itself, are the last product of a sweep; what of them wraps is seen by an output."""


@pytest.mark.parametrize("lengths", [None, {"C": [2, 4, 1]}])
@pytest.mark.parametrize("recompute", [False, True])
def test_what_wraps_after_the_last_product_is_there(recompute: bool, lengths: Any) -> None:
    case = case_of(WRAPS_LAST, {"C": 4}, batch=3, lengths=lengths)
    assert oracle.predict(case.spec, case.parameters, case.inputs, case.lengths)["y"][0, 0, 1].any(), "something wraps"
    grid = compiled(case, "fused", "float64", recompute)
    predicted, loss = grid.predict(case.inputs, case.lengths), grid.loss(case.inputs, case.targets, case.lengths)
    equal_to_the_oracle(case, (loss, predicted, {}), TOLERANCE["float64"])
    equal_in_training(case, grid)


@pytest.mark.usefixtures("plain_shapes")
def test_the_plain_lowering_has_it_too() -> None:
    case = case_of(WRAPS_LAST, {"C": 4}, batch=3, lengths={"C": [2, 4, 1]})
    plain = run_unchanged(case, "float64")
    equal_to_the_oracle(case, plain, TOLERANCE["float64"])
    equal_to_differences(case, plain[2], 0)


@pytest.mark.usefixtures("plain_shapes")
@pytest.mark.parametrize("embeddings", ["layerwise", "adjacent"])
def test_facts_of_words_that_are_embedded(embeddings: str) -> None:
    """There are ids above the size of an embedding, and every word of a fact counts."""
    spec = {
        "name": "embedded",
        "dimensions": {"hops": 2},
        "transforms": {"hops": {"cell": "memory", "hidden": 3, "attends": "story", "embeddings": embeddings}},
        "inputs": {"story": {"vocabulary": 10, "embed": 4, "facts": True}, "question": {"vocabulary": 10, "enters": "hops"}},
        "outputs": {"y": {"reads": ["hops"], "classes": 3, "at": {"hops": "last"}}},
    }
    case = case_of(spec, batch=3, facts=4, words=2)
    assert case.inputs["story"].max() > 4
    plain = run_unchanged(case, "float64")
    equal_to_the_oracle(case, plain, TOLERANCE["float64"])
    equal_to_differences(case, plain[2], 0)
    assert abs(plain[2]["story.embed"]).max() > 1e-3
    predicted = compiled(case, "auto", "float64").predict(case.inputs)
    equal_to_the_oracle(case, (plain[0], predicted, {}), TOLERANCE["float64"])


def test_sizes_at_which_steps_wait_for_each_other_are_refused() -> None:
    spec = {**WRAPS_BACK, "transforms": {"time": {"cell": "dense", "hidden": 2, "start": {"wrap": {"rows": -1}},
                                                  "reads": [{"of": "time", "offset": {"rows": 1, "time": -2}}]}},
            "outputs": {"y": {"reads": ["time"], "raw": True}}}  # fmt: skip
    for lowering in ("plain", "fused"):
        grid = gridc.compile(case_of(spec, {"T": 3}).text, lowering=lowering, eager=False)
        assert grid.predict({"x": np.ones((2, 3, 1))})["y"].shape == (2, 3, 3, 2)
        with pytest.raises(gridc.DataError, match=r"steps of a grid of 2 × 2 cells wait for each other: time\[\d, \d\] ←"):
            grid.predict({"x": np.ones((2, 2, 1))})
        with pytest.raises(gridc.DataError, match="3 × 3 cells with these lengths wait for each other"):
            grid.predict({"x": np.ones((2, 3, 1))}, {"T": [3, 2]})


def test_a_large_batch_is_predicted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {
        "name": "parts",
        "dimensions": {"time": "T", "depth": 2},
        "transforms": {"time": {"cell": "gru", "hidden": 3}, "depth": {"cell": "lstm", "hidden": 3}},
        "inputs": {"word": {"vocabulary": 5, "enters": "depth"}, "x": {"features": 2, "joins": ["time"]}},
        "outputs": {"y": {"reads": ["depth"], "raw": True, "at": {"depth": "last"}}},
    }
    grid = gridc.compile(case_of(spec, {"T": 4}).text, dtype="float64", eager=False)
    rng = np.random.default_rng(0)
    inputs = {"word": rng.integers(0, 5, (7, 4)), "x": rng.normal(size=(7, 4, 2, 2))}
    lengths, batches = {"T": [4, 1, 3, 2, 4, 4, 2]}, list[int]()
    run = grid.functions.run

    def counted(name: str, parameters: Any, call: Any, told: Any) -> Any:
        batches.append(call.batch)
        return run(name, parameters, call, told)

    monkeypatch.setattr(grid.functions, "run", counted)
    whole = grid.predict(inputs, lengths)["y"]
    monkeypatch.setattr("gridc.grid.CHUNK", 3 * counts.kept(grid.spec, (4, 2), 1).tape)
    np.testing.assert_allclose(grid.predict(inputs, lengths)["y"], whole, atol=1e-12)
    assert batches == [7, 3, 3, 1]
