"""The alignment stage: two small projections learn, on the catalogue's own pairs, which picture shows which title."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from tgqformer.encoders.alignment import Alignment, TokenNorm
from tgqformer.model.batch import ItemBatch
from tgqformer.training.loop import Objective, OneProcess, Place, Plan, fit
from tgqformer.training.schedules import one_cycle
from tgqformer.training.settings import AlignmentSettings
from tgqformer.types import Positions

Pictures: TypeAlias = Callable[[Positions], ItemBatch]
"""Positions of items → their features."""


def fit_token_norm(norm: TokenNorm, pictures: Pictures, items: Positions, seed: int) -> None:
    """Take mean and spread of visual tokens from up to 2,000 training pictures."""
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(items, min(2000, len(items)), replace=False))
    batch = pictures(sample)
    norm.fit(batch.visual[batch.has_picture].float())


def train_alignment(
    pictures: Pictures,
    noised: Pictures,
    norm: TokenNorm,
    items: Positions,
    settings: AlignmentSettings,
    *,
    seed: int = 0,
    device: str = "cpu",
    shown: bool = True,
) -> Alignment:
    """Train the alignment on training items that have both picture and text.

    Args:
        pictures, noised: features of items as they stand in the catalogue, and all noised.
        norm: standardisation of the visual tokens, already fitted. items: training items, from whose number the steps
            follow where the settings leave them out.
        device: where to compute; the alignment comes back on the CPU.
    """
    settings = settings.resolved(len(items))
    steps = settings.steps
    assert steps is not None
    torch.manual_seed(seed)
    first = pictures(items[:1])
    alignment = Alignment(first.visual.shape[-1], first.metadata_vector.shape[-1])
    objective = AlignmentObjective(alignment, norm, pictures, noised, items, settings, seed).to(device)
    optimizer = torch.optim.AdamW(alignment.parameters(), lr=settings.lr, weight_decay=0.01)
    plan = Plan(steps, one_cycle(settings.lr, steps))
    fit(objective, optimizer, plan, place=OneProcess(device), shown=shown)
    objective.to("cpu")
    return alignment.requires_grad_(False).eval()


class AlignmentObjective(Objective):
    """Picture-title pairs of one item each; the batches are drawn in a row, so it cannot be resumed."""

    title = "alignment"

    def __init__(
        self,
        alignment: Alignment,
        norm: TokenNorm,
        pictures: Pictures,
        noised: Pictures,
        items: Positions,
        settings: AlignmentSettings,
        seed: int,
    ) -> None:
        super().__init__()
        self.alignment, self.norm = alignment, norm
        self._looks, self._items, self._settings = (pictures, noised), items, settings
        self._rng = np.random.default_rng(seed)

    def batch(self, step: int, place: Place) -> tuple[Tensor, Tensor] | None:
        """Return visual tokens [B, P, Dv] and pooled texts [B, Dt]; None if fewer than two items have both."""
        look = self._looks[int(self._rng.random() < self._settings.noised)]
        count = min(self._settings.batch, len(self._items))
        batch = look(self._rng.choice(self._items, count, replace=False)).to(place.device)
        usable = batch.has_picture & batch.metadata_mask.any(1)
        return (batch.visual[usable], batch.metadata_vector[usable].float()) if usable.sum() >= 2 else None

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Return the contrastive loss; equal texts are no negatives of each other."""
        visual, text = batch
        return {"loss": self.alignment.loss(self.norm(visual), text, (text[:, None] == text[None]).all(-1))}
