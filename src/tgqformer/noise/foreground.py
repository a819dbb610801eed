"""Where the product of a picture is, as far as its background tells."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def foreground(pixels: Pixels, tolerance: int = 12) -> Mask | None:
    """Find the product before a plain background: bool [h, w], True on the product.

    The background is what a flood from the picture's border reaches; each step may differ by `tolerance` from its
    neighbour. Returns None where the flood tells nothing: less than 10 % or more than 97 % of the picture.

    pixels: uint8 [h, w, 3].
    """
    height, width = pixels.shape[:2]
    if min(height, width) < 8:
        return None
    bordered = cv2.copyMakeBorder(pixels, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=_border_color(pixels))
    flooded = np.zeros((height + 4, width + 4), np.uint8)
    step = (tolerance,) * 3
    cv2.floodFill(bordered, flooded, (0, 0), (0, 0, 0), step, step, 4 | cv2.FLOODFILL_MASK_ONLY | (255 << 8))
    background = flooded[2:-2, 2:-2] > 0
    if not 0.1 < background.mean() < 0.97:
        return None
    opened = cv2.morphologyEx((~background).astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    return np.asarray(opened > 0)


def _border_color(pixels: Pixels) -> tuple[int, int, int]:
    """Median of the border: what the background looks like where the product is not."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    red, green, blue = np.median(border, axis=0).astype(int).tolist()
    return red, green, blue
