"""Text drawn from a language model: the same draws however it is fed, and time that grows with the text, not its square."""

from __future__ import annotations

import numpy as np
import pytest

import gridc
from gridc.commands import predictions
from gridc.data import writing
from gridc.errors import UsageError

FORWARD = """
name: letters
dimensions: {time: T, depth: 2}
transforms:
  depth: {cell: lstm, hidden: 6}
  time: {cell: lstm, hidden: 6}
inputs: {text: {vocabulary: 7, enters: depth}}
outputs: {next: {classes: 7, reads: [depth], at: {depth: last}}}
"""
BACKWARD = """
name: backward
dimensions: {time: T}
transforms: {time: {cell: gru, hidden: 5, direction: backward}}
inputs: {text: {vocabulary: 7, joins: [time]}}
outputs: {next: {classes: 7, reads: [time]}}
"""
ALPHABET = tuple("abcdef")  # one fewer than the spec has room for


def sharp(text):
    """A grid whose predictions differ from each other by more than nothing."""
    grid = gridc.compile(text, eager=False, seed=3)
    for array in grid.parameters.values():
        array *= 4
    return grid


def whole(grid, prompt, count, temperature, seed):
    """As it was written first: everything so far is fed at every symbol."""
    rng, text = np.random.default_rng(seed), list(prompt)
    for _ in range(count):
        p = grid.predict({"text": np.array([text])})["next"][0, -1, :6].astype(np.float64)
        p = np.power(np.maximum(p, 1e-30), 1 / temperature) if temperature else np.eye(6)[p.argmax()]
        text.append(int(rng.choice(6, p=p / p.sum())))
    return text[len(prompt) :]


@pytest.mark.parametrize("temperature", [0, 0.5, 1])
def test_short_text_is_drawn_after_all_of_it_and_long_text_as_well(temperature):
    grid = sharp(FORWARD)
    for window in (40, 5):  # the second is fed as a stream
        drawn = writing.write(grid, [1, 2], 20, temperature=temperature, seed=4, window=window, below=6)
        assert list(drawn) == whole(grid, [1, 2], 20, temperature, 4)


class Counting:
    """A grid that says how many symbols it was shown."""

    def __init__(self, grid):
        self.grid, self.spec, self.shown = grid, grid.spec, []

    def predict(self, inputs):
        self.shown.append(len(inputs["text"][0]))
        return self.grid.predict(inputs)

    def stream(self, along=None):
        stream = self.grid.stream(along)

        def counted(inputs):
            self.shown.append(len(inputs["text"][0]))
            return stream(inputs)

        return counted


def test_a_stream_reads_every_symbol_once_and_what_is_no_stream_a_window():
    grid = Counting(sharp(FORWARD))
    list(writing.write(grid, [1, 2, 3], 8, temperature=1, seed=0, window=4, below=6))
    assert grid.shown == [3] + [1] * 7
    grid = Counting(sharp(BACKWARD))
    drawn = list(writing.write(grid, [1, 2, 3], 5, temperature=0, seed=0, window=4, below=6))
    assert grid.shown == [3, 4, 4, 4, 4]
    text = [1, 2, 3, *drawn]
    assert all(whole(grid.grid, text[max(0, n - 4) : n], 1, 0, 0) == text[n : n + 1] for n in range(3, 8))


def test_a_tiny_temperature_still_draws():
    """Raised to the power of 2,000, every probability was 0, and the draw a raw ValueError."""
    grid = sharp(FORWARD)
    few = (0, 0.0005, 1e-9, 5e-324)
    coldest, *cold = (list(writing.write(grid, [1], 6, temperature=t, seed=0, window=9, below=6)) for t in few)
    assert all(coldest == drawn for drawn in cold)
    for odd in (float("nan"), -1):
        with pytest.raises(UsageError, match=r"'temperature' is (nan|-1), expected a number from 0"):
            list(writing.write(grid, [1], 6, temperature=odd, seed=0, window=9, below=6))


def test_the_command_joins_prompt_and_text():
    grid = sharp(FORWARD)
    text = predictions.sampled(grid, {"text": ALPHABET}, "bad", 5, 1, 0)
    assert text[:3] == "bad"
    assert len(text) == 8
    assert len(predictions.sampled(grid, {"text": ALPHABET}, "", 5, 1, 0)) == 5


def test_what_is_no_language_model():
    spec = gridc.read(BACKWARD.replace("reads: [time]}", "reads: [time], at: {time: last}}"))
    with pytest.raises(UsageError, match="'backward' is no language model: it needs one sequence of ids in and a class for each"):
        writing.ends(spec)
