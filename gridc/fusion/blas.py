"""The matrix product that NumPy itself uses, as an address that compiled code can call, and the threads of its pool.

A process usually holds several BLAS libraries (NumPy's, SciPy's), each with its own pool of threads; two pools that
take turns are slow.  Everything here comes from one library: NumPy's, where its symbols can be seen through NumPy's own
extension module (whatever the library's file is called), else the one that ``scipy.linalg.cython_blas`` exports.
Every candidate must multiply a few small matrices correctly before it is trusted.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from gridc.locks import Lock

LETTERS = {"float32": "s", "float64": "d"}
_GEMM = ("scipy_{}gemm_64_", "scipy_{}gemm_", "{}gemm_64_", "{}gemm64_", "{}gemm_64", "{}gemm$NEWLAPACK$ILP64", "{}gemm_")
_THREADS = (
    ("scipy_openblas_set_num_threads64_", "scipy_openblas_get_num_threads64_"),
    ("scipy_openblas_set_num_threads", "scipy_openblas_get_num_threads"),
    ("openblas_set_num_threads64_", "openblas_get_num_threads64_"),
    ("openblas_set_num_threads", "openblas_get_num_threads"),
    ("MKL_Set_Num_Threads", "MKL_Get_Max_Threads"),
    ("bli_thread_set_num_threads", "bli_thread_get_num_threads"),
)


@dataclass(frozen=True)
class Library:
    """One BLAS: where its symbols were found, the gemm of each type, and how its threads are counted."""

    origin: str
    gemm: dict[str, int]
    set_threads: Callable[[int], Any]
    get_threads: Callable[[], int]


@functools.cache
def library() -> Library:
    """Give the BLAS in use, found once in a process."""
    for find in (_numpy_symbols, _scipy_symbols):
        try:
            origin, gemm, handle = find()
        except (ImportError, OSError, AttributeError, KeyError):
            continue
        if len(gemm) == len(LETTERS):
            return Library(origin, gemm, *_thread_control(handle))
    raise RuntimeError("no BLAS was found: neither NumPy's nor SciPy's matrix product can be called by address")


def _numpy_symbols() -> tuple[str, dict[str, int], ctypes.CDLL]:
    import numpy._core._multiarray_umath as extension

    handle = ctypes.CDLL(extension.__file__)
    found: dict[str, int] = {}
    for pattern in _GEMM:
        for dtype, letter in LETTERS.items():
            symbol = getattr(handle, pattern.format(letter), None)
            if dtype not in found and symbol is not None:
                address = ctypes.cast(symbol, ctypes.c_void_p).value
                if address and _multiplies(address, dtype):
                    found[dtype] = address
        if len(found) == len(LETTERS):
            break
    return "numpy", found, handle


def _scipy_symbols() -> tuple[str, dict[str, int], ctypes.CDLL]:
    cython_blas: Any = importlib.import_module("scipy.linalg.cython_blas")

    name, pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    found: dict[str, int] = {}
    for dtype, letter in LETTERS.items():
        capsule = cython_blas.__pyx_capi__[f"{letter}gemm"]
        address = pointer(capsule, name(capsule))
        if address and _multiplies(address, dtype):
            found[dtype] = address
    return "scipy", found, ctypes.CDLL(cython_blas.__file__)


def _multiplies(address: int, dtype: str) -> bool:
    """Tell whether this is a gemm: ``C = 2 op(A) op(B) + 3 C`` for small matrices of distinct sizes, every pair of transposes."""
    gemm = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 13)(address)
    m, n, k = 3, 4, 5
    random = np.random.default_rng(0)

    def one(value: int, kind: Any) -> np.ndarray[Any, Any]:
        return np.array([value], kind)

    for left in "NT":
        for right in "NT":
            a = random.integers(-4, 5, (m, k) if left == "N" else (k, m)).astype(dtype)
            b = random.integers(-4, 5, (k, n) if right == "N" else (n, k)).astype(dtype)
            c = random.integers(-4, 5, (m, n)).astype(dtype)
            expected = 2 * (a if left == "N" else a.T) @ (b if right == "N" else b.T) + 3 * c
            letters = [np.frombuffer(letter.encode(), np.uint8) for letter in (right, left)]
            sizes = [one(size, np.int64) for size in (n, m, k, b.shape[1], a.shape[1], n)]
            alpha, beta = one(2, dtype), one(3, dtype)
            arguments = (*letters, *sizes[:3], alpha, b, sizes[3], a, sizes[4], beta, c, sizes[5])
            gemm(*[argument.ctypes.data for argument in arguments])
            if not np.array_equal(c, expected):
                return False
    return True


def _thread_control(handle: ctypes.CDLL) -> tuple[Callable[[int], Any], Callable[[], int]]:
    for set_name, get_name in _THREADS:
        setter, getter = getattr(handle, set_name, None), getattr(handle, get_name, None)
        if setter is not None and getter is not None:
            setter.argtypes, setter.restype = [ctypes.c_int], None
            getter.argtypes, getter.restype = [], ctypes.c_int
            return setter, getter
    try:
        threadpoolctl: Any = importlib.import_module("threadpoolctl")
    except ImportError:
        return (lambda count: None), (lambda: 1)
    pools: list[Any] = [pool for pool in threadpoolctl.ThreadpoolController().lib_controllers if pool.user_api == "blas"]

    def set_all(count: int) -> None:
        for pool in pools:
            pool.set_num_threads(count)

    return set_all, lambda: max((pool.get_num_threads() or 1 for pool in pools), default=1)


def default_threads() -> int:
    """Count the threads of the pool, now or as they were before it was held to one."""
    with _lock:
        return _before if _depth else library().get_threads()


_lock = Lock()
_depth = 0
_before = 1


@contextmanager
def single_threaded() -> Generator[None]:
    """Hold the pool to one thread; whoever leaves last, of all the threads of this process, restores what was before."""
    global _depth, _before
    pool = library()
    with _lock:
        if _depth == 0:
            _before = pool.get_threads()
            if _before != 1:
                pool.set_threads(1)
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth = max(0, _depth - 1)  # a child that was forked in here begins at none
            if _depth == 0 and _before != 1:
                pool.set_threads(_before)


def _alone() -> None:
    """In a forked child: threads that held the pool to one are not there to restore what was before."""
    global _depth
    if _depth and _before != 1:
        library().set_threads(_before)
    _depth = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_alone)
