"""Pages about the fashion set: their commands, on a few drawn products in its layout and with tiny models."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from doc_commands import ROOT
from doc_runs import Terminal, walk_page
from doc_shop import Place, write_fashion

from tgqformer.catalog import Catalog

SYSTEMS = """[{name: item-kNN, model: item-knn, by: next}, {name: LightGCN, model: lightgcn,
 options: {dim: 8, layers: 2}, training: {epochs: 1, batch: 256}}]"""
JOIN = """{spreads: {spread: {content: content, behaviour: item-kNN, share: 0.5}},
 alike: {ranks fused: [content, item-kNN]}, blends: {blend: [content, item-kNN, spread]}}"""


@pytest.fixture
def fashion(place: Place) -> Path:
    """The set, small: ../shared/data/fashion as the recipe names it; `PATH/TO/fashion` is the same."""
    here = place()
    data = write_fashion(here.parent / "shared/data/fashion", 90)
    Path("PATH/TO").mkdir(parents=True)
    shutil.copytree(data, "PATH/TO/fashion")
    return here


@pytest.mark.slow
def test_the_page_of_the_benchmark(fashion: Path, tiny: list[str]) -> None:
    walk_page("docs/fashion.md", Terminal(more={"run": [*tiny, "--set", "catalog.items=0"]}))
    assert Path("runs/trial/report.html").is_file() and Path("noise.png").is_file()
    assert "15970" in Path("similar.html").read_text(encoding="utf-8")
    assert len(Catalog.open("runs/fashion/catalog")) == 90 and list(Path("fashion-pairs").glob("*.parquet"))


@pytest.mark.slow
def test_the_pretrained_model_is_made_again(fashion: Path, tiny: list[str]) -> None:
    Path("packages/small").mkdir(parents=True)
    shutil.copy2(ROOT / "packages/small/pack.py", "packages/small")
    few = [*tiny[tiny.index("language.max_tokens=16") + 1 :], "--set", "catalog.items=40"]  # upon the packaged encoders
    walk_page("packages/small/README.md", Terminal(more={"run": few}), "How it was trained")
    assert Path("packages/small/src/tgqformer_small/model/config.json").is_file()


def test_studies_of_joins(place: Place, fashion: Path, tiny: list[str]) -> None:
    place("clicks.csv", "embeddings")
    content = [word.replace("--set", "--content-set") for word in [*tiny, "--set", "catalog.items=0"]]
    few = ["--set", f"systems={SYSTEMS}", "--set", f"join={JOIN}", "--set", "seeds=[0]", *content]
    epochs = ["--set", "training.epochs=1", "--set", "training.batch=64"]
    terminal = Terminal(more={"collab study": few, "collab train": epochs})
    walk_page("docs/joined.md", terminal, "The study", "On a fresh log")
    for folder in ("runs/joined", "runs/joined-fresh"):
        assert "blend" in Path(folder, "table.md").read_text(encoding="utf-8")
    walk_page("docs/collaborative/pinsage.md", terminal)  # the same study; what is done is not done again
    assert Path("runs/pinsage/metrics.json").is_file()
