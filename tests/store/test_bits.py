"""Bits that flip on the disk are told, or change no answer."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from small_shop import save_models

from tgqformer.errors import TgqError
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.store.embeddings import Embeddings

SCRIPT = Path(__file__).parents[2] / "benchmarks/faults_bits.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("faults_bits", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_single_bits_are_told_or_change_nothing(script: ModuleType, tmp_path: Path) -> None:
    script.write_all(tmp_path, items=40)
    seen = script.flips(tmp_path, 90, ["embeddings", "neighbours", "catalog"])
    assert sum(seen.values()) == 90 and {status for _, status in seen} <= {script.SAME, script.TOLD}
    assert all(seen[kind, script.TOLD] > 0 for kind in ("embeddings", "neighbours", "catalog"))


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
