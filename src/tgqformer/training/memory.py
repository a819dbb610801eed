"""Embeddings of earlier steps, kept as further negatives (cross-batch memory, XBM, arXiv 1912.06798)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tgqformer.training.losses import Memory
from tgqformer.training.sampling import PairSampler


class Bank:
    """The last `size` embeddings that training made, and whose they are.

    Args:
        size: M; 0 keeps nothing. sampler: knows which items are no negatives of which.
    """

    def __init__(self, size: int, sampler: PairSampler) -> None:
        self.size, self.sampler = size, sampler
        self.positions = np.empty(0, np.int64)
        self.vectors: Tensor | None = None

    def against(self, queries: np.ndarray, positives: np.ndarray) -> Memory | None:
        """Give the bank as negatives of a batch (positions [B] of its two sides); None while it is empty."""
        if self.vectors is None:
            return None
        masks = (self.sampler.false_negatives(side, self.positions) for side in (queries, positives))
        of_queries, of_positives = (torch.from_numpy(mask).to(self.vectors.device) for mask in masks)
        return Memory(self.vectors, of_queries, of_positives)

    def add(self, positions: np.ndarray, vectors: Tensor) -> None:
        """Add embeddings [n, d] of items; the oldest go."""
        if not self.size:
            return
        kept = vectors.detach().float()
        joined = kept if self.vectors is None else torch.cat([self.vectors, kept])
        self.vectors = joined[-self.size :].contiguous()
        self.positions = np.r_[self.positions, positions][-self.size :]

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        if self.vectors is None:
            return {}
        return {"vectors": self.vectors.cpu(), "positions": torch.from_numpy(self.positions)}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Take back what `state` gave."""
        if state:
            self.vectors = state["vectors"].to(device).clone()  # aligned as a fresh tensor is: the same bits come out
            self.positions = state["positions"].numpy()
