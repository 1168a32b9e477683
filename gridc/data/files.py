"""Data as people have it, as a ``Dataset``: .npz, .npy, .csv, .parquet, series, text, and folders of images.

What an input or output takes is found under its own name, or under the names that ``inputs`` and ``outputs`` give.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gridc.arrays.dataset import Array, Dataset
from gridc.arrays.signature import Signature
from gridc.data.columns import from_table
from gridc.data.fitting import for_spec
from gridc.data.images import IMAGES, read_images
from gridc.data.named_arrays import words_as_ids
from gridc.data.reading import Reading
from gridc.data.separated import not_text, read_separated
from gridc.data.series import read_arff, read_ts
from gridc.data.table import Table
from gridc.data.text import ids, symbols, vocabulary
from gridc.errors import DataError, ResourceError, listed, nearest
from gridc.resources import located


def read(path: str | os.PathLike[str], how: Reading) -> Dataset:
    """Read the examples in that file or folder, fitted to the spec; DataError where they do not fit."""
    path = located(path)
    if not path.exists():
        near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"There is no file {path}{nearest(path.name, near)}")
    if not path.is_dir() and not path.is_file():
        raise DataError(f"{path} is neither a file nor a folder but a device or a pipe, which may have no end; copy it into one.")
    kind = "".join(path.suffixes[-2:]).lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if path.is_dir():
        found = _arrays(path, how) if _npy_files(path) else read_images(path, how)
    elif kind in IMAGES:
        found = read_images(path, how)
    else:
        if kind not in KINDS:
            raise DataError(f"{path} ends in '{path.suffix}', expected {listed(KINDS)}, an image, or a folder of images or .npy "
                            "files.")  # fmt: skip
        if (how.series or not how.heading) and KINDS[kind] not in (_separated, _parquet, _text):
            key = "series" if how.series else "heading: false"
            raise DataError(f"{path} is no table with a row a moment or an example, which '{key}' is for.")
        found = KINDS[kind](path, how)
    with _of(path):
        return for_spec(found, how.spec)


@contextmanager
def _of(path: Path) -> Generator[None]:
    """Have a DataError about arrays say which file they are from."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _arrays(path: Path, how: Reading) -> Dataset:
    """Read arrays by name: an .npz file, or a folder of .npy files, which stay on the disk until a batch needs their rows."""
    held, spec = _held(path, how), how.spec
    alone = len(held) == 1 and len(spec.inputs) == 1 and not how.targets and not how.inputs
    targets = _picked(path, held, "output", spec.outputs, how.outputs) if how.targets else {}
    inputs = {next(iter(spec.inputs)): next(iter(held.values()))} if alone else _picked(
        path, held, "input", spec.inputs, how.inputs)  # fmt: skip
    measured = {} if alone else how.lengths_in(held, path)
    lengths = _picked(path, held, "length", measured, how.lengths)
    with _of(path):
        found = words_as_ids(Dataset(inputs, targets, lengths), how)
    known = {str(names.get(name, name)) for names, given in ((how.inputs, spec.inputs), (how.outputs, spec.outputs),
                                                            (how.lengths, spec.symbols)) for name in given}  # fmt: skip
    left = [] if alone else [name for name in held if name not in known]
    notes = (f"{path}: of its arrays {listed(left, 'and')} took no part.",) if left else ()
    return replace(found, notes=notes, signature=replace(found.signature, lengths=measured))


def _held(path: Path, how: Reading) -> Mapping[str, Array]:
    """Read every array of a file or folder; DataError where it is damaged, or holds what is not read."""
    try:
        files = _npy_files(path) if path.is_dir() else [path]
        for file in files:
            if not _numpys(file):
                raise DataError(f"{file} is no file of NumPy arrays, whatever its name says.")
        if path.is_dir():
            return {p.stem: np.load(p, mmap_mode="r", allow_pickle=False) for p in files}
        if path.suffix.lower() == ".npy":
            return {path.stem: np.load(path, mmap_mode="r", allow_pickle=False)}
        # numpy leaves a damaged file open, so it is given one that we close.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except DataError:
        raise
    except (OSError, ValueError, EOFError, KeyError) as error:
        if "Object arrays" in str(error):
            named = listed(how.spec.symbols) or "for the symbol"
            raise DataError(f"{path} holds an array of Python objects, which gridc does not read, since that could run code. "
                            "Write words as text, with astype(str). Pad sequences of different lengths into one array of "
                            f"numbers, and add an array of their lengths, named {named}.") from None  # fmt: skip
        why = getattr(error, "strerror", None) or str(error).splitlines()[0].rstrip(".")
        if "pickle" in why:  # NumPy goes on to advise that it be trusted
            why = "it is neither .npy nor .npz, or is damaged"
        raise DataError(f"{path} cannot be read as arrays: {why}.") from None
    except Exception as error:  # zipfile.BadZipFile and zlib.error have no common parent
        raise DataError(f"{path} is damaged: {error}.") from None


def _picked(
    path: Path, held: Mapping[str, Array], what: str, names: Iterable[str], mapped: Mapping[str, Any]
) -> dict[str, Array]:
    """Find the arrays of these names, or of those that the spec ``mapped`` them to; DataError for one that is not there."""
    picked: dict[str, Array] = {}
    for name in names:
        key = str(mapped.get(name, name))
        if key in held:
            picked[name] = held[key]
        else:
            offer = f". Name it in the spec: 'data: {{file: …, {what}s: {{{name}: {next(iter(held), 'ARRAY')}}}}}'."
            if not held:
                raise DataError(f"{path} holds no arrays, expected one for the {what} '{name}'.")
            raise DataError(f"{path} has no array '{key}' for the {what} '{name}'; it has {listed(held, 'and')}"
                            f"{nearest(key, held) or offer}")  # fmt: skip
    return picked


def _npy_files(path: Path) -> list[Path]:
    """List a folder's .npy files, without those that a system leaves beside them (``._x.npy``)."""
    return sorted(file for file in path.glob("*.npy") if not file.name.startswith("."))


def _numpys(path: Path) -> bool:
    """Whether a file begins as NumPy's do; np.load would take any other for a pickle, and advise to trust it."""
    with path.open("rb") as opened:
        return opened.read(6).startswith(b"PK" if path.suffix.lower() == ".npz" else b"\x93NUMPY")


def _separated(path: Path, how: Reading) -> Dataset:
    given = [(how.signature or Signature()).columns.values(), how.inputs.values(), how.outputs.values()]
    names = [name for part in given for one in part for name in ([one] if isinstance(one, str) else one)]
    return from_table(read_separated(path, [*names, *how.spec.inputs, *how.spec.outputs], how.heading), how)


def _parquet(path: Path, how: Reading) -> Dataset:
    try:
        import importlib

        # An extra without stubs, so its types are open.
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ResourceError("Reading .parquet needs pyarrow: pip install 'gridc[data]'.") from error
    try:
        table = parquet.read_table(path)
    except Exception as error:  # pyarrow's own hierarchy, and OSError
        raise DataError(f"{path} cannot be read as parquet: {str(error).splitlines()[0]}.") from None
    if not table.num_rows:
        raise DataError(f"{path} has no rows.")
    return from_table(Table(path, {name: table[name].to_pylist() for name in table.column_names}, 1), how)


def _text(path: Path, how: Reading) -> Dataset:
    """Windows of a text, each with the window one symbol later as its target; or, to predict, the text as one sequence.

    For a spec of anything else a file of text is a table."""
    spec = how.spec
    given = [name for name, one in spec.inputs.items() if one.kind == "vocabulary"]
    wanted = [name for name, one in spec.outputs.items() if one.kind == "classes"]
    if len(given) != 1 or len(spec.inputs) != 1 or len(wanted) != 1 or how.series or not how.heading:
        try:
            return _separated(path, how)
        except DataError as error:
            if how.series or not how.heading:
                raise
            raise DataError(f"{error} It was read as a table: as a text it suits a spec with one input of a vocabulary and one "
                            f"output of classes, and '{spec.name}' is another.") from None  # fmt: skip
    try:
        content = symbols(path.read_bytes().decode("utf-8-sig"), how.by)
    except UnicodeDecodeError as error:
        raise not_text(path, error) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    name, output = given[0], wanted[0]
    size = min(spec.inputs[name].size, spec.outputs[output].size)
    words = how.vocabularies.get(name) or vocabulary([content], size, how.by, str(path))
    numbers = ids(content, words, str(path))
    steps = spec.dimensions[spec.inputs[name].over[0]].size if spec.inputs[name].over else None
    window, count = how.window, len(numbers) - how.targets
    if isinstance(steps, int):
        window = steps
    elif (how.signature is not None and count < window) or not how.targets:
        window = count  # what was trained before takes a text of any length
    if window < 1 or count < window:
        raise DataError(f"{path} has {len(numbers)} symbols, expected more than the window of {window}." if window == how.window
                        else f"{path} has {len(numbers)} symbols, expected {max(window, 1) + how.targets} or more.")  # fmt: skip
    rows = count // window
    left = len(numbers) - rows * window - how.targets
    told = f"{path}: its last {left:,} of {len(numbers):,} symbols, less than a window of {window}, took no part."
    whole = {name: numbers[: rows * window].reshape(rows, window)}
    targets = {output: numbers[1 : rows * window + 1].reshape(rows, window)} if how.targets else {}
    signature = Signature({}, {name: "symbols", output: "symbols"})
    return Dataset(whole, targets, {}, {name: words, output: words}, signature=signature, notes=(told,) if left else ())


KINDS: Mapping[str, Callable[[Path, Reading], Dataset]] = {
    ".npz": _arrays, ".npy": _arrays, ".csv": _separated, ".tsv": _separated, ".csv.gz": _separated, ".tsv.gz": _separated,
    ".data": _separated, ".dat": _separated, ".parquet": _parquet,
    ".txt": _text, ".ts": lambda path, how: from_table(read_ts(path), how),
    ".arff": lambda path, how: from_table(read_arff(path), how),
}  # fmt: skip
"""How a file is read, by the end of its name."""
