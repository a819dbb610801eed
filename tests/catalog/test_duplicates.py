"""Groups of products that are one, by picture and title: what is found, what is not, and at what cost."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from browsing import assert_accessible, needs_browser
from PIL import Image
from typer.testing import CliRunner

from tgqformer.catalog import Catalog, CatalogWriter, Item, Picture
from tgqformer.catalog.duplicates import _leaders, _linked, _words, find_duplicates
from tgqformer.catalog.pictures import ALIKE, near_identical
from tgqformer.cli import app
from tgqformer.errors import TgqError


def drawn(seed: int, side: int = 96, quality: int = 90, shift: int = 0) -> Picture:
    """A picture of a seed, at some size and quality, and some shades darker."""
    shade = np.random.default_rng(seed).integers(0, 200, (4, 4, 3), np.uint8) + np.uint8(shift)
    image = Image.fromarray(shade).resize((side, side), Image.Resampling.BICUBIC)
    image.save(buffer := BytesIO(), "JPEG", quality=quality)
    return Picture(Picture.digest_of(buffer.getvalue()), None, buffer.getvalue())


def written(folder: Path, *items: Item) -> Catalog:
    with CatalogWriter(folder, name="shop", pack=True) as writer:
        for item in items:
            writer.add(item)
    return Catalog.open(folder)


TEE, CAP = drawn(1), drawn(2)
SHOP = (
    Item("a", "Red Café tee, Acme", "Acme", price=9.0, pictures=(TEE,)),
    Item("b", "ACME red cafe TEE", pictures=(drawn(1, side=200, quality=60),)),  # another size and quality
    Item("c", "Red tee Acme", price=1200.0, pictures=(TEE,)),  # one word less
    Item("d", "Red coffee tee Acme", pictures=(drawn(1, shift=60),)),  # another picture
    Item("e", "Blue hat", pictures=(TEE,)),  # another product
    Item("f", "Acme phone 12 case", pictures=(CAP,)),
    Item("g", "Acme phone 13 case", pictures=(CAP,)),  # a number tells them apart
    Item("v1", "Sock red wool", item_group="SOCK", pictures=(drawn(3),)),
    Item("v2", "Sock red wool", item_group="SOCK", pictures=(drawn(3),)),  # known to be one
    Item("n", "Sock red wool"),
    Item("p", None, pictures=(TEE,)),
)


def test_what_is_one_by_picture_and_title(tmp_path: Path) -> None:
    catalog = written(tmp_path / "shop", *SHOP)
    assert find_duplicates(catalog) == [["a", "b", "c"]]
    assert find_duplicates(catalog, variants=True) == [["a", "b", "c"], ["v1", "v2"]]
    assert find_duplicates(catalog, "picture") == [["a", "b", "c", "e", "p"], ["f", "g"]]
    assert find_duplicates(catalog, "title") == [["v1", "v2", "n"], ["a", "b"]]
    with pytest.raises(TgqError, match="has the picture to compare"):
        find_duplicates(written(tmp_path / "none", Item("1", "Tee")), "picture")


def test_titles_part_again_where_only_others_held_them_together(tmp_path: Path) -> None:
    titles = ("red wool tee", "red wool cap", "blue wool cap")  # the first and the last are two words apart
    items = [Item(str(n), title, pictures=(TEE if n != 1 else CAP,)) for n, title in enumerate(titles)]
    assert find_duplicates(written(tmp_path / "shop", *items)) == []
    again = [replace(item, pictures=(TEE,)) for item in items]
    assert find_duplicates(written(tmp_path / "again", *again)) == [["0", "1", "2"]]


def test_pictures_are_like_the_first_of_their_group() -> None:
    ladder = np.arange(0, 40, 4, dtype=np.int16)[:, None] + np.tile([0, 240], 96).astype(np.int16)
    assert _leaders(ladder).tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]  # no chain from one end to the other
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (400, 2, 1, 2, 1, 3)) * np.ones((1, 1, 4, 1, 4, 1))
    looks = np.concatenate([base.reshape(400, 192)] * 2).astype(np.int16)
    looks[400:] += rng.integers(-2, 3, (400, 192)).astype(np.int16)
    looks[799, 0] = looks[399, 0] + ALIKE + 1
    slow = np.stack([near_identical(looks, one[None]) for one in looks])
    leader = _leaders(looks)
    wanted = np.full(800, -1)
    for place in range(800):
        if wanted[place] < 0:
            wanted[np.flatnonzero(slow[place] & (wanted < 0))] = place
    assert (leader == wanted).all() and leader[799] == 799 and (leader[400:799] == np.arange(399)).mean() > 0.9


def test_words_of_many_titles_cost_no_more_than_their_number() -> None:
    words = [_words(f"Brand{n % 50} item {n} of wool") for n in range(30_000)]
    groups = _linked([*words, *words[:7]], near=True)
    assert sorted(map(len, groups)) == [2] * 7


def test_as_table_page_and_lists(tmp_path: Path) -> None:
    written(tmp_path / "shop", *SHOP)
    files = {ending: tmp_path / f"twins.{ending}" for ending in ("csv", "html")}
    words = ["catalog", "duplicates", str(tmp_path / "shop"), "--by", "picture"]
    words += [word for ending, file in files.items() for word in (f"--{ending}", str(file))]
    done = CliRunner().invoke(app, words, env={"COLUMNS": "150"})
    assert done.exit_code == 0 and "2 groups, 7 of 11 items" in done.output and "the same file" in done.output
    with files["csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["group"], row["id"], row["same_file"]) for row in rows[:3]] == [
        ("1", "a", "True"),
        ("1", "b", "False"),
        ("1", "c", "True"),
    ]
    plain = CliRunner().invoke(app, [*words[:5], "--json"]).stdout
    assert [[one["id"] for one in group] for group in json.loads(plain)] == [["a", "b", "c", "e", "p"], ["f", "g"]]
    page = files["html"].read_text()
    assert page.count("<img") == 7 and "the very same file" in page and "1,200.00" in page and "<script" not in page
    assert isinstance(CliRunner().invoke(app, words).exception, TgqError)  # nothing is replaced
    assert CliRunner().invoke(app, [*words, "--overwrite", "--top", "1"]).exit_code == 0
    assert files["html"].read_text().count("<img") == 5 and "shows 1 of the groups" in files["html"].read_text()


@needs_browser
def test_axe_finds_nothing(tmp_path: Path) -> None:
    written(tmp_path / "shop", *SHOP)
    words = ["catalog", "duplicates", str(tmp_path / "shop"), "--by", "picture", "--html", str(tmp_path / "twins.html")]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert_accessible(tmp_path / "twins.html")
