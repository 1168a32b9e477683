"""Folders of pictures as arrays: what a viewer shows, scaled to one size, with numbers from 0 to 1."""

from __future__ import annotations

import importlib
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from gridc.arrays.dataset import Array, Dataset
from gridc.arrays.signature import Signature
from gridc.data.reading import Reading
from gridc.errors import DataError, ResourceError, listed

IMAGES = (".png", ".jpg", ".jpeg", ".jfif", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm", ".pbm", ".pnm", ".avif",
          ".heic", ".jp2", ".tga", ".ico")  # fmt: skip
BESIDE = ("__macosx", "@eadir", "$recycle.bin", "__pycache__", "lost+found", "system volume information")
"""Folders that systems and tools leave beside the user's; names that begin with a dot are left by them, too."""
LITTLE = ("thumbs.db", "desktop.ini", "icon\r")
"""Files that they leave."""
GROUND = (255, 255, 255)
"""What lies under transparent parts: white, as under a picture on a page."""


def read_images(path: Path, how: Reading) -> Dataset:
    """Read a folder of pictures, one folder a class, or, to predict, a picture or any folder of them; values from 0 to 1.

    DataError names the picture that cannot be shown as it is seen."""
    spec = how.spec
    files, others = ([path], []) if path.is_file() else _found(path)
    if not files:
        raise DataError(f"{path} is a folder without images or .npy files in it, expected a file, one .npy file for each array, "
                        "or one folder of images for each class.")  # fmt: skip
    if len(spec.inputs) != 1:
        raise DataError(f"{path} is a folder of images, which suits a spec with one input; '{spec.name}' has more.")
    name, pixels = _input(path, files, how)
    notes = (f"{path}: what is no image took no part: {listed(others[:3], 'and')}{' …' * (len(others) > 3)}.",) if others else ()
    if not how.targets:
        names = [file.name if file == path else file.relative_to(path).as_posix() for file in files]
        return Dataset({name: pixels}, {}, files=np.array(names, object), notes=notes)
    output, labels, ids, empty = _labelled(path, files, how)
    if empty:
        notes += (f"{path}: no class is made of {listed(empty, 'and')}, where there is no image.",)
    return Dataset({name: pixels}, {output: ids}, {}, {output: labels}, signature=Signature({}, {output: "words"}), notes=notes)


def _found(path: Path) -> tuple[list[Path], list[str]]:
    """List the pictures in a folder and in those inside, and the names of its other files, without what tools leave behind."""
    files: list[Path] = []
    others: list[str] = []
    for file in sorted(path.rglob("*")):
        parts = file.relative_to(path).parts
        if any(part.startswith(".") or part.lower() in BESIDE for part in parts) or file.is_dir():
            continue
        if file.suffix.lower() in IMAGES:
            files.append(file)
        elif file.name.lower() not in LITTLE:
            others.append("/".join(parts))
    return files, others


def _labelled(path: Path, files: list[Path], how: Reading) -> tuple[str, tuple[str, ...], Array, list[str]]:
    """Find the output that says a picture's class; returns it, its classes, the class of every file, ``[files]`` int64, and the
    folders that hold no picture."""
    kinds = {name: one for name, one in how.spec.outputs.items() if one.kind in ("classes", "binary")}
    if not kinds:
        raise DataError(f"{path} has a folder for each class, but '{how.spec.name}' has no output of classes.")
    output, one = next(iter(kinds.items()))
    size = 2 if one.kind == "binary" else one.size
    if path.is_file():
        raise DataError(f"{path} is one image, whose class nothing says; expected a folder with one folder for each class.")
    folders = [file.relative_to(path).parts[0] if file.parent != path else "" for file in files]
    found = tuple(sorted({folder for folder in folders if folder}))
    if not found:
        raise DataError(f"{path} holds images but no folders, expected one folder for each class.")
    if how.signature is not None or output in how.vocabularies:
        labels = how.vocabularies.get(output) or tuple(map(str, range(size)))
    else:
        labels = found
        if len(found) > size:
            raise DataError(f"{path} has {len(found)} folders of images ({listed(found[:8], 'and')}{' …' * (len(found) > 8)}), "
                            f"expected at most one for each of the {size} classes of '{output}'.")  # fmt: skip
    for file, folder in zip(files, folders, strict=True):
        if folder not in labels:
            raise DataError(f"{file} lies in no folder of a class, expected {listed(labels)}.")
    here = (p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name.lower() not in BESIDE)
    empty = sorted(p.name for p in here if p.name not in found)
    return output, labels, np.array([labels.index(folder) for folder in folders], np.int64), empty


def _input(path: Path, files: list[Path], how: Reading) -> tuple[str, Array]:
    """Read the pictures in the shape of the only input, patches and all; returns its name, too."""
    spec = how.spec
    name, x = next(iter(spec.inputs.items()))
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
    return name, pixels


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
                scaled = _seen(file, image, channels).resize((columns, rows))
        except DataError:
            raise
        except Exception as error:  # Pillow's readers raise what they like, SyntaxError too
            if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
                why = f"has more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels, too many to be unpacked: scale it down first"
                raise DataError(f"{file} {why}.") from None
            raise DataError(f"{file} cannot be read as an image.") from None
        numbers = np.asarray(scaled, np.float32)
        if scaled.mode == "F":  # scaling may leave the range by a little
            pixels[row] = np.clip(numbers, 0, 1)[..., None]
        else:
            pixels[row] = numbers.reshape(rows, columns, channels) / 255
    return pixels


def _seen(file: Path, image: Any, channels: int) -> Any:
    """Return a picture as a viewer shows it, in Pillow's mode L, RGB, or F with numbers from 0 to 1; DataError where nothing says
    how it is shown."""
    ops: Any = importlib.import_module("PIL.ImageOps")
    frames = getattr(image, "n_frames", 1)
    kind = image.format
    if frames > 1 and kind != "MPO":  # a camera's, whose other frames are the same picture in other sizes
        raise DataError(f"{file} holds {frames} pictures, expected one: save the one that is meant in a file of its own.")
    image = ops.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return _deep(file, kind, image)
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = _grounded(file, image)
    return image.convert("RGB" if channels == 3 else "L")


def _deep(file: Path, kind: str | None, image: Any) -> Any:
    """Scale numbers of more than eight bits to those from 0 to 1."""
    module: Any = importlib.import_module("PIL.Image")
    numbers = np.asarray(image, np.float32)
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")):
        numbers = numbers / 65535
    low, high = float(numbers.min(initial=0)), float(numbers.max(initial=0))
    if not (math.isfinite(low) and math.isfinite(high) and low >= 0 and high <= 1):
        what = "real numbers" if image.mode == "F" else "whole numbers of 32 bits"
        raise DataError(f"{file} holds {what} from {low:g} to {high:g}, and nothing says which of them is white; expected 8 or "
                        "16 bits a channel, or real numbers from 0 to 1.")  # fmt: skip
    return module.fromarray(numbers)


def _grounded(file: Path, image: Any) -> Any:
    """Lay a picture with transparent parts on white; DataError where nothing of it is to be seen there."""
    module: Any = importlib.import_module("PIL.Image")
    image = image.convert("RGBA")
    seen = module.alpha_composite(module.new("RGBA", image.size, (*GROUND, 255)), image).convert("RGB")
    low, high = image.getchannel("A").getextrema()
    if low < high and all(least == most for least, most in seen.getextrema()):
        raise DataError(f"{file} is white on a transparent ground, so that nothing of it is seen on a white one: save it on a "
                        "dark ground, without transparency.")  # fmt: skip
    return seen
