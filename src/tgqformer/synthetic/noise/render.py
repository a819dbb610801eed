"""Draw noise on a picture; say exactly which pixels are noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from tgqformer.errors import TgqError
from tgqformer.synthetic.noise.clutter import clutter
from tgqformer.synthetic.noise.distractor import distractor, place
from tgqformer.synthetic.noise.plan import NoiseSpec
from tgqformer.synthetic.noise.poster import poster
from tgqformer.types import Bools

NOISE_VERSION = 2
"""Changes whenever the same spec draws other pixels: it is part of the key under which features are cached."""


@dataclass(frozen=True)
class Noised:
    """A noised picture (RGB) and its mask, bool [h, w], True exactly where a pixel is noise."""

    picture: Image.Image
    mask: Bools


def add_noise(picture: Image.Image, spec: NoiseSpec, donor: Image.Image | None = None) -> Noised:
    """Draw the noise of a spec on a picture of any size; the size stays.

    Poster: overlays (banner, badge, tags, ribbon, watermark, frame) on top. Clutter: the background is replaced, the
    product stays where it is. Distractor: the product shrinks to one side and a second product (`donor`) joins it.
    Outside the mask every pixel is the picture's own; for a distractor, that of the picture as `moved` gives it.

    Raises:
        TgqError: for a distractor without donor.
    """
    rgb = picture.convert("RGB")
    rng = _rng(spec)
    if spec.kind == "poster":
        pixels, mask = poster(rgb, spec.severity, rng)
    elif spec.kind == "clutter":
        pixels, mask = clutter(rgb, spec.severity, rng)
    elif donor is None:
        raise TgqError("a distractor needs a second product; give `donor`")
    else:
        pixels, mask = distractor(rgb, donor.convert("RGB"), spec.severity, rng)
    return Noised(Image.fromarray(pixels), mask)


def moved(picture: Image.Image, spec: NoiseSpec) -> Image.Image:
    """Return the picture that the noise of a spec lies on: for a distractor shrunk to one side, else the same.

    `add_noise(picture, spec, donor)` differs from it only inside its mask.
    """
    rgb = picture.convert("RGB")
    return Image.fromarray(place(rgb, spec.severity, _rng(spec))[0]) if spec.kind == "distractor" else rgb


def _rng(spec: NoiseSpec) -> np.random.Generator:
    return np.random.default_rng([spec.seed, spec.severity])
