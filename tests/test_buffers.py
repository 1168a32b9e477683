"""Memory that is used again is never memory that somebody still holds."""

from __future__ import annotations

import numpy as np

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


def test_sizes_that_do_not_fit_and_other_types_are_made_anew():
    made = {}
    for shape, dtype in (((4,), "float32"), ((5,), "float32"), ((2,), "float32"), ((2,), "float64")):
        array = again(made, "b", shape, dtype)
        assert array.shape == shape
        assert array.dtype == dtype
        array[:] = 1
        del array


def test_two_that_are_lent_at_once_are_apart():
    with lent(10, "float32") as one, lent(10, "float32") as other:
        assert not np.shares_memory(one, other)
