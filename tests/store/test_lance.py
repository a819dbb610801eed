from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tgqformer.errors import TgqError
from tgqformer.store import lance, open_store
from tgqformer.store.base import Filter, Row, similar
from tgqformer.store.embeddings import Vectors
from tgqformer.store.lance import LanceStore, sql_of

NASTY = ["O'Neill", "x' OR '1'='1", "back\\slash", 'dou"ble', "日本", "%_", "nul\x00", "a;b--", "''", " "]


def clusters(count: int, dim: int, seed: int = 0) -> Vectors:
    luck = np.random.default_rng(seed)
    middle = luck.normal(size=(20, dim))[luck.integers(0, 20, count)]
    return (middle + 0.7 * luck.normal(size=(count, dim))).astype(np.float32)


def rows_of(vectors: Vectors) -> Iterator[Row]:
    for i, vector in enumerate(vectors):
        path = (f"top{i % 3}", f"leaf{i % 7}")
        yield Row(f"i{i}", vector, f"title {i}", f"brand{i % 5}", path, None if i % 11 == 0 else float(i))


def made(path: Path, vectors: Vectors, version: str = "v1") -> LanceStore:
    return LanceStore.create(path, rows_of(vectors), dim=vectors.shape[1], model_version=version)


def truth(vectors: Vectors, query: np.ndarray, k: int, passing: list[int] | None = None) -> list[str]:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = unit @ (query / np.linalg.norm(query))
    chosen = range(len(vectors)) if passing is None else passing
    return [f"i{i}" for i in sorted(chosen, key=lambda i: -scores[i])[:k]]


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return clusters(600, 16)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, vectors: Vectors) -> LanceStore:
    """Give a store, made by several writes, that no test writes to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lance, "WRITE_ROWS", 250)
        return made(tmp_path_factory.mktemp("store") / "s", vectors)


@pytest.mark.parametrize("exact", [True, False])
def test_without_an_index_recall_is_one(store: LanceStore, vectors: Vectors, exact: bool) -> None:
    assert store.stats().indexed == 0
    for query in clusters(20, 16, seed=1):
        assert [hit.id for hit in store.search(query, 30, exact=exact)] == truth(vectors, query, 30)


def test_a_hit_carries_what_the_row_has(store: LanceStore, vectors: Vectors) -> None:
    hit = store.search(vectors[12], 1)[0]
    assert (hit.id, hit.title, hit.brand, hit.category) == ("i12", "title 12", "brand2", ("top0", "leaf5"))
    assert hit.price == 12.0 and hit.score == pytest.approx(1, abs=1e-5)
    assert store.search(vectors[11], 1)[0].price is None


@pytest.mark.parametrize(
    ("where", "passes"),
    [
        (Filter(brand=("brand1",)), lambda i: i % 5 == 1),
        (Filter(brand=("brand1", "brand2")), lambda i: i % 5 in (1, 2)),
        (Filter(category=("top1",)), lambda i: i % 3 == 1),
        (Filter(category=("leaf2", "top0")), lambda i: i % 7 == 2 or i % 3 == 0),
        (Filter(min_price=100), lambda i: i >= 100 and i % 11),
        (Filter(max_price=99.5, brand=("brand0",)), lambda i: i <= 99 and i % 5 == 0 and i % 11),
        (Filter(min_price=50, max_price=60, category=("leaf1",)), lambda i: i in (50, 57)),
        (Filter(brand=("nobody",)), lambda i: False),
    ],
)
def test_filters(store: LanceStore, vectors: Vectors, where: Filter, passes) -> None:  # type: ignore[no-untyped-def]
    passing = [i for i in range(600) if passes(i)]
    found = [hit.id for hit in store.search(vectors[3], 25, where)]
    assert found == truth(vectors, vectors[3], 25, passing)


def test_values_are_only_ever_values(tmp_path: Path) -> None:
    rows = [Row(word, np.eye(16, dtype=np.float32)[i], None, word, (word,)) for i, word in enumerate(NASTY)]
    store = LanceStore.create(tmp_path / "s", rows, dim=16, model_version="v1")
    for word in NASTY:
        for where in (Filter(brand=(word,)), Filter(category=(word,))):
            assert [hit.id for hit in store.search(rows[0].vector, 20, where)] == [word]
        assert store.get([word])[0].brand == word
    store.delete([NASTY[1]])
    assert len(store) == len(NASTY) - 1


def test_wrong_filters_are_refused() -> None:
    with pytest.raises(TgqError, match=r"no price lies between 5 and 4"):
        Filter(min_price=5, max_price=4)
    with pytest.raises(TgqError, match="finite"):
        Filter(max_price=float("nan"))
    assert not Filter() and Filter(min_price=0.0) and sql_of(Filter(min_price=1)) == "price >= 1.0"


def test_similar_leaves_the_item_out_and_knows_its_names(store: LanceStore, vectors: Vectors) -> None:
    assert [hit.id for hit in similar(store, "i7", 10)] == truth(vectors, vectors[7], 11)[1:]
    only = similar(store, "i7", 3, Filter(brand=("brand0",)))  # the item itself does not pass the filter
    assert len(only) == 3 and {hit.brand for hit in only} == {"brand0"}
    with pytest.raises(TgqError, match="has no item 'i6000'; nearest known ids: 'i60"):
        similar(store, "i6000", 10)
    with pytest.raises(TgqError, match="at least 1"):
        similar(store, "i7", 0)


def test_get_keeps_the_order_asked(store: LanceStore, vectors: Vectors) -> None:
    rows = store.get(["i9", "i2", "i9"])
    assert [row.id for row in rows] == ["i9", "i2", "i9"] and rows[1].category == ("top2", "leaf2")
    np.testing.assert_allclose(rows[0].vector, vectors[9] / np.linalg.norm(vectors[9]), atol=1e-6)
    many = [f"i{i}" for i in range(599, -1, -1)]
    assert [row.id for row in store.get(many)] == many


def test_upsert_replaces_and_adds_and_delete_removes(tmp_path: Path, vectors: Vectors) -> None:
    store = made(tmp_path / "s", vectors[:50])
    store.upsert([Row("i3", vectors[100], "new title"), Row("new", vectors[101])], model_version="v1")
    assert len(store) == 51
    assert store.search(vectors[100], 1)[0].title == "new title"
    store.delete(["i3", "not there"])
    reopened = open_store(tmp_path / "s")
    assert reopened.stats().rows == 50
    assert "i3" not in {hit.id for hit in reopened.search(vectors[100], 60)}
    store.upsert([], model_version="v1")
    store.delete([])
    assert len(store) == 50


@pytest.mark.parametrize(
    ("rows", "version", "message"),
    [
        ([Row("a", np.ones(16, np.float32))], "v2", "holds vectors of model 'v1', not 'v2'"),
        ([Row("a", np.ones(15, np.float32))], "v1", "vectors of width 16"),
        ([Row("a", np.full(16, np.inf, np.float32))], "v1", "item 'a'"),
        ([Row("a", np.ones(16, np.float32))] * 2, "v1", "stands twice"),
    ],
)
def test_wrong_rows_are_refused_whole(
    tmp_path: Path, vectors: Vectors, rows: list[Row], version: str, message: str
) -> None:
    store = made(tmp_path / "s", vectors[:5])
    with pytest.raises(TgqError, match=message):
        store.upsert([Row("fine", vectors[6]), *rows], model_version=version)
    assert len(store) == 5


def test_a_zero_vector_is_like_nothing_and_hurts_nothing(tmp_path: Path, vectors: Vectors) -> None:
    store = made(tmp_path / "s", np.concatenate([vectors[:5], np.zeros((1, 16), np.float32)]))
    assert {hit.id: hit.score for hit in store.search(vectors[0], 6)}["i5"] == 0
    assert [hit.score for hit in store.search(np.zeros(16, np.float32), 2)] == [0, 0]


def test_a_new_model_takes_the_place_of_the_old_at_once(tmp_path: Path, vectors: Vectors) -> None:
    made(tmp_path / "s", vectors[:20])

    def breaks() -> Iterator[Row]:
        yield from rows_of(vectors[:10])
        raise TgqError("the catalogue ends here")

    with pytest.raises(TgqError, match="ends here"):
        LanceStore.create(tmp_path / "s", breaks(), dim=16, model_version="v2")
    assert open_store(tmp_path / "s").stats().rows == 20, "the old table is still served"
    assert len(list((tmp_path / "s" / "tables").iterdir())) == 1, "what was half written is gone"
    LanceStore.create(tmp_path / "s", rows_of(vectors[:30, :8]), dim=8, model_version="v2")
    stats = open_store(tmp_path / "s").stats()
    assert (stats.rows, stats.dim, stats.model_version) == (30, 8, "v2")
    assert len(list((tmp_path / "s" / "tables").iterdir())) == 1


def test_folders_that_are_no_store_are_refused(tmp_path: Path, vectors: Vectors) -> None:
    with pytest.raises(TgqError, match="is no store"):
        open_store(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TgqError, match="exists and is no store"):
        made(tmp_path, vectors)
    (tmp_path / "store.json").write_text('{"backend": "abacus"}')
    with pytest.raises(TgqError, match="'abacus'; this version has: lance"):
        open_store(tmp_path)
    (tmp_path / "store.json").write_text('{"backend": "lance", "table": "gone", "dim": 2, "model_version": "v"}')
    with pytest.raises(TgqError, match="damaged store"):
        open_store(tmp_path)


def test_recall_of_the_index_filtered_and_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lance, "INDEX_FROM", 3000)
    vectors, k = clusters(5000, 24), 50
    store = made(tmp_path / "s", vectors)
    assert store.stats().indexed == 5000
    queries = clusters(20, 24, seed=2)

    def recall(where: Filter | None, passing: list[int] | None) -> float:
        hits = [{hit.id for hit in store.search(q, k, where)} & set(truth(vectors, q, k, passing)) for q in queries]
        return sum(map(len, hits)) / (k * len(queries))

    assert recall(None, None) >= 0.95
    a_seventh = [i for i in range(5000) if i % 7 == 3]
    assert recall(Filter(category=("leaf3",)), a_seventh) == 1, "few pass: answered exactly"
    monkeypatch.setattr(lance, "EXACT_BELOW", 0)
    assert recall(Filter(category=("leaf3",)), a_seventh) >= 0.95
    exact = [hit.id for hit in store.search(queries[0], k, exact=True)]
    assert exact == truth(vectors, queries[0], k)


def test_what_is_written_after_the_index_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lance, "INDEX_FROM", 1000)
    vectors = clusters(1200, 8)
    store = made(tmp_path / "s", vectors)
    new = np.float32([9, -9, 9, -9, 9, -9, 9, -9])
    store.upsert([Row("new", new)], model_version="v1")
    assert store.search(new, 1)[0].id == "new" and store.stats().indexed == 1200
    store.optimize()
    assert store.search(new, 1)[0].id == "new" and store.stats().indexed == 1201
