"""Models of sentence-transformers as they come: of texts, of texts and pictures apart, of both at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import CLIPModel, Pooling
from tiny_multimodal import CHAT, write_multimodal

from tgqformer import Catalog, Item
from tgqformer.errors import TgqError
from tgqformer.model.peers import NOTHING, load_sentence, load_whole, pictures_without_films


@pytest.fixture(scope="module")
def texts(tiny_model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    part = Transformer(str(tiny_model("bert")))
    folder = tmp_path_factory.mktemp("texts") / "model"
    SentenceTransformer(modules=[part, Pooling(16, "mean")], device="cpu").save(str(folder))
    return folder


@pytest.fixture(scope="module")
def clip(tiny_model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip") / "model"
    SentenceTransformer(modules=[CLIPModel(str(tiny_model("clip")))], device="cpu").save(str(folder))
    return folder


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As Qwen3-VL-Embedding is saved: a Transformer whose inputs are chats, the last token, unit length."""
    place = tmp_path_factory.mktemp("qwen")
    write_multimodal("qwen3_vl", place / "plain")
    with pictures_without_films():
        part = Transformer(str(place / "plain"))
    assert part.processor.chat_template == CHAT and "message" in part.modalities
    model = SentenceTransformer(modules=[part, Pooling(16, "lasttoken"), Normalize()], device="cpu")
    model.save(str(place / "model"))
    return place / "model"


def test_a_model_of_texts_reads_the_metadata_alone(texts: Path, tiny_items: list[Item]) -> None:
    assert not load_whole(f"sentence-transformers:{texts}").sees
    model = load_sentence(texts, precision="float32")
    assert not model.sees and model.dim == 16 and len(model.version) == 16
    own = SentenceTransformer(str(texts), device="cpu")
    wanted = own.encode([model.prompt.metadata(item) or NOTHING for item in tiny_items], normalize_embeddings=True)
    np.testing.assert_allclose(model.encode(tiny_items), wanted, atol=1e-5)


def test_a_model_of_pictures_and_texts_apart_gives_their_mean(clip: Path, tiny_items: list[Item]) -> None:
    model = load_sentence(clip, precision="float32")
    assert model.sees and model.dim == 10
    picture = Image.new("RGB", (30, 20), "red")
    [both], [seen], [read] = (
        model.embed([shown], [text]) for shown, text in ((picture, "red shirt"), (picture, ""), (None, "red shirt"))
    )
    mean = torch.nn.functional.normalize(seen + read, dim=-1)
    torch.testing.assert_close(both, mean)
    assert not torch.allclose(seen, read)
    found = model.encode(tiny_items)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_a_multimodal_model_gets_both_at_once(qwen: Path, tiny_items: list[Item]) -> None:
    model = load_sentence(qwen, precision="float32")
    assert model.sees and model.dim == 16
    red, blue = (Image.new("RGB", (30, 20), colour) for colour in ("red", "blue"))
    found = model.embed([red, blue, red, None], ["red shirt", "red shirt", "", "red shirt"])
    assert len({tuple(row) for row in found.round(decimals=4).tolist()}) == 4
    alone = torch.cat([model.embed([one], ["red shirt"]) for one in (red, blue)])
    torch.testing.assert_close(found[:2], alone, atol=2e-5, rtol=0)
    assert np.isfinite(model.encode(tiny_items)).all()


def test_what_cannot_be_loaded_is_told(texts: Path, tmp_path: Path, build, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TgqError, match="there is no such folder"):
        load_whole("sentence-transformers:nowhere")
    build("mlp").save(tmp_path / "own")
    with pytest.raises(TgqError, match=r"cannot be loaded: .*trust_remote_code"):
        load_sentence(tmp_path / "own")
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(TgqError, match=r"pip install 'tgqformer\[sentence-transformers\]'"):
        load_sentence(texts)


def test_a_whole_catalogue(clip: Path, tiny_catalog: Catalog) -> None:
    assert load_sentence(clip).encode(tiny_catalog, batch_size=5).shape == (12, 10)
