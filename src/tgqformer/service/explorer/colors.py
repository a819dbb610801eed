"""The colour of a product as its picture shows it: one swatch, and the plain name a shopper would use."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from tgqformer.synthetic.noise.foreground import foreground

SIDE = 96
# Names of plain colours and where they stand in sRGB; several places may share a name.
NAMED: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("black", (22, 22, 24)), ("grey", (128, 128, 128)), ("grey", (80, 82, 86)), ("grey", (180, 180, 180)),
    ("white", (245, 245, 243)), ("beige", (222, 205, 175)), ("brown", (110, 70, 40)), ("brown", (150, 105, 65)),
    ("brown", (75, 50, 35)), ("red", (200, 35, 40)), ("red", (150, 25, 35)), ("pink", (240, 150, 175)),
    ("pink", (225, 80, 140)), ("orange", (240, 130, 40)), ("yellow", (245, 210, 60)), ("yellow", (205, 165, 50)),
    ("green", (50, 140, 70)), ("green", (30, 85, 50)), ("green", (125, 150, 80)), ("green", (150, 205, 160)),
    ("turquoise", (45, 165, 165)), ("blue", (45, 100, 190)), ("blue", (120, 170, 220)), ("blue", (60, 85, 125)),
    ("navy", (25, 35, 80)), ("purple", (115, 60, 150)), ("purple", (175, 140, 205)),
)  # fmt: skip


@dataclass(frozen=True)
class Swatch:
    """A colour as CSS writes it (`#rrggbb`) and its name."""

    css: str
    name: str


def swatch(picture: Image.Image) -> Swatch:
    """Give the middle colour of the largest cluster of a product's pixels, before its background where that is plain.

    A median in Lab within the fullest of 4 x 4 x 4 cells: quick, no randomness.
    """
    small = picture.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    pixels = np.asarray(small, np.uint8)
    product = foreground(pixels)
    chosen = pixels[product] if product is not None else pixels.reshape(-1, 3)
    cells = (chosen >> 6).astype(np.int64) @ np.array([16, 4, 1])
    fullest = chosen[cells == np.bincount(cells).argmax()]
    color = np.median(fullest, axis=0).round().astype(np.uint8)
    return Swatch("#{:02x}{:02x}{:02x}".format(*color.tolist()), _name(color))


def _name(color: np.ndarray) -> str:
    places = np.array([place for _, place in NAMED], np.uint8)
    away = np.linalg.norm(_lab(places) - _lab(color[None]), axis=1)
    return NAMED[int(away.argmin())][0]


def _lab(colors: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.cvtColor(colors[None].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0])
