"""Rows of other people's tables: their data sets, and what they published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import series
import stories
from row import HERE, SPECS, TEST_SEED, Published, Row

from gridc.arrays.dataset import Dataset
from gridc.tables import tasks


def _mnist1d(folder: Path, shuffled: bool) -> Path:
    """The default data set of the package mnist1d (Apache 2.0), which it generates; its own split into training and test."""
    from mnist1d.data import get_dataset_args, make_dataset  # pyright: ignore  # it has no stubs

    path = folder / f"mnist1d{'-shuffled' * shuffled}.npz"
    if not path.exists():
        asked: Any = get_dataset_args()
        asked.shuffle_seq = shuffled
        made: Any = make_dataset(asked)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(path.with_name("test-" + path.name), x=made["x_test"][..., None], digit=made["y_test"])
        np.savez(path, x=made["x"][..., None], digit=made["y"])
    return path


def _digits(shuffled: bool) -> dict[str, Any]:
    def data(folder: Path) -> dict[str, Any]:
        return {"data": {"file": str(_mnist1d(folder, shuffled))}}

    def test(folder: Path) -> Dataset:
        path = _mnist1d(folder, shuffled)
        held = np.load(path.with_name("test-" + path.name))
        return Dataset({"x": held["x"].astype(np.float32)}, {"digit": held["digit"]})

    return {"data": data, "test": test}


_README = "README of github.com/greydanus/mnist1d, commit 011d9be"
_SHARE = ("logistic regression", "MLP", "CNN", "GRU", "people")


def _mnist1d_others(*values: float) -> tuple[Published, ...]:
    return tuple(Published(what, value, _README) for what, value in zip(_SHARE, values, strict=True))


def _scans(folder: Path, part: str) -> Path:
    """Scikit-learn's digits in patches of 2 × 2, a fifth of them apart to test on."""
    path = folder / f"digits-{part}.npz"
    if not path.exists():
        train, test = tasks.make("digits", {"patch": 2}, held_out=0.2, seed=TEST_SEED)
        for name, some in (("test", test), ("train", train)):
            assert some is not None
            np.savez(folder / f"digits-{name}.npz", **some.inputs, **some.targets)
    return path


def _scanned(folder: Path) -> Dataset:
    with np.load(_scans(folder, "test")) as held:
        return Dataset({"image": held["image"]}, {"digit": held["digit"]})


def _digits_beside(folder: Path) -> dict[str, float]:
    """The nearest neighbour, and support vectors with the gamma of scikit-learn's own example (there of scans from 0 to 16)."""
    from sklearn.neighbors import KNeighborsClassifier  # pyright: ignore  # it has no stubs
    from sklearn.svm import SVC  # pyright: ignore

    with np.load(_scans(folder, "train")) as train:
        x, y = train["image"].reshape(len(train["image"]), -1), train["digit"]
    held = _scanned(folder)
    models: dict[str, Any] = {"1-NN": KNeighborsClassifier(1), "SVM": SVC(gamma=0.001 * 16**2)}
    return {name: float(model.fit(x, y).score(held.inputs["image"].reshape(len(held), -1), held.targets["digit"]))
            for name, model in models.items()}  # fmt: skip


def _diagonal(size: int) -> Callable[[Path], Dataset]:
    return lambda folder: tasks.make("random-diagonal", {"size": size, "samples": 1_000}, held_out=0.0, seed=TEST_SEED)[0]


_WEIGHED = {"class_weights": {"mark": "balanced"}}
_BABI = ("bechmarks/README.md of github.com/vinhkhuc/MemN2N-babi-python, commit 4e8e716: the Matlab code of the memory network's "
         "authors, three hops, all twenty tasks of the original stories at once")  # fmt: skip
_MEMN2N = tuple(Published(what, value, _BABI) for what, value in (("two facts", 0.869), ("three facts", 0.766)))


def _stories(folder: Path) -> dict[str, Any]:
    """Ten thousand questions, a third of them of each kind."""
    path = folder / "stories.npz"
    if not path.exists():
        made = stories.stories((1, 2, 3), 10_000, 0)
        np.savez(path, **made.inputs, **made.targets)
    return {"data": {"file": str(path)}}


def _told(facts: int) -> Callable[[Path], Dataset]:
    return lambda folder: stories.stories((facts,), 1_000, TEST_SEED)


ROWS = (
    Row("mnist1d", HERE / "mnist1d.yaml", "MNIST-1D, its own test set", 3, 1.5, **_digits(shuffled=False),
        published=_mnist1d_others(0.32, 0.68, 0.94, 0.91, 0.96)),
    Row("mnist1d-shuffled", HERE / "mnist1d.yaml", "MNIST-1D, the forty places shuffled", 3, 1.5, **_digits(shuffled=True),
        published=_mnist1d_others(0.32, 0.68, 0.56, 0.57, 0.30)),
    *(Row(f"stories-{hops}", HERE / "stories.yaml", f"where a thing is, as two facts of a story tell: a memory network of {hops} "
          f"hop{', begun with its softmax' if hops == 1 else 's, begun without softmax'}", 3, 0.7,
          {"linear_start": None} if hops == 1 else {}, {"dimensions.hops": hops}, data=_stories, test=_told(2),
          also={"one fact": _told(1), "three facts": _told(3)}, published=_MEMN2N if hops == 3 else ())
      for hops in (1, 2, 3)),
    Row("digits", SPECS / "four-corners.yaml", "digits of 8 × 8, a fifth of them to test on: a 3-LSTM from four corners", 3, 0.7,
        {"task": None, "held_out": 0.1, "stop": {}, "schedule": {"cosine_decay_schedule": {}}, "clip": 1.0},
        data=lambda folder: {"data": {"file": str(_scans(folder, "train"))}}, test=_scanned, beside=_digits_beside),
    *series.ROWS,
    *(Row(name, SPECS / f"{spec}.yaml", f"the random diagonal, every cell right: {what}, trained on 10 × 10", 3, 0.1,
          {"task.size": 10}, test=_diagonal(10), whole=True, also={f"{size} × {size}": _diagonal(size) for size in (20, 30)})
      for name, spec, what in (("diagonal", "multi-dimensional-lstm", "a two-dimensional LSTM"),
                               ("diagonal-rows", "rows-lstm", "an LSTM along the rows"))),
    *(Row(f"diagonal-{size}", SPECS / "multi-dimensional-lstm.yaml", "the random diagonal, every cell right: a two-dimensional "
          f"LSTM, trained on {size} × {size} with classes weighed", 3, minutes, {"task.size": size, **_WEIGHED},
          test=_diagonal(size), whole=True, also={f"{one} × {one}": _diagonal(one) for one in (10, 20, 30) if one != size})
      for size, minutes in ((20, 0.2), (30, 0.4))),
)  # fmt: skip
