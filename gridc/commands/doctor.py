"""``doctor``: what gridc finds on this machine, and what to do about it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from gridc import resources
from gridc.commands.output import as_json, print_json, say, shortened
from gridc.errors import GridcError, ResourceError

EXTRAS = {
    "matplotlib": "plots", "sklearn": "data", "pandas": "data", "pyarrow": "data", "PIL": "data",
    "tensorboard": "tensorboard",
}  # fmt: skip
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
GIGA = 1 << 30
TRIAL = """
name: trial
dimensions: {time: T, depth: 2}
transforms: {depth: {cell: lstm, hidden: 8}, time: {cell: lstm, hidden: 8}}
inputs: {x: {features: 2, enters: depth}}
outputs: {y: {classes: 2, reads: [depth], at: {depth: last, time: last}}}
"""


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what was found, and what to do about it where something should be done.

    ``state`` is ``good``, ``could be better`` or ``wrong``: something that gridc cannot do without.
    """

    what: str
    found: str
    state: str = "good"
    advice: str = ""


def _python() -> Finding:
    found = f"{platform.python_version()} ({sys.executable})"
    return Finding("Python", found)


def _gridc() -> Finding:
    import gridc

    return Finding("gridc", f"{gridc.__version__} ({Path(gridc.__file__).parent})")


def _pytensor() -> Finding:
    from gridc.symbolic import backends

    try:
        version = importlib.metadata.version("pytensor")
        backends.prepare()
        start = time.perf_counter()
        importlib.import_module("pytensor")

        return Finding("PyTensor", f"{version}, imported in {shortened(time.perf_counter() - start)}")
    except Exception as error:  # whatever its import raises is the finding
        return Finding("PyTensor", f"cannot be imported: {error}", "wrong", "pip install 'pytensor>=3.0.7,<4'")


def _backends() -> list[Finding]:
    from gridc.symbolic.backends import BACKENDS

    found: list[Finding] = []
    for row in BACKENDS.values():
        missing = row.missing()
        if not missing:
            found.append(Finding(f"backend {row.name}", row.text))
            continue
        how = f"pip install 'gridc[{row.extra}]'" if row.extra else f"install {' and '.join(missing)}"
        advice = f"Only if you want this backend: {how}."
        what = f"needs {' and '.join(missing)}, which is not installed"
        found.append(Finding(f"backend {row.name}", what, "could be better", advice))
    return found


def _jax() -> list[Finding]:
    """Give the device that the backend jax would use."""
    if importlib.util.find_spec("jax") is None:
        return []
    try:
        jax = importlib.import_module("jax")
        devices: list[str] = [str(device.device_kind) for device in jax.devices()]
        platform: str = jax.devices()[0].platform
    except Exception as error:  # whatever its import raises is the finding
        first = (str(error).splitlines() or [type(error).__name__])[0]
        advice = "Only if you want this backend: pip install -U jax"
        return [Finding("JAX", f"cannot be used: {first}", "could be better", advice)]
    if platform != "cpu":
        found = f"{jax.__version__} on {len(devices)} × {devices[0]}"
        return [Finding("JAX", found + (f"; {_kernels()}" if platform == "gpu" else ""))]
    found = f"{jax.__version__} on the processor: it sees no GPU"
    if shutil.which("nvidia-smi") is None:
        return [Finding("JAX", found)]
    return [Finding("JAX", found, "could be better", "There is a driver for one: pip install 'jax[cuda13]' or 'jax[cuda12]'")]


def _kernels() -> str:
    """Say what runs the sweeps of a GPU."""
    from gridc.cuda import compiler

    return compiler.state()


def _blas() -> Finding:
    from gridc.fusion import blas

    try:
        library = blas.library()
    except RuntimeError as error:
        return Finding("BLAS", str(error), "wrong", "pip install --force-reinstall numpy scipy")
    threads, cores = blas.default_threads(), len(resources.cores())
    found = f"{library.origin}'s, {threads} thread{'s' * (threads != 1)} for {cores} core{'s' * (cores != 1)}"
    held = [f"{name}={os.environ[name]}" for name in THREADS if name in os.environ]
    if held:
        found += f" ({', '.join(held)})"
    if threads > cores:
        advice = f"More threads than cores slow each other: export OPENBLAS_NUM_THREADS={cores}"
        return Finding("BLAS", found, "could be better", advice)
    if threads < cores and held:
        return Finding("BLAS", found, "could be better", f"Cores are left idle: unset {held[0].partition('=')[0]}")
    return Finding("BLAS", found)


def _load() -> Finding:
    cores = len(resources.cores())
    if not hasattr(os, "getloadavg"):
        return Finding("processor", f"{cores} cores")
    busy = os.getloadavg()[0]
    found = f"{cores} cores, load {busy:.1f}"
    if busy > cores + 0.5:
        advice = "Other programs are using the cores; measured speeds will be too low."
        return Finding("processor", found, "could be better", advice)
    return Finding("processor", found)


def _cache() -> Finding:
    from gridc.resources import cache_folder

    folder = cache_folder()
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = f"{folder}, {sum(path.stat().st_size for path in files) / 1e6:,.1f} MB in {len(files):,} files"
    if folder.name.startswith("gridc-") and "GRIDC_CACHE_DIR" not in os.environ:
        advice = "It is a temporary one, so kernels are built again in each process: export GRIDC_CACHE_DIR=/some/folder"
        return Finding("cache folder", found, "could be better", advice)
    return Finding("cache folder", found)


def _memory() -> Finding:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return Finding("memory", "not known on this system")
    found = f"{total / GIGA:.1f} GiB, {free / GIGA:.1f} free"
    if free < GIGA:
        return Finding("memory", found, "could be better", "Close other programs, or train with a smaller --batch.")
    return Finding("memory", found)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    found = f"{free / GIGA:.1f} GiB free in {Path.cwd()}"
    if free < GIGA:
        return Finding("disk", found, "could be better", "Checkpoints need room; train with --folder on another disk.")
    return Finding("disk", found)


def _extras() -> Finding:
    missing = {name: extra for name, extra in EXTRAS.items() if importlib.util.find_spec(name) is None}
    if not missing:
        return Finding("extras", "all there")
    wanted = ",".join(sorted(set(missing.values())))
    return Finding("extras", f"without {', '.join(missing)}", "could be better",
                   f"For curves, .parquet, images or TensorBoard: pip install 'gridc[{wanted}]'")  # fmt: skip


def _trial() -> Finding:
    """Build a small grid, and train it for a step."""
    import gridc

    try:
        import numpy as np

        start = time.perf_counter()
        grid = gridc.compile(TRIAL)
        grid.training_step("adam")({"x": np.zeros((2, 3, 2), "float32")}, {"y": np.zeros(2, "int64")})
        return Finding("a small grid", f"built and trained for a step in {shortened(time.perf_counter() - start)}")
    except GridcError as error:  # its sentence says what to do
        return Finding("a small grid", str(error), "wrong")
    except Exception as error:  # whatever it is, it is the finding
        advice = "Please report this with the output of gridc doctor --json."
        return Finding("a small grid", f"{type(error).__name__}: {error}", "wrong", advice)


def _plan() -> Finding:
    """Verify what the fused sweep would run: everything that is read is there before, and nothing is made twice."""
    from gridc.scheduler import Schedule
    from gridc.scheduling.check import asked, parse

    steps = 0
    spec = parse(TRIAL)
    for recompute in (False, True):
        plan = Schedule(asked(spec, None, recompute), spec.sizes(dict.fromkeys(spec.symbols, 9))).plan(4, 2).verify()
        steps += sum(len(segment.program.instructions) for segment in plan.sweep.segments)
    return Finding("plans", f"{steps} instructions in order, whole and in segments")


LOOKS: tuple[Callable[[], Finding | list[Finding]], ...] = (
    _python, _gridc, _load, _memory, _disk, _cache, _blas, _pytensor, _backends, _jax, _extras, _plan, _trial)  # fmt: skip


def _messages() -> Finding:
    """Measure what messages between two processes cost, for ``gridc schedule --ranks``."""
    from gridc.benchmarks import messages

    found = messages.measure()
    told = f"{1e6 * found.latency:.3g} µs and {found.bandwidth / 1e9:.3g} GB/s between two processes"
    told += f", which compute at {found.pace:.2f} times the cost model's seconds"
    return Finding("messages", f"{told}; gridc schedule --ranks goes by it")


@click.command()
@click.option("--mpi", is_flag=True, help="Also measure messages between two processes (gridc[mpi]).")
@as_json
def doctor(mpi: bool, json_: bool) -> None:
    """Look at this machine and say what to do about it."""
    findings: list[Finding] = []
    for look in (*LOOKS, *([_messages] if mpi else [])):
        try:
            found = look()
        except (GridcError, OSError) as error:
            found = Finding(look.__name__.strip("_"), str(error), "could be better")
        for one in found if isinstance(found, list) else [found]:
            findings.append(one)
            if not json_:
                _show(one)
    if json_:
        print_json({"findings": [asdict(one) for one in findings], "good": all(one.state != "wrong" for one in findings)})
    wrong = [one.what for one in findings if one.state == "wrong"]
    if wrong:
        raise ResourceError(f"gridc cannot work here before this is mended: {', '.join(wrong)}.")
    if not json_:
        say("gridc works here.")


def _show(one: Finding) -> None:
    mark = {"good": "✓", "could be better": "·", "wrong": "✗"}[one.state]
    click.echo(f"{mark} {one.what:<15} {one.found}")
    if one.advice:
        click.echo(f"  {'':<15} → {one.advice}")
