"""``gridc schedule --ranks --shard``: what a grid cut over several machines would take, for people and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, astuple
from typing import TYPE_CHECKING

from gridc.errors import UsageError
from gridc.insight.network import recalled
from gridc.insight.sharding import Rank, Sharding, shard
from gridc.options import LARGEST

if TYPE_CHECKING:
    from gridc.scheduler import Schedule

SHOWN = 8
"""Ranks that are shown one by one; of more, the least and the most of each figure."""


def predicted(plan: Schedule, ranks: int | None, along: str | None, tile: Sequence[str], batch: int, chosen: str) -> str:
    """Write the prediction as a table, JSON or a trace; UsageError where a part of the question is missing or the grid cannot be
    cut so."""
    if ranks is None or along is None:
        raise UsageError("--ranks says for how many processes and --shard along which dimension: give both.")
    made = shard(plan.spec, plan.sizes, ranks, along, tiles(tile), batch, recalled())
    if chosen == "trace":
        from gridc.pictures.exports import pipeline_trace

        return pipeline_trace(made)
    return json.dumps(plain(made), indent=2) if chosen == "json" else text(made)


def tiles(given: Sequence[str]) -> dict[str, int]:
    """Read ``time=16``; UsageError for anything else."""
    found: dict[str, int] = {}
    for word in (part for one in given for part in one.split(",")):
        name, _, number = word.partition("=")
        if not name or not re.fullmatch("[0-9]{1,10}", number) or not 1 <= int(number) <= LARGEST:
            raise UsageError(f"--tile: found '{word}'; expected DIMENSION=NUMBER, such as time=16.")
        found[name] = int(number)
    return found


def plain(made: Sharding) -> dict[str, object]:
    """Give every figure, seconds and bytes, as a mapping for JSON."""
    names = [dimension.name for dimension in made.spec.dimensions]
    return {
        "name": made.spec.name, "sizes": dict(zip(names, made.sizes, strict=True)), "along": names[made.dimension],
        "ranks": made.ranks, "tile": {names[d]: n for d, n in made.tile.items()}, "batch": made.batch,
        "seconds": made.seconds, "forward": made.forward, "backward": made.backward, "summing": made.summing,
        "serial": made.serial, "bubble": made.bubble, "network": asdict(made.network), "each": [asdict(one) for one in made.each],
    }  # fmt: skip


def text(made: Sharding) -> str:
    """Write the figures as lines."""
    names = [dimension.name for dimension in made.spec.dimensions]
    sizes = " × ".join(f"{name} {n}" for name, n in zip(names, made.sizes, strict=True))
    tile = ", in tiles of " + " × ".join(f"{names[d]} {n}" for d, n in made.tile.items()) if made.tile else ", in one tile"
    lines = [
        f"{made.spec.name}: {sizes}, a mini-batch of {made.batch}, cut along {names[made.dimension]} for {made.ranks} "
        f"rank{'s' * (made.ranks != 1)}{tile}",
        f"  a training step   {_time(made.seconds)}: forward {_time(made.forward)}, backward {_time(made.backward)}, "
        f"sum of the gradients that several have {_time(made.summing)}",
        f"  one process       {_time(made.serial)} on one core: × {made.serial / made.seconds:.2f}",
        f"  bubble            {100 * made.bubble:.0f} % of the ranks' time",
        f"  {'rank':<6}{'cells':>8}{'busy':>11}{'messages':>10}{'sent':>11}{'peak memory':>14}",
    ]  # fmt: skip
    if made.ranks <= SHOWN:
        rows = [(str(number), one) for number, one in enumerate(made.each)]
    else:
        rows = [(word, Rank(*(choose(column) for column in zip(*map(astuple, made.each), strict=True))))
                for word, choose in (("least", min), ("most", max))]  # fmt: skip
    lines += [f"  {word:<6}{one.cells:>8,}{_time(one.busy):>11}{one.messages:>10,}{_megabytes(one.sent):>11}"
              f"{_megabytes(one.peak):>14}" for word, one in rows]  # fmt: skip
    network = made.network
    source = "as gridc doctor --mpi measured here" if network.measured else "assumed (gridc doctor --mpi measures)"
    lines.append(f"  messages: {1e6 * network.latency:.2g} µs and {network.bandwidth / 1e9:.3g} GB/s, {source}; products at "
                 f"{network.pace:.3g} times the seconds of gridc's cost model of one core")  # fmt: skip
    return "\n".join(lines)


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.3g} MB" if size < 1e9 else f"{size / 1e9:,.3g} GB"


def _time(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if 0 < seconds < 1 else f"{seconds:.3g} s"
