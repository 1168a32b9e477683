"""The processes of a training: one, or all that ``mpiexec`` started, each of which takes its share of every mini-batch.

A training that nobody shares is one rank of one, so that the loop has one way.  Of several ranks every one draws the same
mini-batches and masks, computes the gradients of its own rows, and makes the same update of their sum; the first one alone
writes, logs and looks at the clock.  What went wrong for all of them is raised by all; what one of them alone meets ends all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from gridc.arrays.conversion import Array
from gridc.errors import GridcError
from gridc.model_file import Model
from gridc.training.optimizers import global_norm

T = TypeVar("T")


class Share(NamedTuple):
    """The rows of a mini-batch ``of`` so many examples that a rank computes.  Where there are more ranks than examples, some
    compute the first row, which ``counts`` nothing there, so that all do the same work in the same order; where several compute
    the same rows, one has their outputs ``measured``."""

    rows: slice
    of: int
    counts: bool = True
    measured: bool = True


class Ranks:
    """A training's only process; ``World`` is one of several."""

    rank = 0
    size = 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and speaks."""
        return self.rank == 0

    def share(self, examples: int) -> Share:
        """Give this rank's part of so many examples: contiguous, and as long as the others' or one longer."""
        first, end = (examples * rank // self.size for rank in (self.rank, self.rank + 1))
        return Share(slice(first, end), examples) if end > first else Share(slice(0, 1), examples, False)

    def sum(
        self, loss: float, gradients: dict[str, Array], tell: Callable[[], tuple[float, float]]
    ) -> tuple[float, dict[str, Array], tuple[float, float] | None]:
        """Sum up a step over the ranks: the loss, the gradients, and of what each ``tell``s, how many ask for an end; the seconds
        are the first rank's.  None where there is nobody to tell."""
        return loss, gradients, None

    def norm(self, gradients: Mapping[str, Array], threads: int | None = None) -> float:
        """Give the global norm of all gradients, once they are summed up."""
        return global_norm(gradients, threads)

    def finite(self, gradients: Mapping[str, Array]) -> bool:
        """Tell whether all gradients are finite, once they are summed up."""
        return all(np.isfinite(gradient).all() for gradient in gradients.values())

    def mine(self, name: str, array: Array) -> Array:
        """Give this rank's part of a parameter, or of what has its shape."""
        return array

    def part(self, model: Model) -> Model:
        """Give this rank's part of a model or a checkpoint that holds all."""
        return model

    def whole(self, model: Model) -> Model:
        """Give the first rank a model of what all have; others get back their own."""
        return model

    def gather(self, value: T) -> list[T]:
        """Give every rank the values of all, in their order."""
        return [value]

    def first_does(self, make: Callable[[], T]) -> T:
        """Give what the first rank makes, or raise on all what it raises there."""
        return make()

    def everywhere(self, make: Callable[[], T]) -> T:
        """Give what this rank makes, or where it cannot what another could; what none of them can is raised by all."""
        return make()

    def begin(self, grid: Any) -> None:
        """Let all ranks begin with the first one's parameters and random numbers."""

    def agreed(self, error: BaseException) -> BaseException:
        """Note that all ranks raise this error."""
        return error

    def alike(self, told: Mapping[str, Any]) -> None:
        """UsageError on all ranks where they were given different arguments or examples."""

    def same(self, arrays: Mapping[str, Array]) -> None:
        """ResourceError on all ranks where their arrays differ in a bit."""

    @contextlib.contextmanager
    def guard(self) -> Generator[None]:
        """End all ranks where the block raises here what was not ``agreed``: they would wait for this one for ever."""
        yield

    @contextlib.contextmanager
    def watched(self, checkpoints: Path) -> Generator[None]:
        """While the block runs, have somebody who lives on to say what is kept, should the ranks be killed."""
        yield


ALONE = Ranks()


@contextlib.contextmanager
def one_voice(ranks: Ranks) -> Generator[None]:
    """Let the command line of the first rank alone say what goes wrong on all of them."""
    try:
        yield
    except (GridcError, KeyboardInterrupt) as error:
        if not ranks.first:
            raise SystemExit(code_of(error)) from None
        raise


def code_of(error: BaseException) -> int:
    """Give the exit code that the command line has for an error."""
    if isinstance(error, GridcError):
        return error.exit_code
    return 130 if isinstance(error, KeyboardInterrupt) else 5 if isinstance(error, MemoryError | OSError) else 1
