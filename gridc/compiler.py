"""The column: YAML text → GridSpec → target and numbers → grid; and for given sizes → graph → schedule → plan → program.

``compile`` is the first line of it, four calls; ``STAGES`` are the places where ``gridc show --at`` stops.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from gridc.arrays.signature import Signature
from gridc.errors import DataError
from gridc.language.spec import GridSpec
from gridc.options import integer
from gridc.parameters import initial
from gridc.scheduler import Schedule
from gridc.scheduling.check import parse, read
from gridc.symbolic import backends

if TYPE_CHECKING:
    from gridc.grid import Grid
    from gridc.symbolic.lowering import Symbols


def compile(
    spec: GridSpec | str | os.PathLike[str],
    backend: str = "auto",
    lowering: Literal["auto", "plain", "fused"] = "auto",
    dtype: Literal["float32", "float64"] = "float32",
    seed: int = 0,
    progress: bool = False,
    eager: bool = True,
    recompute: bool = False,
) -> Grid:
    """Compile a spec (or a path to one, or its text) into functions.

    ``backend`` is a row of ``gridc.symbolic.backends.BACKENDS``; ``lowering`` is ``fused``, one Op for the whole sweep, or
    ``plain``, one Scan over wavefronts; ``seed`` draws the parameters.  With ``progress``, lines on stderr say what is
    being built; with ``eager=False`` a function is built when it is first called.  With ``recompute``, training keeps a few
    rows of each segment of the sweep and runs the segment again on the way back: memory grows with the square root of the
    wavefronts, for a third more time; the fused lowering can do it.
    Raises SpecError, UsageError, or ResourceError where the backend is not installed."""
    spec = spec if isinstance(spec, GridSpec) else read(spec)
    seed = integer("seed", seed, low=0)
    dtype = str(getattr(dtype, "__name__", dtype))  # type: ignore[assignment]  # NumPy's own type, checked below
    row = backends.backend(backend)
    backends.prepare()
    from gridc.grid import Grid
    from gridc.symbolic.lowerings import Target

    target = Target.choose(spec, row, lowering, dtype, recompute)
    grid = Grid(spec, target, initial(spec, seed, dtype), seed, progress)
    return grid.ready() if eager else grid


def load(path: str | os.PathLike[str], backend: str = "auto", lowering: Literal["auto", "plain", "fused"] = "auto") -> Grid:
    """Load the grid in a model file, compiled for this machine.

    Raises DataError where the file is damaged, is no model, or comes from a newer gridc."""
    from gridc import model_file

    model = model_file.load(path)
    dtype = str(next(iter(model.parameters.values())).dtype) if model.parameters else "float32"
    grid = compile(parse(model.spec), backend, lowering, "float64" if dtype == "float64" else "float32", eager=False)
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
          dtype: Literal["float32", "float64"] = "float32", recompute: bool = False, scan: Any = None, **options: Any,
          ) -> Symbols:  # fmt: skip
    """Lower a spec into somebody else's PyTensor graph.

    ``lowering``, ``dtype`` and ``recompute`` are those of ``compile``, ``scan`` is the mode of a Scan's inner graph; all else,
    and what is raised, is that of ``gridc.symbolic.lowering.lower``."""
    backends.prepare()
    from gridc.symbolic.lowering import lower as lowered
    from gridc.symbolic.wiring import Way

    way = Way(lowering, dtype, recompute, scan)
    return lowered(spec if isinstance(spec, GridSpec) else read(spec), inputs, parameters, way=way, **options)


STAGES: Mapping[str, Callable[[Schedule, int], Any]] = {
    "spec": lambda schedule, batch: schedule.spec,
    "graph": lambda schedule, batch: schedule.graph,
    "schedule": lambda schedule, batch: schedule,
    "plan": lambda schedule, batch: schedule.plan(batch),
    "program": lambda schedule, batch: schedule.plan(batch).listing(),
    "pytensor": lambda schedule, batch: lower(schedule.spec),
}
"""What there is between a page and its functions: for a grid of given sizes and so many examples."""
