"""Pages about the service: what they serve is really served, and what they ask is answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from doc_runs import Terminal, walk_page
from doc_shop import DEMO, SERVED, Place
from small_shop import png

from tgqformer.store import open_store


@pytest.fixture
def terminal(tiny: list[str]):
    with Terminal(more={"demo": [*tiny, "--set", "catalog.items=48"]}) as running:
        yield running


def second_version(terminal: Terminal, run: str, catalog: str, model: str) -> None:
    words = ["tgq", "sync", catalog, "--store", f"{run}/store", "--model", model, "--new-version"]
    terminal([*words, "--no-serve"])


def some_clicks(terminal: Terminal) -> None:
    """Two visitors click on all that is near one item."""
    ask = terminal.ask()
    answer = ask.get("/items/studio-00042/similar?k=5")
    for visitor in ("v-1", "v-2"):
        clicks = [
            {"answer": answer["answer"], "event": "click", "item": one["id"], "visitor": visitor}
            for one in answer["results"]
        ]
        status, _, told = ask("POST", "/events", json.dumps(clicks).encode(), {"content-type": "application/json"})
        assert status == 200, told


def test_the_page_of_the_service(place: Place, terminal: Terminal) -> None:
    here = place("demo", "runs/shop", "store")
    (here / "shoe.jpg").write_bytes(png("red", (30, 30), "JPEG"))
    walk_page("docs/service.md", terminal, "")
    second_version(terminal, "demo", "demo/shown", f"runs/shop/{SERVED}")
    terminal(["make", "serve"])
    shoes = {"title": "red shoe", "price": "20", "category": "shoes > boots"}
    assert terminal.ask().form("PUT", "/items/studio-00042", png("red"), **shoes)[0] == 200
    walk_page("docs/service.md", terminal, "Similar items")
    some_clicks(terminal)
    walk_page(
        "docs/service.md", terminal, "Does it sell?", "Search by a picture, by text, by both", "Put and delete items"
    )
    assert Path("sales.html").is_file() and Path("pairs.parquet").is_file()
    assert terminal.ask()("GET", "/items/new-1")[0] == 404  # the page has deleted it


def test_another_version_and_keys(place: Place, terminal: Terminal) -> None:
    here = place("runs/shop", "catalogs/shop", DEMO)
    second_version(terminal, "runs/shop", "catalogs/shop", DEMO)
    walk_page("docs/service.md", terminal, "Another model version, without a pause")
    served = open_store("runs/shop/store").served
    assert served is not None and served.name == "v2"
    (here / "shoe.jpg").write_bytes(png("red", (30, 30), "JPEG"))
    put = ["curl", "-X", "PUT", "-F", "picture=@shoe.jpg", "localhost:8000/items/new-1"]
    terminal(["tgq", "serve", "runs/shop"])
    terminal(put)
    walk_page("docs/service.md", terminal, "Keys")
    assert terminal.ask()("PUT", "/items/new-1", b"", {})[0] == 401
    walk_page("docs/service.md", terminal, "On a shop's page")
    shop = "https://shop.example.com"
    assert terminal.ask()("GET", "/healthz", headers={"Origin": shop})[1]["access-control-allow-origin"] == shop


def test_every_day_of_a_service(place: Place, terminal: Terminal) -> None:
    here = place("shop.csv", "photos", "catalogs/shop", "store", f"runs/shop/{SERVED}")
    (here / f"runs/shop/{SERVED}").rename(here / "model")
    walk_page("docs/deploy.md", terminal)


def test_the_explorer(place: Place, terminal: Terminal) -> None:
    place("demo", "runs/shop")
    walk_page("docs/explorer.md", terminal)
    status, _, page = terminal.ask()("GET", "/")
    assert status == 200 and b"<html" in page


def test_lists_joined_with_clicks(place: Place, terminal: Terminal) -> None:
    place("clicks.csv", "embeddings", "catalogs/shop", "runs/shop")
    walk_page("docs/joined.md", terminal, "")
    answer = terminal.ask().get("/items/1042/similar?k=5")
    assert answer["source"] == "precomputed" and open_store("store").served is not None
    names = walk_page("docs/joined.md", terminal, "In Python")
    assert names["items"].tolist() == [[2, 4, 9]] and names["joined"].shape == (20, 6)
