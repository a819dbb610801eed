"""What the report shows beside its figures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from tgqformer.catalog.catalog import Catalog
from tgqformer.encoders.frozen import letterbox
from tgqformer.noise import Noised, NoisePlan, NoiseView
from tgqformer.reporting import as_seen, touched


def test_a_tall_picture_and_its_mask_are_padded_as_the_encoder_pads_it() -> None:
    rng = np.random.default_rng(0)
    for height, width in ((80, 60), (60, 81), (50, 50), (7, 2)):
        pixels = rng.integers(0, 250, (height, width, 3), dtype=np.uint8)
        mask = rng.random((height, width)) < 0.3
        marked = pixels.copy()
        marked[mask] = 255
        seen = as_seen(Noised(Image.fromarray(pixels), mask))
        side = max(height, width)
        assert seen.picture.size == (side, side) and seen.mask.shape == (side, side)
        assert seen.mask.sum() == mask.sum()
        # Painting the mask before or after the padding is the same.
        after = np.asarray(seen.picture).copy()
        after[seen.mask] = 255
        np.testing.assert_array_equal(after, np.asarray(letterbox(Image.fromarray(marked))))


def test_places_that_noise_touches_hold_every_pixel_that_it_changes(tiny_catalog: Catalog) -> None:
    encoders: Any = SimpleNamespace(vision=SimpleNamespace(grid=(7, 7), fit="pad"))
    clean, noised = (NoiseView(tiny_catalog, name, NoisePlan(kinds=("poster",))) for name in ("clean", "noised"))
    chosen = np.array([0, 3, 7, 1, 4])
    found = touched(encoders, noised, chosen)
    assert found.shape == (5, 49) and not touched(encoders, clean, chosen).any()
    assert found.any(1).tolist() == [True, False, False, True, True]  # two have no picture
    for item, places in zip(tiny_catalog.take_positions(chosen), found, strict=True):
        before, after = clean.render(item), noised.render(item)
        if before is None or after is None:
            continue
        changed = np.asarray(as_seen(before).picture) != np.asarray(as_seen(after).picture)
        rows, columns = np.nonzero(changed.any(-1))
        side = len(changed)
        assert len(rows) and places[rows * 7 // side * 7 + columns * 7 // side].all() and not places.all()
