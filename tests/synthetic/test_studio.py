"""The studio catalogue: same seed same bytes, truth that holds, texts that do not tell, pictures worth looking at."""

from __future__ import annotations

import re
import sys
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.pictures import read_picture
from tgqformer.cli.studio import studio
from tgqformer.errors import TgqError
from tgqformer.synthetic.studio import KINDS, Product, draw_product, draw_studio, products, studio_sheet
from tgqformer.synthetic.studio import draw as drawing
from tgqformer.synthetic.studio.brands import LEVEL, LOGOS
from tgqformer.synthetic.studio.drawings import draw, drawings
from tgqformer.synthetic.studio.palette import COLOURS, lightness, shade, vary
from tgqformer.synthetic.studio.sketch import Finish, Sketch
from tgqformer.synthetic.studio.textures import MATERIALS, PATTERNS


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return draw_studio(tmp_path_factory.mktemp("studio") / "shop", items=60, seed=0, shown=False)


def sample(**changes: object) -> Product:
    given = {
        "id": "x", "kind": "mug", "variant": "straight", "colour": "red", "pattern": "plain", "material": "ceramic",
        "brand": "Aldine", "title": None, "price": 9.0, "views": 1, "seed": 4,
    }  # fmt: skip
    return Product(**{**given, **changes})  # type: ignore[arg-type]


def test_there_is_enough_to_choose_from() -> None:
    assert len(KINDS) >= 12
    assert all(len(kind.variants) >= 2 and set(kind.materials) <= set(MATERIALS) for kind in KINDS.values())
    assert LOGOS.keys() == LEVEL.keys()
    drawn = list(products(2000, 0))
    for name, values in (("kind", KINDS), ("colour", COLOURS), ("pattern", PATTERNS), ("brand", LOGOS)):
        counts = Counter(getattr(product, name) for product in drawn)
        assert counts.keys() == set(values)
        assert min(counts.values()) > 2000 / len(values) * 0.6


def test_a_larger_shop_holds_the_smaller() -> None:
    assert list(products(50, 7)) == list(products(80, 7))[:50]
    assert list(products(5, 7)) != list(products(5, 8))


def test_titles_tell_neither_colour_nor_pattern_nor_variant() -> None:
    drawn = list(products(3000, 1))
    hidden = {*COLOURS, *PATTERNS, "striped", "dotted", "checked", "patterned", "flowers"}
    for product in drawn:
        words = set(re.findall(r"[a-z]+", (product.title or "").lower()))
        assert not words & hidden
    unnamed = [one for one in drawn if not any(noun in (one.title or "") for noun in KINDS[one.kind].nouns)]
    assert 0.1 < len(unnamed) / len(drawn) < 0.2
    assert any(one.title is None for one in drawn)


def test_prices_follow_kind_and_brand() -> None:
    drawn = list(products(3000, 1))
    assert all(one.price > 0 for one in drawn)

    def mean(kind: str) -> float:
        return float(np.mean([one.price for one in drawn if one.kind == kind]))

    assert mean("sofa") > 5 * mean("backpack") > 5 * mean("mug")


def test_every_variant_has_a_drawing_and_a_wrong_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(drawings()) == {(kind, variant) for kind in KINDS for variant in KINDS[kind].variants}
    sketch = Sketch(Finish("#204060", "#ffffff", "plain", "ceramic", "Aldine"))
    for line, error in (("blob round | M0 0", ValueError), ("tube 9 puce | M0 0", KeyError)):
        monkeypatch.setitem(drawings(), ("mug", "straight"), ["begin", line, "mirror"])
        with pytest.raises(error, match=line.split()[0 if error is ValueError else 2]):
            draw(sketch, "mug", "straight")


@pytest.mark.parametrize(("kind", "variant"), [(kind, variant) for kind in KINDS for variant in KINDS[kind].variants])
def test_every_silhouette_draws(kind: str, variant: str) -> None:
    product = sample(kind=kind, variant=variant, material=KINDS[kind].materials[0], pattern="stripes")
    picture, mask = draw_product(product, 0)
    assert picture.size == (224, 224) and mask.shape == (224, 224)
    assert 0.04 < mask.mean() < 0.7
    pixels = np.asarray(picture, np.float32)
    assert pixels[mask].std() > 15, "a drawing has shading"
    border = np.concatenate([pixels[0], pixels[-1]])
    assert border.mean() > 195, "the backdrop is light"


@pytest.mark.parametrize("colour", sorted(COLOURS))
def test_the_picture_shows_the_colour(colour: str) -> None:
    picture, mask = draw_product(sample(colour=colour), 0)
    seen = np.median(np.asarray(picture, np.float32)[mask], axis=0)

    def away(name: str) -> float:
        true = np.array([int(COLOURS[name][at : at + 2], 16) for at in (1, 3, 5)], np.float32)
        return float(np.abs(seen - true).sum())

    assert colour in sorted(COLOURS, key=away)[:2]


def test_the_picture_shows_the_pattern() -> None:
    plain, mask = draw_product(sample(), 0)
    for pattern in PATTERNS[1:]:
        worn, same = draw_product(sample(pattern=pattern), 0)
        assert (mask == same).mean() > 0.97, "a pattern leaves the silhouette alone"
        changed = np.abs(np.asarray(plain, int) - np.asarray(worn, int)).max(2) > 30
        assert changed[mask].mean() > 0.08
        assert changed[~mask].mean() < 0.02


def test_views_differ() -> None:
    views = [np.asarray(draw_product(sample(pattern="dots"), view)[0], int) for view in (0, 1, 2)]
    assert np.abs(views[0] - views[1]).mean() > 4
    close = draw_product(sample(pattern="dots"), 2)[1]
    assert close.mean() > 1.5 * draw_product(sample(pattern="dots"), 0)[1].mean()


def test_the_same_seed_draws_the_same_bytes(shop: Catalog, tmp_path: Path) -> None:
    again = draw_studio(tmp_path / "again", items=60, seed=0, shown=False, workers=2)
    assert again.fingerprint == shop.fingerprint
    assert (again.path / "truth.parquet").read_bytes() == (shop.path / "truth.parquet").read_bytes()
    other = draw_studio(tmp_path / "other", items=2, seed=1, shown=False)
    assert other.take(["studio-00000"])[0].pictures != shop.take(["studio-00000"])[0].pictures


def test_truth_stands_beside_the_catalogue(shop: Catalog) -> None:
    truth = pq.read_table(shop.path / "truth.parquet").to_pylist()
    assert [row["id"] for row in truth] == shop.ids()
    for row, item, product in zip(truth, shop.items(), products(60, 0), strict=True):
        assert {name: row[name] for name in ("kind", "colour", "pattern", "material", "variant", "brand")} == {
            name: getattr(product, name) for name in ("kind", "colour", "pattern", "material", "variant", "brand")
        }
        assert item.category == KINDS[row["kind"]].category
        assert item.attributes == {"material": row["material"]}
        assert len(item.pictures) == product.views
        mask = np.asarray(Image.open(BytesIO(row["mask"])), bool)
        picture = np.asarray(read_picture(item.pictures[0], shop.root), np.float32)
        assert mask.shape == picture.shape[:2] == (224, 224)
        expected = draw_product(product, 0)
        assert (expected[1] == mask).all()
        assert np.abs(np.asarray(expected[0], np.float32) - picture).mean() < 6, "JPEG of the drawing"


def test_several_views_on_part_of_the_items(shop: Catalog) -> None:
    counts = Counter(len(item.pictures) for item in shop.items())
    assert set(counts) == {1, 2, 3}


def test_colours_lighten_darken_and_vary() -> None:
    assert shade("#804020", 1) == "#ffffff" and shade("#804020", -1) == "#000000" and shade("#804020", 0) == "#804020"
    assert lightness("#ffffff") == pytest.approx(1) and lightness("#000000") == 0
    rng = np.random.default_rng(0)
    near = [vary("#3f80d8", rng) for _ in range(20)]
    assert len(set(near)) > 15 and all(abs(lightness(one) - lightness("#3f80d8")) < 0.1 for one in near)


def test_sheet_shows_every_silhouette() -> None:
    sheet = studio_sheet(columns=3, tile=40, kinds=("mug", "hat"))
    assert sheet.size == (120, 40 * 3)


def test_what_cannot_be_drawn_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TgqError, match="at least"):
        draw_studio(tmp_path / "none", items=0, shown=False)
    drawing._resvg.cache_clear()
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(TgqError, match=r"tgqformer\[studio\]"):
        draw_studio(tmp_path / "none", items=1, shown=False)
    assert not (tmp_path / "none").exists()
    drawing._resvg.cache_clear()


def test_command(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(studio)
    to, sheet = tmp_path / "shop", tmp_path / "sheet.png"
    result = CliRunner().invoke(app, ["--to", str(to), "--items", "3", "--sheet", str(sheet)])
    assert result.exit_code == 0, result.output
    assert len(Catalog.open(to)) == 3 and sheet.is_file()
