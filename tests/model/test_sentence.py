"""A saved model in sentence-transformers: the same vectors, by that library itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from doc_commands import ROOT, run_code
from PIL import Image
from sentence_transformers import SentenceTransformer

from tgqformer import Item, ItemEmbedder
from tgqformer.errors import TgqError
from tgqformer.model.card import read_card
from tgqformer.model.embedder import MODULES
from tgqformer.model.sentence import ItemModule, item_of, sentence_transformer


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "shirt.png"
    pixels = np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def saved(build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    build("tgq", dim=12).save(folder)
    return folder


def test_vectors_are_those_of_the_model(saved: Path, picture: Path, tiny_items: list[Item]) -> None:
    inputs = [
        {"text": "red shirt", "image": str(picture)},
        {"text": "red shirt", "image": Image.open(picture)},
        {"text": "blue shoe", "brand": "acme", "category": "shoe > bag", "attributes": {"a": "of"}},
        "green bag",
        Image.open(picture),
        str(picture),
        {"image": str(picture)},
    ]
    items = [
        *2 * [Item(title="red shirt", picture=picture)],
        Item(title="blue shoe", brand="acme", category=("shoe", "bag"), attributes={"a": "of"}),
        Item(title="green bag"),
        *3 * [Item(picture=picture)],
    ]
    own = ItemEmbedder.load(saved)
    for model in (sentence_transformer(saved), SentenceTransformer(str(saved), trust_remote_code=True, device="cpu")):
        assert isinstance(model[0], ItemModule) and model.get_embedding_dimension() == 12
        np.testing.assert_allclose(model.encode(inputs), own.encode(items), atol=1e-5)
        np.testing.assert_allclose(model.encode(tiny_items, batch_size=5), own.encode(tiny_items), atol=1e-5)
        short = model.encode(inputs, truncate_dim=8, normalize_embeddings=True)
        np.testing.assert_allclose(short, own.encode(items, truncate_dim=8), atol=1e-5)
        assert model.encode("green bag").shape == (12,)
        near = model.similarity(*2 * [model.encode(inputs)])
        assert near[0, 1] > 0.999 and near[0, 2] < 0.999


def test_the_code_of_the_page_compares(saved: Path, picture: Path) -> None:
    near = run_code(ROOT / "docs/hub.md", "def like")["like"](saved, str(picture))
    assert near.shape == (2, 2) and near[0, 0] > 0.999 > near[0, 1]


def test_a_foreign_module_needs_a_word_of_trust(saved: Path) -> None:
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        SentenceTransformer(str(saved), device="cpu")
    assert not list(saved.rglob("*.py"))
    assert json.loads((saved / "modules.json").read_text()) == MODULES
    assert MODULES[0]["type"] == f"{ItemModule.__module__}.{ItemModule.__name__}"


def test_what_sentence_transformers_saves_is_a_model_of_ours(saved: Path, tmp_path: Path, tiny_items) -> None:
    sentence_transformer(saved).save(str(tmp_path / "again"))
    again = ItemEmbedder.load(tmp_path / "again")
    np.testing.assert_array_equal(again.encode(tiny_items), ItemEmbedder.load(saved).encode(tiny_items))
    assert again.card == read_card(saved) and "| connector | tgq |" in again.card
    loaded = SentenceTransformer(str(tmp_path / "again"), trust_remote_code=True, device="cpu")
    np.testing.assert_allclose(loaded.encode(tiny_items), again.encode(tiny_items), atol=1e-6)


def test_what_is_no_item_is_refused(saved: Path, picture: Path) -> None:
    with pytest.raises(TgqError, match="an item has no 'titel'; did you mean 'title'"):
        item_of({"titel": "red shirt"})
    with pytest.raises(TgqError, match="text is the title; give one of the two"):
        item_of({"text": "red shirt", "title": "blue shirt"})
    with pytest.raises(TgqError, match="got int"):
        item_of(3)
    assert item_of({"title": "red"}) == Item(title="red")
    with pytest.raises(TgqError, match="this model has its own prompt"):
        sentence_transformer(saved).encode("red shirt", prompt="query: ")
