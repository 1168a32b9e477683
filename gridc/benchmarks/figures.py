"""What the benchmark measured, as figures: a table for people, one for a page, and a picture."""

from __future__ import annotations

import statistics
from typing import Any

from gridc.resources import located

PEAK = "FMA peak"
"""The row of what the processor can do at most."""
PRODUCTS = "NumPy's products"
"""The contestant that only multiplies; NumPy does not in bfloat16."""
IN_TORCH = "torch with gridc"
"""The contestant that is PyTorch's training of a GridModule: no peer."""
APART = 3.0
"""How many times as long threads take to meet whose cores have no cache in common, at least."""
Report = dict[str, Any]


def table(times: dict[str, list[float]], flops: int) -> Report:
    """Milliseconds, spread over rounds, GFLOP/s, the share of what the processor can do, and how many times gridc's time each
    takes (median over rounds of the ratio).  Of the processor itself the best round counts: the others only disturbed it."""
    found: Report = {}
    limit = min(times[PEAK])
    for name, taken in times.items():
        ratios = [t / g for t, g in zip(taken, times["gridc"], strict=True)]
        seconds = limit if name == PEAK else statistics.median(taken)
        found[name] = {
            "ms": 1e3 * seconds, "from": 1e3 * min(taken), "to": 1e3 * max(taken),
            "gflops": flops / seconds / 1e9, "share": limit / seconds,
            "times_gridc": statistics.median(ratios), "ratio_from": min(ratios), "ratio_to": max(ratios),
        }  # fmt: skip
    return found


def lines(title: str, found: Report) -> list[str]:
    """Write a table for people."""
    result = [f"{title}", f"  {'':<22}{'ms':>9}  {'rounds':>17}  {'GFLOP/s':>8}  {'of peak':>8}  {'× gridc':>8}"]
    for name, row in sorted(found.items(), key=lambda item: item[1]["ms"]):
        spread = f"{row['from']:.4g} – {row['to']:.4g}"
        result.append(f"  {name:<22}{row['ms']:>9.4g}  {spread:>17}  {row['gflops']:>8.4g}  {row['share']:>8.0%}  "
                      f"{row['times_gridc']:>8.2f}")  # fmt: skip
    return result + [_met(met) for row in found.values() if (met := row.get("meetings_us"))]


def _met(met: list[float]) -> str:
    """Say what a meeting of threads took in each round, and what it means where that was not always the same."""
    text = f"  gridc's threads meet in {statistics.median(met):.2f} µs ({min(met):.2f} – {max(met):.2f} before its turns)"
    if max(met) > APART * min(met):
        text += ": the cores had a cache in common only in some rounds, as on a virtual machine whose host moves them"
    return text


def tables(name: str, found: Report) -> str:
    """Write every table of one size."""
    return "\n".join(line for what, figures in found.items() for line in lines(f"{name}, {what}", figures))


def _ms(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def markdown(report: Report) -> str:
    """Write a table for a page: per size and kind of step gridc beside the processor, NumPy's products and the fastest peer."""
    rows = ["| size | step | gridc | GFLOP/s | of peak | NumPy's products | fastest peer | gridc is faster by |",
            "| --- | --- | ---: | ---: | ---: | ---: | --- | ---: |"]  # fmt: skip
    for size, found in report["sizes"].items():
        for what in ("training", "forward"):
            figures = found.get(what)
            if not figures:
                continue
            own = figures["gridc"]
            peers = {name: row for name, row in figures.items() if name not in ("gridc", PRODUCTS, PEAK, IN_TORCH)}
            best = min(peers, key=lambda name, peers=peers: peers[name]["ms"], default="")
            peer = f"{best}, {_ms(peers[best]['ms'])}" if best else "–"
            ratio = "{times_gridc:.2f} ({ratio_from:.2f} – {ratio_to:.2f})".format(**peers[best]) if best else "–"
            cells = [size, what, _ms(own["ms"]), f"{own['gflops']:.3g}", f"{100 * own['share']:.0f} %",
                     f"{100 * figures[PRODUCTS]['share']:.0f} %" if PRODUCTS in figures else "–", peer, ratio]  # fmt: skip
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def picture(report: Report, path: str) -> None:
    """Bars: how many times gridc's time each takes."""
    from matplotlib.figure import Figure

    sizes = list(report["sizes"])
    names = list(dict.fromkeys(name for size in sizes for name in report["sizes"][size]["training"]))
    # Its stubs leave half of the types open.
    figure: Any = Figure(figsize=(max(6.0, 1.3 * len(sizes)), 4.0), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        rows = [report["sizes"][size]["training"].get(name) for size in sizes]
        places = [k + (i - (len(names) - 1) / 2) * width for k, row in enumerate(rows) if row]
        axes.bar(places, [row["times_gridc"] for row in rows if row], width, label=name)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_yscale("log")
    axes.set_xticks(range(len(sizes)), sizes)
    axes.set_ylabel("time of a training step, gridc = 1")
    axes.legend(fontsize="small", ncols=2)
    figure.savefig(located(path), dpi=150)
