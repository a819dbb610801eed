"""The catalogue: files of a shop become checked items, pairs and splits. Nothing here imports torch."""

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.importer import import_catalog, plan_import
from tgqformer.catalog.item import Item, Picture
from tgqformer.catalog.pictures import PictureError, read_picture
from tgqformer.catalog.report import ImportReport
from tgqformer.catalog.writer import CatalogWriter

__all__ = ["Catalog", "CatalogWriter", "ImportReport", "Item", "Picture", "PictureError"]
__all__ += ["import_catalog", "plan_import", "read_picture"]
