"""Every command and every piece of code on the page docs/data.md runs, and its tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bad_pictures import bad_server
from doc_runs import Terminal, walk_page
from PIL import Image

from tgqformer.catalog import Catalog
from tgqformer.catalog.readers import READERS

PAGE = (Path(__file__).parents[2] / "docs/data.md").read_text()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "photos").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (20, 20), "red").save(tmp_path / f"photos/{name}.jpg")
    rows = ["sku,name,maker,group,kind,cost,photo,color", "1,Shirt,Acme,Clothes,Shirts,5.00,photos/a.jpg,red"]
    (tmp_path / "shop.csv").write_text("\n".join([*rows, "2,Hat,Acme,Clothes,Hats,7.00,b.jpg,blue", ""]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_a_table_to_a_catalogue_and_back_to_python(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    walk_page("docs/data.md", Terminal(), "", "Which column is what", "Products that are one")
    items = list(Catalog.open("catalogs/shop").items())
    assert (items[1].title, items[1].price, len(items[1].pictures)) == ("Hat", 7.0, 1)
    assert Path("duplicates.html").is_file() and Path("duplicates.csv").is_file()
    text = (shop / "shop.csv").read_text()
    (shop / "shop.csv").write_text(text.replace("photo,", "image,", 1))
    Path("catalogs/shop").rename("catalogs/by-command")
    walk_page("docs/data.md", Terminal(), "From Python")
    assert "1 Shirt ('Clothes', 'Shirts')" in capsys.readouterr().out
    assert Catalog.open("catalogs/mine").ids() == ["1"]


def test_pictures_are_fetched_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with bad_server() as server:
        rows = [f"{n},Tee {n},{server.url('good', n)}" for n in range(3)]
        Path("shop.csv").write_text("\n".join(["id,title,image", *rows, ""]))
        here = ["--allow-host", "127.0.0.1", "--rate", "1000"]
        walk_page("docs/data.md", Terminal(more={"pictures fetch": here}), "Pictures by address")
    assert [len(item.pictures) for item in Catalog.open("catalogs/shop").items()] == [1, 1, 1]


def test_every_reader_is_on_the_page() -> None:
    named = re.findall(r"\| `([\w-]+)` \|$", PAGE, re.MULTILINE)
    assert sorted(named) == sorted(reader.name for reader in READERS)
