"""Embeddings on disk, the vector table that is served, and exact neighbours in bulk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tgqformer.errors import TgqError
from tgqformer.files import read_json

if TYPE_CHECKING:
    from tgqformer.store.base import Store

BACKENDS = ("lance",)


def open_store(path: Path) -> Store:
    """Open the store in a folder, whatever its back end.

    Raises: TgqError where there is none.
    """
    try:
        backend = read_json(path / "store.json")["backend"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TgqError(f"{path} is no store (no readable store.json); make one with `tgq index`") from error
    if backend == "lance":
        from tgqformer.store.lance import LanceStore

        return LanceStore.open(path)
    raise TgqError(f"{path} is a store of the back end {backend!r}; this version has: {', '.join(BACKENDS)}")
