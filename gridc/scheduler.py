"""``gridc.schedule``: the schedule of a grid, and every door that leads on from it: costs, simulations, pictures, formats."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gridc.errors import UsageError, listed, nearest
from gridc.insight.timing import Timing
from gridc.language.spec import GridSpec
from gridc.options import LARGEST, integer
from gridc.scheduling.graph import Step

if TYPE_CHECKING:
    import networkx as nx

    from gridc.insight.measure import Measurement
    from gridc.insight.scaling import Scaling
    from gridc.insight.simulation import Model, Simulation, SpeedUp


def schedule(
    spec: GridSpec | str | os.PathLike[str], /, schedule: Mapping[str, Any] | str | None = None, **sizes: int
) -> Schedule:
    """Make the schedule of a grid.  Nothing is compiled, and PyTensor is not imported.

    Args:
        spec: A ``GridSpec``, the path of a page of YAML, or its text.
        schedule: What is asked of the plan beside the page's own ``schedule:``, in its words: ``{"order": "levels"}``.
        sizes: The size of every symbol, by its name (``T=50``): positive integers.

    Returns:
        The schedule, whose figures are worked out when they are first asked for.

    Raises:
        SpecError: The text means nothing, with line and column.
        UsageError: A size is missing, belongs to no symbol, or is no positive integer; the schedule cannot be.
    """
    if not isinstance(spec, GridSpec):
        from gridc.scheduling.check import read

        spec = read(spec)
    if schedule is not None:
        from gridc.scheduling.check import asked

        spec = asked(spec, schedule)
    for word, size in sizes.items():
        if word not in spec.symbols:
            raise UsageError(_no_symbol(spec, word))
        sizes[word] = integer(f"size '{word}'", size, high=LARGEST)
    missing = [symbol for symbol in spec.symbols if symbol not in sizes]
    if missing:
        names = listed([f"'{symbol}'" for symbol in missing], "and")
        example = ", ".join(f"{symbol}=20" for symbol in missing)
        raise UsageError(
            f"grid '{spec.name}' needs the size{'s' * (len(missing) > 1)} of {names}: gridc.schedule(spec, {example}), or "
            + " ".join(f"--size {symbol}=20" for symbol in missing)
        )
    return Schedule(spec, spec.sizes(sizes))


def _no_symbol(spec: GridSpec, word: str) -> str:
    own = {d.name: d.size for d in spec.dimensions}
    if word in own:
        size = own[word]
        if isinstance(size, str):
            return f"'{word}' is a dimension; its size is the symbol '{size}' — give {size}=… instead"
        return f"dimension '{word}' has the fixed size {size}; only symbols are given at the call"
    known = spec.symbols
    expected = f"expected {listed(known)}" if known else "every dimension of it has a fixed size"
    return f"grid '{spec.name}' has no symbol '{word}'; {expected}{nearest(word, known)}"


@dataclass(frozen=True, repr=False)
class Schedule(Timing):
    """A grid of given sizes, in wavefronts.  Made by ``gridc.schedule``; everything is worked out when first asked for."""

    @cached_property
    def graph(self) -> nx.DiGraph[Step]:
        """The dependency DAG: nodes ``(transform, coordinate)`` with their wavefront, weights and more, edges with the read that
        they are (``exports.to_networkx`` says which attributes)."""
        from gridc.pictures import exports

        return exports.to_networkx(self)

    # -- costs ---------------------------------------------------------------------------------------------------------

    def speedup(self, workers: int, model: Model | None = None) -> SpeedUp:
        """Bound the speed-up on so many workers, and simulate a list schedule.

        ``model`` says what steps and moves cost, in seconds; without, the cost model of a mini-batch of 16.
        Raises UsageError where there are too many steps or workers to simulate, or no worker."""
        from gridc.insight import simulation

        return simulation.speedup(self, workers, model)

    def simulate(self, workers: int, model: Model | None = None) -> Simulation:
        """Simulate a list schedule on so many workers, step by step; seconds are those of the ``model``.

        Raises UsageError where there are too many steps or workers to simulate, or no worker."""
        from gridc.insight import simulation

        return simulation.simulate(self, workers, model)

    def measure(self, batch: int = 16, rounds: int = 9) -> Measurement:
        """Run the forward sweep of ``batch`` examples on one thread, the least time of so many ``rounds``: predicted and measured
        seconds of every turn.

        Raises UsageError for a grid with cells that have no fused sweep."""
        from gridc.insight import measure

        return measure.measure(self, batch, rounds)

    def scaling(self, threads: int, batch: int = 16) -> Scaling:
        """Simulate and measure a training step of ``batch`` examples on 1, 2, 4, … and so many threads.

        Raises UsageError for a grid that has no inputs or outputs, or cells that have no fused sweep."""
        from gridc.insight import scaling

        return scaling.scaling(self, threads, batch)

    # -- other doors ---------------------------------------------------------------------------------------------------

    def to_json(self, *, steps: bool = True, workers: int = 8, batch: int = 16) -> str:
        """Write the schedule as JSON, in the format that ``gridc.pictures.exports`` documents.

        Without ``steps``, the figures alone.  Costs are those of a mini-batch of ``batch`` examples, the speed-up that on so
        many ``workers``.  Raises UsageError for a spec that was not read from a text."""
        from gridc.pictures import exports

        return exports.to_json(self, steps=steps, workers=workers, batch=batch)

    @staticmethod
    def from_json(text: str) -> Schedule:
        """Read the schedule that ``to_json`` wrote; DataError where the text is no schedule, or says what its spec does not."""
        from gridc.pictures import exports

        return Schedule(*exports.from_json(text))

    def to_dot(self) -> str:
        """Write the dependency DAG in Graphviz's language, a rank a wavefront."""
        from gridc.pictures import exports

        return exports.to_dot(self)

    def to_trace(self, workers: int = 4, model: Model | None = None) -> str:
        """Write the simulated workers as Chrome trace events (JSON), which Perfetto and chrome://tracing open."""
        from gridc.pictures import exports

        return exports.to_trace(self, workers, model)

    def to_svg(self, picture: str = "grid", workers: int = 4) -> str:
        """Draw a picture as SVG: ``grid``, ``cell``, ``wavefronts``, ``widths``, ``alive``, or so many simulated ``workers``.

        Raises UsageError for another name, and for ``workers`` of a grid that is too large to draw."""
        from gridc.pictures import drawing

        return drawing.svg(self, picture, workers)

    def to_html(self, workers: int = 4, model: Model | None = None) -> str:
        """Write one self-contained page to explore the schedule in, with the timeline of so many simulated workers.

        Raises UsageError for a grid of more than 400,000 steps."""
        from gridc.pictures import explorer

        return explorer.page(self, workers, model)

    def __str__(self) -> str:
        from gridc.insight import report

        return report.figures(self)

    def _repr_html_(self) -> str:
        from gridc.pictures import drawing

        return drawing.notebook(self)
