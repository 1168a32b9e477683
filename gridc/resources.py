"""What the machine lends this process: memory, cores, and a folder for what is compiled."""

from __future__ import annotations

import functools
import math
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gridc.locks import Lock

MOST_CORES = 1 << 20
"""More than any machine has."""
MEMINFO = Path("/proc/meminfo")
MEMBERSHIP = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")


def located(path: str | os.PathLike[str]) -> Path:
    """Give the path that somebody wrote, with the home folder for ``~``, which only some shells put there."""
    path = Path(path)
    try:
        return path.expanduser()
    except RuntimeError:  # no such user: a file of that name
        return path


def cores() -> frozenset[int]:
    """Which cores this process may use, which in a container or beside a launcher are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


@functools.cache
def cache_folder(part: str = "") -> Path:
    """Where compiled things are kept, or a part of them: in ``GRIDC_CACHE_DIR``, else in the user's cache folder, else, where
    neither can be written to, in a temporary one."""
    import platformdirs

    for place in (os.environ.get("GRIDC_CACHE_DIR"), platformdirs.user_cache_dir("gridc")):
        if place:
            try:
                chosen = located(place) / part
                chosen.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=chosen):
                    return chosen
            except OSError:
                continue
    chosen = _temporary() / part
    chosen.mkdir(exist_ok=True)
    return chosen


@functools.cache
def _temporary() -> Path:
    return Path(tempfile.mkdtemp(prefix="gridc-"))


def available_memory() -> int | None:
    """In bytes, the least of what the machine and the groups of this process have left; None where nobody knows."""
    machine = _meminfo()
    return min((size for size in (_physical() if machine is None else machine, *_groups()) if size is not None), default=None)


def threads() -> int:
    """Count the threads that this process takes: as many as it was held to, else a core for each, or fewer where a control group
    gives it less time or ``OMP_NUM_THREADS`` says so."""
    return _held or max(1, min(len(cores()), quota(), _said(os.environ.get("OMP_NUM_THREADS", ""))))


def hold(count: int | None) -> None:
    """Have this process take so many threads from now on; None lets it find out again."""
    global _held
    _held = count


_held: int | None = None


@functools.cache
def _said(words: str) -> int:
    """Read what OpenMP's variable says, a number for each level of nesting; what is no number says nothing."""
    first = words.partition(",")[0].strip()
    return int(first) if first.isdigit() and int(first) else MOST_CORES


@functools.cache
def quota() -> int:
    """Count the cores whose time the control groups allow; asked once, since it is needed at every call."""
    return min((math.ceil(share - 0.1) for share in _shares()), default=MOST_CORES)


def _shares() -> Iterator[float]:
    """Yield how many cores' time each control group around this process may take, of either version of Linux's interface."""
    for folder, limits in _around("cpu", ("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        words = " ".join(_text(folder / name) for name in limits).split()
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):
            yield int(words[0]) / int(words[1])


def _meminfo() -> int | None:
    for line in _text(MEMINFO).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _physical() -> int | None:
    """All the memory of the machine, where it does not say how much is left."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _groups() -> Iterator[int]:
    """Yield the bytes that each control group around this process has left."""
    names = ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for folder, files in _around("memory", *names):
        limit, used = (_text(folder / name).strip() for name in files)
        if limit.isdigit() and used.isdigit():
            yield max(0, int(limit) - int(used) + _cached(folder))


def _around(controller: str, new: tuple[str, ...], old: tuple[str, ...]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield the folder of each control group around this process that has this controller, of either version of Linux's
    interface, with the names of what to look at there in the ``new`` one or the ``old``."""
    for line in _text(MEMBERSHIP).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = CGROUPS, new
        elif controller in controllers.split(","):
            root, names = CGROUPS / controller, old
        else:
            continue
        folder = root / path.lstrip("/")
        while True:
            yield folder, names
            if folder == root or root not in folder.parents:
                break
            folder = folder.parent


def _cached(folder: Path) -> int:
    """Bytes of files that the kernel keeps for this group and would give back."""
    sizes = dict(line.split(maxsplit=1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
    return int(sizes.get("total_inactive_file", sizes.get("inactive_file", "0")))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


class Memory:
    """What was worked out for the last few sizes and lengths; safe to use from several threads."""

    def __init__(self, keep: int = 16):
        self._keep, self._kept, self._lock = keep, OrderedDict[Any, Any](), Lock()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what is kept under a key, or make it; of two threads that make it at once the later one's is kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self._keep:
                self._kept.popitem(last=False)
        return made
