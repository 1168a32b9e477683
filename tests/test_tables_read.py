"""Tables as tools write them: what stands between their columns, comments, decimal commas, cells of any length, and series."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from gridc.data.files import read
from gridc.data.reading import Reading
from gridc.errors import DataError
from gridc.scheduling.check import read as read_spec
from small_grid import spec_of

SERIES = """
name: series
dimensions: {time: T}
transforms: {time: {cell: lstm, hidden: 4}}
inputs: {x: {features: %d, joins: [time]}}
outputs: {%s, reads: [time], at: {time: last}}}
"""
KIND, VALUE = "kind: {classes: 2", "value: {features: 1"


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "a,b,label\n0.5,-1.25,red\n2,3e-1,blue\n"),
        ("a.csv", "a;b;label\n0.5;-1.25;red\n2;3e-1;blue\n"),
        ("a.csv", "a;b;label\n0,5;-1,25;red\n2;3e-1;blue\n"),
        ("a.csv", "a\tb\tlabel\n0.5\t-1.25\tred\n2\t3e-1\tblue\n"),
        ("a.tsv", "a\tb\tlabel\n0,5\t-1,25\tred\n2\t3e-1\tblue\n"),
        ("a.tsv", "a,b,label\n0.5,-1.25,red\n2,3e-1,blue\n"),
        ("a.csv.gz", "a,b,label\n0.5,-1.25,red\n2,3e-1,blue\n"),
        ("a.tsv.gz", "a\tb\tlabel\n0,5\t-1,25\tred\n2\t3e-1\tblue\n"),
        ("a.csv", "a|b|label\n0.5|-1.25|red\n2|3e-1|blue\n"),
        ("a.csv", "a b  label\n0.5 -1.25  red\n 2 3e-1 blue\n"),
        ("a.csv", "# measured in May; by us\n# again\na,b,label\n0.5,-1.25,red\n2,3e-1,blue\n"),
        ("a.csv", "# a;b;label\n0.5;-1.25;red\n2;3e-1;blue\n"),
        ("a.csv", "sep=;\na;b;label\n0.5;-1.25;red\n2;3e-1;blue\n"),
        ("a.csv", "\ufeffa;b;label;\r\n0,5;-1,25;red;\r\n2;3e-1;blue;\r\n"),
        ("a.csv", "a,b,label\n\n0.5,-1.25,red\n\n2,3e-1,blue\n\n"),
        ("a.csv", 'a;b;label\n"0,5";"-1,25";red\n2;"0,3";"blue"\n'),
    ],
)
def test_every_way_to_write_a_table_gives_the_same(tmp_path, name, text):
    content = gzip.compress(text.encode()) if name.endswith(".gz") else text
    found = read(written(tmp_path / name, content), Reading(spec_of(2, label="classes: 2")))
    assert found.inputs["x"].tolist() == [[0.5, -1.25], [2, 0.3]]
    assert found.targets["label"].tolist() == [1, 0]
    assert found.vocabularies["label"] == ("blue", "red")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a;b;label\n1;2;x\n1;2\n", "row 3: 2 fields between semicolons, expected the 3 of the heading"),
        ("# one\n# two\na,b,label\n1,2,x\n1,2\n", "row 5: 2 fields, expected the 3 of the heading"),
        ('a,b,label\n"0,5",2,x\n', "row 2, column 'a': '0,5', expected a number with a point, not a comma"),
        ("a;b;label\n0,5;1;x\n1.5;1;x\n", "row 2, column 'a': '0,5', expected a number with a point, not a comma"),
        ("a;b;label\n1.234,5;1;x\n", "row 2, column 'a': '1.234,5', expected a number"),
        ("0.1,0.2,1\n0.3,0.4,0\n", r"has no heading: its first row holds numbers \(0.1, 0.2, 1\); write the names"),
        ("# a comment\n", "no rows under its heading"),
    ],
)
def test_messages_about_tables(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        read(written(tmp_path / "a.csv", text), Reading(spec_of(2, label="classes: 2")))


def test_a_table_without_a_heading_or_packed_by_half(tmp_path):
    numbers = written(tmp_path / "n.csv", "0,0,1.5\n2,0,3.5\n")
    with pytest.raises(DataError, match=r"has no heading: its first row holds numbers \(0, 0, 1.5\); write the names"):
        read(numbers, Reading(spec_of(2, label="classes: 2")))
    whole = gzip.compress(b"a,label\n1,red\n2,blue\n")
    for name, content in (("half.csv.gz", whole[: len(whole) // 2]), ("none.csv.gz", b"a,label\n1,red\n")):
        with pytest.raises(DataError, match=rf"{name} cannot be read as a table: "):
            read(written(tmp_path / name, content), Reading(spec_of(2, label="classes: 2")))


def test_a_heading_behind_a_mark_of_comments(tmp_path):
    spec = read_spec((SERIES % (1, KIND)).replace("features: 1, joins", "vocabulary: 9, joins"))
    found = read(written(tmp_path / "a.csv", "# by hand; or so\n#x,kind\nab,left\nb\x85\u2028,right\n"), Reading(spec))
    assert found.vocabularies == {"x": ("a", "b", "\x85", "\u2028"), "kind": ("left", "right")}
    assert found.lengths["T"].tolist() == [2, 3]


def test_headings_that_are_the_numbers_of_the_columns(tmp_path):
    path = written(tmp_path / "a.csv", "0,1\n5,6\n")
    assert read(path, Reading(spec_of(2, label="classes: 2"), targets=False)).inputs["x"].tolist() == [[5, 6]]


def test_a_cell_of_any_length(tmp_path):
    page = SERIES % (1, KIND)
    spec = read_spec(page.replace("features: 1, joins", "vocabulary: 3, joins"))
    long = "ab" * 100_000
    found = read(written(tmp_path / "a.csv", f"x,kind\n{long},0\nc,1\n"), Reading(spec))
    assert found.inputs["x"].shape == (2, 200_000)
    with pytest.raises(DataError, match=r"a\.csv, row 3, column 'x' has 'd' as symbol 1"):
        read(written(tmp_path / "a.csv", f"x,kind\n{long},0\nd,1\n"), Reading(spec, vocabularies={"x": ("a", "b", "c")}))


# -- series ----------------------------------------------------------------------------------------------------------

TS = """
# two dimensions, of different lengths
@problemName walks
@timeStamps false
@missing false
@univariate false
@dimensions 2
@equalLength false
@classLabel true walk run
@data
1.5,2,3:4,5,6:walk
7,8:9,1e1:run
"""


def test_series_of_ts(tmp_path):
    spec = read_spec(SERIES % (2, KIND))
    found = read(written(tmp_path / "a.ts", TS), Reading(spec))
    assert found.inputs["x"].tolist() == [[[1.5, 4], [2, 5], [3, 6]], [[7, 9], [8, 10], [0, 0]]]
    assert found.lengths["T"].tolist() == [3, 2]
    assert found.vocabularies == {"kind": ("run", "walk")}
    assert found.targets["kind"].tolist() == [1, 0]
    later = Reading(spec, vocabularies=found.vocabularies, signature=found.signature)
    one = written(tmp_path / "b.ts", TS.replace("1.5,2,3:4,5,6:walk\n", "").replace(" walk run", " run"))
    assert read(one, later).targets["kind"].tolist() == [0]
    bare = written(tmp_path / "c.ts", "@univariate true\n@classLabel false\n@data\n1,2,3\n4\n")
    assert read(bare, Reading(read_spec(SERIES % (1, KIND)), targets=False)).lengths["T"].tolist() == [3, 1]


def test_numbers_are_labels_of_ts_and_targets_of_a_regression(tmp_path):
    spec = read_spec(SERIES % (1, KIND))
    numbered = "@univariate true\n@classLabel true 1 2\n@data\n1,2,3:2\n4,5,6:1\n"
    found = read(written(tmp_path / "a.ts", numbered), Reading(spec))
    assert found.vocabularies == {"kind": ("1", "2")}
    assert found.targets["kind"].tolist() == [1, 0]
    real = "@univariate true\n@targetlabel true\n@data\n1,2,3:0.25\n4,5,?:-7\n"
    found = read(written(tmp_path / "b.ts", real), Reading(read_spec(SERIES % (1, VALUE))))
    assert found.targets["value"].tolist() == [[0.25], [-7]]
    assert found.lengths["T"].tolist() == [3, 2], "what is missing at the end is not there"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("@data\n", "no cases after '@data'"),
        ("1,2,3\n", "line 1: '1,2,3', expected a line that begins with '@' before '@data'"),
        ("@classLabel true a\n@data\n1,2:a\n1,2\n", "line 4: 0 series and a label, expected the 1 of the first case"),
        ("@classLabel true a\n@data\n1,?,3:a\n", "line 3: number 2 of a series is missing"),
        ("@classLabel true a\n@data\n1,x,3:a\n", "line 3: 'x', expected numbers with commas"),
        ("@timeStamps true\n@classLabel true a\n@data\n(0,1),(1,2):a\n", "gives the time of every number"),
    ],
)
def test_messages_about_ts(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        read(written(tmp_path / "a.ts", text), Reading(read_spec(SERIES % (1, KIND))))


def test_series_of_arff(tmp_path):
    flat = "@relation r\n@attribute att0 numeric\n@attribute att1 numeric\n@attribute target {2,1}\n@data\n1,2,1\n3,4.5,2\n"
    found = read(written(tmp_path / "a.arff", flat), Reading(read_spec(SERIES % (1, KIND))))
    assert found.inputs["x"].tolist() == [[[1], [2]], [[3], [4.5]]]
    assert found.vocabularies == {"kind": ("1", "2")}
    assert found.targets["kind"].tolist() == [0, 1]
    nested = ("@relation r\n@attribute bag relational\n@attribute s0 numeric\n@attribute s1 numeric\n@attribute s2 numeric\n"
              "@end bag\n@attribute class {run,walk}\n@data\n'1,2,3\\n4,5,6',walk\n'7,8,?\\n9,10,?',run\n")  # fmt: skip
    found = read(written(tmp_path / "b.arff", nested), Reading(read_spec(SERIES % (2, KIND))))
    assert found.inputs["x"].tolist() == [[[1, 4], [2, 5], [3, 6]], [[7, 9], [8, 10], [0, 0]]]
    assert found.targets["kind"].tolist() == [1, 0]
    with pytest.raises(DataError, match=r"c\.arff cannot be read as \.arff"):
        read(written(tmp_path / "c.arff", "no header at all\n"), Reading(read_spec(SERIES % (1, KIND))))
    with pytest.raises(DataError, match=r"row 1, column 'att0': nan, expected a finite number"):
        read(written(tmp_path / "d.arff", flat.replace("1,2,1", "?,2,1")), Reading(read_spec(SERIES % (1, KIND))))


# -- text ------------------------------------------------------------------------------------------------------------

TEXT = """
name: text
dimensions: {time: %s}
transforms: {time: {cell: lstm, hidden: 4}}
inputs: {symbol: {vocabulary: 8, joins: [time]}}
outputs: {next: {classes: 8, reads: [time]}}
"""


def test_a_mark_of_byte_order_is_no_symbol(tmp_path):
    found = read(written(tmp_path / "a.txt", b"\xef\xbb\xbfabcabcab"), Reading(read_spec(TEXT % "T"), window=3))
    assert found.vocabularies["symbol"] == ("a", "b", "c")


def test_texts_of_any_length_are_predicted_whole(tmp_path):
    spec = read_spec(TEXT % "T")
    first = read(written(tmp_path / "a.txt", "abcabcabca"), Reading(spec, window=4))
    assert "its last 1 of 10 symbols, less than a window of 4, took no part" in first.notes[0]
    later = {"vocabularies": first.vocabularies, "signature": first.signature, "window": 4}
    for count in (1, 3, 4, 10):
        path = written(tmp_path / "b.txt", "abcabcabca"[:count])
        assert read(path, Reading(spec, targets=False, **later)).inputs["symbol"].shape == (1, count)
    short = read(written(tmp_path / "c.txt", "cab"), Reading(spec, **later))
    assert (short.inputs["symbol"].tolist(), short.targets["next"].tolist()) == ([[2, 0]], [[0, 1]])
    fixed = read_spec(TEXT % 4)
    given = read(written(tmp_path / "d.txt", "abcabcabca"), Reading(fixed, targets=False, **later))
    assert given.inputs["symbol"].shape == (2, 4)
    assert "its last 2 of 10 symbols" in given.notes[0]
    for text, words in (("", "has 0 symbols, expected 1 or more"), ("abc", "has 3 symbols, expected more than the window of 4")):
        with pytest.raises(DataError, match=words):
            read(written(tmp_path / "e.txt", text), Reading(fixed if text else spec, targets=False, **later))


def test_arrays_of_one_input_alone(tmp_path):
    np.save(tmp_path / "any.npy", np.ones((3, 2)))
    assert read(tmp_path / "any.npy", Reading(spec_of(2, label="classes: 2"), targets=False)).inputs["x"].shape == (3, 2)
