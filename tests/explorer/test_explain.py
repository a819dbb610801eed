"""Why two items are near: facts compared, colours read, and what a model saw, on hand-made cases."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from tgqformer.catalog.item import Item
from tgqformer.connectors import ConnectorOutput
from tgqformer.model.embedder import Embedded, ItemEmbedder
from tgqformer.service.explorer.colors import _name, swatch
from tgqformer.service.explorer.explain import GATE_BINS, agreeing, attended, explain, facts

SHIRT = Item("a", "Shirt", "Acme", ("Clothes", "Shirts"), {"fit": "slim", "made_in": "Peru"}, 100.0)
OTHER = Item("b", "Blouse", "acme", ("Clothes", "Blouses", "Silk"), {"fit": "wide"}, 81.0)


def test_facts_are_compared_one_by_one() -> None:
    found = {fact.name: (fact.first, fact.second, fact.agrees) for fact in facts(SHIRT, OTHER)}
    assert found == {
        "category": ("Clothes", "Clothes", True),
        "category, level 2": ("Shirts", "Blouses", False),
        "category, level 3": (None, "Silk", None),
        "brand": ("Acme", "acme", True),
        "fit": ("slim", "wide", False),
        "made in": ("Peru", None, None),
        "price": ("100.00", "81.00", True),
    }


def test_facts_that_neither_has_are_left_out() -> None:
    assert facts(Item("a"), Item("b")) == []


@pytest.mark.parametrize(("one", "other", "agrees"), [(100.0, 80.0, True), (100.0, 79.9, False), (0.0, 0.0, True)])
def test_prices_agree_within_a_fifth(one: float, other: float, agrees: bool) -> None:
    [fact] = facts(Item("a", price=one), Item("b", price=other))
    assert fact.agrees is agrees


def test_prices_are_those_now_in_their_currency() -> None:
    def price(one: Item, other: Item) -> tuple[str | None, str | None, bool | None]:
        [fact] = facts(one, other)
        return fact.first, fact.second, fact.agrees

    euros = Item("a", price=100.0, currency="EUR")
    assert price(euros, Item("b", price=100.0, currency="JPY")) == ("100.00 EUR", "100.00 JPY", False)
    assert price(euros, Item("b", price=1000.0, sale_price=90.0, currency="EUR")) == ("100.00 EUR", "90.00 EUR", True)
    assert price(euros, Item("b", price=100.0, sale_price=0.0, currency="EUR")) == ("100.00 EUR", "0.00 EUR", False)
    assert price(euros, Item("b", price=100.0)) == ("100.00 EUR", "100.00", None)


def test_what_two_items_share_in_words() -> None:
    twin = Item("c", "Shirt", "Acme", ("Clothes", "Shirts", "Long"), {"fit": "slim"})
    assert agreeing(SHIRT, twin) == ["Shirts", "Acme", "slim"]
    assert agreeing(SHIRT, Item("d", "Lamp", "Bolt", ("Home", "Shirts"))) == []


@pytest.mark.parametrize(
    ("color", "name"),
    [((200, 30, 40), "red"), ((30, 40, 90), "navy"), ((20, 20, 20), "black"), ((250, 215, 60), "yellow"),
     ((50, 140, 70), "green"), ((235, 130, 170), "pink")],
)  # fmt: skip
def test_the_colour_is_that_of_the_product_not_of_its_background(color: tuple[int, int, int], name: str) -> None:
    picture = Image.new("RGB", (120, 160), "white")
    ImageDraw.Draw(picture).ellipse((25, 40, 95, 120), fill=color)
    found = swatch(picture)
    assert found is not None and found.name == name
    assert np.abs(np.array([int(found.css[at : at + 2], 16) for at in (1, 3, 5)]) - color).max() <= 6


def test_before_a_cluttered_background_no_colour_is_named() -> None:
    """A red headset on a floor of grey tiles was said to look grey."""
    tiles = np.indices((160, 120)).sum(0) // 10 % 2
    picture = Image.fromarray(np.where(tiles[..., None], 200, 90).repeat(3, 2).astype(np.uint8))
    ImageDraw.Draw(picture).ellipse((40, 60, 80, 100), fill=(200, 30, 40))
    assert swatch(picture) is None


def test_sights_are_means_over_heads_shares_and_counts(tgq: ItemEmbedder) -> None:
    attention = torch.tensor([[[[0.5, 0.5, 0, 0]], [[1.0, 0, 0, 0]]]])  # one item, two heads, one query, four places
    gate = torch.tensor([[-0.5, 0.0, 0.0, 0.9]])
    connector = ConnectorOutput(torch.zeros(1, 1, 4), {"anchored": attention}, {"anchored": gate})
    [found] = attended(tgq, Embedded(torch.zeros(1, 2), connector, torch.tensor([0.25]), torch.zeros(1, 4)), [True])
    assert found.attention == {"anchored": [[0.75, 0.25, 0.0, 0.0]]}
    assert found.agreement == 0.25 and found.agreement_map == [0.25] * 4
    assert (found.gates["anchored"].mean, found.gates["anchored"].damped, found.gates["anchored"].raised) == (
        1.1, 0.25, 0.25,
    )  # fmt: skip
    counts = found.gates["anchored"].counts
    assert len(counts) == GATE_BINS and sum(counts) == 4
    assert counts[GATE_BINS // 2] == 2 and counts[GATE_BINS // 4] == 1


def test_look_says_what_each_item_showed(tgq: ItemEmbedder) -> None:
    red = Image.new("RGB", (30, 20), "red")
    seen, blind = explain(tgq, [Item("a", "red shirt"), Item("b", "blue shoe")], [red, None])
    tokens = tgq.widths.grid[0] * tgq.widths.grid[1]
    assert set(seen.attention) == set(seen.gates) == {"anchored", "exploratory"}
    for maps in seen.attention.values():
        assert np.allclose(np.sum(maps, axis=1), 1, atol=1e-3) and np.shape(maps)[1] == tokens
    assert seen.agreement is not None and -1 <= seen.agreement <= 1
    assert blind.attention == {} and blind.agreement is None and blind.agreement_map is None


def test_a_model_that_text_does_not_guide_has_no_agreement(model_of: Callable[[str], ItemEmbedder]) -> None:
    [found] = explain(model_of("Q-Former"), [Item("a", "red shirt")], [Image.new("RGB", (30, 20), "red")])
    assert found.agreement is None and found.gates == {} and list(found.attention) == ["query"]


@pytest.fixture(scope="module")
def tgq(model_of: Callable[[str], ItemEmbedder]) -> ItemEmbedder:
    return model_of("TGQ-Former")


@pytest.mark.parametrize(
    ("name", "shades"),
    [
        ("red", "ff0000 800000 dc143c 5c0a1e"),
        ("pink", "fa8072 ff69b4"),
        ("orange", "ff7f50"),
        ("yellow", "ffff00 ffd700 e1ad01 fff7a8"),
        ("green", "00ff00 228b22 556b2f 808000 aaf0d1"),
        ("turquoise", "008080"),
        ("blue", "0000ff 4169e1 87ceeb 1560bd"),
        ("navy", "191970"),
        ("purple", "4b0082 8e4585 e6e6fa"),
        ("brown", "a0522d"),
        ("beige", "d2b48c ffdab9"),
        ("grey", "c0c0c0 d8d8d8 696969 36454f"),
        ("white", "ffffff f5f5f5 fffff0"),
        ("black", "000000 202020"),
    ],
)
def test_colours_that_people_name_have_that_name(name: str, shades: str) -> None:
    found = {shade: _name(np.frombuffer(bytes.fromhex(shade), np.uint8)) for shade in shades.split()}
    assert set(found.values()) == {name}, found
