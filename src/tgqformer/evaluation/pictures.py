"""Pictures for the report: thumbnails and attention maps as data URIs."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from tgqformer.packages import matplotlib
from tgqformer.types import Bools, Doubles, Floats, Reals

THUMB = 160
"""The long side of a thumbnail in pixels; smaller pictures stay as they are."""

CANVAS = 300
"""The long side of an attention picture in pixels; every picture is scaled to it."""

_OUTLINE = (0, 229, 255)


def data_uri(picture: Image.Image, *, quality: int = 85) -> str:
    """Encode a picture as a JPEG data URI; transparency becomes white."""
    flat = picture
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        flat = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    out = io.BytesIO()
    flat.convert("RGB").save(out, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def thumbnail(picture: Image.Image) -> str:
    """Return a thumbnail as a data URI."""
    small = picture.copy()
    small.thumbnail((THUMB, THUMB))
    return data_uri(small)


def overlay(picture: Image.Image, heat: Reals | None, mask: Bools | None) -> Image.Image:
    """Lay an attention map [gh, gw] over a picture, scaled to its own maximum, and outline the mask bool [h, w].

    Where attention is low the picture is dimmed and grey, where it is high the heat colour stands on it.
    """
    scale = CANVAS / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    pixels = np.asarray(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS), dtype=np.float64)
    if heat is not None:
        pixels = _heated(pixels, np.asarray(heat, dtype=np.float32))
    if mask is not None and mask.any():
        edge = outline(np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)))
        pixels[_grown(edge)] = 20
        pixels[edge] = _OUTLINE
    return Image.fromarray(pixels.round().astype(np.uint8))


def _heated(pixels: Doubles, heat: Floats) -> Doubles:
    height, width = pixels.shape[:2]
    fine = np.asarray(
        Image.fromarray(heat / max(float(heat.max()), 1e-12)).resize((width, height), Image.Resampling.BICUBIC)
    )
    strength = np.clip(fine, 0, 1).astype(np.float64)
    color = matplotlib.colormaps["inferno"](strength)[..., :3] * 255
    grey = pixels.mean(axis=2, keepdims=True) * 0.6
    alpha = (0.25 + 0.5 * strength)[..., None]
    blended: Doubles = grey * (1 - alpha) + color * alpha
    return np.clip(blended, 0, 255)


def outline(mask: Bools) -> Bools:
    """Return the masked pixels that touch an unmasked one or the border, two pixels deep."""
    inner = mask
    for _ in range(2):
        inner = ~_grown(~np.pad(inner, 1, constant_values=False))[1:-1, 1:-1]
    return mask & ~inner


def _grown(mask: Bools) -> Bools:
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown
