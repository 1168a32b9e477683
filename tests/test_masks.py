"""Masks in the fused sweep: a training step under them is the plain lowering's, whatever is drawn and however it is cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import gridc
from gridc import resources
from gridc.language import noise
from gridc.scheduling import segments
from gridc.scheduling.threads import Sharing
from gridc.symbolic import indices
from sharing import share, sharings
from strategies import Case, case_of, grids
from test_grid import EXAMPLES, equal_gradients, plain_shapes, run_unchanged

__all__ = ["plain_shapes"]  # a fixture

ROOM = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


def drawn(case: Case, dtype: Any) -> dict[str, np.ndarray]:
    spec = gridc.read(case.text)
    return noise.draw(spec, case.batch, spec.sizes(case.sizes), np.random.default_rng(0), dtype)


def equal_under_masks(case: Case, dtype: Any = "float64", recompute: bool = False) -> None:
    masks = drawn(case, dtype)
    exact = {name: mask.astype("float64") for name, mask in masks.items()}
    plain, fused = run_unchanged(case, "float64", masks=exact), run_unchanged(case, dtype, "fused", masks, recompute)
    near, far = (1e-9, 1e-10) if dtype == "float64" else (2e-3, 2e-4)
    assert fused[0] == pytest.approx(plain[0], rel=near, abs=far)
    for k in (1, 2):
        equal_gradients(fused[k], plain[k], near, far)


@pytest.mark.usefixtures("plain_shapes")
@settings(ROOM, max_examples=12 if EXAMPLES <= 200 else EXAMPLES // 10)
@given(st.integers(0, 4).flatmap(lambda k: grids(memory=k == 4, noise=True)), st.integers(1, 5), sharings(),
       st.sampled_from(["float64", "float64", "float32"]))
def test_a_training_step_is_the_plain_ones(case: Case, count: int, sharing: Sharing, dtype: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        share(patch, sharing)
        patch.setattr(segments, "number", lambda program: min(count, len(program.batches)))
        event(f"{count > 1} segments, {sharing}")
        equal_under_masks(case, dtype, count > 1)


THROUGH_PASSES = {
    "name": "through-passes",
    "dimensions": {"time": "T", "depth": 3},
    "transforms": {
        "time": {"cell": "lstm", "hidden": 2, "tied": ["time"], "dropout": 0.5, "reads": ["up", "time"]},
        "depth": {"cell": "pass", "along": "depth", "reads": [{"of": "time", "offset": {}}]},
        "up": {"cell": "pass", "along": "depth", "reads": [{"of": "depth", "offset": {"depth": -1}}]},
    },
    "inputs": {"x": {"features": 2, "joins": ["time"], "at": {"depth": "first"}},
               "first": {"features": 1, "enters": "depth", "over": ["time"]}},
    "outputs": {"y": {"reads": ["depth", "time"], "classes": 2}, "z": {"reads": ["up"], "raw": True, "at": {"depth": "last"}}},
}  # fmt: skip
"""Passes hand on what they see: hidden units stay hidden from whoever reads a `pass`, outputs too, but not what enters there."""


@pytest.mark.usefixtures("plain_shapes")
@pytest.mark.parametrize("recompute", [False, True])
def test_what_a_pass_hands_on_is_masked(recompute: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indices, "_memory", resources.Memory())
    monkeypatch.setattr(segments, "number", lambda program: 3)
    equal_under_masks(case_of(THROUGH_PASSES, {"T": 3}, batch=3, lengths={"T": [2, 3, 1]}), recompute=recompute)
