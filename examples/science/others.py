"""Rows of other people's tables: their data sets, and what they published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from row import HERE, Published, Row

from gridc.arrays.dataset import Dataset


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


ROWS = (
    Row("mnist1d", HERE / "mnist1d.yaml", "MNIST-1D, its own test set", 3, 1.5, **_digits(shuffled=False),
        published=_mnist1d_others(0.32, 0.68, 0.94, 0.91, 0.96)),
    Row("mnist1d-shuffled", HERE / "mnist1d.yaml", "MNIST-1D, the forty places shuffled", 3, 1.5, **_digits(shuffled=True),
        published=_mnist1d_others(0.32, 0.68, 0.56, 0.57, 0.30)),
)  # fmt: skip
