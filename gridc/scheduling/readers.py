"""Who reads each row of a device's sweep: its gradient is the sum of what they hand back, so that nothing is scattered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gridc.language.lattice import Ints
from gridc.scheduling.padded import Group, Misfit, Plan, Tables


class Readers:
    """The readers that a plan's index arrays come to."""

    def __init__(self, plan: Plan, tables: Tables):
        self.plan, self.tables = plan, tables

    def _pairs(self, key: str, row: np.ndarray, column: int | None, alive: np.ndarray) -> tuple[Ints, Ints]:
        """(row read, number of the reader) for the reads in one column of a table, what wrapped around included."""
        targets: list[Ints] = []
        values: list[Ints] = []
        for name in (key, f"{key}.far"):
            if name in self.tables:
                table = self.tables[name]
                target = np.asarray(table if column is None else table[:, column], np.int64).ravel()
                real = alive[target]
                targets.append(target[real])
                values.append(row.ravel()[real])
        return np.concatenate(targets), np.concatenate(values)

    def _lists(self, g: int, taps_only: bool = False) -> dict[str, tuple[Ints, Ints, int]]:
        """By name: rows of the group, who reads them, and the number that stands for nobody."""
        plan, group = self.plan, self.plan.groups[g]
        alive = np.ones(group.base + group.rows, bool)
        # A start may have any number of readers, and the row of zeros has no gradient.
        alive[[*(entry.start for entry in group.entries), group.base - 1]] = False
        found: dict[str, tuple[Ints, Ints, int]] = {}
        for r, reader in enumerate(() if taps_only else plan.groups):
            for c, channel in enumerate(reader.channels):
                width = len(channel)
                parts = [self._pairs(f"{r}.read", np.arange(reader.rows) * width + k, j, alive)
                         for k, j in enumerate(channel) if reader.sources[j] == g]  # fmt: skip
                if parts:
                    target, value = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
                    found[f"{g}.readers.{r}.{c}"] = target, value, reader.rows * width
        if group.entering and not taps_only:
            rows = (group.base + np.arange(group.rows)) * group.vectors + 1
            parts = [self._pairs(f"{g}.own", rows + d, d, alive) for d in range(group.entering)]
            target, value = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            found[f"{g}.readers.own"] = target, value, (group.base - 1) * group.vectors
        for n, tap in enumerate(plan.taps):
            if tap.group == g:
                count = int(np.prod(tap.shape))
                target, value = self._pairs(f"tap.{n}", np.arange(count), None, alive)
                found[f"{g}.readers.tap.{n}"] = target, value, count
        return found

    def counted(self, g: int) -> Group:
        """Give the group with the most readers of a row in each list, if that is more than it has room for."""
        group = self.plan.groups[g]
        before = {f"{g}.readers.{r}.{c}": n for r, c, n in group.readers} | {f"{g}.readers.tap.{n}": k for n, k in group.tapped}
        before[f"{g}.readers.own"] = group.carried
        most = {name: max(before.get(name, 0), int(np.bincount(target, minlength=1).max()))
                for name, (target, *_) in self._lists(g).items()}  # fmt: skip
        readers: list[tuple[int, int, int]] = []
        tapped: list[tuple[int, int]] = []
        for name, count in most.items():
            kind = name.split(".")[2:]
            if kind[0] == "tap":
                tapped.append((int(kind[1]), count))
            elif kind[0] != "own":
                readers.append((int(kind[0]), int(kind[1]), count))
        return replace(group, readers=tuple(readers), tapped=tuple(tapped), carried=most.get(f"{g}.readers.own", 0))

    def lists(self, g: int, taps_only: bool = False) -> Tables:
        """``[most readers, rows]`` for each list of a group, or for those of outputs alone."""
        group = self.plan.groups[g]
        room = {f"{g}.readers.{r}.{c}": count for r, c, count in group.readers}
        room |= {f"{g}.readers.tap.{n}": count for n, count in group.tapped} | {f"{g}.readers.own": group.carried}
        out: Tables = {}
        for name, (target, value, nobody) in self._lists(g, taps_only).items():
            by = np.argsort(target, kind="stable")
            target, value = target[by], value[by]
            first = np.cumsum(np.bincount(target, minlength=1))
            nth = np.arange(len(target)) - np.concatenate([[0], first])[target]
            if int(nth.max(initial=-1)) >= room[name]:
                raise Misfit
            out[name] = table = np.full((room[name], group.base + group.rows), nobody, np.int32)
            table[nth, target] = value
        return out
