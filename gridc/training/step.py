"""The one step of a training: loss and gradients, whether they are numbers, and the optimiser's update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gridc.arrays.conversion import Array
from gridc.errors import NumbersError
from gridc.training.optimizers import Optimizer, global_norm
from gridc.training.state import Trainable

Refuse = Callable[[float, float, Mapping[str, Array]], None]
"""Called with a loss, a norm and gradients that are not all finite; raises NumbersError, or returns to have the update made."""


def update(
    grid: Trainable, optimizer: Optimizer, inputs: Mapping[str, Any], targets: Mapping[str, Any],
    lengths: Mapping[str, Any] | None, weights: Mapping[str, Any] | None, refuse: Refuse,
) -> tuple[float, dict[str, Array]]:  # fmt: skip
    """Update every parameter of a grid once, in place; returns the loss and the outputs before the update.

    The arrays are those of ``Grid.loss_and_gradients``.  Nothing is changed where that or ``refuse`` raises."""
    loss, gradients, outputs = grid.loss_and_gradients(inputs, targets, lengths, weights)
    with np.errstate(over="ignore", invalid="ignore"):
        norm = global_norm(gradients)
    if not (np.isfinite(loss) and np.isfinite(norm)):
        refuse(float(loss), norm, gradients)
    optimizer.update(grid.parameters, gradients, norm=norm)
    return float(loss), outputs


class TrainingStep:
    """One update of every parameter per call; keeps the optimiser's state.  Made by ``Grid.training_step``."""

    def __init__(self, grid: Trainable, optimizer: Optimizer):
        self.grid, self.optimizer = grid, optimizer

    def __call__(
        self, inputs: Mapping[str, Any], targets: Mapping[str, Any], lengths: Mapping[str, Any] | None = None
    ) -> float:
        """Update the parameters and return the loss before; NumbersError where loss or gradients are not finite, or DataError."""
        return update(self.grid, self.optimizer, inputs, targets, lengths, None, self._refuse)[0]

    def _refuse(self, loss: float, norm: float, gradients: Mapping[str, Array]) -> None:
        raise NumbersError(f"at update {self.optimizer.count + 1} the loss is {loss:g} and the gradients' norm {norm:g}; "
                           "a smaller learning rate or clip=1.0 may help")  # fmt: skip
