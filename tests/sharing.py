"""Ways in which threads share a sweep, for tests that must find the same whichever it is."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from gridc import resources
from gridc.fusion import pace
from gridc.scheduling.threads import ALONE, BEHIND, HELPING, Sharing
from gridc.symbolic import indices

WAYS = ("examples", "wavefront")


def share(patch: pytest.MonkeyPatch, sharing: Sharing) -> None:
    """From now on every sweep is shared so."""
    patch.setattr(indices, "_memory", resources.Memory())  # what was planned otherwise is forgotten
    patch.setattr("gridc.scheduling.threads.share", lambda *_: sharing)
    patch.setattr(pace, "switches", lambda: 0)  # however busy the machine is
    patch.setattr(pace, "SHORT", 0.0)  # and whatever a meeting costs on it


def sharings() -> st.SearchStrategy[Sharing]:
    """Draw one: alone, behind, or up to eight threads, more than most machines have cores."""
    several = st.builds(Sharing, st.sampled_from(WAYS), st.sampled_from((2, 3, 8)))
    return st.one_of(st.just(ALONE), st.just(BEHIND), st.just(HELPING), several)
