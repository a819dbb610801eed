"""The behaviour side of a study: a model trained on the training log, and the lists that it gives."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch

from tgqformer.collaborative.base import Recommender
from tgqformer.collaborative.data import histories
from tgqformer.collaborative.lists import Lists, lists_of_scorer, lists_of_vectors, ranks_of_lists
from tgqformer.collaborative.models import make_recommender
from tgqformer.collaborative.training import train_epochs
from tgqformer.config import plain
from tgqformer.evaluation.metrics import Queries, Scores, score
from tgqformer.experiments.study.log import StudyLog
from tgqformer.experiments.study.settings import System
from tgqformer.stages import Stage
from tgqformer.training.loop import Validation
from tgqformer.types import Bools, Ints, Vectors


def system_stage(
    system: System, log: StudyLog, content: Vectors | None, seed: int, folder: Path, k: int, device: str = "cpu"
) -> Stage:
    """Return the stage that trains a system on the training log, stopped by validation, and writes every item's list.

    Args:
        content: float32 [N, d], given to systems that ask for it. folder: of this system and seed; a killed one goes on
            where it was. Vectors, where there are any, stand in `vectors.npy`, zeros for items that the model does not
            know; lists in `lists.safetensors`.
    """
    preset = system.preset(seed)
    inputs = {"preset": plain(preset.whole()), "log": log.fingerprint, "by": system.by, "k": k, "content": None}
    if system.content:
        assert content is not None
        inputs["content"] = _digest(content)

    def make() -> None:
        features = content if system.content else None
        model = make_recommender(preset, log.split(), device=device, features=features)
        known = np.ones(len(log.ids), bool) if system.content else log.clicks > 0

        def validate() -> Validation:
            hit = _validated(model, system, known, log.validation)
            return Validation({"hit@10": hit}, hit)

        train_epochs(model.objective, preset.training, folder, validate=validate)
        _lists(model, system, known, k).write(folder / "lists.safetensors")
        if model.vectors is not None:
            np.save(folder / "vectors.npy", _vectors(model, known))

    return Stage(f"{system.name}, seed {seed}", folder, "system", inputs, make, keep="same inputs")


def system_vectors(folder: Path) -> Vectors:
    """Read the vectors of a finished system, float32 [N, d]."""
    vectors: Vectors = np.load(folder / "vectors.npy", allow_pickle=False)
    return vectors


def scores_of(lists: Lists, queries: Queries) -> Scores:
    """Judge lists of all N items on some queries."""
    return score(queries, ranks_of_lists(lists.of(queries.query), queries, len(lists)))


def hits(lists: Lists, queries: Queries) -> float:
    """Return the mean H@10."""
    return scores_of(lists, queries).means()["hit@10"]


@torch.no_grad()
def _validated(model: Recommender, system: System, known: Bools, queries: Queries) -> float:
    lists = _lists(model, system, known, 100, queries.query)
    return score(queries, ranks_of_lists(lists, queries, len(known))).means()["hit@10"]


@torch.no_grad()
def _lists(model: Recommender, system: System, known: Bools, k: int, rows: Ints | None = None) -> Lists:
    if system.by == "cosine" and model.vectors is not None:
        return lists_of_vectors(_vectors(model, known), k, rows=rows)
    everything = np.arange(len(known))
    scorer = model.scorer(histories(everything, everything, len(known)))  # user i touched item i alone
    return lists_of_scorer(scorer, known, k, rows=rows, floor=0.0 if model.objective is None else None)


@torch.no_grad()
def _vectors(model: Recommender, known: Bools) -> Vectors:
    assert model.vectors is not None
    vectors = model.vectors().detach().float().cpu().numpy()
    return np.asarray(np.where(known[:, None], vectors, 0.0), dtype=np.float32)


def _digest(content: Vectors) -> str:
    return blake2b(np.ascontiguousarray(content).tobytes(), digest_size=8).hexdigest()
