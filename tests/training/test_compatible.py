"""Vectors that stay comparable with those of an earlier model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from short_runs import SETTINGS, rows_of
from torch.nn import functional as F

from tgqformer.contrastive import info_nce
from tgqformer.errors import TgqError
from tgqformer.training.embedder import train_embedder
from tgqformer.training.losses import CompatibleLoss, PairLoss
from tgqformer.training.settings import TrainingSettings, check_afresh


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_the_loss_asks_each_side_among_old_vectors():
    queries, positives, old_queries, old_positives = (drawn(seed, 5, 8) for seed in range(4))
    nothing = torch.zeros(5, 5, dtype=torch.bool)
    pairs = PairLoss(0.1)
    found = CompatibleLoss(pairs)((queries, positives), (old_queries, old_positives), nothing)
    among_old = info_nce(queries @ old_positives.T / 0.1, nothing)
    among_new = info_nce(old_queries @ positives.T / 0.1, nothing)
    torch.testing.assert_close(found, (among_old + among_new) / 2)
    same = CompatibleLoss(pairs)((queries, positives), (queries, positives), nothing)
    torch.testing.assert_close(same, pairs(queries, positives, nothing))


def test_it_wraps_a_loss_at_several_widths():
    queries, positives = drawn(0, 5, 8), drawn(1, 5, 8)
    nothing = torch.zeros(5, 5, dtype=torch.bool)
    narrow = PairLoss(0.1, (4,))
    found = CompatibleLoss(narrow)((queries, positives), (queries, positives), nothing)
    torch.testing.assert_close(found, narrow(queries, positives, nothing))
    assert not torch.allclose(found, PairLoss(0.1)(queries, positives, nothing))


def test_a_trained_model_stays_near_the_vectors_that_it_is_to_match(make_model, toy, sampler, tmp_path):
    everything = toy.batch(np.arange(48))

    def vectors(model) -> torch.Tensor:
        with torch.inference_mode():
            return model.eval()(everything).embedding

    old = drawn(9, 48, vectors(make_model()).shape[1])  # of another model altogether
    settings = replace(SETTINGS, steps=60, lr=1e-2, drop_picture=0.0, drop_text=0.0, validate_every=0)
    near = {}
    for weight in (0.0, 3.0):
        model = make_model()
        how = replace(settings, from_="run", compatible=weight)
        given = old.numpy() if weight else None
        train_embedder(model, toy, sampler, how, tmp_path / str(weight), seed=1, old=given, shown=False)
        a, b = torch.from_numpy(sampler.a), torch.from_numpy(sampler.b)
        scores = vectors(model) @ old.T
        near[weight] = float(scores[a, b].mean() - scores.mean())
    assert near[3.0] > near[0.0] + 0.05, "what is clicked together is nearer among the old vectors"
    logged = [rows_of(tmp_path / name)[-1] for name in ("0.0", "3.0")]
    assert "compatible" not in logged[0] and np.isfinite(logged[1]["compatible"])


def test_only_a_run_goes_on_from_earlier_weights():
    check_afresh(TrainingSettings(), "bench")
    with pytest.raises(TgqError, match="every model of a bench starts afresh"):
        check_afresh(TrainingSettings(from_="run"), "bench")
    assert TrainingSettings(from_="run").continued().visual_steps == 0
    assert TrainingSettings(from_="run", visual_steps=7).continued().visual_steps == 7
