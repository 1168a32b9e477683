"""Model files: a safetensors file of the parameters with a manifest in its header; no pickle.

The manifest holds the spec's text, the versions of the format and of gridc, what the training was, the vocabularies, and
a sha256 over everything, since safetensors itself loads a flipped bit.  Files are written beside their place, synced and
renamed: at any moment the place holds the old file or the new one, whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from gridc.errors import DataError, printable
from gridc.files import little_endian, sha256_of, write_atomically
from gridc.resources import located

Array = NDArray[Any]

FORMAT = 1
"""The version of the format that is written; every older one can be read."""
KEY = "gridc"


@dataclass(frozen=True)
class Model:
    """What a model file holds: parameters by name, the spec's text, and what is known about how they came to be.

    ``kind`` is ``model`` or ``checkpoint``; ``arrays`` are what a checkpoint keeps besides the parameters, by name;
    ``record`` is the training's (optimiser, seed, samples seen, accuracy); ``vocabularies`` maps an input or output to
    what its ids stand for, ``signature`` says which columns of a file they take, and how (``Signature.to_json``);
    ``sha256`` is the hash that was verified; ``products`` is ``bfloat16`` where the sweep takes operands in that, else nothing.
    """

    parameters: Mapping[str, Array]
    spec: str
    digest: str = ""
    record: Mapping[str, Any] = field(default_factory=dict[str, Any])
    vocabularies: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    arrays: Mapping[str, Array] = field(default_factory=dict[str, Array])
    kind: str = "model"
    gridc_version: str = ""
    format: int = FORMAT
    sha256: str = ""
    signature: Mapping[str, Any] = field(default_factory=dict[str, Any])
    products: str = ""

    @property
    def dtype(self) -> Literal["float32", "float64", "bfloat16"]:
        """What ``gridc.compile`` takes for such a grid."""
        wide = any(array.dtype == np.float64 for array in self.parameters.values())
        return "float64" if wide else "bfloat16" if self.products else "float32"


def save(path: str | os.PathLike[str], model: Model) -> str:
    """Write the model whole or not at all; returns its sha256; ResourceError where the disk will not have it."""
    content, digest = encoded(model)
    write_atomically(path, content)
    return digest


def encoded(model: Model) -> tuple[bytes, str]:
    """Give the bytes of a model's file, and their sha256."""
    tensors = {f"parameters/{name}": array for name, array in model.parameters.items()}
    tensors |= {f"arrays/{name}": array for name, array in model.arrays.items()}
    tensors = {name: little_endian(array) for name, array in tensors.items()}
    manifest = {
        "format": FORMAT,
        "kind": model.kind,
        "gridc": model.gridc_version or _version(),
        "spec": model.spec,
        "digest": model.digest,
        "record": model.record,
        "vocabularies": {name: list(words) for name, words in model.vocabularies.items()},
        "signature": dict(model.signature),
    } | ({"products": model.products} if model.products else {})
    digest = sha256_of(_canonical(manifest), tensors)
    from safetensors.numpy import save as written

    # One key: safetensors writes several in any order, and equal models are to be equal files.
    return written(tensors, {KEY: json.dumps(manifest | {"sha256": digest}, ensure_ascii=False)}), digest


def load(path: str | os.PathLike[str]) -> Model:
    """Read the model in that file, and verify it; DataError where it is no model, damaged, or from a newer gridc."""
    return decoded(read_bytes(located(path)), str(located(path)))


def decoded(raw: bytes, path: str) -> Model:
    """Read and verify the bytes of a model's file, which messages call ``path``; DataError as for ``load``."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as read

    try:
        tensors: dict[str, Array] = read(raw)
        header: dict[str, Any] = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        manifest: dict[str, Any] = json.loads(header["__metadata__"][KEY])
        digest, version = manifest.pop("sha256"), manifest["format"]
        if type(version) is not int or not isinstance(digest, str) or version < 1:
            raise TypeError("its format is no number, or its sha256 no text")
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path} is not a whole model file of gridc: {_damage(raw, error)}. Take another copy.") from None
    # The version comes first: what a newer format means, down to its hash, only a newer gridc knows.
    if version > FORMAT:
        raise DataError(f"{path} was written by gridc {printable(manifest.get('gridc'))} in format {version}; this gridc "
                        f"({_version()}) reads formats up to {FORMAT}: upgrade gridc.")  # fmt: skip
    if sha256_of(_canonical(manifest), tensors) != digest:
        raise DataError(f"{path} is damaged: its content does not match its sha256 {digest[:12]}…; take another copy.")
    _check(path, manifest, tensors)
    return Model(
        parameters=_named(tensors, "parameters/"), arrays=_named(tensors, "arrays/"), spec=manifest["spec"],
        digest=manifest["digest"], record=manifest["record"], kind=manifest["kind"], gridc_version=manifest["gridc"],
        vocabularies={name: tuple(words) for name, words in manifest["vocabularies"].items()},
        signature=manifest.get("signature", {}), products=manifest.get("products", ""), format=manifest["format"],
        sha256=digest)  # fmt: skip


def _check(path: str, manifest: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
    """DataError where a whole file says what no model says: a hash can be right for any content."""

    def is_words(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(word, str) for word in cast("list[Any]", value))

    def is_mapping(value: Any, fits: Callable[[Any], bool]) -> bool:
        return isinstance(value, dict) and all(map(fits, cast("dict[Any, Any]", value).values()))

    def is_signature(value: Any) -> bool:
        if not isinstance(value, dict):
            return False
        parts, forms = cast("dict[Any, Any]", value), ("numbers", "words", "symbols")
        return (is_mapping(parts.get("columns", {}), is_words) and is_mapping(parts.get("forms", {}), lambda v: v in forms)
                and is_mapping(parts.get("lengths", {}), lambda v: isinstance(v, str)))  # fmt: skip

    def is_version(value: Any) -> bool:
        return isinstance(value, str) and re.fullmatch(r"[\w.+!-]{1,99}", value) is not None

    kinds: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "kind": ("'model' or 'checkpoint'", lambda v: v in ("model", "checkpoint")),
        "gridc": ("the version of gridc that wrote it", is_version),
        "spec": ("the text of a spec", lambda v: isinstance(v, str)),
        "digest": ("the hash of a spec", lambda v: isinstance(v, str)),
        "record": ("a mapping", lambda v: isinstance(v, dict)),
        "vocabularies": ("a mapping of names to lists of words", lambda v: is_mapping(v, is_words)),
        "signature": ("the columns and forms of inputs and outputs", is_signature),
        "products": ("'bfloat16' or nothing", lambda v: v == "bfloat16"),
    }  # fmt: skip
    for key, (expected, fits) in kinds.items():
        if key in ("signature", "products") and key not in manifest:  # which the first models, and most, do not have
            continue
        if key not in manifest or not fits(manifest[key]):
            found = printable(repr(manifest[key]))[:60] if key in manifest else "nothing"
            raise DataError(f"{path} is no model of gridc: its '{key}' is {found}, expected {expected}.")
    for name, array in tensors.items():
        if name.startswith("parameters/") and array.dtype.kind != "f":
            what = f"the parameter '{printable(name.removeprefix('parameters/'))}'"
            raise DataError(f"{path}: {what} is an array of {array.dtype}, expected real numbers.")


HEADER = 100_000_000
"""Bytes of a header beyond which safetensors refuses a file."""


def read_bytes(path: Path) -> bytes:
    """Read a model file's bytes, no more than its header says that it has; DataError where there is none to read.

    So a file that never ends is not read to its end."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
            size = int.from_bytes(head, "little")
            if len(head) < 8 or not 2 <= size <= HEADER:
                return head + file.read(1 << 16)
            head += file.read(size)
            size += 8 + _declared(head[8:])
            # One byte more shows that something follows, which safetensors then refuses.
            return head + file.read(max(0, size - len(head)) + 1)
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None


def _declared(header: bytes) -> int:
    """How many bytes of arrays a header says that there are; 0 where it says nothing that can be understood."""
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError):
        return max(int(one["data_offsets"][1]) for name, one in json.loads(header).items() if name != "__metadata__")
    return 0


def _canonical(manifest: Mapping[str, Any]) -> str:
    """Write the manifest as text, the same for the same content."""
    return json.dumps(manifest, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _named(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    # Copies: what safetensors gives is read-only, and training changes parameters in place.
    return {name[len(prefix) :]: array.copy() for name, array in tensors.items() if name.startswith(prefix)}


def _damage(raw: bytes, error: Exception) -> str:
    """Say what is wrong, in a few words."""
    if len(raw) < 8:
        return f"it has {len(raw)} bytes"
    if isinstance(error, KeyError) and error.args in (("__metadata__",), (KEY,)):
        return "it is a safetensors file without gridc's manifest"
    size = 8 + int.from_bytes(raw[:8], "little")
    size += _declared(raw[8:size])
    return "it ends too early" if size > len(raw) or "Incomplete" in str(error) else "its header is damaged"


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gridc")
    except PackageNotFoundError:
        return "0+source"
