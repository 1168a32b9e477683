"""Words in arrays as ids: what stands for classes and symbols in .npz and .npy files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NoReturn

import numpy as np

from gridc.arrays.axes import Axes, within
from gridc.arrays.dataset import Array, Dataset
from gridc.arrays.signature import Form, Signature
from gridc.data.reading import Reading
from gridc.data.table import word
from gridc.data.vocabularies import known, looked_up
from gridc.errors import DataError
from gridc.language.shapes import input_axes, output_axes


def words_as_ids(data: Dataset, how: Reading) -> Dataset:
    """Put ids in the place of words, of arrays of text and of what a spec or a training before calls words.

    Behind an example's end a word may be missing.  DataError names the first that is missing before, or unknown."""
    vocabularies, forms = dict(how.vocabularies), dict[str, Form]()

    def made(name: str, array: Array, axes: Axes) -> Array:
        if axes.below is None:
            return array
        fixed = how.fixed(name)
        text = array.dtype.kind in "US"
        # An array of numbers holds ids, unless it was words that it is known by: those of a table, or of another array.
        held = how.signature is not None and how.signature.forms.get(name) == "words"
        forms[name] = "words" if text or name in how.words or held else "numbers"
        if forms[name] == "numbers":
            return array
        if fixed == "numbers":
            raise DataError(f"The array of '{name}' holds text, expected ids from 0 to {axes.below - 1}, as in training.")
        vocabularies[name], ids = _ids(name, array, axes, vocabularies.get(name), data.lengths)
        return ids

    inputs = _each(data.inputs, input_axes(how.spec), made)
    targets = _each(data.targets, output_axes(how.spec), made)
    return replace(data, inputs=inputs, targets=targets, vocabularies=vocabularies, signature=Signature({}, forms))


def _each(
    arrays: Mapping[str, Array], axes: Mapping[str, Axes], made: Callable[[str, Array, Axes], Array]
) -> dict[str, Array]:
    return {name: made(name, array, axes[name]) for name, array in arrays.items()}


def _ids(
    name: str, array: Array, axes: Axes, held: tuple[str, ...] | None, lengths: Mapping[str, Array]
) -> tuple[tuple[str, ...], Array]:
    """Look up the words of an array; returns their vocabulary, too."""
    unique, places = np.unique(np.asarray(array), return_inverse=True)
    words = [one.decode() if isinstance(one, bytes) else word(one) for one in unique.tolist()]
    blank = [i for i, one in enumerate(words) if not one or one == str(axes.ignore)]
    places = places.reshape(array.shape)
    if blank and axes.ignore is None:
        _only_behind_the_ends(name, np.isin(places, blank), axes, lengths)
    for i in blank:
        words[i] = ""
    found = known((one for one in words if one), held, axes.below or 0, f"The array of '{name}' has")

    def fail(number: int, sentence: str) -> NoReturn:
        example = int(np.argwhere(places == number)[0][0])
        raise DataError(f"The array of '{name}' holds {sentence} (example {example}).")

    ids = looked_up([one or found[0] for one in words], found, fail)
    ids[blank] = 0 if axes.ignore is None else axes.ignore
    return found, ids[places]


def _only_behind_the_ends(name: str, missing: Array, axes: Axes, lengths: Mapping[str, Array]) -> None:
    """DataError where a word is missing within an example."""
    inside = within(axes, missing, lengths) if missing.ndim == 1 + len(axes.axes) else None
    missing = missing if inside is None else missing & inside
    if missing.any():
        raise DataError(f"The array of '{name}' has an empty word in example {int(np.argwhere(missing)[0][0])}, expected one at "
                        "every place within an example.")  # fmt: skip
