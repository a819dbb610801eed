"""Poster noise: promo banners, price badges, ribbons, watermarks and frames, as marketplaces print them on pictures."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tgqformer.synthetic.rgb import rgb
from tgqformer.types import Bools, Pixels

Color = tuple[int, int, int]

_WORDS = (
    "SALE|MEGA SALE|FREE SHIPPING|NEW IN|HOT DEAL|-50%|-30%|-70%|BUY 1 GET 1|LIMITED OFFER|BEST PRICE|FLASH DEAL|"
    "ONLY TODAY|TOP RATED|OFFICIAL STORE|24H DELIVERY|CLEARANCE|$9.99|$19.90|COUPON -20%|1+1|WOW|BESTSELLER|"
    "LAST CHANCE|SUPER PRICE|DEAL OF THE DAY|Sonderangebot|Soldes|Ofertas|BLACK FRIDAY|Only 3 left|€ 24.99|£ 12.50|"
    "Now $ 39|-15%|2 for 1|NEW|HOT|TOP|Free returns|Summer Sale|extra 10 % off|СКИДКА|Members only|Gratis"
)
_SMALL = (
    "while stocks last|ends Sunday midnight|on orders over $ 49|was $ 59.99|code: SAVE20|limited quantity|"
    "30 days return|ships today|www.best-shop.example|official partner"
)
_TYPEFACES = (
    "||DejaVuSans-Bold.ttf|DejaVuSans-BoldOblique.ttf|DejaVuSerif-Bold.ttf|DejaVuSans.ttf|STIXGeneralBol.ttf|"
    "DejaVuSansMono-Bold.ttf"
)
WORDS, SMALL, TYPEFACES = _WORDS.split("|"), _SMALL.split("|"), _TYPEFACES.split("|")
"""Words and small print of labels; files of matplotlib's own fonts, empty for the one that Pillow brings."""
_BACK = rgb("e21b26 ffcd00 ff5e00 0e5cc8 0f8c46 141414 e81478 6e28aa ffffff")
_INK = rgb("ffffff c80014 ffffff ffffff ffffff ffd600 ffffff fff078 dc141e")
COLORS = tuple(zip(_BACK, _INK, strict=True))
"""Colours of a label and of what is written on it."""


class Overlay:
    """A transparent layer as large as the picture, drawn at twice the size for smooth edges."""

    SCALE = 2

    def __init__(self, width: int, height: int) -> None:
        self.size = width, height
        self.layer = Image.new("RGBA", (width * self.SCALE, height * self.SCALE), (0, 0, 0, 0))
        self.draw = ImageDraw.Draw(self.layer)
        self.width, self.height = self.layer.size

    def paste(self, piece: Image.Image, x: int, y: int) -> None:
        """Lay a piece over the layer with its upper left at (x, y); what falls outside is cut off."""
        right, bottom = min(piece.width, self.width - x), min(piece.height, self.height - y)
        inside = piece.crop((max(0, -x), max(0, -y), right, bottom))
        if inside.width > 0 and inside.height > 0:
            self.layer.alpha_composite(inside, (max(0, x), max(0, y)))

    def merge(self, pixels: Pixels) -> tuple[Pixels, Bools]:
        """Put the layer on the picture; the mask is every pixel that the layer touches at all."""
        # RGBa is premultiplied: means over 2 x 2 of it are right.
        small = np.asarray(self.layer.convert("RGBa").reduce(self.SCALE), np.uint16)
        alpha = small[..., 3]
        under = (pixels * (255 - alpha)[..., None] + 127) // 255
        mask = alpha > 0
        merged = np.minimum(under + small[..., :3], 255).astype(np.uint8)
        return np.where(mask[..., None], merged, pixels), mask


def write_words(
    draw: ImageDraw.ImageDraw,
    center: tuple[float, float],
    words: str,
    color: Color,
    room: tuple[float, float],
    face: str = "",
    alpha: int = 255,
) -> None:
    """Write words centred, as large as the room (width, height) allows, in a typeface of `TYPEFACES`."""
    # Pillow's own typeface has no letters beyond ASCII.
    face = face if words.isascii() else face or "DejaVuSans-Bold.ttf"
    wanted = max(6, int(room[1]))
    left, _, right, _ = _font(face, wanted).getbbox(words)
    fitting = max(6, int(wanted * min(1.0, room[0] / max(1, right - left))))
    draw.text(center, words, font=_font(face, fitting), fill=(*color, alpha), anchor="mm")


def poster(picture: Image.Image, severity: int, rng: np.random.Generator) -> tuple[Pixels, Bools]:
    """Draw as many overlays, as large, as the severity says. Returns (uint8 [h, w, 3], bool [h, w])."""
    overlay = Overlay(*picture.size)
    size = (0.09, 0.13, 0.16, 0.18, 0.2)[severity - 1]
    drawers: list[Callable[[Overlay, float, np.random.Generator], None]] = [_banner, _badge, _ribbon, _tags]
    chosen = [drawers[int(rng.integers(len(drawers)))]]
    if severity >= 2 and rng.random() < 0.35 + 0.1 * severity:
        chosen.append(_watermark)
    if severity >= 3:
        chosen.append(_banner)
    if severity >= 4:
        chosen.append(_badge)
    if severity == 5:
        chosen += [_frame, _banner]
    for place, drawer in enumerate(sorted(chosen, key=lambda one: one is not _watermark)):
        drawer(overlay, size * (1.0 if place < 3 else 0.85), rng)
    return overlay.merge(np.asarray(picture, np.uint8))


def _banner(overlay: Overlay, size: float, rng: np.random.Generator) -> None:
    """A bar with words along the top or bottom edge: straight or slanted, with small print or a second colour."""
    (back, ink), face, width = _colors(rng), _face(rng), overlay.width
    height = overlay.height * size
    top = 0.0 if rng.random() < 0.4 else overlay.height - height
    if rng.random() < 0.3:
        top += (1 if top == 0 else -1) * overlay.height * 0.05
    slant = height * float(rng.choice([0, 0, 0.35, -0.35]))
    inner = (max(slant, 0.0), max(-slant, 0.0)) if top else (min(slant, 0.0), min(-slant, 0.0))
    upper = [(0, top + (inner[0] if top else 0)), (width, top + (inner[1] if top else 0))]
    lower = [(width, top + height + (0 if top else inner[1])), (0, top + height + (0 if top else inner[0]))]
    overlay.draw.polygon(upper + lower, fill=(*back, 255))
    if rng.random() < 0.4 and not slant:
        line = max(1.0, height * 0.1)
        overlay.draw.rectangle((0, top, width, top + line), fill=(*ink, 255))
    small = height > 36 and rng.random() < 0.5
    middle = top + height * (0.4 if small else 0.54)
    write_words(
        overlay.draw, (width / 2, middle), _words(rng), ink, (width * 0.9, height * (0.46 if small else 0.6)), face
    )
    if small:
        note = SMALL[int(rng.integers(len(SMALL)))]
        write_words(overlay.draw, (width / 2, top + height * 0.8), note, ink, (width * 0.8, height * 0.24), face)


def _tags(overlay: Overlay, size: float, rng: np.random.Generator) -> None:
    """Two or three pills with short words, one below the other at a side."""
    height = overlay.height * (0.055 + 0.28 * size)
    width = overlay.width * (0.3 + 0.5 * size)
    left = overlay.width * 0.03 if rng.random() < 0.5 else overlay.width * 0.97 - width
    top = overlay.height * float(rng.uniform(0.04, 0.3))
    for place in range(2 + int(size > 0.18)):
        back, ink = _colors(rng)
        y = top + place * height * 1.25
        overlay.draw.rounded_rectangle((left, y, left + width, y + height), height * 0.45, fill=(*back, 255))
        center, room = (left + width / 2, y + height * 0.52), (width * 0.8, height * 0.66)
        write_words(overlay.draw, center, _words(rng, short=True), ink, room, _face(rng))


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
    write_words(overlay.draw, (x, y), _words(rng, short=True), ink, (radius * 1.5, radius * 0.62), _face(rng))


def _ribbon(overlay: Overlay, size: float, rng: np.random.Generator) -> None:
    """A diagonal band over a corner."""
    back, ink = _colors(rng)
    reach = min(overlay.width, overlay.height) * (0.35 + size)
    band = reach * 0.36
    corner = Image.new("RGBA", (int(reach * 1.5), max(2, int(band))), (*back, 255))
    room = (corner.width * 0.6, corner.height * 0.7)
    write_words(
        ImageDraw.Draw(corner), (corner.width / 2, corner.height / 2), _words(rng, short=True), ink, room, _face(rng)
    )
    left = rng.random() < 0.5
    turned = corner.rotate(45 if left else -45, expand=True, resample=Image.Resampling.BICUBIC)
    shift = int(reach * 0.36)
    x = shift - turned.width // 2 if left else overlay.width - shift - turned.width // 2
    overlay.paste(turned, x, shift - turned.height // 2)


def _watermark(overlay: Overlay, size: float, rng: np.random.Generator) -> None:
    """Half-transparent words, tiled."""
    words, ink, face = _words(rng, short=True), (int(rng.integers(90, 160)),) * 3, _face(rng)
    step = max(14.0, min(overlay.width, overlay.height) * 0.45)
    alpha = int(70 + 260 * size)
    for row, y in enumerate(np.arange(step / 2, overlay.height + step, step)):
        for x in np.arange(step / 2 * (row % 2), overlay.width + step, step * 1.4):
            write_words(overlay.draw, (float(x), float(y)), words, ink, (step * 1.1, step * 0.3), face, min(200, alpha))


def _frame(overlay: Overlay, size: float, rng: np.random.Generator) -> None:
    """A coloured frame around the picture."""
    back, _ = _colors(rng)
    width = max(2, int(min(overlay.width, overlay.height) * (0.02 + size * 0.16)))
    overlay.draw.rectangle((0, 0, overlay.width - 1, overlay.height - 1), outline=(*back, 255), width=width)


def _colors(rng: np.random.Generator) -> tuple[Color, Color]:
    return COLORS[int(rng.integers(len(COLORS)))]


def _words(rng: np.random.Generator, short: bool = False) -> str:
    words = [one for one in WORDS if len(one) <= 7] if short else list(WORDS)
    return words[int(rng.integers(len(words)))]


def _face(rng: np.random.Generator) -> str:
    return TYPEFACES[int(rng.integers(len(TYPEFACES)))]


@lru_cache(maxsize=512)
def _font(face: str, size: int) -> ImageFont.FreeTypeFont:
    """Load a typeface; Pillow's own where matplotlib does not lie beside."""
    file = _font_folder() / face
    if face and file.is_file():
        return ImageFont.truetype(str(file), size)
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


@lru_cache(maxsize=1)
def _font_folder() -> Path:
    # Found without importing matplotlib, which takes half a second.
    found = find_spec("matplotlib")
    folders = list(found.submodule_search_locations or ()) if found else []
    return Path(folders[0] if folders else "") / "mpl-data" / "fonts" / "ttf"
