"""The contrastive loss over co-click pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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
        widths: the loss is also asked for of the first so many dimensions (Matryoshka, arXiv 2205.13147), and the
            mean of all is taken.

    Example:
        >>> loss = PairLoss(0.05)
        >>> value = loss(queries, positives, false_negatives)
    """

    def __init__(self, temperature: float = 0.05, widths: Sequence[int] = ()) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.log_temperature = nn.Parameter(torch.tensor(temperature).log())

    @property
    def temperature(self) -> Tensor:
        """The temperature now."""
        return self.log_temperature.exp().clamp_min(FLOOR)

    @torch.no_grad()
    def keep_above_floor(self) -> None:
        """Call after each step: below the floor there is no gradient, the temperature could never rise again."""
        self.log_temperature.clamp_(min=math.log(FLOOR))

    def forward(
        self, queries: Tensor, positives: Tensor, false_negatives: Tensor, memory: Memory | None = None,
        counted: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Give the loss of a batch.

        queries, positives (Tensor): [B, d], unit length; row i of one belongs to row i of the other.
        false_negatives (Tensor): bool [B, B], True where positive j is no negative of query i.
        memory: further negatives of both.
        counted (Tensor): bool [B], the pairs whose loss counts; the others are negatives only. None for all.
        """
        false_negatives = false_negatives & ~torch.eye(len(queries), dtype=torch.bool, device=queries.device)
        losses = [
            self._at(cut(queries, width), cut(positives, width), false_negatives, memory, counted, width)
            for width in (None, *self.widths)
        ]
        return torch.stack(losses).mean()

    def _at(
        self, queries: Tensor, positives: Tensor, masked: Tensor, memory: Memory | None, counted: Tensor | None,
        width: int | None,
    ) -> Tensor:  # fmt: skip
        forth = self._logits(queries, positives, masked)
        back = forth.T
        if memory is not None:
            others = cut(memory.vectors, width)
            forth = torch.cat([forth, self._logits(queries, others, memory.of_queries)], 1)
            back = torch.cat([back, self._logits(positives, others, memory.of_positives)], 1)
        target = torch.arange(len(forth), device=forth.device)
        if counted is None:
            return (F.cross_entropy(forth, target) + F.cross_entropy(back, target)) / 2
        each = F.cross_entropy(forth, target, reduction="none") + F.cross_entropy(back, target, reduction="none")
        return (each * counted).sum() / (2 * counted.sum().clamp_min(1))

    def _logits(self, a: Tensor, b: Tensor, masked: Tensor) -> Tensor:
        logits = a.float() @ b.float().T / self.temperature
        return logits.masked_fill(masked, torch.finfo(logits.dtype).min)


def cut(vectors: Tensor, width: int | None) -> Tensor:
    """Keep the first `width` dimensions of [n, d], of unit length again; None keeps all."""
    return vectors if width is None else F.normalize(vectors[:, :width].float(), dim=-1)


@dataclass(frozen=True)
class SecondLook:
    """The queries of a batch once more, with noise where they had none and the reverse: their own positives.

    false_negatives (Tensor): bool [B, B], True where query j is no negative of query i.
    differs (Tensor): bool [B], True where the two looks are not the same picture.
    """

    false_negatives: Tensor
    differs: Tensor


@dataclass(frozen=True)
class Memory:
    """Embeddings of earlier steps, as further negatives (XBM, arXiv 1912.06798).

    vectors (Tensor): [M, d], no gradient. of_queries, of_positives (Tensor): bool [B, M], True where one of them is no
    negative: the item itself, or a known positive.
    """

    vectors: Tensor
    of_queries: Tensor
    of_positives: Tensor


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
