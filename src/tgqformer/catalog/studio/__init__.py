"""The studio: a catalogue that the project draws itself, whose truth is known to the pixel."""

from tgqformer.catalog.studio.draw import draw_product
from tgqformer.catalog.studio.kinds import KINDS
from tgqformer.catalog.studio.product import Product, products
from tgqformer.catalog.studio.sheet import studio_sheet
from tgqformer.catalog.studio.write import draw_studio

__all__ = ["KINDS", "Product", "draw_product", "draw_studio", "products", "studio_sheet"]
