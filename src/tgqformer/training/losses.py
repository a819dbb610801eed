"""The contrastive loss over co-click pairs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

FLOOR = 0.01
"""The lowest temperature."""


class PairLoss(nn.Module):
    """InfoNCE (arXiv 1807.03748) over pairs, both directions, with a learnable temperature and false negatives masked.

    Args:
        temperature: where it starts; it stays above 0.01 (see `keep_above_floor`).

    Example:
        >>> loss = PairLoss(0.05)
        >>> value = loss(queries, positives, false_negatives)
    """

    def __init__(self, temperature: float = 0.05) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(temperature).log())

    @property
    def temperature(self) -> Tensor:
        """The temperature now."""
        return self.log_temperature.exp().clamp_min(FLOOR)

    @torch.no_grad()
    def keep_above_floor(self) -> None:
        """Call after each step: below the floor there is no gradient, the temperature could never rise again."""
        self.log_temperature.clamp_(min=math.log(FLOOR))

    def forward(self, queries: Tensor, positives: Tensor, false_negatives: Tensor) -> Tensor:
        """Give the loss of a batch.

        queries, positives (Tensor): [B, d], unit length; row i of one belongs to row i of the other.
        false_negatives (Tensor): bool [B, B], True where positive j is no negative of query i.
        """
        logits = queries.float() @ positives.float().T / self.temperature
        diagonal = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(false_negatives & ~diagonal, torch.finfo(logits.dtype).min)
        target = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def gather(x: Tensor) -> Tensor:
    """Join x [B, d] of all processes to [W · B, d], in the order of their ranks, so that each sees all negatives.

    Gradients flow back to the process that a row came from; under DDP, which averages over processes, they are those
    of one process with the whole batch. One process gets x back.
    """
    if not (distributed.is_initialized() and distributed.get_world_size() > 1):
        return x
    joined: Tensor = _Gather.apply(x)  # type: ignore[no-untyped-call]
    return joined


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        whole = grads[0].contiguous()
        distributed.all_reduce(whole)
        return whole.chunk(distributed.get_world_size())[distributed.get_rank()]
