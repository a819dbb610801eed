"""Sections that speak of one's own shop and name no other set: run on the small shop."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from doc_commands import ROOT, blocks
from doc_runs import Terminal, walk_page
from doc_shop import SERVED, Place
from tiny_multimodal import write_multimodal

from tgqformer.catalog import Catalog, Item
from tgqformer.connectors import CONNECTORS
from tgqformer.store import open_store
from tgqformer.store.embeddings import Embeddings


def test_start_pages_one_after_another(place: Place, tiny: list[str]) -> None:
    place("shop.csv", "photos", "clicks.csv")
    terminal = Terminal(more={"run": tiny, "demo": [*tiny, "--set", "catalog.items=48"]})
    names = walk_page("docs/start/demo.md", terminal)
    walk_page("docs/start/shop.md", terminal)
    walk_page("docs/start/every-day.md", terminal, "Call the same command again", "Bring in products alone")
    assert names["vectors"].shape[0] == 5
    for made in ("demo.html", "pairs.parquet", "runs/shop/report.html", "runs/shop/store/store.json"):
        assert Path(made).is_file(), made


@pytest.mark.slow
def test_a_comparison_of_a_connector_of_ones_own(
    place: Place, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place("catalogs/shop", "pairs.parquet")
    monkeypatch.setitem(CONNECTORS, "glance", CONNECTORS["mlp"])  # tests/test_docs.py makes the one of the page
    (models,) = (block.text for block in blocks(ROOT / "docs/connectors.md") if block.language == "yaml")
    data = {"name": "mine", "catalog": {"source": "catalogs/shop"}, "pairs": {"pairs": "pairs.parquet"}}
    whole = [{**model, "share": 1, "preset": "given"} for model in yaml.safe_load(models)["models"]]
    Path("my-comparison.yaml").write_text(yaml.safe_dump({**data, "models": whole}))
    few = [*tiny[: tiny.index("neighbours=10") + 1], "--set", "noise.share=0"]
    terminal = Terminal(more={"run": few})
    walk_page("docs/connectors.md", terminal, "4. Compare it")
    assert re.search("Glance.*Q-Former", Path("runs/mine/table.md").read_text(), re.DOTALL)
    walk_page("docs/connectors.md", terminal, "What they cost")
    assert "Qwen3-VL-4B" in terminal.said


def test_a_whole_multimodal_model(place: Place) -> None:
    here = place()
    write_multimodal("llava", here / "llava")
    names = walk_page("docs/connectors.md", Terminal(), "A whole multimodal model instead")
    assert names["embed"](here / "llava", [Item(title="red shirt"), Item(title="blue bag")]).shape == (2, 16)


def test_other_languages(place: Place, tiny: list[str]) -> None:
    place("shop.csv", "photos", "clicks.csv")
    walk_page("docs/data.md", Terminal(more={"run": [*tiny, "--set", "language.frozen_layers=1"]}), "Other languages")
    assert Path("runs/multilingual/report.html").is_file()


def test_an_array_of_jobs(place: Place) -> None:
    place("catalogs/shop", "shop.csv", "photos", "clicks.csv", f"runs/shop/{SERVED}")
    terminal = Terminal(instead={"small": f"runs/shop/{SERVED}"})
    walk_page("docs/cluster.md", terminal, "An array of jobs, and nothing else")
    assert len(Embeddings.open(Path("embeddings")).ids()) == len(Catalog.open(Path("catalogs/large"))) == 48


def test_plans_and_approximate_neighbours(place: Place) -> None:
    place("embeddings")
    terminal = Terminal()
    walk_page("docs/scale.md", terminal)
    assert sum(line.startswith("tgq plan") for line in terminal.ran) == 3


def test_vectors_that_stay_comparable(place: Place, tiny: list[str]) -> None:
    place("shop.csv", "photos", "clicks.csv", "shop.yaml", "catalogs/shop", "runs/shop", "store")
    with Path("clicks.csv").open("a") as file:  # a day later
        file.writelines(f"new-{n // 2},{1040 + n % 9},{1_800_000_000 + n // 2}\n" for n in range(40))
    before = open_store("store").served
    goes_on = [*tiny, "--set", "training.from=run", "--set", "training.compatible=1.0"]
    terminal = Terminal(more={"run": goes_on})
    terminal(["tgq", "run", "shop.yaml"])
    walk_page("docs/start/every-day.md", terminal, "Keep new vectors comparable with old ones")
    after = open_store("store").served
    assert before is not None and after is not None
    assert after.name == before.name and len(after.models) == 1 + len(before.models)
