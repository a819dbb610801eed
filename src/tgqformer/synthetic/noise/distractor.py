"""Distractor noise: a second product in the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image

from tgqformer.packages import cv2
from tgqformer.synthetic.noise.foreground import backdrop, foreground
from tgqformer.types import Bools, Floats, Pixels

Box = tuple[int, int, int, int]
Picture = TypeVar("Picture", Pixels, Floats)


@dataclass(frozen=True)
class Piece:
    """What is pasted: pixels uint8 [h, w, 3] and how far they cover, float32 [h, w] in [0, 1]."""

    pixels: Pixels
    cover: Floats


def distractor(
    picture: Image.Image, donor: Image.Image, severity: int, rng: np.random.Generator
) -> tuple[Pixels, Bools]:
    """Shrink the picture to one side of the canvas and put the donor's product beside or over it.

    A donor before a plain background is cut out; any other, and one in five of those, stands in an inset with a white
    rim. Noise is where the donor (or the inset) is; the canvas that the shrinking uncovers is plain background, not
    noise, as `place` lays it out. Returns (uint8 [h, w, 3], bool [h, w]).
    """
    canvas, (left, top, _, _) = place(picture, severity, rng)
    height, width = canvas.shape[:2]
    share = (0.34, 0.42, 0.5, 0.58, 0.66)[severity - 1]
    piece = _piece(donor, max(1, round(width * share)), max(1, round(height * share)), inset=rng.random() < 0.2)
    tall, wide = piece.cover.shape
    margin_x, margin_y = round(0.03 * width), round(0.03 * height)
    # The donor stands in the corner opposite to the one that the picture was moved to.
    x = max(0, width - wide - margin_x) if left == 0 else min(margin_x, width - wide)
    y = max(0, height - tall - margin_y) if top == 0 else min(margin_y, height - tall)
    under = canvas[y : y + tall, x : x + wide]
    cover = cv2.merge([piece.cover, piece.cover, piece.cover])
    merged = np.rint(under + cover * (piece.pixels.astype(np.float32) - under)).astype(np.uint8)
    mask = np.zeros((height, width), bool)
    mask[y : y + tall, x : x + wide] = piece.cover > 0
    canvas[y : y + tall, x : x + wide] = merged
    return canvas, mask


def place(picture: Image.Image, severity: int, rng: np.random.Generator) -> tuple[Pixels, Box]:
    """Shrink a picture into a corner of a canvas of its size that continues its backdrop.

    Returns the canvas, uint8 [h, w, 3], and where the picture lies on it: (left, top, right, bottom).
    """
    width, height = picture.size
    factor = (0.95, 0.88, 0.81, 0.74, 0.67)[severity - 1]
    small = picture.resize((max(1, round(width * factor)), max(1, round(height * factor))), Image.Resampling.BICUBIC)
    canvas = np.rint(backdrop(np.asarray(picture, np.uint8), height, width)[0]).astype(np.uint8)
    left = 0 if rng.random() < 0.5 else width - small.width
    top = 0 if rng.random() < 0.5 else height - small.height
    canvas[top : top + small.height, left : left + small.width] = np.asarray(small, np.uint8)
    return canvas, (left, top, left + small.width, top + small.height)


def _piece(donor: Image.Image, width: int, height: int, *, inset: bool) -> Piece:
    """Fit the donor into width x height: its product alone, or an inset."""
    pixels = np.asarray(donor, np.uint8)
    product = None if inset else foreground(pixels)
    if product is None:
        return _inset(_fit(pixels, width, height))
    rows, columns = np.flatnonzero(product.any(1)), np.flatnonzero(product.any(0))
    cut = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    small = _fit(pixels[cut], width, height)
    # Pulled in by half a pixel and softened: no rim of the old background.
    cover = cv2.erode(product.astype(np.uint8), np.ones((2, 2), np.uint8)).astype(np.float32)[cut]
    return Piece(small, _fit(np.ascontiguousarray(cover), width, height).clip(0, 1))


def _fit(values: Picture, width: int, height: int) -> Picture:
    """Scale an array [h, w, ...] to lie within width x height, its proportions kept."""
    factor = min(width / values.shape[1], height / values.shape[0])
    size = max(1, round(values.shape[1] * factor)), max(1, round(values.shape[0] * factor))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(values, size, interpolation=method), values.dtype)


def _inset(pixels: Pixels) -> Piece:
    """Give a small picture a white rim with a thin grey edge."""
    framed, rim = pixels.copy(), max(1, round(0.04 * min(pixels.shape[:2])))
    edge = np.ones(framed.shape[:2], bool)
    edge[rim:-rim, rim:-rim] = False
    framed[edge] = 255
    framed[[0, -1]] = framed[:, [0, -1]] = 190
    return Piece(framed, np.ones(framed.shape[:2], np.float32))
