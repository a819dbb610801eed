"""Views of a catalogue: clean, mixed, noised, collage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from functools import cached_property
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import cast, get_args

import numpy as np
from PIL import Image

from tgqformer.catalog.catalog import KIND, Catalog
from tgqformer.catalog.item import Item, Picture
from tgqformer.catalog.pictures import PictureError, read_picture
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.errors import TgqError, nearest
from tgqformer.progress import track
from tgqformer.stages import make_way
from tgqformer.synthetic.noise.plan import NoiseKind, NoisePlan, NoiseSpec
from tgqformer.synthetic.noise.render import NOISE_VERSION, Noised, add_noise
from tgqformer.types import Ints

WHOLE_VIEWS = ("mixed", "clean", "noised", "collage", "collage-same")
VIEWS = (*WHOLE_VIEWS, *(f"{kind}-{severity}" for kind in get_args(NoiseKind) for severity in range(1, 6)))
"""The names of the views: see `NoiseView`."""
DONORS = 512
"""How many items may stand as the second product of a picture: few enough to be kept in memory."""
DONOR_SIDE = 256
"""Longest side at which their pictures are kept, in pixels: 100 MB for all at most."""


class NoiseView:
    """A view of a catalogue's pictures. The noise of an item depends on the plan and its id alone, save for the donor.

    `clean`: nothing. `mixed`: `plan.share` of the items are noised. `noised`: all are, those of the mixed view alike.
    `collage`: every picture holds a second product, in `collage-same` one of the same category. `poster-3` (a kind and
    a severity): every picture has this.

    Args:
        catalog: whose pictures are shown. name: of the view, one of `VIEWS`. plan: which item has which noise.
        only: ids of the items that are shown; the others count as items without picture. None for all.
        like: another view of the same catalogue, whose donors are shared where the plans agree.
    """

    def __init__(
        self,
        catalog: Catalog,
        name: str,
        plan: NoisePlan,
        *,
        only: Set[str] | None = None,
        like: NoiseView | None = None,
    ) -> None:
        if name not in VIEWS:
            raise TgqError(f"there is no view {name!r}; {nearest(name, VIEWS)}")
        self.catalog, self.name, self.only = catalog, name, only
        self.plan = replace(plan, donors="same_category") if name == "collage-same" else plan
        shared = like is not None and like.plan == self.plan
        self._donors: _Donors = like._donors if like is not None and shared else _Donors(catalog, self.plan)

    def spec(self, item_id: str) -> NoiseSpec | None:
        """The noise of an item in this view; None if it has none. The donor is added by `full_spec`."""
        if self.name == "clean" or (self.name == "mixed" and not self.plan.is_noised(item_id)):
            return None
        spec = self.plan.spec(item_id, "distractor" if self.name.startswith("collage") else None)
        kind, _, severity = self.name.partition("-")
        return replace(spec, kind=cast(NoiseKind, kind), severity=int(severity)) if severity.isdigit() else spec

    def full_spec(self, item: Item) -> NoiseSpec | None:
        """The noise of an item, donor included; None for an item without picture."""
        spec = self.spec(item.id) if item.pictures else None
        if spec is None or spec.kind != "distractor":
            return spec
        return NoiseSpec(spec.kind, spec.severity, spec.seed, self._donors.choose(item, spec))

    def key(self, item: Item) -> str | None:
        """Name the content of the item's first picture as this view shows it; None without picture."""
        if not item.pictures or (self.only is not None and item.id not in self.only):
            return None
        digest, spec = item.pictures[0].digest, self.full_spec(item)
        if spec is None:
            return digest
        donor = self._donors.digest(spec.donor) if spec.donor else ""
        words = f"{NOISE_VERSION}\x1f{digest}\x1f{spec.kind}\x1f{spec.severity}\x1f{spec.seed}\x1f{donor}"
        return blake2b(words.encode(), digest_size=16).hexdigest()

    def keys(self, item: Item, pictures: Sequence[Picture]) -> list[str]:
        """Name the contents of some pictures of an item as this view shows them; noise is on its first one alone."""
        first = self.key(item)
        if first is None:
            return []
        return [first if one.digest == item.pictures[0].digest else one.digest for one in pictures]

    def render(self, item: Item) -> Noised | None:
        """Show the item's first picture as this view has it; None without picture.

        Raises:
            PictureError: if the picture cannot be read.
        """
        if not item.pictures:
            return None
        picture, spec = read_picture(item.pictures[0], self.catalog.root), self.full_spec(item)
        if spec is None:
            return Noised(picture, np.zeros((picture.height, picture.width), bool))
        return add_noise(picture, spec, self._donors.picture(spec.donor) if spec.donor else None)


def noise_views(catalog: Catalog, plan: NoisePlan, names: Mapping[str, Set[str] | None]) -> list[NoiseView]:
    """Make several views of one catalogue that share their donors; names: view -> the ids it shows, None for all."""
    made: list[NoiseView] = []
    for name, only in names.items():
        made.append(NoiseView(catalog, name, plan, only=only, like=made[0] if made else None))
    return made


class _Donors:
    """A fixed, seeded choice of items whose pictures can stand as the second product; made when first asked for."""

    def __init__(self, catalog: Catalog, plan: NoisePlan) -> None:
        self._catalog, self._plan = catalog, plan
        self._fitting: dict[tuple[str, ...], list[str]] = {}
        self._pictures: dict[str, Image.Image] = {}

    @cached_property
    def _items(self) -> dict[str, Item]:
        table = self._catalog.table(["id", "category"])
        order = np.random.default_rng(self._plan.seed).permutation(len(table))
        if self._plan.donors == "same_category":
            order = _in_turn(order, table["category"].to_pylist())
        items = [item for item in self._catalog.take_positions(order[: 2 * DONORS]) if item.pictures]
        if len(items) < 2:
            raise TgqError("distractor noise needs at least two items with a picture; choose other noise.kinds")
        return {item.id: item for item in items[:DONORS]}

    def choose(self, item: Item, spec: NoiseSpec) -> str:
        """Pick the donor of an item; any but the item itself where no category fits."""
        pool = [donor for donor in self._fits(item.category) if donor != item.id]
        pool = pool or [donor for donor in self._items if donor != item.id]
        return pool[int(np.random.default_rng([spec.seed, 1]).integers(len(pool)))]

    def _fits(self, category: tuple[str, ...]) -> list[str]:
        """Donors that may stand beside an item of this category."""
        if category not in self._fitting:
            fits: dict[str, Callable[[Item], bool]] = {
                "other_category": lambda other: other.category[:1] != category[:1],
                "same_category": lambda other: other.category == category,
                "any": lambda other: True,
            }
            chosen = fits[self._plan.donors]
            self._fitting[category] = [donor for donor, other in self._items.items() if chosen(other)]
        return self._fitting[category]

    def digest(self, donor: str) -> str:
        """Digest of the donor's picture."""
        return self._items[donor].pictures[0].digest

    def picture(self, donor: str) -> Image.Image:
        """The donor's picture, at most DONOR_SIDE wide and high; read once."""
        if donor not in self._pictures:
            picture = read_picture(self._items[donor].pictures[0], self._catalog.root)
            picture.thumbnail((DONOR_SIDE, DONOR_SIDE))
            self._pictures[donor] = picture
        return self._pictures[donor]


def _in_turn(order: Ints, categories: list[list[str]]) -> Ints:
    """Reorder positions so that every category has its turn before any has its second."""
    seen: Counter[tuple[str, ...]] = Counter()
    turns = np.empty(len(order), np.int64)
    for place, position in enumerate(order.tolist()):
        category = tuple(categories[position] or ())
        turns[place] = seen[category]
        seen[category] += 1
    return order[np.argsort(turns, kind="stable")]


def write_view(view: NoiseView, to: Path, *, shown: bool = True, overwrite: bool = False) -> Catalog:
    """Write a catalogue whose pictures are as a view shows them, packed; items and their order stay.

    A first picture with noise becomes a PNG; all other pictures keep their bytes. `overwrite` replaces a catalogue at
    `to`.

    Raises:
        TgqError: if a picture cannot be read, naming its item; if `to` may not be written.
    """
    name, root = f"{view.catalog.name} ({view.name})", view.catalog.root
    make_way(to, KIND, overwrite=overwrite, sources=[view.catalog.path, root])
    with CatalogWriter(to, name=name, pack=True, root=root, overwrite=overwrite) as writer:
        for item in track(view.catalog.items(), f"drawing ({view.name})", len(view.catalog), shown=shown):
            try:
                writer.add(_repainted(view, item))
            except PictureError as error:
                raise TgqError(f"item {item.id!r}: {error}; mend or remove the picture") from error
    return Catalog.open(to)


def _repainted(view: NoiseView, item: Item) -> Item:
    rendered = view.render(item) if view.full_spec(item) is not None else None
    if rendered is None:
        return item
    file = BytesIO()
    rendered.picture.save(file, "PNG")
    data = file.getvalue()
    return replace(item, pictures=(Picture(Picture.digest_of(data), None, data), *item.pictures[1:]))
