"""The one contrastive loss: symmetric InfoNCE over a batch of pairs, with false negatives masked."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def info_nce(logits: Tensor, false_negatives: Tensor, counted: Tensor | None = None) -> Tensor:
    """Return the InfoNCE loss (arXiv 1807.03748) of B pairs, the mean of both directions, a scalar.

    logits (Tensor): [B, B], similarity of query i and positive j, divided by the temperature.
    false_negatives (Tensor): bool [B, B], True where positive j is no negative of query i; a pair's own positive always
        counts.
    counted (Tensor): bool [B], the pairs whose loss counts; the others are negatives only. None for all.

    Example:
        >>> loss = info_nce(queries @ positives.T / 0.05, false_negatives)
    """
    own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(false_negatives & ~own, torch.finfo(logits.dtype).min)
    target = torch.arange(len(logits), device=logits.device)
    if counted is None:
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    each = F.cross_entropy(logits, target, reduction="none") + F.cross_entropy(logits.T, target, reduction="none")
    return (each * counted).sum() / (2 * counted.sum().clamp_min(1))
