"""The behaviour side of a study: a model trained on the training log, and the lists that it gives."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tgqformer.collaborative.base import Features, Task
from tgqformer.collaborative.data import Ints, histories
from tgqformer.collaborative.lists import Lists, lists_of_scorer, lists_of_vectors, ranks_of_lists
from tgqformer.collaborative.models import make_task
from tgqformer.collaborative.training import train
from tgqformer.evaluation.metrics import Queries, Scores, score
from tgqformer.experiments.study.log import StudyLog
from tgqformer.experiments.study.settings import System
from tgqformer.stages import Stage


def system_stage(
    system: System, log: StudyLog, content: Features | None, seed: int, folder: Path, k: int, device: str = "cpu"
) -> Stage:
    """Return the stage that trains a system on the training log, stopped by validation, and writes every item's list.

    Args:
        content: float32 [N, d], given to systems that ask for it. folder: of this system and seed; a killed one goes on
            where it was. Vectors, where there are any, stand in `vectors.npy`, zeros for items that the model does not
            know; lists in `lists.safetensors`.
    """
    preset = system.preset(seed)
    inputs = {"preset": preset.to_dict(), "log": log.fingerprint, "by": system.by, "k": k, "content": None}
    if system.content:
        assert content is not None
        inputs["content"] = _digest(content)

    def make() -> None:
        task = make_task(preset, log.split(), device=device, features=content if system.content else None)
        known = np.ones(len(log.ids), bool) if system.content else log.clicks > 0
        watch = "hit@10"
        train(
            task,
            preset.training,
            folder,
            seed=seed,
            watch=watch,
            evaluate=lambda: {watch: _validated(task, system, known, log.validation)},
        )
        _lists(task, system, known, k).write(folder / "lists.safetensors")
        if task.recommender.vectors is not None:
            np.save(folder / "vectors.npy", _vectors(task, known))

    return Stage(f"{system.name}, seed {seed}", folder, "system", inputs, make, keep="same inputs")


def system_vectors(folder: Path) -> Features:
    """Read the vectors of a finished system, float32 [N, d]."""
    vectors: Features = np.load(folder / "vectors.npy", allow_pickle=False)
    return vectors


def scores_of(lists: Lists, queries: Queries) -> Scores:
    """Judge lists of all N items on some queries."""
    return score(queries, ranks_of_lists(lists.of(queries.query), queries, len(lists)))


def hits(lists: Lists, queries: Queries) -> float:
    """Give the mean H@10."""
    return scores_of(lists, queries).means()["hit@10"]


@torch.no_grad()
def _validated(task: Task, system: System, known: NDArray[np.bool_], queries: Queries) -> float:
    lists = _lists(task, system, known, 100, queries.query)
    return score(queries, ranks_of_lists(lists, queries, len(known))).means()["hit@10"]


@torch.no_grad()
def _lists(task: Task, system: System, known: NDArray[np.bool_], k: int, rows: Ints | None = None) -> Lists:
    if system.by == "cosine" and task.recommender.vectors is not None:
        return lists_of_vectors(_vectors(task, known), k, rows=rows)
    everything = np.arange(len(known))
    scorer = task.recommender.scorer(histories(everything, everything, len(known)))  # user i touched item i alone
    return lists_of_scorer(scorer, known, k, rows=rows, floor=0.0 if task.module is None else None)


@torch.no_grad()
def _vectors(task: Task, known: NDArray[np.bool_]) -> Features:
    assert task.recommender.vectors is not None
    vectors = task.recommender.vectors().detach().float().cpu().numpy()
    return np.asarray(np.where(known[:, None], vectors, 0.0), dtype=np.float32)


def _digest(content: Features) -> str:
    return blake2b(np.ascontiguousarray(content).tobytes(), digest_size=8).hexdigest()
