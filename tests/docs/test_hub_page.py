"""The page about hub and peers: pushed to a hub that speaks HTTP, read back from it, exported and run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_runs import Terminal, walk_page
from doc_shop import DEMO, Place
from hub_server import Hub, client_of_a_hub

from tgqformer.catalog import Catalog
from tgqformer.model import export
from tgqformer.model.graph import WholeGraph


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with client_of_a_hub(tmp_path / "hub", monkeypatch) as server:
        yield server


def test_a_model_on_the_hub(place: Place, hub: Hub) -> None:
    place("demo", "catalogs/shop")
    with Terminal() as terminal:  # the code of this section is called by tests/model/test_hub.py
        walk_page("docs/hub.md", terminal, "A model on the hub", "The card")
        assert "library_name: tgqformer" in terminal.said and hub.repos["me/similar-items"].private
        assert terminal.ask().get("/items/1042/similar?k=3")["results"]


def test_catalogues_from_datasets(place: Place) -> None:
    here = place("photos")
    datasets = pytest.importorskip("datasets")
    pictures = [str(here / f"photos/{n}.jpg") for n in range(4)]
    made = datasets.Dataset.from_dict({"sku": list("abcd"), "name": ["red shirt"] * 4, "photo": pictures})
    datasets.DatasetDict({"train": made.cast_column("photo", datasets.Image())}).save_to_disk(str(here / "saved"))
    walk_page("docs/hub.md", Terminal(), "Catalogues from `datasets`, and back")
    assert [len(item.pictures) for item in Catalog.open("catalogs/shop").items()] == [1, 1, 1, 1]
    assert list(Path("shop-dataset/data").glob("*.parquet"))


@pytest.mark.slow
def test_for_onnx_runtime(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    here, traced, trace = place("demo"), list[bytes](), export._trace

    def trace_once(graph: WholeGraph, shape: list[int], dtype: str, to: Path) -> None:
        """All three exports are of one model, and tracing it takes most of the time."""
        if traced:
            to.write_bytes(traced[0])
            return
        trace(graph, shape, dtype, to)
        traced.append(to.read_bytes())

    monkeypatch.setattr(export, "_trace", trace_once)
    names = walk_page("docs/hub.md", Terminal(instead={"small": DEMO}), "For ONNX Runtime")
    for folder in ("small-onnx", "small-int8"):
        vectors = names["without_torch"](here / folder)
        assert vectors.dtype == "float32" and vectors.shape[0] == 2
    with Terminal() as terminal:
        walk_page("docs/hub.md", terminal, "Served without PyTorch")
        assert terminal.ask().get("/readyz")["model"] is True
        assert terminal.ask().get("/items/studio-00042/similar?k=3")["results"]
