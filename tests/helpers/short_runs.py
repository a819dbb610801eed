"""A short training of a tiny model, and what it left."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from tgqformer.model.embedder import ItemEmbedder
from tgqformer.training.embedder import train_embedder
from tgqformer.training.loop import TrainingState
from tgqformer.training.settings import TrainingSettings

SETTINGS = TrainingSettings(
    steps=9, visual_loss=0.0, visual_steps=0, visual_wrong_text=0.0, visual_drop_text=0.05,
    alignment_lr=0.0, batch=8, group=4, warmup=2, lr=5e-3, redundancy=0.1, drop_picture=0.2, drop_text=0.2,
    validate_every=2, checkpoint_every=3, precision="float32",
)  # fmt: skip


class StopError(Exception):
    """Stands for a kill."""


def run(
    model: ItemEmbedder, toy, sampler, settings: TrainingSettings, folder: Path, validate=None, **more
) -> TrainingState:
    return train_embedder(model, toy, sampler, settings, folder, seed=1, validate=validate, shown=False, **more)


def weights_of(model: ItemEmbedder) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}


def rows_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


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
