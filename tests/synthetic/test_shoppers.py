from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item, Picture
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.cli import app
from tgqformer.errors import TgqError
from tgqformer.pairs.interactions import Interactions, read_interactions
from tgqformer.pairs.pairs import Pairs, split_pairs
from tgqformer.pairs.splits import PARTS, ItemSplit
from tgqformer.synthetic.appearance import WIDTH, appearance_features, appearances
from tgqformer.synthetic.reference import RANKERS, reference_rankers, tied_hits
from tgqformer.synthetic.shoppers import (
    FASHION,
    SHOPPERS,
    STUDIO,
    Affinity,
    Shoppers,
    attribute,
    prepare_pairs,
    read_truth,
    simulate,
    simulate_sessions,
    subset,
)

COLOURS = ("red", "green", "blue", "black")
SHOP = Shoppers(wants=("kind",), tastes={"colour": 2.0}, appearance=1.5, sharpness=2.0)
Make = Callable[..., Catalog]


def picture(colour: str, tilt: int) -> Picture:
    image = Image.new("RGB", (60, 80), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((10, 10, 50, 70), fill=colour)
    for place in range(12, 48, 6):
        if tilt % 3:
            draw.line((place, 10, place, 70) if tilt % 3 == 1 else (10, place, 50, place), fill="yellow", width=2)
    draw.line((10, 40 - tilt, 50, 40 + tilt), fill="yellow", width=3)
    data = BytesIO()
    image.save(data, "PNG")
    return Picture(Picture.digest_of(data.getvalue()), data=data.getvalue())


def item(number: int) -> Item:
    kind, colour = ("shoe", "shirt", "bag")[number % 3], COLOURS[number // 3 % 4]
    return Item(
        f"{kind}-{number:03d}", attributes={"kind": kind, "colour": colour}, pictures=(picture(colour, number // 12),)
    )


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    def write(items: list[Item]) -> Catalog:
        path = tmp_path_factory.mktemp("shop") / "catalog"
        with CatalogWriter(path, name="shop", pack=True) as writer:
            for one in items:
                writer.add(one)
        return Catalog.open(path)

    return write


@pytest.fixture(scope="module")
def shop(make: Make) -> Catalog:
    return make([item(number) for number in range(240)])


@pytest.fixture(scope="module")
def affinity(shop: Catalog) -> Affinity:
    return Affinity.of(shop, SHOP)


def sessions_of(log: Interactions) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in log.table().to_pylist():
        found.setdefault(row["session"], []).append(row["item"])
    return found


# Sessions.


def test_a_session_stays_in_one_group_and_one_part(shop: Catalog) -> None:
    split = ItemSplit.by_hash(shop.ids(), (0.5, 0.2, 0.3))
    log = simulate_sessions(shop, SHOP, split)
    parts = dict(zip(split.ids, split.parts.tolist(), strict=True))
    sessions = sessions_of(log)
    assert set(sessions) == {f"{name}/0" for name in shop.ids()}  # every item begins one session
    for name, items in sessions.items():
        assert items[0] == name.removesuffix("/0")
        assert 3 <= len(items) <= 5
        assert len(set(items)) == len(items)
        assert len({name.split("-")[0] for name in items}) == 1
        assert len({parts[name] for name in items}) == 1


def test_clicks_follow_each_other_in_time(affinity: Affinity) -> None:
    log = simulate(affinity, SHOP, ItemSplit.by_hash(affinity.ids))
    assert log.times is not None
    same = log.sessions[1:] == log.sessions[:-1]
    assert (np.diff(log.times)[same] > 0).all()


def test_the_seed_decides(affinity: Affinity) -> None:
    split = ItemSplit.by_hash(affinity.ids)
    first, again = simulate(affinity, SHOP, split), simulate(affinity, SHOP, split)
    other = simulate(affinity, replace(SHOP, seed=1), split)
    assert first.table().equals(again.table())
    assert not first.table().equals(other.table())


def test_other_groups_do_not_change_a_groups_sessions(make: Make, affinity: Affinity) -> None:
    shoes = make([item(number) for number in range(0, 240, 3)])
    alone = sessions_of(simulate_sessions(shoes, SHOP, ItemSplit.by_hash(shoes.ids())))
    among = sessions_of(simulate(affinity, SHOP, ItemSplit.by_hash(affinity.ids)))
    assert alone == {name: items for name, items in among.items() if name.startswith("shoe")}


def test_tastes_and_sharpness_are_followed(affinity: Affinity) -> None:
    split = ItemSplit.by_hash(affinity.ids, (1, 0, 0))
    colours = {item(number).id: item(number).attributes["colour"] for number in range(240)}

    def same_colour(shoppers: Shoppers) -> float:
        clicks = [
            colours[items[0]] == colours[other]
            for items in sessions_of(simulate(affinity, shoppers, split)).values()
            for other in items[1:]
        ]
        return float(np.mean(clicks))

    vague = same_colour(replace(SHOP, sharpness=0.01))
    assert vague == pytest.approx(0.25, abs=0.06)
    assert vague < same_colour(replace(SHOP, sharpness=0.3)) < same_colour(SHOP)


def test_probabilities_are_those_of_the_formula(make: Make) -> None:
    # Three items, one click, colour alone: the like is clicked with e^2 / (e^2 + 1).
    items = [Item(name, attributes={"kind": "x", "colour": colour}) for name, colour in zip("abc", "rrg", strict=True)]
    shop = make(items)
    shoppers = Shoppers(("kind",), {"colour": 2.0}, clicks=(1, 1), sessions_per_item=3000.0)
    log = sessions_of(simulate_sessions(shop, shoppers, ItemSplit.by_hash(shop.ids(), (1, 0, 0))))
    from_a = [items[1] for items in log.values() if items[0] == "a"]
    assert len(from_a) == 3000
    assert from_a.count("b") / 3000 == pytest.approx(np.exp(2) / (np.exp(2) + 1), abs=0.03)


def test_a_fraction_of_a_session_per_item(affinity: Affinity) -> None:
    log = simulate(affinity, replace(SHOP, sessions_per_item=1.5), ItemSplit.by_hash(affinity.ids, (1, 0, 0)))
    assert 240 * 1.5 * 0.85 < len(sessions_of(log)) < 240 * 1.5 * 1.15


def test_some_clicks_are_accidental(affinity: Affinity) -> None:
    split = ItemSplit.by_hash(affinity.ids, (0.5, 0.2, 0.3))
    parts = dict(zip(split.ids, split.parts.tolist(), strict=True))
    log = sessions_of(simulate(affinity, replace(SHOP, accidental=0.6), split))
    clicks = [(items[0], other) for items in log.values() for other in items[1:]]
    assert all(parts[first] == parts[other] for first, other in clicks)
    elsewhere = np.mean([first.split("-")[0] != other.split("-")[0] for first, other in clicks])
    assert elsewhere == pytest.approx(0.6 * 2 / 3, abs=0.08)  # one click in three stays in its group by chance


def test_complements_are_of_one_other_group_and_of_the_same_taste(affinity: Affinity) -> None:
    colours = {item(number).id: item(number).attributes["colour"] for number in range(240)}
    log = simulate(affinity, replace(SHOP, complements=0.5), ItemSplit.by_hash(affinity.ids, (1, 0, 0)))
    kinds: dict[str, set[str]] = {}
    same, strays, clicks = 0, 0, 0
    for items in sessions_of(log).values():
        first = items[0].split("-")[0]
        for other in items[1:]:
            clicks += 1
            if other.split("-")[0] != first:
                kinds.setdefault(first, set()).add(other.split("-")[0])
                strays, same = strays + 1, same + (colours[items[0]] == colours[other])
    assert strays / clicks == pytest.approx(0.5, abs=0.06)
    assert all(len(found) == 1 for found in kinds.values())
    assert set(kinds) == set(affinity.names)
    assert same / strays > 0.7  # by chance one in four


def test_complements_differ_in_the_attribute_of_most_values() -> None:
    names = ("men\x1fcap", "men\x1fshoe", "men\x1ftee", "men\x1fbag", "women\x1fcap", "women\x1fshoe", "kids\x1ftee")
    found = Affinity((), names, (), (), None, 0.0).complements()
    assert all(other in {0, 1, 2, 3} - {at} for at, other in enumerate(found[:4]))
    assert found[4:] == [5, 4, -1]


def test_more_than_all_clicks_cannot_stray() -> None:
    with pytest.raises(ValueError, match="at most 1 together"):
        Shoppers(("kind",), {}, complements=0.6, accidental=0.5)


def test_a_lonely_item_has_no_session(make: Make) -> None:
    shop = make([item(0), item(1), item(4)])
    log = simulate_sessions(shop, SHOP, ItemSplit.by_hash(shop.ids(), (1, 0, 0)))
    assert set(sessions_of(log)) == {"shirt-001/0", "shirt-004/0"}
    assert len(simulate_sessions(shop, SHOP, ItemSplit.by_hash([]))) == 0


# Looks and affinity.


def test_looks_tell_colours_and_directions() -> None:
    flat, plain = Image.new("RGB", (60, 80), "red"), Image.new("RGB", (600, 800), "red")
    stripes = Image.fromarray(np.tile(np.array([0, 0, 255, 255] * 15, np.uint8)[None, :, None], (80, 1, 3)))
    across = stripes.transpose(Image.Transpose.ROTATE_90).resize((60, 80))
    one, two = appearance_features(flat), appearance_features(stripes)
    assert one.shape == (WIDTH,)
    assert float(np.linalg.norm(two)) == pytest.approx(1)
    assert float(one @ appearance_features(plain)) == pytest.approx(1)  # the size does not matter
    assert float(two @ appearance_features(across)) < 0.7
    assert float(one @ two) < 0.1
    assert np.isfinite(appearance_features(Image.new("RGB", (1, 1), "white"))).all()


def test_missing_and_broken_pictures_are_neither_like_nor_unlike(make: Make) -> None:
    broken = Item("shoe-y", attributes={"kind": "shoe", "colour": "red"}, pictures=(Picture("0" * 32, data=b"no"),))
    bare = Item("shoe-z", attributes={"kind": "shoe"})
    shop = make([*(item(number) for number in range(0, 30, 3)), broken, bare])
    ids = sorted(shop.ids())
    seen = appearances(shop, ids, shown=False)
    assert seen.any(axis=1).tolist() == [True] * 10 + [False] * 2
    affinity = Affinity.of(shop, SHOP)
    scores = affinity.rows(np.arange(12), np.arange(12))
    colours = affinity.tastes_only(np.arange(12), np.arange(12))
    assert scores[:, 10:].tolist() == colours[:, 10:].tolist()
    assert scores[10:].tolist() == colours[10:].tolist()
    assert not colours[11].any()  # no colour is like no other, not even like itself


def test_affinity_is_the_formula(shop: Catalog, affinity: Affinity) -> None:
    group = affinity.groups[1]
    appearance = appearances(shop, affinity.ids, shown=False)[group]
    names = [affinity.ids[place] for place in group]
    colour = np.array(attribute(shop, "colour", names))
    for row in (0, 7):
        others = np.arange(len(group)) != row
        similar = appearance @ appearance[row]
        z = (similar - similar[others].mean()) / similar[others].std()
        wanted = 2.0 * (colour == colour[row]) + 1.5 * z
        assert affinity.rows(group, np.array([row]))[0][others] == pytest.approx(wanted[others], abs=1e-3)


def test_attributes_come_from_truth_or_catalogue(shop: Catalog) -> None:
    ids = ["shoe-000", "shirt-001"]
    truth = pa.table({"id": ["shirt-001"], "colour": ["gold"]})
    assert attribute(shop, "colour", ids) == ["red", "red"]
    assert attribute(shop, "colour", ids, truth) == ["", "gold"]
    assert attribute(shop, "kind", ids, truth) == ["shoe", "shirt"]
    with pytest.raises(TgqError, match="'brand'"):
        attribute(shop, "brand", ids)
    with pytest.raises(TgqError, match="has the attribute 'gender'"):
        Affinity.of(shop, FASHION)


def test_shoppers_that_do_nothing_are_refused() -> None:
    for name, value in (
        ("wants", ()),
        ("clicks", (0, 2)),
        ("clicks", (3, 2)),
        ("sharpness", 0.0),
        ("sessions_per_item", 0.0),
    ):
        with pytest.raises(ValueError, match=name):
            replace(SHOP, **{name: value})


# Reference rankers.


def test_tied_hits_are_the_mean_over_orders() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        scores = rng.integers(0, 3, 5).astype(np.float32)
        positive = rng.random(5) < 0.4
        for k in (1, 2, 4, 5, 9):
            tops = [sorted(order, key=lambda place: -scores[place])[:k] for order in permutations(range(5))]
            mean = np.mean([any(positive[place] for place in top) for top in tops])
            assert tied_hits(scores[None], positive[None], k)[0] == pytest.approx(mean)


def test_reference_rankers_equal_a_full_sort(affinity: Affinity) -> None:
    split = ItemSplit.by_hash(affinity.ids, (0.5, 0.0, 0.5))
    pairs = split_pairs(Pairs.of(["shoe-000", "bag-002"], ["shoe-012", "bag-233"]), split)
    pairs_all = Pairs.of(["shoe-000", "bag-002", "bag-002"], ["shoe-012", "bag-233", "bag-014"])
    table = reference_rankers(affinity, pairs_all, ks=(1, 10))
    rows = {row["ranker"]: row for row in table.to_pylist()}
    assert table["queries"].to_pylist() == [5] * 4
    partners = {"shoe-000": {"shoe-012"}, "shoe-012": {"shoe-000"}, "bag-002": {"bag-233", "bag-014"},
                "bag-233": {"bag-002"}, "bag-014": {"bag-002"}}  # fmt: skip
    hits = []
    for query, wanted in partners.items():
        place = affinity.ids.index(query)
        group = next(group for group in affinity.groups if place in group)
        scores = affinity.rows(group, np.flatnonzero(group == place))[0]
        order = [affinity.ids[group[i]] for i in np.argsort(-scores) if group[i] != place]
        hits.append(bool(wanted & set(order[:10])))
    assert rows["affinity"]["H@10"] == pytest.approx(np.mean(hits))
    one, two = 10 / 239, 1 - (229 / 239) * (228 / 238)
    assert rows["random"]["H@10"] == pytest.approx((4 * one + two) / 5)
    one, two = 10 / 79, 1 - (69 / 79) * (68 / 78)
    assert rows["group"]["H@10"] == pytest.approx((4 * one + two) / 5)
    assert len(pairs.train) + len(pairs.test) <= 2


def test_knowing_more_ranks_better(affinity: Affinity) -> None:
    split = ItemSplit.by_hash(affinity.ids, (0.5, 0.0, 0.5))
    log = simulate(affinity, SHOP, split)
    first = list(sessions_of(log).values())
    pairs = Pairs.of(
        [items[0] for items in first for _ in items[1:]], [other for items in first for other in items[1:]]
    )
    table = reference_rankers(affinity, split_pairs(pairs, split).test, ks=(2,))
    rates = table["H@2"].to_pylist()
    assert table["ranker"].to_pylist() == list(RANKERS)
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > rates[1] + 0.05


def test_no_pairs_have_no_rate(affinity: Affinity) -> None:
    assert reference_rankers(affinity, Pairs.of([], [])).to_pylist()[0] == {
        "ranker": "affinity", "H@10": None, "H@100": None, "queries": 0
    }  # fmt: skip


# Files and the command.


def test_prepare_pairs_writes_everything(shop: Catalog, tmp_path: Path) -> None:
    to = tmp_path / "pairs"
    sets = prepare_pairs(shop, SHOP, to, (0.6, 0.1, 0.3))
    assert sorted(path.name for path in to.iterdir()) == [
        "interactions.parquet", "pairs-test.parquet", "pairs-train.parquet", "pairs-val.parquet", "split.parquet"
    ]  # fmt: skip
    assert ItemSplit.load(to / "split.parquet").ids == sets.split.ids == tuple(shop.ids())
    log = sessions_of(read_interactions(to / "interactions.parquet"))
    together = {frozenset((a, b)) for items in log.values() for a in items for b in items if a != b}
    kept = [Pairs.read(to / f"pairs-{part}.parquet") for part in PARTS]
    assert {frozenset((row["a"], row["b"])) for pairs in kept for row in pairs.table.to_pylist()} == together
    for pairs, part in zip(kept, PARTS, strict=True):
        assert set(pairs.ids()) <= set(sets.split.part(part))
    some = prepare_pairs(shop, SHOP, to, ids=subset(shop.ids(), 50))
    assert len(some.split) == 50


def test_a_subset_is_stable_and_in_order() -> None:
    ids = [str(number) for number in range(50)]
    chosen = subset(ids, 20)
    assert len(chosen) == 20
    assert chosen == sorted(chosen, key=int)
    assert set(subset(ids, 10)) < set(chosen)
    assert subset(ids, 99) == ids


def test_the_command(make: Make, tmp_path: Path) -> None:
    shop = make([Item(f"i{number:03d}") for number in range(120)])
    numbers = range(120)
    truth = pa.table(
        {
            "id": shop.ids(),
            "kind": [("cup", "lamp")[n % 2] for n in numbers],
            "colour": [COLOURS[n // 2 % 4] for n in numbers],
            "pattern": [("plain", "dots", "stripes")[n // 8 % 3] for n in numbers],
            "variant": [str(n // 24 % 2) for n in numbers],
        }
    )
    pq.write_table(truth, shop.path / "truth.parquet")
    words = ["pairs", "simulate", str(shop.path), "--to", str(tmp_path / "out"), "--shoppers", "studio", "--reference"]
    result = CliRunner().invoke(app, [*words, "--val", "0.1"])
    assert result.exit_code == 0, result.output
    assert "group + tastes" in result.output
    assert len(Pairs.read(tmp_path / "out" / "pairs-train.parquet")) > 50
    result = CliRunner().invoke(app, [*words[:-1], "--limit", "60", "--overwrite"])
    assert result.exit_code == 0, result.output
    assert len(ItemSplit.load(tmp_path / "out" / "split.parquet")) == 60
    words[4] = str(tmp_path / "one")
    result = CliRunner().invoke(app, [*words[:-1], "--limit", "1"])
    assert "no two of the 1 items" in str(result.exception) and not (tmp_path / "one").exists()


def test_a_truth_table_is_one_of_all_items_or_refused(make: Make, tmp_path: Path) -> None:
    shop, file = make([Item(str(number)) for number in range(7)]), tmp_path / "truth.parquet"
    command = ["pairs", "simulate", str(shop.path), "--shoppers", "studio", "--to", str(tmp_path / "out")]
    (tmp_path / "table.csv").write_text("id,kind\n")
    pq.write_table(pa.table({"id": range(7), "kind": ["cup"] * 7}), file)  # numbers: as text they are the ids
    assert attribute(shop, "kind", shop.ids(), read_truth(file, shop.ids())) == ["cup"] * 7
    for name, table, said in (
        ("truht.parquet", None, "truth.parquet"),
        ("table.csv", None, "cannot be read as a truth table"),
        ("a.parquet", {"sku": ["1"], "kind": ["cup"]}, "no column 'id'; it has sku, kind"),
        ("b.parquet", {"id": ["1", "1"], "kind": ["cup", "lamp"]}, "an id twice"),
        ("c.parquet", {"id": range(6), "kind": ["cup"] * 6}, "lacks 1 of the 7 items, such as '6'"),
    ):
        if table is not None:
            pq.write_table(pa.table(table), tmp_path / name)
        done = CliRunner().invoke(app, [*command, "--truth", str(tmp_path / name)])
        assert isinstance(done.exception, TgqError) and said in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_the_next_command_shows_pairs_that_there_are(make: Make, tmp_path: Path) -> None:
    attributes = {"kind": "cup", "colour": "red", "pattern": "plain", "variant": "1"}
    shop = make([Item(f"i{number:03d}", attributes=attributes) for number in range(40)])
    command = ["pairs", "simulate", str(shop.path), "--shoppers", "studio", "--to", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*command, "--train", "0", "--val", "0"])
    assert done.exit_code == 0 and "pairs-test.parquet --catalog" in done.output


def test_the_shoppers_that_are_shipped() -> None:
    assert SHOPPERS == {"fashion": FASHION, "studio": STUDIO}
    assert FASHION.wants == ("gender", "article_type", "usage")
