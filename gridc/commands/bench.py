"""``gridc bench``: gridc beside what the processor can do, NumPy's matrix products, PyTorch and JAX, on this machine.

Every contestant must first return the same loss and gradients; then they take turns, so that whatever else the machine
does meets all of them; what is printed are medians, ratios of medians and the spread of the rounds.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click
import numpy as np

from gridc import resources
from gridc.benchmarks import figures, libraries, limits, starts
from gridc.errors import NumbersError, UsageError, nearest
from gridc.options import MOST_THREADS
from gridc.symbolic import backends

PEERS = {
    "torch": "torch", "jax": "jax", "torch-compile": "torch", "scan-c": "pytensor",
}  # fmt: skip
"""What to compare with → the package that it takes.  The last two build for minutes, and run only when they are named."""
USUAL = ("torch", "jax")
SETTLED, MOST_SETTLING = 0.02, 0.5
"""Seconds in which nothing of this process may compute before a turn, and for which that is waited for at most."""
DTYPES = ("float32", "float64", "bfloat16")
TOLERANCE = 1e-4
Report = dict[str, Any]


def installed(peers: Iterable[str]) -> list[str]:
    """Those of the peers that this Python can import."""
    return [peer for peer in peers if importlib.util.find_spec(PEERS[peer])]


def contestants(
    case: Any, peers: Sequence[str], say: Callable[[str], None] = lambda line: None, backend: str = "auto"
) -> list[Any]:
    """All that can do a case, from the same parameters, gridc on a backend first and NumPy's products last; NumbersError where
    two differ."""
    from gridc.benchmarks import cases

    own = cases.gridc(case, backend=backend, eager=backend != "jax")
    parameters = {name: np.array(value) for name, value in case.grid(eager=False).parameters.items()}
    makers: list[Callable[[], Any]] = []
    if {"torch", "torch-compile"} & set(peers):
        torch = importlib.import_module("gridc.benchmarks.peers_torch")
        made = torch.contestants(case, parameters, "torch-compile" in peers)
        makers += made if "torch" in peers else made[-1:]
    if "jax" in peers:
        makers += importlib.import_module("gridc.benchmarks.peers_jax").contestants(case, parameters)
    if "scan-c" in peers:  # under the Numba linker a Scan and its gradient do not agree in one function (PyTensor 3.0.7)
        makers.append(lambda: cases.gridc(case, "PyTensor's Scan, C", backend="c", lowering="plain", eager=False))
    assert own.gradients is not None
    expected = own.gradients()
    found = [own]
    for make in makers:
        start = time.perf_counter()
        other = make()
        differ = disagreement(expected, other.gradients())
        if differ:
            raise NumbersError(f"{case.name}: {other.name} and gridc do not agree: {differ}")
        other.step()
        say(f"{case.name}: {other.name} agrees; built and run once in {time.perf_counter() - start:.1f} s")
        found.append(other)
    return found if case.dtype == "bfloat16" else [*found, cases.numpy_products(case)]


def disagreement(expected: Any, found: Any) -> str:
    """Say what differs by more than 1e-4 of its largest number, or nothing."""
    (loss, ours), (other, theirs) = expected, found
    if not abs(loss - other) <= TOLERANCE * abs(loss):
        return f"loss {other} for {loss}"
    for name, gradient in ours.items():
        error = np.abs(gradient - theirs[name]).max() if name in theirs else np.inf
        if not error <= TOLERANCE * np.abs(gradient).max():
            return f"the gradient of {name} by {error:.1e}"
    return ""


def take_turns(
    ways: dict[str, Callable[[], Any]], rounds: int, seconds: float, before: Callable[[str], None] = lambda name: None
) -> dict[str, list[float]]:  # fmt: skip
    """Measure the median seconds of each way in each round; a round gives each of them ``seconds``, and at least one run.
    ``before`` is called with its name before each turn.

    Every round has an order of its own: whoever always comes after the same other one is measured with its leftovers."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    random = np.random.default_rng(0)
    for _ in range(rounds):
        for name in random.permutation(list(ways)).tolist():
            run = ways[name]
            taken: list[float] = []
            _settle()
            before(name)
            run()  # what ran before has left the caches cold
            until = time.perf_counter() + seconds
            while not taken or time.perf_counter() < until:
                start = time.perf_counter()
                run()
                taken.append(time.perf_counter() - start)
            times[name].append(statistics.median(taken))
    return times


def _settle() -> None:
    """Wait until threads that others have left spinning sleep: a library's do so for a tenth of a second after a product."""
    until, busy = time.perf_counter() + MOST_SETTLING, True
    while busy and time.perf_counter() < until:
        start = time.process_time()
        time.sleep(SETTLED)
        busy = time.process_time() - start > 0.1 * SETTLED


def measure(
    case: Any, peers: Sequence[str], rounds: int, seconds: float, say: Callable[[str], None], backend: str = "auto"
) -> Report:
    """Measure a case's tables: training, and for a stacked LSTM forward too."""
    from gridc.benchmarks import cases
    from gridc.benchmarks.peak import Peak

    found, limit = contestants(case, peers, say, backend), Peak(resources.threads(), case.dtype)
    work = cases.products(cases.program(case))
    kinds = {"training": ({c.name: c.step for c in found}, work.flops)}
    if case.kind == "stacked":
        kinds["forward"] = {c.name: c.forward for c in found}, work.forward_flops
    tables: Report = {}
    for what, (ways, flops) in kinds.items():
        met: list[float] = []
        taken = take_turns({**ways, figures.PEAK: limit}, rounds, seconds, _meetings(met))
        # What the processor can do at most, for as many operations as this is.
        taken[figures.PEAK] = [flops / limit.flops * each for each in taken[figures.PEAK]]
        tables[what] = figures.table(taken, flops)
        tables[what]["gridc"]["meetings_us"] = [1e6 * each for each in met]
    return tables


def _meetings(met: list[float]) -> Callable[[str], None]:
    """Note before each turn of gridc's what a meeting of its threads takes: on a virtual machine that changes from one second to
    the next, and with it what threads that share a sweep bring."""
    from gridc.insight.scaling import gathering
    from gridc.scheduling.threads import Sharing

    threads = resources.threads()

    def note(name: str) -> None:
        if name == "gridc" and threads > 1:
            met.append(gathering(Sharing("wavefront", threads))[1])

    return note


def _told(case: Any, title: str, found: Report) -> str:
    """Write a case's tables; of untied weights also what a step takes at least, for which the memory is measured."""
    from gridc.benchmarks import cases

    text = figures.tables(title, found)
    if not case.name.endswith("-untied"):
        return text
    own, peak = (1e-3 * found["training"][name]["ms"] for name in ("gridc", figures.PEAK))
    found["limits"] = limits.limits(case, cases.program(case), own, peak, limits.bandwidth(resources.threads()))
    return f"{text}\n  {limits.line(found['limits'])}"


def device() -> str:
    """Say which devices JAX computes on."""
    jax: Any = importlib.import_module("jax")
    kinds: list[str] = [one.device_kind for one in jax.devices()]
    return f"{len(kinds)} × {kinds[0]}"


def surroundings(peers: Sequence[str], backend: str = "auto", dtype: str = "float32") -> Report:
    """Say what was measured on."""
    packages = ("gridc", "pytensor", "numpy", "numba", *(PEERS[peer] for peer in peers))
    return {
        "machine": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count(),
        "threads": resources.threads(),
        "blas": libraries.blas(), "backend": backend, "dtype": dtype, "device": device() if "jax" in (backend, *peers) else None,
        "packages": {name: importlib.metadata.version(name) for name in dict.fromkeys(packages)},
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }  # fmt: skip


class _Freed(click.Command):
    """A command that runs where nothing holds a library to other kernels than its best: in a process of its own where need be."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[__name__] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        if libraries.held():
            click.echo(libraries.warning(), err=True)
            ctx.exit(libraries.freed(["bench", *ctx.meta[__name__]]))
        return super().invoke(ctx)


@click.command(cls=_Freed)
@click.argument("sizes", nargs=-1, metavar="[SIZE]...")
@click.option("--sizes", "listed_", metavar="S1,S3", help="Which sizes; all of the tied ones unless --untied or --all says more.")
@click.option("--untied", is_flag=True, help="The untied sizes too.")
@click.option("--all", "everything", is_flag=True, help="Every size: untied, stacked, three-dimensional, multi-dimensional.")
@click.option("--peers", metavar="torch,jax", help=f"Whom to compare with, of {', '.join(PEERS)}; unless given, torch and jax.")
@click.option("--backend", default="auto", show_default=True, help="What gridc itself runs on: auto or python, c, numba or jax.")
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True,
              help="The type of all numbers; bfloat16 is that of what products take.")  # fmt: skip
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="How often the contestants take turns.")
@click.option("--seconds", default=0.5, show_default=True, type=click.FloatRange(0), help="Each one's time in a round.")
@click.option("--start/--no-start", default=True, show_default=True, help="Measure the time to the first step, and memory.")
@click.option("--ranks", is_flag=True, help="Only what a step takes on ranks of one thread each (S1, unless sizes say).")
@click.option("--threads", "counts", metavar="1,2,4", help="Only what a step takes in so many threads (S2, unless sizes say).")
@click.option("--json", "json_", metavar="FILE", type=click.Path(dir_okay=False), help="Write every figure there; - is stdout.")
@click.option("--markdown", "table_", metavar="FILE", type=click.Path(dir_okay=False), help="Write a table for a page there.")
@click.option("--png", metavar="FILE", type=click.Path(dir_okay=False), help="Draw the ratios.")
def command(
    sizes: tuple[str, ...], listed_: str | None, untied: bool, everything: bool, peers: str | None, backend: str,
    dtype: str, rounds: int, seconds: float, start: bool, ranks: bool, counts: str | None, json_: str | None, table_: str | None,
    png: str | None,
) -> None:
    """Measure training steps beside what the processor can do, NumPy's products and whichever peers are installed: gridc bench
    S1 S3.

    Let nothing else run meanwhile: on a busy machine every figure doubles, and not all alike.
    """
    backends.prepare()
    from gridc.benchmarks.cases import CASES, of
    from gridc.commands.output import write

    named_sizes = ",".join([*sizes, listed_ or ""]).strip(",")
    if ranks:
        _on_ranks(_chosen(named_sizes or "S1", CASES, "size"), rounds, seconds, json_, dtype)
        return
    if counts is not None:
        _on_threads(_chosen(named_sizes or "S2", CASES, "size"), _numbers(counts), rounds, seconds, json_, dtype)
        return
    wanted = _chosen(named_sizes, CASES, "size") if named_sizes else [
        name for name in CASES if everything or ("-" not in name and name != "MD") or (untied and name.endswith("untied"))
    ]  # fmt: skip
    if named_sizes and untied:
        wanted += [f"{name}-untied" for name in wanted if f"{name}-untied" in CASES]
    named = _asked(peers, dtype)
    there = installed(named)

    def say(line: str) -> None:
        click.echo(line, err=True)

    for peer in named:
        if peer not in there:
            say(f"{peer} is not installed and stays out; pip install '{PEERS[peer]}' brings it in.")
    backends.backend(backend)
    report: Report = {"surroundings": surroundings(there, backend, dtype), "sizes": {}}
    say(_beside(report))
    on = {"auto": "", "jax": f", gridc on jax ({report['surroundings']['device']})"}.get(backend, f", gridc on {backend}")
    on += f", {dtype}" * (dtype != "float32")
    for name in wanted:
        found = report["sizes"][name] = measure(of(name, dtype), there, rounds, seconds, say, backend)
        click.echo(_told(of(name, dtype), f"{name}{on}", found), err=json_ == "-")
        if start and backend != "jax":  # whose memory is not this process's alone, and is taken in large pieces
            found["memory"] = m = starts.memory(name, dtype)
            text = "memory {:.1f} MB at the peak, {:.1f} MB on paper: × {:.2f}"
            click.echo("  " + text.format(m["peak_bytes"] / 1e6, m["paper_bytes"] / 1e6, m["ratio"]), err=json_ == "-")
    if start:
        report["start"] = starts.started(wanted, backend, dtype)
        for name, row in report["start"].items():
            click.echo(f"{name}: ready {row['ready_s']:.2f} s after starting Python, first step {row['first_step_s']:.2f} s, "
                       f"other sizes {row['other_sizes_s']:.3f} s", err=json_ == "-")  # fmt: skip
    if png:
        figures.picture(report, png)
    if table_:
        write(figures.markdown(report), table_)
    _keep(report, json_)


def _keep(report: Report, json_: str | None) -> None:
    from gridc.commands.output import print_json, write

    if json_ == "-":
        print_json(report)
    elif json_:
        write(json.dumps(report, indent=1) + "\n", json_)


def _on_ranks(wanted: Sequence[str], rounds: int, seconds: float, json_: str | None, dtype: str) -> None:
    from gridc.benchmarks import ranks

    found = ranks.measure(wanted, rounds, seconds, lambda line: click.echo(line, err=True), dtype)
    click.echo(ranks.table(found), err=json_ == "-")
    _keep({"surroundings": surroundings((), dtype=dtype), "ranks": found}, json_)


def _on_threads(
    wanted: Sequence[str], counts: Sequence[int], rounds: int, seconds: float, json_: str | None, dtype: str
) -> None:  # fmt: skip
    """Measure a step in every number of threads in turns, beside that of the first number."""
    from gridc.benchmarks.cases import gridc, of

    found: Report = {}
    for name in wanted:
        taken = take_turns({str(n): gridc(of(name, dtype), threads=n).step for n in counts}, rounds, seconds)
        ms = {n: 1000 * statistics.median(each) for n, each in taken.items()}
        first = next(iter(ms))
        found[name] = {n: {"ms": each, "times": ms[first] / each} for n, each in ms.items()}
        click.echo(f"{name}, a training step on {len(resources.cores())} cores", err=json_ == "-")
        for n, row in found[name].items():
            click.echo(f"  {n:>3} thread{'s' * (n != '1')}{row['ms']:>10.4g} ms   × {row['times']:.2f}", err=json_ == "-")
    _keep({"surroundings": surroundings((), dtype=dtype), "threads": found}, json_)


def _numbers(text: str) -> list[int]:
    found = text.replace(" ", ",").split(",")
    if not all(one.isdigit() and 0 < int(one) <= MOST_THREADS for one in found):
        raise UsageError(f"--threads is {text!r}, expected numbers from 1 to {MOST_THREADS}, such as 1,2,4.")
    return [int(one) for one in found]


def _beside(report: Report) -> str:
    """Say who multiplies NumPy's products, or why nobody does."""
    if report["surroundings"]["dtype"] != "bfloat16":
        return f"Matrix products by {'; '.join(report['surroundings']['blas'])}."
    from gridc.benchmarks import peak

    return f"NumPy multiplies no bfloat16 and stays out. The peak is that of {peak.told('bfloat16')}."


def _asked(peers: str | None, dtype: str) -> list[str]:
    """Give the peers to compare with: none in bfloat16, which nobody else rounds to where gridc does."""
    if peers is None:
        return [] if dtype == "bfloat16" else list(USUAL)
    found = _chosen(peers, PEERS, "peer")
    if found and dtype == "bfloat16":
        raise UsageError(f"--peers {','.join(found)} with --dtype bfloat16: gridc rounds what its products take and keeps "
                         "all else in float32; no peer does, and so none gives its numbers. Expected no peers, or another dtype.")
    return found


def _chosen(text: str, known: Iterable[str], what: str) -> list[str]:
    names = [name for name in text.replace(" ", ",").split(",") if name]
    for name in names:
        if name not in known:
            raise UsageError(f"There is no {what} '{name}'{nearest(name, known) or '; expected ' + ', '.join(known)}")
    return names
