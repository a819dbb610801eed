"""`tgq index`, `similar`, `neighbours`, from end to end."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from browsing import assert_accessible, needs_browser
from PIL import Image
from typer.testing import CliRunner

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item, Picture
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.cli import app
from tgqformer.cli import app as whole
from tgqformer.errors import TgqError
from tgqformer.store import make_store, open_store
from tgqformer.store.base import Filter, StoreRow
from tgqformer.store.build import build_store
from tgqformer.store.embeddings import Embeddings, fingerprint_of
from tgqformer.store.ledger import VersionSpec
from tgqformer.store.page import price_of, words_of

COLORS = ["red", "orange", "gold", "green", "teal", "blue", "purple", "black"]


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "160"})
    if isinstance(result.exception, TgqError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def drawn(color: str) -> Picture:
    buffer = BytesIO()
    Image.new("RGB", (600, 300), color).save(buffer, "PNG")
    return Picture(Picture.digest_of(buffer.getvalue()), data=buffer.getvalue())


def write_catalog(path: Path, ids: list[str]) -> Catalog:
    with CatalogWriter(path, name="test", pack=True) as writer:
        for i, item_id in enumerate(ids):
            pictures = () if i == 3 else (drawn(COLORS[i % 8]),)
            title = None if i == 4 else f"<b>{COLORS[i % 8]} & shoe</b>"
            writer.add(Item(item_id, title, f"brand{i % 2}", ("Shoes", f"Kind {i % 3}"), {}, 10.5 + i, pictures))
    return Catalog.open(path)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Give a folder with a catalogue of 8 items, embeddings on a quarter circle and a store."""
    ids = [f"sku-{i}" for i in range(8)]
    catalog = write_catalog(tmp_path / "catalog", ids)
    shape = {"dim": 2, "count": 8, "partition_size": 3, "cuttable": True}
    embeddings = Embeddings.create(
        tmp_path / "embeddings", model_version="tgq-1", ids_fingerprint=fingerprint_of(ids), **shape
    )
    angles = np.linspace(0, np.pi / 2, 8)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    for number in embeddings.missing():
        start, stop = embeddings.bounds(number)
        embeddings.write(number, ids[start:stop], vectors[start:stop])
    build_store(embeddings, catalog, tmp_path / "store", show_progress_bar=False)
    return tmp_path


def rows_printed(output: str) -> list[str]:
    return re.findall(r"^\d+ +(sku-\d+) ", output, re.MULTILINE)


@pytest.mark.parametrize("path", ["Shoes › Kind 1", "shoes > kind 1", "SHOES/KIND 1", "Kind 1", "kind 1"])
def test_the_path_that_is_shown_can_be_pasted_back(made: Path, path: str) -> None:
    assert "Shoes > Kind 1" in run("similar", "sku-0", "--store", made / "store")
    assert rows_printed(run("similar", "sku-0", "--store", made / "store", "--category", path)) == [
        "sku-1", "sku-4", "sku-7",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--category", "Shoe"], "no item has the category 'Shoe'; did you mean 'Shoes'"),
        (["--category", ""], "no item has the category ''; there are 'Kind 0'"),
        (["--brand", "brandy"], "no item has the brand 'brandy'; did you mean 'brand1' or 'brand0'"),
        (["--brand", "BRAND0", "--min-price", "17"], "no item passes the filter .by brand0, from 17.; leave a part"),
    ],
)
def test_a_filter_that_no_item_passes_is_an_error(made: Path, options: list[str], error: str) -> None:
    with pytest.raises(TgqError, match=error):
        run("similar", "sku-0", "--store", made / "store", *options)


def test_json_says_what_is_paid_now(made: Path) -> None:
    table = open_store(made / "store").table()
    [row] = table.get(["sku-1"])
    table.upsert([replace(row, sale_price=9.0, currency="EUR", availability="preorder")], model_version="tgq-1")
    words = ("similar", "sku-0", "--store", made / "store", "--where", "availability=PreOrder", "--json")
    [hit] = json.loads(run(*words))
    assert {name: hit[name] for name in ("price", "sale_price", "currency", "availability")} == {
        "price": 11.5, "sale_price": 9.0, "currency": "EUR", "availability": "preorder",
    }  # fmt: skip


def test_a_share_is_given_once(made: Path) -> None:
    with pytest.raises(TgqError, match="v2 is given twice"):
        run("store", "share", made / "store", "v2=0.2", "v2=0.6")


def test_index_says_what_it_made(made: Path) -> None:
    output = run("index", made / "embeddings", "--catalog", made / "catalog", "--to", made / "again")
    assert "8 items of 2 dimensions" in output and "tgq-1" in output
    served = open_store(made / "again").served
    assert served is not None and served.catalog == str((made / "catalog").resolve())
    output = run("index", made / "embeddings", "--catalog", made / "catalog", "--to", made / "again", "--no-serve",
                 "--dtype", "float16", "--dim", 1)  # fmt: skip
    assert "8 items of 1 dimension" in output and "version v2" in output and "not served yet" in output
    assert rows_printed(run("similar", "sku-0", "--store", made / "again", "-k", 1)) == ["sku-1"]


def test_similar_prints_a_table(made: Path) -> None:
    output = run("similar", "sku-0", "--store", made / "store", "-k", 3)
    assert rows_printed(output) == ["sku-1", "sku-2", "sku-3"]
    assert "Similar to sku-0: <b>red & shoe</b>" in output
    assert "0.975" in output and "Shoes > Kind 1" in output and "11.50" in output


def test_similar_filters(made: Path) -> None:
    ask = ("similar", "sku-0", "--store", made / "store")
    assert rows_printed(run(*ask, "--brand", "brand1", "--max-price", 16)) == ["sku-1", "sku-3", "sku-5"]
    assert rows_printed(run(*ask, "--category", "Kind 2", "--category", "Kind 1", "--exact", "-k", 2)) == [
        "sku-1",
        "sku-2",
    ]
    assert rows_printed(run(*ask, "--min-price", 16)) == ["sku-6", "sku-7"]


def test_unknown_item_names_the_nearest(made: Path) -> None:
    with pytest.raises(TgqError, match=r"no item 'sku-'; did you mean 'sku-"):
        run("similar", "sku-", "--store", made / "store")


def test_the_page_is_whole_in_itself(made: Path) -> None:
    output = run("similar", "sku-2", "--store", made / "store", "--html", made / "page.html", "--brand", "brand1")
    page = (made / "page.html").read_text()
    assert f"pictures in {made / 'page.html'}" in output.replace("\n", "")
    assert page.count("<li>") == 4 and page.count("data:image/jpeg;base64,") == 4  # the query and three of four
    assert page.count("no picture") == 1 and "by brand1" in page
    assert "<b>" not in page and "&lt;b&gt;gold &amp; shoe&lt;/b&gt;" in page
    assert "http" not in page and "<script" not in page
    assert page.index("sku-1") < page.index("sku-5") < page.index("sku-7")


def test_a_catalogue_that_was_moved(made: Path) -> None:
    (made / "catalog").rename(made / "moved")
    ask = ("similar", "sku-2", "--store", made / "store", "--html", made / "page.html")
    with pytest.raises(TgqError):
        run(*ask)
    run(*ask, "--catalog", made / "moved")
    assert "(no title)" in (made / "page.html").read_text()


def test_pictures_that_cannot_be_shown(made: Path) -> None:
    store = make_store(made / "bare")
    store.serve(store.create(VersionSpec("tgq-1", 2), [StoreRow("sku-0", np.float32([1, 0]))]).name)
    with pytest.raises(TgqError, match="does not know its catalogue"):
        run("similar", "sku-0", "--store", made / "bare", "--html", made / "page.html")
    broken = Picture(Picture.digest_of(b"x"), data=b"no picture at all")
    with CatalogWriter(made / "broken", name="test", pack=True) as writer:
        writer.add(Item("sku-0", "first broken, second fine", pictures=(broken, drawn("red"))))
    run("similar", "sku-0", "--store", made / "bare", "--html", made / "page.html", "--catalog", made / "broken")
    assert (made / "page.html").read_text().count("data:image/jpeg;base64,") == 1


def test_neighbours_writes_the_table(made: Path) -> None:
    output = run("neighbours", made / "embeddings", "--to", made / "n", "-k", 2, "--parquet", made / "n.parquet")
    assert "2 neighbours of each of 8 items" in output and (made / "n.parquet").exists()
    from tgqformer.store.neighbours import Neighbours

    assert [name for name, _ in Neighbours.open(made / "n").of("sku-7")] == ["sku-6", "sku-5"]
    with pytest.raises(TgqError, match="no CUDA device"):
        run("neighbours", made / "embeddings", "--to", made / "m", "--device", "cuda:99")


@pytest.mark.parametrize("ids", [[f"sku-{i}" for i in range(7)], [f"sku-{i}" for i in (1, 0, 2, 3, 4, 5, 6, 7)]])
def test_embeddings_of_another_catalogue_are_refused(made: Path, ids: list[str]) -> None:
    other = write_catalog(made / "other", ids)
    with pytest.raises(TgqError, match="was not made from"):
        build_store(Embeddings.open(made / "embeddings"), other, made / "new", show_progress_bar=False)


def test_words_for_people() -> None:
    assert [price_of(price) for price in (None, 12.0, 1234.5)] == ["", "12", "1,234.50"]
    assert words_of(None) == "" and words_of(Filter()) == ""
    where = Filter(("Shoes", "Bags"), ("Acme",), 5, 9.5)
    assert words_of(where) == "in Shoes or Bags, by Acme, from 5, up to 9.50"


@needs_browser
def test_axe_finds_nothing(made: Path) -> None:
    words = ["similar", "sku-2", "--store", str(made / "store"), "--html", str(made / "page.html")]
    result = CliRunner().invoke(whole, words)
    assert result.exit_code == 0, result.output
    assert_accessible(made / "page.html")
