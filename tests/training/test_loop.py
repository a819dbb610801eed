"""The training loop: it learns, stops and resumes, and says what went wrong."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from short_runs import SETTINGS, StopError, rows_of, run, weights_of

from tgqformer.connectors import CONNECTORS
from tgqformer.errors import TgqError
from tgqformer.experiments.bench.cell import validation_of
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.training import loop
from tgqformer.training.objectives import Objective
from tgqformer.training.settings import AlignmentSettings, TrainingSettings

torch.set_num_threads(1)


def validation(dies_at: int | None = None):
    """Score a model by its embeddings; rises and falls; may die at its n-th call."""
    calls = [0]

    def score(model: ItemEmbedder) -> tuple[float, float]:
        assert not model.training
        calls[0] += 1
        if calls[0] == dies_at:
            raise StopError
        return float((model.projection.weight.detach().double().sum() * 1e4) % 1), 0.05

    return score


def test_training_lowers_the_loss_and_leaves_the_frozen_alone(make_model, toy, sampler, tmp_path):
    model = make_model()
    before = weights_of(model)
    settings = replace(SETTINGS, steps=60, validate_every=0, checkpoint_every=0, redundancy=0.0)
    at = run(model, toy, sampler, settings, tmp_path)
    rows = rows_of(tmp_path)
    first, last = (np.mean([row["loss"] for row in part]) for part in (rows[:10], rows[-10:]))
    assert at.step == len(rows) == 60 and last < 0.6 * first
    assert not (tmp_path / "checkpoint").exists() and not model.training
    moved = {name for name, value in weights_of(model).items() if not torch.equal(value, before[name])}
    assert moved == set(model.trainable())


@pytest.mark.parametrize("death", ["at a checkpoint", "between checkpoints", "between the renames of a checkpoint"])
def test_a_resumed_training_is_an_unbroken_one_bit_for_bit(make_model, toy, sampler, tmp_path, death, monkeypatch):
    unbroken = make_model()
    whole = run(unbroken, toy, sampler, SETTINGS, tmp_path / "whole", validation())

    folder, first = tmp_path / "broken", make_model()
    if death == "at a checkpoint":
        draw = sampler.batch_at

        def dying(step: int):
            if step == 3:
                raise StopError
            return draw(step)

        monkeypatch.setattr(sampler, "batch_at", dying)
    with pytest.raises(StopError):
        run(first, toy, sampler, SETTINGS, folder, validation(dies_at=4))  # at step 8, after the checkpoint at 6
    monkeypatch.undo()
    if death == "between the renames of a checkpoint":
        (folder / "checkpoint").rename(folder / ".checkpoint.12345678.old")
        (folder / ".checkpoint.12345678.tmp").mkdir()
    resumed = make_model()
    with torch.no_grad():
        for weight in resumed.trainable().values():
            weight.add_(1.0)  # all that counts is in the checkpoint
    torch.rand(7)  # and the state of the generator does not
    again = run(resumed, toy, sampler, SETTINGS, folder, validation())
    assert vars(again) == vars(whole)
    expected = weights_of(unbroken)
    assert all(torch.equal(value, expected[name]) for name, value in weights_of(resumed).items())
    assert rows_of(folder) == rows_of(tmp_path / "whole")
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_a_memory_of_negatives_and_wrong_texts_resume_bit_for_bit(make_model, toy, sampler, tmp_path):
    settings = replace(SETTINGS, memory=20, wrong_text=0.3, matryoshka=(4,), alignment_lr=0.5)
    unbroken, broken, resumed = make_model(), make_model(), make_model()
    for model in (unbroken, broken, resumed):
        model.alignment.requires_grad_(True).log_temperature.requires_grad_(False)
    run(unbroken, toy, sampler, settings, tmp_path / "whole", validation())
    with pytest.raises(StopError):
        run(broken, toy, sampler, settings, tmp_path / "broken", validation(dies_at=4))
    run(resumed, toy, sampler, settings, tmp_path / "broken", validation())
    expected, fresh = weights_of(unbroken), weights_of(make_model())
    assert rows_of(tmp_path / "broken") == rows_of(tmp_path / "whole")
    assert [name for name, value in weights_of(resumed).items() if not torch.equal(value, expected[name])] == []
    learned = [name for name in expected if name.startswith("alignment.") and "temperature" not in name]
    assert learned and not [name for name in learned if torch.equal(expected[name], fresh[name])]
    without = make_model()
    run(without, toy, sampler, replace(SETTINGS, matryoshka=(4,)), tmp_path / "without", validation())
    assert rows_of(tmp_path / "without")[5]["loss"] < rows_of(tmp_path / "whole")[5]["loss"]  # more negatives


def test_augmentation_asks_for_other_noise(make_model, toy, sampler, tmp_path, monkeypatch):
    asked, batch = [], toy.batch

    def watched(positions: np.ndarray, *, noised: np.ndarray | None = None):
        asked.append(noised)
        return batch(positions)

    monkeypatch.setattr(toy, "batch", watched)
    run(make_model(), toy, sampler, replace(SETTINGS, augment=0.5), tmp_path / "half")
    shares = [noised.mean() for noised in asked if noised is not None]
    assert len(shares) == 9 and 0.3 < np.mean(shares) < 0.7
    asked.clear()
    run(make_model(), toy, sampler, SETTINGS, tmp_path / "none")
    assert all(noised is None for noised in asked)


def test_two_noisings_of_a_query_are_a_pair_by_hand(make_model, toy, sampler):
    settings = replace(SETTINGS, two_views=0.5, redundancy=0.0, drop_picture=0.0, drop_text=0.0)
    model = make_model("mlp")
    objective = Objective(model, settings).eval()
    queries, positives = np.array([0, 1, 4]), np.array([2, 3, 5])
    positions, noised = loop._look_twice(np.r_[queries, positives], np.array([True, False, False] * 2))
    assert positions.tolist() == [0, 1, 4, 2, 3, 5, 0, 1, 4]
    assert noised.tolist() == [True, False, False] * 2 + [False, True, True]
    batch, second = toy.batch(positions), loop._second_look(toy, sampler, queries, torch.device("cpu"))
    assert second.false_negatives.tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    assert second.differs.tolist() == [True, False, True]
    free = torch.from_numpy(sampler.false_negatives(queries, positives))
    with torch.inference_mode():
        found, _, both = objective(batch, free, second=second)
        e = model(batch).embedding
    assert both.shape == (6, model.dim)
    logits = e[:3] @ e[6:].T / settings.temperature
    logits[0, 1] = logits[1, 0] = -torch.inf  # a co-click pair: no negatives of each other
    pairs = -(logits.log_softmax(1).diagonal() + logits.T.log_softmax(1).diagonal()) / 2
    expected = objective.loss(e[:3], e[3:6], free) + 0.5 * (pairs[0] + pairs[2]) / 2  # query 1 looks alike in both
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)


CONNECTORS_AND_NONE = ["none", "mean", "linear", "mlp", "qformer", "text-qformer", "resampler", "c-abstractor",
                       "notellm2", "tgq"]  # fmt: skip


@pytest.mark.parametrize("connector", CONNECTORS_AND_NONE)
def test_two_views_reach_every_connector(make_model, toy, sampler, tmp_path, connector, monkeypatch):
    assert set(CONNECTORS_AND_NONE) == set(CONNECTORS)
    asked, batch = [], toy.batch

    def watched(positions: np.ndarray, *, noised: np.ndarray | None = None):
        asked.append((positions, noised))
        return batch(positions)

    monkeypatch.setattr(toy, "batch", watched)
    settings = replace(SETTINGS, steps=3, two_views=1.0, memory=8, wrong_text=0.3, redundancy=0.0)
    losses = {}
    for weight in (1.0, 0.0):
        model = make_model(connector, **({"heads": 2} if connector in ("resampler", "text-qformer") else {}))
        run(model, toy, sampler, replace(settings, two_views=weight), tmp_path / str(weight))
        losses[weight] = rows_of(tmp_path / str(weight))[0]["loss"]
    looks = [(positions, noised) for positions, noised in asked if len(positions) == 24]
    assert len(looks) == 3 and all((positions[16:] == positions[:8]).all() for positions, _ in looks)
    assert all(noised[16:].all() and not noised[:16].any() for _, noised in looks)
    assert math.isfinite(losses[1.0]) and losses[1.0] != losses[0.0]


def test_what_is_shown_twice_is_shown_whole(make_model, toy):
    batch = toy.batch(np.arange(24))
    everything = replace(SETTINGS, drop_picture=0.5, drop_text=0.5, wrong_text=1.0)
    found = loop._drop_modalities(make_model(), batch, toy.empty(), everything, whole=8)
    assert not (found.has_picture & found.metadata_mask.any(1))[:16].any()
    assert found.has_picture[16:].all() and torch.equal(found.metadata[16:], batch.metadata[16:])


def test_a_finished_training_is_not_repeated(make_model, toy, sampler, tmp_path):
    model, again = make_model(), make_model()
    run(model, toy, sampler, SETTINGS, tmp_path, validation())
    log = (tmp_path / "log.jsonl").read_text()
    run(again, toy, sampler, SETTINGS, tmp_path, validation(dies_at=1))
    expected = weights_of(model)
    assert all(torch.equal(value, expected[name]) for name, value in weights_of(again).items())
    assert (tmp_path / "log.jsonl").read_text() == log


def test_the_latest_weights_that_are_not_clearly_worse_are_kept_and_patience_ends(make_model, toy, sampler, tmp_path):
    scores, seen = iter([(0.3, 0.05), (0.5, 0.05), (0.42, 0.05), (0.35, 0.05), (0.9, 0.05)]), []

    def validate(model: ItemEmbedder) -> tuple[float, float]:
        seen.append(weights_of(model))
        return next(scores)

    model = make_model()
    at = run(model, toy, sampler, replace(SETTINGS, steps=20, patience=2), tmp_path, validate)
    assert (at.best, at.best_step, at.step, at.stopped) == (0.5, 6, 8, True)
    assert all(torch.equal(value, seen[2][name]) for name, value in weights_of(model).items())
    found = [(row["val_hit@10"], row["kept_step"]) for row in rows_of(tmp_path) if "val_hit@10" in row]
    assert found == [(0.3, 2), (0.5, 4), (0.42, 6), (0.35, 6)] and validation_of(tmp_path) == 0.42
    torch.manual_seed(0)
    resumed = make_model()
    again = run(resumed, toy, sampler, replace(SETTINGS, steps=20, patience=2), tmp_path, lambda _: (0.2, 0.05))
    assert vars(again) == vars(at)  # resumed from step 6, it stops at 8 again
    assert all(torch.equal(value, seen[2][name]) for name, value in weights_of(resumed).items())


def test_without_validation_the_last_weights_stay(make_model, toy, sampler, tmp_path):
    model = make_model()
    assert run(model, toy, sampler, SETTINGS, tmp_path).best == -1
    assert "val_hit@10" not in rows_of(tmp_path)[-1]


def test_a_loss_that_is_not_finite_stops_with_an_explanation(make_model, toy, sampler, tmp_path):
    toy.whole.vector[:] = torch.nan
    with pytest.raises(TgqError, match=r"the loss is nan at step 1 .*all weights are still finite.*Lower training\.lr"):
        run(make_model(), toy, sampler, SETTINGS, tmp_path)
    model = make_model("mlp")
    with torch.no_grad():
        model.connector.linear_1.weight[0, 0] = torch.inf
    with pytest.raises(TgqError, match=r"no longer finite: model\.connector\.linear_1\.weight.*broken.checkpoint"):
        run(model, toy, sampler, SETTINGS, tmp_path / "broken")


def test_a_gradient_that_is_not_finite_never_reaches_a_checkpoint(make_model, toy, sampler, tmp_path):
    model = make_model("mlp")
    model.projection.weight.register_hook(lambda grad: grad * torch.nan if len(rows_of(tmp_path)) == 4 else grad)
    with pytest.raises(TgqError, match="norm of the gradient is nan at step 5"):
        run(model, toy, sampler, replace(SETTINGS, checkpoint_every=1), tmp_path)
    assert json.loads((tmp_path / "checkpoint" / "state.json").read_text())["step"] == 4
    assert all(weight.isfinite().all() for weight in model.parameters())


def test_the_learning_rate_warms_up_and_falls_as_a_cosine():
    settings = TrainingSettings(steps=110, warmup=10, lr=2.0, floor=0.1)
    rates = [loop.learning_rate(step, settings) for step in range(111)]
    assert rates[:10] == pytest.approx([0.2 * n for n in range(1, 11)])
    assert rates[10] == 2.0 and rates[60] == pytest.approx(2 * (0.1 + 0.9 / 2)) and rates[110] == pytest.approx(0.2)
    assert rates[35] == pytest.approx(2 * (0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2))
    assert all(one > other for one, other in pairwise(rates[10:]))
    assert loop.learning_rate(0, TrainingSettings(warmup=0)) == 1e-3


def test_beta_has_a_rate_of_its_own_and_vectors_no_decay(make_model):
    objective = Objective(make_model(), SETTINGS)
    weights = {name: weight for name, weight in objective.named_parameters() if weight.requires_grad}
    optimizer = loop._optimizer(weights, SETTINGS)
    loop._set_lr(optimizer, 1, SETTINGS)
    rate = {id(weight): group for group in optimizer.param_groups for weight in group["params"]}
    beta = [name for name in weights if name.endswith(".beta")]
    assert beta == ["model.connector.agreement_bias.beta"] and len(rate) == len(weights)
    for name, weight in weights.items():
        group = rate[id(weight)]
        assert group["lr"] == pytest.approx(SETTINGS.lr * (5 if name in beta else 1))
        assert group["weight_decay"] == (SETTINGS.weight_decay if weight.ndim > 1 else 0)


def test_the_gradient_is_clipped(make_model, toy, sampler, tmp_path):
    moved = {}
    for clip in (1.0, 1e-13):
        model = make_model("mlp")
        before = weights_of(model)
        settings = replace(SETTINGS, steps=3, warmup=1, clip=clip, weight_decay=0.0, checkpoint_every=0)
        run(model, toy, sampler, settings, tmp_path / str(clip))
        moved[clip] = max(float((value - before[name]).abs().max()) for name, value in weights_of(model).items())
        assert all(
            row["gradient_norm"] > 1e-3 for row in rows_of(tmp_path / str(clip))
        )  # as it was before the clipping
    assert moved[1e-13] < 1e-6 < 1e-3 < moved[1.0]


def test_modalities_are_dropped_where_the_other_remains(make_model, toy):
    batch = toy.batch(np.arange(48).repeat(40))
    half = torch.arange(len(batch)) % 4
    batch = replace(batch, has_picture=half != 0, metadata_mask=batch.metadata_mask & (half != 1)[:, None])
    torch.manual_seed(0)
    found = loop._drop_modalities(make_model(), batch, toy.empty(), replace(SETTINGS, drop_picture=0.3, drop_text=0.2))
    has_text, had_text = found.metadata_mask.any(1), batch.metadata_mask.any(1)
    assert torch.equal(found.has_picture[half < 2], batch.has_picture[half < 2])
    assert torch.equal(has_text[half < 2], had_text[half < 2])
    assert (found.has_picture | has_text)[half > 1].all()
    assert float(found.has_picture[half > 1].float().mean()) == pytest.approx(0.7, abs=0.05)
    assert float(has_text[half > 1].float().mean()) == pytest.approx(0.8, abs=0.05)
    silent = (half > 1) & ~has_text
    assert (found.states_mask[silent].sum(1) == 1).all() and (found.metadata_vector[silent] == 0).all()
    assert torch.equal(found.states[~silent], batch.states[~silent])


@pytest.mark.parametrize(("connector", "language"), [("none", True), ("mlp", False)])
def test_a_model_that_reads_one_modality_keeps_it(make_model, toy, connector, language):
    batch = toy.batch(np.arange(48))
    everything = replace(SETTINGS, drop_picture=0.5, drop_text=0.5)
    assert loop._drop_modalities(make_model(connector, language), batch, toy.empty(), everything) is batch


def test_bfloat16_trains_too_in_a_process_that_trained_float32(make_model, toy, sampler, tmp_path):
    run(make_model("mlp"), toy, sampler, replace(SETTINGS, steps=3), tmp_path / "float32")
    run(make_model("mlp"), toy, sampler, replace(SETTINGS, steps=3, precision="bfloat16"), tmp_path / "bfloat16")
    full, half = (rows_of(tmp_path / name)[0]["loss"] for name in ("float32", "bfloat16"))
    assert full != half and full == pytest.approx(half, rel=0.05)


def test_tensorboard_gets_every_row_once(make_model, toy, sampler, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    settings = replace(SETTINGS, tensorboard=True)
    with pytest.raises(StopError):
        run(make_model("mlp"), toy, sampler, settings, tmp_path, validation(dies_at=4))
    run(make_model("mlp"), toy, sampler, settings, tmp_path, validation())
    found = events.EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    rows = rows_of(tmp_path)
    assert set(found.Tags()["scalars"]) == {*rows[0], "val_hit@10", "val_error", "kept_step"} - {"step"}
    written = [(event.step, event.value) for event in found.Scalars("loss")]
    assert written == [(row["step"], pytest.approx(row["loss"], rel=1e-6)) for row in rows]


def test_tensorboard_that_is_not_there_is_named(make_model, toy, sampler, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(TgqError, match=r"pip install 'tgqformer\[tensorboard\]'"):
        run(make_model("mlp"), toy, sampler, replace(SETTINGS, tensorboard=True), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 10}, r"batch \(10\) must be a multiple of training.group \(4\)"), ({"warmup": 9}, "must be below"),
        ({"group": 0}, "training.group must be above 0"), ({"lr": float("nan")}, "training.lr must be above 0"),
        ({"steps": 0}, "training.steps"), ({"drop_text": 1.5}, "training.drop_text must be from 0 to 1"),
        ({"drop_text": 0.9}, "together must not be above 1"), ({"patience": -1}, "training.patience must be 0 or more"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, **change)


@pytest.mark.parametrize("change", [{"steps": 0}, {"batch": 1}, {"noised": 2.0}, {"lr": -1.0}])
def test_alignment_settings_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match=f"alignment.{next(iter(change))}"):
        AlignmentSettings(**change)


def test_a_checkpoint_holds_no_pickle(make_model, toy, sampler, tmp_path):
    run(make_model("mlp"), toy, sampler, SETTINGS, tmp_path, validation())
    names = {path.name for path in (tmp_path / "checkpoint").iterdir()}
    kinds = {"weights.safetensors", "optimizer.safetensors", "best.safetensors", "memory.safetensors"}
    assert names == {*kinds, "state.json", "tgq.json"}
