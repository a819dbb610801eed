"""Distractor noise: a second product in the picture."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tgqformer.noise.foreground import Mask, Pixels, foreground

Box = tuple[int, int, int, int]


def distractor(
    picture: Image.Image, donor: Image.Image, severity: int, rng: np.random.Generator
) -> tuple[Pixels, Mask]:
    """Shrink the picture to one side of a white canvas and put the donor's product beside or over it.

    Everything but the pixels of the shrunken picture that stay visible is noise only where the donor is; the white that
    the shrinking leaves is background, not noise. Returns (uint8 [h, w, 3], bool [h, w]).
    """
    canvas, (left, top, right, bottom) = place(picture, severity, rng)
    height, width = canvas.shape[:2]
    share = (0.30, 0.38, 0.46, 0.54, 0.62)[severity - 1]
    second, shape = _cut(donor, max(1, round(width * share)), max(1, round(height * share)))
    # The donor stands on the side that the picture left free.
    free_right, free_bottom = left + right < width, top + bottom < height
    x = width - second.shape[1] if free_right else 0
    y = height - second.shape[0] if free_bottom else 0
    mask = np.zeros((height, width), bool)
    mask[y : y + second.shape[0], x : x + second.shape[1]] = shape
    canvas[mask] = second[shape]
    return canvas, mask


def place(picture: Image.Image, severity: int, rng: np.random.Generator) -> tuple[Pixels, Box]:
    """Shrink a picture into a corner of a canvas of its size in the colour of its border: (canvas, box)."""
    width, height = picture.size
    factor = (0.95, 0.88, 0.81, 0.74, 0.67)[severity - 1]
    small = picture.resize((max(1, round(width * factor)), max(1, round(height * factor))), Image.Resampling.BICUBIC)
    pixels = np.asarray(picture, np.uint8)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    canvas = np.empty_like(pixels)
    canvas[:] = np.median(border, axis=0).astype(np.uint8)
    left = 0 if rng.random() < 0.5 else width - small.width
    top = 0 if rng.random() < 0.5 else height - small.height
    canvas[top : top + small.height, left : left + small.width] = np.asarray(small, np.uint8)
    return canvas, (left, top, left + small.width, top + small.height)


def _cut(donor: Image.Image, width: int, height: int) -> tuple[Pixels, Mask]:
    """Fit the donor's product into width x height: (pixels, shape); an inset where its background is not plain."""
    pixels = np.asarray(donor, np.uint8)
    product = foreground(pixels)
    if product is not None and product.any():
        rows, columns = np.flatnonzero(product.any(1)), np.flatnonzero(product.any(0))
        box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        donor = donor.crop(box)
        product = product[box[1] : box[3], box[0] : box[2]]
    factor = min(width / donor.width, height / donor.height)
    size = max(1, round(donor.width * factor)), max(1, round(donor.height * factor))
    small = np.asarray(donor.resize(size, Image.Resampling.BICUBIC), np.uint8)
    if product is None or not product.any():
        return small, np.ones(small.shape[:2], bool)
    shape = np.asarray(Image.fromarray(product).resize(size, Image.Resampling.NEAREST), bool)
    return small, shape if shape.any() else np.ones(small.shape[:2], bool)
