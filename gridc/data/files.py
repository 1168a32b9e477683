"""Data as people have it, as a ``Dataset``: .npz, .npy, .csv, .parquet, text, and folders of images.

What an input or output takes is found under its own name, or under the names that ``inputs`` and ``outputs`` give.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gridc.arrays.dataset import Array, Dataset
from gridc.data.columns import from_columns
from gridc.data.fitting import for_spec
from gridc.data.reading import Reading
from gridc.data.text import ids, symbols, vocabulary
from gridc.errors import DataError, ResourceError, listed, nearest

if TYPE_CHECKING:
    pass

IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm")


def read(path: str | os.PathLike[str], how: Reading) -> Dataset:
    """Read the examples in that file or folder, fitted to the spec; DataError where they do not fit."""
    path = Path(path)
    if not path.exists():
        near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"There is no file {path}{nearest(path.name, near)}")
    if not path.is_dir() and not path.is_file():
        raise DataError(f"{path} is neither a file nor a folder but a device or a pipe, which may have no end; copy it into one.")
    if path.is_dir():
        found = _arrays(path, how) if any(path.glob("*.npy")) else _images(path, how)
    else:
        kinds = {".npz": _arrays, ".npy": _arrays, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet, ".txt": _text}
        if path.suffix.lower() not in kinds:
            raise DataError(f"{path} ends in '{path.suffix}', expected {listed(kinds)}, or a folder of images or .npy files.")
        found = kinds[path.suffix.lower()](path, how)
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
    with _of(path):
        if len(held) == 1 and len(spec.inputs) == 1 and not how.targets and not how.inputs:
            return Dataset({next(iter(spec.inputs)): next(iter(held.values()))}, {})
    targets = _picked(path, held, "output", spec.outputs, how.outputs) if how.targets else {}
    inputs = _picked(path, held, "input", spec.inputs, how.inputs)
    lengths = _picked(path, held, "length", spec.symbols, how.lengths, needed=False)
    with _of(path):
        return Dataset(inputs, targets, lengths)


def _held(path: Path, how: Reading) -> Mapping[str, Array]:
    """Read every array of a file or folder; DataError where it is damaged, or holds what is not read."""
    try:
        files = sorted(path.glob("*.npy")) if path.is_dir() else [path]
        for file in files:
            if not _numpys(file):
                raise DataError(f"{file} is no file of NumPy arrays, whatever its name says.")
        if path.is_dir():
            return {p.stem: np.load(p, mmap_mode="r", allow_pickle=False) for p in files}
        if path.suffix == ".npy":
            return {path.stem: np.load(path, mmap_mode="r", allow_pickle=False)}
        # numpy leaves a damaged file open, so it is given one that we close.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except DataError:
        raise
    except (OSError, ValueError, EOFError, KeyError) as error:
        if "Object arrays" in str(error):
            raise DataError(f"{path} holds an array of Python objects, which gridc does not read, since that could run code. "
                            "Pad sequences of different lengths into one array of numbers, and add an array of their lengths, "
                            f"named {listed(how.spec.symbols) or 'for the symbol'}.") from None  # fmt: skip
        why = getattr(error, "strerror", None) or str(error).splitlines()[0].rstrip(".")
        if "pickle" in why:  # NumPy goes on to advise that it be trusted
            why = "it is neither .npy nor .npz, or is damaged"
        raise DataError(f"{path} cannot be read as arrays: {why}.") from None
    except Exception as error:  # zipfile.BadZipFile and zlib.error have no common parent
        raise DataError(f"{path} is damaged: {error}.") from None


def _picked(
    path: Path, held: Mapping[str, Array], what: str, names: Iterable[str], mapped: Mapping[str, Any], *, needed: bool = True
) -> dict[str, Array]:
    """Find the arrays of these names, or of those that the spec ``mapped`` them to; DataError for one that is ``needed``."""
    picked: dict[str, Array] = {}
    for name in names:
        key = str(mapped.get(name, name))
        if key in held:
            picked[name] = held[key]
        elif needed or name in mapped:
            offer = f". Name it in the spec: 'data: {{file: …, {what}s: {{{name}: {next(iter(held), 'ARRAY')}}}}}'."
            if not held:
                raise DataError(f"{path} holds no arrays, expected one for the {what} '{name}'.")
            raise DataError(f"{path} has no array '{key}' for the {what} '{name}'; it has {listed(held, 'and')}"
                            f"{nearest(key, held) or offer}")  # fmt: skip
    return picked


def _numpys(path: Path) -> bool:
    """Whether a file begins as NumPy's do; np.load would take any other for a pickle, and advise to trust it."""
    with path.open("rb") as opened:
        return opened.read(6).startswith(b"PK" if path.suffix == ".npz" else b"\x93NUMPY")


def _csv(path: Path, how: Reading) -> Dataset:
    import csv

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
    except UnicodeDecodeError as error:
        raise _not_text(path, error) from None
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table: {getattr(error, 'strerror', None) or error}.") from None
    rows = [row for row in rows if row]
    if len(rows) < 2:
        raise DataError(f"{path} has no rows under its heading.")
    head = [name.strip() for name in rows[0]]
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(head):
            raise DataError(f"{path}, row {number}: {len(row)} fields, expected the {len(head)} of the heading.")
    if len(set(head)) < len(head):
        double = next(name for name in head if head.count(name) > 1)
        raise DataError(f"{path} has two columns named '{double}'.")
    return from_columns(dict(zip(head, map(list, zip(*rows[1:], strict=True)), strict=True)), path, how)


def _not_text(path: Path, error: UnicodeDecodeError) -> DataError:
    byte = f"its byte {error.start + 1:,} is 0x{error.object[error.start]:02x}"
    return DataError(f"{path} cannot be read as text in UTF-8: {byte}; save it as UTF-8.")


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
    return from_columns({name: table[name].to_pylist() for name in table.column_names}, path, how)


def _text(path: Path, how: Reading) -> Dataset:
    """Windows of a text, each with the window one symbol later as its target; or, to predict, the text as one sequence."""
    spec = how.spec
    given = [name for name, one in spec.inputs.items() if one.kind == "vocabulary"]
    wanted = [name for name, one in spec.outputs.items() if one.kind == "classes"]
    if len(given) != 1 or len(spec.inputs) != 1 or len(wanted) != 1:
        raise DataError(f"{path} is text, which suits a spec with one input of a vocabulary and one output of classes; "
                        f"'{spec.name}' is another.")  # fmt: skip
    try:
        content = symbols(path.read_text(encoding="utf-8"), how.by)
    except UnicodeDecodeError as error:
        raise _not_text(path, error) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    size = min(spec.inputs[given[0]].size, spec.outputs[wanted[0]].size)
    words = how.vocabularies.get(given[0]) or vocabulary([content], size, how.by, str(path))
    numbers = ids(content, words, str(path))
    count = (len(numbers) - 1) // how.window
    if count < 1:
        raise DataError(f"{path} has {len(numbers)} symbols, expected more than the window of {how.window}.")
    whole = numbers[: count * how.window + 1]
    vocabularies = {given[0]: words, wanted[0]: words}
    return Dataset({given[0]: whole[:-1].reshape(count, -1)}, {wanted[0]: whole[1:].reshape(count, -1)}, {}, vocabularies)


def _images(path: Path, how: Reading) -> Dataset:
    """Read a folder of images: one folder a class, or the images themselves to predict; values from 0 to 1."""
    spec = how.spec
    files = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in IMAGES]
    if not files:
        raise DataError(f"{path} is a folder without images or .npy files in it, expected a file, one .npy file for each array, "
                        "or one folder of images for each class.")  # fmt: skip
    if len(spec.inputs) != 1:
        raise DataError(f"{path} is a folder of images, which suits a spec with one input; '{spec.name}' has more.")
    name, x = next(iter(spec.inputs.items()))
    classes = tuple(sorted(p.name for p in path.iterdir() if p.is_dir()))
    channels = 3 if how.colour else 1
    sizes = [spec.dimensions[d].size for d in x.over]
    side = round((x.size / channels) ** 0.5)
    patches = len(sizes) == 2 and side * side * channels == x.size
    if how.size:
        rows, columns = how.size
    elif patches and all(isinstance(n, int) for n in sizes):
        rows, columns = (int(n) * side for n in sizes)
    else:
        raise DataError(f"The spec does not say how large images are; give 'images: {{size: [ROWS, COLUMNS]}}' for {path}.")
    pixels = _pixels(files, rows, columns, channels)
    if patches and side > 1 and rows % side == 0 and columns % side == 0:
        pixels = pixels.reshape(-1, rows // side, side, columns // side, side, channels).swapaxes(2, 3)
        pixels = pixels.reshape(len(files), rows // side, columns // side, -1)
    if classes:
        output, labels, ids_of = _labelled(path, files, classes, how)
        return Dataset({name: pixels}, {output: ids_of}, {}, {output: labels})
    if how.targets:
        raise DataError(f"{path} holds images but no folders, expected one folder for each class.")
    return Dataset({name: pixels}, {})


def _pixels(files: list[Path], rows: int, columns: int, channels: int) -> Array:
    """Read images scaled to one size, ``[files, rows, columns, channels]`` float32 from 0 to 1."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ResourceError("Reading images needs Pillow: pip install 'gridc[data]'.") from error
    pixels = np.empty((len(files), rows, columns, channels), np.float32)
    for row, file in enumerate(files):
        try:
            with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning), Image.open(file) as image:
                scaled = image.convert("RGB" if channels == 3 else "L").resize((columns, rows))
        except Exception as error:  # Pillow's readers raise what they like, SyntaxError too
            if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
                why = f"has more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels, too many to be unpacked: scale it down first"
                raise DataError(f"{file} {why}.") from None
            raise DataError(f"{file} cannot be read as an image.") from None
        pixels[row] = np.asarray(scaled, np.float32).reshape(rows, columns, channels) / 255
    return pixels


def _labelled(path: Path, files: list[Path], classes: tuple[str, ...], how: Reading) -> tuple[str, tuple[str, ...], Array]:
    """Find the output that says an image's class; returns it, its classes, and the class of every file, ``[files]`` int64."""
    output = next((key for key, out in how.spec.outputs.items() if out.kind in ("classes", "binary")), None)
    if output is None:
        raise DataError(f"{path} has a folder for each class, but '{how.spec.name}' has no output of classes.")
    labels = tuple(how.vocabularies.get(output, classes))
    for file in files:
        if file.relative_to(path).parts[0] not in labels:
            raise DataError(f"{file} lies in no folder of a class, expected {listed(labels)}.")
    return output, labels, np.array([labels.index(file.relative_to(path).parts[0]) for file in files], np.int64)
