"""The visual tokens learn by themselves: beside the language model, and before it is asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from short_runs import SETTINGS, StopError, rows_of, run, weights_of

from tgqformer.connectors import CONNECTORS
from tgqformer.errors import TgqError
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.training.batches import PairBatch
from tgqformer.training.checkpoint import drop_checkpoints
from tgqformer.training.objectives import PairObjective, VisualLoss, VisualObjective
from tgqformer.training.settings import TrainingSettings

torch.set_num_threads(1)


def test_the_visual_tokens_learn_by_themselves_too(make_model, toy, sampler, tmp_path):
    settings = replace(SETTINGS, steps=12, drop_picture=0.0, drop_text=0.0, redundancy=0.0, validate_every=0)
    plain, seen = make_model("mlp"), make_model("mlp")
    run(plain, toy, sampler, settings, tmp_path / "plain")
    run(seen, toy, sampler, replace(settings, visual_loss=0.5), tmp_path / "seen")
    assert not torch.equal(plain.connector.linear_1.weight, seen.connector.linear_1.weight)
    assert rows_of(tmp_path / "seen")[0]["loss"] > rows_of(tmp_path / "plain")[0]["loss"]
    torch.manual_seed(0)
    alone = VisualLoss(4, 8, SETTINGS.temperature)
    tokens, masked = torch.randn(6, 4, 8), torch.eye(3, dtype=torch.bool)
    batch = PairBatch(toy.batch(np.arange(6)), masked)
    vectors = torch.nn.functional.normalize(alone.head(tokens), dim=-1)
    expected = alone.loss(vectors[:3], vectors[3:], masked)
    torch.testing.assert_close(alone(tokens, batch), expected)
    batch.items.has_picture[4] = (
        False  # the second pair has lost a picture: a negative for the others, no pair of its own
    )
    counted = torch.tensor([True, False, True])
    expected = alone.loss(vectors[:3], vectors[3:], masked, counted=counted)
    torch.testing.assert_close(alone(tokens, batch), expected)
    text = make_model("none")
    assert VisualLoss.wanted(text, replace(SETTINGS, visual_loss=0.5)) is None  # no tokens to learn by


def test_a_width_that_the_model_does_not_have_is_refused(make_model):
    model = make_model()
    PairObjective(model, replace(SETTINGS, matryoshka=(4, 16)))
    assert model.cuts == (4, 16)  # what the saved model says
    with pytest.raises(TgqError, match="matryoshka: 32 is more than the 16 dimensions that the model learns"):
        PairObjective(make_model(), replace(SETTINGS, matryoshka=(4, 32)))


def test_the_connector_learns_alone_first(make_model, toy, sampler, tmp_path):
    settings = replace(SETTINGS, visual_steps=24, visual_batch=12, alignment_lr=0.5, validate_every=0)
    model = make_model()
    model.alignment.requires_grad_(True).log_temperature.requires_grad_(False)
    before, at_start = weights_of(model), {}

    def first_batch(model: ItemEmbedder) -> None:
        at_start.update(weights_of(model))
        raise StopError

    with pytest.raises(StopError), pytest.MonkeyPatch.context() as patch:
        patch.setattr(PairObjective, "forward", lambda self, _: first_batch(self.model))
        run(model, toy, sampler, settings, tmp_path)
    moved = {name for name, value in at_start.items() if not torch.equal(value, before[name])}
    stage = VisualObjective(model, settings, VisualLoss.wanted(model, settings))
    own = {name for name, weight in stage.named_parameters() if weight.requires_grad and not name.startswith("visual.")}
    assert moved == own and any(name.startswith("alignment.") for name in own)
    read = {name.split(".")[0] for name, _ in model.named_buffers()} | {"connector", "alignment"}
    assert read - {"language"} <= {name for name, _ in stage.named_children()}  # all of it moves to the accelerator
    rows = rows_of(tmp_path / "visual")
    assert len(rows) == 24 and rows[1]["lr"] == settings.lr and rows_of(tmp_path) == []
    first, last = (np.mean([row["loss"] for row in part]) for part in (rows[:6], rows[-6:]))
    assert last < first and sampler.batch == 8

    again = make_model()
    again.alignment.requires_grad_(True).log_temperature.requires_grad_(False)
    run(again, toy, sampler, settings, tmp_path)  # the first stage is taken from its checkpoint
    whole = make_model()
    whole.alignment.requires_grad_(True).log_temperature.requires_grad_(False)
    run(whole, toy, sampler, settings, tmp_path / "whole")
    expected = weights_of(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights_of(again).items())
    drop_checkpoints(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "visual", "whole"]
    assert [path.name for path in (tmp_path / "visual").iterdir()] == ["log.jsonl"]


def test_every_connector_with_tokens_learns_alone(make_model, toy, sampler, tmp_path):
    settings = replace(SETTINGS, steps=3, visual_steps=8, validate_every=0, checkpoint_every=0, drop_text=0.0)
    for name in sorted(name for name, connector in CONNECTORS.items() if connector.learns):
        run(make_model(name), toy, sampler, settings, tmp_path / name)
        assert (tmp_path / name / "visual").exists() == (name != "none")


def test_titles_are_hidden_and_swapped_while_the_connector_learns_alone(make_model, toy, sampler, tmp_path):
    def learned(**settings: float) -> tuple[torch.Tensor, list[float]]:
        model, folder = make_model(), tmp_path / str(settings)
        told = replace(SETTINGS, steps=3, visual_steps=5, visual_batch=16, validate_every=0, **settings)
        run(model, toy, sampler, told, folder)
        return model.connector.anchors.latents.detach(), [row["loss"] for row in rows_of(folder / "visual")]

    plain, same = learned(drop_text=0.0), learned(drop_text=0.3)
    assert plain[1] == same[1]  # the first stage has shares of its own
    assert learned(visual_wrong_text=0.5)[1] != plain[1] != learned(visual_drop_text=0.5)[1]
    with pytest.raises(ValueError, match="visual_drop_text together"):
        replace(SETTINGS, visual_steps=1, drop_picture=0.5, visual_drop_text=0.6)
    with pytest.raises(ValueError, match=r"visual_batch \(2\) must hold a group \(4\)"):
        replace(SETTINGS, visual_steps=1, visual_batch=2)
    few = TrainingSettings(batch=200, group=100).resolved(500).visual_stage()
    assert (few.batch, few.steps, few.warmup) == (200, 8, 2)  # whole groups; three times through the pairs
    off = TrainingSettings(visual_steps=0, batch=300, group=300, drop_picture=1.0, drop_text=0.0)
    assert off.visual_batch == 256  # not asked for, so not looked at
