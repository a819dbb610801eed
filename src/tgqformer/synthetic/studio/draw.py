"""A product in front of the camera: pose, backdrop, light and shadow."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from tgqformer.errors import TgqError
from tgqformer.synthetic.rgb import rgb
from tgqformer.synthetic.studio.drawings import draw
from tgqformer.synthetic.studio.kinds import KINDS
from tgqformer.synthetic.studio.palette import COLOURS, partner, vary
from tgqformer.synthetic.studio.product import Product
from tgqformer.synthetic.studio.sketch import BOARD, Finish, Sketch
from tgqformer.types import Bools, Floats

SIZE = 224
"""Pictures are 224 x 224 pixels."""
FRONT, TURNED, CLOSE = 0, 1, 2
"""Views: from the front; mirrored, turned and a little from the side; close up."""

Box = tuple[float, float, float, float]
_WHOLE: Box = (0.0, 0.0, float(BOARD), float(BOARD))

_BACKDROPS = rgb("fafafa f6f6f7 eeeff1 f4f0ea e9eef3 ecf1ec f5ecea e2e4e8")


def draw_product(product: Product, view: int = FRONT) -> tuple[Image.Image, Bools]:
    """Photograph a product before a studio backdrop.

    Args:
        product: what to draw. view: 0 front, 1 turned, 2 close-up.

    Returns:
        The picture, RGB of SIZE x SIZE, and its mask, bool [SIZE, SIZE]: where the product covers half a pixel or more.

    Raises:
        TgqError: if the package that draws SVG is not installed.
    """
    layer = np.asarray(_rasterise(_svg(product, view)), np.float32)
    alpha = layer[..., 3:] / 255
    rng = np.random.default_rng([product.seed, 10 + view])
    ground = _backdrop(rng)
    if view != CLOSE:
        ground *= 1 - _shadow(layer[..., 3], KINDS[product.kind].on_floor(product.variant))[..., None]
    pixels = layer[..., :3] * alpha + ground * (1 - alpha)
    return Image.fromarray(np.rint(pixels).astype(np.uint8)), layer[..., 3] >= 128


def finish_of(product: Product) -> Finish:
    """Choose the exact shades, the pattern's scale and turn, from the product's seed."""
    rng = np.random.default_rng([product.seed, 1])
    return Finish(
        base=vary(COLOURS[product.colour], rng),
        second=partner(product.colour, rng),
        pattern=product.pattern,
        material=product.material,
        logo=product.brand,
        scale=float(rng.uniform(0.85, 1.3)),
        turn=float(rng.choice([0, 90])) if product.pattern == "stripes" else 0.0,
    )


def _svg(product: Product, view: int) -> str:
    sketch = Sketch(finish_of(product))
    draw(sketch, product.kind, product.variant)
    rng = np.random.default_rng([product.seed, 20 + view])
    middle = BOARD / 2
    # Straight to the pixels, tiles of patterns are copied; turned, they are resampled, which takes twice the time.
    lean, zoom = 0.0, rng.uniform(0.84, 0.98)
    across = -zoom if rng.random() < 0.25 else zoom
    if view == TURNED:
        lean, across = rng.uniform(4, 9) * rng.choice([-1, 1]), -zoom * rng.uniform(0.74, 0.86)
    shift_x, shift_y = rng.uniform(-9, 9), rng.uniform(-6, 6)
    place = (
        f"translate({middle + shift_x:.2f} {middle + shift_y:.2f}) rotate({lean:.2f}) "
        f"scale({across:.4f} {zoom:.4f}) translate({-middle} {-middle})"
    )
    box = _close_box(sketch, place, rng) if view == CLOSE else _WHOLE
    return sketch.svg(SIZE, place, box)


def _close_box(sketch: Sketch, place: str, rng: np.random.Generator) -> Box:
    """Choose a part of the board that the product fills by four fifths, or as far as it can."""
    cells = 40
    cover = np.asarray(_rasterise(sketch.svg(cells, place, _WHOLE)).getchannel("A"), np.float32) / 255
    side = float(rng.uniform(170, 220))
    across = round(side * cells / BOARD)
    filled = np.lib.stride_tricks.sliding_window_view(cover, (across, across)).mean(axis=(2, 3))
    good = np.argwhere(np.abs(filled - min(0.8, float(filled.max()))) < 0.05)
    top, left = good[int(rng.integers(len(good)))] * (BOARD / cells)
    return float(left), float(top), side, side


def _rasterise(svg: str) -> Image.Image:
    data = _resvg().svg_to_bytes(svg_string=svg, skip_system_fonts=True)
    return Image.open(BytesIO(bytes(data))).convert("RGBA")


@lru_cache(maxsize=1)
def _resvg() -> Any:
    try:
        import resvg_py
    except ImportError as error:
        raise TgqError(
            "drawing the studio catalogue needs resvg-py; install it with pip install 'tgqformer[studio]'"
        ) from error
    return resvg_py


def _backdrop(rng: np.random.Generator) -> Floats:
    """A sheet of paper, lit from one side, a little darker at the rim: float32 [SIZE, SIZE, 3]."""
    tone = np.array(_BACKDROPS[int(rng.integers(len(_BACKDROPS)))], np.float32)
    away, height = _rim_and_height()
    fall = 1 - float(rng.uniform(0.02, 0.07)) * away - float(rng.uniform(0.0, 0.06)) * height
    return np.asarray(np.clip(tone * fall[..., None] + 3, 0, 255), np.float32)


@lru_cache(maxsize=1)
def _rim_and_height() -> tuple[Floats, Floats]:
    line = np.linspace(-1, 1, SIZE, dtype=np.float32)
    rows, columns = line[:, None], line[None, :]
    return np.asarray(0.6 * (rows**2 + columns**2), np.float32), np.asarray((rows + 1) / 2, np.float32)


def _shadow(alpha: Floats, stands: bool) -> Floats:
    """How much light is missing, float32 [SIZE, SIZE] in [0, 0.5].

    What stands has a pool of shadow below it; what lies or hangs, a soft double behind it.
    """
    cover = Image.fromarray(alpha.astype(np.uint8))
    cast = Image.new("L", cover.size)
    cast.paste(cover, (5, 7))
    soft = np.asarray(cast.filter(ImageFilter.GaussianBlur(7)), np.float32) / 255
    if not stands:
        return np.asarray(soft * 0.3, np.float32)
    rows = np.flatnonzero((alpha > 127).any(1))
    if not len(rows):
        return np.zeros_like(alpha)
    foot = int(rows[-1])
    columns = np.flatnonzero((alpha[foot - (foot - int(rows[0])) // 7 : foot + 1] > 127).any(0))
    left, right = int(columns[0]), int(columns[-1])
    pool = Image.new("L", cover.size)
    pool.paste(255, (left + 8, foot - 5, max(left + 9, right - 4), foot + 5))
    below = np.asarray(pool.filter(ImageFilter.GaussianBlur(6)), np.float32) / 255
    return np.asarray(np.clip(soft * 0.12 + below * 0.5, 0, 0.5), np.float32)
