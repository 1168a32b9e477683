"""Numba's cache of machine code, which neither a damaged file nor a full disk can stop: what cannot be read is built again.

Numba itself unpickles whatever lies there.  Here every entry ends in its sha256, so that a cut, an empty or a changed file is
seen, dropped and written anew.
"""

# pyright: basic

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any, cast

from numba.core import caching, ccallback, config, dispatcher  # pyright: ignore[reportMissingTypeStubs]

from gridc.errors import ResourceError

SUM = hashlib.sha256().digest_size
_told: set[str] = set()


class Entries(caching.IndexDataCacheFile):
    """The files of one function, with the hash of their content behind it, which pickle does not look at."""

    def _dump(self, obj: Any) -> bytes:
        content = super()._dump(obj)
        return content + hashlib.sha256(content).digest()

    def _load_data(self, name: str) -> Any:
        with open(self._data_path(name), "rb") as file:
            content = file.read()
        if hashlib.sha256(content[:-SUM]).digest() != content[-SUM:]:
            raise ValueError(f"{name} is damaged")
        return super()._load_data(name)

    def drop(self) -> None:
        """Forgets all that was kept."""
        with suppress(OSError):
            os.unlink(self._index_path)


class Kept(caching.FunctionCache):
    """A function's cache that is as good as empty where it cannot be read, and says once where it cannot be written."""

    def __init__(self, py_func: Any):
        super().__init__(py_func)
        path, name = self._cache_path, self._impl.filename_base
        self._cache_file = Entries(path, name, self._impl.locator.get_source_stamp())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Read an entry, unless it is damaged: then it is as if it were not there."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # whatever unpickling garbage raises
            self._cache_file.drop()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write an entry, or say once why it cannot be kept."""
        try:
            super().save_overload(sig, data)
        except Exception as error:  # of the disk, or of an index that cannot be read
            self._cache_file.drop()
            cannot_keep(self._cache_path, error)


def cannot_keep(folder: str, error: Exception) -> None:
    """Says, once a process, that the next one will have to build again."""
    if not _told:
        _told.add(folder)
        why = (isinstance(error, OSError) and error.strerror) or str(error)
        print(f"gridc: compiled kernels cannot be kept in {folder} ({why}); they are built again in the next process.",
              file=sys.stderr)  # fmt: skip


def _made(py_func: Any) -> Any:
    try:
        return Kept(py_func)
    except RuntimeError:  # there is no folder for it
        return caching.NullCache()


@contextmanager
def kept() -> Generator[None]:
    """Functions that are decorated with ``cache=True`` inside have such a cache.

    Numba offers no way to choose it, so that its name is another for a while; whoever holds a lock around this is alone.
    Raises ResourceError where Numba is told to compile nothing."""
    if cast(Any, config).DISABLE_JIT:
        raise ResourceError("Numba compiles nothing while NUMBA_DISABLE_JIT is set, and the fused lowering is made of what it "
                            "compiles; unset NUMBA_DISABLE_JIT, or take the plain lowering (--lowering plain)")  # fmt: skip
    holders: tuple[Any, ...] = (ccallback, dispatcher)
    before = [holder.FunctionCache for holder in holders]
    for holder in holders:
        holder.FunctionCache = _made
    try:
        yield
    finally:
        for holder, one in zip(holders, before, strict=True):
            holder.FunctionCache = one
