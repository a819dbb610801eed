"""The scripts of `benchmarks/`, loaded as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def load_script(name: str, patch: pytest.MonkeyPatch | None = None) -> ModuleType:
    """Load `benchmarks/NAME.py`. With `patch` it is known by its name and finds what lies beside it, for one test."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if patch is not None:
        patch.syspath_prepend(str(FOLDER))
        patch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module
