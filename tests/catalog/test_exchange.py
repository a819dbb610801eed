"""Catalogues to and from Hugging Face datasets, by that library itself."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, Image, Value
from doc_commands import ROOT, run_code
from PIL import Image as PillowImage
from typer.testing import CliRunner

from tgqformer import Catalog, Item
from tgqformer.catalog import CatalogWriter, import_catalog
from tgqformer.catalog.exchange import export_catalog, from_dataset, to_dataset
from tgqformer.catalog.pictures import picture_of
from tgqformer.cli import app
from tgqformer.errors import TgqError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_DATASETS_CACHE", "HF_MODULES_CACHE"):
        monkeypatch.setattr(datasets.config, name, str(tmp_path / "cache"))
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A catalogue with everything that an item may have, and with what may be missing."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 12, 9, 3), np.uint8)
    first, second, third, fourth = (picture_of(PillowImage.fromarray(one)) for one in pixels)
    items = [
        Item("1", "Red shirt", "Acme", ("Clothes", "Shirts"), {"colour": "red", "fit für": "alle"}, 20.0,
             (first, second), "shirts", "in_stock", 15.5, "EUR", "2024-02-29"),
        Item("2", "Blue shirt", category=("Clothes",), pictures=(third,)),
        Item("3", "No picture", "Acme", attributes={"colour": "none at all"}),
        Item("4", brand="Bolt", pictures=(fourth,)),
    ]  # fmt: skip
    path = tmp_path_factory.mktemp("shop") / "shop"
    with CatalogWriter(path, name="shop", pack=True) as writer:
        for item in items:
            writer.add(item)
    return Catalog.open(path)


def same(made: Path, shop: Catalog) -> None:
    assert list(Catalog.open(made).items()) == list(shop.items())


def test_there_and_back_by_the_library(shop: Catalog, tmp_path: Path) -> None:
    dataset = shop.to_dataset()
    assert dataset.column_names == list(dataset.features) and len(dataset) == 4
    row = dataset[0]
    assert row["title"] == "Red shirt" and row["category"] == ["Clothes", "Shirts"] and row["sale_price"] == 15.5
    assert [one.size for one in row["pictures"]] == [(9, 12), (9, 12)]
    assert row["pictures"][0].convert("RGB").getpixel((0, 0)) != row["pictures"][1].convert("RGB").getpixel((0, 0))
    report = from_dataset(dataset, tmp_path / "back")
    assert set(report.problems) == {"no-title"}  # of the item that has none
    same(tmp_path / "back", shop)


def test_the_code_of_the_page_goes_there_and_back(tmp_path: Path) -> None:
    made = run_code(ROOT / "docs/hub.md", "def there_and_back")
    with CatalogWriter(tmp_path / "cheap", name="cheap", pack=True) as writer:
        for price in (5.0, 25.0):
            writer.add(Item(f"at {price}", "Red shirt", price=price))
    assert made["there_and_back"](tmp_path / "cheap", tmp_path / "copy").items == 1
    assert [item.price for item in Catalog.open(tmp_path / "copy").items()] == [5.0]


def test_an_export_is_read_by_load_dataset_and_by_the_import(shop: Catalog, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["catalog", "export", str(shop.path), "--to", str(tmp_path / "out")])
    assert result.exception is None, result.output
    assert f"tgq catalog import {tmp_path / 'out' / 'data'} --to" in result.output.replace("\n", "")
    found = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert found.features == to_dataset(shop).features
    assert found[1]["title"] == "Blue shirt" and found[1]["pictures"][0].size == (9, 12)
    import_catalog(tmp_path / "out" / "data", tmp_path / "back", pack=True)
    same(tmp_path / "back", shop)
    with pytest.raises(TgqError, match="exists already"):
        export_catalog(shop, tmp_path / "out")


def test_a_large_one_is_cut_into_files(shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tgqformer.catalog.exchange.ROWS", 2)
    monkeypatch.setattr("tgqformer.catalog.exchange._GROUP", 2)
    export_catalog(shop, tmp_path / "out")
    assert len(list((tmp_path / "out" / "data").iterdir())) == 2
    import_catalog(tmp_path / "out" / "data", tmp_path / "back", pack=True)
    same(tmp_path / "back", shop)


def test_a_picture_that_is_gone_is_told_with_its_item(tmp_path: Path) -> None:
    PillowImage.new("RGB", (20, 24), "red").save(tmp_path / "a.png")
    (tmp_path / "shop.csv").write_text("id,title,picture\n007,red shoe,a.png\n")
    import_catalog(tmp_path / "shop.csv", tmp_path / "shop", root=tmp_path)
    (tmp_path / "a.png").unlink()
    with pytest.raises(TgqError, match=r"picture of item '007' cannot be read: there is no file .*; bring it back"):
        export_catalog(Catalog.open(tmp_path / "shop"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_empty_one(tmp_path: Path) -> None:
    with CatalogWriter(tmp_path / "shop", name="shop", pack=True):
        pass
    with pytest.raises(TgqError, match="holds no item"):
        export_catalog(Catalog.open(tmp_path / "shop"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def foreign(photos: list[Any]) -> Dataset:
    """A dataset as people have it: one picture a row, names of columns of their own."""
    rows = {"sku": ["a", "b", "c"], "name": ["Mug", "Plate", "Bowl"], "photo": photos}
    return Dataset.from_dict(rows, Features({"sku": Value("string"), "name": Value("string"), "photo": Image()}))


def encoded(colour: str) -> bytes:
    file = BytesIO()
    PillowImage.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


def test_a_saved_dataset_of_others(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mug.png").write_bytes(encoded("red"))
    dataset = foreign([str(tmp_path / "photos" / "mug.png"), {"bytes": encoded("blue"), "path": "x.png"}, None])
    dataset.save_to_disk(str(tmp_path / "saved"))
    report = import_catalog(tmp_path / "saved", tmp_path / "shop", pack=True)
    assert report.reader == "datasets" and report.items == 3
    mug, plate, bowl = Catalog.open(tmp_path / "shop").items()
    assert (mug.title, mug.pictures[0].data, plate.pictures[0].data) == ("Mug", encoded("red"), encoded("blue"))
    assert bowl.pictures == ()
    shuffled = dataset.select([2, 0])
    from_dataset(shuffled, tmp_path / "some")
    assert Catalog.open(tmp_path / "some").ids() == ["c", "a"]


def test_parquet_with_the_feature_image(tmp_path: Path) -> None:
    foreign([{"bytes": encoded("red"), "path": None}] * 3).to_parquet(str(tmp_path / "items.parquet"))
    import_catalog(tmp_path / "items.parquet", tmp_path / "shop")
    assert [len(item.pictures) for item in Catalog.open(tmp_path / "shop").items()] == [1, 1, 1]


def test_splits_and_damage_are_told(tmp_path: Path) -> None:
    one = foreign([None] * 3)
    DatasetDict({"train": one, "test": one}).save_to_disk(str(tmp_path / "both"))
    with pytest.raises(TgqError, match=r"several splits \(train, test\); name the folder of one"):
        import_catalog(tmp_path / "both", tmp_path / "shop")
    import_catalog(tmp_path / "both" / "train", tmp_path / "shop", mapping={"pictures": []})
    file = next((tmp_path / "both" / "test").glob("*.arrow"))
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(TgqError):
        import_catalog(tmp_path / "both" / "test", tmp_path / "other")


def test_without_the_library(shop: Catalog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(TgqError, match=r"pip install 'tgqformer\[datasets\]'"):
        shop.to_dataset()
    assert export_catalog(shop, tmp_path / "out").is_dir()
