"""Draw noise on a picture; say exactly which pixels are noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tgqformer.errors import TgqError
from tgqformer.noise.clutter import clutter
from tgqformer.noise.distractor import distractor
from tgqformer.noise.plan import NoiseSpec
from tgqformer.noise.poster import poster

NOISE_VERSION = 1
"""Changes whenever the same spec draws other pixels: it is part of the key under which features are cached."""


@dataclass(frozen=True)
class Noised:
    """A noised picture (RGB) and its mask, bool [h, w], True exactly where a pixel is noise."""

    picture: Image.Image
    mask: NDArray[np.bool_]


def add_noise(picture: Image.Image, spec: NoiseSpec, donor: Image.Image | None = None) -> Noised:
    """Draw the noise of a spec on a picture of any size; the size stays.

    Poster: overlays (banner, badge, ribbon, watermark, frame) on top. Clutter: the background is replaced, the product
    stays where it is. Distractor: the product shrinks to one side and a second product (`donor`) joins it; everything
    that is not the shrunken picture is noise.
    Outside the mask every pixel is the picture's (for a distractor: of the picture as `distractor.place` shrank it).

    Raises:
        TgqError: for a distractor without donor.
    """
    rgb = picture.convert("RGB")
    rng = np.random.default_rng([spec.seed, spec.severity])
    if spec.kind == "poster":
        pixels, mask = poster(rgb, spec.severity, rng)
    elif spec.kind == "clutter":
        pixels, mask = clutter(rgb, spec.severity, rng)
    elif donor is None:
        raise TgqError("a distractor needs a second product; give `donor`")
    else:
        pixels, mask = distractor(rgb, donor.convert("RGB"), spec.severity, rng)
    return Noised(Image.fromarray(pixels), mask)
