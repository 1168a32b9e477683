"""Pictures are read as they are seen, folders that tools leave are no classes, and predictions name their file."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from gridc import cli
from gridc.arrays.signature import Signature
from gridc.data.files import read
from gridc.data.reading import Reading
from gridc.errors import DataError
from gridc.scheduling.check import read as read_spec

image = pytest.importorskip("PIL.Image")

PAGE = """
name: pictures
dimensions: {rows: 8, columns: 8}
transforms: {rows: {cell: lstm, hidden: 4}, columns: {cell: lstm, hidden: 4}}
inputs: {image: {features: 1, joins: [rows, columns], over: [rows, columns]}}
outputs: {side: {classes: 2, reads: [rows, columns], at: {rows: last, columns: last}}}
"""
SPEC = read_spec(PAGE)
SEEN = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)
"""What a viewer shows of every picture."""


def alpha(ground, mode):
    """The picture as black of another opacity on nothing: on white it is what is seen."""
    bands = np.zeros((8, 8, len(mode)), np.uint8)
    bands[..., -1] = 255 - SEEN
    return image.fromarray(bands, mode) if ground else image.fromarray(bands)


def palette():
    made = image.fromarray(np.where(SEEN > 127, 1, 0).astype(np.uint8), "P")
    made.putpalette([0, 0, 0, 250, 0, 0])
    return made


def turned(orientation, how):
    exif = image.Exif()
    exif[0x0112] = orientation
    return {"exif": exif}, image.fromarray(SEEN).transpose(how)


PICTURES = {
    "plain.png": (image.fromarray(SEEN), {}),
    "sixteen.png": (image.fromarray(SEEN.astype(np.uint16) * 257), {}),
    "sixteen.tif": (image.fromarray(SEEN.astype(np.uint16) * 257), {}),
    "float.tif": (image.fromarray(SEEN.astype(np.float32) / 255), {}),
    "colours.png": (image.fromarray(SEEN).convert("RGB"), {}),
    "la.png": (alpha(False, "LA"), {}),
    "rgba.png": (alpha(False, "RGBA"), {}),
    "upside-down.png": turned(3, image.Transpose.ROTATE_180)[::-1],
    "on-its-side.png": turned(6, image.Transpose.ROTATE_90)[::-1],
    "mirrored.tif": turned(2, image.Transpose.FLIP_LEFT_RIGHT)[::-1],
    "deep-and-turned.png": (image.fromarray(SEEN[::-1, ::-1].astype(np.uint16) * 257), turned(3, image.Transpose.ROTATE_180)[0]),
}


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("colour", [False, True])
def test_a_picture_is_what_a_viewer_shows(tmp_path, name, colour):
    picture, options = PICTURES[name]
    picture.save(tmp_path / name, **options)
    spec = read_spec(PAGE.replace("features: 1", "features: 3")) if colour else SPEC
    found = read(tmp_path / name, Reading(spec, colour=colour, targets=False)).inputs["image"]
    assert found.shape == (1, 8, 8, 3 if colour else 1)
    np.testing.assert_allclose(found[0], np.repeat(SEEN[..., None] / 255, found.shape[-1], -1), atol=1.01 / 255)


def test_pgm_of_sixteen_bits(tmp_path):
    body = (SEEN.astype(">u2") * 257).tobytes()
    (tmp_path / "a.pgm").write_bytes(b"P5\n8 8\n65535\n" + body)
    found = read(tmp_path / "a.pgm", Reading(SPEC, targets=False)).inputs["image"]
    np.testing.assert_allclose(found[0, ..., 0], SEEN / 255, atol=1.01 / 255)


def test_a_transparent_colour_of_a_palette(tmp_path):
    palette().save(tmp_path / "a.png", transparency=0)
    found = read(tmp_path / "a.png", Reading(SPEC, targets=False)).inputs["image"][0, ..., 0]
    assert (found[SEEN <= 127] == 1).all(), "white shows through"
    assert (found[SEEN > 127] < 0.5).all()


def test_pictures_that_nothing_can_show(tmp_path):
    white = np.full((8, 8, 2), 255, np.uint8)
    white[..., 1] = SEEN
    cases = {
        "white.png": (image.fromarray(white), {}, "is white on a transparent ground"),
        "far.tif": (image.fromarray(SEEN.astype(np.float32)), {}, "holds real numbers from 0 to 255, and nothing says"),
        "whole.tif": (image.fromarray(SEEN.astype(np.int32) * 1000), {}, "holds whole numbers of 32 bits from 0 to"),
        "two.gif": (image.fromarray(SEEN), {"save_all": True, "append_images": [image.fromarray(SEEN.T)]}, "holds 2 pictures"),
    }
    for name, (picture, options, words) in cases.items():
        picture.save(tmp_path / name, **options)
        with pytest.raises(DataError, match=rf"{name} {words}"):
            read(tmp_path / name, Reading(SPEC, targets=False))


def folders(path, *names):
    for number, name in enumerate(names):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(np.full((8, 8), number, np.uint8)).save(path / name)
    return path


LEFT = [".ipynb_checkpoints", "__MACOSX", "@eaDir", ".hidden"]


def test_what_tools_leave_is_no_class(tmp_path):
    left = [*(f"{name}/0.png" for name in LEFT), "a/.thumbnails/0.png", "b/@eaDir/0.png", "b/._0.png"]
    folders(tmp_path, "a/0.png", "b/0.png", *left)
    (tmp_path / "backup").mkdir()
    (tmp_path / "b" / "Thumbs.db").write_bytes(b"")
    (tmp_path / "b" / "notes.doc").write_text("x")
    found = read(tmp_path, Reading(SPEC))
    assert found.vocabularies == {"side": ("a", "b")}
    assert found.targets["side"].tolist() == [0, 1]
    assert "what is no image took no part: b/notes.doc." in found.notes[0]
    assert "no class is made of backup" in found.notes[1]
    assert len(found.notes) == 2
    folders(tmp_path, "backup/0.png")
    with pytest.raises(DataError, match=r"has 3 folders of images \(a, b and backup\), expected at most one for each of the 2"):
        read(tmp_path, Reading(SPEC))


def test_classes_are_the_models(tmp_path):
    first = read(folders(tmp_path / "all", "left/0.png", "right/0.png"), Reading(SPEC))
    how = {"vocabularies": first.vocabularies, "signature": Signature.from_json(first.signature.to_json())}
    assert read(folders(tmp_path / "some", "right/0.png"), Reading(SPEC, **how)).targets["side"].tolist() == [1]
    with pytest.raises(DataError, match=r"up/0\.png lies in no folder of a class, expected left or right"):
        read(folders(tmp_path / "other", "up/0.png"), Reading(SPEC, **how))
    with pytest.raises(DataError, match=r"a/0\.png lies in no folder of a class, expected 0 or 1"):
        read(folders(tmp_path / "numbers", "a/0.png", "b/0.png"), Reading(SPEC, signature=Signature()))
    with pytest.raises(DataError, match=r"holds images but no folders"):
        read(folders(tmp_path / "flat", "0.png"), Reading(SPEC))
    with pytest.raises(DataError, match="is one image, whose class nothing says"):
        read(tmp_path / "flat" / "0.png", Reading(SPEC))


def test_predictions_name_their_picture(tmp_path, monkeypatch, capsys):
    import gridc

    monkeypatch.chdir(tmp_path)
    gridc.compile(PAGE, eager=False).save("m.grid")
    folders(tmp_path / "test", "unknown/10.png", "unknown/9.png", "more/deep/1.png", ".cache/0.png")
    names = ["more/deep/1.png", "unknown/10.png", "unknown/9.png"]

    def run(*words):
        assert cli.run(["predict", "m.grid", *words]) == 0
        return capsys.readouterr().out

    head, *rows = csv.reader(io.StringIO(run("test")))
    assert head == ["file", "side", "side=0", "side=1"]
    assert [row[0] for row in rows] == names
    assert [row["file"] for row in json.loads(run("test", "--json"))] == names
    run("test", "-o", "p.npz")
    with np.load("p.npz") as held:
        assert held["file"].tolist() == names
        assert held["side"].shape == (3, 2)
    assert run("test/unknown/9.png").splitlines()[1].startswith("9.png,")
