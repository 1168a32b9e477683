"""Mini-batches: in an order that the seed, the epoch and the index say, so that a training can go on at any of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gridc.arrays.dataset import SHUFFLE, Array, Dataset
from gridc.data.fitting import as_dataset, for_spec

if TYPE_CHECKING:
    from gridc.language.spec import GridSpec


@dataclass(frozen=True)
class Batch:
    """One mini-batch, and where it stands: its epoch, its index in it, whether it ends it, and the rows that it took."""

    data: Dataset
    epoch: int
    index: int
    last: bool
    rows: Array | None = None

    def where(self) -> str:
        """Its place as words, for messages."""
        rows = "" if self.rows is None else f", examples {', '.join(map(str, self.rows[:4].tolist()))}…"
        return f"batch {self.index + 1} of epoch {self.epoch + 1}{rows}"


class Batches(Protocol):
    """Where mini-batches come from; the batch at a step is the same whenever it is asked for."""

    @property
    def examples(self) -> int | None:
        """In an epoch, where it is known."""
        ...

    @property
    def steps(self) -> int | None:
        """In an epoch, where it is known."""
        ...

    def after(self, step: int) -> Iterator[Batch]:
        """Yield the batches from that step on."""
        ...


@dataclass(frozen=True)
class Shuffled:
    """Mini-batches of a data set, in another order in each epoch; the seed, the epoch and the index say which."""

    data: Dataset
    size: int
    seed: int = 0
    shuffle: bool = True

    @property
    def examples(self) -> int:
        """How many examples the data set holds."""
        return len(self.data)

    @property
    def steps(self) -> int:
        """How many batches an epoch has; the last may be smaller than the others."""
        return -(-len(self.data) // self.size)

    def order(self, epoch: int) -> Array:
        """Give the rows of an epoch in their order, ``[examples]`` integers."""
        if not self.shuffle:
            return np.arange(len(self.data))
        return np.random.default_rng([self.seed, SHUFFLE, epoch]).permutation(len(self.data))

    def after(self, step: int) -> Iterator[Batch]:
        """Yield the batches from that step on, without end."""
        epoch, index = divmod(step, self.steps)
        while True:
            order = self.order(epoch)
            for i in range(index, self.steps):
                rows = order[i * self.size : (i + 1) * self.size]
                yield Batch(self.data.take(rows), epoch, i, i + 1 == self.steps, rows)
            epoch, index = epoch + 1, 0


@dataclass(frozen=True)
class Streamed:
    """Mini-batches that a Python iterable gives: ``Dataset``s, or tuples of inputs, targets and maybe lengths.

    One that can be gone over again (a list, a loader) is, epoch after epoch; a generator once.
    """

    source: Iterable[Any]
    spec: GridSpec
    examples: int | None = None
    steps: int | None = None

    def after(self, step: int) -> Iterator[Batch]:
        """Yield the batches from that step on; those before it are drawn and passed over."""
        done = epoch = 0
        while True:
            items = iter(self.source)
            index, item = 0, next(items, None)
            while item is not None:
                # One batch is looked ahead, to know which is an epoch's last.
                following = next(items, None)
                if done >= step:
                    yield Batch(for_spec(as_dataset(item, self.spec), self.spec), epoch, index, following is None)
                done, index, item = done + 1, index + 1, following
            if index == 0 or items is self.source:
                return
            epoch += 1
