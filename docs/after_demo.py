"""The end of ``make demo``: what was trained, where it lies, what to try next."""

from __future__ import annotations

import json
import sys
from pathlib import Path

FILES = {
    "model.grid": "the trained model",
    "curve.png": "its learning curve",
    "schedule.html": "its wavefronts, to explore in a browser",
    "metrics.jsonl": "every evaluation",
}


def main() -> None:
    for folder in map(Path, sys.argv[1:]):
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        best = max(records, key=lambda record: min(one["accuracy"] for one in record["held_out"].values()))
        accuracy = min(one["accuracy"] for one in best["held_out"].values())
        told = f"{100 * accuracy:.2f} % right on held-out examples"
        print(f"\n{folder.name}: {told} after {best['samples']:,} samples and {best['seconds']:.0f} s of training")
        for name, what in FILES.items():
            if (folder / name).exists():
                print(f"  {folder / name!s:<34} {what}")
    first, last = sys.argv[1], sys.argv[-1]
    print(f"""
Next:
  . .venv/bin/activate                          so that gridc is a command
  gridc score {last}/model.grid        a confusion matrix
  gridc inspect {first}/model.grid      spec, parameters, training record
  gridc train specs/parity.yaml --bits 16       longer strings
  gridc schedule specs/two-grid.yaml -s T=20    how parallel a grid is
  gridc init sequence                           a spec of your own to begin with
  gridc doctor                                  what this machine has, and what to do about it""")


if __name__ == "__main__":
    main()
