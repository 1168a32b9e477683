"""Files are read as the training's was: columns, words or numbers, and vocabularies are a model's, not each file's own."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridc import cli, model_file
from gridc.arrays.signature import Signature
from gridc.data.files import read
from gridc.data.fitting import for_spec
from gridc.data.reading import Reading
from gridc.errors import DataError, UsageError
from gridc.scheduling.check import read as read_spec
from small_grid import spec_of

LINE = """
name: line
dimensions: {time: T}
transforms: {time: {cell: lstm, hidden: 4}}
inputs: {x: {features: 1, joins: [time]}}
outputs: {y: {features: 1, reads: [time], at: {time: last}}}
"""
TAGS = """
name: tags
dimensions: {time: T}
transforms: {time: {cell: lstm, hidden: 4}}
inputs: {x: {vocabulary: %d, joins: [time]}}
outputs: {y: {classes: %d, reads: [time]}}
"""
BOARD = """
name: board
dimensions: {rows: 2, columns: 2}
transforms: {rows: {cell: lstm, hidden: 2}, columns: {cell: lstm, hidden: 2}}
inputs: {s: {vocabulary: 3, joins: [rows, columns]}}
outputs: {won: {classes: 2, reads: [rows], at: {rows: last, columns: last}}}
"""
CODE = TAGS.replace("time: T", "time: 4").replace("reads: [time]", "reads: [time], at: {time: last}") % (16, 3)


def csv(path, text):
    path.write_text(text)
    return path


def trained(spec, data, **how):
    """How a model that was trained on these data reads, by way of what its file holds."""
    held = Signature.from_json(json.loads(json.dumps(data.signature.to_json())))
    return Reading(spec, vocabularies=data.vocabularies, signature=held, **how)


def shown(data):
    return {name: array.tolist() for name, array in (*data.inputs.items(), *data.targets.items())}


# -- words or numbers ------------------------------------------------------------------------------------------------


WORDS = st.lists(st.sampled_from(["1", "2", "3", "fail", "007", "1E5", "nan", "True", "x y", "-1", "0"]), min_size=1, max_size=8)


@settings(deadline=None, max_examples=40)
@given(WORDS.filter(lambda words: len(set(words)) > 1), st.data())
def test_any_rows_of_a_file_are_read_as_in_the_whole_file(tmp_path_factory, labels, data):
    path, spec = tmp_path_factory.mktemp("rows") / "a.csv", spec_of(2, label="classes: 9")

    def reading(words, how):
        return read(csv(path, "x_0,x_1,label\n" + "".join(f"1,2,{word}\n" for word in words)), how)

    try:
        whole = reading(labels, Reading(spec))
    except DataError:  # numbers such as -1 and 1E5 only, which are no ids
        whole = reading(labels, Reading(spec, words=("label",)))
    some = data.draw(st.lists(st.sampled_from(range(len(labels))), min_size=1, max_size=4))
    part = reading([labels[row] for row in some], trained(spec, whole))
    assert part.targets["label"].tolist() == whole.targets["label"][some].tolist()
    assert part.vocabularies == whole.vocabularies


def test_labels_in_a_file_without_the_word_among_them(tmp_path):
    spec = spec_of(2, label="classes: 4")
    first = read(csv(tmp_path / "a.csv", "x_0,x_1,label\n1,2,1\n1,2,fail\n1,2,3\n1,2,2\n"), Reading(spec))
    assert first.vocabularies["label"] == ("1", "2", "3", "fail")
    passed = csv(tmp_path / "b.csv", "x_0,x_1,label\n1,2,3\n1,2,1\n")
    assert read(passed, trained(spec, first)).targets["label"].tolist() == [2, 0]
    other = csv(tmp_path / "c.csv", "x_0,x_1,label\n1,2,0\n")
    with pytest.raises(DataError, match="row 2, column 'label': '0', expected 1, 2, 3 or fail"):
        read(other, trained(spec, first))


def test_a_model_of_numbers_takes_no_words(tmp_path):
    spec = spec_of(2, label="classes: 4")
    first = read(csv(tmp_path / "a.csv", "x_0,x_1,label\n1,2,0\n1,2,3\n"), Reading(spec))
    assert not first.vocabularies
    with pytest.raises(DataError, match="row 3, column 'label': 'fail', expected a number"):
        read(csv(tmp_path / "b.csv", "x_0,x_1,label\n1,2,0\n1,2,fail\n"), trained(spec, first))


def test_an_older_model_knows_words_by_its_vocabulary(tmp_path):
    spec = spec_of(2, label="classes: 3")
    path = csv(tmp_path / "a.csv", "x_0,x_1,label\n1,2,2\n1,2,1\n")
    old = Reading(spec, vocabularies={"label": ("1", "2", "fail")}, signature=Signature())
    assert read(path, old).targets["label"].tolist() == [1, 0]
    assert read(path, Reading(spec, signature=Signature())).targets["label"].tolist() == [2, 1], "no words: numbers"


@pytest.mark.parametrize("rows", [["1234", "00ff", "beef"], ["00ff", "1234", "beef"], ["1234", "0099", "4321"]])
def test_codes_are_characters_whatever_the_first_row_is(tmp_path, rows):
    spec = read_spec(CODE)
    found = read(csv(tmp_path / "a.csv", "x,y\n" + "".join(f"{code},{i}\n" for i, code in enumerate(rows))), Reading(spec))
    words = found.vocabularies["x"]
    assert ["".join(words[i] for i in row) for row in found.inputs["x"].tolist()] == rows
    with pytest.raises(DataError, match="row 2, column 'x' has 3 steps, expected 4"):
        read(csv(tmp_path / "b.csv", f"x,y\n{rows[0][:3]},0\n"), trained(spec, found))


def test_words_that_look_like_numbers(tmp_path):
    spec = spec_of(1, label="classes: 3")
    text = "x_0,label\n1,10\n1,20\n1,30\n"
    advice = r"row 2, column 'label': 10, expected an id from 0 to 2; ids count from 0; .*words: \[label\]"
    with pytest.raises(DataError, match=advice):
        read(csv(tmp_path / "a.csv", text), Reading(spec))
    found = read(tmp_path / "a.csv", Reading(spec, words=("label",)))
    assert found.vocabularies["label"] == ("10", "20", "30")
    zips = read(csv(tmp_path / "b.csv", "x_0,label\n1,01234\n1,00007\n"), Reading(spec))
    assert zips.vocabularies["label"] == ("00007", "01234"), "a number is not written so"
    with pytest.raises(UsageError, match=r"'words' names 'lable', which takes no words.*did you mean 'label'"):
        Reading(spec, words=("lable",))


def test_the_words_of_a_board_are_of_all_its_columns(tmp_path):
    spec = read_spec(BOARD)
    text = "s_0,s_1,s_2,s_3,won\nx,b,o,1,no\no,x,1,x,yes\n"
    with pytest.raises(DataError, match=r"columns 's_0', 's_1', 's_2', 's_3' have 4 different words, expected at most 3"):
        read(csv(tmp_path / "a.csv", text), Reading(spec))
    found = read(csv(tmp_path / "b.csv", text.replace(",1,", ",o,")), Reading(spec))
    assert found.vocabularies["s"] == ("b", "o", "x")
    assert found.inputs["s"].tolist() == [[[2, 0], [1, 1]], [[1, 2], [1, 2]]]
    late = read(csv(tmp_path / "c.csv", "s_0,s_1,s_2,s_3,won\n1,1,2,b,0\n"), Reading(spec))
    assert late.vocabularies["s"] == ("1", "2", "b"), "a word in the last column only"


# -- columns ---------------------------------------------------------------------------------------------------------


def test_columns_in_another_order_or_with_others_among_them(tmp_path):
    spec = spec_of(2, label="features: 1")
    first = read(csv(tmp_path / "a.csv", "a,b,label\n1,2,5\n"), Reading(spec))
    assert first.inputs["x"].tolist() == [[1, 2]]
    how = trained(spec, first)
    assert read(csv(tmp_path / "b.csv", "b,note,a,label\n2,hello,1,5\n"), how).inputs["x"].tolist() == [[1, 2]]
    unlabelled = read(csv(tmp_path / "c.csv", "b,a\n2,1\n"), trained(spec, first, targets=False))
    assert unlabelled.inputs["x"].tolist() == [[1, 2]]
    renamed = r"no column 'a' for the input 'x', which the model was trained on \(its columns: a and b\); it has A, b.*'A'"
    with pytest.raises(DataError, match=renamed):
        read(csv(tmp_path / "d.csv", "A,b,label\n1,2,5\n"), how)


def test_a_mapped_output_need_not_be_there_to_predict(tmp_path):
    spec = spec_of(2, label="classes: 2")
    path = csv(tmp_path / "a.csv", "a,b\n1,2\n")
    assert read(path, Reading(spec, outputs={"label": "kind"}, targets=False)).inputs["x"].tolist() == [[1, 2]]
    found = read(csv(path, "a,b,kind\n1,2,x\n"), Reading(spec, outputs={"label": "kind"}, targets=False))
    assert found.inputs["x"].shape == (1, 2)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("x_0,x_1,x_3,x_4,y", r"no column 'x_2' for the input 'x', but x_3 and x_4"),
        ("x_1,x_2,x_4,x_5,y", r"no column 'x_3' for the input 'x', but x_4 and x_5"),
        ("x_2,x_3,x_4,x_5,y", r"no column 'x_1' for the input 'x', but x_2, x_3, x_4 and x_5"),
        ("x_0,x_1,x_01,x_2,y", r"two columns of the number 1"),
    ],
)
def test_numbered_columns_with_a_gap(tmp_path, head, words):
    with pytest.raises(DataError, match=words):
        read(csv(tmp_path / "a.csv", f"{head}\n1,2,3,4,5\n"), Reading(read_spec(LINE)))
    swapped = LINE.replace("x: {features: 1", "y: {features: 1").replace("y: {features: 1, reads", "x: {features: 4, reads")
    with pytest.raises(DataError, match=words.replace("input", "output")):
        read(tmp_path / "a.csv", Reading(read_spec(swapped)))


def test_numbered_columns_by_number_from_0_or_1(tmp_path):
    spec = read_spec(LINE)
    for head in ("x_2,x_0,x_1,y", "x_3,x_1,x_2,y", "x_03,x_01,x_02,y"):
        assert read(csv(tmp_path / "a.csv", f"{head}\n3,1,2,0\n"), Reading(spec)).inputs["x"].tolist() == [[[1], [2], [3]]]
    many = ",".join(f"x_{n}" for n in reversed(range(12)))
    found = read(csv(tmp_path / "b.csv", f"{many},y\n{','.join(str(n) for n in reversed(range(12)))},0\n"), Reading(spec))
    assert found.inputs["x"][0, :, 0].tolist() == list(range(12)), "10 comes after 9"


def test_lengths_that_were_there_in_training_must_be_there(tmp_path):
    spec = read_spec(LINE)
    first = read(csv(tmp_path / "a.csv", "x_0,x_1,T,y\n1,2,2,0\n1,0,1,0\n"), Reading(spec))
    assert first.lengths["T"].tolist() == [2, 1]
    with pytest.raises(DataError, match=r"has no lengths 'T' of its examples along 'T', which the model was trained with"):
        read(csv(tmp_path / "b.csv", "x_0,x_1,y\n1,2,0\n"), trained(spec, first))
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3, 1)), y=np.zeros((2, 1)), steps=[2, 3])
    named = read(tmp_path / "a.npz", Reading(spec, lengths={"T": "steps"}))
    assert named.signature.lengths == {"T": "steps"}
    np.savez(tmp_path / "b.npz", x=np.zeros((2, 3, 1)), y=np.zeros((2, 1)), step=[2, 3])
    with pytest.raises(DataError, match=r"has no lengths 'steps'.*did you mean 'step'"):
        read(tmp_path / "b.npz", trained(spec, named, lengths={"T": "steps"}))
    with pytest.raises(DataError, match=r"has no array 'steps' for the length 'T'"):
        read(tmp_path / "b.npz", Reading(spec, lengths={"T": "steps"}))


def test_what_takes_no_part_is_said(tmp_path):
    spec = spec_of(2, label="features: 1")
    text = "x_0,x_1,date,label\n1,2,3,5\n"
    assert "the column 'date' took no part" in read(csv(tmp_path / "a.csv", text), Reading(spec)).notes[0]
    assert not read(tmp_path / "a.csv", Reading(spec, inputs={"x": ["x_0", "x_1"]})).notes, "which the spec says itself"
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 2)), label=np.zeros((2, 1)), lengths=np.ones(2))
    assert "of its arrays lengths took no part" in read(tmp_path / "a.npz", Reading(spec)).notes[0]


# -- cells -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", [["12 7 3", "5"], ["[12, 7, 3]", "[5]"], ["12,7,3", "5"], ["[12 7 3]", "[5]"]])
def test_whole_numbers_in_a_cell_are_ids(tmp_path, cells):
    spec = read_spec(TAGS % (20, 2))
    found = read(csv(tmp_path / "a.csv", f'x,y\n"{cells[0]}",1 0 1\n"{cells[1]}",0\n'), Reading(spec))
    assert shown(found) == {"x": [[12, 7, 3], [5, 0, 0]], "y": [[1, 0, 1], [0, 0, 0]]}
    assert found.lengths["T"].tolist() == [3, 1]
    assert not found.vocabularies
    alone = read(csv(tmp_path / "b.csv", "x,y\n7,1\n"), trained(spec, found))
    assert shown(alone) == {"x": [[7]], "y": [[1]]}, "also where a file has single numbers only"
    with pytest.raises(DataError, match="row 2, column 'x': 'a b', expected whole numbers with spaces between them"):
        read(csv(tmp_path / "c.csv", "x,y\na b,1 0\n"), trained(spec, found))
    with pytest.raises(DataError, match=r"row 2, column 'x': 20, expected an id from 0 to 19.*words: \[x\]"):
        read(csv(tmp_path / "d.csv", "x,y\n3 20,1 0\n"), Reading(spec))


def test_a_cell_that_is_not_all_numbers_is_text(tmp_path):
    found = read(csv(tmp_path / "a.csv", "x,y\n1 b,0 1 0\n22,1 1\n"), Reading(read_spec(TAGS % (20, 2))))
    assert found.vocabularies == {"x": (" ", "1", "2", "b")}
    assert found.inputs["x"].tolist() == [[1, 0, 3], [2, 2, 0]]
    words = Reading(read_spec(TAGS % (20, 2)), words=("x",))
    assert read(csv(tmp_path / "b.csv", "x,y\n1 2,0 1 0\n22,1 1\n"), words).vocabularies["x"] == (" ", "1", "2")


def test_lists_of_words_that_a_table_holds_as_text(tmp_path):
    found = read(csv(tmp_path / "a.csv", "x,y\n\"['the', 'cat']\",\"['D', 'N']\"\n\"['cat']\",\"['N']\"\n"),
                 Reading(read_spec(TAGS % (5, 3))))  # fmt: skip
    assert found.vocabularies == {"x": ("cat", "the"), "y": ("D", "N")}
    assert shown(found) == {"x": [[1, 0], [0, 0]], "y": [[0, 1], [1, 0]]}


def parquet(path, **columns):
    pa, module = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    module.write_table(pa.table(columns), path)
    return path


def test_list_columns_of_parquet(tmp_path):
    spec = read_spec(TAGS % (5, 3))
    words = {"x": [["the", "cat"], ["cat"]], "y": [["D", "N"], ["N"]]}
    first = read(parquet(tmp_path / "a.parquet", **words), Reading(spec))
    assert first.vocabularies == {"x": ("cat", "the"), "y": ("D", "N")}
    assert shown(first) == {"x": [[1, 0], [0, 0]], "y": [[0, 1], [1, 0]]}
    assert shown(read(csv(tmp_path / "b.csv", "x,y\ncat the cat,N D N\n"), trained(spec, first))) == {
        "x": [[0, 1, 0]], "y": [[1, 0, 1]]}  # fmt: skip
    with pytest.raises(DataError, match="column 'x' holds 'dog', expected cat or the"):
        read(parquet(tmp_path / "c.parquet", x=[["dog"]], y=[["N"]]), trained(spec, first))
    booleans = read(parquet(tmp_path / "d.parquet", x=[[1, 0], [2]], y=[[True, False], [True]]), Reading(spec))
    assert booleans.vocabularies == {"y": ("False", "True")}
    assert booleans.targets["y"].tolist() == [[1, 0], [1, 0]]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"x": [["a"], None], "y": [[0], [1]]}, r"row 2, column 'x' is empty, expected a list"),
        ({"x": [[1, 2], None], "y": [[0, 0], [1]]}, r"row 2, column 'x' is empty, expected a list"),
        ({"x": [[1, None], [1]], "y": [[0, 0], [1]]}, r"row 1, column 'x' holds nothing at number 2"),
        ({"x": [["a", None], ["a"]], "y": [[0, 0], [1]]}, r"row 1, column 'x' holds nothing at number 2"),
        ({"x": [[[1, 2], [3]], [[1, 2]]], "y": [[0, 0], [1]]}, r"row 1, column 'x': its steps are lists of different lengths"),
        ({"x": [[1, 2], []], "y": [[0, 0], [1]]}, r"row 2, column 'x' is empty, expected a sequence"),
        ({"x": [[1, 2], [1]], "y": [[0, 0], [1, 1]]}, r"row 2, column 'y' has 2 steps, expected the 1 of the sequence beside it"),
        ({"x": [[1, 9], [1]], "y": [[0, 0], [1]]}, r"row 1, column 'x': 9, expected an id from 0 to 4"),
        ({"x": [[1.0, 0.5], [1.0]], "y": [[0, 0], [1]]}, r"row 1, column 'x': 0.5, expected an id from 0 to 4"),
        ({"x": [{"a": 1}], "y": [[0]]}, r"column 'x'"),
    ],
)
def test_list_columns_with_something_wrong(tmp_path, columns, words):
    with pytest.raises(DataError, match=words):
        read(parquet(tmp_path / "a.parquet", **columns), Reading(read_spec(TAGS % (5, 3))))


def test_real_list_columns(tmp_path):
    spec = read_spec(LINE.replace("features: 1, joins", "features: 2, joins"))
    each = read(parquet(tmp_path / "a.parquet", u=[[1.0, 2.0], [3.0]], v=[[5.0, 6.0], [7.0]], y=[0.0, 1.0]), Reading(spec))
    assert each.inputs["x"].tolist() == [[[1, 5], [2, 6]], [[3, 7], [0, 0]]], "a column for each feature"
    assert each.lengths["T"].tolist() == [2, 1]
    text = read(csv(tmp_path / "b.csv", "u,v,y\n1 2,5 6,0\n3,7,1\n"), trained(spec, each))
    assert np.array_equal(text.inputs["x"], each.inputs["x"])
    with pytest.raises(DataError, match=r"row 1, column 'x' holds the word 'a', expected numbers"):
        read(parquet(tmp_path / "c.parquet", x=[["a"], ["1"]], y=[0.0, 1.0]), Reading(read_spec(LINE)))


def test_columns_of_parquet_are_those_of_a_csv(tmp_path):
    spec = spec_of(2, label="classes: 4")
    first = read(csv(tmp_path / "a.csv", "a,b,label\n1,2,1\n1,2,fail\n"), Reading(spec))
    other = parquet(tmp_path / "a.parquet", label=["1", "1"], b=[2, 2], a=[1, 1])
    assert read(other, trained(spec, first)).targets["label"].tolist() == [0, 0]
    typed = parquet(tmp_path / "b.parquet", label=[1.0, 1.0], b=[2, 2], a=[1, 1])
    found = read(typed, trained(spec, first))
    assert shown(found) == {"x": [[1, 2], [1, 2]], "label": [0, 0]}


# -- arrays ----------------------------------------------------------------------------------------------------------


def test_words_in_arrays(tmp_path):
    spec = read_spec(TAGS % (5, 3))
    np.savez(tmp_path / "a.npz", x=np.array([["the", "cat"], ["cat", ""]]), y=np.array([[1, 0], [1, 9]]) % 3, T=[2, 1])
    first = read(tmp_path / "a.npz", Reading(spec))
    assert first.vocabularies == {"x": ("cat", "the")}
    assert first.inputs["x"].tolist() == [[1, 0], [0, 0]]
    np.savez(tmp_path / "b.npz", x=np.array([["cat", "dog"]]), y=np.zeros((1, 2), int), T=[2])
    with pytest.raises(DataError, match=r"b\.npz: The array of 'x' holds 'dog', expected cat or the"):
        read(tmp_path / "b.npz", trained(spec, first))
    np.savez(tmp_path / "c.npz", x=np.array([["cat", ""]]), y=np.zeros((1, 2), int), T=[2])
    with pytest.raises(DataError, match=r"'x' has an empty word in example 0"):
        read(tmp_path / "c.npz", trained(spec, first))
    np.savez(tmp_path / "d.npz", x=np.array([["cat", "the"]]), y=np.array([["a", "b"]]), T=[2])
    with pytest.raises(DataError, match="'y' holds text, expected ids from 0 to 2"):
        read(tmp_path / "d.npz", trained(spec, read(tmp_path / "a.npz", Reading(spec))))
    labels = spec_of(2, label="classes: 3")
    np.savez(tmp_path / "e.npz", x=np.zeros((3, 2)), label=[10, 20, 30])
    assert read(tmp_path / "e.npz", Reading(labels, words=("label",))).vocabularies == {"label": ("10", "20", "30")}
    np.savez(tmp_path / "f.npz", x=np.zeros((3, 2)), label=[1, 2, 3])
    with pytest.raises(DataError, match="holds 3 in example 2, expected ids from 0 to 2: they count from 1 here, so subtract 1"):
        read(tmp_path / "f.npz", Reading(labels))


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("label", [0, 1, 2], "the target of 'label' holds 2 in example 2, expected ids from 0 to 1"),
        ("label", [0, 1, -1], "holds -1 in example 2, expected ids from 0 to 1"),
        ("label", [0, 0.9, 1], "holds 0.9 in example 1, expected ids"),
        ("amount", [[0.0], [1.0], [np.nan]], "'amount' holds NaN or infinity, first in example 2"),
        ("x", [[0.0, 1.0], [np.inf, 1.0], [0, 0]], "input 'x' holds NaN or infinity, first in example 1"),
    ],
)
def test_arrays_on_the_disk_are_checked_before_they_are_used(tmp_path, monkeypatch, name, array, words):
    monkeypatch.setattr("gridc.arrays.axes.CHUNK", 2)  # a part at a time
    spec = spec_of(2, label="classes: 2", amount="features: 1")
    good = {"x": np.zeros((3, 2)), "label": np.array([0, 1, 1.0]), "amount": np.zeros((3, 1))}
    for key, value in (good | {name: np.array(array)}).items():
        np.save(tmp_path / f"{key}.npy", value)
    (tmp_path / "._x.npy").write_bytes(b"\0\x05\x16\x07")  # as a Mac leaves beside a file on a stick
    with pytest.raises(DataError, match=words):
        read(tmp_path, Reading(spec))
    np.save(tmp_path / f"{name}.npy", good[name])
    found = read(tmp_path, Reading(spec))
    assert isinstance(found.targets["label"], np.memmap)
    monkeypatch.setattr("gridc.data.fitting.odd_number", lambda array, axes: pytest.fail("the disk was read through again"))
    for_spec(found, spec)
    assert found.take(slice(2)).ready().targets["label"].dtype == np.int64, "whole numbers of a real type are ids in a batch"


# -- from the command line -------------------------------------------------------------------------------------------


def run(capsys, *words):
    code = cli.run([*map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_model_file_keeps_all_of_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 60))
    grade = np.where(a > 0.5, "fail", np.where(a > 0, "2", "1"))
    rows = [f"{u:.3f},{v:.3f},{g}\n" for u, v, g in zip(a, b, grade, strict=True)]
    csv(tmp_path / "all.csv", "a,b,grade\n" + "".join(rows))
    csv(tmp_path / "passed.csv", "a,b,grade\n" + "".join(row for row in rows if "fail" not in row))
    csv(tmp_path / "g.yaml", """
name: grades
dimensions: {depth: 2}
transforms: {depth: {cell: lstm, hidden: 8}}
inputs: {x: {features: 2, enters: depth}}
outputs: {grade: {classes: 5, reads: [depth], at: {depth: last}}}
training: {data: all.csv, optimizer: {adam: {learning_rate: 0.05}}, budget: {epochs: 40}}
""")
    code, out, _ = run(capsys, "train", "g.yaml", "--folder", "r", "--data.held_out", "passed.csv", "--progress", "none")
    assert code == 0
    assert float(out.split("grade ")[1].split(" %")[0]) > 90, "of the rows without the word"
    model = model_file.load(tmp_path / "r" / "model.grid")
    columns = {"x": ["a", "b"], "grade": ["grade"]}
    assert model.signature == {"columns": columns, "forms": {"grade": "words"}, "lengths": {}}
    code, out, _ = run(capsys, "score", "r/model.grid", "passed.csv", "--json")
    told = json.loads(out)
    assert told["outputs"]["grade"]["accuracy"] > 0.9
    assert told["confusion"]["labels"] == ["1", "2", "fail"], "no classes that no word stands for"
    swapped = "b,grade,a\n" + "".join("{1},{2},{0}\n".format(*row.strip().split(",")) for row in rows)
    csv(tmp_path / "swapped.csv", swapped)
    _, out, _ = run(capsys, "score", "r/model.grid", "all.csv", "--json")
    _, again, _ = run(capsys, "score", "r/model.grid", "swapped.csv", "--json")
    assert json.loads(again)["outputs"] == json.loads(out)["outputs"]
    code, out, _ = run(capsys, "predict", "r/model.grid", "passed.csv")
    assert out.splitlines()[0] == "grade,grade=1,grade=2,grade=fail"
    code, out, _ = run(capsys, "inspect", "r/model.grid")
    assert "columns of x: a b" in out


def test_binary_predictions_are_words(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    csv(tmp_path / "b.csv", "a,bought\n" + "1,yes\n-1,no\n" * 20)
    csv(tmp_path / "b.yaml", """
name: bought
dimensions: {depth: 1}
transforms: {depth: {cell: lstm, hidden: 4}}
inputs: {x: {features: 1, enters: depth}}
outputs: {bought: {binary: true, reads: [depth], at: {depth: last}}}
training: {data: b.csv, optimizer: {adam: {learning_rate: 0.1}}, budget: {epochs: 20}, batch: 8}
""")
    assert run(capsys, "train", "b.yaml", "--folder", "r", "--progress", "none")[0] == 0
    head, yes, no = run(capsys, "predict", "r/model.grid", "b.csv")[1].splitlines()[:3]
    assert head == "bought,bought=yes"
    assert [yes.split(",")[0], no.split(",")[0]] == ["yes", "no"]
    first = json.loads(run(capsys, "predict", "r/model.grid", "b.csv", "--json")[1])[0]
    assert first["bought"] == "yes"
    assert first["bought=yes"] > 0.5


def test_an_output_may_be_called_file(tmp_path, monkeypatch, capsys):
    import gridc

    monkeypatch.chdir(tmp_path)
    gridc.compile(LINE.replace("y:", "file:"), eager=False).save("m.grid")
    csv(tmp_path / "a.csv", "x_0,x_1\n1,2\n")
    assert run(capsys, "predict", "m.grid", "a.csv", "-o", "p.npz")[0] == 0
    with np.load("p.npz") as held:
        assert held["file"].shape == (1, 1)


@pytest.mark.parametrize(
    "held", [{"columns": {"x": "ab"}}, {"forms": {"x": "guesses"}}, [], {"columns": [1]}, {"lengths": {"T": 1}}]
)
def test_a_forged_signature_is_refused(tmp_path, held):
    grid = model_file.Model({"W": np.zeros(2, "f4")}, "name: x", signature={"columns": {}, "forms": {}})
    model_file.save(tmp_path / "a.grid", grid)
    assert model_file.load(tmp_path / "a.grid").signature == {"columns": {}, "forms": {}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_file, "dict", lambda value: value, raising=False)
        model_file.save(tmp_path / "a.grid", model_file.Model({"W": np.zeros(2, "f4")}, "name: x", signature=held))
    with pytest.raises(DataError, match=r"'signature' is .*expected the columns and forms of inputs and outputs"):
        model_file.load(tmp_path / "a.grid")
