"""The studio: a catalogue that the project draws itself, whose truth is known to the pixel."""

from tgqformer.synthetic.studio.draw import draw_product
from tgqformer.synthetic.studio.kinds import KINDS
from tgqformer.synthetic.studio.product import Product, products
from tgqformer.synthetic.studio.sheet import studio_sheet
from tgqformer.synthetic.studio.write import draw_studio

__all__ = ["KINDS", "Product", "draw_product", "draw_studio", "products", "studio_sheet"]
