"""The studio catalogue: exact masks, the same on one core and on many, what shoppers find in it."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.pictures import read_picture
from tgqformer.errors import TgqError
from tgqformer.pairs.splits import ItemSplit
from tgqformer.synthetic.shoppers import STUDIO, simulate_sessions
from tgqformer.synthetic.studio import KINDS, Product, draw_product, draw_studio, products
from tgqformer.synthetic.studio.palette import COLOURS
from tgqformer.synthetic.studio.textures import PATTERNS

STYLES = [(kind, variant) for kind, about in KINDS.items() for variant in about.variants]
T_SHIRT = Product(
    "studio-00007", "t-shirt", "crew", "red", "plain", "cotton", "Aldine", "Aldine Tee", 19.9, views=1, seed=5
)  # fmt: skip


def _pixels(product: Product, view: int = 0) -> np.ndarray:
    return np.asarray(draw_product(product, view)[0], np.int32)


def _mask(product: Product, view: int = 0) -> np.ndarray:
    return draw_product(product, view)[1]


def _around(mask: np.ndarray, by: int) -> np.ndarray:
    """Grow a mask by some pixels."""
    grown = mask.copy()
    for axis in (0, 1):
        grown = np.any([np.roll(grown, shift, axis) for shift in range(-by, by + 1)], axis=0)
    return grown


# --- the assortment ---------------------------------------------------------------------------------------------------


def test_a_smaller_shop_is_the_beginning_of_a_larger_one_and_seeds_differ() -> None:
    assert list(products(40, 3)) == list(products(90, 3))[:40]
    assert list(products(40, 3)) != list(products(40, 4))


def test_every_kind_colour_and_pattern_occurs_about_as_often() -> None:
    shop = list(products(3000, 0))
    for values, expected in (([one.kind for one in shop], KINDS), ([one.colour for one in shop], COLOURS)):
        counts = {name: values.count(name) for name in expected}
        assert min(counts.values()) > 0.6 * 3000 / len(counts)
    patterns = [one.pattern for one in shop]
    assert set(patterns) == set(PATTERNS)
    assert 0.2 < patterns.count("plain") / 3000 < 0.35


# --- the drawings -----------------------------------------------------------------------------------------------------


def test_the_styles_of_a_kind_look_different() -> None:
    for kind, about in KINDS.items():
        base = replace(T_SHIRT, kind=kind, material=about.materials[0])
        drawn = [_pixels(replace(base, variant=name)) for name in about.variants]
        for at, one in enumerate(drawn):
            for other in drawn[at + 1 :]:
                assert (np.abs(one - other).max(axis=2) > 30).mean() > 0.01, kind


def test_the_mask_is_exact_what_differs_with_the_colour_lies_inside_it() -> None:
    red, mask = draw_product(T_SHIRT, 0)
    blue, same = draw_product(replace(T_SHIRT, colour="blue"), 0)
    differs = np.abs(np.asarray(red, np.int32) - np.asarray(blue, np.int32)).max(axis=2) > 8
    assert (mask == same).all()
    assert not (differs & ~_around(mask, 1)).any()
    assert (differs & mask).sum() > 0.8 * mask.sum()


@pytest.mark.parametrize("pattern", [name for name in PATTERNS if name != "plain"])
def test_a_pattern_changes_the_product_and_nothing_else(pattern: str) -> None:
    plain, printed = _pixels(T_SHIRT), _pixels(replace(T_SHIRT, pattern=pattern))
    differs, mask = np.abs(plain - printed).max(axis=2) > 30, _mask(T_SHIRT)
    assert not (differs & ~_around(mask, 1)).any()
    assert differs[mask].mean() > 0.15


def test_close_ups_show_the_product() -> None:
    shares = [float(_mask(product, 2).mean()) for product in products(24, 2)]
    assert np.mean(np.array(shares) > 0.2) > 0.9


# --- the catalogue ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return draw_studio(tmp_path_factory.mktemp("studio") / "catalog", items=40, seed=7, shown=False)


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_seed_gives_the_same_bytes_on_one_core_and_on_many(tmp_path: Path, drawn: Catalog) -> None:
    draw_studio(tmp_path / "again", items=40, seed=7, shown=False, workers=2)
    assert _files(tmp_path / "again") == _files(drawn.path)


def test_items_are_those_of_the_products(drawn: Catalog) -> None:
    for item, product in zip(drawn.items(), products(40, 7), strict=True):
        assert (item.id, item.title, item.brand, item.price) == (
            product.id,
            product.title,
            product.brand,
            product.price,
        )
        assert item.category == KINDS[product.kind].category
        assert dict(item.attributes) == {"material": product.material}
        assert len(item.pictures) == product.views
        assert all(read_picture(picture, drawn.root).size == (224, 224) for picture in item.pictures)
    assert any(len(item.pictures) > 1 for item in drawn.items(pictures=False))


def test_a_larger_catalogue_begins_with_the_smaller_one(tmp_path: Path, drawn: Catalog) -> None:
    small = draw_studio(tmp_path / "small", items=10, seed=7, shown=False)
    assert list(small.items()) == list(drawn.items(0, 10))


def test_the_truth_stands_beside_the_catalogue_with_the_mask_of_the_first_picture(drawn: Catalog) -> None:
    truth = pq.read_table(drawn.path / "truth.parquet").to_pylist()
    assert [row["id"] for row in truth] == drawn.ids()
    for row, product in zip(truth, products(40, 7), strict=True):
        for name in ("kind", "colour", "pattern", "material", "variant", "brand"):
            assert row[name] == getattr(product, name)
    stored = np.asarray(Image.open(BytesIO(truth[3]["mask"])))
    assert (stored == _mask(next(one for one in products(40, 7) if one.id == truth[3]["id"]))).all()


def test_shoppers_can_shop_there(drawn: Catalog) -> None:
    truth = pq.read_table(drawn.path / "truth.parquet")
    kinds = dict(zip(truth["id"].to_pylist(), truth["kind"].to_pylist(), strict=True))
    visits = simulate_sessions(drawn, STUDIO, ItemSplit.by_hash(drawn.ids(), (1.0, 0.0, 0.0), 0), truth=truth)
    seen: dict[int, set[str]] = {}
    names = visits.item_names.to_pylist()
    for session, item in zip(visits.sessions.tolist(), visits.items.tolist(), strict=True):
        seen.setdefault(session, set()).add(kinds[names[item]])
    assert len(seen) > 10
    assert all(len(one) == 1 for one in seen.values())


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TgqError, match="negative"):
        draw_studio(tmp_path / "none", items=1, seed=-1)
    assert not (tmp_path / "none").exists()
