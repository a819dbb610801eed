"""Colours of the studio catalogue: names, shades, and what goes with what."""

from __future__ import annotations

from colorsys import hls_to_rgb, rgb_to_hls

import numpy as np

_NAMES = "red orange yellow green teal blue navy purple pink brown beige grey black white"
_MIDDLES = (
    "#c4283a #ee7a24 #f2c230 #43964a #1d8c8c #3f80d8 #24355f #7c4db2 #ee86b2 #7d4d2e #d9c4a2 #8b9198 #2a2a2e #f2f1ed"
)
COLOURS = dict(zip(_NAMES.split(), _MIDDLES.split(), strict=True))
"""Name of every colour → its middle shade."""
_ACCENTED = "navy black white beige grey pink yellow teal brown"
_WITH = "#e8b23c #e9e4d8 #2f5fa8 #8a3b2e #f6d34a #fff4f7 #3c4a63 #f6e7c8 #ecd7ac"
_ACCENTS = dict(zip(_ACCENTED.split(), _WITH.split(), strict=True))
"""Name of a colour → a second colour that stands out on it."""


def shade(color: str, by: float) -> str:
    """Lighten (`by` > 0, towards white at 1) or darken (`by` < 0, towards black at -1) a colour `#rrggbb`."""
    target = 255.0 if by > 0 else 0.0
    return _hex([value + (target - value) * abs(by) for value in _rgb(color)])


def vary(color: str, rng: np.random.Generator) -> str:
    """Return a neighbour of a colour that keeps its name: hue ±0.012 turns, lightness ±0.04, saturation ±12 %."""
    hue, light, saturation = rgb_to_hls(*(value / 255 for value in _rgb(color)))
    hue += rng.uniform(-0.012, 0.012)
    light = float(np.clip(light + rng.uniform(-0.04, 0.04), 0.08, 0.97))
    return _hex([255 * value for value in hls_to_rgb(hue % 1, light, min(1.0, saturation * rng.uniform(0.88, 1.12)))])


def partner(colour: str, rng: np.random.Generator) -> str:
    """Choose the second colour of a pattern on a named colour: clearly lighter or darker, sometimes an accent."""
    base = COLOURS[colour]
    if rng.random() < 0.35:
        return _ACCENTS.get(colour, "#fbf3df")
    return shade(base, -0.62) if lightness(base) > 0.62 else shade(base, 0.78)


def lightness(color: str) -> float:
    """Perceived lightness of `#rrggbb`, 0 (black) to 1 (white)."""
    red, green, blue = _rgb(color)
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _hex(values: list[float]) -> str:
    return "#" + "".join(f"{round(min(255.0, max(0.0, value))):02x}" for value in values)
