"""A store that lost files, or whose disk is full: it says so, what is served stays, and a new build mends it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tgqformer.cli import app
from tgqformer.errors import TgqError
from tgqformer.store import make_store, open_store
from tgqformer.store.base import Store, StoreRow, Unwritable
from tgqformer.store.ledger import VersionSpec


def rows(names: str) -> list[StoreRow]:
    return [StoreRow(name, np.eye(4, dtype=np.float32)[number]) for number, name in enumerate(names)]


def ids(store: Store) -> list[str]:
    return sorted(name for name, _ in store.table().contents())


def add(where: Path, model: str, names: str) -> Store:
    store = make_store(str(where))
    store.serve(store.create(VersionSpec(model, 4), rows(names)).name)
    return store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of two versions: v1 with a and b, v2 with a, b and c, which is served."""
    add(tmp_path / "store", "m1", "ab")
    add(tmp_path / "store", "m2", "abc")
    return tmp_path / "store"


def lose_rows(store: Path, version: str = "v2") -> None:
    for file in (store / f"tables/{version}.lance/data").iterdir():
        file.unlink()


def lose_newest(store: Path, table: str) -> None:
    min((store / f"tables/{table}.lance/_versions").glob("*.manifest")).unlink()


def lose_table(store: Path, version: str = "v2") -> None:
    shutil.rmtree(store / f"tables/{version}.lance")


@pytest.mark.parametrize(("lose", "words"), [(lose_rows, r"data/\w+\.lance"), (lose_table, "its table")])
def test_files_that_are_lost_are_not_taken_for_a_version_that_was_dropped(
    store: Path, lose: Callable[[Path], None], words: str
) -> None:
    lose(store)
    with pytest.raises(TgqError, match=rf"version v2 of .*store has lost {words}; serve another version"):
        ids(open_store(store))
    assert [open_store(store).rollback().name, *ids(open_store(store))] == ["v1", "a", "b"]


def test_the_newest_state_that_is_lost_is_not_answered_by_an_older_one(store: Path) -> None:
    open_store(store).table().upsert(rows("abcd")[3:], model_version="m2")
    lose_newest(store, "v2")
    for _ in range(2):  # the first look changes nothing
        with pytest.raises(TgqError, match=r"v2.lance has lost its newest state.*remove .*\.v2\.synced"):
            ids(open_store(store))
    (store / ".v2.synced").unlink()
    assert ids(open_store(store)) == ["a", "b", "c"]


def test_the_newest_list_of_versions_that_is_lost_is_told(store: Path) -> None:
    lose_newest(store, "ledger")
    with pytest.raises(TgqError, match=r"ledger.lance has lost its newest state"):
        open_store(store)


def test_a_damaged_list_of_versions_says_what_helps(store: Path) -> None:
    files = sorted((store / "tables/ledger.lance/data").iterdir())
    for file in files:
        data = file.read_bytes()
        file.write_bytes(data[:-9] + b"x" + data[-8:])
    with pytest.raises(TgqError, match=r"is damaged.*put .*store back from a copy, or remove it") as told:
        make_store(str(store))
    assert "serve another version" not in str(told.value)
    for file in files:
        file.unlink()
    with pytest.raises(TgqError, match=r"list of versions of .* has lost data/\w+\.lance; put .* back from a copy"):
        open_store(store)
    shutil.rmtree(store)
    assert ids(add(store, "m1", "a")) == ["a"]


@pytest.mark.parametrize("lose", [lose_rows, lose_table, lambda store: lose_newest(store, "v2")])
def test_versions_are_listed_beside_a_damaged_one(store: Path, lose: Callable[[Path], None]) -> None:
    lose(store)
    result = CliRunner().invoke(app, ["store", "versions", str(store), "--json"])
    states = {row["version"]: (row["state"], row["rows"]) for row in json.loads(result.stdout)}
    assert states["v1"] == ("", 2)
    assert states["v2"] == ("served, damaged", None) and "has lost" in result.stderr


@pytest.mark.parametrize(("lose", "words"), [(lose_rows, "has lost data/"), (lose_table, "has lost its table")])
def test_a_damaged_version_is_not_served(store: Path, lose: Callable[[Path, str], None], words: str) -> None:
    lose(store, "v1")
    for swap in (lambda: open_store(store).rollback(), lambda: open_store(store).serve("v1")):
        with pytest.raises(TgqError, match=words):
            swap()
        assert ids(open_store(store)) == ["a", "b", "c"]
    open_store(store).drop("v1")
    assert [one.name for one in open_store(store).versions()] == ["v2"]


@pytest.mark.parametrize("lost", ["tables", "tables/ledger.lance"])
def test_a_store_that_lost_its_list_of_versions_is_built_anew(store: Path, lost: str) -> None:
    shutil.rmtree(store / lost)
    with pytest.raises(TgqError, match="has lost its tables"):
        open_store(store)
    for _ in range(2):
        add(store, "m1", "xy")
        assert ids(open_store(store)) == ["x", "y"]
    built = open_store(store)
    assert {one.version.name: one.rows for one in built.stats()} == {one.name: 2 for one in built.versions()}


def test_a_damaged_note_of_a_store_can_be_written_anew(store: Path) -> None:
    (store / "store.json").write_text("")
    for opened in (open_store, make_store):
        with pytest.raises(TgqError, match=r"store\.json cannot be read; remove that file"):
            opened(str(store))
    (store / "store.json").unlink()
    assert [one.name for one in make_store(str(store)).versions()] == ["v1", "v2"] and len(ids(open_store(store))) == 3


def test_a_second_build_of_the_same_version_says_that_there_were_two(place: Callable[[], str]) -> None:
    where = place()
    first, spec = make_store(where), VersionSpec("m", 4)

    def slow() -> Iterator[StoreRow]:
        yield rows("a")[0]
        second = open_store(where)
        second.serve(second.create(spec, rows("abc")).name)

    with pytest.raises(TgqError, match=r"another job built the same version .* one at a time"):
        first.create(spec, slow())
    assert len(ids(open_store(where))) == 3 and not open_store(where).unfinished()


FULL = "lance error: LanceError(IO): No space left on device (os error 28), /root/.cargo/x/structural.rs:258:9"


def _full(*_: Any, **__: Any) -> None:
    raise RuntimeError(FULL)


@pytest.mark.parametrize(("part", "what"), [("_ledger", "update"), ("_database", "create_table")])
def test_a_full_disk_is_told_wherever_it_is_met(
    store: Path, monkeypatch: pytest.MonkeyPatch, part: str, what: str
) -> None:
    opened = open_store(store)
    monkeypatch.setattr(getattr(opened._backend, part), what, _full)  # type: ignore[attr-defined]
    with pytest.raises(Unwritable, match=r"store cannot be written: no space left on its disk; make room") as told:
        opened.create(VersionSpec("m3", 4), rows("a"))
    assert "cargo" not in str(told.value) and ids(open_store(store)) == ["a", "b", "c"]


def test_a_lost_list_of_deleted_rows_is_told_without_reading_rows(store: Path) -> None:
    open_store(store).table().delete(["b"])
    assert [one.trouble for one in open_store(store).stats()] == [None, None]
    [deleted] = (store / "tables/v2.lance/_deletions").iterdir()
    deleted.unlink()
    assert "has lost _deletions/" in (open_store(store).stats()[1].trouble or "")
