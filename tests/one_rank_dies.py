"""``gridc`` as its command line runs, one rank of which is killed: ``python one_rank_dies.py RANK STEP ARGUMENTS…``."""

from __future__ import annotations

import os
import signal
import sys

from gridc.cli import main
from gridc.grid import Grid


def mortal(steps):
    """Let a step be the last thing that this process does."""
    compute, left = Grid.loss_and_gradients, iter(range(steps, -1, -1))

    def loss_and_gradients(self, *arguments, **options):
        if not next(left):
            os.kill(os.getpid(), signal.SIGKILL)
        return compute(self, *arguments, **options)

    Grid.loss_and_gradients = loss_and_gradients


if __name__ == "__main__":
    rank, step, *arguments = sys.argv[1:]
    if os.environ["PMI_RANK"] == rank:
        mortal(int(step))
    sys.argv[1:] = arguments
    sys.exit(main())
