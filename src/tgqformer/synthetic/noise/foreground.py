"""Where the product of a picture is, as far as its background tells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tgqformer.packages import cv2
from tgqformer.types import Array, Bools, Floats, Pixels

NEAR, CLOSE, STEEP = 22.0, 7.0, 14.0
"""Grey levels: at most so far from the background's model; surely background; steepest slope inside a background."""


def foreground(pixels: Pixels) -> Bools | None:
    """Find the product before a plain background: bool [h, w], True on the product.

    The background is modelled as a smooth sheet (`backdrop`) fitted to the picture's border. Background is what is
    like the sheet, or a soft shadow on it, and hangs together with the border; an edge stops it. What has product
    on all four sides (the hole of a handle, a white shirt on white) counts as product. Returns None where the border
    is not plain, or where less than 2 % or more than 90 % of the picture would be product.

    pixels: uint8 [h, w, 3].
    """
    height, width = pixels.shape[:2]
    if min(height, width) < 8:
        return None
    sheet, fits = backdrop(pixels, height, width)
    if fits < 0.55:
        return None
    away = _most(cv2.split(cv2.absdiff(pixels, sheet.astype(np.uint8))))
    reached = _from_border(_like(pixels, sheet, away))
    # An edge's slope reaches two pixels into the background: those come back if they look like it.
    reached |= cv2.dilate(reached.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool) & (away < NEAR)
    product = ~cv2.dilate(reached.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    product = _enclosed(_whole(cv2.dilate(product.astype(np.uint8), np.ones((3, 3), np.uint8))))
    return product if 0.02 < product.mean() < 0.9 else None


def backdrop(pixels: Pixels, height: int, width: int) -> tuple[Floats, float]:
    """Fit a plane of colour to the border of a picture, outliers left out, and lay it out over height x width.

    Returns (float32 [height, width, 3], share of the border that it fits).
    """
    old_height, old_width = pixels.shape[:2]
    rows, columns = np.linspace(-1, 1, old_height), np.linspace(-1, 1, old_width)
    y = np.concatenate([np.full(old_width, -1.0), np.full(old_width, 1.0), rows, rows])
    x = np.concatenate([columns, columns, np.full(old_height, -1.0), np.full(old_height, 1.0)])
    colors = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).astype(np.float64)
    terms = np.stack([np.ones_like(x), x, y], axis=1)
    kept = np.abs(colors - np.median(colors, axis=0)).max(1) <= 1.5 * NEAR
    weights = np.zeros((3, 3))
    weights[0] = np.median(colors, axis=0)
    if kept.sum() > 12:
        weights = np.linalg.lstsq(terms[kept], colors[kept], rcond=None)[0]
    fits = float((np.abs(colors - terms @ weights).max(1) <= 0.75 * NEAR).mean())
    # Laid out as rows of width * 3 numbers: arrays whose last axis has three are slow.
    row = (weights[0] + np.linspace(-1, 1, width)[:, None] * weights[1]).reshape(1, -1)
    down = np.tile(np.linspace(-1, 1, height)[:, None] * weights[2], (1, width))
    sheet = np.empty((height, 3 * width), np.float32)
    np.add(row, down, out=sheet, casting="same_kind")
    return np.clip(sheet, 0, 255, out=sheet).reshape(height, width, 3), fits


def _like(pixels: Pixels, sheet: Floats, away: Array) -> Bools:
    """Pixels that may be background: near the sheet, or an even darkening of it, without an edge."""
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    slope = cv2.max(np.abs(cv2.Sobel(gray, cv2.CV_16S, 1, 0)), np.abs(cv2.Sobel(gray, cv2.CV_16S, 0, 1)))
    ratios = cv2.split(cv2.divide(pixels.astype(np.float32) + 8, sheet + 8))
    most, least = _most(ratios), -_most([-ratio for ratio in ratios])
    shadow = (most - least < 0.07) & (least > 0.55) & (most < 1.03) & (slope < 2.4 * STEEP)
    return np.asarray((away < CLOSE) | ((away < NEAR) & (slope < 4 * STEEP)) | shadow)


def _most(planes: Sequence[Array]) -> Array:
    return np.asarray(cv2.max(cv2.max(planes[0], planes[1]), planes[2]))


def _enclosed(product: Bools) -> Bools:
    """Add what has product on all four sides: a white shirt between head, arms and trousers."""
    across = np.logical_or.accumulate(product, 1) & np.logical_or.accumulate(product[:, ::-1], 1)[:, ::-1]
    down = np.logical_or.accumulate(product, 0) & np.logical_or.accumulate(product[::-1], 0)[::-1]
    return np.asarray(product | (across & down))


def _from_border(like: Bools) -> Bools:
    """Those of the pixels that hang together with the border of the picture."""
    framed = cv2.copyMakeBorder(like.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    _, labels = cv2.connectedComponents(framed, connectivity=4)
    return np.asarray(labels[1:-1, 1:-1] == labels[0, 0])


def _whole(product: Array) -> Bools:
    """Leave out crumbs: parts of less than a hundredth of the largest."""
    _, labels, facts, _ = cv2.connectedComponentsWithStats(product, connectivity=8)
    areas = facts[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return np.asarray((areas >= max(4, 0.01 * areas.max(initial=0)))[labels] & (labels > 0))
