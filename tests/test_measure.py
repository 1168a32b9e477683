"""Predicted and measured times of wavefronts: that they are there and add up; how near they are is for a quiet machine."""

from __future__ import annotations

import numpy as np
import pytest

import gridc
from gridc.insight import measure

SPEC = """
name: small
dimensions: {time: T, depth: 3}
transforms:
  time: {cell: lstm, hidden: 16, tied: [time]}
  depth: {cell: gru, hidden: 16}
  up: {cell: pass, along: depth, reads: [{of: time, offset: {}}]}
priority: [time, depth]
inputs: {x: {features: 5, enters: depth}, y: {features: 2, joins: [time]}}
outputs: {z: {classes: 2, reads: [depth], at: {time: last, depth: last}}}
"""


def test_every_turn_is_predicted_and_measured():
    made = measure.measure(gridc.schedule(SPEC, T=12), batch=4, rounds=3)
    assert sum(turn.rows for turn in made.turns) == 12 * 3 * 2 * 4
    assert all(turn.measured > 0 and np.isfinite(turn.predicted) and turn.predicted > 0 for turn in made.turns)
    text = str(made)
    assert "wavefront" in text
    assert "whole sweep" in text


def test_errors_are_shares_of_what_was_measured():
    made = measure.Measurement("small", "wavefronts", 4, 3, (measure.Turn(8, 2.0, 1.0), measure.Turn(8, 1.0, 3.0)), 5)
    assert [turn.error for turn in made.turns] == [1.0, pytest.approx(2 / 3)]
    assert (made.total_error, made.median_error) == (0.25, pytest.approx(5 / 6))
    assert "predicted 3000.00 ms, measured 4000.00 ms, 25% off; a turn is 83% off in the median" in str(made)


def test_coefficients_are_found_and_never_negative():
    generator = np.random.default_rng(0)
    features = generator.uniform(1, 9, (40, 6))
    wanted = np.array([1.0, 2.0, 0.0, 3.0, 0.5, 4.0])
    found = measure.coefficients(features, features @ wanted)
    assert np.allclose(found, wanted)
    assert (measure.coefficients(features, features @ np.array([5.0, -1, 1, 1, 1, 1])) >= 0).all()
    features[:, 3] = 0  # a grid may have no turn that copies
    assert np.allclose(measure.coefficients(features, features @ wanted), [1, 2, 0, 0, 0.5, 4])


def test_memory_cells_are_not_measured():
    text = (
        "name: hops\ndimensions: {hops: 2}\ntransforms: {hops: {cell: memory, hidden: 4, attends: facts}}\n"
        "inputs: {facts: {features: 3, facts: true}, q: {features: 3, enters: hops}}\n"
        "outputs: {y: {classes: 2, reads: [hops], at: {hops: last}}}\n"
    )
    with pytest.raises(gridc.UsageError, match="memory cells"):
        measure.measure(gridc.schedule(text))
