"""What the report shows beside its figures."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tgqformer.encoders.frozen import letterbox
from tgqformer.noise import Noised
from tgqformer.reporting import as_seen


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
