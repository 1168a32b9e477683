"""The column: YAML text → GridSpec → step graph → schedule → PyTensor graph → compiled functions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from gridc import backends
from gridc.errors import UsageError
from gridc.reader import read
from gridc.spec import GridSpec

if TYPE_CHECKING:
    from gridc.grid import Grid


def compile(
    spec: GridSpec | str | os.PathLike[str],
    backend: str = "auto",
    lowering: Literal["auto", "plain", "fused"] = "auto",
    dtype: Literal["float32", "float64"] = "float32",
    seed: int = 0,
    progress: bool = False,
) -> Grid:
    """Compile a spec (or a path to one, or its text) into functions.

    ``backend`` is a row of ``gridc.backends.BACKENDS``; ``lowering`` is ``fused``, one Op for the whole sweep, or ``plain``,
    one Scan over wavefronts; ``seed`` draws the parameters.  With ``progress``, lines on stderr say what is being built.
    Raises SpecError, UsageError, or ResourceError where the backend is not installed."""
    spec = spec if isinstance(spec, GridSpec) else read(spec)
    row = backends.backend(backend)
    if dtype not in ("float32", "float64"):
        raise UsageError(f"found the dtype {dtype!r}; expected 'float32' or 'float64'")
    if lowering not in ("auto", "plain", "fused"):
        raise UsageError(f"found the lowering {lowering!r}; expected 'auto', 'plain' or 'fused'")
    if lowering != "auto" and lowering not in row.lowerings:
        raise UsageError(f"the backend '{row.name}' cannot run the {lowering} lowering; expected lowering='plain'")
    if not spec.inputs or not spec.outputs:
        missing = "inputs" if not spec.inputs else "outputs"
        raise UsageError(f"the spec '{spec.name}' has no {missing}: its schedule can be seen, but there is nothing to compile")
    backends.prepare()
    from gridc.grid import Grid

    return Grid(spec, row, lowering if lowering != "auto" or "fused" in row.lowerings else "plain", dtype, seed, progress)
