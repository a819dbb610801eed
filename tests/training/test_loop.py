"""The training loop: it learns, stops and resumes, and says what went wrong."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from short_runs import SETTINGS, StopError, rows_of, run, validation, weights_of

from tgqformer.errors import TgqError
from tgqformer.experiments.bench.cell import validation_of
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.training.batches import PairBatches
from tgqformer.training.embedder import optimizer_of, plan_of, seconds_of_training
from tgqformer.training.loop import Objective, Plan, Validation, fit
from tgqformer.training.objectives import PairObjective
from tgqformer.training.schedules import one_cycle, warm_cosine
from tgqformer.training.settings import AlignmentSettings, TrainingSettings

torch.set_num_threads(1)


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


def test_timing_a_training_before_it_changes_nothing_of_it(make_model, toy, sampler, tmp_path):
    settings = replace(SETTINGS, visual_steps=3, visual_loss=0.5)
    alone, timed = make_model(), make_model()
    before = weights_of(timed)
    assert seconds_of_training(timed, toy, sampler, settings, seed=1) > 0
    assert all(torch.equal(value, before[name]) for name, value in weights_of(timed).items())
    assert all(weight.grad is None for weight in timed.parameters())
    run(alone, toy, sampler, settings, tmp_path / "alone", validation())
    run(timed, toy, sampler, settings, tmp_path / "timed", validation())
    assert rows_of(tmp_path / "timed") == rows_of(tmp_path / "alone")
    expected = weights_of(alone)
    assert [name for name, value in weights_of(timed).items() if not torch.equal(value, expected[name])] == []


def test_replaced_texts_and_a_learning_alignment_resume_bit_for_bit(make_model, toy, sampler, tmp_path):
    settings = replace(SETTINGS, wrong_text=0.3, matryoshka=(4,), alignment_lr=0.5)
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


@pytest.mark.parametrize("file", ["weights", "optimizer", "best"])
def test_a_checkpoint_that_is_damaged_or_of_another_model_says_so(make_model, toy, sampler, tmp_path, file):
    run(make_model(), toy, sampler, SETTINGS, tmp_path, validation())
    with pytest.raises(TgqError, match="damaged, or of another model"):
        run(make_model("qformer"), toy, sampler, SETTINGS, tmp_path, validation())
    damaged = tmp_path / "checkpoint" / f"{file}.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(TgqError, match=f"checkpoint {tmp_path / 'checkpoint'} is damaged.*remove it"):
        run(make_model(), toy, sampler, SETTINGS, tmp_path, validation())


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
    again = run(resumed, toy, sampler, replace(SETTINGS, steps=20, patience=2), tmp_path, validation(dies_at=1))
    assert vars(again) == vars(at)  # it had stopped
    assert all(torch.equal(value, seen[2][name]) for name, value in weights_of(resumed).items())


def test_without_validation_the_last_weights_stay(make_model, toy, sampler, tmp_path):
    model = make_model()
    assert run(model, toy, sampler, SETTINGS, tmp_path).best == -1
    assert "val_hit@10" not in rows_of(tmp_path)[-1]


def test_a_loss_that_is_not_finite_stops_with_an_explanation(make_model, toy, sampler, tmp_path):
    toy.whole.vector[:] = torch.nan
    with pytest.raises(
        TgqError, match=r"the loss is nan at step 1 .*all weights are still finite.*Lower training\.lr.*float32"
    ):
        run(make_model(), toy, sampler, SETTINGS, tmp_path)
    model = make_model("mlp")
    with torch.no_grad():
        model.connector.linear_1.weight[0, 0] = torch.inf
    with pytest.raises(TgqError, match=r"no longer finite: model\.connector\.linear_1\.weight.*last checkpoint"):
        run(model, toy, sampler, SETTINGS, tmp_path / "broken")


def test_a_gradient_that_is_not_finite_never_reaches_a_checkpoint(make_model, toy, sampler, tmp_path):
    model = make_model("mlp")
    model.projection.weight.register_hook(lambda grad: grad * torch.nan if len(rows_of(tmp_path)) == 4 else grad)
    with pytest.raises(TgqError, match="norm of the gradient is nan at step 5"):
        run(model, toy, sampler, replace(SETTINGS, checkpoint_every=1), tmp_path)
    assert json.loads((tmp_path / "checkpoint" / "state.json").read_text())["step"] == 4
    assert all(weight.isfinite().all() for weight in model.parameters())


def test_the_learning_rate_warms_up_and_falls_as_a_cosine():
    schedule = warm_cosine(2.0, 110, warmup=10, floor=0.1)
    rates = [schedule(step)["lr"] for step in range(111)]
    assert rates[:10] == pytest.approx([0.2 * n for n in range(1, 11)])
    assert rates[10] == 2.0 and rates[60] == pytest.approx(2 * (0.1 + 0.9 / 2)) and rates[110] == pytest.approx(0.2)
    assert rates[35] == pytest.approx(2 * (0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2))
    assert all(one > other for one, other in pairwise(rates[10:]))
    assert warm_cosine(1e-3, 700)(0) == {"lr": 1e-3}


@pytest.mark.parametrize("steps", [3, 9, 10, 11, 40])
def test_one_cycle_is_that_of_torch(steps):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps, pct_start=max(0.1, 2 / steps))
    schedule = one_cycle(0.01, steps)
    for step in range(steps):
        group = optimizer.param_groups[0]
        assert schedule(step) == {"lr": group["lr"], "betas": group["betas"]}
        optimizer.step()
        if step < steps - 1:
            cycle.step()


def test_beta_has_a_rate_of_its_own_and_vectors_no_decay(make_model, toy, sampler, tmp_path):
    model = make_model()
    objective = PairObjective(model, SETTINGS, batches=PairBatches(model, toy, sampler, SETTINGS))
    weights = {name: weight for name, weight in objective.named_parameters() if weight.requires_grad}
    optimizer, rates = optimizer_of(objective, SETTINGS), []
    optimizer.register_step_pre_hook(
        lambda *_: rates.append({id(w): g["lr"] for g in optimizer.param_groups for w in g["params"]})
    )
    fit(objective, optimizer, replace(plan_of(SETTINGS.resolved(9)), steps=2), tmp_path, shown=False)
    decay = {id(weight): group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]}
    beta = [name for name in weights if name.endswith(".beta")]
    assert beta == ["model.connector.agreement_bias.beta"] and len(decay) == len(weights)
    for name, weight in weights.items():
        assert rates[1][id(weight)] == pytest.approx(SETTINGS.lr * (5 if name in beta else 1))
        assert decay[id(weight)] == (SETTINGS.weight_decay if weight.ndim > 1 else 0)


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


def test_modalities_are_dropped_where_the_other_remains(make_model, toy, sampler):
    batch = toy.batch(np.arange(48).repeat(40))
    half = torch.arange(len(batch)) % 4
    batch = replace(batch, has_picture=half != 0, metadata_mask=batch.metadata_mask & (half != 1)[:, None])
    torch.manual_seed(0)
    settings = replace(SETTINGS, drop_picture=0.3, drop_text=0.2)
    found = PairBatches(make_model(), toy, sampler, settings).hidden(batch)
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
def test_a_model_that_reads_one_modality_keeps_it(make_model, toy, sampler, connector, language):
    batch = toy.batch(np.arange(48))
    everything = replace(SETTINGS, drop_picture=0.5, drop_text=0.5)
    assert PairBatches(make_model(connector, language), toy, sampler, everything).hidden(batch) is batch


def test_bfloat16_trains_too_in_a_process_that_trained_float32(make_model, toy, sampler, tmp_path):
    run(make_model("mlp"), toy, sampler, replace(SETTINGS, steps=3), tmp_path / "float32")
    run(make_model("mlp"), toy, sampler, replace(SETTINGS, steps=3, precision="bfloat16"), tmp_path / "bfloat16")
    full, half = (rows_of(tmp_path / name)[0]["loss"] for name in ("float32", "bfloat16"))
    assert full != half and full == pytest.approx(half, rel=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 10}, r"batch \(10\) must be a multiple of group \(4\)"),
        ({"warmup": 9}, "must be below"),
        ({"group": 0}, "group\n.*greater than 0"),
        ({"lr": float("nan")}, "lr\n"),
        ({"steps": 0}, "steps\n.*greater than 0"),
        ({"drop_text": 1.5}, "drop_text\n.*less than or equal to 1"),
        ({"drop_text": 0.9}, "together must not be above 1"),
        ({"patience": -1}, "patience\n.*greater than or equal to 0"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, **change)


@pytest.mark.parametrize("change", [{"steps": 0}, {"batch": 1}, {"noised": 2.0}, {"lr": -1.0}])
def test_alignment_settings_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        AlignmentSettings(**change)


def steps_of(settings: TrainingSettings) -> tuple[int | None, ...]:
    return settings.steps, settings.visual_steps, settings.warmup, settings.validate_every


def test_steps_follow_from_the_number_of_pairs():
    plenty = TrainingSettings().resolved(124_000)
    assert steps_of(plenty) == (700, 400, 50, 100) == steps_of(TrainingSettings().resolved(34_200))
    assert steps_of(TrainingSettings().resolved(11_200)) == (700, 132, 50, 100)
    assert steps_of(TrainingSettings().resolved(4000)) == (250, 47, 50, 100)
    assert steps_of(TrainingSettings().resolved(100)) == (7, 2, 2, 3)
    assert steps_of(TrainingSettings().resolved(1)) == (1, 1, 0, 1) == steps_of(TrainingSettings().resolved(0))
    for pairs in (1, 10, 100, 1000, 5000, 20_000):
        found = TrainingSettings().resolved(pairs)
        assert (found.steps - 1) * found.batch < 4 * pairs and (found.visual_steps - 1) * 256 < 3 * pairs
        assert found.warmup < found.steps and found.resolved(10**6) == found
    own = TrainingSettings(steps=30, visual_steps=0, warmup=1, validate_every=0)
    assert own.resolved(10**6) == own and steps_of(TrainingSettings(steps=350).resolved(57_000))[::2] == (350, 50)
    half = TrainingSettings(batch=32, visual_batch=140).resolved(1000)
    assert (half.steps, half.visual_steps, half.visual_stage().batch) == (125, 24, 128)


def test_a_checkpoint_holds_no_pickle(make_model, toy, sampler, tmp_path):
    run(make_model("mlp"), toy, sampler, SETTINGS, tmp_path, validation())
    names = {path.name for path in (tmp_path / "checkpoint").iterdir()}
    kinds = {"weights.safetensors", "optimizer.safetensors", "best.safetensors"}
    assert names == {*kinds, "state.json", "tgq.json"}


class Slope(Objective):
    """One weight with two named losses, the second of weight 0.25; every third step teaches nothing."""

    weights = {"far": 0.25}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.steps = torch.nn.Parameter(torch.tensor(1.0)), 0

    def batch(self, step, place):
        return None if step % 3 == 2 else torch.tensor(float(step))

    def forward(self, batch):
        return {"near": 2 * self.weight + 0 * batch, "far": 4 * self.weight + batch}

    def facts(self):
        return {"weight": self.weight.item()}

    def after_step(self):
        self.steps += 1


def descend(folder, plan, validate=None):
    objective = Slope()
    at = fit(objective, torch.optim.SGD(objective.parameters(), lr=1.0), plan, folder, validate=validate, shown=False)
    return objective, at


def test_the_loop_minimises_the_weighted_sum_of_named_losses_by_hand(tmp_path):
    plan = Plan(4, lambda step: {"lr": 0.1 * (step + 1)}, log_every=2)
    objective, at = descend(tmp_path, plan)
    # The gradient is 2 + 0.25 * 4 = 3 everywhere; steps 0, 1 and 3 count, with rates 0.1, 0.2 and 0.4.
    assert objective.weight.item() == pytest.approx(1 - 3 * 0.7) and objective.steps == 3 and at.step == 4
    first, second = rows_of(tmp_path)
    assert (first["step"], second["step"]) == (2, 4) and first["lr"] == 0.2 and second["lr"] == 0.4
    assert first["near"] == pytest.approx(2 * (1 + 0.7) / 2) and first["far"] == pytest.approx(4 * 0.85 + 0.5)
    assert first["loss"] == pytest.approx(first["near"] + 0.25 * first["far"])
    assert second["near"] == pytest.approx(2 * 0.1) and second["weight"] == pytest.approx(-1.1)
    assert "gradient_norm" not in first and not objective.training


def test_without_an_error_the_first_best_is_kept(tmp_path):
    scores = iter([0.3, 0.5, 0.5, 0.4])
    plan = Plan(4, lambda step: {"lr": 0.1}, validate_every=1)
    seen = []

    def validate() -> Validation:
        seen.append(next(scores))
        return Validation({"hit": seen[-1]}, seen[-1])

    objective, at = descend(tmp_path, plan, validate)
    assert (at.best, at.best_step, at.waited) == (0.5, 2, 2)
    assert objective.weight.item() == pytest.approx(1 - 3 * 0.2)
    assert [row["kept_step"] for row in rows_of(tmp_path)] == [1, 2, 2, 2]


def test_figures_without_a_score_are_logged_and_the_last_weights_stay(tmp_path):
    plan = Plan(2, lambda step: {"lr": 0.1}, validate_every=2)
    objective, at = descend(tmp_path, plan, lambda: Validation({"hit": 0.7}))
    assert at.best == -1 and objective.weight.item() == pytest.approx(0.4)
    assert [row.get("hit") for row in rows_of(tmp_path)] == [None, 0.7]
