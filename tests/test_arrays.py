"""What a person reads whose arrays do not fit: which one, what came, what was expected."""

from __future__ import annotations

import numpy as np
import pytest

import gridc
from gridc.data import fitting
from gridc.errors import DataError

SPEC = gridc.read("""
name: everything
dimensions: {time: T, depth: 2}
transforms:
  depth: {cell: lstm, hidden: 4}
  time: {cell: lstm, hidden: 4}
inputs:
  ids: {vocabulary: 5, enters: depth}
  weather: {features: 3, joins: [time], over: [time]}
outputs:
  label: {classes: 2, reads: [time], at: {time: last, depth: last}}
  rain: {binary: true, reads: [time], at: {depth: last}}
  degrees: {features: 2, reads: [time], at: {depth: last}}
""")


def inputs(**changes):
    given = {"ids": np.zeros((4, 6), int), "weather": np.zeros((4, 6, 3), "float32"), **changes}
    return {name: array for name, array in given.items() if array is not None}


def targets(**changes):
    given = {"label": np.zeros(4, int), "rain": np.zeros((4, 6)), "degrees": np.zeros((4, 6, 2)), **changes}
    return {name: array for name, array in given.items() if array is not None}


def spoilt(shape, at, value, dtype="float64"):
    array = np.zeros(shape, dtype)
    array[at] = value
    return array


def refused(given=None, lengths=None, wanted=None, weights=None):
    with pytest.raises(DataError) as caught:  # noqa: PT012  # any of the three may be what refuses
        call = fitting.check(SPEC, inputs() if given is None else given, lengths, "float32")
        fitting.check_targets(SPEC, targets() if wanted is None else wanted, call, "float32")
        fitting.check_weights(SPEC, weights or {}, call, "float32")
    assert caught.value.exit_code == 3
    return str(caught.value)


def test_what_fits_passes_and_is_converted():
    call = fitting.check(SPEC, inputs(ids=[[0.0] * 6] * 4, weather=np.zeros((4, 6, 3), "int8")), {"T": [1, 2, 3, 6]}, "float32")
    assert call.inputs["ids"].dtype == np.int64
    assert call.inputs["weather"].dtype == np.float32
    assert call.extent.tolist() == [4, 6, 2]
    assert call.lengths.tolist() == [[1], [2], [3], [6]]
    assert set(fitting.check_targets(SPEC, targets(), call, "float32")) == {"label", "rain", "degrees"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (inputs(ids=None), "input 'ids' is missing; found weather"),
        (inputs(idz=np.zeros(3)), "there is no input 'idz'; expected ids, weather — did you mean 'ids'?"),
        ([1, 2], "The inputs are list, expected a mapping of names to arrays, such as {'ids': …}."),
        (inputs(ids=np.zeros((4, 6, 1), int)), "input 'ids': found an array of shape (4, 6, 1); expected [batch, time]"),
        (inputs(weather=np.zeros((4, 6, 2))), "input 'weather': found 2 features on axis 2 of shape (4, 6, 2); expected 3"),
        (
            inputs(weather=np.zeros((4, 5, 3))),
            "input 'weather': found 5 on axis 1 (time) of shape (4, 5, 3); expected 6, the T of input 'ids'",
        ),
        (
            inputs(weather=np.zeros((3, 6, 3))),
            "input 'weather': found 3 on axis 0 (batch) of shape (3, 6, 3); expected 4, the batch of input 'ids'",
        ),
        (inputs(ids=np.zeros((0, 6), int)), "input 'ids': found no examples, shape (0, 6); expected at least one"),
        (inputs(ids=np.zeros((4, 0), int)), "input 'ids': found no time, shape (4, 0); expected at least one"),
        (inputs(ids=spoilt((4, 6), (1, 2), 5, int)), "input 'ids': found 5 at [1, 2]; expected ids from 0 to 4"),
        (inputs(ids=spoilt((4, 6), (3, 0), -1, int)), "input 'ids': found -1 at [3, 0]; expected ids from 0 to 4"),
        (inputs(ids=np.full((4, 6), 0.5)), "input 'ids': found 0.5 at [0, 0]; expected integers"),
        (inputs(ids=spoilt((4, 6), (3, 0), 2**63 + 1, "uint64")),
         "input 'ids': found 9223372036854775809 at [3, 0]; expected ids from 0 to 4"),
        (inputs(ids=spoilt((4, 6), (0, 1), 1e30)), "input 'ids': found 1e+30 at [0, 1]; expected ids from 0 to 4"),
        (inputs(ids=spoilt((4, 6), (0, 1), np.nan)), "input 'ids': found nan at [0, 1]; expected integers"),
        (inputs() | {"ids": None}, "input 'ids': found NoneType; expected an array of numbers"),
        (inputs(ids=np.full((4, 6), "a")), "input 'ids': found an array of text; expected integers"),
        (
            inputs(ids=[[1, 2], [3]]),
            "The arrays hold different numbers of examples: 2 of 'ids', 4 of 'weather' and 2 of 'T'.",
        ),
        (inputs(weather=spoilt((4, 6, 3), (0, 0, 1), 1e300)),
         "input 'weather': found 1e+300; expected numbers that float32 holds, up to 3.4e+38"),
        (inputs(weather=np.ma.masked_equal(np.zeros((4, 6, 3)), 0)),
         "input 'weather': found masked numbers; expected a number at every place (lengths say where a sequence ends)"),
        (inputs(ids=[None, [1]]), "'ids': found NoneType; expected an array of numbers"),
        (inputs(weather=np.array([None] * 4)), "input 'weather': found an array of Python objects; expected numbers"),
        (inputs(weather=np.zeros((4, 6, 3), complex)), "input 'weather': found an array of complex128; expected real numbers"),
        (
            inputs(weather=spoilt((4, 6, 3), (1, 5, 2), np.nan)),
            "input 'weather': found nan at [1, 5, 2]; expected finite numbers",
        ),
        (
            inputs(weather=spoilt((4, 6, 3), (0, 0, 1), -np.inf)),
            "input 'weather': found -inf at [0, 0, 1]; expected finite numbers",
        ),
    ],
)
def test_inputs_that_do_not_fit(given, sentence):
    assert refused(given) == sentence


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (targets(label=None), "target 'label' is missing; found rain, degrees"),
        (targets(labels=np.zeros(4)), "there is no target 'labels'; expected label, rain, degrees — did you mean 'label'?"),
        (targets(label=np.zeros((4, 6), int)), "target 'label': found an array of shape (4, 6); expected (4,), [batch]"),
        (targets(label=np.array([0, 1, 2, 0])), "target 'label': found 2 at [2]; expected classes from 0 to 1"),
        (targets(rain=spoilt((4, 6), (2, 1), 0.5)), "target 'rain': found 0.5; expected 0 or 1"),
        (
            targets(degrees=np.zeros((4, 6))),
            "target 'degrees': found an array of shape (4, 6); expected (4, 6, 2), [batch, time, 2]",
        ),
        (
            targets(degrees=spoilt((4, 6, 2), (0, 0, 0), np.nan)),
            "target 'degrees': found nan at [0, 0, 0]; expected finite numbers; where it stands for no target, 'ignore: nan' of "
            "the output leaves its position out",
        ),
    ],
)
def test_targets_that_do_not_fit(wanted, sentence):
    assert refused(wanted=wanted) == sentence


@pytest.mark.parametrize(
    ("lengths", "sentence"),
    [
        ({"S": [1, 2, 3, 4]}, "there is no symbol 'S' to give lengths for; expected T"),
        ({"t": [1, 2, 3, 4]}, "there is no symbol 't' to give lengths for; expected T — did you mean 'T'?"),
        ([1, 2, 3, 4], "The lengths are list, expected a mapping of names to arrays, such as {'T': …}."),
        ({"T": [1, np.nan, 3, 4]}, "lengths of 'T': found nan at [1]; expected integers"),
        ({"T": ["a", "b", "c", "d"]}, "lengths of 'T': found an array of text; expected integers"),
        ({"T": [1, 2]}, "lengths of 'T': found shape (2,); expected one for each of 4 examples"),
        ({"T": [1, 2, 0, 4]}, "lengths of 'T': found 0 for example 2; expected 1 to 6"),
        ({"T": [1, 7, 3, 4]}, "lengths of 'T': found 7 for example 1; expected 1 to 6"),
        ({"T": [1, 1.5, 3, 4]}, "lengths of 'T': found 1.5 at [1]; expected integers"),
    ],
)
def test_lengths_that_do_not_fit(lengths, sentence):
    assert refused(lengths=lengths) == sentence


def test_weights_that_do_not_fit():
    assert (
        refused(weights={"lable": 1})
        == "there is no output 'lable' to weigh; expected label, rain, degrees — did you mean 'label'?"
    )
    sentence = "weights of 'rain': found shape (6,); expected a number, or shape (4,) or (4, 6)"
    assert refused(weights={"rain": np.ones(6)}) == sentence


UNFIT = [
    (inputs() | {"ids": 3}, targets(), {}, "input 'ids': found a single value; expected an array with an entry for each example"),
    (inputs() | {"ids": None}, targets(), {}, "input 'ids': found NoneType"),
    (inputs(ids=None, idz=np.zeros((4, 6), int)), targets(), {}, "there is no input 'idz'; expected ids, weather — did you mean"),
    (inputs(weather=np.zeros((4, 5, 3))), targets(), {}, "shape [4, 5, 3], which makes 'T' 5, expected the 6 of input 'ids'"),
    (inputs(ids=np.zeros((4, 0), int)), targets(), {}, "the shape [4, 0] and holds nothing, expected at least one example"),
    (inputs(weather=spoilt((4, 6, 3), (2, 3, 1), 1e300)), targets(), {}, "input 'weather': found 1e+300; expected numbers that"),
    (inputs(), targets(rain=[[1], [1, 0]]), {}, "target 'rain': found sequences of different lengths"),
    (inputs(), targets(), {"S": [1, 2, 3, 4]}, "there is no symbol 'S' to give lengths for; expected T"),
    (inputs(), targets(), {"T": 3}, "lengths of 'T': found a single value"),
    (inputs(), targets(), {"T": ["a", "b", "c", "d"]}, "lengths of 'T': found an array of text; expected integers"),
    (inputs(), targets(), {"T": [1, 2, 0, 4]}, "lengths of 'T': found 0 for example 2; expected 1 to 6"),
    (inputs(), targets(), {"T": [1, 2, np.nan, 4]}, "lengths of 'T': found nan at [2]; expected integers"),
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("given", "wanted", "lengths", "sentence"), UNFIT)
def test_training_and_scoring_refuse_before_anything_is_built(given, wanted, lengths, sentence):
    grid = gridc.compile(SPEC, eager=False)
    built = set(grid.compile_seconds)
    for call in (lambda: grid.fit(given, wanted, lengths, batch=2, progress="none"), lambda: grid.score(given, wanted, lengths)):
        with pytest.raises(DataError) as caught:
            call()
        assert sentence in str(caught.value)
        assert set(grid.compile_seconds) == built, "something was built first"


def test_a_grid_says_the_same():
    grid = gridc.compile(SPEC, eager=False)
    with pytest.raises(DataError, match="input 'ids' is missing; found weather"):
        grid.predict(inputs(ids=None))
    with pytest.raises(DataError, match="expected 0 or 1"):
        grid.loss(inputs(), targets(rain=np.full((4, 6), 2)))


def test_a_symbol_called_batch_is_not_the_batch():
    """The batch stood among the symbols by that name, and sequences had to be as long as there were examples."""
    text = "{name: a, dimensions: {time: batch}, transforms: {time: {cell: gru, hidden: 3}}, "
    spec = gridc.read(text + "inputs: {x: {vocabulary: 5, joins: [time]}}, outputs: {y: {binary: true, reads: [time]}}}\n")
    call = fitting.check(spec, {"x": np.zeros((4, 6), int)}, {"batch": [1, 2, 3, 6]}, "float32")
    assert call.extent.tolist() == [4, 6]
    assert fitting.check_targets(spec, {"y": np.zeros((4, 6))}, call, "float32")["y"].shape == (4, 6)
    with pytest.raises(DataError, match=r"expected \(4, 6\), \[batch, time\]"):
        fitting.check_targets(spec, {"y": np.zeros((4, 4))}, call, "float32")
