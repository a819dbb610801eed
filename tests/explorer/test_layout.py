"""The map: neighbours stay neighbours, the same seed gives the same map, and odd catalogues are placed too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from tgqformer.errors import TgqError
from tgqformer.service.explorer import atlas as atlas_module
from tgqformer.service.explorer import layout
from tgqformer.service.explorer.atlas import OTHER, Atlas, Map, groups_of, make_map, read_map
from tgqformer.service.explorer.layout import lay_out
from tgqformer.store.base import StoreRow
from tgqformer.store.ledger import Version


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "EPOCHS", 12)


def clouds(count: int, groups: int = 5, dim: int = 24) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    group = rng.integers(groups, size=count)
    return (rng.normal(size=(groups, dim))[group] + rng.normal(0, 0.35, (count, dim))).astype(np.float32), group


def test_neighbours_stay_neighbours() -> None:
    vectors, group = clouds(400)
    places = lay_out(vectors, epochs=60)
    assert places.shape == (400, 2) and places.dtype == np.float32
    assert places.min() >= 0 and places.max() <= 1 and np.ptp(places, axis=0).max() > 0.8
    _, near = cKDTree(places).query(places, k=6)
    assert (group[near[:, 1:]] == group[:, None]).mean() > 0.97


def test_the_same_seed_gives_the_same_map_and_progress_grows_to_one() -> None:
    vectors, _ = clouds(80)
    shares: list[float] = []
    first = lay_out(vectors, epochs=5, told=shares.append)
    assert np.array_equal(first, lay_out(vectors, epochs=5))
    assert not np.array_equal(first, lay_out(vectors, epochs=5, seed=1))
    assert shares == sorted(shares) and shares[-1] == 1


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5])
def test_few_items_are_placed(count: int) -> None:
    places = lay_out(clouds(count)[0], epochs=3)
    assert places.shape == (count, 2) and np.isfinite(places).all()


def test_equal_and_empty_vectors_are_placed_apart() -> None:
    places = lay_out(np.concatenate([np.ones((20, 8)), np.zeros((5, 8))]).astype(np.float32), epochs=30)
    assert np.isfinite(places).all() and len(np.unique(places, axis=0)) == 25


def test_groups_are_the_fullest_categories_then_other() -> None:
    paths = [(name,) for name in "aaaabbbccd"] + [()]
    names, group = groups_of(paths)
    assert names == ["a", "b", "c", "d", OTHER]
    assert group.tolist() == [0] * 4 + [1] * 3 + [2] * 2 + [3, 4]


def test_groups_come_from_the_second_level_where_the_first_says_little() -> None:
    names, group = groups_of([("All", "x"), ("All", "y"), ("All", "y"), ("All",)])
    assert (names, group.tolist()) == (["y", "All", "x"], [2, 0, 0, 1])


def test_many_categories_share_the_last_colour() -> None:
    names, group = groups_of([(f"c{n:02}",) for n in range(40)])
    assert names[-1] == OTHER and len(names) == 10 and (group == 9).sum() == 31


class Vectors:
    """What the map needs of a table: counted, so that a test sees when it is read."""

    def __init__(self, count: int, name: str = "digest/../1") -> None:
        self.vectors, self.group = clouds(max(count, 1))
        self.count_, self.reads, self.content, self.writes = count, 0, "", 0
        self.version = Version(name, 24, name="v1", created="now")

    def count(self) -> int:
        return self.count_

    def contents(self) -> Iterator[tuple[str, str]]:
        self.reads += 1
        return ((f"i{n}", self.content if n % 10 == 0 else "") for n in range(self.count_))

    def revision(self) -> int:
        return self.writes

    def get(self, ids: list[str]) -> list[StoreRow]:
        return [
            StoreRow(name, self.vectors[int(name[1:])], category=(f"g{self.group[int(name[1:])]}",)) for name in ids
        ]


def test_a_map_is_made_once_kept_and_read_again(tmp_path: Path) -> None:
    table = Vectors(60)
    first, again = Atlas(tmp_path), Atlas(tmp_path)
    assert first.state(table)["state"] in ("preparing", "ready")  # type: ignore[arg-type]
    first.wait(table)  # type: ignore[arg-type]
    said = first.state(table)  # type: ignore[arg-type]
    assert said["count"] == said["of"] == 60 and sum(group["count"] for group in said["groups"]) == 60
    again.wait(table)  # type: ignore[arg-type]
    assert again.map(table).packed() == first.map(table).packed()  # type: ignore[arg-type]
    assert table.reads == 2  # once for the map, once to see that it is still right
    assert [path.parent for path in tmp_path.rglob("*.parquet")] == [tmp_path]  # the version's name is no path


def test_a_map_is_made_anew_when_the_shop_has_grown_or_its_file_is_damaged(tmp_path: Path) -> None:
    Atlas(tmp_path).wait(Vectors(60))  # type: ignore[arg-type]
    grown = Vectors(80)
    Atlas(tmp_path).wait(grown)  # type: ignore[arg-type]
    assert grown.reads == 2 and read_map(next(tmp_path.glob("*.parquet"))).of == 80  # type: ignore[union-attr]
    [path] = tmp_path.glob("*.parquet")
    path.write_bytes(b"PAR1 no")
    assert read_map(path) is None
    Atlas(tmp_path).wait(grown)  # type: ignore[arg-type]
    assert grown.reads == 3 and read_map(path) is not None


def test_a_map_follows_the_rows_and_the_one_before_answers_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atlas, table = Atlas(tmp_path), Vectors(60)
    atlas.wait(table)  # type: ignore[arg-type]
    first = atlas.map(table)  # type: ignore[arg-type]
    monkeypatch.setattr(atlas_module, "LOOK_EVERY", 0.0)
    atlas.wait(table)  # type: ignore[arg-type]
    assert table.reads == 1  # nothing was written
    table.content, table.writes = "a tenth of them changed", 1
    table.vectors = table.vectors[::-1].copy()
    atlas.wait(table)  # type: ignore[arg-type]
    atlas.wait(table)  # type: ignore[arg-type]
    second = atlas.map(table)  # type: ignore[arg-type]
    assert second.tag != first.tag and atlas.map(table, first.tag) is first  # type: ignore[arg-type]
    assert atlas.state(table)["tag"] == second.tag  # type: ignore[arg-type]
    with pytest.raises(TgqError, match="load the page again"):
        atlas.map(table, "unknown")  # type: ignore[arg-type]


def test_two_versions_of_one_model_have_maps_of_their_own(tmp_path: Path) -> None:
    atlas, one, two = Atlas(tmp_path), Vectors(60), Vectors(40)
    two.version = replace(two.version, name="v2")
    for table in (one, two):
        atlas.wait(table)  # type: ignore[arg-type]
    assert [len(atlas.map(table).ids) for table in (one, two)] == [60, 40]  # type: ignore[arg-type]
    assert len(list(tmp_path.glob("map-*.parquet"))) == 2


def test_what_share_of_the_items_differs() -> None:
    table = Vectors(50)
    made = make_map(table)  # type: ignore[arg-type]
    now = dict(table.contents())
    assert made.differs(now) == 0
    assert made.differs(now | {"i7": "changed"}) == pytest.approx(0.02)
    assert made.differs(now | {f"new{n}": "" for n in range(5)}) == pytest.approx(0.1)
    assert made.differs({name: content for name, content in now.items() if name != "i3"}) == pytest.approx(0.02)
    sample = make_map(table, most=20)  # type: ignore[arg-type]
    assert sample.differs(now) == 0


def test_a_large_shop_is_shown_by_a_sample() -> None:
    table = Vectors(90)
    made = make_map(table, most=40)  # type: ignore[arg-type]
    assert len(made.ids) == len(set(made.ids)) == 40 and made.of == 90


def test_a_map_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Map:
        raise TgqError("the table is gone; build it again")

    monkeypatch.setattr(atlas_module, "make_map", broken)
    atlas, table = Atlas(tmp_path), Vectors(10)
    atlas.wait(table)  # type: ignore[arg-type]
    assert "the log of the service says why" in atlas.state(table)["error"]  # type: ignore[arg-type]
    with pytest.raises(TgqError, match="not ready"):
        atlas.map(table)  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_written_costs_only_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    atlas, table = Atlas(tmp_path / "file"), Vectors(12)
    atlas.wait(table)  # type: ignore[arg-type]
    assert atlas.state(table)["state"] == "ready"  # type: ignore[arg-type]


def test_points_are_packed_column_by_column() -> None:
    made = Map(
        ["a", "b"],
        np.array([[0, 0.5], [1, 0.25]], np.float32),
        np.array([3, 0], np.uint16),
        [],
        2,
        np.zeros(2, np.uint64),
    )
    assert np.frombuffer(made.packed(), "<u2").tolist() == [0, 65535, 32768, 16384, 3, 0]
