"""A power cut loses what was not synced: every acknowledged write is there, and the store opens."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scripts import load_script

from tgqformer.store import make_store, open_store
from tgqformer.store.base import StoreRow, Unreachable, Unwritable
from tgqformer.store.durable import LocalFiles
from tgqformer.store.embeddings import Embeddings
from tgqformer.store.lance import LanceTable
from tgqformer.store.ledger import VersionSpec

DIM = 8


class Synced:
    """What lies on the disk: files as they were when they were synced last, under names that were synced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._files, self._folders = dict[int, bytes](), dict[int, dict[str, int]]()
        real = os.fsync

        def fsync(handle: int) -> None:
            real(handle)
            path = Path(f"/proc/self/fd/{handle}").resolve()
            number = path.stat().st_ino
            if path.is_dir():
                self._folders[number] = {one.name: one.stat().st_ino for one in path.iterdir()}
            else:
                self._folders.pop(number, None)
                self._files[number] = path.read_bytes()

        monkeypatch.setattr(os, "fsync", fsync)

    def write(self, source: Path, to: Path) -> Path:
        """Write the folder `source` as it would be after a power cut: what was never synced has no bytes."""
        to.mkdir(parents=True)
        for name, number in self._folders.get(source.stat().st_ino, {}).items():
            path = source / name
            if path.is_dir():
                self.write(path, to / name)
            elif path.is_file() or number not in self._folders:  # the number of a folder that is gone may be a file's
                (to / name).write_bytes(self._files.get(number, b""))
        return to


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Synced:
    """Watch what is synced."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("there is no /proc here")
    return Synced(monkeypatch)


def rows(*names: str, title: str = "") -> list[StoreRow]:
    return [
        StoreRow(name, np.random.default_rng(len(name)).normal(size=DIM).astype(np.float32), title) for name in names
    ]


def test_each_acknowledged_write_is_on_the_disk(synced: Synced, tmp_path: Path) -> None:
    place = tmp_path / "store"
    store = make_store(place)
    store.serve(store.create(VersionSpec("m", DIM), rows("a", "bb", "ccc")).name)
    table, there = store.table(), {"a": "", "bb": "", "ccc": ""}
    for turn in range(6):
        name = "n" * (turn + 5)
        table.upsert(rows(name, "a", title=f"t{turn}"), model_version="m")
        there |= {name: f"t{turn}", "a": f"t{turn}"}
        if turn == 2:
            table.delete(["bb"])
            del there["bb"]
        if turn == 4:
            table.optimize()
        after = open_store(synced.write(place, tmp_path / f"cut-{turn}"))
        assert {row.id: row.title for row in after.table().get(sorted(there))} == there
        assert after.table().count() == len(there)
    store.serve(store.create(VersionSpec("m2", DIM), rows("z")).name)
    assert [row.id for row in open_store(synced.write(place, tmp_path / "last")).table().get(["z"])] == ["z"]


@pytest.mark.parametrize("torn", ["manifest", "data", "missing"])
def test_a_transaction_that_was_cut_off_is_removed(tmp_path: Path, torn: str) -> None:
    store = make_store(tmp_path / "store")
    store.serve(store.create(VersionSpec("m", DIM), rows("a", "bb")).name)
    files, data = LocalFiles(tmp_path / "store", "v1"), tmp_path / "store/tables/v1.lance/data"
    table, number, before = store.table(), files.latest(), set(data.iterdir())
    assert isinstance(table, LanceTable) and files.marked() == number
    table._table.add(table._batch(rows("ccc"), "m"))  # committed, and nothing of it synced
    [new] = set(data.iterdir()) - before
    if torn == "manifest":
        (files.folder / "_versions" / f"{2**64 - 1 - files.latest()}.manifest").write_bytes(b"")
    elif torn == "data":
        new.write_bytes(new.read_bytes()[:-5])
    else:
        new.unlink()
    assert files.latest() > number
    again = open_store(tmp_path / "store").table()
    assert sorted(name for name, _ in again.contents()) == ["a", "bb"]
    assert files.latest() == files.marked() == number
    again.upsert(rows("dddd"), model_version="m")
    assert open_store(tmp_path / "store").table().count() == 3


def test_a_transaction_of_a_killed_process_that_is_whole_is_kept(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    store.serve(store.create(VersionSpec("m", DIM), rows("a")).name)
    table, files = store.table(), LocalFiles(tmp_path / "store", "v1")
    assert isinstance(table, LanceTable)
    table._table.add(table._batch(rows("bb"), "m"))
    assert open_store(tmp_path / "store").table().count() == 2 and files.marked() == files.latest()


def test_what_cannot_be_synced_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path / "store")
    store.serve(store.create(VersionSpec("m", DIM), rows("a")).name)
    table, real = store.table(), LocalFiles._sync

    def full(self: LocalFiles) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LocalFiles, "_sync", full)
    for change in (lambda: table.upsert(rows("bb"), model_version="m"), lambda: table.delete(["a"])):
        with pytest.raises(Unwritable, match="no space"):
            change()
    monkeypatch.setattr(LocalFiles, "_sync", real)
    assert [name for name, _ in table.contents()] == ["a"]
    assert [name for name, _ in open_store(tmp_path / "store").table().contents()] == ["a"]
    table.upsert(rows("ccc"), model_version="m")
    assert [name for name, _ in open_store(tmp_path / "store").table().contents()] == ["a", "ccc"]


def test_a_store_and_a_table_that_were_cut_off_while_they_were_made(tmp_path: Path) -> None:
    place, spec = tmp_path / "store", VersionSpec("m", DIM)
    make_store(place).begin(spec)
    for name in ("v1", "ledger"):  # the mark is written last
        (place / f".{name}.synced").unlink()
    for manifest in (place / "tables/v1.lance/_versions").iterdir():
        manifest.write_bytes(b"")
    store = make_store(place)
    store.begin(spec).upsert(rows("a"), model_version="m")
    store.serve(store.finish("v1").name)
    assert open_store(place).table().count() == 1


def test_a_write_does_not_make_a_store_anew(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    store.serve(store.create(VersionSpec("m", DIM), rows("a")).name)
    table = store.table()
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    for change in (lambda: table.upsert(rows("b"), model_version="m"), lambda: table.delete(["a"]), table.optimize):
        with pytest.raises(Unreachable, match="is gone"):
            change()
    with pytest.raises(Unreachable, match="is gone"):
        store.refresh()
    assert not (tmp_path / "store").exists()


def test_partitions_are_on_the_disk_with_their_folder(synced: Synced, tmp_path: Path) -> None:
    os.fsync(os.open(tmp_path, os.O_RDONLY))
    made = Embeddings.create(
        tmp_path / "runs/one/embeddings", dim=2, model_version="m", ids_fingerprint="f", count=2, partition_size=1
    )
    made.write(0, ["a"], np.ones((1, 2), np.float32))
    after = Embeddings.open(synced.write(tmp_path, tmp_path.with_name(f"{tmp_path.name}-cut")) / "runs/one/embeddings")
    assert after.missing() == [1] and after.read(0).ids == ["a"]


def test_power_that_is_cut_under_a_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = load_script("_disk", monkeypatch)
    if not disk.can_mount(tmp_path):
        pytest.skip("images cannot be mounted here")
    assert load_script("faults_power", monkeypatch).stores(tmp_path / "disk", 2) >= 2
