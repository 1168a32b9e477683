"""What messages between processes cost, and how fast cores are that all work: measured by ``gridc doctor --mpi`` and kept in the
cache folder, or assumed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from gridc.files import write_atomically
from gridc.resources import cache_folder

FILE = "network.json"


@dataclass(frozen=True)
class Network:
    """Seconds until a message is there, and how many bytes of it a second; ``measured`` or the defaults, of a good cluster.

    ``pace`` is how many times the cost model's seconds a sweep and its adjoint take on a core, its neighbour busy, too."""

    latency: float = 2e-6
    bandwidth: float = 10e9
    measured: bool = False
    pace: float = 1.0

    def seconds(self, size: float) -> float:
        """Give the seconds that a message of so many bytes takes."""
        return self.latency + size / self.bandwidth

    def sum_seconds(self, size: float, ranks: int) -> float:
        """Give those of an all-reduce of so many bytes: a reduce-scatter and an all-gather (Thakur, Rabenseifner and Gropp,
        "Optimization of collective communication operations in MPICH", 2005)."""
        if ranks == 1 or not size:
            return 0.0
        return 2 * (math.ceil(math.log2(ranks)) * self.latency + (ranks - 1) / ranks * size / self.bandwidth)


def recalled() -> Network:
    """Give what was measured on this machine last, or the defaults."""
    try:
        held: Any = json.loads((cache_folder() / FILE).read_text(encoding="utf-8"))
        latency, bandwidth, pace = float(held["latency"]), float(held["bandwidth"]), float(held.get("pace", 1.0))
    except (OSError, ValueError, KeyError, TypeError):
        return Network()
    good = all(math.isfinite(one) and one > 0 for one in (latency, bandwidth, pace))
    return Network(latency, bandwidth, True, pace) if good else Network()


def keep(latency: float, bandwidth: float, pace: float = 1.0) -> Network:
    """Remember what was measured."""
    held = {"latency": latency, "bandwidth": bandwidth, "pace": pace}
    write_atomically(cache_folder() / FILE, json.dumps(held) + "\n")
    return Network(latency, bandwidth, True, pace)
