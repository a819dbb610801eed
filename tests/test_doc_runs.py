"""Pages whose commands go through a whole shop: run from top to bottom in an empty folder, with tiny models.

What needs PostgreSQL, a benchmark or a data set of a quarter of an hour is left to the tests of those.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from doc_commands import ROOT, Block, blocks, run_code
from tiny_recipe import write_clicks, write_recipe
from typer.testing import CliRunner

from tgqformer.catalog import Catalog, CatalogWriter, Item
from tgqformer.cli import app
from tgqformer.evaluation.metrics import Queries, evaluate
from tgqformer.evaluation.results import Result, ViewScores
from tgqformer.experiments import recipe as recipes
from tgqformer.store import open_store

ELSEWHERE = ("postgresql://", "../shared/", "demo/")
"""What the commands of these pages that are not run here name."""


def tgq(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None:
        raise result.exception
    return result.output


def run_commands(block: Block) -> list[str]:
    """Run the commands of a block that are ours and name nothing from elsewhere; return their first words."""
    ran = []
    for words in block.commands():
        if words[0] == "tgq" and not any(place in " ".join(words) for place in ELSEWHERE):
            tgq(*words[1:])
            ran.append(" ".join(words[1:3]) if not words[2].startswith(("-", "1")) else words[1])
    return ran


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[[str], Path]) -> Path:
    """A recipe `shop.yaml` of products in stock with prices, in an empty folder; and their catalogue."""
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "items.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "title", "category", "price", "currency", "availability"])
        for n in range(60):
            kind = ("Shoes", "Bags", "Hats")[n % 3]
            rows.writerow([f"i{n}" if n else "1044", f"{n % 6} thing", f"Clothes > {kind}", 10 + n, "EUR", "in_stock"])
    write_clicks(tmp_path, 60, 120)
    clicks = (tmp_path / "clicks.csv").read_text(encoding="utf-8").replace(",i0\n", ",1044\n")
    (tmp_path / "clicks.csv").write_text(clicks, encoding="utf-8")
    write_recipe(tmp_path, tiny_model, pairs={"train": 0.6, "val": 0.2, "test": 0.2}, training={}, model={})
    tgq("catalog", "import", "items.csv", "--to", "catalogs/shop")
    return tmp_path


@pytest.mark.slow
def test_the_page_of_the_store_from_top_to_bottom(shop: Path) -> None:
    for name, seed in (("shop", 0), ("new", 1)):
        tgq("run", "shop.yaml", "--to", f"runs/{name}", "--set", f"seeds=[{seed}]")
    served = "runs/shop/models/tgq-former/served/model"
    tgq("embed", "catalogs/shop", "--model", served, "--to", "embeddings")
    ran: list[str] = []
    spaces: dict[str, Any] = {}
    for block in blocks(ROOT / "docs/store.md"):
        if block.is_shell:
            ran += run_commands(block)
        elif block.language == "python":
            exec(block.text, spaces)
    assert ran.count("similar") == 3 and ran.count("sync catalogs/shop") == 3 and "neighbours embeddings" in ran
    assert {"store versions", "store rollback", "store serve", "store drop"} <= set(ran)
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
    ran = [word for block in blocks(ROOT / "docs/pairs.md") if block.is_shell for word in run_commands(block)]
    assert ran == ["pairs mine", "pairs show", "pairs mine", "pairs simulate"]


def test_the_code_of_the_results_page(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = recipes.load_recipe
    monkeypatch.setattr(recipes, "load_recipe", lambda name: loaded("shop.yaml") if name == "fashion" else loaded(name))
    spaces: dict[str, Any] = {}
    for block in blocks(ROOT / "docs/results.md"):
        if block.language == "python":
            exec(block.text, spaces)
    left, whole = Catalog.open("catalogs/explore").ids(), Catalog.open("catalogs/shop").ids()
    assert 0 < len(left) < len(whole) and set(left) < set(whole)
    scores = evaluate(np.eye(4, dtype=np.float32), Queries.from_pairs(np.array([0]), np.array([1])))
    for model in ("a", "b"):
        view = ViewScores.of(scores, list("wxyz"), None)
        Result(model, 0, {"mixed": view}, [], {"clean": view}).write(shop / f"bench/cells/{model}")
    told = spaces["differences"](shop / "bench", "a", "b")
    assert set(told) == {"mixed", "clean"} and "mean=0.0," in told["mixed"]
