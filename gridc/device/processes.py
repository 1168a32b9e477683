"""One training in several processes, on one machine or on many: each brings its devices, and all share every batch.

Every process reads the same data and makes the same steps.  The first one writes the files and talks.
"""

# JAX says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax

from gridc.errors import ResourceError, UsageError
from gridc.tables.training_block import Training
from gridc.training.checkpoint import CHECKPOINTS, Folder

PLACE = re.compile(r"(\d+)/(\d+)@(.+:\d+)")


def join(place: str) -> tuple[int, int]:
    """Join the others; give this process's number, from 0, and how many devices all have together.

    ``place`` is ``NUMBER/COUNT@HOST:PORT``, where process 0 listens, or ``auto`` where a cluster's manager tells JAX.
    Raises UsageError where it is neither, ResourceError where the others cannot be found."""
    found = PLACE.fullmatch(place)
    if found is None and place != "auto":
        raise UsageError(f"'distributed' is '{place}', expected this process's number, how many there are and where the first "
                         "one listens, such as 0/2@localhost:1234, or auto")  # fmt: skip
    number, count, address = (None, None, None) if found is None else (int(found[1]), int(found[2]), found[3])
    if number is not None and count is not None and number >= count:
        raise UsageError(f"'distributed' is '{place}': of {count} processes the last is {count - 1}")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(address, count, number, initialization_timeout=60, shutdown_timeout_seconds=20)
    except (RuntimeError, ValueError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise ResourceError(f"the other processes cannot be joined: {why}") from error
    return jax.process_index(), jax.device_count()


def check(block: Training) -> None:
    """UsageError where a training goes by seconds: each process has a clock of its own, and they would part."""
    for name, one in (("budget", block.budget), ("evaluate", block.evaluate)):
        if one.seconds is not None:
            raise UsageError(f"'{name}' counts seconds, which several processes do not count alike; expected epochs, samples or "
                             "steps")  # fmt: skip


@contextlib.contextmanager
def folder_of(number: int, there: Path) -> Iterator[Path]:
    """Give the folder of process ``number``: ``there`` for the first, for others one that goes, with the same checkpoints."""
    if number == 0:
        yield there
        return
    with tempfile.TemporaryDirectory(prefix="gridc-") as name:
        own = Path(name)
        (own / CHECKPOINTS).mkdir()
        for path in Folder(there).checkpoints():
            shutil.copy(path, own / CHECKPOINTS)
        yield own
