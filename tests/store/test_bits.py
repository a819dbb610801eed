"""Bits that flip on the disk are told, or change no answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scripts import load_script
from small_shop import save_models

from tgqformer.errors import TgqError
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.store import make_store, open_store
from tgqformer.store.base import StoreRow
from tgqformer.store.embeddings import Embeddings
from tgqformer.store.ledger import VersionSpec


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("faults_bits")


@pytest.mark.slow
def test_single_bits_are_told_or_change_nothing(script: ModuleType, tmp_path: Path) -> None:
    script.write_all(tmp_path, items=40, store=False)
    kinds = ["embeddings", "neighbours", "catalog", "cache"]  # and no store: other tests began LanceDB's threads
    seen = script.flips(tmp_path, 100, kinds)
    assert sum(seen.values()) == 100 and {status for _, status in seen} <= {script.SAME, script.TOLD}
    assert all(seen[kind, script.TOLD] > 0 for kind in kinds)


def test_a_vector_that_changed_is_told(tmp_path: Path) -> None:
    made = Embeddings.create(tmp_path / "e", dim=4, model_version="m", ids_fingerprint="f", count=2)
    made.write(0, ["a", "b"], np.eye(2, 4, dtype=np.float32))
    file = tmp_path / "e/part-00000.arrow"
    data = bytearray(file.read_bytes())
    data[data.index(np.float32(1).tobytes()) + 2] ^= 64
    file.write_bytes(data)
    with pytest.raises(TgqError, match=r"part-00000\.arrow is damaged"):
        made.read(0)
    made.write(0, ["a", "b"], np.eye(2, 4, dtype=np.float32))
    assert made.read(0).vectors.tolist() == np.eye(2, 4).tolist()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of three rows, written in two transactions."""
    made = make_store(str(tmp_path / "store"))
    rows = [StoreRow(name, np.eye(4, dtype=np.float32)[n], f"title {name}") for n, name in enumerate("abc")]
    table = made.table(made.serve(made.create(VersionSpec("m", 4), rows[:2]).name).name)
    table.upsert(rows[2:], model_version="m")
    return tmp_path / "store"


@pytest.mark.parametrize("part", ["tables/v1.lance/data/*.lance", "tables/v1.lance/_versions/*.manifest",
                                  "tables/ledger.lance/data/*.lance"])  # fmt: skip
def test_a_file_of_a_store_that_changed_is_told(store: Path, part: str) -> None:
    for file in store.glob(part):
        data = bytearray(file.read_bytes())
        for at in range(0, len(data), 1 + len(data) // 5):
            data[at] ^= 4
            file.write_bytes(data)
            with pytest.raises(TgqError, match="is damaged: it is not as it was written"):
                open_store(str(store)).table()
            data[at] ^= 4
        file.write_bytes(data)
    assert sorted(name for name, _ in open_store(str(store)).table().contents()) == ["a", "b", "c"]


def test_checksums_outlive_what_is_taken_back_torn_and_removed(store: Path) -> None:
    table, sums = open_store(str(store)).table(), store / ".v1.sums"
    with sums.open("a") as sink:
        sink.write("12345678 data/torn")  # as by a power cut
    vector = np.ones(4, np.float32)
    for turn in range(3):
        table.upsert([StoreRow("a", vector, f"t{turn}")], model_version="m")
        table.optimize()
    again = open_store(str(store)).table()
    assert [row.title for row in again.get(["a", "b"])] == ["t2", "title b"]
    again.upsert([StoreRow("d", vector)], model_version="m")
    sums.unlink()  # of an earlier version: the next write notes what is there
    open_store(str(store)).table().upsert([StoreRow("e", vector)], model_version="m")
    [newest, *_] = sorted((store / "tables/v1.lance/_versions").glob("*.manifest"))
    assert newest.name in sums.read_text() and open_store(str(store)).table().count() == 5


def test_a_model_that_is_not_as_it_was_saved(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    models = save_models(tiny_model("vit"), tiny_model("bert"), tmp_path / "models")
    copy = tmp_path / "model"
    copy.mkdir()
    for file in models[0].rglob("*"):
        to = copy / file.relative_to(models[0])
        to.mkdir(parents=True) if file.is_dir() else to.write_bytes(file.read_bytes())
    assert ItemEmbedder.load(copy).version == ItemEmbedder.load(models[0]).version
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)
    with pytest.raises(TgqError, match="not as it was saved"):
        ItemEmbedder.load(copy)
