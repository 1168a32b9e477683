"""The folder of a training: its lock, its checkpoints, and what can be resumed.

Checkpoints are model files with the training's state besides; the last few are kept, and the best model.  A new one is
whole on the disk before an old one goes, so that a crash at any moment leaves the last good one.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from gridc.errors import DataError, UsageError
from gridc.files import TEMPORARY, DiskFull, locked, trouble, write_atomically
from gridc.model_file import Model, load, save
from gridc.resources import located

MODEL, METRICS, CURVE, LOCK = "model.grid", "metrics.jsonl", "curve.png", "lock"
CHECKPOINTS, BEST = "checkpoints", "best.grid"
_NAME = re.compile(r"step-(\d{12})\.grid")


class Folder:
    """A training's folder, held by this process alone from ``open`` to ``close`` (or the end of a ``with`` block)."""

    def __init__(self, path: str | os.PathLike[str], *, keep: int = 3):
        self.path, self.keep = located(path), keep
        self._lock: IO[str] | None = None

    def open(self) -> Folder:
        """Make the folder, lock it and clear temporaries that a crash left; UsageError where a training holds it."""
        try:
            (self.path / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
            lock = (self.path / LOCK).open("a+")
        except OSError as error:
            raise trouble(error, self.path / LOCK, "made") from error
        if not locked(lock):
            lock.seek(0)
            owner = lock.read().strip()
            lock.close()
            raise UsageError(f"Another training{f' (process {owner})' if owner else ''} is using {self.path}; "
                             "wait for it, or give another folder.")  # fmt: skip
        self._lock = lock
        with contextlib.suppress(OSError):  # the number is a courtesy; on a full disk the lock holds all the same
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
        for folder in (self.path, self.path / CHECKPOINTS):
            for stale in folder.glob(f".*{TEMPORARY}"):
                with contextlib.suppress(OSError):
                    stale.unlink()
        return self

    def close(self) -> None:
        """Lets another training have the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Folder:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def checkpoints(self) -> list[Path]:
        """List the checkpoints, newest first."""
        folder = self.path / CHECKPOINTS
        found = [p for p in folder.iterdir() if _NAME.fullmatch(p.name)] if folder.is_dir() else []
        return sorted(found, reverse=True)

    def save(self, step: int, model: Model) -> Path:
        """Add a checkpoint; the oldest go once more than ``keep`` are there, or sooner where the disk is full."""
        path = self.path / CHECKPOINTS / f"step-{step:012d}.grid"
        self._with_room(lambda: save(path, model))
        for old in self.checkpoints()[self.keep :]:
            with contextlib.suppress(OSError):
                old.unlink()
        return path

    def save_model(self, model: Model, name: str = MODEL) -> Path:
        """Write the model that people use, or with ``BEST`` the best so far."""
        path = self.path / (name if name == MODEL else f"{CHECKPOINTS}/{name}")
        self._with_room(lambda: save(path, model))
        return path

    def _with_room(self, write: Callable[[], object]) -> None:
        while True:
            try:
                write()
                return
            except DiskFull:
                spare = self.checkpoints()[1:]
                if not spare:
                    raise
                spare[-1].unlink()

    def latest(
        self, report: Callable[[str], None] = lambda line: None, check: Callable[[Model], object] = lambda model: None
    ) -> Model | None:
        """Read the newest checkpoint that is whole, or None where there is none at all.

        One that is damaged, no checkpoint, or that ``check`` raises DataError for is reported and passed over; DataError
        where no other is left.
        """
        trouble_: DataError | None = None
        for path in self.checkpoints():
            try:
                model = load(path)
                if model.kind != "checkpoint":
                    raise DataError(f"{path} is a model, not a checkpoint: there is no training in it to resume.")
                try:
                    check(model)
                except DataError as error:
                    raise DataError(f"{path}: {error}.") from None
                return model
            except DataError as error:
                trouble_ = trouble_ or error
                report(f"{error} Going on from the checkpoint before it.")
        if trouble_ is not None:
            raise DataError(f"No checkpoint in {self.path / CHECKPOINTS} can be used. {trouble_}")
        return None

    def taken(self) -> bool:
        """Whether a training has already left something here."""
        return bool(self.checkpoints()) or (self.path / MODEL).exists() or (self.path / METRICS).exists()

    def refuse_if_taken(self) -> None:
        """UsageError where a training has already left something here."""
        if self.taken():
            raise UsageError(f"{self.path} already holds a training; resume it (--resume), replace it (--overwrite), "
                             "or give another folder (--folder).")  # fmt: skip

    def clear(self) -> None:
        """Remove what an earlier training left here."""
        others = (MODEL, METRICS, CURVE, f"{CHECKPOINTS}/{BEST}")
        for path in (*self.checkpoints(), *(self.path / name for name in others)):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def write(self, name: str, content: str | bytes) -> Path:
        """Put a small file beside the model, whole or not at all."""
        write_atomically(self.path / name, content)
        return self.path / name

    def append(self, name: str, line: str) -> None:
        """Add a line to a file."""
        path = self.path / name
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise trouble(error, path, "written") from error


def _used(path: Path) -> bool:
    return Folder(path).taken() or _held(path)


def free_folder(name: str, root: str | os.PathLike[str] = "runs", used: Callable[[Path], bool] = _used) -> Path:
    """``runs/NAME``, or ``runs/NAME-2`` and so on: the first that no training has used."""
    plain = re.sub(r"[^\w.-]+", "-", name).strip(".-") or "grid"
    return next(path for path in _numbered(Path(root), plain) if not used(path))


def last_folder(name: str, root: str | os.PathLike[str] = "runs") -> Path:
    """Find the one of ``runs/NAME``, ``runs/NAME-2``... that was trained in last; DataError where there is none."""
    plain = re.sub(r"[^\w.-]+", "-", name).strip(".-") or "grid"
    found: list[Path] = []
    for path in _numbered(Path(root), plain):
        if not path.exists():
            break
        if Folder(path).checkpoints():
            found.append(path)
    if not found:
        raise DataError(f"There is no training of '{name}' to resume in {root}.")
    return max(found, key=lambda path: Folder(path).checkpoints()[0].stat().st_mtime_ns)


def _numbered(root: Path, plain: str) -> Iterator[Path]:
    yield root / plain
    number = 2
    while True:
        yield root / f"{plain}-{number}"
        number += 1


def _held(path: Path) -> bool:
    """Whether a training that has saved nothing yet holds the folder."""
    try:
        with (path / LOCK).open("a+") as lock:
            return not locked(lock)
    except OSError:
        return False
