"""Rows of the paper's tasks, with fewer digits, symbols and units: Kalchbrenner, Danihelka and Graves 2016 (arXiv 1507.01526)."""

from __future__ import annotations

from pathlib import Path

from row import HERE, TEST_SEED, Row

from gridc.arrays.dataset import Dataset
from gridc.tables import tasks


def _sums(folder: Path) -> Dataset:
    return tasks.make("addition", {"digits": 3, "samples": 5_000}, held_out=0.0, seed=TEST_SEED)[0]


ROWS = (
    *(Row(f"addition-{kind}", HERE / f"addition-{kind}.yaml", f"sums of three digits without a mistake: {what}", 3, 1.5,
          test=_sums, whole=True)
      for kind, what in (("tied", "a 2-LSTM of six levels, tied"), ("untied", "a 2-LSTM of three levels, untied"),
                         ("stacked", "a stacked LSTM of three levels"))),
)  # fmt: skip
"""Figures of the paper's addition are of 15 digits, so that none stands beside these."""
