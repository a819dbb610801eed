"""The catalogue on disk: what is written comes back, in order, by position and by id; half-written ones never show."""

from __future__ import annotations

from decimal import Decimal
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tgqformer.catalog import Catalog, CatalogWriter, Item, Picture, PictureError, read_picture
from tgqformer.catalog import catalog as catalog_module
from tgqformer.catalog import writer as writer_module
from tgqformer.catalog.checks import SeenIds
from tgqformer.errors import TgqError
from tgqformer.files import read_json, with_check, write_json
from tgqformer.stages import mark


def jpeg(color: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (24, 32)) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, color).save(buffer, "JPEG")
    return buffer.getvalue()


def packed(data: bytes, path: str | None = None) -> Picture:
    return Picture(Picture.digest_of(data), path, data)


def some_items(count: int) -> list[Item]:
    data = [jpeg((value * 16, 0, 0)) for value in range(16)]
    return [
        Item(
            f"id{number}",
            f"title {number}" if number % 3 else None,
            "Brand" if number % 2 else None,
            ("a", f"b{number % 5}"),
            {"color": "red", "größe": str(number)},
            number / 4 if number % 7 else None,
            tuple(packed(data[(number + more) % 16]) for more in range(number % 3)),
        )
        for number in range(count)
    ]


def write(path: Path, items: list[Item], **options: object) -> Catalog:
    with CatalogWriter(path, name="shop", pack=True, **options) as writer:  # type: ignore[arg-type]
        for item in items:
            writer.add(item)
    return Catalog.open(path)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "PARTITION_ROWS", 90)
    monkeypatch.setattr(writer_module, "GROUP_ROWS", 16)


@pytest.mark.usefixtures("small_parts")
def test_what_is_written_comes_back(tmp_path: Path) -> None:
    items = some_items(300)
    catalog = write(tmp_path / "shop", items)
    assert len(catalog) == 300
    assert catalog.name == "shop"
    assert catalog.root is None
    assert len(list((tmp_path / "shop").glob("items-*.parquet"))) == 4
    assert list(catalog.items()) == items
    assert catalog.ids() == [item.id for item in items]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    ("start", "stop"), [(0, 0), (0, 1), (15, 17), (95, 97), (299, 300), (250, 999), (300, None), (7, 7)]
)
def test_slices(tmp_path: Path, start: int, stop: int | None) -> None:
    items = some_items(300)
    assert list(write(tmp_path / "shop", items).items(start, stop)) == items[start:stop]


@pytest.mark.usefixtures("small_parts")
def test_take_gives_the_order_asked_with_repeats(tmp_path: Path) -> None:
    items = some_items(300)
    catalog = write(tmp_path / "shop", items)
    asked = ["id299", "id0", "id0", "id91", "id15", "id16"]
    assert [item.id for item in catalog.take(asked)] == asked
    assert catalog.take(asked)[0] == items[299]
    assert catalog.positions(asked).tolist() == [299, 0, 0, 91, 15, 16]
    assert catalog.positions(asked).dtype == np.int64
    assert catalog.take([]) == []
    with pytest.raises(IndexError):
        catalog.take_positions([300])


def test_unknown_ids_are_named_with_the_nearest(tmp_path: Path) -> None:
    catalog = write(tmp_path / "shop", some_items(20))
    with pytest.raises(TgqError, match=r"no item 'id999', 'x' \(2 unknown\).*id9"):
        catalog.positions(["id3", "id999", "x"])


def test_light_reading_leaves_the_bytes_out(tmp_path: Path) -> None:
    items = some_items(10)
    catalog = write(tmp_path / "shop", items)
    light = list(catalog.items(pictures=False))
    assert [[p.digest for p in item.pictures] for item in light] == [
        [p.digest for p in item.pictures] for item in items
    ]
    assert all(picture.data is None for item in light for picture in item.pictures)
    assert catalog.take(["id2"], pictures=False)[0].pictures[0].data is None
    table = catalog.table(["price", "id", "pictures"])
    assert table.column_names == ["price", "id", "pictures"]
    assert "data" not in str(table.schema.field("pictures").type)
    with pytest.raises(TgqError, match="no column 'colour'"):
        catalog.table(["colour"])


def test_an_empty_catalogue(tmp_path: Path) -> None:
    catalog = write(tmp_path / "none", [])
    assert len(catalog) == 0
    assert list(catalog.items()) == []
    assert catalog.table(["id", "title"]).num_rows == 0


def test_a_failed_block_leaves_nothing_and_keeps_the_old(tmp_path: Path) -> None:
    path = tmp_path / "shop"
    write(path, some_items(3))
    with pytest.raises(RuntimeError), CatalogWriter(path, name="new", pack=True, overwrite=True) as writer:
        for item in some_items(400):
            writer.add(item)
        raise RuntimeError
    assert len(Catalog.open(path)) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["shop"]
    assert len(write(path, some_items(5), overwrite=True)) == 5


def test_folders_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")
    write_json(tmp_path / "catalog.json", {"mine": True})
    for overwrite in (False, True):
        with pytest.raises(TgqError, match="was not made by tgq"):
            CatalogWriter(tmp_path, name="x", pack=True, overwrite=overwrite)
        with pytest.raises(TgqError, match="is a file"):
            CatalogWriter(tmp_path / "thesis.txt", name="x", pack=True, overwrite=overwrite)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalog.json", "thesis.txt"]


def test_a_catalogue_is_replaced_only_when_asked_and_its_note_is_not_its_content(tmp_path: Path) -> None:
    first = write(tmp_path / "shop", some_items(3))
    with pytest.raises(TgqError, match="--overwrite"):
        write(tmp_path / "shop", some_items(3))
    mark(tmp_path / "shop", "catalogue", more="words")
    again = write(tmp_path / "shop", some_items(3), overwrite=True)
    assert again.fingerprint == first.fingerprint == Catalog.open(tmp_path / "shop").fingerprint


def test_an_id_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TgqError, match="'a' was added"), CatalogWriter(tmp_path / "c", name="c", pack=True) as writer:
        writer.add(Item("a"))
        writer.add(Item("a"))


def test_pictures_stay_or_are_packed(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    data = jpeg()
    (tmp_path / "photos/1.jpg").write_bytes(data)
    item = Item("1", pictures=(Picture(Picture.digest_of(data), "1.jpg"),))
    with CatalogWriter(tmp_path / "here", name="c", pack=False, root=tmp_path / "photos") as writer:
        writer.add(item)
    with CatalogWriter(tmp_path / "packed", name="c", pack=True, root=tmp_path / "photos") as writer:
        writer.add(item)
    here, packed_too = Catalog.open(tmp_path / "here"), Catalog.open(tmp_path / "packed")
    assert here.fingerprint == packed_too.fingerprint
    assert packed_too.root is None
    (kept,) = next(here.items()).pictures
    assert kept.data is None
    assert read_picture(kept, here.root).size == (24, 32)
    (tmp_path / "photos").rename(tmp_path / "moved")
    with pytest.raises(PictureError, match="no file"):
        read_picture(kept, here.root)
    assert read_picture(kept, Catalog.open(tmp_path / "here", root=tmp_path / "moved").root).size == (24, 32)
    assert next(packed_too.items()).pictures[0].data == data


def test_catalogue_and_pictures_can_move_together(tmp_path: Path) -> None:
    (tmp_path / "work/photos").mkdir(parents=True)
    (tmp_path / "work/photos/1.jpg").write_bytes(jpeg())
    with CatalogWriter(tmp_path / "work/shop", name="c", pack=False, root=tmp_path / "work/photos") as writer:
        writer.add(Item("1", pictures=(Picture("0" * 32, "1.jpg"),)))
    (tmp_path / "work").rename(tmp_path / "moved")
    catalog = Catalog.open(tmp_path / "moved/shop")
    assert read_picture(next(catalog.items()).pictures[0], catalog.root).size == (24, 32)


def test_fingerprint_follows_the_content(tmp_path: Path) -> None:
    items = some_items(5)
    first = write(tmp_path / "a", items).fingerprint
    assert write(tmp_path / "b", items).fingerprint == first
    assert write(tmp_path / "c", items[:4]).fingerprint != first
    assert write(tmp_path / "d", items[::-1]).fingerprint != first


@pytest.mark.parametrize("item", [Item("\ud800", "half a character"), Item("a", "Mug", price=Decimal(2))])
def test_a_value_that_cannot_be_kept_is_told(tmp_path: Path, item: Item) -> None:
    with (
        pytest.raises(TgqError, match="no catalogue can keep"),
        CatalogWriter(tmp_path / "shop", name="x", pack=True) as writer,
    ):
        writer.add(item)
    assert not (tmp_path / "shop").exists()


def test_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "shop"
    write(path, some_items(50))
    with pytest.raises(TgqError, match="is not a catalogue"):
        Catalog.open(tmp_path / "nowhere")
    about = read_json(path / "catalog.json")
    del about["check"]
    for change, words in (
        ({"version": 99}, "version 99"),
        ({"format": "other"}, "does not describe a catalogue"),
        ({"partitions": [{"file": "items-00000.parquet", "items": 51}]}, "50 items where catalog.json says 51"),
        ({"partitions": [{"file": "items-00007.parquet", "items": 1}]}, "damaged"),
    ):
        write_json(path / "catalog.json", with_check({**about, **change}))
        with pytest.raises(TgqError, match=words):
            Catalog.open(path)
    write_json(path / "catalog.json", {key: value for key, value in about.items() if key != "fingerprint"})
    with pytest.raises(TgqError, match="no 'fingerprint'"):
        Catalog.open(path)
    (path / "catalog.json").write_text("{not json")
    with pytest.raises(TgqError, match="damaged"):
        Catalog.open(path)
    assert len(write(path, some_items(2), overwrite=True)) == 2


def test_damage_inside_a_partition_is_told_when_read(tmp_path: Path) -> None:
    catalog = write(tmp_path / "shop", some_items(50))
    file = tmp_path / "shop/items-00000.parquet"
    data = bytearray(file.read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    file.write_bytes(data)
    with pytest.raises(TgqError, match="damaged"):
        list(catalog.items())
    with pytest.raises(TgqError, match="damaged"):
        Catalog.open(tmp_path / "shop").ids()


def test_seen_ids_agree_with_a_set_over_many_merges() -> None:
    rng = np.random.default_rng(0)
    seen, truth = SeenIds(recent=16), set()
    for number in rng.integers(0, 600, 3000).tolist():
        assert seen.add(str(number)) == (number not in truth)
        truth.add(number)


def test_seen_ids_tell_digests_apart_that_begin_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(name: bytes, digest_size: int) -> SimpleNamespace:
        return SimpleNamespace(digest=lambda: name.rjust(digest_size, b"\0"))

    monkeypatch.setattr("tgqformer.catalog.checks.blake2b", digest)
    seen = SeenIds(recent=4)
    assert all(seen.add(f"{number:03}") for number in range(20))
    assert not any(seen.add(f"{number:03}") for number in range(20))


def test_a_column_is_streamed_and_every_so_many_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "PARTITION_ROWS", 300)
    monkeypatch.setattr(writer_module, "GROUP_ROWS", 100)
    ids = [f"i{number}" for number in range(1000)]
    with CatalogWriter(tmp_path / "shop", name="shop", pack=False) as writer:
        for item_id in ids:
            writer.add(Item(item_id))
    catalog = Catalog.open(tmp_path / "shop")
    assert len(catalog.about["partitions"]) > 1
    assert list(catalog.column("id")) == ids
    monkeypatch.setattr(catalog_module, "FOOTERS", 1)
    few = Catalog.open(tmp_path / "shop")
    assert [item.id for item in few.take(["i900", "i1", "i899", "i2"])] == ["i900", "i1", "i899", "i2"]
    assert [item.id for item in few.items(250, 700)] == ids[250:700] and few._footer.cache_info().currsize == 1
    for every in (1, 7, 256, 301, 5000):
        assert list(catalog.column("id", every=every)) == ids[::every]
