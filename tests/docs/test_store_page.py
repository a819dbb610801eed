"""Pages whose commands go through a whole shop: run from top to bottom in an empty folder, with tiny models."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from doc_commands import ROOT, run_code
from doc_runs import Terminal, walk_page
from doc_shop import SERVED, write_fashion
from tiny_recipe import write_clicks, write_recipe

from tgqformer.catalog import CatalogWriter, Item
from tgqformer.store import open_store


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[[str], Path]) -> Path:
    """A recipe `shop.yaml` of products in stock with prices, in an empty folder; and their catalogue."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with Path("items.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "title", "category", "price", "currency", "availability"])
        for n in range(60):
            kind = ("Shoes", "Bags", "Hats")[n % 3]
            rows.writerow([f"i{n}" if n else "1044", f"{n % 6} thing", f"Clothes > {kind}", 10 + n, "EUR", "in_stock"])
    write_clicks(here, 60, 120)
    clicks = Path("clicks.csv").read_text(encoding="utf-8").replace(",i0\n", ",1044\n")
    Path("clicks.csv").write_text(clicks, encoding="utf-8")
    write_recipe(here, tiny_model, pairs={"train": 0.6, "val": 0.2, "test": 0.2}, training={}, model={})
    Terminal()(["tgq", "catalog", "import", "items.csv", "--to", "catalogs/shop"])
    return here


@pytest.mark.slow
def test_the_page_of_the_store_from_top_to_bottom(shop: Path, postgres_url: str) -> None:
    shown = "postgresql://me@db.shop/search?schema=shop"
    there = f"{postgres_url}&schema=shop{uuid4().hex[:12]}"
    terminal = Terminal(instead={shown: there})
    for name, seed in (("shop", 0), ("new", 1)):
        terminal(["tgq", "run", "shop.yaml", "--to", f"runs/{name}", "--set", f"seeds=[{seed}]"])
    terminal(["tgq", "embed", "catalogs/shop", "--model", f"runs/shop/{SERVED}", "--to", "embeddings"])
    write_fashion(shop.parent / "shared/data/fashion", 6)
    spaces = walk_page("docs/store.md", terminal)
    assert open_store(there).table().count() == 60
    assert spaces["hit"].id.startswith("i") and [one.name for one in open_store("store").versions()] == ["v2"]
    assert Path("lists.parquet").is_file()
    hits = run_code(ROOT / "docs/bench.md", "def hits")["hits"](Path("runs/shop"))
    assert list(hits) == ["tgq-former"] and 0 <= hits["tgq-former"] <= 1


def test_the_commands_of_the_pairs_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with CatalogWriter(tmp_path / "shop", name="shop", pack=False) as writer:
        for n in range(60):
            writer.add(Item(f"i{n}", f"thing {n}"))
    with CatalogWriter(tmp_path / "fashion", name="fashion", pack=False) as writer:
        for n in range(60):
            worn = {
                "gender": "Women",
                "usage": "Casual",
                "article_type": "Shirts",
                "base_colour": ("Red", "Blue")[n % 2],
            }
            writer.add(Item(f"f{n}", f"shirt {n}", category=("Apparel", "Topwear", "Shirts"), attributes=worn))
    write_clicks(tmp_path, 60, 120)
    head, *clicks = (tmp_path / "clicks.csv").read_text(encoding="utf-8").split()
    timed = [f"{head},time", *(f"{line},{1_700_000_000 + 60 * n}" for n, line in enumerate(clicks))]
    Path("transactions_train.csv").write_text("\n".join(timed), encoding="utf-8")
    related = {"id": ["i1", "i1"], "other": ["i2", "i3"], "kind": ["also_buy", "also_view"]}
    pq.write_table(pa.table(related), tmp_path / "shop/related.parquet")
    walk_page("docs/pairs.md", Terminal(), code=False)  # tests/test_docs.py runs its code, on another shop
    assert Path("pairs.parquet").is_file() and Path("bought.parquet").is_file()
