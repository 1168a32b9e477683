"""A real training process for tests that kill it, alone or on several ranks: ``python train_small.py FOLDER [--resume]
[--slow]``; the first rank prints a hash."""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import time

from gridc.errors import GridcError
from gridc.files import hash_of
from gridc.tables import tasks
from gridc.training.fit import fit
from gridc.training.world import joined
from small_grid import SmallGrid, spec_of

OPTIONS = {
    "optimizer": {"adam": {"learning_rate": 0.01}}, "batch": 8, "clip": 1.0, "seed": 3, "budget": {"steps": 240},
    "schedule": {"warmup_cosine_decay_schedule": {"warmup_steps": 20}}, "evaluate": {"steps": 7},
    "checkpoint": {"steps": 5}, "stop": {"patience": 12}, "progress": "none",
}  # fmt: skip


class Slow(SmallGrid):
    """Takes a few milliseconds a step, so that a signal finds it at work."""

    def loss_and_gradients(self, *args, **options):
        time.sleep(0.004)
        return super().loss_and_gradients(*args, **options)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--lines", action="store_true")
    parser.add_argument("--limit", type=int)
    given = parser.parse_args()
    grid = (Slow if given.slow else SmallGrid)(spec_of(8, label="classes: 2"), hidden=24, noise=0.1)
    train, held_out = tasks.make("parity", {"bits": 8})
    options = OPTIONS | ({"progress": "lines"} if given.lines else {})
    ranks = joined()
    if given.limit:  # when ranks have met, in shared memory that is a file, too
        # The largest file that the system lets this process write: it refuses as a full disk does.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (given.limit, given.limit))
    sys.stdout.write(f"ready {ranks.rank} {os.getpid()}\n")  # in one piece, so that ranks' lines stay apart
    sys.stdout.flush()
    try:
        history = fit(grid, train, held_out, folder=given.folder, resume=given.resume, **options)
    except GridcError as error:
        print(error if ranks.first else "", end="", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    if not ranks.first:
        return 0
    print(json.dumps({
        "weights": hash_of(grid.parameters), "steps": history.steps, "reason": history.reason,
        "losses": [[r.step, r.loss, r.held_out_loss] for r in history.records],
    }))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
