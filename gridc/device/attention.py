"""A memory network's hop in JAX: what rows find among facts, and the gradients of the facts."""

# JAX says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jax import numpy as jnp

from gridc.scheduling.padded import Group
from gridc.symbolic.wiring import Role

Array = Any


def found(query: Array, keys: Array, values: Array, count: Array, linear: bool) -> Array:
    """Give ``Σ p · values`` over the first ``count`` facts, with ``p = query · keys`` where it is ``linear``, else its softmax:
    ``[rows, hidden]`` and ``[rows, facts, hidden]`` → ``[rows, hidden]`` (Sukhbaatar et al. 2015)."""
    scores = jnp.einsum("rn,rfn->rf", query, keys)
    there = jnp.arange(keys.shape[1]) < count
    if linear:
        return jnp.einsum("rf,rfn->rn", jnp.where(there, scores, 0), values)
    return jnp.einsum("rf,rfn->rn", jax.nn.softmax(jnp.where(there, scores, -jnp.inf), axis=-1), values)


@dataclass(frozen=True)
class Facts:
    """The facts of a group, as its members embed them: sets of keys ``[sets, facts, hidden]``, and of values or, where there are
    none, the keys of the next set.  The first ``count`` of each are there, and the others up to the bucket."""

    members: tuple[str, ...]
    keys: Array
    values: Array | None
    count: Array
    linear: bool

    @staticmethod
    def of_group(group: Group, tables: Mapping[str, Array], arrays: Mapping[Role, Array]) -> Facts | None:
        """Gather those of a group's members from the arrays by role; None where it does not attend."""
        if group.attends is None:
            return None

        def sets(letter: str) -> Array | None:
            each = [arrays[name, "facts", letter] for name in group.members if (name, "facts", letter) in arrays]
            return jnp.concatenate([one.reshape(-1, *one.shape[-2:]) for one in each]) if each else None

        both = sets("E")
        keys = sets("A") if both is None else both
        return Facts(group.members, keys, sets("C"), tables[f"facts.{group.attends}"],
                     group.options.attention == "linear")  # fmt: skip

    def of(self, sets: Array) -> tuple[Array, Array, Array, bool]:
        """Give the keys and the values of these sets, ``[rows, facts, hidden]`` each, how many are there, and whether it is
        ``linear``: what ``found`` takes."""
        values, where = (self.keys, sets + 1) if self.values is None else (self.values, sets)
        found = (of.at[at].get(mode="promise_in_bounds") for of, at in ((self.keys, sets), (values, where)))
        return *found, self.count, self.linear

    def gradients(self, sets: Array, query: Array, slopes: Array, arrays: Mapping[Role, Array]) -> dict[Role, Array]:
        """Give the gradients by role, where ``slopes`` ``[rows, hidden]`` are those of what each row found."""
        keys, values, *how = self.of(sets)
        dkeys, dvalues = jax.vjp(lambda k, v: found(query, k, v, *how), keys, values)[1](slopes)
        summed = jnp.zeros_like(self.keys).at[sets].add(dkeys)
        if self.values is None:
            by = {"E": summed.at[sets + 1].add(dvalues)}
        else:
            by = {"A": summed, "C": jnp.zeros_like(self.values).at[sets].add(dvalues)}
        out: dict[Role, Array] = {}
        for letter, whole in by.items():
            for name, part in zip(self.members, jnp.split(whole, len(self.members)), strict=True):
                out[name, "facts", letter] = part.reshape(arrays[name, "facts", letter].shape)
        return out
