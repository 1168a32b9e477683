"""Tables as tools write them: what stands between their columns, comments, decimal commas, cells of any length, and series."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from gridc.data.files import read
from gridc.data.reading import Reading, Series
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
        ("0.1,0.2,1\n0.3,0.4,0\n", r"has no heading: its first row holds numbers \(0.1, 0.2, 1\); write the names of its"),
        ("# a comment\n", "no rows under its heading"),
    ],
)
def test_messages_about_tables(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        read(written(tmp_path / "a.csv", text), Reading(spec_of(2, label="classes: 2")))


def test_a_table_without_a_heading_or_packed_by_half(tmp_path):
    numbers = written(tmp_path / "n.csv", "0,0,1.5\n2,0,3.5\n")
    with pytest.raises(DataError, match=r"has no heading: its first row holds numbers \(0, 0, 1.5\); write the names of its"):
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


# -- windows of a series, and tables without a heading -----------------------------------------------------------------

MOMENTS = """
name: moments
dimensions: {{time: {steps}, depth: 2}}
transforms:
  time: {{cell: lstm, hidden: 4, tied: [time]}}
  depth: {{cell: lstm, hidden: 4}}
inputs:
  x: {{features: 2, enters: depth}}
  day: {{vocabulary: 7, enters: depth}}
  place: {{features: 1, enters: time, over: []}}
outputs:
  next: {{features: 1, reads: [depth], at: {{depth: last}}}}
  sky: {{classes: 3, reads: [time], at: {{time: last, depth: last}}}}
"""


def moments(rows, cities=("a",)):
    """A table of made-up weather: each city's rows one after another, and its columns as lists."""
    rng = np.random.default_rng(3)
    columns = {name: [] for name in ("city", "wet", "warm", "day", "sky", "left", "right")}
    for city, count in zip(cities, rows, strict=True):
        columns["city"] += [city] * count
        columns["wet"] += rng.integers(0, 99, count).tolist()
        columns["warm"] += rng.normal(size=count).round(3).tolist()
        columns["day"] += [n % 7 for n in range(count)]
        columns["sky"] += [("clear", "fog", "rain")[n] for n in rng.integers(0, 3, count)]
        columns["left"] += rng.normal(size=count).round(3).tolist()
        columns["right"] += rng.normal(size=count).round(3).tolist()
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    return columns, "\n".join(lines) + "\n"


@pytest.mark.parametrize("targets", [True, False])
@pytest.mark.parametrize(
    ("rows", "window", "ahead", "stride", "steps"),
    [((30,), 5, 1, 1, "T"), ((30,), 5, 0, 3, "T"), ((9, 4, 14), 4, 2, 2, "T"), ((12, 12), 99, 3, 1, "6"), ((8,), 5, 3, 1, "T")],
)  # fmt: skip
def test_windows_of_a_series_are_what_a_loop_cuts(tmp_path, rows, window, ahead, stride, steps, targets):
    cities = "abc"[: len(rows)]
    columns, text = moments(rows, cities)
    spec = read_spec(MOMENTS.format(steps=steps))
    how = Reading(spec, {"x": ["wet", "warm"], "day": "day", "place": "warm"}, {"next": "wet", "sky": "sky"}, targets=targets,
                  series=Series(window, ahead, stride, "city"))  # fmt: skip
    found = read(written(tmp_path / "a.csv", text), how)
    length = int(steps) if steps != "T" else window
    expected, first = [], 0
    for count in rows:
        begins, last = [], count - length - ahead * targets
        while last >= 0:
            begins.append(first + last)
            last -= stride
        expected += sorted(begins)
        first += count
    assert len(found) == len(expected) > 0
    for number, at in enumerate(expected):
        assert found.inputs["x"][number].tolist() == [[columns["wet"][at + n], columns["warm"][at + n]] for n in range(length)]
        assert found.inputs["day"][number].tolist() == columns["day"][at : at + length]
        assert found.inputs["place"][number].tolist() == [columns["warm"][at + length - 1]]
        if targets:
            later = columns["wet"][at + ahead : at + ahead + length]
            assert found.targets["next"][number].ravel().tolist() == later
            sky = columns["sky"][at + length - 1 + ahead]
            assert found.vocabularies["sky"][found.targets["sky"][number]] == sky
    assert targets or not found.targets


def test_what_is_held_out_of_a_series_comes_last_and_shares_nothing_with_what_is_learned(tmp_path):
    columns, text = moments((60,))
    spec = read_spec(MOMENTS.format(steps="T"))
    how = Reading(spec, {"x": ["wet", "warm"], "place": "warm"}, {"next": "left"}, series=Series(8, 1, 2))
    train, held = read(written(tmp_path / "a.csv", text), how).split(0.25)
    last, first = train.targets["next"][-1].ravel().tolist(), held.targets["next"][0].ravel().tolist()
    assert len(held) == 6
    assert columns["left"].index(last[-1]) < columns["left"].index(first[0])
    with pytest.raises(DataError, match="leaves none to train on"):
        read(tmp_path / "a.csv", how).split(0.9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"series": Series(40)}, "has fewer rows than a window of 40 and 1 after them: it has 30"),
        ({"series": Series(20, 0, 1, "day")}, "by day, has fewer rows than a window of 20: the longest series has 1"),
        ({"series": Series(5, 1, 1, "cty")}, "has no column 'cty' — did you mean 'city'"),
        ({"inputs": {"x": ["wet", "sky"], "place": "warm"}}, r"row 2, column 'sky': '\w+', expected a number"),
        ({"outputs": {"next": "city"}}, "row 2, column 'city': 'a', expected a number"),
    ],
)
def test_messages_about_series(tmp_path, change, words):
    spec = read_spec(MOMENTS.format(steps="T"))
    _, text = moments((30,))
    given = {"inputs": {"x": ["wet", "warm"], "place": "warm"}, "outputs": {"next": "wet"}, "series": Series(5)} | change
    with pytest.raises(DataError, match=words):
        read(written(tmp_path / "a.csv", text), Reading(spec, **given))


def test_a_series_of_lists_is_refused(tmp_path):
    spec = read_spec(SERIES % (1, KIND))
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 4, 1)), kind=np.zeros(3, int))
    for given, word in (({"series": Series(2)}, "series"), ({"heading": False}, "heading: false")):
        with pytest.raises(DataError, match=f"is no table with a row a moment or an example, which '{word}' is for"):
            read(tmp_path / "a.npz", Reading(spec, **given))


@pytest.mark.parametrize(
    ("name", "between"), [("a.csv", ","), ("a.txt", "  "), ("a.data", " "), ("a.tsv", "\t"), ("a.csv.gz", ",")]
)
def test_a_table_without_a_heading_has_numbered_columns(tmp_path, name, between):
    text = "\n".join(between.join(row) for row in (("1.0000000e+00", "0.5", "-1"), ("2.0000000e+00", "2", "3"))) + "\n"
    how = Reading(spec_of(2, label="classes: 2"), outputs={"label": "0"}, heading=False, words=("label",))
    found = read(written(tmp_path / name, gzip.compress(text.encode()) if name.endswith(".gz") else text), how)
    assert found.inputs["x"].tolist() == [[0.5, -1], [2, 3]]
    assert found.vocabularies["label"] == ("1", "2")
    assert found.signature.columns == {"x": ("1", "2"), "label": ("0",)}
    with pytest.raises(DataError, match="row 1, column '1': 'wide', expected a number"):
        read(written(tmp_path / "b.csv", "1,wide,2\n2,3,4\n"), how)


def test_an_input_that_would_take_a_date_is_told_the_columns_of_numbers(tmp_path):
    text = "day,wet,warm,label\n2012/01/01,1,2,0\n2012/01/02,3,4,1\n"
    words = r"'2012/01/01', expected a number. Name the columns of the input 'x' in the spec: .*\[wet, warm\]"
    with pytest.raises(DataError, match=words):
        read(written(tmp_path / "a.csv", text), Reading(spec_of(2, label="classes: 2")))
