"""A training that ``mpiexec`` starts on several ranks, for tests: ``python train_on_ranks.py RESULT [FOLDER] [OPTIONS]``.

The first rank writes weights, losses and what tells that the masks were the same as JSON and .npz beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

import gridc
from gridc.arrays.dataset import Dataset
from gridc.errors import GridcError
from gridc.files import hash_of
from gridc.training.fit import fit
from gridc.training.world import joined

SPEC = """
name: shared
dimensions: {time: T, depth: 2}
transforms:
  time: {cell: lstm, hidden: 5, zoneout: 0.1}
  depth: {cell: gru, hidden: 4, dropout: 0.2}
inputs:
  x: {features: 3, over: [time], enters: depth}
outputs:
  word: {classes: 3, reads: [depth], at: {depth: last}, ignore: -1}
  last: {binary: true, reads: [time, depth], at: {time: last, depth: last}}
  size: {features: 2, reads: [depth], at: {time: [1], depth: last}, ignore: nan}
"""
OPTIONS = {
    "optimizer": {"adam": {"learning_rate": 0.02}}, "batch": 6, "clip": 0.5, "seed": 4,
    "schedule": {"warmup_cosine_decay_schedule": {"warmup_steps": 5}}, "evaluate": {"steps": 9},
    "checkpoint": {"steps": 4}, "weights": {"word": 0.7}, "class_weights": {"word": [1, 2, 0.5]}, "progress": "none",
    "keep": 100,
}  # fmt: skip


def data(count: int, seed: int) -> Dataset:
    """Ragged examples, some targets of which are ignored, with weights by example and by position."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 7, count)
    lengths[0] = 6
    sizes = rng.normal(2, 3, (count, 1, 2))
    sizes[rng.random(count) < 0.3] = np.nan
    targets = {"word": rng.integers(-1, 3, (count, 6)), "last": rng.integers(0, 2, count), "size": sizes}
    weights = {"word": rng.uniform(0.5, 2, (count, 6)), "last": rng.uniform(0.5, 2, count)}
    return Dataset({"x": rng.normal(size=(count, 6, 3))}, targets, {"T": lengths}, weights=weights)


def main() -> int:
    """Train, and leave what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("result", type=Path)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--kill", type=int, nargs=2, metavar=("RANK", "STEP"))
    given = parser.parse_args()
    ranks = joined()
    grid = gridc.compile(SPEC, dtype="float64", seed=0 if ranks.first else 9)  # all begin with the first one's weights
    if given.kill and given.kill[0] == ranks.rank:
        compute, left = grid.loss_and_gradients, iter(range(given.kill[1], -1, -1))

        def mortal(*arguments, **options):
            if not next(left):
                os.kill(os.getpid(), signal.SIGKILL)
            return compute(*arguments, **options)

        grid.loss_and_gradients = mortal
    try:
        # 13 examples in batches of 6: the last one of an epoch is smaller than two ranks.
        history = fit(grid, data(13, 1), data(5, 2), budget={"steps": given.steps}, folder=given.folder, resume=given.resume,
                      ranks=ranks, **OPTIONS)  # fmt: skip
    except GridcError as error:
        if ranks.first:
            print(error, file=sys.stderr)
        return error.exit_code
    if ranks.first:
        np.savez(given.result, **dict(grid.parameters))
        records = [{**record.to_json(), "seconds": 0} for record in history.records]
        told = {"weights": hash_of(grid.parameters), "records": records}
        given.result.with_suffix(".json").write_text(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
