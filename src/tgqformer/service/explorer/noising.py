"""Noise on one picture, as the slider asks for it: kind, severity, seed; drawn by the same code as in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from PIL import Image

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item
from tgqformer.catalog.pictures import PictureError, read_picture
from tgqformer.packages import installed
from tgqformer.service.errors import Refused
from tgqformer.synthetic.noise import NoiseKind, NoiseSpec, add_noise

KINDS: tuple[NoiseKind, ...] = get_args(NoiseKind)
DONORS = 64
"""A distractor's second product is chosen among so many items, drawn once by the seed of the noise."""


@dataclass(frozen=True)
class NoiseChoice:
    """Noise as a page asks for it. Severity 0 is the picture as it is. seed: 0 to 9999."""

    kind: NoiseKind = "poster"
    severity: int = 0
    seed: int = 0


def can_draw() -> bool:
    """Return whether what draws noise is installed."""
    return installed("cv2", "matplotlib")


def noised(catalog: Catalog | None, item: Item, picture: Image.Image, noise: NoiseChoice) -> Image.Image:
    """Draw noise on an item's picture. catalog: where the second product of a distractor comes from.

    Raises: Refused if there is no second product to show.
    """
    if not noise.severity:
        return picture
    if not can_draw():
        raise Refused("this service cannot draw noise; install what draws it: pip install 'tgqformer[noise]'")
    spec = NoiseSpec(noise.kind, noise.severity, noise.seed)
    donor = _donor(catalog, item, noise.seed) if noise.kind == "distractor" else None
    return add_noise(picture, spec, donor).picture


def _donor(catalog: Catalog | None, item: Item, seed: int) -> Image.Image:
    """Return the picture of another item, of another category where there is one."""
    if catalog is None:
        raise Refused("a distractor needs the catalogue; serve one, or choose another kind of noise")
    rng = np.random.default_rng([seed, 2])
    places = rng.permutation(len(catalog))[:DONORS]
    others = [one for one in catalog.take_positions(places, pictures=False) if one.pictures and one.id != item.id]
    others.sort(key=lambda one: one.category[:1] == item.category[:1])  # stable: the seed's order within
    for other in others[:8]:
        [whole] = catalog.take([other.id])
        try:
            return read_picture(whole.pictures[0], catalog.root)
        except PictureError:  # known from the import's report; the next one serves as well
            continue
    raise Refused("no other item has a picture that could join this one; choose another kind of noise")
