"""The column: YAML text → GridSpec → target and numbers → grid; and for given sizes → graph → schedule → plan → program.

``compile`` is the first line of it, four calls; ``STAGES`` are the places where ``gridc show --at`` stops.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from gridc.arrays.signature import Signature
from gridc.errors import DataError
from gridc.language.spec import GridSpec
from gridc.options import MOST_THREADS, integer
from gridc.parameters import initial
from gridc.scheduler import Schedule
from gridc.scheduling import tiles
from gridc.scheduling.check import asked, parse, read
from gridc.symbolic import backends

if TYPE_CHECKING:
    from gridc.fusion.pipeline import Stage
    from gridc.grid import Grid
    from gridc.symbolic.lowering import Symbols


def compile(
    spec: GridSpec | str | os.PathLike[str],
    backend: str = "auto",
    lowering: Literal["auto", "plain", "fused"] = "auto",
    dtype: Literal["float32", "float64", "bfloat16"] = "float32",
    seed: int = 0,
    progress: bool = False,
    eager: bool = True,
    recompute: bool = False,
    cells: Mapping[str, Mapping[str, Any]] | None = None,
    schedule: Mapping[str, Any] | str | None = None,
    devices: int = 1,
    threads: int | None = None,
    stage: Stage | None = None,
) -> Grid:
    """Compile a spec into functions, with fresh parameters.

    Args:
        spec: What to compile: a ``GridSpec``, the path of a page of YAML, or its text.
        backend: A row of ``gridc.symbolic.backends.BACKENDS``: ``python``, ``c``, ``numba`` or ``jax``; ``auto`` is ``python``.
        lowering: ``fused``, one Op for the whole sweep, or ``plain``, one Scan over wavefronts, several times as slow;
            ``auto`` is ``fused`` where every cell can be, and otherwise says why not in a line on stderr.
        dtype: The type of every real number that goes in, stays or comes out; or ``bfloat16``, which is ``float32`` but that the
            sweep multiplies, forward and back, what bfloat16 holds of numbers, and adds the products up in float32.  The fused
            lowering can do it, faster than in float32 where the processor has AVX512_BF16, elsewhere not.
        seed: Draws the parameters, and the masks of dropout and zoneout; an integer from 0.
        progress: Whether lines on stderr say what is being built.
        eager: Whether all functions are built now, and not each at its first call.
        recompute: Whether training keeps a few rows of each segment of the sweep and runs the segment again on the way back:
            memory grows with the square root of the wavefronts, for a third more time.  The fused lowering can do it.
        schedule: What is asked of the plan, in the words of a page's ``schedule:``, which it comes before: a mapping, or text
            such as ``order=levels,keep=100MB``.
        cells: Cells of one's own, in a page's words by name, beside those of the page.
        devices: How many devices of JAX's share each batch, on the backend ``jax``; the numbers are those of one, to rounding.
        threads: How many threads may share a call, a whole number from 1; None for as many as there are cores for this process,
            by its affinity and its control group.  It changes no bit of what the fused lowering computes.
        stage: This process's place where the grid is cut for several, which all call the same methods at the same time: it has
            its part of what is untied along the cut, and computes its part of the gradients.

    Returns:
        A grid, which takes every batch size and every length of its symbols.

    Raises:
        SpecError: The text means nothing, with line and column.
        UsageError: There is no such backend, lowering or type, or they do not go together.
        ResourceError: The backend is not installed, there are fewer devices, or the parameters do not fit into memory.
    """
    spec = spec if isinstance(spec, GridSpec) else read(spec, cells)
    seed, devices = integer("seed", seed, low=0), integer("devices", devices, low=1)
    dtype = str(getattr(dtype, "__name__", dtype))  # type: ignore[assignment]  # NumPy's own type, checked below
    row = backends.backend(backend)
    backends.prepare()
    from gridc.grid import Grid
    from gridc.symbolic.lowerings import Target

    spec = asked(spec, schedule, recompute)
    threads = None if threads is None else integer("threads", threads, high=MOST_THREADS)
    target = Target.choose(spec, row, lowering, dtype, devices, threads)
    if target.left is not None:
        print(f"gridc: '{spec.name}' takes the slower, plain lowering: {target.left}", file=sys.stderr)
    own = {}
    if stage is not None:
        target, own = target.cut(spec, stage), tiles.mine(spec, stage.cut, stage.rank)
    grid = Grid(spec, target, initial(spec, seed, target.dtype, own), seed, progress)
    return grid.ready() if eager else grid


def load(
    path: str | os.PathLike[str], backend: str = "auto", lowering: Literal["auto", "plain", "fused"] = "auto", devices: int = 1,
    threads: int | None = None,
) -> Grid:  # fmt: skip
    """Load the grid in a model file, compiled for this machine.  Nothing in the file is run.

    Args:
        path: What ``Grid.save`` or a training wrote.
        backend: As for ``compile``; it need not be the one that the model was trained on.
        lowering: As for ``compile``.
        devices: As for ``compile``.
        threads: As for ``compile``.

    Returns:
        The grid, with its parameters in the type in which they were saved, and with its vocabularies.

    Raises:
        DataError: The file is damaged, is no model, or comes from a newer gridc.
        UsageError: There is no such backend or lowering.
        ResourceError: The backend is not installed, or there are fewer devices.
    """
    from gridc import model_file

    model = model_file.load(path)
    grid = compile(parse(model.spec), backend, lowering, model.dtype, eager=False, devices=devices, threads=threads)
    if set(model.parameters) != set(grid.parameters):
        odd = sorted(set(model.parameters) ^ set(grid.parameters))[0]
        raise DataError(f"{path}: its parameters are not those of the spec that it holds; they differ in '{odd}'")
    for name, array in model.parameters.items():
        grid.parameters[name] = array
    grid.vocabularies.update(model.vocabularies)
    grid.signature = Signature.from_json(model.signature)
    return grid


def lower(spec: GridSpec | str | os.PathLike[str], inputs: Mapping[str, Any] | None = None,
          parameters: Mapping[str, Any] | None = None, *, lowering: Literal["auto", "plain", "fused"] = "auto",
          dtype: Literal["float32", "float64", "bfloat16"] = "float32", recompute: bool = False,
          schedule: Mapping[str, Any] | str | None = None, scan: Any = None, **options: Any,
          ) -> Symbols:  # fmt: skip
    """Lower a spec into somebody else's PyTensor graph.

    Args:
        spec: What to lower: a ``GridSpec``, the path of a page of YAML, or its text.
        inputs: Variables by the names of inputs, ``[batch, *over, features]`` or ids ``[batch, *over]``; those that are missing
            are made.
        parameters: Variables by the names of parameters, in their shapes (``gridc.language.shapes.parameter_shapes``); those
            that are missing are made.
        lowering: As for ``compile``.
        dtype: As for ``compile``.
        recompute: As for ``compile``.
        schedule: As for ``compile``.
        scan: The mode of a Scan's inner graph; None for that of the function around it.
        options: Those of ``gridc.symbolic.lowering.lower``.

    Returns:
        Variables by name: ``inputs``, ``parameters``, ``outputs``, ``targets``, ``losses`` and the ``loss``.

    Raises:
        SpecError: The text means nothing.
        UsageError: A name is none of the spec's, or an option is none.
    """
    backends.prepare()
    from gridc.symbolic.lowering import lower as lowered
    from gridc.symbolic.lowerings import kind
    from gridc.symbolic.wiring import Way

    spec = asked(spec if isinstance(spec, GridSpec) else read(spec), schedule, recompute)
    return lowered(spec, inputs, parameters, way=Way(lowering, *kind(dtype), scan), **options)


STAGES: Mapping[str, Callable[[Schedule, int], Any]] = {
    "spec": lambda schedule, batch: schedule.spec,
    "graph": lambda schedule, batch: schedule.graph,
    "schedule": lambda schedule, batch: schedule,
    "plan": lambda schedule, batch: schedule.plan(batch),
    "program": lambda schedule, batch: schedule.plan(batch).listing(),
    "pytensor": lambda schedule, batch: lower(schedule.spec),
}
"""What there is between a page and its functions: for a grid of given sizes and so many examples."""
