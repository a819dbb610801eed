"""Poster noise: promo banners, price badges, ribbons, watermarks and frames, as marketplaces print them on pictures."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Color = tuple[int, int, int]

WORDS = (
    "SALE", "MEGA SALE", "FREE SHIPPING", "NEW IN", "HOT DEAL", "-50%", "-30%", "-70%", "BUY 1 GET 1", "LIMITED OFFER",
    "BEST PRICE", "FLASH DEAL", "ONLY TODAY", "TOP RATED", "OFFICIAL STORE", "24H DELIVERY", "CLEARANCE", "$9.99",
    "$19.90", "COUPON -20%", "1+1", "WOW", "BESTSELLER", "LAST CHANCE", "SUPER PRICE", "DEAL OF THE DAY",
)  # fmt: skip
COLORS: tuple[tuple[Color, Color], ...] = (
    ((226, 27, 38), (255, 255, 255)), ((255, 205, 0), (200, 0, 20)), ((255, 94, 0), (255, 255, 255)),
    ((14, 92, 200), (255, 255, 255)), ((15, 140, 70), (255, 255, 255)), ((20, 20, 20), (255, 214, 0)),
    ((232, 20, 120), (255, 255, 255)), ((110, 40, 170), (255, 240, 120)), ((255, 255, 255), (220, 20, 30)),
)  # fmt: skip


class Overlay:
    """A transparent layer as large as the picture, drawn at twice the size for smooth edges."""

    SCALE = 2

    def __init__(self, width: int, height: int) -> None:
        self.size = width, height
        self.layer = Image.new("RGBA", (width * self.SCALE, height * self.SCALE), (0, 0, 0, 0))
        self.draw = ImageDraw.Draw(self.layer)
        self.width, self.height = self.layer.size

    def merge(self, pixels: Pixels) -> tuple[Pixels, Mask]:
        """Put the layer on the picture; the mask is every pixel that the layer touches at all."""
        small = np.asarray(self.layer.resize(self.size, Image.Resampling.BOX), np.float32)
        alpha = small[..., 3:] / 255
        mask = small[..., 3] > 0
        # BOX averages colour without its alpha; dividing by it gives the colour back.
        premultiplied = np.asarray(_premultiplied(self.layer).resize(self.size, Image.Resampling.BOX), np.float32)[
            ..., :3
        ]
        merged = np.clip(np.rint(pixels * (1 - alpha) + premultiplied), 0, 255).astype(np.uint8)
        return np.where(mask[..., None], merged, pixels), mask


def write_words(
    draw: ImageDraw.ImageDraw,
    center: tuple[float, float],
    words: str,
    color: Color,
    room: tuple[float, float],
    alpha: int = 255,
) -> None:
    """Write words centred, as large as the room (width, height) allows."""
    wanted = max(6, int(room[1]))
    left, _, right, _ = _font(wanted).getbbox(words)
    fitting = max(6, int(wanted * min(1.0, room[0] / max(1, right - left))))
    draw.text(center, words, font=_font(fitting), fill=(*color, alpha), anchor="mm")


def poster(picture: Image.Image, severity: int, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    """Draw as many overlays, as large, as the severity says. Returns (uint8 [h, w, 3], bool [h, w])."""
    overlay = Overlay(*picture.size)
    size = (0.10, 0.15, 0.20, 0.25, 0.30)[severity - 1]
    drawers: list[Callable[[Overlay, float, np.random.Generator], None]] = [_banner, _badge, _ribbon]
    chosen = [drawers[int(rng.integers(len(drawers)))]]
    if severity >= 2 and rng.random() < 0.35 + 0.1 * severity:
        chosen.append(_watermark)
    if severity >= 3:
        chosen.append(_banner)
    if severity >= 4:
        chosen += [_badge, _frame]
    if severity == 5:
        chosen += [_banner, _badge]
    for place, drawer in enumerate(sorted(chosen, key=lambda one: one is not _watermark)):
        drawer(overlay, size * (1.0 if place < 3 else 0.85), rng)
    return overlay.merge(np.asarray(picture, np.uint8))


def _banner(overlay: Overlay, size: float, rng: np.random.Generator) -> None:
    """A bar with words along the top or bottom edge."""
    back, ink = _colors(rng)
    height = overlay.height * size
    top = 0.0 if rng.random() < 0.4 else overlay.height - height
    if rng.random() < 0.4:
        top += (1 if top == 0 else -1) * overlay.height * 0.05
    overlay.draw.rectangle((0, top, overlay.width, top + height), fill=(*back, 255))
    if rng.random() < 0.5:
        line = height * 0.1
        overlay.draw.rectangle((0, top, overlay.width, top + line), fill=(*ink, 255))
    write_words(
        overlay.draw, (overlay.width / 2, top + height * 0.54), _words(rng), ink, (overlay.width * 0.92, height * 0.62)
    )


def _badge(overlay: Overlay, size: float, rng: np.random.Generator) -> None:
    """A round or jagged seal with a price in a corner."""
    back, ink = _colors(rng)
    radius = min(overlay.width, overlay.height) * (0.09 + size * 0.75)
    x = radius * 1.05 if rng.random() < 0.5 else overlay.width - radius * 1.05
    y = radius * 1.05 if rng.random() < 0.7 else overlay.height - radius * 1.05
    if rng.random() < 0.5:
        overlay.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(*back, 255))
        inner = radius * 0.86
        overlay.draw.ellipse(
            (x - inner, y - inner, x + inner, y + inner), outline=(*ink, 255), width=max(1, int(radius * 0.05))
        )
    else:
        angles = np.linspace(0, 2 * np.pi, 33)[:-1]
        reach = np.where(np.arange(32) % 2 == 0, radius, radius * 0.86)
        overlay.draw.polygon(
            [(x + r * np.cos(a), y + r * np.sin(a)) for a, r in zip(angles, reach, strict=True)], fill=(*back, 255)
        )
    write_words(overlay.draw, (x, y), _words(rng, short=True), ink, (radius * 1.5, radius * 0.62))


def _ribbon(overlay: Overlay, size: float, rng: np.random.Generator) -> None:
    """A diagonal band over a corner."""
    back, ink = _colors(rng)
    reach = min(overlay.width, overlay.height) * (0.35 + size)
    band = reach * 0.36
    corner = Image.new("RGBA", (int(reach * 1.5), max(2, int(band))), (*back, 255))
    room = (corner.width * 0.6, corner.height * 0.7)
    write_words(ImageDraw.Draw(corner), (corner.width / 2, corner.height / 2), _words(rng, short=True), ink, room)
    left = rng.random() < 0.5
    turned = corner.rotate(45 if left else -45, expand=True, resample=Image.Resampling.BICUBIC)
    shift = int(reach * 0.36)
    x = shift - turned.width // 2 if left else overlay.width - shift - turned.width // 2
    placed = Image.new("RGBA", overlay.layer.size)
    placed.paste(turned, (x, shift - turned.height // 2))
    overlay.layer.alpha_composite(placed)


def _watermark(overlay: Overlay, size: float, rng: np.random.Generator) -> None:
    """Half-transparent words, tiled."""
    words, ink = _words(rng, short=True), (int(rng.integers(90, 160)),) * 3
    step = max(14.0, min(overlay.width, overlay.height) * 0.45)
    alpha = int(70 + 260 * size)
    for row, y in enumerate(np.arange(step / 2, overlay.height + step, step)):
        for x in np.arange(step / 2 * (row % 2), overlay.width + step, step * 1.4):
            write_words(overlay.draw, (float(x), float(y)), words, ink, (step * 1.1, step * 0.3), min(200, alpha))


def _frame(overlay: Overlay, size: float, rng: np.random.Generator) -> None:
    """A coloured frame around the picture."""
    back, _ = _colors(rng)
    width = max(2, int(min(overlay.width, overlay.height) * (0.02 + size * 0.16)))
    overlay.draw.rectangle((0, 0, overlay.width - 1, overlay.height - 1), outline=(*back, 255), width=width)


def _premultiplied(layer: Image.Image) -> Image.Image:
    values = np.asarray(layer, np.uint16)
    colors = (values[..., :3] * values[..., 3:] + 127) // 255
    return Image.fromarray(np.dstack([colors, values[..., 3:]]).astype(np.uint8))


def _colors(rng: np.random.Generator) -> tuple[Color, Color]:
    return COLORS[int(rng.integers(len(COLORS)))]


def _words(rng: np.random.Generator, short: bool = False) -> str:
    words = [one for one in WORDS if len(one) <= 7] if short else list(WORDS)
    return words[int(rng.integers(len(words)))]


@lru_cache(maxsize=256)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
