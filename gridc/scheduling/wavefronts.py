"""The wavefronts of a schedule as a lazy sequence, and the level of each step as a lazy mapping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np

from gridc.language.lattice import Ints
from gridc.scheduling.graph import Step

if TYPE_CHECKING:
    from gridc.scheduling.schedule import Schedule

MOST_SORTED = 6_000_000
"""Steps beyond which a wavefront is found by its hyperplane rather than by sorting all steps by level."""


class Levels(Mapping[Step, int]):
    """The wavefront of each step, looked up; iterating goes over all steps by their number."""

    def __init__(self, plan: Schedule):
        self._plan = plan

    def __getitem__(self, step: Any) -> int:
        number, plane = self._plan.number(step), self._plan.plane
        return plane.level(step[0], step[1]) if plane is not None else int(self._plan.level_numbers[number])

    def __iter__(self) -> Iterator[Step]:
        return (self._plan.step(i) for i in range(self._plan.work))

    def __len__(self) -> int:
        return self._plan.work


class Wavefronts(Sequence[tuple[Step, ...]]):
    """The steps of each wavefront: transforms in the order of declaration, and of each its cells row by row."""

    def __init__(self, plan: Schedule):
        self._plan = plan

    @cached_property
    def _sorted(self) -> tuple[Ints, Ints]:
        levels = self._plan.level_numbers
        order = np.argsort(levels, kind="stable")
        return order, np.searchsorted(levels[order], np.arange(self._plan.span + 1))

    def numbers(self, wavefront: int) -> Ints:
        """The numbers of a wavefront's steps."""
        if self._plan.plane is not None and self._plan.work > MOST_SORTED:
            return self._plan.plane.wavefront(wavefront)
        order, ends = self._sorted
        return order[ends[wavefront] : ends[wavefront + 1]]

    @overload
    def __getitem__(self, index: SupportsIndex) -> tuple[Step, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[Step, ...]]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        k = int(index)
        if not -len(self) <= k < len(self):
            raise IndexError(f"there are {len(self)} wavefronts, 0 to {len(self) - 1}; found {k}")
        plan = self._plan
        numbers = self.numbers(k % len(self))
        names = list(plan.spec.transforms)
        cells = np.stack(np.unravel_index(numbers % plan.cell_count, plan.sizes), axis=1).tolist()
        return tuple(
            Step(names[t], tuple(cell)) for t, cell in zip((numbers // plan.cell_count).tolist(), cells, strict=True)
        )

    def __len__(self) -> int:
        return self._plan.span

    def __repr__(self) -> str:
        return f"<{len(self)} wavefronts of 1 to {self._plan.width} steps>"
