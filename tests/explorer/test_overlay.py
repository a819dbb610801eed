"""Names and colours over a map, wins and losses, and what rules did: worked out by hand on small cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tgqformer.pairs.pairs import Pairs
from tgqformer.service.explorer.overlay import Coloured, by_brand, by_price, by_version, labelled
from tgqformer.service.explorer.ruling import ruled
from tgqformer.service.explorer.wins import asked, judge, pairs_of
from tgqformer.store import make_store
from tgqformer.store.base import Hit, StoreRow, StoreTable
from tgqformer.store.ledger import VersionSpec
from tgqformer.store.rules import Rules


def table_of(folder: Path, angles: dict[str, float], **more: dict[str, object]) -> StoreTable:
    """A table of vectors on a half circle, named by their ids; `more` by id."""
    rows = [
        StoreRow(name, np.array([np.cos(a), np.sin(a)], np.float32), title=name.upper(), **more.get(name, {}))  # type: ignore[arg-type]
        for name, a in angles.items()
    ]
    store = make_store(folder)
    return store.table(store.create(VersionSpec(f"m-{folder.name}", 2, label="m"), rows).name)


BOOST = "the boost of the same category"
LINE = {"q": 0.0, "a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4, "e": 0.5}


@pytest.mark.parametrize(
    ("rules", "hidden", "moved"),
    [
        (Rules(), {"a": (1, "hidden: same group as this product"), "c": (3, "hidden: same group as B")}, {}),
        (Rules(one_per_group=False, in_stock=True), {"b": (2, "hidden: out of stock")}, {}),
        (Rules(one_per_group=False, exclude=("a",)), {"a": (1, "hidden: on the list of excluded ids")}, {}),
        (
            Rules(one_per_group=False, min_score=0.97),
            {"c": (3, "hidden: the cosine is under 0.97")},
            {},
        ),
        (Rules(one_per_group=False, price_to=1.5), {"b": (2, "hidden: outside the price band")}, {}),
        (
            Rules(one_per_group=False, same_category="require"),
            {"a": (1, "hidden: another category"), "b": (2, "hidden: another category")},
            {},
        ),
        (
            Rules(one_per_group=False, same_category="boost", boost=0.5),
            {"a": (1, f"moved down by {BOOST}"), "b": (2, f"moved down by {BOOST}")},
            {
                "c": f"moved up from 3. by {BOOST}",
                "d": f"moved up from 4. by {BOOST}",
                "e": f"moved up from 5. by {BOOST}",
            },
        ),
    ],
)  # fmt: skip
def test_each_rule_is_named(
    tmp_path: Path, rules: Rules, hidden: dict[str, tuple[int, str]], moved: dict[str, str]
) -> None:
    same = {"price": 10.0, "category": ("x",)}
    more = {name: dict(same) for name in LINE}
    more["q"] |= {"item_group": "one"}
    more["a"] |= {"item_group": "one", "category": ("y",)}
    more["b"] |= {"item_group": "two", "availability": "out_of_stock", "price": 20.0, "category": ("y",)}
    more["c"] |= {"item_group": "two"}
    table = table_of(tmp_path / "store", LINE, **more)
    [row] = table.get(["q"])
    found = ruled(table, row, 3, rules)
    assert {one.hit.id: (one.place, one.why) for one in found.hidden} == hidden
    assert found.moved == moved


def test_diversity_is_named(tmp_path: Path) -> None:
    table = table_of(tmp_path / "store", {"q": 0.0, "a": 0.1, "b": 0.11, "c": -0.3})
    [row] = table.get(["q"])
    found = ruled(table, row, 2, Rules(diversity=0.5))
    assert found.moved == {"c": "moved up from 3. by diversity"}
    assert [(one.hit.id, one.place, one.why) for one in found.hidden] == [("b", 2, "moved down by diversity")]


def test_clusters_are_named_by_the_category_that_half_of_them_share() -> None:
    rng = np.random.default_rng(0)
    middles = np.array([[0.2, 0.2], [0.8, 0.2], [0.5, 0.8]])
    places = np.concatenate([middle + rng.normal(0, 0.01, (30, 2)) for middle in middles]).astype(np.float32)
    shoes, bags = ("Fashion", "Shoes", "Boots"), ("Fashion", "Bags")
    paths = [shoes] * 30 + [bags] * 20 + [shoes] * 10 + [("Home",)] * 10 + [("Toys",)] * 12 + [("Food",)] * 8
    found = {label.name: label for label in labelled(places, paths)}
    assert set(found) == {"Boots", "Bags", "Toys and Home"}
    for name, middle in zip(("Boots", "Bags", "Toys and Home"), middles, strict=True):
        assert np.hypot(found[name].x - middle[0], found[name].y - middle[1]) < 0.02 and found[name].count == 30
    assert labelled(places[:2], paths[:2]) == [] and labelled(places[:5], [()] * 5) == []


def test_brands_and_prices_have_groups() -> None:
    rows = [Hit(f"{n}", 0, brand="big" if n % 2 else None, price=float(n)) for n in range(10)]
    brands = by_brand([*rows, None])
    assert brands.names == ["big", "others"] and brands.group.tolist() == [1, 0] * 5 + [1]
    prices = by_price([*rows, Hit("x", 0, price=100.0, sale_price=0.5), None])
    assert prices.names == ["up to 1.00", "over 1.00", "over 3.00", "over 5.00", "over 7.00", "not known"]
    assert prices.group.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 0, 5]
    assert by_price([None]).names == ["not known"]


def test_what_another_version_keeps_is_counted(tmp_path: Path) -> None:
    angles = {f"i{n:02d}": 0.1 * n for n in range(24)}
    same, turned = table_of(tmp_path / "one", angles), table_of(tmp_path / "two", dict(list(angles.items())[:23]))
    ids = sorted(angles)
    found: Coloured = by_version(ids, same, turned)
    assert found.names[0] == "all ten are the same" and found.names[-1] == "not known"
    assert found.group.tolist() == [0] * 23 + [5]  # the last one is only in the first


def test_wins_and_losses_are_those_with_more_partners(tmp_path: Path) -> None:
    near = {"a": 0.0, **{f"x{n:02d}": 0.5 + 0.01 * n for n in range(12)}, "p": 0.1, "r": 2.9, "s": 3.0}
    far = {**near, "p": 3.1, "r": 0.52}
    one, other = table_of(tmp_path / "one", near), table_of(tmp_path / "two", far)
    Pairs.of(["a", "r"], ["p", "x01"]).write(tmp_path / "run" / "pairs" / "pairs-test.parquet")
    pairs = pairs_of(str(tmp_path / "run" / "store"))
    assert pairs is not None and pairs_of(str(tmp_path / "none" / "store")) is None
    found = judge(pairs, (one, other))
    assert (found.asked, found.of, found.won, found.lost) == (4, 4, 2, 2)
    assert {one.id for one in found.wins} == {"a", "p"} and {one.id for one in found.losses} == {"r", "x01"}
    assert all(one.lead == 1 for one in found.wins) and all(one.lead == -1 for one in found.losses)
    order, partners = asked(pairs, (one, other))
    assert sorted(order) == ["a", "p", "r", "x01"] and partners["a"] == {"p"}
    assert order == asked(pairs, (other, one))[0]  # drawn by a fixed seed: the pictures of the docs show the first
