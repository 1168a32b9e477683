"""The table of lowerings, ways to make a graph of a sweep; and the target that a spec is compiled for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gridc.errors import UsageError, listed
from gridc.fusion import blas
from gridc.fusion.pipeline import Stage
from gridc.language.directives import amount
from gridc.language.spec import Directives, GridSpec
from gridc.scheduling import counts
from gridc.symbolic import device, fused, loops, plain, plans, products, scatters, slots, ufuncs
from gridc.symbolic.backends import Backend
from gridc.symbolic.indices import Sizes
from gridc.symbolic.wiring import Variable, Way, Wiring

for _rewrites in (loops, products, scatters, ufuncs):  # for the backend 'python', whatever is lowered
    _rewrites.register()
DTYPES = ("float32", "float64")
"""Those of all the numbers of a grid."""
NARROW = {"bfloat16": "float32"}
"""What its products can take their operands in instead, and the type of everything else."""
Swept = tuple[dict[str, list[Variable]], list[Variable]]
"""What every output reads, and the index arrays that were made for it."""


@dataclass(frozen=True)
class Lowering:
    """One way to lower a sweep."""

    name: str
    text: str
    sweep: Callable[[Wiring], Swept]
    why_not: Callable[[GridSpec], str | None]
    """Why a spec cannot be lowered so; None where it can."""
    prepare: Callable[[GridSpec, str, str], None] | None
    """Build what a spec's sweep calls in numbers of a dtype, with products of a kind, where there is anything."""
    call_bytes: Callable[..., int]
    """How many bytes a call holds at its peak, as ``counts.call_bytes`` counts them for the fused one."""
    threads: Callable[[GridSpec, np.ndarray, int | None], contextlib.AbstractContextManager[None]]
    """How BLAS's threads are held during a call of this extent, which so many threads may share."""
    narrow: bool = False
    """Whether it makes products in bfloat16."""
    device: bool = False
    """Whether ``gridc.device`` runs it: it is lowered for a ``padded.Plan``, and parameters stay on the device."""


def kind(dtype: str) -> tuple[str, str]:
    """Give the type of a grid's numbers, and that of its products' operands where it is a narrower one; UsageError for a dtype
    that nobody knows."""
    if dtype not in (*DTYPES, *NARROW):
        raise UsageError(f"found the dtype {dtype!r}; expected {listed(map(repr, (*DTYPES, *NARROW)))}")
    return (NARROW[dtype], dtype) if dtype in NARROW else (dtype, "")


def _no_kernel(spec: GridSpec) -> str | None:
    for t in spec.transforms.values():
        if not t.mechanism.fused:
            return f"a {t.cell} cell has no fused kernel; expected lowering='plain' or 'auto'"
    return None


def _keeps_all(spec: GridSpec) -> str | None:
    if spec.schedule == Directives():
        return None
    if spec.schedule.recompute:
        return "the plain lowering keeps every step for the way back; recompute=True needs the fused lowering"
    return "the plain lowering runs every step as early as it can; a schedule of one's own needs the fused lowering"


def _one(spec: GridSpec, extent: np.ndarray, threads: int | None) -> contextlib.AbstractContextManager[None]:
    return blas.single_threaded()  # beside threads of ours; and so that their number changes no bit


def _held(spec: GridSpec, extent: np.ndarray, threads: int | None) -> contextlib.AbstractContextManager[None]:
    return blas.single_threaded() if threads == 1 or plans.small(spec, extent) else contextlib.nullcontext()


def _scanned(spec: GridSpec, sizes: tuple[int, ...], batch: int, itemsize: int, training: bool, *_: Any) -> int:
    return slots.call_bytes(spec, sizes, batch, itemsize, training)


def _free(spec: GridSpec, extent: np.ndarray, threads: int | None) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


LOWERINGS: Mapping[str, Lowering] = {
    row.name: row
    for row in (
        Lowering("fused", "one Op for the whole sweep, and one for its adjoint", fused.sweep, _no_kernel, fused.prepare,
                 counts.call_bytes, _one, narrow=True),
        Lowering("plain", "one Scan over wavefronts, in ordinary PyTensor ops", plain.sweep, _keeps_all, None, _scanned, _held),
    )
}  # fmt: skip
"""The first that a spec and a backend can have is what ``auto`` means."""
ON_A_DEVICE: Mapping[str, Lowering] = {
    "fused": Lowering("fused", "loops over turns, and over turns back", device.sweep, _no_kernel, None, counts.call_bytes,
                      _free, narrow=True, device=True),
    "plain": replace(LOWERINGS["plain"], threads=_free),
}
"""The same for backends whose shapes are static: JAX brings its own products and threads, and needs no kernels of ours."""


def resolve(spec: GridSpec, lowering: str, device: bool = False, products: str = "") -> Lowering:
    """Choose the row that is asked for, or for ``auto`` the first that the spec can have, on a ``device`` or here.

    Raises UsageError that says why not."""
    why, rows = None, ON_A_DEVICE if device else LOWERINGS
    for row in rows.values() if lowering == "auto" else (rows[lowering],):
        why = row.why_not(spec)
        if why is None and products and not row.narrow:
            where = "on the backend 'jax'" if device else "of this spec" * (lowering == "auto")
            raise UsageError(f"the {row.name} lowering {where}".rstrip() + f" has no products in {products}; expected "
                             "dtype='float32'")  # fmt: skip
        if why is None:
            return row
    raise UsageError(str(why))


@dataclass(frozen=True)
class Target:
    """What a spec is compiled for."""

    backend: Backend
    lowering: Lowering
    dtype: str
    """Of all numbers."""
    recompute: bool = False
    left: str | None = None
    """Why ``auto`` left the fast path, where it did."""
    devices: int = 1
    """How many share a batch."""
    threads: int | None = None
    """How many threads may share a call; None for as many as there are cores."""
    stage: Stage | None = None
    """This rank's part of every sweep, where the grid is cut for several."""
    products: str = ""
    """``bfloat16`` where the sweep's products take their operands in that."""

    @property
    def asked(self) -> str:
        """The dtype that was asked for."""
        return self.products or self.dtype

    @staticmethod
    def choose(
        spec: GridSpec, row: Backend, lowering: str, dtype: str, devices: int = 1, threads: int | None = None
    ) -> Target:  # fmt: skip
        """Settle what is ``auto``, and refuse what cannot be.

        Raises UsageError."""
        numbers, products = kind(dtype)
        if lowering not in ("auto", *LOWERINGS):
            raise UsageError(f"found the lowering {lowering!r}; expected 'auto', 'plain' or 'fused'")
        if lowering != "auto" and lowering not in row.lowerings:
            raise UsageError(f"the backend '{row.name}' cannot run the {lowering} lowering; expected "
                             f"lowering='{row.lowerings[0]}'")  # fmt: skip
        recompute = spec.schedule.recompute
        if recompute and row.static:
            raise UsageError(f"the backend '{row.name}' keeps every step for the way back; recompute=True needs the backend "
                             "'python'")  # fmt: skip
        if not spec.inputs or not spec.outputs:
            missing = "inputs" if not spec.inputs else "outputs"
            raise UsageError(f"the spec '{spec.name}' has no {missing}: its schedule can be seen, but there is nothing to "
                             "compile")  # fmt: skip
        first = next(iter(LOWERINGS))
        asked = row.lowerings[0] if lowering == "auto" and first not in row.lowerings else lowering
        chosen = resolve(spec, asked, row.static, products)
        if chosen.name not in row.lowerings:
            raise UsageError(f"the backend '{row.name}' cannot run the {chosen.name} lowering, which this spec needs; "
                             "expected the backend 'python'")  # fmt: skip
        left = None
        if lowering == "auto" and chosen.name != first:
            why = (ON_A_DEVICE if row.static else LOWERINGS)[first].why_not(spec)
            left = f"the backend '{row.name}' runs no other" if why is None else why.partition(";")[0]
        if devices > 1 and not chosen.device:
            why = (left or "this is the plain one") if row.static else f"the backend is '{row.name}'"
            raise UsageError(f"several devices share a batch in the fused lowering on the backend 'jax', but {why}; expected "
                             "devices=1")  # fmt: skip
        return Target(row, chosen, numbers, recompute, left, devices, threads, products=products)

    def cut(self, spec: GridSpec, stage: Stage) -> Target:
        """Give the same for a rank's part of a grid that is cut.  Raises UsageError where that cannot be."""
        if self.lowering.name != "fused" or self.lowering.device:
            why = f": {self.left}" if self.left else ""
            raise UsageError(f"'{spec.name}' is cut for several ranks by the fused lowering on processors, and this is the "
                             f"{self.lowering.name} one on the backend '{self.backend.name}'{why}")  # fmt: skip
        if not isinstance(spec.schedule.keep, str):
            raise UsageError(f"'schedule', keep: a grid that is cut for several ranks keeps all or little of each tile, not "
                             f"{amount(spec.schedule.keep)}.")  # fmt: skip
        return replace(self, stage=stage)

    def way(self, static: Sizes | None = None) -> Way:
        """Say how a graph is made for it, for ``static`` sizes where its backend needs them."""
        return Way(self.lowering.name, self.dtype, self.products, self.backend.scan, static, threads=self.threads,
                   stage=self.stage)  # fmt: skip

    def __str__(self) -> str:
        where = f", {self.devices} devices" * (self.devices > 1)
        return f"{self.asked}, {self.lowering.name} on '{self.backend.name}'{where}"
