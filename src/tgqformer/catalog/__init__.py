"""The catalogue: files of a shop become checked items, pairs and splits. Nothing here imports torch."""

from tgqformer.catalog.catalog import Catalog, CatalogWriter
from tgqformer.catalog.item import Item, Picture
from tgqformer.catalog.pictures import PictureError, read_picture

__all__ = ["Catalog", "CatalogWriter", "Item", "Picture", "PictureError", "read_picture"]
