"""The small runs: for each network something that it learns, how well it does it, and by what measure.

A run is a row of ``RUNS``.  Most are the training block of their spec as it stands; where a network needs data of its own, or
another measure than the share of right cells, the row has a function for it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import texts

import gridc
from gridc.data import sampling, tasks
from gridc.data.datasets import Dataset
from gridc.language import parameters
from gridc.training import runner
from gridc.training.fit import fit

SPECS = Path(__file__).parent.parent / "specs"
LIMIT = {"seconds": 300.0}
"""No run takes longer, wherever it has got to; on a machine with nothing else to do none comes near it."""


@dataclass
class Result:
    """What one run was; ``curve`` is (samples, the figure that was watched) at every evaluation."""

    name: str
    seed: int
    measure: str
    value: float
    parameters: int
    samples: int
    seconds: float
    compiling: float
    curve: list[tuple[float, float]]
    schedule: str
    notes: str = ""

    def to_json(self) -> dict[str, Any]:
        """As a plain mapping."""
        return asdict(self)


@dataclass(frozen=True)
class Run:
    """One row: the spec, what it is to show, for which seeds, and what runs it."""

    spec: str
    shows: str
    do: Callable[[gridc.GridSpec, int], Result]
    seeds: tuple[int, ...] = (0,)
    goal: float = 0.0
    """The value that the run must reach (or stay below, where ``lower``)."""
    lower: bool = False
    title: str = ""

    @property
    def name(self) -> str:
        """What the row is called on the page."""
        return self.title or self.spec

    def __call__(self, seed: int) -> Result:
        result = self.do(gridc.read(SPECS / f"{self.spec}.yaml"), seed)
        result.name = self.name
        return result


def result(
    spec: gridc.GridSpec, history: Any, seed: int, measure: str, value: float, sizes: Mapping[str, int], notes: str = ""
) -> Result:
    """The figures of a training."""
    plan = gridc.schedule(spec, **sizes)
    shape = " × ".join(f"{d.size if isinstance(d.size, int) else sizes[d.size]}" for d in spec.dimensions)
    scheduled = f"{shape}: {plan.work:,} steps in {plan.span:,} wavefronts, parallelism {plan.parallelism:.1f}"
    count = sum(int(np.prod(s)) for s in parameters.shapes(spec).values())
    curve = [(float(r.samples), float(r.accuracy())) for r in history.records]
    return Result(spec.name, seed, measure, value, count, history.samples, history.seconds, history.compile_seconds, curve,
                  scheduled, notes)  # fmt: skip


def sizes_of(spec: gridc.GridSpec, data: Dataset) -> dict[str, int]:
    """The size of every symbol, from the arrays."""
    found: dict[str, int] = {}
    for i in spec.inputs.values():
        for axis, d in enumerate(i.over):
            size = spec.dimensions[d].size
            if isinstance(size, str):
                found[size] = data.inputs[i.name].shape[1 + axis]
    return found


def trained(spec: gridc.GridSpec, train: Any, held: Any, seed: int, **options: Any) -> tuple[gridc.Grid, Any]:
    """A grid of this seed, trained without a folder."""
    grid = gridc.compile(spec, seed=seed)
    return grid, fit(grid, train, held, seed=seed, progress="none", **options)


# -- measures ---------------------------------------------------------------------------------------------------------


def right(grid: gridc.Grid, held: Dataset) -> tuple[str, float]:
    """The share of answers that are right."""
    name = next(iter(grid.spec.outputs))
    p = grid.predict(held.inputs, held.lengths or None)[name]
    chosen = p.argmax(axis=-1) if grid.spec.outputs[name].kind == "classes" else p > 0.5
    return "held-out accuracy", float((chosen == held.targets[name]).mean())


def whole(grid: gridc.Grid, held: Dataset) -> tuple[str, float]:
    """The share of sequences without one mistake."""
    name = next(iter(grid.spec.outputs))
    chosen = grid.predict(held.inputs)[name].argmax(axis=-1)
    return "held-out sequences without a mistake", float((chosen == held.targets[name]).all(axis=1).mean())


def found(grid: gridc.Grid, held: Dataset) -> tuple[str, float]:
    """The share of squares, or cubes, in which the cell held likeliest is the marked one."""
    p, mark = grid.predict(held.inputs)["mark"], held.targets["mark"]
    place = p.reshape(len(p), -1).argmax(axis=1)
    return "held-out marks found", float(mark.reshape(len(p), -1)[np.arange(len(p)), place].mean())


# -- what is run ------------------------------------------------------------------------------------------------------


def block(measure: Callable[[gridc.Grid, Dataset], tuple[str, float]], **changes: Any) -> Callable[[gridc.GridSpec, int], Result]:
    """The spec's own training block, with these changes."""

    def do(spec: gridc.GridSpec, seed: int) -> Result:
        spec = runner.changed(spec, {"seed": seed, **changes})
        train, held = runner.examples(spec)
        b = runner.block_of(spec)
        limits = {**b.budget.model_dump(exclude_none=True), **LIMIT}
        grid, history = trained(
            spec, train, held, seed, optimizer={b.optimizer.name: b.optimizer.options}, batch=b.batch, budget=limits,
            stop=b.stop, clip=b.clip, evaluate=b.evaluate)  # fmt: skip
        assert held is not None
        return result(spec, history, seed, *measure(grid, held), sizes_of(spec, train))

    return do


def cube(spec: gridc.GridSpec, seed: int) -> Result:
    """A mark in a cube of noise; asked for is the cell one further along all three dimensions."""
    side, samples = 4, 4000
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 0.1, (samples, side, side, side, 1)).astype(np.float32)
    y = np.zeros((samples, side, side, side), np.int64)
    place = rng.integers(0, side - 1, (3, samples))
    every = np.arange(samples)
    x[(every, *place)], y[(every, *(place + 1))] = 1.0, 1
    train, held = Dataset({"cube": x}, {"mark": y}).split(0.2, seed)
    assert held is not None
    grid, history = trained(spec, train, held, seed, optimizer={"adam": {"learning_rate": 0.02}},
                            budget={"epochs": 6, **LIMIT})  # fmt: skip
    return result(spec, history, seed, *found(grid, held), {"side": side})


def reencoder(task: str) -> Callable[[gridc.GridSpec, int], Result]:
    """Reads a sequence and writes it changed: trained with the right symbol before, then writing by itself."""

    def do(spec: gridc.GridSpec, seed: int) -> Result:
        length, start = 6, 8
        options = {"length": length, "symbols": 8, "samples": 20_000} | ({"after": False} if task == "sort" else {})
        parts = [p for p in tasks.make(task, options, seed=seed) if p is not None]
        train, held = (Dataset({"words": d.inputs["symbols"], "before": shifted(d.targets["symbols"], start)},
                               {"next": d.targets["symbols"]}) for d in parts)  # fmt: skip
        grid, history = trained(spec, train, held, seed, optimizer={"adam": {"learning_rate": 0.005}}, batch=50, clip=1.0,
                                budget={"samples": 150_000, **LIMIT}, stop={"accuracy": 0.998}, evaluate={"samples": 10_000})  # fmt: skip
        words, wanted = held.inputs["words"][:1000], held.targets["next"][:1000]
        written = np.full((len(words), 1), start)
        for _ in range(length):
            p = grid.predict({"words": words, "before": written})["next"][:, -1]
            written = np.concatenate([written, p.argmax(axis=-1)[:, None]], axis=1)
        right = float((written[:, 1:] == wanted).all(axis=1).mean())
        return result(spec, history, seed, "held-out sequences written without a mistake", right, {"S": length, "T": length})

    return do


def shifted(ids: np.ndarray, start: int) -> np.ndarray:
    """The sequence one symbol later, after a start symbol."""
    return np.concatenate([np.full((len(ids), 1), start), ids[:, :-1]], axis=1)


def classifier(words: bool) -> Callable[[gridc.GridSpec, int], Result]:
    """Prose or code, of modules that were not seen in training; every piece as long as it is."""

    def do(spec: gridc.GridSpec, seed: int) -> Result:
        pieces = texts.prose_and_code(4000, 40 if words else 25, 160 if words else 80, seed)
        kept: dict[str, int] = {}
        if words:
            counts = Counter(w for text, _ in pieces["train"] for w in text.split())
            kept = {w: i for i, w in enumerate(sorted(counts, key=lambda w: (-counts[w], w))[:1998])}
        arrays = {}
        for place, told in pieces.items():
            ids = [np.array([kept.get(w, 1998) for w in text.split()]) if words else texts.numbers(text) for text, _ in told]
            lengths = np.array([len(i) for i in ids])
            filled = np.zeros((len(ids), lengths.max()), np.int64)
            for row, one in zip(filled, ids, strict=True):
                row[: len(one)] = one
            given, label = next(iter(spec.inputs)), next(iter(spec.outputs))
            arrays[place] = Dataset({given: filled}, {label: np.array([kind for _, kind in told])}, {"T": lengths})
        train, held = arrays["train"], arrays["held out"]
        grid, history = trained(spec, train, held, seed, optimizer={"adam": {"learning_rate": 0.003}}, clip=1.0,
                                budget={"epochs": 8, **LIMIT}, stop={"accuracy": 0.97}, evaluate={"samples": 4000})  # fmt: skip
        at = {"T": int(max(d.lengths["T"].max() for d in (train, held)))}
        return result(spec, history, seed, *right(grid, held), at, f"pieces of {held.lengths['T'].min()} to {at['T']} symbols")

    return do


@dataclass
class _Windows:
    """Mini-batches of windows from random places of a text, without end."""

    text: np.ndarray
    window: int
    batch: int
    seed: int
    taken: int = field(default=0)

    def __iter__(self) -> Any:
        rng = np.random.default_rng(self.seed)
        while True:
            at = rng.integers(0, len(self.text) - self.window - 1, self.batch)
            whole = np.stack([self.text[a : a + self.window + 1] for a in at])
            yield {"text": whole[:, :-1]}, {"next": whole[:, 1:]}


def language_model(spec: gridc.GridSpec, seed: int) -> Result:
    """Bits per character of Python's reference against counts of what follows three characters; then it writes."""
    text = texts.numbers(texts.documentation())
    cut, window, batch = int(0.9 * len(text)), 60, 16
    bits = texts.Counts(text[:cut], 3, len(texts.LETTERS)).bits(text[cut : cut + 30_001])
    held = text[cut : cut + 30_001]
    data = Dataset({"text": held[:-1].reshape(-1, window)}, {"next": held[1:].reshape(-1, window)})
    grid, seconds, curve, done = gridc.compile(spec, seed=seed), 0.0, [], 0
    step = grid.training_step("adam", learning_rate=0.005, clip=1.0)
    for done, (inputs, targets) in enumerate(_Windows(text[:cut], window, batch, seed), 1):
        start = time.perf_counter()
        step(inputs, targets)
        seconds += time.perf_counter() - start
        if done % 100 == 0:
            loss = grid.loss(data.inputs, data.targets) / np.log(2)
            curve.append((float(done * batch), float(loss)))
            if seconds > LANGUAGE_SECONDS or loss < 0.96 * bits:
                break
    written = texts.letters(np.array([*sampling.sample(grid, texts.numbers("The "), 300, temperature=0.7, seed=seed)]))
    plan = gridc.schedule(spec, T=window)
    scheduled = f"{window} × 2: {plan.work:,} steps in {plan.span:,} wavefronts, parallelism {plan.parallelism:.1f}"
    count = sum(int(np.prod(s)) for s in parameters.shapes(spec).values())
    notes = f"counts of three characters: {bits:.3f}; it writes: The {written}"
    compiling = sum(grid.compile_seconds.values())
    return Result(spec.name, seed, "held-out bits per character", curve[-1][1], count, done * batch, seconds, compiling, curve,
                  scheduled, notes)  # fmt: skip


LANGUAGE_SECONDS = 600.0
SEEDS = (0, 1, 2)
RUNS = (
    Run("character-language-model", "fewer bits per character than counts of what follows three characters", language_model,
        goal=2.113, lower=True),
    Run("text-classifier", "prose from code by characters, variable lengths", classifier(words=False), goal=0.95),
    Run("text-classifier-words", "prose from code by words, variable lengths", classifier(words=True), goal=0.95),
    Run("reencoder", "reverses sequences", reencoder("reverse"), goal=0.9, title="reencoder: reverse"),
    Run("reencoder", "sorts sequences", reencoder("sort"), goal=0.9, title="reencoder: sort"),
    Run("multi-dimensional-lstm", "does the random diagonal", block(found), SEEDS, 0.99),
    Run("leaky-lstm", "does the random diagonal", block(found), SEEDS, 0.99),
    Run("rows-lstm", "cannot do the random diagonal: chance is one column in seven", block(found), SEEDS, 0.3, lower=True),
    Run("one-grid-untied", "parity of ten bits", block(right), goal=0.9),
    Run("parity", "parity, tied", block(right, bits=10), goal=0.99),
    Run("two-grid", "gives five symbols back", block(whole), goal=0.95),
    Run("two-grid-depth-prioritised", "gives five symbols back", block(whole), goal=0.95),
    Run("two-grid-time-prioritised", "gives five symbols back", block(whole), goal=0.95),
    Run("shared-dimensions", "gives five symbols back", block(whole), goal=0.95),
    Run("stacked-lstm", "gives five symbols back", block(whole), goal=0.95),
    Run("peepholes", "gives five symbols back", block(whole), goal=0.95),
    Run("feed-forward-depth", "gives five symbols back", block(whole), goal=0.95),
    Run("feed-forward-depth-relu", "gives five symbols back", block(whole), goal=0.95),
    Run("gru-grid", "gives four symbols back", block(whole), goal=0.95),
    Run("rnn-grid", "gives three symbols back", block(whole), goal=0.95),
    Run("recurrent-highway", "gives three symbols back", block(whole), goal=0.95),
    Run("bidirectional", "reverses eight symbols", block(whole), goal=0.9),
    Run("addition", "adds two numbers", block(whole), goal=0.9),
    Run("memory-network", "a question that two facts answer", block(right), goal=0.97),
    Run("memory-network-adjacent", "a question that two facts answer", block(right), goal=0.97),
    Run("highway", "digits", block(right), goal=0.96),
    Run("three-grid", "digits", block(right), goal=0.96),
    Run("four-grid", "finds the place beside a mark in a cube", cube, goal=0.99),
    Run("four-directions", "digits", block(right), goal=0.96),
    Run("four-corners", "digits", block(right), goal=0.96),
    Run("digits", "digits", block(right), goal=0.96),
    Run("dropout", "gives four symbols back with masks", block(whole), goal=0.9),
)
