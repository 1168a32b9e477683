"""The table of backends: which PyTensor mode runs a grid, and what must be installed for it.

PyTensor is imported late, after ``prepare`` has given it a compile cache that can be written to.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gridc.errors import ResourceError, UsageError, listed, nearest
from gridc.locks import Lock
from gridc.resources import cache_folder

INPLACE = "gridc_inplace"
"""The tag of the rewrite that lets an adjoint use up its tape."""
SETTINGS = Lock()
"""Held while PyTensor's settings are others for a while: all threads see them."""
UFUNCS = "gridc_ufuncs"
"""The tag of the rewrites that call NumPy's functions at once."""

SCANS = ("scan", "local_inplace_setsubtensor", "local_inplace_AdvancedIncSubtensor1", "local_inplace_AdvancedIncSubtensor",
         "local_subtensor_of_alloc", "scan_save_mem_no_prealloc")  # fmt: skip
"""Those of PyTensor's rewrites without which a Scan keeps whatever it ever computed, and changes a part of an array in a copy."""
COPIES = "scan_save_mem_prealloc"
"""The tag of the one that lets a Scan write its state to an array that is made before, whither our steps would copy it."""


@dataclass(frozen=True)
class Backend:
    """One way to run a lowered graph.  ``static``: shapes are fixed when it compiles; each new size, or
    bucket of sizes where the sweep is fused, compiles again."""

    name: str
    text: str
    mode: Callable[[], Any]
    needs: tuple[str, ...] = ()
    extra: str = ""
    static: bool = False
    lowerings: tuple[str, ...] = ("fused", "plain")
    inner: Callable[[], Any] | None = None

    @property
    def scan(self) -> Any:
        """The mode of a Scan's inner graph; None where it is that of the function around it."""
        return None if self.inner is None else self.inner()

    def missing(self) -> tuple[str, ...]:
        """List the packages or programs that it needs and that are not there."""
        import shutil

        return tuple(n for n in self.needs if importlib.util.find_spec(n) is None and not (n == "g++" and shutil.which(n)))


@functools.cache
def _python() -> Any:
    """Glue in Python around Ops that bring their own kernels; nothing is compiled, and buffers last between calls."""
    from pytensor.compile.mode import Mode
    from pytensor.graph.rewriting.db import RewriteDatabaseQuery
    from pytensor.link.vm import VMLinker

    linker = VMLinker(allow_gc=False, use_cloop=False, c_thunks=False)
    return Mode(linker, RewriteDatabaseQuery(include=["fast_compile", "py_only", *SCANS, INPLACE, UFUNCS], exclude=[COPIES]))


@functools.cache
def _jax() -> Any:
    """PyTensor's JAX linker, with dtypes that stay what they are."""
    from gridc.symbolic.accumulators import jax_mode

    return jax_mode()


def _predefined(name: str) -> Callable[[], Any]:
    def mode() -> Any:
        modes: Any = importlib.import_module("pytensor.compile.mode")
        return modes.get_mode(name)

    return mode


BACKENDS: Mapping[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend("python", "PyTensor's Python linker around compiled kernels; builds at once", _python, inner=_python),
        Backend("c", "PyTensor's C linker; needs a C++ compiler and builds for about a minute", _predefined("CVM"), ("g++",)),
        Backend("numba", "PyTensor's Numba linker; builds for one to two minutes", _predefined("NUMBA"), ("numba",),
                lowerings=("fused",)),  # 3.0.7's Numba linker gives wrong states where a Scan and its gradient are one function
        Backend("jax", "JAX on CPU, GPU or TPU; compiles once for sizes that are near each other", _jax, ("jax",), "jax", True,
                inner=_jax),
    )
}


def backend(name: str) -> Backend:
    """Give the row of a backend (``auto`` is ``python``).

    Raises UsageError where there is no such row, ResourceError where something that it needs is not installed."""
    if name != "auto" and name not in BACKENDS:
        raise UsageError(f"there is no backend '{name}'; expected {listed(('auto', *BACKENDS))}{nearest(name, BACKENDS)}")
    row = BACKENDS["python" if name == "auto" else name]
    missing = row.missing()
    if missing:
        how = f"pip install 'gridc[{row.extra}]'" if row.extra else f"install {listed(missing, 'and')}"
        raise ResourceError(f"the backend '{row.name}' needs {listed(missing, 'and')}, which is not installed; {how}")
    return row


@functools.cache
def prepare() -> None:
    """Give PyTensor, if nobody has imported it yet, a compile cache that can be written to.

    PyTensor fails at import where the home folder is read-only; and its warning about BLAS concerns C code that gridc does
    not generate."""
    if "pytensor" in sys.modules:
        return
    flags = os.environ.get("PYTENSOR_FLAGS", "")
    if "compiledir" not in flags:
        flags = ",".join(filter(None, [flags, f"base_compiledir={cache_folder('pytensor')}"]))
    os.environ["PYTENSOR_FLAGS"] = flags
    try:
        pytensor: Any = importlib.import_module("pytensor")
        _ = pytensor.config.compiledir  # made when it is first asked for
    except Exception as error:  # of any setting of its own: a folder, a flag, a file
        why = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise ResourceError(f"PyTensor does not start: {why}. PYTENSOR_FLAGS is '{flags}'.") from error
