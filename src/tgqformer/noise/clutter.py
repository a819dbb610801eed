"""Clutter noise: the plain background gives way to a textured scene with props."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tgqformer.noise.foreground import Mask, Pixels, foreground


def clutter(picture: Image.Image, severity: int, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    """Replace the background by a scene; the busier and the closer to the product, the severer.

    Where the background is not plain, the scene fills a margin around the picture's middle instead.
    Returns (uint8 [h, w, 3], bool [h, w]).
    """
    pixels = np.asarray(picture, np.uint8)
    height, width = pixels.shape[:2]
    product = foreground(pixels)
    background = ~product if product is not None else _margin(height, width, 0.06 * severity)
    mask = background & _reach(background, severity, rng)
    scene = _scene(height, width, severity, rng)
    return np.where(mask[..., None], scene, pixels), mask


def _margin(height: int, width: int, share: float) -> Mask:
    """A border as wide as `share` of the shorter side."""
    wide = max(1, round(min(height, width) * share))
    mask = np.ones((height, width), bool)
    mask[wide : height - wide, wide : width - wide] = False
    return mask


def _reach(background: Mask, severity: int, rng: np.random.Generator) -> Mask:
    """Low severities cover the background only from below (a table, a floor), severity 5 all of it."""
    height = background.shape[0]
    covered = (0.35, 0.55, 0.75, 0.9, 1.0)[severity - 1]
    rows = np.arange(height) >= height * (1 - covered)
    if severity < 4 and rng.random() < 0.3:
        rows = rows[::-1]
    return np.broadcast_to(rows[:, None], background.shape)


def _scene(height: int, width: int, severity: int, rng: np.random.Generator) -> Pixels:
    """A wall and a floor with texture, and props on them."""
    wall, floor = rng.integers(60, 230, (2, 3)).astype(np.float32)
    horizon = rng.uniform(0.45, 0.8) * height
    rows = np.arange(height, dtype=np.float32)[:, None, None]
    scene = np.where(rows < horizon, wall, floor) * (0.8 + 0.3 * rows / height)
    scene = np.broadcast_to(scene, (height, width, 3)).copy()
    strength = 6.0 + 9.0 * severity
    scene += strength * _texture(height, width, rng)[..., None]
    for _ in range(severity + int(rng.integers(0, 3))):
        _prop(scene, rng)
    return np.asarray(np.clip(scene, 0, 255), np.uint8)


def _texture(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Grain of wood, weave, or speckle: [h, w] of about unit spread."""
    style = int(rng.integers(3))
    rough = rng.normal(size=(max(2, height // 4), max(2, width // 4))).astype(np.float32)
    if style == 0:
        rough[:] = rough[:, :1]
    elif style == 1:
        rough[:] = rough[:1] + rough[:, :1]
    return np.asarray(cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def _prop(scene: NDArray[np.float32], rng: np.random.Generator) -> None:
    """A box, a ball, a leaf or a pile of stripes, in place."""
    height, width = scene.shape[:2]
    color = rng.integers(20, 250, 3).astype(float).tolist()
    shade = [0.7 * value for value in color]
    x, y = int(rng.integers(width)), int(rng.integers(height))
    size = max(2, int(min(height, width) * rng.uniform(0.12, 0.32)))
    shape = int(rng.integers(4))
    if shape == 0:
        cv2.rectangle(scene, (x - size, y - size // 2), (x + size, y + size // 2), color, -1)
        cv2.rectangle(scene, (x - size, y), (x + size, y + size // 2), shade, -1)
    elif shape == 1:
        cv2.circle(scene, (x, y), size // 2, shade, -1, cv2.LINE_AA)
        cv2.circle(scene, (x - size // 8, y - size // 8), size // 3, color, -1, cv2.LINE_AA)
    elif shape == 2:
        cv2.ellipse(scene, (x, y), (size, size // 4), float(rng.uniform(0, 180)), 0, 360, color, -1, cv2.LINE_AA)
    else:
        for step in range(0, size, max(2, size // 5)):
            cv2.line(
                scene, (x - size, y + step), (x + size, y + step), color if step % 2 else shade, max(1, size // 10)
            )
