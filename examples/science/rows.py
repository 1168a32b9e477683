"""The table of ``make science``: what is trained, from how many seeds, what is measured on what, and what others published.

A figure of somebody else's stands here only where its primary source was read, with that source.
"""

from __future__ import annotations

import others
import paper
from row import SPECS, Published, Row

__all__ = ["ROWS", "Published", "Row"]

HALVED = {"schedule": {"exponential_decay": {"transition_steps": 1_000, "decay_rate": 0.5}}}
"""At a constant rate a string or two of many thousands turn wrong again."""
ROWS = (
    Row("parity-12", SPECS / "parity.yaml", "parity of 12 bits, a fifth of all strings held out", 20, 0.1,
        {"budget": {"samples": 150_000}}, solved=True),
    Row("parity-16", SPECS / "parity.yaml", "parity of 16 bits, a fifth of all strings held out", 10, 0.2,
        {"bits": 16, "evaluate": {"samples": 5_000}}, solved=True),
    *(Row(f"parity-{bits}", SPECS / "parity.yaml", f"parity of {bits} bits: 500,000 strings, 20,000 of them held out", 3, 0.5,
          {"bits": bits, "task.samples": 500_000, "held_out": 0.04, "evaluate": {"samples": 20_000}, **HALVED}, solved=True)
      for bits in (20, 24, 30)),
    *others.ROWS,
    *paper.ROWS,
)  # fmt: skip
