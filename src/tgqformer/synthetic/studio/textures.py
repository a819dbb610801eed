# ruff: noqa: E501 - drawings and tables read best unbroken
"""Shading, patterns and materials of the studio, as SVG definitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PATTERNS = ("plain", "stripes", "dots", "check", "zigzag", "floral")


@dataclass(frozen=True)
class Material:
    """A material: SVG of its tile (empty: smooth), side of the tile in board units, and how much it shines."""

    tile: str
    side: float
    gloss: float


def _speckle(count: int, side: float, radius: float, opacity: float) -> str:
    """Irregular dark and light specks that tile (leather, felt, enamel)."""
    rng = np.random.default_rng(count)
    specks = []
    for at in range(count):
        x, y = rng.uniform(radius, side - radius, 2)
        tone = "#000000" if at % 2 else "#ffffff"
        specks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{tone}" fill-opacity="{opacity}"/>')
    return "".join(specks)


def _strokes(d: str, color: str, opacity: float, width: float) -> str:
    return f'<path d="{d}" fill="none" stroke="{color}" stroke-opacity="{opacity}" stroke-width="{width}"/>'


_WEAVE = _strokes("M0 2h8M0 6h8", "#000000", 0.13, 1.2) + _strokes("M2 0v8M6 0v8", "#ffffff", 0.13, 1.2)
_TWILL = _strokes("M-2 2l4-4M0 8l8-8M6 10l4-4", "#ffffff", 0.3, 1.5) + _strokes(
    "M-2 6l8-8M2 10l8-8", "#000000", 0.2, 1.4
)
_KNIT = _strokes("M0 0l5 6l5-6M0 7l5 6l5-6", "#000000", 0.24, 1.8) + _strokes("M0 3l5 6l5-6", "#ffffff", 0.14, 1.6)
_GRAIN = _strokes("M0 8q30-7 60 0t60 0M0 31q30 6 60 0t60 0M0 44q30-3 60 0t60 0", "#000000", 0.2, 2.2) + _strokes(
    "M0 18q30 5 60 0t60 0M0 52q30 4 60 0t60 0", "#ffffff", 0.16, 2
)
_BRUSHED = _strokes("M0 1.5h40M0 5.5h40", "#ffffff", 0.14, 1) + _strokes("M0 3.5h40M0 7.5h40", "#000000", 0.1, 1)
_BASKET = _strokes("M1 4h8M11 14h8", "#000000", 0.25, 5) + _strokes("M14 1v8M4 11v8", "#ffffff", 0.25, 5)

_SMOOTH = "ceramic 1.0|porcelain 1.2|glass 1.7|plastic 0.9|acetate 1.3|cotton 0.25|silk 0.9"
_SPECKLED = """
stoneware 26 46 1.3 0.20 0.6
enamel    10 60 1.6 0.22 1.1
iron      40 24 1.1 0.16 0.4
leather   44 30 1.2 0.14 0.8
suede     60 26 0.9 0.12 0.2
velvet    30 20 0.9 0.08 0.7
felt      70 24 0.8 0.13 0.1
"""
"""Name, number of specks, side of the tile, radius, opacity, gloss."""


def _speckled(line: str) -> tuple[str, Material]:
    name, count, side, radius, opacity, gloss = line.split()
    tile = _speckle(int(count), int(side), float(radius), float(opacity))
    return name, Material(tile, int(side), float(gloss))


MATERIALS = {
    **{name: Material("", 0, float(gloss)) for name, gloss in map(str.split, _SMOOTH.split("|"))},
    **dict(map(_speckled, _SPECKLED.strip().splitlines())),
    "steel": Material(_BRUSHED, 9, 1.3),
    "brass": Material(_BRUSHED, 9, 1.2),
    "wood": Material(_GRAIN, 60, 0.6),
    "bamboo": Material(_GRAIN, 38, 0.6),
    "linen": Material(_WEAVE, 8, 0.2),
    "canvas": Material(_WEAVE, 11, 0.2),
    "denim": Material(_TWILL, 8, 0.15),
    "wool": Material(_KNIT, 10, 0.15),
    "straw": Material(_BASKET, 20, 0.3),
    "rattan": Material(_BASKET, 20, 0.4),
    "nylon": Material(_strokes("M0 0l9 9M9 0l-9 9", "#000000", 0.08, 0.9), 9, 0.6),
}
"""Every material by name."""


def _stops(*stops: tuple[float, str, float]) -> str:
    return "".join(f'<stop offset="{at}" stop-color="{tone}" stop-opacity="{alpha}"/>' for at, tone, alpha in stops)


_K, _W = "#0b0a14", "#ffffff"
GRADIENTS = (
    '<linearGradient id="round" x1="0" y1="0" x2="1" y2="0">'
    + _stops((0, _K, 0.34), (0.14, _K, 0.1), (0.3, _W, 0.3), (0.46, _W, 0.02), (0.7, _K, 0.1), (1, _K, 0.46))
    + '</linearGradient><radialGradient id="ball" cx="0.5" cy="0.5" r="0.62" fx="0.34" fy="0.28">'
    + _stops((0, _W, 0.5), (0.32, _W, 0.1), (0.62, _K, 0.06), (1, _K, 0.5))
    + '</radialGradient><linearGradient id="down" x1="0" y1="0" x2="0" y2="1">'
    + _stops((0, _W, 0.26), (0.45, _W, 0), (1, _K, 0.32))
    + '</linearGradient><linearGradient id="up" x1="0" y1="0" x2="0" y2="1">'
    + _stops((0, _K, 0.36), (0.6, _K, 0.03), (1, _W, 0.16))
    + '</linearGradient><linearGradient id="side" x1="0" y1="0" x2="1" y2="0.35">'
    + _stops((0, _W, 0.24), (0.4, _W, 0), (1, _K, 0.3))
    + '</linearGradient><linearGradient id="soft" x1="0" y1="0" x2="1" y2="0.2">'
    + _stops((0, _K, 0.16), (0.25, _W, 0.12), (0.6, _W, 0), (1, _K, 0.2))
    + '</linearGradient><linearGradient id="inner" x1="0" y1="0" x2="1" y2="0.4">'
    + _stops((0, _K, 0.55), (0.6, _K, 0.3), (1, _K, 0.1))
    + '</linearGradient><linearGradient id="chrome" x1="0" y1="0" x2="1" y2="0">'
    + _stops((0, _K, 0.4), (0.2, _W, 0.75), (0.36, _K, 0.12), (0.6, _W, 0.5), (0.8, _K, 0.28), (1, _K, 0.5))
    + "</linearGradient>"
)
"""Shading by form: round (a cylinder), ball, down, up, side, soft (cloth), inner (a hollow), chrome."""

_WIDE = 1600
"""Width of tiles whose drawing runs from side to side: wider than the board, so that no seam of two tiles shows."""
_TILES = {
    "stripes": (_WIDE, 36, '<path d="M-400 10h1600v16h-1600z" fill="INK"/>'),
    "dots": (40, 40, '<g fill="INK"><circle cx="10" cy="10" r="7.5"/><circle cx="30" cy="30" r="7.5"/></g>'),
    "check": (
        48,
        48,
        '<g fill="INK"><path d="M0 0h24v48H0z" fill-opacity="0.55"/><path d="M0 0h48v24H0z" fill-opacity="0.55"/></g>',
    ),
    "zigzag": (_WIDE, 40, f'<path d="M-410 30{"l20-20l20 20" * 41}" fill="none" stroke="INK" stroke-width="11"/>'),
    "floral": (
        72,
        72,
        '<g fill="INK"><g id="petals"><circle cx="18" cy="8" r="7"/><circle cx="28" cy="15" r="7"/>'
        '<circle cx="24" cy="27" r="7"/><circle cx="12" cy="27" r="7"/><circle cx="8" cy="15" r="7"/></g>'
        '<circle cx="54" cy="44" r="7"/><circle cx="64" cy="51" r="7"/><circle cx="60" cy="63" r="7"/>'
        '<circle cx="48" cy="63" r="7"/><circle cx="44" cy="51" r="7"/>'
        '<path d="M48 12q10-12 20-2q-8 10-20 2zM8 54q12-8 18 4q-12 6-18-4z" fill-opacity="0.7"/></g>'
        '<circle cx="18" cy="18" r="5" fill="#f0b93c"/><circle cx="54" cy="54" r="5" fill="#f0b93c"/>',
    ),
}


def pattern_tile(pattern: str, color: str, scale: float, turn: float) -> str:
    """Return the SVG definition `#pattern` in a colour, scaled, turned by degrees; empty for plain."""
    if pattern == "plain":
        return ""
    width, height, tile = _TILES[pattern]
    return (
        f'<pattern id="pattern" patternUnits="userSpaceOnUse" x="{-400 if width == _WIDE else 0}" '
        f'width="{width}" height="{height}" '
        f'patternTransform="rotate({turn:.1f}) scale({scale:.3f})">{tile.replace("INK", color)}</pattern>'
    )


def material_tile(material: str) -> str:
    """Return the SVG definition `#material`; empty for a smooth one."""
    made = MATERIALS[material]
    if not made.tile:
        return ""
    wide = 120 if made.tile == _GRAIN else 40 if made.tile == _BRUSHED else made.side
    return f'<pattern id="material" patternUnits="userSpaceOnUse" width="{wide}" height="{made.side}">{made.tile}</pattern>'
