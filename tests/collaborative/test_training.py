from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tgqformer.collaborative.data import Split
from tgqformer.collaborative.models import make_recommender
from tgqformer.collaborative.settings import Preset
from tgqformer.collaborative.training import EpochObjective, EpochSettings, train_epochs
from tgqformer.errors import TgqError
from tgqformer.training.loop import TrainingState, Validation

OPTIONS = {
    "lightgcn": {"dim": 4}, "ngcf": {"dim": 4, "widths": [4]}, "sasrec": {"dim": 4, "length": 4, "blocks": 1},
    "pinsage": {"dim": 4, "hidden": 4, "neighbours": 2, "hard_from": 1, "hard_to": 3, "negatives": 3},
}  # fmt: skip


def objective_of(model: str, split: Split) -> EpochObjective:
    preset = Preset("small", model, options=OPTIONS[model], training=EpochSettings(batch=4), seed=3)  # type: ignore[arg-type]
    objective = make_recommender(preset, split).objective
    assert objective is not None
    return objective


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("model", OPTIONS)
def test_a_training_that_was_stopped_ends_with_the_same_bits(model: str, split: Split, tmp_path: Path) -> None:
    ends = []
    for name, ways in (("whole", [4]), ("broken", [2, 4])):
        for epochs in ways:
            objective = objective_of(model, split)
            settings = EpochSettings(epochs=epochs, batch=4, lr=0.01, decay=0.9)
            train_epochs(objective, settings, tmp_path / name, shown=False)
        ends.append(dict(objective.named_parameters()))
    for name, weight in ends[0].items():
        assert torch.equal(weight, ends[1][name]), name
    losses = [[row["loss"] for row in rows(tmp_path / name)] for name in ("whole", "broken")]
    assert losses[0] == losses[1] and len(losses[0]) == 4
    rates = [row["lr"] for row in rows(tmp_path / "whole")]
    assert rates == pytest.approx([0.01 * 0.9**epoch for epoch in range(4)])


def test_rows_behind_the_checkpoint_are_cut(split: Split, tmp_path: Path) -> None:
    settings = EpochSettings(epochs=3, batch=4, checkpoint_every=2)
    steps = objective_of("lightgcn", split).steps
    train_epochs(objective_of("lightgcn", split), settings, tmp_path, shown=False)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write(f'{{"step": {4 * steps}, "epoch": 4}}\n{{"step": {5 * steps}, "epo')  # killed within a line
    settings = EpochSettings(epochs=5, batch=4)
    at = train_epochs(objective_of("lightgcn", split), settings, tmp_path, shown=False)
    assert [row["epoch"] for row in rows(tmp_path)] == [1, 2, 3, 4, 5] and at.step == 5 * steps
    assert [row["step"] for row in rows(tmp_path)] == [steps * epoch for epoch in (1, 2, 3, 4, 5)]


def test_early_stop_keeps_the_best_weights(split: Split, tmp_path: Path) -> None:
    objective, found, seen = objective_of("lightgcn", split), iter([0.1, 0.5, 0.4, 0.3, 0.9]), []

    def judge() -> Validation:
        assert not objective.model.training
        seen.append({name: weight.detach().clone() for name, weight in objective.named_parameters()})
        score = next(found)
        return Validation({"ndcg@5": score}, score)

    settings = EpochSettings(epochs=9, batch=4, lr=0.1, evaluate_every=1, patience=2)
    at, epoch = train_epochs(objective, settings, tmp_path, validate=judge, shown=False), objective.steps
    assert at == TrainingState(step=4 * epoch, best=0.5, best_step=2 * epoch, waited=2, stopped=True)
    assert all(torch.equal(weight, seen[1][name]) for name, weight in objective.named_parameters())
    again = objective_of("lightgcn", split)
    assert train_epochs(again, settings, tmp_path, validate=judge, shown=False).step == 4 * epoch
    assert all(torch.equal(weight, seen[1][name]) for name, weight in again.named_parameters())


def test_without_something_to_watch_the_last_weights_stay(split: Split, tmp_path: Path) -> None:
    values = iter([0.9, 0.1])
    settings = EpochSettings(epochs=2, batch=4, evaluate_every=1)
    validate = lambda: Validation({"x": next(values)})  # noqa: E731
    at = train_epochs(objective_of("lightgcn", split), settings, tmp_path, validate=validate, shown=False)
    assert at.best == -1 and [row["x"] for row in rows(tmp_path)] == [0.9, 0.1]


def test_a_loss_that_is_no_number_stops_the_training(split: Split, tmp_path: Path) -> None:
    made = objective_of("lightgcn", split)
    spoiled = EpochObjective(made.model, 3, made.draw, lambda *batch: made.loss(*batch) * float("inf"), seed=0)
    with pytest.raises(TgqError, match=r"the loss is inf at step 1 .*epoch 1.*Lower training\.lr"):
        train_epochs(spoiled, EpochSettings(epochs=2, batch=4), tmp_path, shown=False)


def test_what_only_counts_is_not_trained(split: Split, tmp_path: Path) -> None:
    counting = make_recommender(Preset("x", "popularity"), split)
    assert train_epochs(counting.objective, EpochSettings(), tmp_path) == TrainingState()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad", [{"epochs": 0}, {"betas": (0.9, 1.0)}, {"patience": 2, "evaluate_every": 0},
                                 {"checkpoint_every": -1}])  # fmt: skip
def test_settings_out_of_range_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        EpochSettings(**bad)  # type: ignore[arg-type]
