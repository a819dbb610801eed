"""Where the noise is, on the grid of a vision encoder.

Shapes: B items, P visual tokens on a grid [gh, gw].
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tgqformer.catalog.item import Item
from tgqformer.encoders.base import VisionEncoder
from tgqformer.errors import TgqError
from tgqformer.pixels import letterbox
from tgqformer.progress import track
from tgqformer.synthetic.noise import Noised, NoiseView
from tgqformer.types import Bools, Doubles, Ints


def pool_mask(mask: Bools, grid: tuple[int, int]) -> Doubles:
    """Pool a pixel mask bool [h, w] to a grid: the share of each cell's area that is masked, float64 [gh, gw].

    Exact by area: a pixel that two cells share counts in both by its part, so sizes need not divide.
    """
    if mask.ndim != 2 or 0 in mask.shape:
        raise TgqError(f"a mask has shape {list(mask.shape)}; give pixels [height, width]")
    pooled: Doubles = _overlap(mask.shape[0], grid[0]) @ mask.astype(np.float64) @ _overlap(mask.shape[1], grid[1]).T
    return pooled


def _overlap(pixels: int, cells: int) -> Doubles:
    """Return the share of each cell that each pixel covers along one axis, [cells, pixels]; rows sum to 1."""
    bounds = np.arange(cells + 1) * pixels / cells
    start, stop = bounds[:-1, None], bounds[1:, None]
    left = np.arange(pixels)[None, :]
    covered = np.minimum(stop, left + 1) - np.maximum(start, left)
    share: Doubles = np.clip(covered, 0, None) * cells / pixels
    return share


def as_seen(vision: VisionEncoder, shown: Noised) -> Noised:
    """Show a picture and its mask as the encoder's grid lies over them: padded to a square, the padding no noise.

    An encoder that crops gets both as they are.
    """
    if vision.fit != "pad":
        return shown
    square = letterbox(shown.picture)
    mask = np.zeros((square.height, square.width), bool)
    left, top = (square.width - shown.picture.width) // 2, (square.height - shown.picture.height) // 2
    mask[top : top + shown.picture.height, left : left + shown.picture.width] = shown.mask
    return Noised(square, mask)


def touched(vision: VisionEncoder, view: NoiseView, positions: Ints) -> Bools:
    """Tell which places of the encoder's grid the noise of each of these items touches, bool [B, P].

    Raises:
        TgqError: if the encoder crops pictures, so that its grid does not lie over the whole of them.
    """
    if vision.fit != "pad":
        raise TgqError(f"{vision.name} crops pictures, so places of noise are not known; set vision_options.fit: pad")
    found = np.zeros((len(positions), vision.grid[0] * vision.grid[1]), bool)
    for at, item in enumerate(track(_taken(view, positions), f"where the noise is ({view.name})", len(positions))):
        shown = view.render(item)
        if shown is not None and shown.mask.any():
            found[at] = pool_mask(as_seen(vision, shown).mask, vision.grid).ravel() > 0
    return found


def _taken(view: NoiseView, positions: Ints, chunk: int = 64) -> Iterator[Item]:
    for start in range(0, len(positions), chunk):
        yield from view.catalog.take_positions(positions[start : start + chunk])
