"""Rows of the paper's tasks, with fewer digits, symbols and units: Kalchbrenner, Danihelka and Graves 2016 (arXiv 1507.01526)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import shakespeare
import translation
from row import HERE, TEST_SEED, Published, Row

from gridc.arrays.dataset import Dataset
from gridc.tables import tasks

KINDS = (("tied", "a 2-LSTM of six levels, tied"), ("untied", "a 2-LSTM of three levels, untied"),
         ("stacked", "a stacked LSTM of three levels"))  # fmt: skip


def _drawn(task: str, **options: int) -> Callable[[Path], Dataset]:
    """A test set of a task."""
    return lambda folder: tasks.make(task, {**options, "samples": 5_000}, held_out=0.0, seed=TEST_SEED)[0]


def _from(written: Callable[[Path], Path], **how: Any) -> Callable[[Path], dict[str, Any]]:
    """The changes that name a file."""
    return lambda folder: {"data": {"file": str(written(folder)), **how}}


_FIVE = {
    "task.digits": 5, "task.samples": 3_100_000, "held_out": 0.002, "evaluate": {"samples": 40_000},
    "budget": {"samples": 2_600_000}, "schedule": {"piecewise_constant_schedule": {"boundaries_and_scales": {37_500: 0.2}}},
}  # fmt: skip


def _memorised(length: int, symbols: int, samples: int) -> dict[str, Any]:
    """The changes for longer answers: small mini-batches, and a rate that learns them, which falls after 400,000 samples."""
    drawn = samples + 2_000
    return {
        "task.length": length, "task.symbols": symbols, "task.samples": drawn, "held_out": 2_020 / drawn, "batch": 8,
        "optimizer": {"adam": {"learning_rate": 0.002}}, "budget": {"samples": samples}, "evaluate": {"samples": 10_000},
        "schedule": {"piecewise_constant_schedule": {"boundaries_and_scales": {50_000: 0.2}}},
    }  # fmt: skip


_TEXT = _from(lambda folder: shakespeare.written(folder)[0], text={"window": 64})
_WIKIPEDIA = Published("the paper's, of another size and on another text (Wikipedia)", 1.47, "abstract of arXiv 1507.01526")

ROWS = (
    *(Row(f"addition-{kind}", HERE / f"addition-{kind}.yaml", f"sums of three digits without a mistake: {what}", 3, 8.0,
          test=_drawn("addition", digits=3), whole=True)
      for kind, what in KINDS),
    *(Row(f"addition-5-{kind}", HERE / f"addition-{kind}.yaml", f"sums of five digits without a mistake: {what}", 3, minutes,
          _FIVE, test=_drawn("addition", digits=5), whole=True, apart=True)
      for (kind, what), minutes in zip(KINDS[:2], (27.0, 15.0), strict=True)),
    *(Row(f"memorisation-{kind}", HERE / f"memorisation-{kind}.yaml", f"five symbols of sixteen without a mistake: {what}",
          3, 1.5, test=_drawn("memorisation", length=5, symbols=16), whole=True)
      for kind, what in KINDS),
    *(Row(f"memorisation-{n}-{kind}", HERE / f"memorisation-{kind}.yaml", f"{said} without a mistake: {what}", 3, minutes,
          _memorised(n, symbols, samples), {"inputs.symbols.vocabulary": symbols + 1, "outputs.answer.classes": symbols + 1},
          test=_drawn("memorisation", length=n, symbols=symbols), whole=True, apart=n > 10)
      for n, symbols, samples, said, minutes in ((10, 32, 200_000, "ten symbols of thirty-two", 2.0),
                                                 (20, 64, 600_000, "twenty symbols of sixty-four", 16.0))
      for kind, what in KINDS),
    *(Row(f"characters-{kind}", HERE / f"characters-{kind}.yaml", f"Shakespeare by characters: {what}", 3, 9.0,
          data=_TEXT, test=shakespeare.test, bits=True, beside=shakespeare.counts, published=(_WIKIPEDIA,))
      for kind, what in (("grid", "a 2-LSTM of two levels, untied"), ("stacked", "a stacked LSTM of two levels"))),
    *(Row(name, HERE / f"{name}.yaml", f"numbers in English words into German ones without a mistake: {what}", 3, 2.0,
          data=_from(translation.written), test=partial(translation.test, grid=name != "reencoder-stacked"), whole=True)
      for name, what in (("reencoder", "a Reencoder of two levels, to and fro"), ("reencoder-forward", "the same, forward only"),
                         ("reencoder-stacked", "a stacked LSTM over both, one after the other"))),
)  # fmt: skip
"""The paper's addition is of 15 digits and its memorisation of 20 symbols, with more units: none of its figures stands here."""
