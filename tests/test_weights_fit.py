"""Weights are counted before they are drawn: what the machine has no room for is refused with its bytes, at once."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest

from gridc import cli, parameters, resources
from gridc.errors import ResourceError
from gridc.scheduling.check import read

SPEC = """
name: wide
dimensions: {time: T, depth: 2}
transforms: {depth: {cell: lstm, hidden: 8}, time: {cell: CELL, hidden: UNITS, init: INIT}}
inputs: {x: {features: 3, enters: depth}}
outputs: {y: {classes: 3, reads: [depth], at: {depth: last, time: last}}}
"""


def spec(units: int, cell: str = "lstm", init: str = "glorot") -> str:
    return SPEC.replace("UNITS", str(units)).replace("CELL", cell).replace("INIT", init)


def test_weights_of_terabytes_are_refused_with_their_bytes(tmp_path, capsys):
    path = tmp_path / "wide.yaml"
    path.write_text(spec(2_000_000))
    start = time.monotonic()
    assert cli.run(["compile", str(path)]) == 5
    assert time.monotonic() - start < 30
    told = capsys.readouterr().err
    assert "of 'wide' need 64,000.5 GB of memory and " in told
    assert "GB are available; the largest is 'time.W', 2,000,008 × 8,000,000 numbers" in told


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("init", ["glorot", "orthogonal", "{normal: 0.1}", "{signs: 0.1}", "{diagonal: 2}"])
def test_drawing_takes_no_more_than_what_is_counted(cell, init, monkeypatch):
    """So what passes can be drawn, and what is counted is not far from what it takes."""
    wide = read(spec(300 if init == "orthogonal" else 1000, cell, init))
    parameters.initial(wide, 0, "float32")  # what is imported at the first call is no weight
    tracemalloc.start()
    parameters.initial(wide, 0, "float32")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    for available, fits in ((1.35 * peak, True), (0.95 * peak, False)):
        monkeypatch.setattr(parameters, "available_memory", lambda available=available: int(available))
        if fits:
            parameters.initial(wide, 0, "float32")
        else:
            with pytest.raises(ResourceError, match="GB of memory"):
                parameters.initial(wide, 0, "float32")


def test_nothing_is_drawn_where_it_does_not_fit(monkeypatch):
    monkeypatch.setattr(parameters, "available_memory", lambda: 10_000)
    monkeypatch.setattr(np.random, "default_rng", lambda seed: pytest.fail("a weight was drawn"))
    with pytest.raises(ResourceError, match=r"of memory and 0\.0 GB are available"):
        parameters.initial(read(spec(64)), 0, "float64")


def test_available_memory_is_asked_for_where_it_is_known():
    assert resources.available_memory() is not None


def test_signs_and_a_diagonal_start_with_weights_of_one_size():
    """Signs are the same for a unit's hidden and memory number, and no gate's diagonal is another's."""
    page = spec(20, init="{diagonal: 2.5}").replace("enters: depth", "enters: depth, init: {signs: 0.25}").replace(
        "features: 3", "features: 64").replace("depth: {cell: lstm, hidden: 8}", "depth: {cell: lstm, hidden: 30}")  # fmt: skip
    drawn = parameters.initial(read(page), 0, "float32")
    signs = drawn["x.hidden.W"]
    assert set(np.unique(signs)) == {np.float32(-0.25), np.float32(0.25)}
    assert 0.45 < (signs > 0).mean() < 0.55
    assert len(np.unique(signs, axis=1).T) == 30
    assert np.array_equal(signs, drawn["x.memory.W"])
    gates = np.split(drawn["time.W"], 4, axis=1)  # 20 rows of time's vector, 30 of depth's: units stand below each other
    for gate in gates:
        row, unit = np.nonzero(gate)
        assert np.array_equal(row % 20, unit)
        assert len(row) == 50
        assert set(np.unique(gate[row, unit])) == {np.float32(-2.5), np.float32(2.5)}
    assert not any(np.array_equal(gates[0], other) for other in gates[1:])
