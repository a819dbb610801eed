"""tgqformer: item embeddings for item-to-item retrieval that look past promo stickers and clutter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tgqformer.version import __version__

if TYPE_CHECKING:
    from tgqformer.catalog.catalog import Catalog
    from tgqformer.catalog.item import Item, Picture
    from tgqformer.model.embedder import ItemEmbedder
    from tgqformer.model.onnx import OnnxEmbedder

__all__ = ["Catalog", "Item", "ItemEmbedder", "OnnxEmbedder", "Picture", "__version__"]

_HOMES = {
    "Catalog": "tgqformer.catalog.catalog",
    "Item": "tgqformer.catalog.item",
    "Picture": "tgqformer.catalog.item",
    "ItemEmbedder": "tgqformer.model.embedder",
    "OnnxEmbedder": "tgqformer.model.onnx",
}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used, so that `import tgqformer` costs nothing."""
    if name in _HOMES:
        from importlib import import_module

        from tgqformer.packages import told_missing

        try:
            return getattr(import_module(_HOMES[name]), name)
        except ModuleNotFoundError as error:
            if (missing := told_missing(error)) is None:
                raise
            raise ModuleNotFoundError(f"{name}: {missing}", name=error.name) from error
    raise AttributeError(f"module 'tgqformer' has no attribute {name!r}")
