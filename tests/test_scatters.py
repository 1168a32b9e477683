"""What look-ups add in a gradient is added at its place, row by row, as NumPy's ``add.at`` has it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytensor.scan.op import Scan
from pytensor.tensor.subtensor import AdvancedIncSubtensor, AdvancedIncSubtensor1

import gridc
from gridc.symbolic import lowerings
from gridc.symbolic.backends import backend
from gridc.symbolic.products import ChosenProduct
from gridc.symbolic.scatters import AddRows

assert lowerings.LOWERINGS  # whose import registers the rewrites


def operations(function: Any) -> list[Any]:
    return [node.op for node in function.maker.fgraph.toposort()]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 6), st.integers(0, 12), st.booleans(), st.integers(0, 2**31), st.data())
def test_rows_of_the_same_place_are_added_up(size: int, count: int, inplace: bool, seed: int, data: st.DataObject) -> None:
    random = np.random.default_rng(seed)
    shape = data.draw(st.sampled_from([(count,), (count, 1), (2, count)]))
    most = math.prod(shape)
    index = np.array(data.draw(st.lists(st.integers(-size, size - 1), min_size=most, max_size=most)), int).reshape(shape)
    table, rows = random.normal(size=(size, 3)), random.normal(size=(*shape, 3))
    known, given = table.copy(), table.copy()
    np.add.at(known, index, rows)
    storage: list[Any] = [[None]]
    AddRows(inplace).perform(None, [given, rows, index], storage)
    np.testing.assert_allclose(storage[0][0], known, rtol=1e-12, atol=1e-12)
    assert (storage[0][0] is given) is inplace
    assert inplace or (given == table).all()


def test_gradients_of_look_ups_make_one_table_and_leave_what_was_given() -> None:
    table, first, second = pt.matrix("table"), pt.lvector("first"), pt.lmatrix("second")
    value = pt.sum(table[first] ** 2) + pt.sum(table[second] ** 3) + pt.sum(table**2)
    f = pytensor.function([table, first, second], pytensor.grad(value, table), mode=backend("python").mode())
    made = operations(f)
    assert [op.inplace for op in made if isinstance(op, AddRows)] == [True, True]
    assert not any(isinstance(op, AdvancedIncSubtensor | AdvancedIncSubtensor1) for op in made)
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(table.dtype)
    i, j = np.array([1, 1, 4]), np.array([[0, 1], [1, 3]])
    known, before = 2 * x, x.copy()
    np.add.at(known, i, 2 * x[i])
    np.add.at(known, j, 3 * x[j] ** 2)
    np.testing.assert_allclose(f(x, i, j), known, rtol=1e-12)
    np.testing.assert_array_equal(x, before)
    grown = pytensor.function([table, first], pt.inc_subtensor(table[first], 1.0), mode=backend("python").mode())
    assert [op.inplace for op in operations(grown) if isinstance(op, AddRows)] == [False]  # what a caller gave stays
    np.testing.assert_allclose(grown(x, i)[1], x[1] + 2)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("embeddings", ["layerwise", "adjacent"])
def test_what_looks_up_facts_adds_by_rows(embeddings: str) -> None:
    page = f"""
name: facts
dimensions: {{hops: 2}}
transforms: {{hops: {{cell: memory, hidden: 3, attends: facts, embeddings: {embeddings}}}}}
inputs: {{facts: {{vocabulary: 5, facts: true}}, question: {{vocabulary: 5, enters: hops}}}}
outputs: {{place: {{classes: 2, reads: [hops], at: {{hops: last}}}}}}
"""
    symbols = gridc.lower(page)
    gradients = pytensor.grad(symbols.outputs["place"][:, 0].sum(), list(symbols.parameters.values()))
    f = pytensor.function([*symbols.inputs.values(), *symbols.parameters.values()], gradients, mode=backend("python").mode())
    made = operations(f)
    assert any(isinstance(op, AddRows) for op in made)
    assert not any(isinstance(op, AdvancedIncSubtensor | AdvancedIncSubtensor1) for op in made)


def test_the_plain_loops_compute_nothing_twice_and_copy_neither_slots_nor_weights() -> None:
    spec = """
name: both
dimensions: {time: T, depth: 2}
transforms:
  forth: {cell: lstm, hidden: 3, along: time, tied: [time],
          reads: [{of: forth, offset: {time: -1}}, {of: back, offset: {depth: -1}}]}
  back: {cell: lstm, hidden: 3, along: time, direction: backward, tied: [time], reads: [{of: back, offset: {time: 1}}]}
inputs: {x: {features: 2, joins: [forth, back], at: {depth: first}}}
outputs: {y: {classes: 2, reads: [forth, back], at: {depth: last}}}
"""
    s = gridc.lower(spec, lowering="plain", dtype="float32", scan=backend("python").scan)
    slopes = pytensor.grad(s.loss, list(s.parameters.values()))
    given = [*s.parameters.values(), *s.inputs.values(), *s.targets.values()]
    f = pytensor.function(given, slopes, mode=backend("python").mode(), on_unused_input="ignore")
    loops = [op for op in operations(f) if isinstance(op, Scan)]
    assert len(loops) == 2  # forth and back
    for loop in loops:
        inner = operations(loop.fn)
        assert sum(isinstance(op, ChosenProduct) for op in inner) == 2  # a transform's, and its slope's in the loop back
        assert len(loop.destroy_map) == loop.info.n_untraced_sit_sot == 4
        assert all(op.inplace for op in inner if isinstance(op, AddRows | AdvancedIncSubtensor | AdvancedIncSubtensor1))


@given(st.integers(1, 4), st.integers(0, 2**31), st.booleans())
def test_steps_are_multiplied_by_the_weights_that_they_chose(steps: int, seed: int, transposed: bool) -> None:
    random = np.random.default_rng(seed)
    rows, chosen = random.normal(size=(steps, 3, 2)), random.integers(0, 3, (steps, 1))
    weights = random.normal(size=(3, 5, 2) if transposed else (3, 2, 5))
    storage: list[Any] = [[None]]
    ChosenProduct(transposed).perform(None, [rows, weights, chosen], storage)
    picked = weights[chosen[:, 0]]
    np.testing.assert_allclose(storage[0][0], rows @ (picked.transpose(0, 2, 1) if transposed else picked), rtol=1e-12)
