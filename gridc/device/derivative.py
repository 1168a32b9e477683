"""The sweep and the way back over it as functions of JAX, of which the first has the second for a gradient."""

# JAX says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import numpy as jnp

from gridc.device import room
from gridc.device.adjoint import Backward
from gridc.device.sweep import Array, Sweep, Tables
from gridc.errors import UsageError
from gridc.fusion.run import MASKS
from gridc.scheduling.padded import Plan
from gridc.symbolic.wiring import NO_SECOND_DERIVATIVE, Role


def forward(plan: Plan, roles: tuple[Role, ...], dtype: str, products: str) -> Callable[..., Any]:
    """``f(tables, arrays) → (storage, taps)`` with a gradient of its own; the arrays are in the order of the roles,
    ``products`` the dtype of the operands of products.

    Nothing comes back from the storage, which is there for ``backward``."""

    def run(tables: Tables, arrays: Sequence[Array]) -> Any:
        return Sweep(plan, tables, dict(zip(roles, arrays, strict=True)), jnp.dtype(dtype), jnp.dtype(products)).forward()

    def ahead(tables: Tables, arrays: Sequence[Array]) -> Any:
        storage, taps = run(tables, arrays)
        return (storage, taps), (tables, arrays, storage)

    def back(kept: Any, gradients: Any) -> Any:
        tables, arrays, storage = kept
        found = backward(plan, roles, dtype, products)(tables, arrays, storage, gradients[1])
        return None, (*found, *map(jnp.zeros_like, arrays[len(found) :]))  # masks are drawn

    function = jax.custom_vjp(run)
    function.defvjp(ahead, back)
    return lambda *given: (function if room.lent() is None else run)(*given)  # nobody differentiates a step


def backward(plan: Plan, roles: tuple[Role, ...], dtype: str, products: str) -> Callable[..., Any]:
    """``f(tables, arrays, storage, gradients of the taps) → gradients of the arrays``, in the order of the roles but for masks,
    which come last and are drawn."""

    def run(tables: Tables, arrays: Sequence[Array], storage: Any, given: Any) -> tuple[Array, ...]:
        sweep = Sweep(plan, tables, dict(zip(roles, arrays, strict=True)), jnp.dtype(dtype), jnp.dtype(products))
        found = Backward(sweep, storage, given).run()
        learnt = [role for role in roles if role[1] not in MASKS]
        return tuple(found[role] if role in found else jnp.zeros_like(sweep.arrays[role]) for role in learnt)

    def refuse(*_: Any) -> Any:
        raise UsageError(NO_SECOND_DERIVATIVE)

    function = jax.custom_vjp(run)
    function.defvjp(refuse, refuse)
    return lambda *given: (function if room.lent() is None else run)(*given)
