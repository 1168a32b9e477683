"""How XLA comes to a kernel of ours: one handler of its foreign function interface, compiled here, and a table of kernels.

The handler finds the kernel by the number in the call's attribute, collects the addresses of arguments and results, in order,
and launches.  It is written for the interface's C structures (``xla/ffi/api/c_api.h`` in jaxlib), word by word.
"""

# JAX and Numba say of most of their functions neither what they take nor what they give.
# pyright: basic, reportCallIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from gridc.cuda.source import Kernel
from gridc.cuda.tiles import Card
from gridc.fusion.native import intrinsic, word
from gridc.locks import Lock

TARGET = "gridc_persistent_kernel"
MOST = 4096
"""Kernels of one process."""
# Words of XLA_FFI_CallFrame, of its extension about metadata, of XLA_FFI_Buffer and of XLA_FFI_Api.
EXTENSION, API, CONTEXT, STAGE, ARGUMENTS, RESULTS, ATTRIBUTES = 1, 2, 3, 4, 7, 12, 20
METADATA, VERSION, TRAITS = 3, 3, 4
DATA, ERROR_CREATE, STREAM_GET = 3, 6, 10
ABOUT, EXECUTE, INTERNAL = 1, 3, 13
"""The type of that extension, the stage in which a handler runs, the code of an error."""
DIGEST, FUNCTION, BLOCKS, THREADS, SHARED = range(5)
"""Words of a line of the table of kernels."""


class Launcher(Protocol):
    """Where kernels run: what they are made for, and how one is built."""

    name: str
    platform: str
    """JAX's name of it."""
    streams: bool
    """Whether XLA has a stream there, on which to launch."""
    card: Card
    launch: int
    """The address of ``cuLaunchCooperativeKernel``, or of what takes the same."""
    clear: int
    """The address of ``cuMemsetD32Async``, or of what takes the same."""

    def build(self, kernel: Kernel, name: str) -> int:
        """Compile a kernel; give its address."""
        ...


@intrinsic
def _call(typing, function, arguments):  # type: ignore[no-untyped-def]
    """Call what lies at an address with a tuple of words, and give the word that it returns."""

    def code(context, builder, signature, given):  # type: ignore[no-untyped-def]
        values = cgutils.unpack_tuple(builder, given[1])
        kind = ir.FunctionType(ir.IntType(64), [ir.IntType(64)] * len(values))
        return builder.call(builder.inttoptr(given[0], kind.as_pointer()), values)

    return types.intp(types.intp, arguments), code


@intrinsic
def _write(typing, address, index, value):  # type: ignore[no-untyped-def]
    """Write the 64-bit integer number ``index`` at this address."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        builder.store(arguments[2], builder.gep(pointer, [arguments[1]]))
        return context.get_dummy_value()

    return types.none(types.intp, types.intp, types.intp), code


def interface() -> tuple[int, int]:
    """Give the version of XLA's interface that this jaxlib has."""
    text = (Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h").read_text()
    major, minor = (int(re.findall(rf"#define XLA_FFI_API_{part} (\d+)", text)[0]) for part in ("MAJOR", "MINOR"))
    return major, minor


def handler(launcher: Launcher, table: np.ndarray) -> Any:
    """Compile the handler for kernels in this table, ``[kernels, 5]``."""
    major, minor = interface()
    version, kernels, count = major | minor << 32, table.ctypes.data, len(table)
    launch, clear, width, streams = launcher.launch, launcher.clear, table.shape[1], launcher.streams
    message = np.frombuffer(b"a kernel of gridc could not be launched\0", np.uint8)
    text, low = message.ctypes.data, (1 << 32) - 1

    @numba.cfunc(types.intp(types.intp), nopython=True)
    def handle(frame):  # type: ignore[no-untyped-def]
        extension = word(frame, EXTENSION)
        if extension != 0 and word(extension, 1) & low == ABOUT:
            metadata = word(extension, METADATA)
            _write(metadata, VERSION, version)
            _write(metadata, TRAITS, word(metadata, TRAITS) & ~low)
            return 0
        if word(frame, STAGE) & low != EXECUTE:
            return 0
        digest = word(word(word(word(frame, ATTRIBUTES), 0), 1), 0)
        line = kernels
        for k in range(count):
            line = kernels + 8 * width * k
            if word(line, DIGEST) == digest:
                break
        first, second = word(frame, ARGUMENTS), word(frame, RESULTS)
        pointers = np.empty(first + second, np.int64)
        for k in range(first):
            pointers[k] = word(word(word(frame, ARGUMENTS + 2), k), DATA)
        for k in range(second):
            pointers[first + k] = word(word(word(frame, RESULTS + 2), k), DATA)
        asked = np.zeros(4, np.int64)
        asked[0], asked[2] = 32, word(frame, CONTEXT)
        api = word(frame, API)
        failed = _call(word(api, STREAM_GET), (asked.ctypes.data,)) if streams else 0
        if failed != 0:
            return failed
        parameters = np.empty(1, np.int64)
        parameters[0] = pointers.ctypes.data
        wrong = _call(clear, (pointers[first + second - 1], 0, 1, asked[3])) & low
        if wrong == 0:
            wrong = _call(launch, (word(line, FUNCTION), word(line, BLOCKS), 1, 1, word(line, THREADS), 1, 1, word(line, SHARED),
                                   asked[3], parameters.ctypes.data)) & low  # fmt: skip
        if wrong != 0:
            told = np.zeros(4, np.int64)
            told[0], told[2], told[3] = 28, text, INTERNAL
            return _call(word(api, ERROR_CREATE), (told.ctypes.data,))
        return 0

    handle.kept = message  # type: ignore[attr-defined]
    return handle


class Kernels:
    """The kernels of this process on one launcher: built once each, and called from JAX."""

    def __init__(self, launcher: Launcher):
        self.launcher = launcher
        self._table = np.zeros((MOST, 5), np.int64)
        self._known: dict[int, int] = {}
        self._lock = Lock()

    @functools.cached_property
    def _target(self) -> str:
        self._handler = handler(self.launcher, self._table)
        name = f"{TARGET}_{self.launcher.name}"
        capsule = jax.ffi.pycapsule(self._handler.ctypes)
        jax.ffi.register_ffi_target(name, capsule, platform=self.launcher.platform)
        return name

    def number(self, kernel: Kernel, name: str) -> int:
        """Give the number of a kernel, built at its first call."""
        digest = int.from_bytes(hashlib.blake2b(kernel.text.encode(), digest_size=7).digest(), "little")
        with self._lock:
            if digest not in self._known:
                line = self._table[len(self._known)]
                function = self.launcher.build(kernel, name)
                line[1:] = function, kernel.blocks, kernel.threads, kernel.shared
                line[DIGEST] = digest
                self._known[digest] = function
        return digest

    def call(
        self, kernel: Kernel, name: str, arguments: Sequence[Any], results: Sequence[Any], aliases: dict[int, int]
    ) -> list[Any]:  # fmt: skip
        """Give the results of a kernel, shaped like ``results``, but for the counter of meetings, the last of its pointers;
        ``aliases`` says which argument's memory becomes which result's."""
        number, target = self.number(kernel, name), self._target
        whole = [*results, jax.ShapeDtypeStruct((1,), np.dtype("uint32"))]
        run: Callable[..., Any] = jax.ffi.ffi_call(target, whole, input_output_aliases=aliases)
        return list(run(*arguments, kernel=np.int64(number)))[:-1]
