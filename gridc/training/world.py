"""The ranks that an ``mpiexec`` started, over mpi4py, which is imported late: ``pip install "gridc[mpi]"``."""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import subprocess
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gridc.arrays.conversion import Array
from gridc.errors import GridcError, ResourceError, UsageError
from gridc.training.ranks import ALONE, Ranks, code_of

T = TypeVar("T")
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Where launchers tell a process how many they started: MPICH's, Intel's and Slurm's, Open MPI's, MVAPICH's."""
PATIENCE = 3.0
"""Seconds that a rank which cannot go on waits for the others to say the same."""
NEEDED = 'needs mpi4py and an MPI: pip install "gridc[mpi]" brings both.'


def joined(asked: Any = "auto") -> Ranks:
    """Join the ranks of this training.

    Args:
        asked: ``auto``, all the processes that an ``mpiexec`` started, or this one where none did; ``alone``; a communicator
            of mpi4py's; or what this function gave.

    Raises:
        UsageError: It is something else.
        ResourceError: There is an ``mpiexec`` and no mpi4py, or they belong to different MPIs.
    """
    if isinstance(asked, Ranks):
        return asked
    if asked == "alone":
        return ALONE
    if asked != "auto":
        if not hasattr(asked, "Allreduce"):
            raise UsageError(f"'ranks' is {asked!r}, expected 'auto', 'alone' or a communicator of mpi4py.")
        return World(asked) if asked.size > 1 else ALONE
    started = launched()
    if started == 1:
        return ALONE
    try:
        comm: Any = importlib.import_module("mpi4py.MPI").COMM_WORLD
    except (ImportError, RuntimeError) as error:  # the latter where its MPI is not found
        who = f"mpiexec started {started or 'several'} processes"
        raise ResourceError(f"{who}, and a training that they share {NEEDED}") from error
    if comm.size == 1:
        if not started:
            return ALONE
        version = str(importlib.import_module("mpi4py.MPI").Get_library_version()).splitlines()[0]
        raise ResourceError(f"mpiexec started {started} processes, and mpi4py's MPI ({' '.join(version.split())}) knows of one: "
                            f"start them with the mpiexec of that MPI; the one of gridc[mpi] is {_own_launcher()}.")  # fmt: skip
    return World(comm)


def launched() -> int:
    """Tell how many processes an ``mpiexec`` started, this one among them: 1 where there was none, 0 where it does not say."""
    for name in SIZES:
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0 if "PMIX_RANK" in os.environ else 1


def _own_launcher() -> Path:
    return Path(sys.executable).with_name("mpiexec")


class World(Ranks):
    """One of the processes of a communicator of mpi4py's; it has its share of the node's cores from then on."""

    def __init__(self, comm: Any):
        self._comm, self._mpi = comm, importlib.import_module("mpi4py.MPI")
        self.rank, self.size = int(comm.rank), int(comm.size)
        self._agreed: BaseException | None = None
        self._failing = comm.Dup()  # apart, since the others may wait in the middle of something else
        self._flat = np.empty(0)
        self._watched = False
        self.threads = self._thread_share()

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        return f"{self.size} ranks of {threads} each"

    def _thread_share(self) -> int:
        """Hold this process to the cores of its node divided by the ranks there."""
        from gridc import resources
        from gridc.fusion import blas

        node = self._comm.Split_type(self._mpi.COMM_TYPE_SHARED)
        own = resources.cores()
        threads = max(1, min(len(own), len(frozenset[int]().union(*node.allgather(own))) // int(node.size)))
        node.Free()
        library = blas.library()
        if library.get_threads() > threads:
            library.set_threads(threads)
        threads = min(threads, resources.threads())
        resources.hold(threads)
        return threads

    def sum(
        self, loss: float, gradients: dict[str, Array], tell: Callable[[], tuple[float, float]]
    ) -> tuple[float, dict[str, Array], tuple[float, float] | None]:
        """Sum up in one ``Allreduce`` of one flat vector; the gradients are views of it, until the next step."""
        return self.summed(loss, gradients, tell, ())[:3]

    def summed(
        self, loss: float, gradients: Mapping[str, Array], tell: Callable[[], tuple[float, float]], besides: tuple[float, ...]
    ) -> tuple[float, dict[str, Array], tuple[float, float], list[float]]:  # fmt: skip
        """Sum up as ``sum`` does, and some numbers ``besides``."""
        dtype = next(iter(gradients.values())).dtype if gradients else np.dtype(np.float64)
        count = sum(gradient.size for gradient in gradients.values())
        if self._flat.size != count + 4 + len(besides) or self._flat.dtype != dtype:
            self._flat = np.empty(count + 4 + len(besides), dtype)
        flat, views, at = self._flat, dict[str, Array](), 0
        for name, gradient in gradients.items():
            views[name] = flat[at : at + gradient.size].reshape(gradient.shape)
            np.copyto(views[name], gradient)
            at += gradient.size
        asked, seconds = tell()
        seconds = seconds if self.first else 0.0
        high = float(dtype.type(seconds))  # in two parts, since a float32 alone would be coarse after a day
        with np.errstate(over="ignore"):
            flat[count:] = loss, asked, high, seconds - high, *besides
        self._comm.Allreduce(self._mpi.IN_PLACE, flat)
        total, asked, high, low, *others = flat[count:].tolist()
        return total, views, (asked, high + low), others

    def gather(self, value: T) -> list[T]:
        """Give every rank the values of all, in their order."""
        return list(self._comm.allgather(value))

    def first_does(self, make: Callable[[], T]) -> T:
        """Give what the first rank makes, or raise on all what it raises there."""
        found: Any = None
        error: BaseException | None = None
        if self.first:
            try:
                found = make()
            except (Exception, KeyboardInterrupt) as caught:
                error = caught
        sent, trouble = self._comm.bcast((found, None if error is None else _portable(error)))
        if trouble is not None:
            raise self.agreed(trouble if error is None else error)
        return found if self.first else sent

    def everywhere(self, make: Callable[[], T]) -> T:
        """Give what this rank makes, or where it cannot what another could; what none of them can is raised by all."""
        found: Any = None
        error: GridcError | None = None
        try:
            found = make()
        except GridcError as caught:
            error = caught
        able = [rank for rank, well in enumerate(self.gather(error is None)) if well]
        if len(able) == self.size:
            return found
        if not able and error is not None:
            raise self.agreed(error)
        sent = self._comm.bcast(found, root=able[0])
        return found if error is None else sent

    def begin(self, grid: Any) -> None:
        """Let all ranks begin with the first one's parameters and random numbers."""
        for name, array in grid.parameters.items():
            if not self.everyones(name):
                continue
            whole = np.ascontiguousarray(array)
            self._comm.Bcast(whole)
            if not np.may_share_memory(whole, array):
                np.copyto(array, whole)
        drawn = self._comm.bcast(getattr(grid, "random_state", None))
        if drawn is not None:
            grid.random_state = drawn

    def everyones(self, name: str) -> bool:
        """Tell whether all ranks have the same of a parameter."""
        return True

    def agreed(self, error: BaseException) -> BaseException:
        """Note that all ranks raise this error."""
        self._agreed = error
        return error

    def alike(self, told: Mapping[str, Any]) -> None:
        """UsageError on all ranks where they were given different arguments or examples."""
        everybody = self.gather(dict(told))
        for rank, other in enumerate(everybody):
            odd = [name for name in everybody[0] if other[name] != everybody[0][name]]
            if odd:
                raise self.agreed(UsageError(
                    f"Rank {rank} was given another '{odd[0]}' than rank 0: all ranks of a training have the same arguments and "
                    "read the same examples."))  # fmt: skip

    def same(self, arrays: Mapping[str, Array]) -> None:
        """ResourceError on all ranks where their arrays differ in a bit."""
        total = 0
        for array in (array for name, array in arrays.items() if self.everyones(name)):
            total = zlib.crc32(np.ascontiguousarray(array).data, total)
        everybodys = self.gather(total)
        odd = [rank for rank, other in enumerate(everybodys) if other != everybodys[0]]
        if odd:
            raise self.agreed(ResourceError(
                f"The weights of rank {odd[0]} are no longer those of rank 0: processors of different kinds round differently, "
                "or a memory fails. Train on machines of one kind; the last checkpoint is good."))  # fmt: skip

    @contextlib.contextmanager
    def guard(self) -> Generator[None]:
        """End all ranks where the block raises here what was not ``agreed``, and not on all of them at once."""
        try:
            yield
        except BaseException as error:
            if error is not self._agreed and not self._all_fail():
                self._end(error)
            self._agreed = error
            raise

    def _all_fail(self) -> bool:
        """Whether the others come here, too, before the patience is over: they found the same wrong."""
        met = self._failing.Ibarrier()
        until = time.monotonic() + PATIENCE
        while not met.Test():
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    def _end(self, error: BaseException) -> None:
        lost = isinstance(error, self._mpi.Exception)  # another rank has died, which says more
        if not lost and not isinstance(error, GridcError | KeyboardInterrupt | MemoryError):
            traceback.print_exception(error)
        what = "It was interrupted." if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
        print(f"gridc: Rank {self.rank} ends the training of all {self.size}: {what}", file=sys.stderr, flush=True)
        time.sleep(0.25)  # mpiexec passes on what was said, unless everything has ended before it looked
        self._comm.Abort(code_of(error))
        os._exit(code_of(error))  # an Abort may come back before the end that it has asked for

    @contextlib.contextmanager
    def watched(self, checkpoints: Path) -> Generator[None]:
        """Have a shell of the first rank's wait for its word that all is well, and say what is kept where none comes; one such
        block within another changes nothing.

        A rank that is killed can say nothing, and an MPI kills the others at once."""
        if not self.first or self._watched or os.name != "posix":
            yield
            return
        self._watched = True
        with subprocess.Popen(["/bin/sh", "-c", WATCH, "gridc", str(checkpoints)], stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL, start_new_session=True) as watcher:  # fmt: skip
            try:
                yield
            except BaseException as error:
                if error is self._agreed:
                    watcher.communicate(b"well\n")
                raise
            finally:
                self._watched = False
            watcher.communicate(b"well\n")


WATCH = """
trap '' INT TERM HUP
read -r word && exit
last=$(ls "$1"/step-*.grid 2>/dev/null | tail -n 1)
if [ -n "$last" ]
then echo "gridc: A rank of the training has ended, and all with it. The last good checkpoint is $last: the same command with" \
    "--resume goes on from it, on any number of ranks." >&2
else echo "gridc: A rank of the training has ended, and all with it, before the first checkpoint." >&2
fi
"""


def _portable(error: BaseException) -> BaseException:
    """Give an error that can be sent to other processes."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its making or its parts raise
        return ResourceError(f"{type(error).__name__}: {error}")
