"""Where the noise is, on the grid of an encoder."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tgqformer.catalog.catalog import Catalog
from tgqformer.errors import TgqError
from tgqformer.evaluation.masks import as_seen, pool_mask, touched
from tgqformer.pixels import letterbox
from tgqformer.synthetic.noise import Noised, NoisePlan, NoiseView
from tgqformer.synthetic.noise.plan import NoiseKind

VISION: Any = SimpleNamespace(grid=(7, 7), fit="pad")


def test_masks_pool_by_area() -> None:
    mask = np.zeros((4, 6), dtype=bool)
    mask[:2, :3] = True
    assert pool_mask(mask, (2, 2)).tolist() == [[1, 0], [0, 0]]
    # Three cells over four rows: the second cell holds 2/3 of row 1 and 2/3 of row 2, each of 4/3 rows.
    np.testing.assert_allclose(pool_mask(mask, (3, 1))[:, 0], [0.5, 0.25, 0])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_pooling_keeps_the_masked_share(height: int, width: int, rows: int, columns: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.4
    pooled = pool_mask(mask, (rows, columns))
    assert pooled.mean() == pytest.approx(mask.mean())
    assert pooled.min() >= 0
    assert pooled.max() <= 1 + 1e-12


def test_a_mask_that_is_no_picture_is_explained() -> None:
    with pytest.raises(TgqError, match="pixels"):
        pool_mask(np.zeros(3, dtype=bool), (1, 1))


def test_a_tall_picture_and_its_mask_are_padded_as_the_encoder_pads_it() -> None:
    rng = np.random.default_rng(0)
    for height, width in ((80, 60), (60, 81), (50, 50), (7, 2)):
        pixels = rng.integers(0, 250, (height, width, 3), dtype=np.uint8)
        mask = rng.random((height, width)) < 0.3
        marked = pixels.copy()
        marked[mask] = 255
        seen = as_seen(VISION, Noised(Image.fromarray(pixels), mask))
        side = max(height, width)
        assert seen.picture.size == (side, side) and seen.mask.shape == (side, side)
        assert seen.mask.sum() == mask.sum()
        # Painting the mask before or after the padding is the same.
        after = np.asarray(seen.picture).copy()
        after[seen.mask] = 255
        np.testing.assert_array_equal(after, np.asarray(letterbox(Image.fromarray(marked))))


@pytest.mark.parametrize("kind", ["poster", "clutter"])
@pytest.mark.parametrize("grid", [(7, 7), (2, 3)])
def test_places_that_noise_touches_hold_every_pixel_that_it_changes(
    tiny_catalog: Catalog, kind: NoiseKind, grid: tuple[int, int]
) -> None:
    vision: Any = SimpleNamespace(grid=grid, fit="pad")
    clean, noised = (NoiseView(tiny_catalog, name, NoisePlan(kinds=(kind,))) for name in ("clean", "noised"))
    chosen = np.array([0, 3, 7, 1, 4])
    found = touched(vision, noised, chosen)
    assert found.shape == (5, grid[0] * grid[1]) and not touched(vision, clean, chosen).any()
    assert found.any(1).tolist() == [True, False, False, True, True]  # two have no picture
    for item, places in zip(tiny_catalog.take_positions(chosen), found, strict=True):
        before, after = clean.render(item), noised.render(item)
        if before is None or after is None:
            continue
        changed = np.asarray(as_seen(vision, before).picture) != np.asarray(as_seen(vision, after).picture)
        rows, columns = np.nonzero(changed.any(-1))
        side = len(changed)
        assert len(rows) and places[rows * grid[0] // side * grid[1] + columns * grid[1] // side].all()
    assert not touched(vision, NoiseView(tiny_catalog, "poster-1", NoisePlan()), chosen).all(1).any()


def test_an_encoder_that_crops_has_no_places_of_noise(tiny_catalog: Catalog) -> None:
    vision: Any = SimpleNamespace(grid=(7, 7), fit="crop", name="tower")
    with pytest.raises(TgqError, match=r"tower crops pictures.*fit: pad"):
        touched(vision, NoiseView(tiny_catalog, "noised", NoisePlan()), np.array([0]))
