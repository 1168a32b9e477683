"""Files that are written whole or not at all, what the system said of one as a sentence, and a hash of arrays."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gridc.errors import DataError, ResourceError
from gridc.resources import located

Array = NDArray[Any]

TEMPORARY = ".part"

class DiskFull(ResourceError):
    """The disk had no room for a file."""


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)

def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Put the content at that path, whole or not at all, and on the disk before it returns.

    ResourceError, as a sentence, where the disk is full or the folder cannot be written; the old file is then as it was.
    """
    path = located(path)
    content = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise trouble(error, path, "written") from error


def read_bytes(path: Path) -> bytes:
    """Read the file's bytes; DataError where there is none to read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None


def locked(file: IO[Any], wait: bool = False) -> bool:
    """Take the lock of an open file, which the system lets go when the process ends however it ends, or when the file is closed;
    False where another has it, for which ``wait`` waits.  ResourceError where the folder has no locks."""
    try:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        else:
            import msvcrt

            file.seek(0)
            mode = msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK  # pyright: ignore  # Windows only
            msvcrt.locking(file.fileno(), mode, 1)  # pyright: ignore  # Windows only
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        raise ResourceError(f"The folder cannot be locked against a second training: {error.strerror}.") from error
    return True


def trouble(error: OSError, path: Path, done: str) -> ResourceError:
    """Say what the system said, as a sentence about the path."""
    if error.errno in FULL:
        return DiskFull(f"{path} could not be {done}: the disk is full; what was there before is untouched.")
    if error.errno in DENIED:
        return ResourceError(f"{path} could not be {done}: the folder {path.parent} is read-only for this user.")
    return ResourceError(f"{path} could not be {done}: {error.strerror or error}.")


def hash_of(parameters: Mapping[str, Array]) -> str:
    """Hash parameters by sha256: equal for equal names, types, shapes and bits."""
    return sha256_of("", {name: little_endian(array) for name, array in parameters.items()})


def sha256_of(text: str, tensors: Mapping[str, Array]) -> str:
    """Hash a text and little-endian arrays: their names, types, shapes and bytes, whatever order they are in."""
    total = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        array = tensors[name]
        total.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.reshape(-1).view(np.uint8).data if array.size else b"")
    return total.hexdigest()


def little_endian(array: Array) -> Array:
    """C order and little-endian: the same bytes on every machine."""
    # asarray keeps a single number's shape (), which ascontiguousarray would make (1,).
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut; Windows neither can nor need."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
