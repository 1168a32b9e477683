"""Data sets: splitting, order, padding, and reading every kind of file, with a sentence for every misfit."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest

from gridc.arrays.dataset import Dataset, padded
from gridc.data.files import read
from gridc.data.fitting import for_spec
from gridc.data.mini_batches import Shuffled, Streamed
from gridc.data.reading import Reading
from gridc.data.text import ids, joined, symbols, vocabulary
from gridc.errors import DataError, UsageError
from gridc.scheduling.check import read as read_spec
from gridc.training.fit import fit
from small_grid import spec_of

SEQUENCE = """
name: tagger
dimensions: {time: T}
transforms: {time: {cell: lstm, hidden: 4}}
inputs: {tokens: {vocabulary: 8, joins: [time]}}
outputs: {tags: {classes: 8, reads: [time]}}
"""
REAL = SEQUENCE.replace("vocabulary: 8", "features: 2").replace("reads: [time]", "reads: [time], at: {time: last}")
IMAGE = """
name: pictures
dimensions: {rows: 4, columns: 4}
transforms: {rows: {cell: lstm, hidden: 4}, columns: {cell: lstm, hidden: 4}}
inputs: {image: {features: %d, joins: [rows, columns], over: [rows, columns]}}
outputs: {kind: {classes: 2, reads: [rows, columns], at: {rows: last, columns: last}}}
"""


def numbers(n=10):
    rng = np.random.default_rng(0)
    return Dataset({"x": rng.normal(size=(n, 4)).astype("f4")}, {"label": rng.integers(0, 2, n)})


def test_split_is_a_partition_by_seed():
    data = Dataset({"x": np.arange(20)}, {"y": np.arange(20)})
    a, b = data.split(0.25, seed=3)
    assert sorted([*a.inputs["x"], *b.inputs["x"]]) == list(range(20))
    assert len(b) == 5
    assert np.array_equal(b.inputs["x"], data.split(0.25, seed=3)[1].inputs["x"])
    assert not np.array_equal(b.inputs["x"], data.split(0.25, seed=4)[1].inputs["x"])
    assert data.split(0.0)[1] is None
    with pytest.raises(DataError, match="leaves none"):
        data.split(0.99)


def test_batches_are_every_example_once_an_epoch_and_resume_anywhere():
    data = Dataset({"x": np.arange(10)}, {})
    batches = Shuffled(data, 4, seed=1)
    drawn = list(itertools.islice(batches.after(0), 9))
    for epoch in range(3):
        rows = np.concatenate([b.data.inputs["x"] for b in drawn[3 * epoch : 3 * epoch + 3]])
        assert sorted(rows) == list(range(10))
    assert not np.array_equal(batches.order(0), batches.order(1))
    assert [(b.epoch, b.index, b.last) for b in drawn[2:5]] == [(0, 2, True), (1, 0, False), (1, 1, False)]
    for step in range(8):
        assert np.array_equal(next(batches.after(step)).rows, drawn[step].rows)


def test_streams_are_gone_over_again_where_they_can_be():
    spec = spec_of(label="classes: 2")
    items = [(numbers(3).inputs, numbers(3).targets), (numbers(2).inputs, numbers(2).targets)]
    drawn = list(itertools.islice(Streamed(items, spec).after(1), 4))
    assert [(b.epoch, b.index, len(b.data), b.last) for b in drawn] == [
        (0, 1, 2, True), (1, 0, 3, False), (1, 1, 2, True), (2, 0, 3, False)]  # fmt: skip
    assert len(list(Streamed(iter(items), spec).after(0))) == 2


def test_sequences_are_padded_and_batches_cut_to_their_longest():
    spec = read_spec(SEQUENCE)
    data = for_spec(padded({"tokens": [[1, 2, 3], [4], [5, 6]]}, {"tags": [[1, 1, 1], [2], [3, 3]]}, "T"), spec)
    assert data.inputs["tokens"].tolist() == [[1, 2, 3], [4, 0, 0], [5, 6, 0]]
    assert data.lengths["T"].tolist() == [3, 1, 2]
    part = data.take(np.array([1, 2])).ready()
    assert part.inputs["tokens"].tolist() == [[4, 0], [5, 6]]
    assert part.targets["tags"].shape == (2, 2)
    with pytest.raises(DataError, match="Example 1 has 2 steps in 'tags' and 1 in 'tokens'"):
        padded({"tokens": [[1, 2], [4]]}, {"tags": [[1, 1], [2, 2]]}, "T")


@pytest.mark.parametrize(
    ("inputs", "targets", "words"),
    [
        ({"x": np.zeros((3, 5))}, {"label": [0, 1, 1]}, r"input 'x' has the shape \[3, 5\], expected \[examples, 4\]"),
        ({"x": np.zeros((3, 4))}, {"label": [0, 1, 2]}, "'label' holds 2 in example 2, expected ids from 0 to 1"),
        ({"x": np.zeros((3, 4))}, {"label": [0.5, 1, 1]}, "'label' holds 0.5 in example 0, expected ids"),
        ({"x": np.full((3, 4), np.nan)}, {"label": [0, 1, 1]}, "'x' holds NaN or infinity, first in example 0"),
        ({"x": np.zeros((3, 4))}, {"label": ["a", "b", "c"]}, "holds text, expected ids from 0 to 1"),
        ({"x": np.zeros((3, 4)), "y": np.zeros(3)}, {"label": [0, 1, 1]}, "gives 'y', which is no input of 'small'"),
        ({"x": np.zeros((3, 4))}, {"label": [0, 1]}, "different numbers of examples: 3 of 'x' and 2 of 'label'"),
    ],
)
def test_misfits(inputs, targets, words):
    with pytest.raises(DataError, match=words):
        for_spec(Dataset(inputs, {k: np.asarray(v) for k, v in targets.items()}), spec_of(label="classes: 2"))


RAGGED = """
name: ragged
dimensions: {time: T}
transforms: {time: {cell: gru, hidden: 3}}
inputs: {x: {features: 2, joins: [time]}}
outputs: {y: {features: 1, reads: [time]}, kind: {classes: 2, reads: [time], at: {time: last}}}
"""


def test_lists_of_sequences_are_what_their_padded_arrays_are():
    import gridc

    lengths = [4, 2, 3]
    rng = np.random.default_rng(0)
    x, y = ([rng.normal(size=(n, width)).astype("f4") for n in lengths] for width in (2, 1))
    whole = padded({"x": x}, {"y": y, "kind": np.array([0, 1, 1])}, "T")
    lists = ({"x": x}, {"y": y, "kind": [0, 1, 1]})
    arrays = (whole.inputs, whole.targets, whole.lengths)
    assert whole.lengths["T"].tolist() == lengths
    grids = [gridc.compile(RAGGED, seed=1) for _ in range(2)]
    found, expected = (grid.fit(*given, budget=3, progress="none") for grid, given in zip(grids, (lists, arrays), strict=True))
    assert found.records[-1].loss == expected.records[-1].loss
    assert grids[0].score(*lists) == grids[0].score(*arrays)
    both = (grids[0].predict({"x": x}), grids[0].predict(whole.inputs, whole.lengths))
    assert all(np.array_equal(both[0][name], both[1][name]) for name in ("y", "kind"))
    one, other = (fit(grid, [given], progress="none", budget=2) for grid, given in zip(grids, (lists, arrays), strict=True))
    assert one.records[-1].loss == other.records[-1].loss, "batches that an iterator gives"
    with pytest.raises(DataError, match="The inputs are ndarray, expected a mapping of names to arrays, such as"):
        grids[0].fit(whole.inputs["x"], whole.targets)
    with pytest.raises(DataError, match="'x' have different lengths, expected 5 steps in each"):
        gridc.compile(RAGGED.replace("time: T", "time: 5")).predict({"x": x})


@pytest.mark.parametrize(
    ("option", "words"),
    [("epochs", "write budget={'epochs': 10}"), ("validation_split", "write held_out=0.2"), ("bacth", "did you mean 'batch'"),
     ("zzz", "it has held_out, optimizer, batch")],
)  # fmt: skip
def test_options_that_fit_does_not_have(option, words):
    import gridc

    with pytest.raises(UsageError, match=words):
        gridc.compile(RAGGED, eager=False).fit({}, {}, **{option: 1})


def test_npz_and_npy(tmp_path):
    data, spec = numbers(), spec_of(label="classes: 2")
    np.savez(tmp_path / "a.npz", x=data.inputs["x"], y=data.targets["label"], other=np.zeros(3))
    found = read(tmp_path / "a.npz", Reading(spec, outputs={"label": "y"}))
    assert np.array_equal(found.inputs["x"], data.inputs["x"])
    assert np.array_equal(found.targets["label"], data.targets["label"])
    folder = tmp_path / "b"
    folder.mkdir()
    np.save(folder / "x.npy", data.inputs["x"])
    np.save(folder / "label.npy", data.targets["label"])
    found = read(folder, Reading(spec))
    assert isinstance(found.inputs["x"], np.memmap)
    batch = next(Shuffled(found, 3).after(0)).data.ready()
    assert batch.inputs["x"].shape == (3, 4)
    assert read(folder / "x.npy", Reading(spec, targets=False)).inputs["x"].shape == (10, 4)


def test_csv_by_name_by_number_by_mapping_and_by_what_is_left(tmp_path):
    spec = spec_of(2, label="classes: 3")
    path = tmp_path / "a.csv"
    path.write_text("x_0,x_1,label\n1,2,red\n3,4,blue\n5,6,green\n")
    found = read(path, Reading(spec))
    assert found.inputs["x"].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert found.targets["label"].tolist() == [2, 0, 1]
    assert found.vocabularies["label"] == ("blue", "green", "red")
    path.write_text("width,height,label\n1,2,green\n")
    held = read(path, Reading(spec, vocabularies=found.vocabularies))
    assert held.targets["label"].tolist() == [1]
    assert held.inputs["x"].tolist() == [[1, 2]]
    swapped = read(path, Reading(spec, inputs={"x": ["height", "width"]}, vocabularies=found.vocabularies))
    assert swapped.inputs["x"].tolist() == [[2, 1]]
    path.write_text("x_0,x_1\n1,2\n")
    assert not read(path, Reading(spec, targets=False)).targets


def test_csv_of_texts_and_of_numbers_in_a_cell(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("tokens,tags\nabc,xyx\nb,y\n")
    found = read(path, Reading(read_spec(SEQUENCE)))
    assert found.inputs["tokens"].tolist() == [[0, 1, 2], [1, 0, 0]]
    assert found.lengths["T"].tolist() == [3, 1]
    assert found.targets["tags"].tolist() == [[0, 1, 0], [1, 0, 0]]
    path.write_text("tokens,tags\n1 2 3 4,5\n6 7,1\n")
    found = read(path, Reading(read_spec(REAL)))
    assert found.inputs["tokens"].tolist() == [[[1, 2], [3, 4]], [[6, 7], [0, 0]]]
    assert found.lengths["T"].tolist() == [2, 1]


def test_parquet(tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"tokens": [[1, 2, 3], [4]], "tags": [[1, 1, 1], [2]]}), path)
    found = read(path, Reading(read_spec(SEQUENCE)))
    assert found.inputs["tokens"].tolist() == [[1, 2, 3], [4, 0, 0]]
    assert found.lengths["T"].tolist() == [3, 1]


def test_text_becomes_windows_that_predict_the_next_symbol(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("abcabcabca")
    found = read(path, Reading(read_spec(SEQUENCE), window=4))
    assert found.inputs["tokens"].tolist() == [[0, 1, 2, 0], [1, 2, 0, 1]]
    assert found.targets["tags"].tolist() == [[1, 2, 0, 1], [2, 0, 1, 2]]
    assert found.vocabularies == {"tokens": ("a", "b", "c"), "tags": ("a", "b", "c")}
    path.write_text("abcdefghijkl")
    with pytest.raises(DataError, match="12 different characters, but the spec's vocabulary has room for 8"):
        read(path, Reading(read_spec(SEQUENCE), window=4))


def test_words_and_bytes():
    text = symbols("The cat, the dog.\nÄ 1", "word")
    assert text == ["The", "cat", ",", "the", "dog", ".", "\n", "Ä", "1"]
    assert joined(text, "word") == "The cat, the dog.\nÄ 1"
    words = vocabulary([["a", "b", "a", "c", "c", "d"]], 3, "word", "it")
    assert words == ("<unknown>", "a", "c")
    assert ids(["d", "a"], words, "it").tolist() == [0, 1]
    assert joined(symbols("Äh", "byte"), "byte") == "Äh"
    with pytest.raises(DataError, match="'z' as symbol 2, which is not in the model's vocabulary"):
        ids("az", ("a", "b"), "it")


def test_folder_of_images(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for label, value in (("dark", 0), ("light", 255)):
        (tmp_path / label).mkdir()
        for number in range(2):
            image.new("RGB", (16, 12), (value,) * 3).save(tmp_path / label / f"{number}.png")
    found = read(tmp_path, Reading(read_spec(IMAGE % 1)))
    assert found.inputs["image"].shape == (4, 4, 4, 1)
    assert found.targets["kind"].tolist() == [0, 0, 1, 1]
    assert found.inputs["image"][2:].min() == 1.0
    assert found.vocabularies["kind"] == ("dark", "light")
    assert read(tmp_path, Reading(read_spec(IMAGE % 4))).inputs["image"].shape == (4, 4, 4, 4)
    coloured = read(tmp_path, Reading(read_spec(IMAGE % 12), colour=True))
    assert coloured.inputs["image"].shape == (4, 4, 4, 12)
    (tmp_path / "dark" / "0.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"0\.png cannot be read as an image"):
        read(tmp_path, Reading(read_spec(IMAGE % 1)))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "x_0,x_1,label\n1,2\n", "row 2: 2 fields, expected the 3 of the heading"),
        ("a.csv", "x_0,x_1,label\n1,two,0\n", "row 2, column 'x_1': 'two', expected a number"),
        ("a.csv", "x_0,x_1,label\n1,2,0.5\n", "row 2, column 'label': '0.5', expected a whole number"),
        ("a.csv", "x_0,x_1,labels\n1,2,0\n", "no column for the output 'label'.*did you mean 'labels'"),
        ("a.csv", "length,width,kind\n1,2,0\n", r"no column for the output 'label'.*outputs: {label: \[length, width, …\]"),
        ("a.csv", "x_0,label\n1,0\n", r"takes 1 columns \(x_0\), expected 2"),
        ("a.csv", "x_0,x_1,label\n1,2,a\n1,2,b\n1,2,c\n1,2,d\n", "has 4 different words, expected at most 3"),
        ("a.csv", "x_0,x_0\n1,2\n", "two columns named 'x_0'"),
        ("a.csv", "x_0,x_1,label\n", "no rows under its heading"),
        ("a.csv", b"\xff\xfe\x00", "cannot be read as text in UTF-8: its byte 1 is 0xff; save it"),
        ("a.csv", "x_0,x_1,label\n1,nan,0\n", "row 2, column 'x_1': 'nan', expected a finite number"),
        ("a.csv", "x_0,x_1,label\n1,2,red\n1,2,\n", "row 3, column 'label' is empty, expected a word"),
        ("a.npz", pickle.dumps({"x": 1}), "is no file of NumPy arrays, whatever its name says"),
        ("a.npz", b"PK\x03\x04nonsense", "a.npz"),
        ("a.npz", b"", "a.npz"),
        ("a.xlsx", "", "ends in '.xlsx', expected .npz, .npy, .csv"),
        ("a.txt", "abc", "suits a spec with one input of a vocabulary"),
    ],
)
def test_messages_of_files(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=words) as caught:
        read(path, Reading(spec_of(2, label="classes: 3")))
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 3


def test_messages_of_places(tmp_path):
    spec = spec_of(2, label="classes: 3")
    (tmp_path / "train.csv").write_text("a")
    with pytest.raises(DataError, match=r"There is no file .*did you mean 'train.csv'"):
        read(tmp_path / "trian.csv", Reading(spec))
    with pytest.raises(UsageError, match=r"names 'lable', which is no output of 'small'.*did you mean 'label'"):
        Reading(spec, outputs={"lable": "y"})
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 2)))
    with pytest.raises(DataError, match=r"no array 'label' for the output 'label'; it has x. Name it .* outputs: {label: x}"):
        read(tmp_path / "a.npz", Reading(spec))
    np.savez(tmp_path / "b.npz", x=np.array([np.zeros(2), np.zeros(3)], object), label=np.zeros(2))
    with pytest.raises(DataError, match=r"Python objects, which gridc does not read.* Pad sequences"):
        read(tmp_path / "b.npz", Reading(spec))
    np.savez(tmp_path / "none.npz")
    with pytest.raises(DataError, match=r"none\.npz holds no arrays, expected one for the output 'label'"):
        read(tmp_path / "none.npz", Reading(spec))
    np.savez(tmp_path / "b.npz", x=np.float32(1), label=np.zeros(2))
    with pytest.raises(DataError, match=r"b\.npz: input 'x': found a single value; expected an array"):
        read(tmp_path / "b.npz", Reading(spec))
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(DataError, match=r"folder\.npz is a folder without images or \.npy files"):
        read(tmp_path / "folder.npz", Reading(spec))
    np.savez(tmp_path / "b.npz", x=np.array([{}]), label=np.zeros(1))
    with pytest.raises(DataError, match=r"b\.npz"):
        read(tmp_path / "b.npz", Reading(spec))
