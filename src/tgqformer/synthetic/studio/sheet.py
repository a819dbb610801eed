"""A contact sheet of the studio: every silhouette of every kind."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tgqformer.synthetic.studio.draw import SIZE, draw_product
from tgqformer.synthetic.studio.kinds import KINDS
from tgqformer.synthetic.studio.palette import COLOURS
from tgqformer.synthetic.studio.product import Product
from tgqformer.synthetic.studio.textures import PATTERNS


def studio_sheet(*, columns: int = 10, tile: int = 160, seed: int = 0, kinds: tuple[str, ...] = ()) -> Image.Image:
    """Draw every variant of every kind (or of `kinds`) once, in colours, patterns, materials and views that vary."""
    rng = np.random.default_rng(seed)
    shown = [(kind, variant) for kind in kinds or tuple(KINDS) for variant in KINDS[kind].variants]
    rows = -(-len(shown) // columns)
    sheet = Image.new("RGB", (columns * tile, rows * tile), "white")
    for place, (kind, variant) in enumerate(shown):
        product = _sample(kind, variant, place, rng)
        picture, _ = draw_product(product, int(rng.choice([0, 1], p=[0.85, 0.15])))
        small = picture if tile == SIZE else picture.resize((tile, tile), Image.Resampling.LANCZOS)
        sheet.paste(small, (place % columns * tile, place // columns * tile))
    return sheet


def _sample(kind: str, variant: str, place: int, rng: np.random.Generator) -> Product:
    materials, colours, brands = KINDS[kind].materials, tuple(COLOURS), ("Aldine", "Corvo", "Gilda", "Hakone", "Lumi")
    return Product(
        id=f"sample-{place:05d}",
        kind=kind,
        variant=variant,
        colour=colours[(place * 5) % len(colours)],
        pattern=PATTERNS[int(rng.integers(len(PATTERNS)))],
        material=materials[place % len(materials)],
        brand=brands[place % len(brands)],
        title=None,
        price=1.0,
        views=1,
        seed=int(rng.integers(2**31)),
    )
