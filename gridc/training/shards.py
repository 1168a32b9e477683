"""The ranks of a training that cut the grid: each computes its block of cells of every example, and hands boundary vectors on.

What is untied along the cut, weights, gradients and the optimiser's state, only its rank has; a checkpoint holds all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gridc.arrays.conversion import Array
from gridc.fusion.pipeline import Stage
from gridc.language.shapes import parameter_shapes
from gridc.language.spec import GridSpec
from gridc.model_file import Model
from gridc.scheduling import tiles
from gridc.scheduling.tiles import Cut
from gridc.training.optimizers import global_norm
from gridc.training.ranks import Share
from gridc.training.world import World


class Post:
    """Messages over a communicator of mpi4py's that nobody else uses (``gridc.fusion.pipeline.Post``)."""

    def __init__(self, comm: Any, mpi: Any):
        self._comm, self._mpi = comm, mpi
        self._going: list[tuple[Any, Array]] = []

    def send(self, to: int, number: int, numbers: Array) -> None:
        """Begin to send; the numbers must stay as they are until ``sent``."""
        self._going.append((self._comm.Isend(numbers, to, number), numbers))

    def receive(self, source: int, number: int, numbers: Array) -> None:
        """Wait for the message of that number, and fill the numbers with it."""
        self._comm.Recv(numbers, source, number)

    def sent(self) -> None:
        """Wait until all that was sent has been taken."""
        self._mpi.Request.Waitall([request for request, _ in self._going])
        self._going.clear()

    def share(self, numbers: Array, giver: int | None) -> None:
        """Let all ranks have the numbers of the one that gives them, or the sum of all."""
        if giver is None:
            self._comm.Allreduce(self._mpi.IN_PLACE, numbers)
        else:
            self._comm.Bcast(numbers, giver)


class Shards(World):
    """One of the processes of a communicator, each with a block of the grid's cells; made of those that share nothing yet.

    All compute the loss of all examples, of the outputs of all blocks; the first one's is that of all."""

    def __init__(self, world: World, spec: GridSpec, cut: Cut):
        vars(self).update(vars(world))  # the same process, and what all have agreed on
        self.spec, self.cut = spec, cut
        self.stage = Stage(cut, self.rank, Post(self._comm.Dup(), self._mpi))
        self._index = [tiles.mine(spec, cut, rank) for rank in range(self.size)]
        self._squares, self._odd = 0.0, 0

    def __str__(self) -> str:
        named = [dimension.name for dimension in self.spec.dimensions]
        tile = " × ".join(f"{named[d]} {n}" for d, n in self.cut.tile)
        return f"{super().__str__()}, cut along {named[self.cut.dimension]}{f' in tiles of {tile}' * bool(tile)}"

    @property
    def own(self) -> dict[str, tuple[slice, ...]]:
        """What this rank has of every parameter that is untied along the cut: an index of the whole array."""
        return self._index[self.rank]

    def share(self, examples: int) -> Share:
        """Give all examples: every rank computes a part of each; the first one's outputs are measured."""
        return Share(slice(0, examples), examples, measured=self.first)

    def everyones(self, name: str) -> bool:
        """Tell whether all ranks have the same of a parameter."""
        return name not in self.own

    def sum(
        self, loss: float, gradients: dict[str, Array], tell: Callable[[], tuple[float, float]]
    ) -> tuple[float, dict[str, Array], tuple[float, float] | None]:
        """Sum up the gradients of what all ranks have, in one ``Allreduce`` of one flat vector; of read-outs, which all compute
        alike, the first one's.  With them goes what the norm of all needs to know of each rank's own."""
        mine = {name: gradient for name, gradient in gradients.items() if name in self.own}
        rest = {name: gradient if self.first or name.partition(".")[0] not in self.spec.outputs else np.zeros_like(gradient)
                for name, gradient in gradients.items() if name not in self.own}  # fmt: skip
        odd = float(any(not np.isfinite(gradient).all() for gradient in mine.values()))
        with np.errstate(over="ignore", invalid="ignore"):
            squares = global_norm(mine) ** 2
        loss, summed, told, (self._squares, self._odd) = self.summed(loss if self.first else 0.0, rest, tell, (squares, odd))
        return loss, {name: summed.get(name, gradient) for name, gradient in gradients.items()}, told

    def norm(self, gradients: Mapping[str, Array], threads: int | None = None) -> float:
        """Give the global norm of all ranks' gradients, after ``sum``."""
        rest = {name: gradient for name, gradient in gradients.items() if name not in self.own}
        return (global_norm(rest, threads) ** 2 + self._squares) ** 0.5

    def finite(self, gradients: Mapping[str, Array]) -> bool:
        """Tell whether all ranks' gradients are finite, after ``sum``."""
        return not self._odd and all(np.isfinite(g).all() for name, g in gradients.items() if name not in self.own)

    def mine(self, name: str, array: Array) -> Array:
        """Give this rank's part of a parameter, or of what has its shape."""
        index = self.own.get(name.rpartition("/")[2])
        return array if index is None else array[index]

    def part(self, model: Model) -> Model:
        """Give this rank's part of a model or a checkpoint that holds all."""
        return replace(model, parameters={name: self.mine(name, array) for name, array in model.parameters.items()},
                       arrays={name: self.mine(name, array) for name, array in model.arrays.items()})  # fmt: skip

    def whole(self, model: Model) -> Model:
        """Give the first rank a model of what all have; others get back their own."""
        return replace(model, parameters=self._gathered(model.parameters), arrays=self._gathered(model.arrays))

    def _gathered(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        shapes, found = parameter_shapes(self.spec), dict(arrays)
        for name, array in arrays.items():
            word = name.rpartition("/")[2]
            if word not in self.own:
                continue
            if not self.first:
                self._comm.Send(np.ascontiguousarray(array), 0)
                continue
            found[name] = total = np.empty(shapes[word], array.dtype)
            total[self.own[word]] = array
            for rank in range(1, self.size):
                theirs = np.empty(total[self._index[rank][word]].shape, array.dtype)
                self._comm.Recv(theirs, rank)
                total[self._index[rank][word]] = theirs
        return found
