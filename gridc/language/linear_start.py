"""A linear start: the spec whose memory cells attend without their softmax, with the same parameters (Sukhbaatar et al. 2015)."""

from __future__ import annotations

from dataclasses import replace

from gridc.errors import UsageError
from gridc.language.spec import GridSpec


def without_softmax(spec: GridSpec) -> GridSpec:
    """Give the spec that a linear start trains; UsageError where there is no softmax to take out."""
    with_softmax = {name: t for name, t in spec.transforms.items()
                    if t.mechanism.attention and t.options.attention == "softmax"}  # fmt: skip
    if not with_softmax:
        raise UsageError(f"'linear_start' takes the softmax out of memory cells; '{spec.name}' has none that has one.")
    linear = {name: replace(t, options=t.options.replaced(attention="linear")) for name, t in with_softmax.items()}
    return replace(spec, transforms={**spec.transforms, **linear})
