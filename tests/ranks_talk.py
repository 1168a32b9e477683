"""What ranks say to each other, each thing once: ``mpiexec -n 2 python ranks_talk.py``; the second ends all in the end."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from gridc.errors import DataError, GridcError, ResourceError, UsageError
from gridc.training.world import joined


def raised(make):
    """The kind of error and its words."""
    try:
        return make()
    except GridcError as error:
        return type(error).__name__, str(error)


def main():
    """Go through it; every rank checks for itself."""
    ranks = joined()
    other = ranks.rank

    def only_on(rank, value):
        if ranks.rank != rank:
            raise DataError("There is no file 'x'.")
        return value

    assert ranks.everywhere(lambda: only_on(1, np.arange(3))).tolist() == [0, 1, 2], "sent by the one that has it"
    assert raised(lambda: ranks.everywhere(lambda: only_on(7, 0))) == ("DataError", "There is no file 'x'.")
    assert ranks.first_does(lambda: f"by {ranks.rank}") == "by 0"
    assert raised(lambda: ranks.first_does(lambda: only_on(7, 0))) == ("DataError", "There is no file 'x'.")

    class Strange(Exception):
        def __init__(self, a, b):
            super().__init__(a + b)

    def strange():
        raise Strange("not to be ", "sent")

    with pytest.raises(Strange if ranks.first else ResourceError, match="not to be sent"):
        ranks.first_does(strange)
    assert ranks.gather(other) == [0, 1]
    ranks.alike({"batch": 3})
    kind, words = raised(lambda: ranks.alike({"seed": 1, "batch": 3 + other}))
    assert (kind, words.split(":")[0]) == ("UsageError", "Rank 1 was given another 'batch' than rank 0")
    ranks.same({"W": np.ones(3)})
    kind, words = raised(lambda: ranks.same({"W": np.ones(3), "b": np.nextafter(np.zeros(2), other)}))
    assert kind == "ResourceError"
    assert words.startswith("The weights of rank 1 are no longer those of rank 0")
    parts = [ranks.share(n) for n in (5, 1)]
    assert [(part.rows.start, part.rows.stop, part.counts) for part in parts] == (
        [(2, 5, True), (0, 1, True)] if other else [(0, 2, True), (0, 1, False)])  # fmt: skip
    sizes = {"W": np.full((2, 3), 1.5 + other, "f4"), "b": np.full(4, other, "f4")}
    loss, found, told = ranks.sum(0.25, sizes, lambda: (float(other), 1e5 + 1 / 256 + other))
    assert (loss, told) == (0.5, (1.0, 1e5 + 1 / 256)), "the first one's clock, and one that asks for an end"
    assert (found["W"] == 4).all()
    assert found["W"].shape == (2, 3)
    assert (found["b"] == 1).all()
    with pytest.raises(UsageError), ranks.guard():
        raise UsageError("All say so.")  # at once: nobody is waited for
    sys.stderr.write(f"rank {other} goes on\n")
    with ranks.guard():
        if other:
            raise DataError("Only here.")
        ranks.gather("the first one would wait for ever")
    return 1


if __name__ == "__main__":
    sys.exit(main())
