"""The picture's own word: what it sees, what is fused into it, and that training weighs it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tgqformer.connectors import ConnectorWidths
from tgqformer.errors import TgqError
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.picture_word import LateFusion
from tgqformer.training.batches import PairBatch
from tgqformer.training.objectives import PairObjective
from tgqformer.training.settings import TrainingSettings

torch.set_num_threads(1)
LANGUAGES = ["bert", "roberta", "llama", "qwen"]


@torch.inference_mode()
def both(model, items):
    out = model(model.features(items))
    return out.embedding, out.picture


@pytest.mark.parametrize("lm", LANGUAGES)
def test_the_picture_is_embedded_without_its_text(build, tiny_items, lm):
    model = build("notellm2", lm=lm)
    items = tiny_items[:3]
    renamed = [replace(item, title="green bag of acme", brand=None) for item in items]
    item, picture = both(model, items)
    other_item, same_picture = both(model, renamed)
    assert picture.shape == item.shape and torch.allclose(picture.norm(dim=-1), torch.ones(3), atol=1e-5)
    assert torch.allclose(picture, same_picture, atol=1e-5)
    assert not torch.allclose(item, other_item, atol=1e-3)
    swapped = [replace(items[0], pictures=items[1].pictures)]
    assert not torch.allclose(both(model, swapped)[1], picture[:1], atol=1e-3)


@pytest.mark.parametrize("lm", ["bert", "llama"])
def test_an_item_without_picture_has_only_its_own_word(build, tiny_items, lm):
    model = build("notellm2", lm=lm)
    item, picture = both(model, tiny_items)
    for n, one in enumerate(tiny_items):
        assert torch.equal(item[n], picture[n]) is (not one.pictures)


@pytest.mark.parametrize("lm", ["bert", "llama"])
def test_it_is_the_state_before_the_mark(build, tiny_items, lm):
    """Worked out by hand from the body alone: the prefix without mark and text, last state or mean."""
    model = build("notellm2", lm=lm)
    head, language = model.picture_head, model.language
    with torch.inference_mode():
        batch = model.features(tiny_items[:1])
        out = model(batch)
        visual = model.to_language(out.connector.tokens)
        asked = language.encode(["red shirt of"], end=False).tokens
        alone = torch.cat([visual, asked], 1)
        positions = torch.arange(alone.shape[1])[None] + language.first_position
        states = language.body(
            inputs_embeds=alone, attention_mask=torch.ones(alone.shape[:2]).long(), position_ids=positions
        ).last_hidden_state
        h = states.mean(1) if lm == "bert" else states[:, -1]
        fused = head.fusion(h, batch.vector.float(), batch.has_picture)
        wanted = torch.nn.functional.normalize(model.projection(fused), dim=-1)
    assert torch.allclose(out.picture, wanted, atol=1e-5)


def test_the_prompt_for_the_picture_has_no_end_token(build):
    language = build("notellm2", lm="llama").language
    assert language.encode(["red shirt of"], end=False).tokens.shape[1] == 3
    assert language.encode(["red shirt of"]).tokens.shape[1] == 4


def test_late_fusion_by_hand():
    fusion = LateFusion(2, 2)
    with torch.no_grad():
        fusion.project.weight.copy_(torch.eye(2))
        fusion.project.bias.zero_()
        fusion.gate.weight.zero_()
        fusion.gate.bias.copy_(torch.tensor([0.0, 20.0]))
    h, vector = torch.tensor([[1.0, 4.0], [1.0, 4.0]]), torch.tensor([[3.0, 1.0], [3.0, 1.0]])
    found = fusion(h, vector, torch.tensor([True, False]))  # normalised, the vector is (1, −1)
    assert torch.allclose(found, torch.tensor([[0.5 * 1 + 0.5 * 1, 4.0], [1.0, 4.0]]), atol=1e-4)


def test_training_weighs_item_and_picture_nine_to_one(build, tiny_items):
    model = build("notellm2")
    batch = model.features(tiny_items[:2] + tiny_items[8:10])
    objective = PairObjective(model, TrainingSettings(temperature=0.5))
    none = torch.zeros(2, 2, dtype=torch.bool)
    with torch.inference_mode():
        out = model(batch)
        item, picture = (objective.loss(*side.chunk(2), none) for side in (out.embedding, out.picture))
        assert torch.allclose(objective(PairBatch(batch, none))["pairs"], 0.9 * item + 0.1 * picture)
    assert abs(item - picture) > 1e-3 and model.picture_weight == 0.1


def test_without_fusion_the_vector_is_not_read(build, tiny_items, tiny_encoders):
    model = build("notellm2")
    plain = ItemEmbedder("notellm2", {"dim": 8, "heads": 2, "fusion": False}, tiny_encoders.widths, model.language)
    batch = model.features(tiny_items[:2])
    loud = replace(batch, vector=batch.vector + torch.randn_like(batch.vector))
    with torch.inference_mode():
        assert torch.equal(plain.eval()(batch).embedding, plain(loud).embedding)
        assert not torch.allclose(model(batch).embedding, model(loud).embedding)


def test_it_is_saved_with_the_model(build, tiny_items, tmp_path):
    model = build("notellm2", lm="llama")
    model.save(tmp_path / "model")
    loaded = ItemEmbedder.load(tmp_path / "model")
    for found, wanted in zip(both(loaded, tiny_items), both(model, tiny_items), strict=True):
        assert np.allclose(found, wanted, atol=1e-5)


def test_it_needs_a_language_model():
    with pytest.raises(TgqError, match="asks a language model for the picture's word"):
        ItemEmbedder("notellm2", {}, ConnectorWidths(4, 4, 4, (2, 2)), None)
