"""Batches of training pairs as the frozen encoders saw them, some of them with a modality hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tgqformer.model.batch import ItemBatch
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.training.loop import Place
from tgqformer.training.sampling import PairSampler
from tgqformer.training.settings import TrainingSettings
from tgqformer.types import Ints, Vectors


class ItemFeatures(Protocol):
    """Where batches come from: what the frozen encoders saw in the items of a catalogue."""

    def batch(self, positions: Ints) -> ItemBatch:
        """Return the items at these positions."""
        ...

    def empty(self) -> ItemBatch:
        """Return one item without picture and text."""
        ...


@dataclass(frozen=True)
class PairBatch:
    """B pairs of this process.

    items: 2B items, the queries, then their positives.
    false_negatives (Tensor): bool [W·B, W·B] over the pairs of all W processes, True where positive j is no negative of
        query i.
    old (Tensor): [2B, d], what an earlier model makes of the same items, nothing hidden; None where there is none.
    """

    items: ItemBatch
    false_negatives: Tensor
    old: Tensor | None = None


class PairBatches:
    """The batches of a training, each a function of seed and step alone.

    Args:
        model: whether it reads pictures, texts or both says what may be hidden. features: what it reads.
        sampler: draws the pairs. settings: how often a modality is hidden or replaced.
        old: vectors [N, d] of an earlier model, with which those of this one are to be comparable.
    """

    def __init__(
        self,
        model: ItemEmbedder,
        features: ItemFeatures,
        sampler: PairSampler,
        settings: TrainingSettings,
        *,
        seed: int = 0,
        old: Vectors | None = None,
    ) -> None:
        self.old = old
        self.features, self.sampler, self.settings, self.seed = features, sampler, settings, seed
        self._hides = model.language is not None and bool(model.connector.tokens)
        self._empty = features.empty()

    def at(self, step: int, place: Place) -> PairBatch:
        """Return the batch of a step; it seeds torch's random numbers."""
        world, rank, device = place.num_processes, place.process_index, place.device
        torch.manual_seed((self.seed * 1_000_003 + step) * world + rank)
        drawn = [self.sampler.batch_at(step * world + other) for other in range(world)]
        queries, positives = (np.concatenate(side) for side in zip(*drawn, strict=True))
        items = self.hidden(self.features.batch(np.concatenate(drawn[rank])).to(device))
        old = None if self.old is None else torch.from_numpy(self.old[np.concatenate(drawn[rank])]).to(device)
        return PairBatch(items, torch.from_numpy(self.sampler.false_negatives(queries, positives)).to(device), old)

    def hidden(self, batch: ItemBatch) -> ItemBatch:
        """Hide some pictures and some texts of items that have both; a model that reads one of the two keeps it."""
        if not self._hides:
            return batch
        settings, device = self.settings, batch.has_picture.device
        if settings.wrong_text:
            batch = batch.with_swapped_text(torch.rand(len(batch)).to(device) < settings.wrong_text)
        chance = torch.rand(len(batch)).to(device)
        both = batch.has_picture & batch.metadata_mask.any(1)
        without_picture = both & (chance < settings.drop_picture)
        without_text = both & (chance >= settings.drop_picture) & (chance < settings.drop_picture + settings.drop_text)
        self._empty = self._empty.to(device)
        return batch.without_pictures(without_picture).without_text(without_text, self._empty)
