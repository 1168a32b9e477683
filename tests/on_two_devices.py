"""A batch over two devices of JAX's, the processor taken for two: ``test_devices.py`` sets the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gridc
from gridc.symbolic import backends

backends.prepare()
import test_ignored  # noqa: E402
from strategies import case_of  # noqa: E402
from test_backends import SPEC, example  # noqa: E402
from test_grid import WRAPS_BACK  # noqa: E402
from test_jax import PADDED, data  # noqa: E402

WITHIN = 1e-11


def pair(page: Any) -> tuple[gridc.Grid, gridc.Grid]:
    """The grid on two devices, and the same on the CPU."""
    there = gridc.compile(page, backend="jax", devices=2, dtype="float64", eager=False)
    here = gridc.compile(page, dtype="float64", eager=False)
    assert str(there).endswith("on 'jax', 2 devices")
    return there, here


def same(there: gridc.Grid, here: gridc.Grid, *call: Any) -> None:
    loss, *rest = there.loss_and_gradients(*call)
    known, *others = here.loss_and_gradients(*call)
    assert loss == pytest.approx(known, rel=WITHIN)
    for found, expected in zip(rest, others, strict=True):
        for name, array in expected.items():
            largest = np.abs(array).max(initial=0)
            np.testing.assert_allclose(found[name], array, rtol=WITHIN, atol=WITHIN * largest, err_msg=name)


def test_losses_gradients_and_outputs_are_those_of_one_processor() -> None:
    """Ragged, of sizes that no two devices share evenly, down to one example and with weights of each position."""
    there, here = pair(SPEC)
    random = np.random.default_rng(0)
    for batch in (4, 3, 1):
        inputs, targets, lengths = example(batch, 4)
        weights = {"each": random.random((batch, 4)), "label": 0.3}
        same(there, here, inputs, targets, lengths, weights)
    assert len(there.compile_seconds) == 2, "a program for one and one for two examples a device"
    inputs, targets, lengths = example(3, 4)
    assert there.loss(inputs, targets, lengths) == pytest.approx(here.loss(inputs, targets, lengths), rel=WITHIN)
    found = there.predict(inputs, lengths)
    for name, array in here.predict(inputs, lengths).items():
        np.testing.assert_allclose(found[name], array, atol=WITHIN)


def test_what_is_ignored_is_in_the_mean_of_no_device() -> None:
    """Also where all that counts is on one of them, and where nothing does."""
    page = test_ignored.PAGE
    there, here = pair(page[: page.index("  pad")] + page[page.index("  size") : page.index("  last")])
    for batch, hidden in ((4, 0.5), (3, 0.8), (1, 0.3), (2, 1.0)):
        x, targets, lengths, weights = test_ignored.example(batch, hidden, batch)
        some = {name: targets[name] for name in here.spec.outputs}
        same(there, here, x, some, lengths, {name: weights[name] for name in some})


def test_what_wraps_is_in_the_turns_of_all_devices() -> None:
    case = case_of(WRAPS_BACK, {"T": 4}, batch=3, lengths={"T": [2, 4, 1]})
    there, here = pair(case.text)
    for name, array in case.parameters.items():
        there.parameters[name] = here.parameters[name] = array
    same(there, here, case.inputs, case.targets, case.lengths)


def test_a_training_goes_on_with_another_number_of_devices(tmp_path: Path) -> None:
    inputs, targets, lengths = example(7, 4)
    options: dict[str, Any] = {"batch": 4, "seed": 1, "evaluate": {"steps": 2}, "checkpoint": {"steps": 1}, "progress": "none",
                               "clip": 1.0, "folder": tmp_path / "run"}  # fmt: skip
    there, here = pair(SPEC)
    here.fit(inputs, targets, lengths, budget={"steps": 4}, **{**options, "folder": None})
    there.fit(inputs, targets, lengths, budget={"steps": 3}, **options)
    alone = gridc.compile(SPEC, dtype="float64", eager=False)
    alone.fit(inputs, targets, lengths, budget={"steps": 4}, resume=True, **options)
    for name, array in here.parameters.items():
        np.testing.assert_allclose(alone.parameters[name], array, rtol=1e-7, atol=1e-9, err_msg=name)
    back = gridc.load(tmp_path / "run" / "model.grid", backend="jax", devices=2)
    assert back.score(inputs, targets, lengths) == pytest.approx(alone.score(inputs, targets, lengths))


def test_masks_and_facts_are_shared_like_the_examples() -> None:
    there, here = pair(PADDED)
    inputs, targets, lengths = data(here.spec, 4, 3)
    assert here.random_state is not None
    there.random_state = here.random_state
    same(there, here, inputs, targets, lengths)


def test_more_devices_than_there_are_is_a_sentence() -> None:
    with pytest.raises(gridc.ResourceError, match="devices=3 asks for more devices than JAX has here: 2 cpu devices; XLA_FLAGS="):
        gridc.compile(SPEC, backend="jax", devices=3)
