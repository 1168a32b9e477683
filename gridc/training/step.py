"""The one step of a training: loss, gradients, and the update of every parameter, wherever the grid computes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from gridc.arrays.conversion import Array
from gridc.errors import NumbersError, UsageError
from gridc.training.optimizers import Optimizer, optimizer
from gridc.training.ranks import ALONE, Ranks
from gridc.training.state import Trainable


class Step(NamedTuple):
    """What a step saw, all from before the update; there was none unless ``good``: loss and gradients are finite.

    ``gradients`` are empty where they stayed on a device.  Loss, norm and gradients are those of all ranks, outputs this one's;
    ``told`` is what the ranks agreed on (``Ranks.sum``), where there are several."""

    loss: float
    norm: float
    outputs: Mapping[str, Array]
    good: bool
    gradients: Mapping[str, Array]
    told: tuple[float, float] | None = None


class Update(Protocol):
    """Updates every parameter of a grid once, in place, and nothing where it raises or the step is not ``good``."""

    ahead: bool
    """Whether a step goes on by itself once it is begun: the next one may be begun before this one is looked at.  After a step
    that is not good, one that was begun before it was looked at changes nothing either."""

    def begin(
        self, inputs: Mapping[str, Any], targets: Mapping[str, Any], lengths: Mapping[str, Any] | None = None,
        weights: Mapping[str, Any] | None = None,
    ) -> Callable[[], Step]:  # fmt: skip
        """Begin a step on the arrays of ``Grid.loss_and_gradients``; what comes back waits for it, and is called once."""
        ...


class Here:
    """The steps of a grid whose gradients come to the host, of one rank or several; each is done when it has begun."""

    ahead = False

    def __init__(self, grid: Trainable, optimizer: Optimizer, ranks: Ranks = ALONE):
        self.grid, self.optimizer, self.ranks = grid, optimizer, ranks

    def begin(
        self, inputs: Mapping[str, Any], targets: Mapping[str, Any], lengths: Mapping[str, Any] | None = None,
        weights: Mapping[str, Any] | None = None, share: tuple[int, int] | None = None,
        tell: Callable[[], tuple[float, float]] = lambda: (0.0, 0.0),
    ) -> Callable[[], Step]:  # fmt: skip
        """Do a step; of several ranks each gives its ``share`` of a mini-batch, and what it has to ``tell`` (``Ranks.sum``)."""
        drawn = {} if share is None or getattr(self.grid, "random_state", None) is None else {"share": share}
        loss, gradients, outputs = self.grid.loss_and_gradients(inputs, targets, lengths, weights, **drawn)
        loss, gradients, told = self.ranks.sum(loss, gradients, tell)
        threads = getattr(self.grid, "threads", None)
        with np.errstate(over="ignore", invalid="ignore"):
            norm = self.ranks.norm(gradients, threads)
        # A norm may be infinite where gradients are only very large.
        good = bool(np.isfinite(loss)) and (bool(np.isfinite(norm)) or self.ranks.finite(gradients))
        if good:
            self.optimizer.update(self.grid.parameters, gradients, norm=norm, threads=threads)
        done = Step(float(loss), norm, outputs, good, gradients, told)
        return lambda: done


def updates(grid: Trainable, optimizer: Optimizer, ranks: Ranks = ALONE) -> Update:
    """Make what does the steps: on the device, where the grid's sweep runs on one and no other rank shares them, else here."""
    made: Update | None = getattr(grid, "updates", _on_the_host)(optimizer) if ranks.size == 1 else None
    return Here(grid, optimizer, ranks) if made is None else made


def _on_the_host(optimizer: Optimizer) -> None:
    """Stand in for the method of a grid that says nothing of a device: it has none."""


class TrainingStep:
    """One update of every parameter per call; keeps the optimiser's state.  Made by ``Grid.training_step``."""

    def __init__(self, grid: Trainable, optimizer: Optimizer):
        self.grid, self.optimizer = grid, optimizer
        self._update = updates(grid, optimizer)

    def __call__(
        self, inputs: Mapping[str, Any], targets: Mapping[str, Any], lengths: Mapping[str, Any] | None = None,
        weights: Mapping[str, Any] | None = None,
    ) -> float:  # fmt: skip
        """Update the parameters and return the loss before; NumbersError where loss or gradients are not finite, or DataError.

        ``weights`` are those of ``Grid.loss_and_gradients``."""
        done = self._update.begin(inputs, targets, lengths, weights)()
        if not done.good:
            raise NumbersError(f"at update {self.optimizer.count + 1} the loss is {done.loss:g} and the gradients' norm "
                               f"{done.norm:g}; a smaller learning rate or clip=1.0 may help")  # fmt: skip
        return done.loss


def training_step(grid: Trainable, named: str | Optimizer, clip: float | None, options: Mapping[str, Any]) -> TrainingStep:
    """Make the step of ``Grid.training_step``, by an ``Optimizer`` or the name of one and its ``options``; UsageError for any
    other thing."""
    made = optimizer(named, clip=clip, **options) if isinstance(named, str) else named
    if not isinstance(made, Optimizer):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may be untyped
        raise UsageError(f"'optimizer' is {made!r}, expected the name of one, or an Optimizer.")
    return TrainingStep(grid, made)
