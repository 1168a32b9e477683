"""Kernels on an NVIDIA GPU: compiled by NVRTC when they are needed, for the card that is there."""

# CUDA's bindings say of most of their functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

import ctypes
import functools
import importlib
import os
from typing import Any

import jax

from gridc.cuda.launching import Kernels
from gridc.cuda.source import Kernel
from gridc.cuda.tiles import Card
from gridc.errors import ResourceError

SWITCH = "GRIDC_GPU_KERNEL"
"""The environment variable that switches these kernels off, where it is 0; where it is 1, they must be there."""
OLDEST = 8
"""The first compute capability that copies to shared memory by itself."""


class Compiler:
    """Compiles kernels with CUDA's NVRTC and loads them with its driver."""

    name, platform = "cuda", "CUDA"
    streams = True

    def __init__(self) -> None:
        self._driver: Any = importlib.import_module("cuda.bindings.driver")
        self._nvrtc: Any = importlib.import_module("cuda.bindings.nvrtc")
        d = self._driver
        self._done(d.cuInit(0))
        device = self._done(d.cuDeviceGet(0))
        ask = d.CUdevice_attribute

        def told(name: str) -> int:
            return int(self._done(d.cuDeviceGetAttribute(getattr(ask, f"CU_DEVICE_ATTRIBUTE_{name}"), device)))

        if told("COMPUTE_CAPABILITY_MAJOR") < OLDEST or not told("COOPERATIVE_LAUNCH"):
            raise RuntimeError(f"this card is older than compute capability {OLDEST}.0")
        self._device = device
        architecture = f"sm_{told('COMPUTE_CAPABILITY_MAJOR')}{told('COMPUTE_CAPABILITY_MINOR')}"
        self.card = Card(told("MULTIPROCESSOR_COUNT"), told("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"), architecture)
        self.launch, self.clear = self._address("cuLaunchCooperativeKernel"), self._address("cuMemsetD32Async")
        self._loaded: list[Any] = []

    def _done(self, answer: Any) -> Any:
        """Give what a function of CUDA's gives; RuntimeError where it failed."""
        code, *rest = answer
        if int(code):
            raise RuntimeError(f"CUDA says {code!r}")
        return rest[0] if len(rest) == 1 else rest

    def _address(self, name: str) -> int:
        return int(ctypes.cast(getattr(ctypes.CDLL("libcuda.so.1"), name), ctypes.c_void_p).value or 0)

    def build(self, kernel: Kernel, name: str) -> int:
        """Compile a kernel and load it; give its handle."""
        d = self._driver
        library = self._done(d.cuLibraryLoadData(self.binary(kernel), [], [], 0, [], [], 0))
        found = self._done(d.cuLibraryGetKernel(library, name.encode()))
        self._loaded += [library, found]
        most = d.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        for index in range(int(self._done(d.cuDeviceGetCount()))):
            self._done(d.cuKernelSetAttribute(most, kernel.shared, found, self._done(d.cuDeviceGet(index))))
        return int(found)

    def binary(self, kernel: Kernel) -> bytes:
        """Compile a kernel to the card's machine code."""
        return compiled(self._nvrtc, kernel, self.card.architecture)


def compiled(nvrtc: Any, kernel: Kernel, architecture: str, *more: str) -> bytes:
    """Compile a kernel to machine code; RuntimeError with the compiler's words where it cannot."""
    options = [f"--gpu-architecture={architecture}", "--std=c++17", *more]
    _, program = nvrtc.nvrtcCreateProgram(kernel.text.encode(), b"gridc.cu", 0, [], [])
    (code,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
    if int(code):
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        log = b" " * size
        nvrtc.nvrtcGetProgramLog(program, log)
        raise RuntimeError(f"NVRTC says: {log.decode(errors='replace')}")
    _, size = nvrtc.nvrtcGetCUBINSize(program)
    binary = b" " * size
    nvrtc.nvrtcGetCUBIN(program, binary)
    nvrtc.nvrtcDestroyProgram(program)
    return binary


@functools.cache
def _on_card() -> Kernels | str:
    """Give the kernels of this process's GPU, or say why there are none."""
    try:
        return Kernels(Compiler())
    except ImportError:
        return 'CUDA\'s bindings are not installed: pip install "gridc[cuda]"'
    except (RuntimeError, OSError) as error:
        return str(error)


def state() -> str:
    """Say in words whether sweeps run as kernels of gridc's own here, or why they do not."""
    if os.environ.get(SWITCH) == "0":
        return f"XLA's loops, since {SWITCH} is 0"
    found = _on_card()
    return f"XLA's loops: {found}" if isinstance(found, str) else f"gridc's own kernels, {found.launcher.card.architecture}"


def kernels() -> Kernels | None:
    """Give the kernels of JAX's default device; None where it is no GPU, or they are switched off or cannot be had.

    Raises ResourceError where they are asked for by ``SWITCH=1`` and cannot be had."""
    asked = os.environ.get(SWITCH)
    if asked == "0" or jax.default_backend() != "gpu":
        return None
    found = _on_card()
    if not isinstance(found, str):
        return found
    if asked:
        raise ResourceError(f"{SWITCH}={asked} asks for kernels that cannot be had here: {found}")
    return None
