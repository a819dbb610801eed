"""What comes as packages of its own: where their files are, without importing them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

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
