"""A contact sheet of noise: what each kind at each severity looks like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.pictures import read_picture
from tgqformer.errors import TgqError
from tgqformer.synthetic.noise.plan import NoiseKind, NoiseSpec
from tgqformer.synthetic.noise.render import Noised, add_noise
from tgqformer.types import Bools

KINDS: Sequence[NoiseKind] = ("poster", "clutter", "distractor")
TILE, GAP, HEAD = 150, 8, 26


def contact_sheet(catalog: Catalog, *, items: int = 2, seed: int = 0, outlines: bool = False) -> Image.Image:
    """Draw `items` products: a row for each kind, columns clean and severities 1 to 5.

    outlines: draw the edge of the noise mask in magenta.

    Raises:
        TgqError: if the catalogue has fewer than two items with a picture.
    """
    pictured = [item for item in catalog.items(0, min(len(catalog), 2000)) if item.pictures]
    if len(pictured) < 2:
        raise TgqError(f"{catalog.path} has fewer than two items with a picture; a contact sheet needs some")
    chosen = np.random.default_rng(seed).choice(len(pictured), 2 * items, replace=2 * items > len(pictured))
    pictures = [read_picture(pictured[int(at)].pictures[0], catalog.root) for at in chosen]
    rows = [(kind, pictures[2 * at], pictures[2 * at + 1]) for at in range(items) for kind in KINDS]
    sheet = Image.new("RGB", (GAP + 6 * (TILE + GAP), HEAD + len(rows) * (TILE + GAP)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for column, words in enumerate(("clean", *(f"severity {severity}" for severity in range(1, 6)))):
        draw.text((GAP + column * (TILE + GAP) + TILE // 2, HEAD // 2), words, "black", font, anchor="mm")
    for row, (kind, picture, donor) in enumerate(rows):
        shown = [Noised(picture, np.zeros((picture.height, picture.width), bool))]
        shown += [add_noise(picture, NoiseSpec(kind, severity, seed + row), donor) for severity in range(1, 6)]
        for column, one in enumerate(shown):
            tile = _outlined(one) if outlines else one.picture
            sheet.paste(_fit(tile), (GAP + column * (TILE + GAP), HEAD + row * (TILE + GAP)))
        draw.text((GAP + 4, HEAD + row * (TILE + GAP) + 4), kind, "gray", font)
    return sheet


def _fit(picture: Image.Image) -> Image.Image:
    factor = min(TILE / picture.width, TILE / picture.height)
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    tile = Image.new("RGB", (TILE, TILE), (245, 245, 245))
    tile.paste(picture.resize(size, Image.Resampling.BICUBIC), ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    return tile


def _outlined(noised: Noised) -> Image.Image:
    pixels = np.asarray(noised.picture).copy()
    pixels[_edge(noised.mask)] = (255, 0, 255)
    return Image.fromarray(pixels)


def _edge(mask: Bools) -> Bools:
    inner = mask.copy()
    inner[1:-1, 1:-1] &= mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    inner[0] = inner[-1] = inner[:, 0] = inner[:, -1] = False
    return np.asarray(mask & ~inner)
