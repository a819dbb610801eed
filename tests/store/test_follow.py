"""Neighbours that follow a store: after any change they are those of a fresh build, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_rows import clusters

from tgqformer.errors import TgqError
from tgqformer.store import follow as follow_module
from tgqformer.store import make_store
from tgqformer.store import neighbours as neighbours_module
from tgqformer.store.base import StoreRow, StoreTable
from tgqformer.store.embeddings import Embeddings, Vectors, fingerprint_of
from tgqformer.store.follow import Followed, follow
from tgqformer.store.ledger import VersionSpec
from tgqformer.store.neighbours import Neighbours, build_neighbours
from tgqformer.store.rows import unit
from tgqformer.topk.exact import exact

Shop = dict[str, tuple[Vectors, str]]  # id -> vector, content


@dataclass(frozen=True)
class Version(VersionSpec):
    name: str = "v1"


class Table:
    """A table of a store, as far as `follow` reads it."""

    def __init__(self, shop: Shop, dim: int, dtype: str = "float32", model: str = "m1") -> None:
        self.shop, self.version = shop, Version(model, dim, dtype)  # type: ignore[arg-type]

    def contents(self) -> Iterator[tuple[str, str]]:
        yield from ((name, f"{content}facts") for name, (_, content) in self.shop.items())

    def get(self, ids: Sequence[str]) -> list[StoreRow]:
        return [StoreRow(name, unit(self.shop[name][0][None])[0]) for name in ids]


def built(folder: Path, shop: Shop, k: int, size: int = 16) -> Neighbours:
    """Build neighbours from nothing."""
    ids, dim = list(shop), len(next(iter(shop.values()))[0])
    shape = {"dim": dim, "count": len(ids), "partition_size": size}
    made = Embeddings.create(folder / "e", model_version="m1", ids_fingerprint=fingerprint_of(ids), **shape)
    for number in made.missing():
        part = ids[slice(*made.bounds(number))]
        made.write(number, part, np.array([shop[name][0] for name in part]), [shop[name][1] for name in part])
    return build_neighbours(made, folder / "n", k, show_progress_bar=False)


def files(folder: Path) -> dict[str, bytes]:
    """Read what a shop is served from; spare neighbours may be fewer than after a fresh build."""
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.is_file() and not path.name.startswith("spare")
    }


def content(number: int) -> str:
    return f"{number:032x}"


def require_fresh(folder: Path, shop: Shop, k: int, place: Path) -> None:
    """The folder holds what a fresh build of this shop holds, and its spare neighbours are right as far as they go."""
    fresh, found = built(place, shop, k), Neighbours.open(folder)
    assert files(folder) == files(fresh.path)
    for (positions, scores), (right, value) in zip(found.spares(), fresh.spares(), strict=True):
        held = positions >= 0
        assert np.array_equal(positions[held], right[held]) and np.array_equal(scores[held], value[held])
        assert np.array_equal(held, np.logical_and.accumulate(held, 1)), "no gaps"


@st.composite
def shops(draw: st.DrawFn) -> tuple[Shop, list[Shop], int]:
    """Draw a shop and what becomes of it day by day; vectors are few, so that many are the same."""
    kinds = np.concatenate([clusters(draw(st.sampled_from([4, 60])), 6, seed=3), np.zeros((1, 6), np.float32)])
    one = st.integers(0, len(kinds) - 1)
    first = draw(st.lists(one, min_size=1, max_size=70))
    shop = {f"i{n}": (kinds[kind], content(kind + 1)) for n, kind in enumerate(first)}
    days, now, number = list[Shop](), shop, len(first)
    for _ in range(draw(st.integers(1, 3))):
        now = {name: row for name, row in now.items() if draw(st.integers(0, 5))} or dict(list(now.items())[:1])
        for name in draw(st.lists(st.sampled_from(sorted(now)), max_size=4)):
            kind = draw(one)
            now[name] = (kinds[kind], content(kind + 1))
        for kind in draw(st.lists(one, max_size=12)):
            now[f"i{number}"], number = (kinds[kind], content(kind + 1)), number + 1
        if draw(st.booleans()):
            now = {name: now[name] for name in draw(st.permutations(sorted(now)))}
        days.append(now)
    return shop, days, draw(st.sampled_from([1, 3, 10, 100]))


@pytest.mark.slow
@given(drawn=shops(), spares=st.sampled_from([0, 2, 32]))
@settings(max_examples=80, deadline=None)
def test_any_change_gives_a_fresh_build(
    tmp_path_factory: pytest.TempPathFactory, drawn: tuple[Shop, list[Shop], int], spares: int
) -> None:
    shop, days, k = drawn
    folder = tmp_path_factory.mktemp("follow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours_module, "SPARES", spares)
        patch.setattr(follow_module, "BLOCK", 5)
        patch.setattr(follow_module, "PAIRS", 7)
        kept = built(folder, shop, k)
        for day, now in enumerate(days):
            follow(kept.path, Table(now, 6), list(now), shown=False)  # type: ignore[arg-type]
            require_fresh(kept.path, now, k, folder / f"day-{day}")


def test_only_what_changed_is_searched(tmp_path: Path) -> None:
    vectors = clusters(1600, 12)
    shop = {f"i{n}": (vector, content(n + 1)) for n, vector in enumerate(vectors[:1500])}
    kept = built(tmp_path, shop, 20, size=200)
    now = dict(shop)
    for n in range(0, 60, 10):
        del now[f"i{n}"]  # each is a neighbour of some twenty
    now["i7"] = (vectors[1590], content(9999))
    now |= {f"new{n}": (vectors[1500 + n], content(5000 + n)) for n in range(8)}
    done = follow(kept.path, Table(now, 12), list(now), shown=False)  # type: ignore[arg-type]
    assert done == Followed(fresh=9, gone=7, searched=9, changed=True)
    fresh = built(tmp_path / "fresh", now, 20, size=200)
    assert files(kept.path) == files(fresh.path)
    before = {path.name: path.stat().st_mtime_ns for path in kept.path.iterdir()}
    same = follow(kept.path, Table(now, 12), list(now), shown=False)  # type: ignore[arg-type]
    assert same == Followed() and {path.name: path.stat().st_mtime_ns for path in kept.path.iterdir()} == before


def test_a_new_name_of_the_same_content_is_no_new_vector(tmp_path: Path) -> None:
    shop = {f"i{n}": (vector, content(n + 1)) for n, vector in enumerate(clusters(90, 6))}
    kept = built(tmp_path, shop, 5)
    now = shop | {"i4": (shop["i4"][0], content(777))}
    assert follow(kept.path, Table(now, 6), list(now), shown=False) == Followed(changed=True)  # type: ignore[arg-type]
    require_fresh(kept.path, now, 5, tmp_path / "fresh")


def test_a_row_that_the_catalogue_lacks_is_passed_over(tmp_path: Path) -> None:
    shop = {f"i{n}": (vector, content(n + 1)) for n, vector in enumerate(clusters(40, 6))}
    kept = built(tmp_path, shop, 5)
    stored = shop | {"put-over-http": (shop["i3"][0], content(50))}
    assert not follow(kept.path, Table(stored, 6), list(shop), shown=False).changed  # type: ignore[arg-type]


def test_a_real_store_keeps_vectors_well_enough(tmp_path: Path) -> None:
    vectors = clusters(130, 16)
    shop = {f"i{n}": (vector, content(n + 1)) for n, vector in enumerate(vectors[:100])}
    kept, now = built(tmp_path, shop, 10), {f"i{n}": (vectors[n], content(n + 1)) for n in range(5, 130)}
    store = make_store(str(tmp_path / "store"))
    rows = [StoreRow(name, vector, content=f"{seen}facts") for name, (vector, seen) in now.items()]
    store.serve(store.create(VersionSpec("m1", 16), rows).name)
    table: StoreTable = store.table()
    assert follow(kept.path, table, list(now), shown=False).gone == 5
    require_fresh(kept.path, now, 10, tmp_path / "fresh")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (Table({}, 6, model="m2"), "was made by model m1"),
        (Table({}, 6, dtype="float16"), "keeps 6 x float16"),
        (Table({}, 4), "keeps 4 x float32"),
    ],
)
def test_what_cannot_follow_is_refused(tmp_path: Path, table: Table, words: str) -> None:
    kept = built(tmp_path, {f"i{n}": (vector, content(n)) for n, vector in enumerate(clusters(9, 6))}, 3)
    with pytest.raises(TgqError, match=words):
        follow(kept.path, table, ["i0"])  # type: ignore[arg-type]
    (kept.path / "vectors.npy").unlink()
    with pytest.raises(TgqError, match="keeps no exact vectors"):
        follow(kept.path, Table({}, 6), ["i0"])  # type: ignore[arg-type]


def test_a_score_is_the_same_in_any_batch() -> None:
    for dim in (3, 64, 257, 384):
        rows = unit(clusters(300, dim))
        whole = exact(rows[0], rows)
        assert [exact(rows[n], rows[:1])[0] for n in range(300)] == whole.tolist()
        assert np.array_equal(exact(rows[100:237], np.broadcast_to(rows[0], (137, dim))), whole[100:237])
