"""The small runs: for each network something that it learns, how well it does it, and by what measure.

A run is a row of ``RUNS``.  Most are the training block of their spec as it stands; where a network needs data of its own, or
another measure than the share of right cells, the row has a function for it.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import texts

import gridc
from gridc import experiment
from gridc.arrays.dataset import Dataset
from gridc.language.shapes import parameter_shapes
from gridc.tables import tasks
from gridc.training.fit import fit

SPECS = Path(__file__).parent.parent / "specs"
MODEL = SPECS.parent / "results" / "character-language-model.grid"
"""Where the language model is kept, for `gridc sample`."""
LIMIT = {"seconds": 300.0}
"""No run takes longer, wherever it has got to; on a machine with nothing else to do none comes near it."""


@dataclass
class Result:
    """What one run was.

    ``value`` is of the test part, which nothing was chosen by; ``curve`` is (samples, the figure that was watched) at every
    evaluation on the validation part; ``widths`` are the steps of each wavefront, drawn beside ``schedule``."""

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
    widths: list[int]
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
    compared: str = ""
    """What several networks are compared by, where they are: over at least three seeds."""
    minutes: float = 0.3
    """About how long it takes: the longest are begun first."""

    @property
    def name(self) -> str:
        """What the row is called on the page."""
        return self.title or self.spec

    @property
    def path(self) -> Path:
        """The spec's file."""
        return SPECS / f"{self.spec}.yaml"

    def reached(self, value: float) -> bool:
        """Whether a value is as good as the run claims."""
        return value <= self.goal if self.lower else value >= self.goal

    def __call__(self, seed: int) -> Result:
        result = self.do(gridc.read(self.path), seed)
        result.name = self.name
        return result


def result(
    spec: gridc.GridSpec, seed: int, measure: str, value: float, curve: list[tuple[float, float]], history: Any,
    sizes: Mapping[str, int], notes: str = "",
) -> Result:  # fmt: skip
    """The figures of a training."""
    plan = gridc.schedule(spec, **sizes)
    shape = " × ".join(f"{d.size if isinstance(d.size, int) else sizes[d.size]}" for d in spec.dimensions)
    scheduled = f"{shape}: {plan.work:,} steps in {plan.span:,} wavefronts, parallelism {plan.parallelism:.1f}"
    count = sum(int(np.prod(s)) for s in parameter_shapes(spec).values())
    return Result(spec.name, seed, measure, value, count, history.samples, history.seconds, history.compile_seconds, curve,
                  scheduled, [len(wave) for wave in plan.wavefronts], notes)  # fmt: skip


def told(
    spec: gridc.GridSpec, history: Any, seed: int, measured: tuple[str, float], sizes: Mapping[str, int], notes: str = ""
) -> Result:
    """The figures of a training, with the accuracy on the validation part as its curve."""
    curve = [(float(r.samples), float(r.accuracy())) for r in history.records]
    return result(spec, seed, *measured, curve, history, sizes, notes)


# -- three parts ------------------------------------------------------------------------------------------------------

PARTS = {"validation": 0.15, "test": 0.15}
MOST = {"validation": 2_000, "test": 4_000}


def parts(whole: Dataset, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """To train on, to stop by, and to report: no example's inputs are in two of them."""
    rows = [array.reshape(len(array), -1) for array in whole.inputs.values()]
    seen = {b"".join(row[i].tobytes() for row in rows): i for i in reversed(range(len(whole)))}
    order = np.random.default_rng([seed, 1]).permutation(sorted(seen.values()))
    found: list[Dataset] = []
    for part, share in PARTS.items():
        count = round(len(seen) * share)
        found.append(whole.take(order[: min(count, MOST[part])]))
        order = order[count:]
    return whole.take(order), found[0], found[1]


def together(*several: Dataset | None) -> Dataset:
    """Data sets one after the other."""
    some = [d for d in several if d is not None]

    def joined(part: str) -> dict[str, np.ndarray]:
        return {name: np.concatenate([getattr(d, part)[name] for d in some]) for name in getattr(some[0], part)}

    return Dataset(joined("inputs"), joined("targets"), joined("lengths"))


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


def right(grid: gridc.Grid, test: Dataset) -> tuple[str, float]:
    """The share of answers that are right."""
    name = next(iter(grid.spec.outputs))
    p = grid.predict(test.inputs, test.lengths or None)[name]
    chosen = p.argmax(axis=-1) if grid.spec.outputs[name].kind == "classes" else p > 0.5
    return "accuracy", float((chosen == test.targets[name]).mean())


def whole(grid: gridc.Grid, test: Dataset) -> tuple[str, float]:
    """The share of sequences without one mistake."""
    name = next(iter(grid.spec.outputs))
    chosen = grid.predict(test.inputs)[name].argmax(axis=-1)
    return "sequences without a mistake", float((chosen == test.targets[name]).all(axis=1).mean())


def found(grid: gridc.Grid, test: Dataset) -> tuple[str, float]:
    """The share of squares, or cubes, in which the cell held likeliest is the marked one."""
    p, mark = grid.predict(test.inputs)["mark"], test.targets["mark"]
    place = p.reshape(len(p), -1).argmax(axis=1)
    return "marks found", float(mark.reshape(len(p), -1)[np.arange(len(p)), place].mean())


# -- what is run ------------------------------------------------------------------------------------------------------


def block(measure: Callable[[gridc.Grid, Dataset], tuple[str, float]], **changes: Any) -> Callable[[gridc.GridSpec, int], Result]:
    """The spec's own training block, with these changes; what it holds out is the validation part."""

    def do(spec: gridc.GridSpec, seed: int) -> Result:
        spec = experiment.changed(spec, {"seed": seed, **changes})
        train, validation, test = parts(together(*experiment.examples(spec)), seed)
        b = experiment.block_of(spec)
        limits = {**b.budget.model_dump(exclude_none=True), **LIMIT}
        grid, history = trained(
            spec, train, validation, seed, optimizer={b.optimizer.name: b.optimizer.options}, batch=b.batch, budget=limits,
            schedule=None if b.schedule is None else {b.schedule.name: b.schedule.options}, stop=b.stop, clip=b.clip,
            evaluate=b.evaluate)  # fmt: skip
        return told(spec, history, seed, measure(grid, test), sizes_of(spec, train))

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
    train, validation, test = parts(Dataset({"cube": x}, {"mark": y}), seed)
    grid, history = trained(spec, train, validation, seed, optimizer={"adam": {"learning_rate": 0.02}},
                            budget={"epochs": 6, **LIMIT})  # fmt: skip
    return told(spec, history, seed, found(grid, test), {"side": side})


def reencoder(task: str) -> Callable[[gridc.GridSpec, int], Result]:
    """Reads a sequence and writes it changed: trained with the right symbol before, then writing by itself."""

    def do(spec: gridc.GridSpec, seed: int) -> Result:
        length, start = 6, 8
        options = {"length": length, "symbols": 8, "samples": 20_000} | ({"after": False} if task == "sort" else {})
        whole = together(*tasks.make(task, options, seed=seed))
        given, wanted = whole.inputs["symbols"], whole.targets["symbols"]
        before = np.concatenate([np.full((len(wanted), 1), start), wanted[:, :-1]], axis=1)
        train, validation, test = parts(Dataset({"words": given, "before": before}, {"next": wanted}), seed)
        grid, history = trained(
            spec, train, validation, seed, optimizer={"adam": {"learning_rate": 0.005}}, batch=50, clip=1.0,
            budget={"samples": 150_000, **LIMIT}, stop={"accuracy": 0.998}, evaluate={"samples": 10_000})  # fmt: skip
        words, wanted = test.inputs["words"][:1000], test.targets["next"][:1000]
        written = np.full((len(words), 1), start)
        for _ in range(length):
            p = grid.predict({"words": words, "before": written})["next"][:, -1]
            written = np.concatenate([written, p.argmax(axis=-1)[:, None]], axis=1)
        right = float((written[:, 1:] == wanted).all(axis=1).mean())
        shown = "\n".join(f"{' '.join(map(str, a))}  →  {' '.join(map(str, b))}"
                          for a, b in zip(words[:4].tolist(), written[:4, 1:].tolist(), strict=True))  # fmt: skip
        return told(spec, history, seed, ("sequences written without a mistake", right), {"S": length, "T": length}, shown)

    return do


def classifier(words: bool) -> Callable[[gridc.GridSpec, int], Result]:
    """Prose or code, of modules that were not seen in training; every piece as long as it is."""

    def do(spec: gridc.GridSpec, seed: int) -> Result:
        pieces = texts.prose_and_code(4000 if words else 6000, 40, 160 if words else 100, seed)
        kept: dict[str, int] = {}
        if words:
            counts = Counter(w for text, _ in pieces["train"] for w in text.split())
            kept = {w: i for i, w in enumerate(sorted(counts, key=lambda w: (-counts[w], w))[:1998])}
        arrays: dict[str, Dataset] = {}
        for part, some in pieces.items():
            ids = [np.array([kept.get(w, 1998) for w in text.split()]) if words else texts.numbers(text) for text, _ in some]
            lengths = np.array([len(i) for i in ids])
            filled = np.zeros((len(ids), lengths.max()), np.int64)
            for row, one in zip(filled, ids, strict=True):
                row[: len(one)] = one
            given, label = next(iter(spec.inputs)), next(iter(spec.outputs))
            arrays[part] = Dataset({given: filled}, {label: np.array([kind for _, kind in some])}, {"T": lengths})
        train, validation, test = (arrays[part] for part in ("train", "validation", "test"))
        grid, history = trained(
            spec, train, validation, seed, optimizer={"adam": {"learning_rate": 0.003}}, schedule={"cosine_decay_schedule": {}},
            clip=1.0, budget={"epochs": 4, **LIMIT}, stop={"accuracy": 0.975}, evaluate={"samples": 4000})  # fmt: skip
        at = {"T": int(max(d.lengths["T"].max() for d in arrays.values()))}
        wrong = grid.predict(test.inputs, test.lengths)["label"].argmax(axis=1) != test.targets["label"]
        notes = "taken for the other:\n" + "\n".join(f"{('prose', 'code')[kind]}: {text}" for text, kind in
                                                     [pieces["test"][i] for i in np.flatnonzero(wrong)[:4]])  # fmt: skip
        return told(spec, history, seed, right(grid, test), at, notes)

    return do


Batch = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


def windows(text: np.ndarray, window: int, batch: int, seed: int) -> Iterator[Batch]:
    """Mini-batches of windows from random places of a text, without end."""
    rng = np.random.default_rng(seed)
    while True:
        at = rng.integers(0, len(text) - window - 1, batch)
        whole = np.stack([text[a : a + window + 1] for a in at])
        yield {"text": whole[:, :-1]}, {"next": whole[:, 1:]}


LONG = 500
"""Characters in a window of the text that is held out; the state is zero at its start."""


def language_model(spec: gridc.GridSpec, seed: int) -> Result:
    """Bits per character of Python's reference against counts of what follows three characters; then it writes.

    Trained for a fixed number of steps, so that nothing is chosen by the text that is held out: the last tenth of it."""
    text, steps, window, batch = texts.numbers(texts.documentation()), 2500, 64, 32
    cut = int(0.9 * len(text))
    test = text[cut : cut + (len(text) - cut - 1) // LONG * LONG + 1]
    held = {"text": test[:-1].reshape(-1, LONG)}, {"next": test[1:].reshape(-1, LONG)}
    grid, history = trained(
        spec, windows(text[:cut], window, batch, seed), held, seed, optimizer={"adam": {"learning_rate": 0.004}},
        schedule={"cosine_decay_schedule": {}}, clip=1.0, budget={"steps": steps}, evaluate={"steps": 250})  # fmt: skip
    curve = [(float(r.samples), float(r.shown_loss / np.log(2))) for r in history.records]
    bits = texts.Counts(text[:cut], 3, len(texts.LETTERS)).bits(test[1:])
    grid.vocabularies = {"text": texts.LETTERS, "next": texts.LETTERS}
    MODEL.parent.mkdir(exist_ok=True)
    grid.save(MODEL)
    command = ["gridc", "sample", str(MODEL.relative_to(SPECS.parent)), "--prompt", "The ", "--temperature", "0.6", "-n", "500"]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=True, cwd=SPECS.parent)
    notes = (f"Counts of three characters, smoothed by Kneser and Ney's rule: {bits:.3f} bits on the same text.\n\n"
             f"$ {shlex.join(command)}\n{done.stdout}")  # fmt: skip
    return result(spec, seed, "bits per character", curve[-1][1], curve, history, {"T": window}, notes)


SEEDS = (0, 1, 2)
DIAGONAL = "the random diagonal, marks found in squares of the test part"
RUNS = (
    Run("character-language-model", "fewer bits per character than counts of what follows three characters", language_model,
        goal=1.93, lower=True, minutes=5.0),
    Run("text-classifier", "prose from code by characters, variable lengths", classifier(words=False), goal=0.95,
        minutes=2.5),
    Run("text-classifier-words", "prose from code by words, variable lengths", classifier(words=True), goal=0.95),
    Run("reencoder", "reverses sequences", reencoder("reverse"), goal=0.9, title="reencoder: reverse"),
    Run("reencoder", "sorts sequences", reencoder("sort"), goal=0.9, title="reencoder: sort"),
    Run("multi-dimensional-lstm", "does the random diagonal", block(found), SEEDS, 0.99, compared=DIAGONAL),
    Run("leaky-lstm", "does the random diagonal", block(found), SEEDS, 0.99, compared=DIAGONAL),
    Run("rows-lstm", "cannot do the random diagonal: no better than chance, one cell in 49", block(found), SEEDS, 0.1, lower=True,
        compared=DIAGONAL),
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
    Run("memory-network", "a question that two facts answer", block(right), SEEDS, 0.97),
    Run("memory-network-adjacent", "a question that two facts answer", block(right), SEEDS, 0.97),
    Run("highway", "digits", block(right), goal=0.96),
    Run("three-grid", "digits", block(right), goal=0.96),
    Run("four-grid", "finds the place beside a mark in a cube", cube, goal=0.99),
    Run("four-directions", "digits", block(right), goal=0.96),
    Run("four-corners", "digits", block(right), goal=0.96),
    Run("digits", "digits", block(right), goal=0.96),
    Run("dropout", "gives four symbols back with masks", block(whole), goal=0.9, minutes=3.0),
)
