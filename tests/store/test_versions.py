"""Versions beside each other: building, serving, rolling back, dropping. The same tests for every back end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_rows import clusters, rows_of

from tgqformer.errors import TgqError
from tgqformer.store import make_store, open_store
from tgqformer.store.base import Store, StoreRow, VersionGone
from tgqformer.store.ledger import Ledger, VersionSpec
from tgqformer.store.versions import VersionedStore

VECTORS = clusters(30, 8)


def built(store: Store, model: str, vectors: np.ndarray = VECTORS, serve: bool = True) -> str:
    name = store.create(VersionSpec(model, vectors.shape[1], label=f"label of {model}"), rows_of(vectors)).name
    if serve:
        store.serve(name)
    return name


def test_a_new_version_is_built_beside_and_swapped_in(any_place: Callable[[], str]) -> None:
    where = any_place()
    store = make_store(where)
    assert store.served is None and store.versions() == []
    with pytest.raises(TgqError, match="serves no version yet"):
        store.table()
    built(store, "m1")
    reader = open_store(where)
    table = reader.table()
    second = built(store, "m2", VECTORS[:20, :4], serve=False)
    assert second == "v2" and not reader.refresh() and reader.served.name == "v1"  # type: ignore[union-attr]
    store.serve("v2")
    assert reader.served.name == "v1" and reader.table() is table, "a reader sees a swap when it looks"  # type: ignore[union-attr]
    assert reader.refresh() and not reader.refresh()
    assert reader.table().version.model_version == "m2" and reader.table().count() == 20
    assert table.version.model_version == "m1", "a table stays that of its version"
    assert table.search(VECTORS[3], 1)[0].id == "i3"
    assert [version.label for version in reader.versions()] == ["label of m1", "label of m2"]
    assert [stats.served for stats in reader.stats()] == [False, True]


def test_rollback_goes_back_step_by_step(place: Callable[[], str]) -> None:
    store = make_store(place())
    for model in ("m1", "m2", "m3"):
        built(store, model)
    store.serve("v1")
    assert [store.rollback().name for _ in range(2)] == ["v3", "v2"]
    with pytest.raises(TgqError, match="no version was served before"):
        store.rollback()
    assert len(store.versions()) == 3, "what was rolled back from stays"


def test_vectors_of_two_models_never_meet(place: Callable[[], str]) -> None:
    store = make_store(place())
    built(store, "m1")
    table = store.table()
    built(store, "m2")
    row = StoreRow("new", VECTORS[0])
    with pytest.raises(TgqError, match="version v1 holds vectors of model 'm1', not 'm2'"):
        table.upsert([row], model_version="m2")
    store.table().upsert([row], model_version="m2")
    assert table.count() == 30 and store.table().count() == 31


def test_a_compatible_model_may_join_a_version(any_place: Callable[[], str]) -> None:
    where = any_place()
    store = make_store(where)
    name = built(store, "m1")
    reader = open_store(where)
    assert reader.table().version.models == ("m1",)
    more = list(rows_of(VECTORS[:2] + 1))
    made = store.admit(name, "m2", "/models/m2")
    assert (made.models, made.latest, made.model_version, made.model) == (("m1", "m2"), "m2", "m1", "/models/m2")
    assert store.admit(name, "m2") == made, "once is enough"
    store.table().upsert(more[:1], model_version="m2")
    store.table().upsert(more[1:], model_version="m1")
    with pytest.raises(TgqError, match="must not be mixed"):
        store.table().upsert(more, model_version="m3")
    assert not reader.refresh(), "no other version is served"
    assert reader.table().version == made == open_store(where).served
    assert reader.table().count() == len(VECTORS)
    with pytest.raises(TgqError, match="no version"):
        store.admit("v9", "m2")


def test_what_fails_leaves_nothing(place: Callable[[], str]) -> None:
    store = make_store(place())
    built(store, "m1")

    def breaks() -> Iterator[StoreRow]:
        yield from rows_of(VECTORS[:10])
        raise TgqError("the catalogue ends here")

    with pytest.raises(TgqError, match="ends here"):
        store.create(VersionSpec("m2", 8), breaks())
    assert [version.name for version in store.versions()] == ["v1"] and store.unfinished() == []
    assert store.table().count() == 30 and built(store, "m2") == "v3", "a name is never given twice"


def test_a_version_that_a_killed_job_began_is_taken_up(place: Callable[[], str]) -> None:
    where, spec = place(), VersionSpec("m1", 8)
    table = make_store(where).begin(spec)
    table.upsert(rows_of(VECTORS[:10]), model_version="m1")
    store = open_store(where)
    assert store.versions() == [] and [one.name for one in store.unfinished()] == ["v1"]
    with pytest.raises(TgqError, match="not finished"):
        store.serve("v1")
    again = store.begin(spec)
    assert again.version.name == "v1" and again.count() == 10
    other = store.begin(VersionSpec("m1", 8, "float16"))
    assert other.version.name == "v2" and other.count() == 0
    assert store.finish("v1").name == "v1" and store.serve("v1").name == "v1"
    assert store.finish("v1").name == "v1", "twice does no harm"
    store.drop("v2")
    assert store.unfinished() == []


def test_drop_and_prune(any_place: Callable[[], str]) -> None:
    where = any_place()
    store = make_store(where)
    for model in ("m1", "m2", "m3", "m4"):
        built(store, model)
    reader = open_store(where)
    old = reader.table("v1")
    with pytest.raises(TgqError, match="v4 is served"):
        store.drop("v4")
    with pytest.raises(TgqError, match="has no version 'v9'; it has v1, v2, v3, v4"):
        store.drop("v9")
    assert store.prune(keep=3) == ["v1"] and store.prune(keep=1) == ["v2"], "the one before the served one stays"
    with pytest.raises(VersionGone, match="v1 was dropped"):
        for _ in range(50):
            old.count()
            old.upsert([StoreRow("new", VECTORS[0])], model_version="m1")
    reader.refresh()
    assert [version.name for version in reader.versions()] == ["v3", "v4"]
    with pytest.raises(TgqError, match="has no version 'v1'"):
        reader.table("v1")
    assert store.rollback().name == "v3"


def test_tables_that_nobody_knows_are_swept(any_place: Callable[[], str]) -> None:
    where = any_place()
    store = make_store(where)
    built(store, "m1")
    built(store, "m2")
    assert isinstance(store, VersionedStore)
    backend = store._backend
    backend.change(lambda ledger: ledger.drop("v1"))  # a job that is killed before it drops the table
    assert backend.tables() == {"v1", "v2"}
    open_store(where).prune(2)
    assert backend.tables() == {"v2"}


def test_tables_of_others_in_the_same_database_stay(tmp_path: Path) -> None:
    others = {"customers", "vendors", "v0", "v1b"}
    for number, name in enumerate(sorted(others)):
        (tmp_path / "lake").mkdir(exist_ok=True)
        lancedb.connect(tmp_path / "lake").create_table(name, pa.table({"row": [number]}))
    store = make_store(f"file-object-store://{tmp_path}/lake")
    for model in ("m1", "m2", "m3"):
        built(store, model)
    assert store.prune(keep=2) == ["v1"]
    there = set(lancedb.connect(tmp_path / "lake").list_tables().tables)
    assert there == {"ledger", "v2", "v3", *others}


def test_a_table_of_another_that_is_named_as_ours_is_never_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    lancedb.connect(tmp_path / "lake").create_table("v2024", pa.table({"row": [1]}))
    with pytest.raises(TgqError, match="holds tables named v2024, but no list of versions of ours"):
        make_store(f"file-object-store://{tmp_path}/lake")
    assert lancedb.connect(tmp_path / "lake").list_tables().tables == ["v2024"]


def test_versions_begun_at_the_same_time_get_names_of_their_own(place: Callable[[], str]) -> None:
    where = place()
    make_store(where)

    def begin(number: int) -> str:
        return open_store(where).begin(VersionSpec(f"m{number}", 4)).version.name

    with ThreadPoolExecutor(4) as threads:
        names = list(threads.map(begin, range(6)))
    assert sorted(names) == [f"v{i}" for i in range(1, 7)]


def test_places_that_are_no_store_are_refused(any_place: Callable[[], str]) -> None:
    with pytest.raises(TgqError, match=r"no store"):
        open_store(any_place())


def test_folders_of_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TgqError, match="was not made by tgq"):
        make_store(tmp_path)
    for content, message in (
        ('{"backend": "abacus"}', "'abacus'; this version reads 'lance'"),
        ('{"backend": "lance", "table": "items_1"}', "written by another version"),
        ("[]", "no readable store.json"),
    ):
        (tmp_path / "store.json").write_text(content)
        with pytest.raises(TgqError, match=message):
            open_store(tmp_path)


def test_databases_that_cannot_be_used_are_explained(postgres_url: str) -> None:
    with pytest.raises(TgqError, match=r"the schema 'Big' of the store must be"):
        open_store(postgres_url + "&schema=Big")
    with pytest.raises(TgqError, match=r"postgresql://me@/postgres\?host=/nowhere: PostgreSQL does not do it"):
        open_store("postgresql://me:secret@/postgres?host=/nowhere")
    with pytest.raises(TgqError, match="float32 vectors up to 2000 dimensions, not 2001"):
        make_store(postgres_url + "&schema=wide").begin(VersionSpec("m", 2001))


def test_what_is_missing_for_postgres_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tgqformer.store.postgres", None)
    with pytest.raises(TgqError, match=r"tgqformer\[postgres\]"):
        open_store("postgresql://me@/shop")


def test_a_spec_is_checked() -> None:
    with pytest.raises(TgqError, match="float32, float16, int8"):
        VersionSpec("m", 8, "float8")  # type: ignore[arg-type]
    with pytest.raises(TgqError, match="dim >= 1"):
        VersionSpec("m", 0)


STEPS = st.lists(
    st.tuples(st.sampled_from(["start", "finish", "serve", "rollback", "drop", "prune"]), st.integers(1, 6)),
    max_size=25,
)


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_whatever_is_done_the_ledger_stays_true(steps: list[tuple[str, int]]) -> None:
    ledger = Ledger()
    for step, number in steps:
        name = f"v{number}"
        try:
            if step == "start":
                ledger = ledger.start(VersionSpec("m", 4), "now")
            elif step == "prune":
                for gone in ledger.droppable(number):
                    ledger = ledger.drop(gone)
            elif step == "rollback":
                ledger = ledger.rollback()
            else:
                ledger = getattr(ledger, step)(name)
        except TgqError:
            continue
        whole = [version.name for version in ledger.whole]
        assert len(ledger.names) == len(ledger.whole) + len(ledger.unfinished) <= ledger.begun
        assert set(ledger.history) <= set(whole) and len(set(ledger.history)) == len(ledger.history)
        assert ledger.served is None or ledger.served.name == ledger.history[-1]
        assert Ledger.from_json(ledger.to_json()) == ledger


def test_a_ledger_of_a_later_format_is_refused() -> None:
    with pytest.raises(TgqError, match="another version of tgqformer"):
        Ledger.from_json(Ledger().to_json().replace('"format": 3', '"format": 9'))
