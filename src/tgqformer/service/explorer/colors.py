"""The colour of a product as its picture shows it: one swatch, and the plain name a shopper would use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from tgqformer.packages import cv2, installed
from tgqformer.synthetic.noise.foreground import foreground
from tgqformer.synthetic.rgb import rgb
from tgqformer.types import Array

SIDE = 96
# Names of plain colours and where they stand in sRGB; several places may share a name.
SHADES = {
    "black": "161618",
    "grey": "808080 505256 b4b4b4 d2d2d2",
    "white": "f5f5f3",
    "beige": "decdaf",
    "brown": "6e4628 966941 4b3223",
    "red": "c82328 961923",
    "pink": "f096af e1508c",
    "orange": "f08228",
    "yellow": "f5d23c cda532 faf0a0",
    "green": "328c46 1e5532 7d9650 96cda0 6e701e",
    "turquoise": "2da5a5",
    "blue": "2d64be 78aadc 3c557d 1e28f0",
    "navy": "192350 191970",
    "purple": "733c96 af8ccd dcd7f0 50148c",
}
"""Names of plain colours, and their places in sRGB."""
NAMED = [(name, shade) for name, shades in SHADES.items() for shade in rgb(shades)]


@dataclass(frozen=True)
class Swatch:
    """A colour as CSS writes it (`#rrggbb`) and its name."""

    css: str
    name: str


def swatch(picture: Image.Image) -> Swatch | None:
    """Return the middle colour of the largest cluster of a product's pixels; None where its background is not plain.

    Before another background, and without OpenCV, the product cannot be told from what is behind it, and a wrong colour
    is worse than none. A median within the fullest of 4 x 4 x 4 cells: quick, no randomness.
    """
    if not installed("cv2"):
        return None
    small = picture.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    pixels = np.asarray(small, np.uint8)
    product = foreground(pixels)
    if product is None:
        return None
    chosen = pixels[product]
    cells = (chosen >> 6).astype(np.int64) @ np.array([16, 4, 1])
    fullest = chosen[cells == np.bincount(cells).argmax()]
    color = np.median(fullest, axis=0).round().astype(np.uint8)
    return Swatch("#{:02x}{:02x}{:02x}".format(*color.tolist()), _name(color))


def _name(color: Array) -> str:
    places = np.array([place for _, place in NAMED], np.uint8)
    away = np.linalg.norm(_lab(places) - _lab(color[None]), axis=1)
    return NAMED[int(away.argmin())][0]


def _lab(colors: Array) -> Array:
    return np.asarray(cv2.cvtColor(colors[None].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0])
