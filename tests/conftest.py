"""Options and fixtures that several test files use."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("GRIDC_VERIFY", "1")  # every plan that a test makes is verified
# Programs of JAX that run once: half of the time that compiling them takes is spent on making them quick.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

from gridc.symbolic import backends

GOLDEN = Path(__file__).with_name("golden")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what tests compare with, instead of comparing")


def pytest_configure() -> None:
    """Import PyTensor before the first test: it warns of what is installed here, which tests take for errors, and raises the
    recursion limit, which hypothesis would notice in the middle of a test."""
    backends.prepare()
    importlib.import_module("pytensor")


@pytest.fixture
def golden_text(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden_text(name, text)`` compares a page that people read with ``tests/golden/NAME.txt``, line by line."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        if request.config.getoption("--update-golden"):
            path.write_text(text + "\n", encoding="utf-8")
        assert path.exists(), f"there is no {path}; `pytest --update-golden` writes it"
        assert text.splitlines() == path.read_text(encoding="utf-8").splitlines()

    return compare


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, Any], None]:
    """``golden(name, value)`` compares plain data with ``tests/golden/NAME.json``, or writes it with --update-golden."""

    def compare(name: str, value: Any) -> None:
        path = GOLDEN / f"{name}.json"
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
        assert path.exists(), f"there is no {path}; `pytest --update-golden` writes it"
        assert json.loads(json.dumps(value)) == json.loads(path.read_text(encoding="utf-8"))

    return compare
