"""Clutter noise: the plain background gives way to a room with things in it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tgqformer.packages import cv2
from tgqformer.synthetic.noise.foreground import foreground
from tgqformer.synthetic.noise.scene import room
from tgqformer.types import Bools, Pixels


def clutter(picture: Image.Image, severity: int, rng: np.random.Generator) -> tuple[Pixels, Bools]:
    """Replace the background by a scene; the more of it and the fuller the room, the severer.

    At severity 1 only a table or floor below is new, at 5 everything. Where the background is not plain, the scene
    fills a margin around the picture instead, wider with severity. The outermost pixel row of what is replaced is half
    old, half new, so that the product is not cut out hard; it is noise in the mask.
    Returns (uint8 [h, w, 3], bool [h, w]).
    """
    pixels = np.asarray(picture, np.uint8)
    height, width = pixels.shape[:2]
    product = foreground(pixels)
    if product is not None:
        mask = ~product & _reach(height, severity)
    else:
        mask = _margin(height, width, (0.05, 0.08, 0.11, 0.14, 0.18)[severity - 1], rng)
    scene = room(height, width, 1 + severity, rng)
    weight = np.where(mask, 0.5 + 0.5 * cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)), 0)
    weight *= (0.7, 0.8, 0.88, 0.95, 1.0)[severity - 1]
    share = weight.astype(np.float32)
    merged = pixels + cv2.merge([share, share, share]) * (scene - pixels)
    return np.rint(merged).astype(np.uint8), mask


def _reach(height: int, severity: int) -> Bools:
    """Rows that are replaced, from below: bool [height, 1]."""
    covered = (0.35, 0.52, 0.7, 0.86, 1.0)[severity - 1]
    return np.asarray(np.arange(height) >= height * (1 - covered))[:, None]


def _margin(height: int, width: int, share: float, rng: np.random.Generator) -> Bools:
    """A wavy border, on average as wide as `share` of each side."""
    mask = np.zeros((height, width), bool)
    for turned in (mask, mask[::-1], mask.T, mask.T[::-1]):
        deep, wide = turned.shape
        knots = rng.uniform(0.5, 1.5, (1, 7)).astype(np.float32)
        wave = cv2.resize(knots, (wide, 1), interpolation=cv2.INTER_CUBIC)[0] * share * deep
        turned |= np.arange(deep)[:, None] < np.maximum(1, np.rint(wave))
    return mask
