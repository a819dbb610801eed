"""Views of a catalogue: which item has which noise, keys, donors, the contact sheet and the commands."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item, Picture
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.cli.noise import app
from tgqformer.errors import TgqError
from tgqformer.synthetic.noise import NoisePlan, NoiseView, add_noise, noise_views, write_view
from tgqformer.synthetic.noise.sheet import contact_sheet
from tgqformer.synthetic.noise.view import DONOR_SIDE
from tgqformer.synthetic.studio import draw_studio


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return draw_studio(tmp_path_factory.mktemp("shop") / "studio", items=40, seed=3, shown=False)


def test_the_mixed_view_noises_its_share_by_id_alone() -> None:
    plan, ids = NoisePlan(share=0.3, seed=5), [f"item {number}" for number in range(3000)]
    worn = [plan.is_noised(name) for name in ids]
    assert abs(np.mean(worn) - 0.3) < 0.03
    assert [plan.is_noised(name) for name in reversed(ids)] == worn[::-1]
    specs = [plan.spec(name) for name in ids]
    assert {spec.severity for spec in specs} == {1, 2, 3, 4, 5}
    kinds = [spec.kind for spec in specs]
    assert min(kinds.count(kind) for kind in plan.kinds) > 850
    assert NoisePlan(seed=6).spec("item 1") != NoisePlan(seed=5).spec("item 1")


def test_views_agree_with_each_other(shop: Catalog) -> None:
    plan = NoisePlan(seed=1)
    clean, mixed, noised, collage = (NoiseView(shop, name, plan) for name in ("clean", "mixed", "noised", "collage"))
    worn = 0
    for name in shop.ids():
        assert clean.spec(name) is None
        whole, some, beside = noised.spec(name), mixed.spec(name), collage.spec(name)
        assert whole is not None and beside is not None
        assert beside.kind == "distractor"
        worn += some is not None
        assert some is None or some == whole
        if whole.kind == "distractor":
            assert beside == whole
    assert 10 <= worn <= 30


def test_keys_name_what_is_shown(shop: Catalog) -> None:
    items = list(shop.items())
    clean, noised = NoiseView(shop, "clean", NoisePlan()), NoiseView(shop, "noised", NoisePlan())
    assert [clean.key(item) for item in items] == [item.pictures[0].digest for item in items]
    keys = [noised.key(item) for item in items]
    assert len({*keys}) == len(items) and keys == [noised.key(item) for item in items]
    assert not {*keys} & {clean.key(item) for item in items}
    other = NoiseView(shop, "noised", NoisePlan(seed=1))
    assert all(other.key(item) != key for item, key in zip(items, keys, strict=True))
    mixed = NoiseView(shop, "mixed", NoisePlan())
    assert {mixed.key(item) for item in items} <= {*keys} | {clean.key(item) for item in items}


def test_rendering_is_what_the_spec_says(shop: Catalog) -> None:
    view, clean = (
        NoiseView(shop, "noised", NoisePlan(kinds=("poster", "clutter"))),
        NoiseView(shop, "clean", NoisePlan()),
    )
    for item in shop.items(0, 5):
        bare, shown, spec = clean.render(item), view.render(item), view.spec(item.id)
        assert bare is not None and shown is not None and spec is not None
        assert not bare.mask.any()
        again = add_noise(bare.picture, spec)
        assert (np.asarray(again.picture) == np.asarray(shown.picture)).all() and (again.mask == shown.mask).all()


@pytest.mark.parametrize("among", ["other_category", "same_category", "any"])
def test_donors_come_from_where_the_plan_says(shop: Catalog, among: str) -> None:
    view = NoiseView(shop, "collage", NoisePlan(donors=among))  # type: ignore[arg-type]
    known = {item.id: item for item in shop.items()}
    alone = [item for item in known.values() if sum(one.category == item.category for one in known.values()) == 1]
    for item in known.values():
        spec = view.full_spec(item)
        assert spec is not None and spec.donor is not None and spec.donor != item.id
        donor = known[spec.donor]
        if among == "other_category":
            assert donor.category[0] != item.category[0]
        elif among == "same_category" and item not in alone:
            assert donor.category == item.category


def test_items_without_picture_wear_nothing(tmp_path: Path) -> None:
    with CatalogWriter(tmp_path / "shop", name="shop", pack=True) as writer:
        writer.add(Item("a", title="no picture"))
        writer.add(Item("b", title="none either"))
    shop = Catalog.open(tmp_path / "shop")
    view = NoiseView(shop, "collage", NoisePlan())
    for item in shop.items():
        assert view.full_spec(item) is None and view.key(item) is None and view.render(item) is None
    with pytest.raises(TgqError, match="two items with a picture"):
        contact_sheet(shop)


def test_one_picture_cannot_be_its_own_distractor(tmp_path: Path) -> None:
    file = tmp_path / "one.png"
    Image.new("RGB", (30, 30), "red").save(file)
    with CatalogWriter(tmp_path / "shop", name="shop", pack=True) as writer:
        writer.add(Item("a", pictures=(Picture(Picture.digest_of(file.read_bytes()), None, file.read_bytes()),)))
    shop = Catalog.open(tmp_path / "shop")
    with pytest.raises(TgqError, match="distractor"):
        NoiseView(shop, "collage", NoisePlan()).key(next(shop.items()))
    with pytest.raises(TgqError, match="no view"):
        NoiseView(shop, "dirty", NoisePlan())  # type: ignore[arg-type]


def test_a_donor_is_kept_small(tmp_path: Path) -> None:
    with CatalogWriter(tmp_path / "shop", name="shop", pack=True) as writer:
        for name, color in (("a", "red"), ("b", "blue")):
            file = tmp_path / f"{name}.png"
            Image.new("RGB", (900, 600), color).save(file)
            data = file.read_bytes()
            writer.add(Item(name, pictures=(Picture(Picture.digest_of(data), None, data),)))
    view = NoiseView(Catalog.open(tmp_path / "shop"), "collage", NoisePlan())
    assert max(view._donors.picture("a").size) == DONOR_SIDE


def test_a_written_view_is_a_catalogue(shop: Catalog, tmp_path: Path) -> None:
    view = NoiseView(shop, "noised", NoisePlan())
    written = write_view(view, tmp_path / "noised", shown=False)
    assert written.ids() == shop.ids()
    item, shown = next(written.items()), view.render(next(shop.items()))
    rendered = NoiseView(written, "clean", NoisePlan()).render(item)
    assert shown is not None and rendered is not None
    assert (np.asarray(rendered.picture) == np.asarray(shown.picture)).all()


def test_commands(shop: Catalog, tmp_path: Path) -> None:
    runner = CliRunner()
    for options in ([], ["--outlines", "--overwrite"]):
        result = runner.invoke(
            app, ["sheet", str(shop.path), "--to", str(tmp_path / "sheet.png"), "--items", "1", *options]
        )
        assert result.exit_code == 0, result.output
        with Image.open(tmp_path / "sheet.png") as sheet:
            assert sheet.width > 900 and sheet.height > 400
    result = runner.invoke(app, ["sheet", str(shop.path), "--to", str(tmp_path / "sheet.jpg")])
    assert result.exit_code != 0 and "is written as a PNG" in str(result.exception)
    assert not (tmp_path / "sheet.jpg").exists()
    result = runner.invoke(app, ["apply", str(shop.path), "--to", str(tmp_path / "out"), "--share", "1"])
    assert result.exit_code == 0, result.output
    assert len(Catalog.open(tmp_path / "out")) == len(shop)


def test_writing_a_view_keeps_what_it_leaves_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    pictures = []
    for n in range(2):
        file = tmp_path / "pictures" / f"{n}.jpg"
        Image.new("RGB", (30, 40), (40 * n, 90, 120)).save(file, "JPEG")
        pictures.append(Picture(Picture.digest_of(file.read_bytes()), file.name))
    about = {"brand": "acme", "category": ("shoe",), "attributes": {"fit": "slim"}, "price": 3.5}
    items = [Item("a", "a shoe", pictures=tuple(pictures), **about), Item("b"), Item("c", pictures=(pictures[1],))]  # type: ignore[arg-type]
    with CatalogWriter(tmp_path / "shop", name="shop", pack=False, root=tmp_path / "pictures") as writer:
        for item in items:
            writer.add(item)
    shop = Catalog.open(tmp_path / "shop")
    for share in (0.0, 1.0):
        plan = NoisePlan(share=share, kinds=("poster",))
        written = write_view(NoiseView(shop, "mixed", plan), tmp_path / str(share), shown=False)
        found = list(written.items())
        assert [replace(item, pictures=()) for item in found] == [replace(item, pictures=()) for item in items]
        assert [len(item.pictures) for item in found] == [2, 0, 1]
        first, second = found[0].pictures
        assert second.data == (tmp_path / "pictures" / "1.jpg").read_bytes() and second.digest == pictures[1].digest
        assert (first.digest == pictures[0].digest) == (share == 0)
    (tmp_path / "pictures" / "1.jpg").unlink()
    with pytest.raises(TgqError, match=r"item 'a': .*mend or remove the picture"):
        write_view(NoiseView(shop, "mixed", plan), tmp_path / "gone", shown=False)


def test_a_view_of_one_kind_and_severity(shop: Catalog) -> None:
    view, mixed = NoiseView(shop, "clutter-4", NoisePlan()), NoiseView(shop, "noised", NoisePlan())
    for item in shop.items():
        spec, drawn = view.full_spec(item), mixed.full_spec(item)
        assert spec is not None and drawn is not None
        assert (spec.kind, spec.severity, spec.seed) == ("clutter", 4, drawn.seed)
    with pytest.raises(TgqError, match="poster-5"):
        NoiseView(shop, "poster-6", NoisePlan())


def test_second_products_of_the_same_category(shop: Catalog) -> None:
    view = NoiseView(shop, "collage-same", NoisePlan())
    kinds = {item.id: item.category for item in shop.items()}
    counts = Counter(kinds.values())
    for item in shop.items():
        spec = view.full_spec(item)
        assert spec is not None and spec.donor is not None and spec.donor != item.id
        assert counts[item.category] == 1 or kinds[spec.donor] == item.category


def test_several_views_share_donors_and_may_show_some_items_alone(shop: Catalog) -> None:
    some = frozenset(shop.ids()[:3])
    made = noise_views(shop, NoisePlan(), {"mixed": None, "distractor-2": some, "collage-same": None})
    assert made[0]._donors is made[1]._donors is not made[2]._donors
    assert [made[1].key(item) is not None for item in shop.items()] == [item_id in some for item_id in shop.ids()]
