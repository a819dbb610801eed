"""What a shopper sees at a glance: colours and the directions of edges of a picture, by counting alone.

The shopper simulator compares pictures in this space. No model under test uses it: nothing is learned, and it is
measured on the clean picture.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL.Image import Image, Resampling

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item
from tgqformer.catalog.pictures import PictureError, read_picture
from tgqformer.progress import progress
from tgqformer.types import Doubles, Floats, Pixels

SIZE = (60, 80)
COLOURS, DIRECTIONS, ROWS, COLUMNS = 64, 8, 4, 3
WIDTH = COLOURS + DIRECTIONS * ROWS * COLUMNS


def appearance_features(picture: Image) -> Floats:
    """Return the appearance of an RGB picture: a unit vector, float32 [160].

    64 colours (2 bits a channel; the lightest, the backdrop of shop pictures, is not counted) and, in 4 x 3 cells, 8
    directions of edges weighted by their strength. Each half is the root of shares, so that a product of two
    vectors is the mean of two Bhattacharyya coefficients.
    """
    pixels = np.asarray(picture.resize(SIZE, Resampling.BOX, reducing_gap=2.0))
    halves = [np.sqrt(counts / max(float(counts.sum()), 1e-9)) for counts in (_colours(pixels), _edges(pixels))]
    vector = np.concatenate(halves)
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9), dtype=np.float32)


def appearances(catalog: Catalog, ids: Sequence[str], *, shown: bool = True) -> Floats:
    """Return the appearance of these items' first pictures, in the order of `ids`; float32 [n, 160].

    An item without a picture, or with one that cannot be read, has zeros. The catalogue is read in one stream.
    """
    places = {name: place for place, name in enumerate(ids)}
    found = np.zeros((len(ids), WIDTH), dtype=np.float32)
    wanted = (item for item in catalog.items() if item.id in places and item.pictures)
    with progress("looking at pictures", len(ids), shown=shown) as bar:
        for name, vector in _stream(wanted, catalog.root):
            found[places[name]] = vector
            bar.advance()
    return found


def _stream(items: Iterator[Item], root: Path | None) -> Iterator[tuple[str, Floats]]:
    """Decode in threads, a bounded number of pictures ahead."""
    waiting: deque[tuple[str, Future[Floats]]] = deque()
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        for item in items:
            waiting.append((item.id, pool.submit(_one, item, root)))
            if len(waiting) > 256:
                name, job = waiting.popleft()
                yield name, job.result()
        for name, job in waiting:
            yield name, job.result()


def _one(item: Item, root: Path | None) -> Floats:
    try:
        return appearance_features(read_picture(item.pictures[0], root))
    except PictureError:
        # The import has reported this picture already; to the shopper the item has none.
        return np.zeros(WIDTH, dtype=np.float32)


def _colours(pixels: Pixels) -> Doubles:
    level = (pixels >> 6).astype(np.int64)
    counts = np.bincount((level[..., 0] * 16 + level[..., 1] * 4 + level[..., 2]).ravel(), minlength=COLOURS)
    counts[COLOURS - 1] = 0
    return counts.astype(np.float64)


def _edges(pixels: Pixels) -> Doubles:
    grey = pixels.astype(np.float32).mean(axis=-1)
    down, across = grey[2:, 1:-1] - grey[:-2, 1:-1], grey[1:-1, 2:] - grey[1:-1, :-2]
    angle = np.arctan2(down, across) % np.pi * (DIRECTIONS / np.pi)
    direction = np.minimum(angle.astype(np.int64), DIRECTIONS - 1)
    height, width = direction.shape
    cell = (np.arange(height) * ROWS // height)[:, None] * COLUMNS + np.arange(width) * COLUMNS // width
    bins = ROWS * COLUMNS * DIRECTIONS
    counts = np.bincount((cell * DIRECTIONS + direction).ravel(), np.hypot(down, across).ravel(), minlength=bins)
    return counts.astype(np.float64)
