"""The table of ``make science``: what is trained, from how many seeds, what is measured on what, and what others published.

A figure of somebody else's stands here only where its primary source was read, with that source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import gridc
from gridc.arrays.dataset import Dataset
from gridc.tables import tasks

HERE = Path(__file__).parent
SPECS = HERE.parent.parent / "specs"
TEST_SEED = 1_000_003
"""Test sets of tasks are drawn from this seed, the same one for every run."""


@dataclass(frozen=True)
class Published:
    """Somebody else's figure."""

    what: str
    value: float
    source: str


@dataclass(frozen=True)
class Row:
    """One row: a spec, the changes to its training block, its seeds, and where its test set comes from.

    Without ``test`` the figure is that of the strings held out, which also end the training: it says that they were learned."""

    name: str
    spec: Path
    shows: str
    seeds: int
    minutes: float
    """About how long one seed takes on one core."""
    changes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    data: Callable[[Path], Mapping[str, Any]] | None = None
    """Writes its data under a folder and gives the changes that name them."""
    test: Callable[[Path], Dataset] | None = None
    """Makes the test set; what of it was trained on does not count."""
    whole: bool = False
    """Whether an answer is right only where every one of its symbols is."""
    solved: bool = False
    """Whether what counts is from how many seeds every answer is right."""
    published: tuple[Published, ...] = ()

    def score(self, grid: gridc.Grid, test: Dataset) -> float:
        """The share of answers that are right."""
        (name,) = grid.spec.outputs
        right = grid.predict(test.inputs)[name].argmax(axis=-1) == test.targets[name]
        return float((right.all(axis=1) if self.whole else right).mean())


# -- data -------------------------------------------------------------------------------------------------------------


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


def _sums(folder: Path) -> Dataset:
    return tasks.make("addition", {"digits": 3, "samples": 5_000}, held_out=0.0, seed=TEST_SEED)[0]


# -- the table --------------------------------------------------------------------------------------------------------

_README = "README of github.com/greydanus/mnist1d, commit 011d9be"
_SHARE = ("logistic regression", "MLP", "CNN", "GRU", "people")


def _mnist1d_others(*values: float) -> tuple[Published, ...]:
    return tuple(Published(what, value, _README) for what, value in zip(_SHARE, values, strict=True))


HALVED = {"schedule": {"exponential_decay": {"transition_steps": 1_000, "decay_rate": 0.5}}}
"""At a constant rate a string or two of many thousands turn wrong again."""
ROWS = (
    Row("parity-12", SPECS / "parity.yaml", "parity of 12 bits, a fifth of all strings held out", 20, 0.1,
        {"budget": {"samples": 150_000}}, solved=True),
    Row("parity-16", SPECS / "parity.yaml", "parity of 16 bits, a fifth of all strings held out", 10, 0.2,
        {"bits": 16, "evaluate": {"samples": 5_000}}, solved=True),
    *(Row(f"parity-{bits}", SPECS / "parity.yaml", f"parity of {bits} bits: 500,000 strings, 20,000 of them held out", 3, 0.5,
          {"bits": bits, "task.samples": 500_000, "held_out": 0.04, "evaluate": {"samples": 20_000}, **HALVED}, solved=True)
      for bits in (24, 30)),
    Row("mnist1d", HERE / "mnist1d.yaml", "MNIST-1D, its own test set", 3, 1.5, **_digits(shuffled=False),
        published=_mnist1d_others(0.32, 0.68, 0.94, 0.91, 0.96)),
    Row("mnist1d-shuffled", HERE / "mnist1d.yaml", "MNIST-1D, the forty places shuffled", 3, 1.5, **_digits(shuffled=True),
        published=_mnist1d_others(0.32, 0.68, 0.56, 0.57, 0.30)),
    *(Row(f"addition-{kind}", HERE / f"addition-{kind}.yaml", f"sums of three digits without a mistake: {what}", 3, 1.5,
          test=_sums, whole=True)
      for kind, what in (("tied", "a 2-LSTM of six levels, tied"), ("untied", "a 2-LSTM of three levels, untied"),
                         ("stacked", "a stacked LSTM of three levels"))),
)  # fmt: skip
"""Figures of the paper's addition are of 15 digits, so that none stands beside these."""
