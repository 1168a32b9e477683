"""Draws the pictures of the README and the documentation into ``docs/pictures``: ``make pictures``; ``--check`` only compares.

The drawings are gridc's own SVG and come out the same everywhere.  The explorer is a page, so its picture takes a Chromium on the
path; without one the picture that is there stays."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import gridc

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "pictures"
SPEC = ROOT / "specs" / "text-classifier.yaml"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def drawings() -> dict[str, str]:
    """Every drawing by the name of its file."""
    plan = gridc.schedule(SPEC, T=12)
    made = {f"{name}.svg": plan.to_svg(name) for name in ("grid", "cell", "wavefronts", "workers", "alive")}
    made["widths.svg"] = gridc.schedule(ROOT / "specs" / "three-grid.yaml").to_svg("widths")
    return made


def photograph(page: Path, picture: Path, address: str, width: int, height: int) -> bool:
    """A picture of a page in a headless Chromium; False where there is none."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        return False
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless=new", "--no-sandbox", "--hide-scrollbars", "--virtual-time-budget=2000"]
        flags += [f"--user-data-dir={profile}"]
        flags += [f"--disable-{what}" for what in ("gpu", "dev-shm-usage", "background-networking", "component-update", "sync")]
        size = [f"--window-size={width},{height}", f"--screenshot={picture}"]
        subprocess.run([program, *flags, *size, page.as_uri() + address], check=True, capture_output=True, timeout=120)
    return True


def main() -> int:
    made = drawings()
    if "--check" in sys.argv:
        stale = [name for name, text in made.items() if not _is(FOLDER / name, text)]
        print(*(f"{name} is stale: make pictures" for name in stale), sep="\n", end="\n" * bool(stale))
        return int(bool(stale))
    FOLDER.mkdir(exist_ok=True)
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(gridc.schedule(SPEC, T=12).to_html(), encoding="utf-8")
        address = "#wavefront=10&step=depth[4,2]&path&theme="
        for theme, name in (("light", "explorer.png"), ("dark", "explorer-dark.png")):
            if not photograph(page, FOLDER / name, address + theme, 1280, 800):
                print(f"found no Chromium: {name} stays as it was")
    print(f"drawn into {FOLDER.relative_to(ROOT)}: {', '.join(sorted(p.name for p in FOLDER.iterdir()))}")
    return 0


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
