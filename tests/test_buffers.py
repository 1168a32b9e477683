"""Memory that is used again is never memory that somebody still holds."""

from __future__ import annotations

import numpy as np
import pytest

from gridc.fusion import buffers
from gridc.fusion.buffers import again, lent


def place(array):
    return array.__array_interface__["data"][0]


def test_an_array_comes_again_once_nobody_holds_it():
    made = {}
    first = again(made, "tape", (3, 4), "float32")
    at = place(first)
    del first
    second = again(made, "tape", (4, 3), "float32")
    assert place(second) == at


def test_an_array_that_is_held_is_left_alone_and_so_is_one_whose_view_is():
    made = {}
    first = again(made, "W", (5,), "float64")
    assert not np.shares_memory(first, again(made, "W", (5,), "float64"))
    view = again(made, "W", (5,), "float64")[:2]
    assert not np.shares_memory(view, again(made, "W", (5,), "float64"))


@pytest.mark.parametrize(("shape", "dtype"), [((5,), "float32"), ((1,), "float32"), ((4,), "float64"), ((4,), "int32")])
def test_sizes_that_do_not_fit_and_other_types_are_made_anew(shape, dtype):
    """Larger, less than half as large, and of another type even where it would take as many bytes."""
    made = {}
    again(made, "b", (4,), "float32")[:] = 1
    ((first, _),) = made.values()  # held, so that no new array can lie where it lay
    array = again(made, "b", shape, dtype)
    assert array.shape == shape
    assert array.dtype == dtype
    assert not np.shares_memory(array, first)


def test_two_that_are_lent_at_once_are_apart():
    with lent(10, "float32") as one, lent(10, "float32") as other:
        assert not np.shares_memory(one, other)


def test_what_was_lent_comes_again_once_nobody_holds_it():
    buffers._idle[:] = []
    with lent(1000, "float32") as first:
        at = place(first)
    del first
    with lent(900, "float32") as second:
        assert place(second) == at


def test_what_somebody_still_holds_is_not_lent():
    """A thread that was not waited for, say."""
    with lent(1000, "float32") as first:
        kept = first[3:5]
    del first
    for _ in range(buffers.KEPT + 1):
        with lent(1000, "float32") as other:
            assert not np.shares_memory(kept, other)


@pytest.fixture
def poisoned(monkeypatch):
    monkeypatch.setattr(buffers, "POISONED", True)
    monkeypatch.setattr(buffers, "GUARD", 4)
    monkeypatch.setattr(buffers, "_idle", [])


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_poison_is_in_what_nobody_wrote_and_in_what_was_given_back(dtype):
    assert np.isnan(buffers.fresh((2, 3), dtype)).all()
    with lent(10, dtype) as array:
        assert np.isnan(array).all()
        array[:] = 1
    assert np.isnan(array).all()
    made = {}
    first = again(made, "tape", (5,), dtype)
    assert np.isnan(first).all()
    first[:] = 1
    at = place(first)
    del first
    second = again(made, "tape", (5,), dtype)
    assert place(second) == at
    assert np.isnan(second).all()


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("number", [-4, -1, 10, 13])
def test_what_is_written_outside_of_a_buffer_is_seen(number, dtype):
    with pytest.raises(AssertionError, match=f"number {number} of a buffer of 10 was written"), lent(10, dtype) as array:
        array.base[4 + number] = 0
    made = {}
    given = again(made, "W", (2, 5), dtype)
    given.base[4 + number] = np.nan  # any but ours
    del given
    with pytest.raises(AssertionError, match=f"number {number} of a buffer of 10 was written"):
        again(made, "W", (2, 5), dtype)
