"""Tasks side by side, and how long they take."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tgqformer.experiments.bench import workers
from tgqformer.experiments.bench.grid import Cell, Setting
from tgqformer.experiments.bench.tasks import CellTask, Clock, Done
from tgqformer.experiments.bench.workers import work


def task(model: str = "MLP", seed: int = 0, tokens: int = 4) -> CellTask:
    return CellTask(Cell(Setting("minilm", "catalogue", tokens), model, seed), 1e-3)


def test_a_task_has_a_folder_and_a_kind() -> None:
    cell, tried = task(seed=3), CellTask(task(seed=1000).cell, 5e-4, tuning=True)
    assert cell.path.as_posix() == "cells/catalogue/minilm/tokens-4/mlp/seed-3"
    assert tried.path.as_posix() == "tuning/catalogue/minilm/tokens-4/mlp/seed-1000/lr-0.0005"
    assert cell.kind == task(seed=1).kind != tried.kind
    assert tried.kind == CellTask(tried.cell, 1e-3, tuning=True).kind
    assert cell.title == "MLP · minilm, 4 tokens · seed 3" and tried.title.endswith("lr 0.0005")


def test_the_clock_knows_tasks_of_the_same_kind(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock.json")
    assert clock.left([task()]) == ""
    for seconds, one in ((120.0, task("MLP")), (60.0, task("Q-Former"))):
        clock.note(Done(one, seconds))
    left = [task("MLP", 1), task("MLP", 2), task("Q-Former", 1)]
    assert clock.left(left) == "about 5 min left" and clock.left([]) == ""
    assert clock.left([task("unknown")] * 2) == "about 3 min left"
    tried = CellTask(task().cell, 1e-3, tuning=True)
    assert clock.left([tried] * 2) == "about 3 min left"  # none was seen of its stage: as long as all
    clock.note(Done(tried, 30.0))
    assert clock.left([CellTask(task("unknown").cell, 1e-3, tuning=True)] * 4) == "about 2 min left"
    assert Clock(tmp_path / "clock.json", jobs=2).left([*left, task("MLP", 3)]) == "about 4 min left"
    assert clock.left([task("MLP")] * 120) == "about 4.0 h left"


def test_one_job_works_in_this_process_and_in_order() -> None:
    seen: list[CellTask] = []
    tasks = [task(seed=seed) for seed in range(3)]
    found = [done.task for done in work(tasks, 1, seen.append, lambda: seen.append)]
    assert found == seen == tasks


def test_a_worker_ends_when_its_parent_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(time, "sleep", lambda _: None)
    parents = iter([7, 7, 1])
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(os, "_exit", ended.append)
    workers.end_with(7)
    assert ended == [1]
