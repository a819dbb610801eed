from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tgqformer.collaborative.base import Recommender, Task
from tgqformer.collaborative.data import Split
from tgqformer.collaborative.models import make_task
from tgqformer.collaborative.settings import LoopSettings, Preset
from tgqformer.collaborative.training import Progress, train
from tgqformer.errors import TgqError

OPTIONS = {
    "lightgcn": {"dim": 4}, "ngcf": {"dim": 4, "widths": [4]}, "sasrec": {"dim": 4, "length": 4, "blocks": 1},
    "pinsage": {"dim": 4, "hidden": 4, "neighbours": 2, "hard_from": 1, "hard_to": 3, "negatives": 3},
}  # fmt: skip


def task_of(model: str, split: Split) -> Task:
    return make_task(Preset("small", model, options=OPTIONS[model], training=LoopSettings(batch=4), seed=3), split)


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("model", OPTIONS)
def test_a_training_that_was_stopped_ends_with_the_same_bits(model: str, split: Split, tmp_path: Path) -> None:
    ends = []
    for name, ways in (("whole", [4]), ("broken", [2, 4])):
        for epochs in ways:
            task = task_of(model, split)
            train(task, LoopSettings(epochs, batch=4, lr=0.01, decay=0.9), tmp_path / name, seed=5, shown=False)
        assert task.module is not None
        ends.append(dict(task.module.named_parameters()))
    for name, weight in ends[0].items():
        assert torch.equal(weight, ends[1][name]), name
    losses = [[row["loss"] for row in rows(tmp_path / name)] for name in ("whole", "broken")]
    assert losses[0] == losses[1] and len(losses[0]) == 4


def test_rows_behind_the_checkpoint_are_cut(split: Split, tmp_path: Path) -> None:
    settings = LoopSettings(3, batch=4, checkpoint_every=2)
    train(task_of("lightgcn", split), settings, tmp_path, shown=False)
    (tmp_path / "log.jsonl").write_text((tmp_path / "log.jsonl").read_text() + '{"epoch": 4}\n')
    at = train(task_of("lightgcn", split), LoopSettings(5, batch=4), tmp_path, shown=False)
    assert [row["epoch"] for row in rows(tmp_path)] == [1, 2, 3, 4, 5] and at.epoch == 5


def test_early_stop_keeps_the_best_weights(split: Split, tmp_path: Path) -> None:
    task, found, seen = task_of("lightgcn", split), iter([0.1, 0.5, 0.4, 0.3, 0.9]), []
    assert task.module is not None

    def judge() -> dict[str, float]:
        assert task.module is not None and not task.module.training
        seen.append({name: weight.detach().clone() for name, weight in task.module.named_parameters()})
        return {"ndcg@5": next(found)}

    settings = LoopSettings(9, batch=4, lr=0.1, evaluate_every=1, patience=2)
    at = train(task, settings, tmp_path, evaluate=judge, watch="ndcg@5", shown=False)
    assert at == Progress(epoch=4, best=0.5, best_epoch=2, waited=2, stopped=True)
    assert all(torch.equal(weight, seen[1][name]) for name, weight in task.module.named_parameters())
    again = task_of("lightgcn", split)
    assert train(again, settings, tmp_path, evaluate=judge, watch="ndcg@5", shown=False).epoch == 4
    assert again.module is not None
    assert all(torch.equal(weight, seen[1][name]) for name, weight in again.module.named_parameters())


def test_without_something_to_watch_the_last_weights_stay(split: Split, tmp_path: Path) -> None:
    values = iter([0.9, 0.1])
    task = task_of("lightgcn", split)
    at = train(task, LoopSettings(2, batch=4, evaluate_every=1), tmp_path, evaluate=lambda: {"x": next(values)},
               shown=False)  # fmt: skip
    assert at.best == -1 and [row["x"] for row in rows(tmp_path)] == [0.9, 0.1]


def test_a_loss_that_is_no_number_stops_the_training(split: Split, tmp_path: Path) -> None:
    task = task_of("lightgcn", split)
    assert task.module is not None
    spoiled = Task(task.recommender, task.module, 3, task.draw, lambda *batch: task.loss(*batch) * float("inf"))
    with pytest.raises(TgqError, match=r"epoch 1; lower training\.lr"):
        train(spoiled, LoopSettings(2, batch=4), tmp_path, shown=False)


def test_what_only_counts_is_not_trained(tmp_path: Path) -> None:
    assert train(Task(Recommender(lambda known: lambda users: torch.zeros(1))), LoopSettings(), tmp_path) == Progress()


@pytest.mark.parametrize("bad", [{"epochs": 0}, {"betas": (0.9, 1.0)}, {"patience": 2, "evaluate_every": 0},
                                 {"checkpoint_every": -1}])  # fmt: skip
def test_settings_out_of_range_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="training"):
        LoopSettings(**bad)  # type: ignore[arg-type]
