"""The whole model on tiny random encoders and language models."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tgqformer.catalog.item import Item, Picture
from tgqformer.connectors import ConnectorWidths
from tgqformer.encoders.alignment import JointAlignment
from tgqformer.errors import TgqError
from tgqformer.model.base import truncate
from tgqformer.model.batch import ItemBatch
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.encoding import make_encoders
from tgqformer.model.prompt import Prompt
from tgqformer.model.version import version_of
from tgqformer.stages import NOTE

torch.set_num_threads(1)
MODELS = ["text only", "mlp", "picture only", "qformer", "mean", "text-qformer", "resampler", "c-abstractor",
          "notellm2", "tgq", "tgq, light"]  # fmt: skip
LANGUAGES = ["bert", "llama"]


def at(batch: ItemBatch, rows: list[int]) -> ItemBatch:
    return ItemBatch(**{name: value[rows] for name, value in vars(batch).items() if value is not None})


@torch.inference_mode()
def embed(model: ItemEmbedder, batch: ItemBatch) -> torch.Tensor:
    return model(batch).embedding


@pytest.mark.parametrize("lm", LANGUAGES)
@pytest.mark.parametrize("name", MODELS)
def test_whatever_is_missing_the_embedding_is_finite_and_of_unit_length(build, tiny_items, name, lm):
    model = build(name, lm=lm)
    found = embed(model, model.features(tiny_items))  # items 3, 5 and 7 miss picture, text, both
    assert found.shape == (12, model.dim) and found.isfinite().all()
    assert torch.allclose(found.norm(dim=-1), torch.ones(12), atol=1e-5)
    for n in (3, 5, 7):  # a batch of one
        assert torch.allclose(embed(model, model.features([tiny_items[n]]))[0], found[n], atol=1e-5)


@pytest.mark.parametrize("lm", LANGUAGES)
@pytest.mark.parametrize("name", MODELS)
def test_what_is_hidden_cannot_be_seen(build, tiny_items, name, lm):
    model = build(name, lm=lm)
    batch = model.features(tiny_items[:3])
    nothing = model.features([Item("x")])
    bare = model.features([replace(item, pictures=()) for item in tiny_items[:3]])
    hidden = batch.without_pictures(torch.tensor([True, True, True]))
    loud = replace(hidden, visual=hidden.visual + 50, vector=hidden.vector - 50)
    assert torch.allclose(embed(model, hidden), embed(model, bare), atol=1e-5)
    assert torch.allclose(embed(model, loud), embed(model, bare), atol=1e-5)
    wordless = model.features([Item("x", pictures=item.pictures) for item in tiny_items[:3]])
    silent = batch.without_text(torch.tensor([True, True, True]), nothing)
    loud = replace(silent, metadata=silent.metadata + 50, metadata_vector=silent.metadata_vector + 50)
    assert torch.allclose(embed(model, silent), embed(model, wordless), atol=1e-5)
    assert torch.allclose(embed(model, loud), embed(model, wordless), atol=1e-5)
    one = batch.without_text(torch.tensor([False, True, False]), nothing)
    assert torch.allclose(embed(model, one)[[0, 2]], embed(model, batch)[[0, 2]], atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_an_item_does_not_depend_on_its_batch(build, tiny_items, name):
    model = build(name)
    together = embed(model, model.features(tiny_items))
    for n in (0, 5, 6):
        alone = embed(model, model.features([tiny_items[n]]))
        assert torch.allclose(alone[0], together[n], atol=1e-5)
    backwards = embed(model, model.features(tiny_items[::-1]))
    assert torch.allclose(backwards.flip(0), together, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "text only"])
def test_the_picture_counts_and_so_does_the_text(build, tiny_items, name):
    model = build(name)
    item = tiny_items[0]
    other_picture, other_text = replace(item, pictures=tiny_items[1].pictures), replace(item, title="green bag")
    found = embed(model, model.features([item, other_picture, other_text]))
    assert not torch.allclose(found[0], found[1], atol=1e-3)
    assert torch.allclose(found[0], found[2], atol=1e-6) == (name == "picture only")


def test_encode_embeds_raw_items(build, tiny_items):
    model = build("tgq").train()
    whole = model.encode(tiny_items, batch_size=5)
    assert model.training  # as it was
    assert whole.dtype == np.float32 and whole.shape == (12, 16)
    model.eval()
    assert np.allclose(whole, embed(model, model.features(tiny_items)).numpy(), atol=1e-5)
    assert np.allclose(model.encode(item for item in tiny_items), whole, atol=1e-5)
    short = model.encode(tiny_items, truncate_dim=4)
    assert np.allclose(short, whole[:, :4] / np.linalg.norm(whole[:, :4], axis=1, keepdims=True), atol=1e-5)
    assert model.encode([]).shape == (0, 16)


def test_truncation_keeps_within_the_width():
    vectors = torch.nn.functional.normalize(torch.randn(3, 4), dim=-1)
    assert truncate(vectors, None) is vectors and truncate(vectors, 4) is vectors
    for dim in (0, 5, -1):
        with pytest.raises(TgqError, match="the embeddings have 4 dimensions"):
            truncate(vectors, dim)


def test_a_picture_that_cannot_be_read_names_its_item(build, tiny_items):
    broken = Item("the broken one", "red shirt", pictures=(Picture("0" * 32, None, b"no picture"),))
    model = build("mlp").train()
    with pytest.raises(TgqError, match="the picture of item 'the broken one' cannot be read"):
        model.encode([tiny_items[0], broken])
    assert model.training


@pytest.mark.parametrize("lm", LANGUAGES)
@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_embeds_alike(build, tiny_items, tmp_path, name, lm):
    model = build(name, lm=lm, dim=12)
    with torch.no_grad():
        model.token_norm.mean += 0.5
        for weight in model.alignment.parameters() if model.alignment else ():
            weight += 0.05
    model.save(tmp_path / "model")
    loaded = ItemEmbedder.load(tmp_path / "model")
    assert np.allclose(loaded.encode(tiny_items), model.encode(tiny_items), atol=1e-5)
    assert not loaded.training and loaded.dim == 12 and loaded.version != "unsaved"
    assert ItemEmbedder.load(tmp_path / "model").version == loaded.version
    assert not list((tmp_path / "model").rglob("*.bin")) and not list((tmp_path / "model").rglob("*.pt"))


def test_the_version_changes_with_the_weights(build, tmp_path):
    model = build("mlp")
    model.save(tmp_path / "a")
    with torch.no_grad():
        model.projection.weight[0, 0] += 1e-3
    model.save(tmp_path / "b")
    assert ItemEmbedder.load(tmp_path / "a").version != ItemEmbedder.load(tmp_path / "b").version


@pytest.mark.parametrize("lm", LANGUAGES)
def test_a_model_that_was_loaded_and_used_is_saved_as_it_was(build, tiny_items, tmp_path, lm):
    build("tgq", lm=lm).save(tmp_path / "first")
    loaded = ItemEmbedder.load(tmp_path / "first")
    loaded.encode(tiny_items)
    loaded.save(tmp_path / "again")
    assert version_of(tmp_path / "again") == version_of(tmp_path / "first") == loaded.version


def test_the_saved_prompt_is_that_of_the_model(build, tiny_encoders, tmp_path, tiny_items):
    prompt = Prompt(("category",), template="a {metadata}")
    build("mlp", encoders=replace(tiny_encoders, prompt=prompt)).save(tmp_path / "model")
    encoders = ItemEmbedder.load(tmp_path / "model").encoders
    assert encoders is not None and encoders.prompt == prompt


def test_folders_that_are_no_model_are_named(build, tmp_path):
    with pytest.raises(TgqError, match="is not a saved model: no config"):
        ItemEmbedder.load(tmp_path)
    build("mlp").save(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    good = json.loads(config.read_text())
    config.write_text("{")
    with pytest.raises(TgqError, match="is no JSON"):
        ItemEmbedder.load(tmp_path / "model")
    for other, wanted in (
        (4, "has model format 4, this version reads 3; upgrade"),
        (1, "reads 3; train the model again"),
        (None, "holds no model that tgqformer saved; give the folder"),
    ):
        config.write_text(json.dumps({**good, "format": other}))
        with pytest.raises(TgqError, match=wanted):
            ItemEmbedder.load(tmp_path / "model")
    config.write_text(json.dumps({**good, "dim": 5}))
    with pytest.raises(TgqError, match="is not as it was saved"):
        ItemEmbedder.load(tmp_path / "model")
    (tmp_path / "model" / NOTE).unlink()  # what knows how it was saved
    config.write_text(json.dumps({**good, "connector": "qformer", "options": {"dim": 8, "heads": 2}}))
    with pytest.raises(
        TgqError, match=r"damaged: the weights do not fit the config: missing .*connector.queries.* unknown .*linear_1"
    ):
        ItemEmbedder.load(tmp_path / "model")
    config.write_text(json.dumps({**good, "dim": 5}))
    with pytest.raises(TgqError, match=r"is damaged: .*size mismatch"):
        ItemEmbedder.load(tmp_path / "model")
    config.write_text(json.dumps(good))
    (tmp_path / "model" / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(TgqError, match="is damaged"):
        ItemEmbedder.load(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(TgqError, match="is damaged"):
        ItemEmbedder.load(tmp_path / "model")


def test_what_a_model_needs_is_said(tiny_encoders, tiny_items, tmp_path):
    with pytest.raises(TgqError, match="without language model needs a connector"):
        ItemEmbedder("none", {}, tiny_encoders.widths, None)
    with pytest.raises(TgqError, match="did you mean 'qformer'"):
        ItemEmbedder("qfromer", {}, tiny_encoders.widths, None)
    bare = ItemEmbedder("mlp", {}, ConnectorWidths(4, 4, 4, (2, 2)), None)
    with pytest.raises(TgqError, match="embeds features only"):
        bare.encode(tiny_items)
    with pytest.raises(TgqError, match="cannot be saved whole"):
        bare.save(tmp_path / "model")
    with pytest.raises(TgqError, match="share no space"):
        tiny_encoders.alignment()


@pytest.mark.parametrize("name", MODELS)
def test_the_frozen_parts_stay_frozen(build, tiny_items, name):
    model = build(name).train()
    out = model(model.features(tiny_items))
    (out.embedding * torch.randn_like(out.embedding)).sum().backward()
    moved = {key for key, weight in model.named_parameters() if weight.grad is not None}
    assert moved == set(model.trainable())  # every trained weight is read, no other has a gradient
    starts = {key.split(".")[0] for key in moved}
    expected = {"projection", "language", "connector", "to_language"}
    if name == "text only":
        expected = {"projection", "language"}
    elif name == "picture only":
        expected = {"projection", "connector"}
    elif name == "mean":
        expected -= {"connector"}
    elif name == "notellm2":
        expected |= {"picture_head"}
    assert starts == expected
    assert all("lora" in key for key in moved if key.startswith("language."))
    assert not any(key.endswith("key.bias") for key in moved)


def test_the_agreement_guides_only_where_picture_and_text_are(build, tiny_items):
    model = build("tgq")
    with torch.inference_mode():
        out = model(model.features(tiny_items))
    both = torch.tensor([n not in (3, 5, 7) for n in range(12)])
    assert torch.equal(out.agreement != 0, both)
    assert torch.equal((out.agreement_map != 0).any(1), both) and out.agreement_map.shape == (12, 9)
    assert set(out.connector.attention) == set(out.connector.gates) == {"anchored", "exploratory"}
    unguided = build("qformer")
    with torch.inference_mode():
        out = unguided(unguided.features(tiny_items))
    assert out.agreement is None and out.agreement_map is None


def test_a_joint_encoder_brings_its_own_agreement(build, tiny_model, tiny_items, tmp_path):
    exact = {"precision": "float32", "device": "cpu", "levels": (1,)}
    encoders = make_encoders(f"joint:hf:{tiny_model('clip')}", "not read", Prompt(), exact)
    model = build("tgq", encoders=encoders)
    assert isinstance(model.alignment, JointAlignment)
    features = model.features(tiny_items)
    with torch.inference_mode():
        out = model(features)
        picture, text = encoders.space.visual_projection, encoders.space.text_projection  # type: ignore[union-attr]
        wanted = torch.cosine_similarity(picture(features.vector.float()), text(features.metadata_vector.float()))
    assert out.embedding.isfinite().all()
    assert torch.allclose(out.agreement[0], wanted[0], atol=1e-5) and out.agreement[3] == 0
    assert not any(key.startswith("alignment.") for key in model.trainable())
    model.save(tmp_path / "model")
    assert np.allclose(ItemEmbedder.load(tmp_path / "model").encode(tiny_items), model.encode(tiny_items), atol=1e-5)
