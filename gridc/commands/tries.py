"""``gridc schedule --try``: a grid under several schedules, on paper and, where it is asked for, run."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence

from gridc import plain_text
from gridc.insight import tries
from gridc.insight.timing import Timing
from gridc.scheduling.check import asked

OWN = "the page's own"


def compared(plan: Timing, batch: int, wanted: Sequence[str], measure: bool, as_json: bool) -> str:
    """Put schedules side by side: the page's own, then each that is ``wanted``; timed in turns to ``measure``.

    Raises UsageError for one that the dependences forbid."""
    specs = {OWN: plan.spec, **{text: asked(plan.spec, text) for text in wanted}}
    found = [tries.on_paper(Timing(spec, plan.sizes), batch, text) for text, spec in specs.items()]
    if measure:
        from gridc.insight import steps

        taken = steps.in_turns([steps.TrainingStep(spec, plan.sizes, batch) for spec in specs.values()])
        seconds = [statistics.median(each) for each in taken]
        found = [tries.timed(one, each) for one, each in zip(found, seconds, strict=True)]
    if as_json:
        pages = {"name": plan.spec.name, "sizes": plan.sizes, "batch": batch, "tries": [one.plain() for one in found]}
        return json.dumps(pages, indent=2, ensure_ascii=False)
    sizes = plain_text.sizes((d.name, n) for d, n in zip(plan.spec.dimensions, plan.sizes, strict=True))
    return tries.table(plan.spec.name, sizes, batch, found)
