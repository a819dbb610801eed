"""The contrastive loss over co-click pairs, across processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from tgqformer.contrastive import info_nce

FLOOR = 0.01
"""The lowest temperature."""


class PairLoss(nn.Module):
    """InfoNCE over pairs (see `info_nce`) with a learnable temperature.

    Args:
        temperature: where it starts; it stays above 0.01 (see `keep_above_floor`).
        widths: the loss is also computed on the first so many dimensions (Matryoshka, arXiv 2205.13147), and the
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
        self, queries: Tensor, positives: Tensor, false_negatives: Tensor, counted: Tensor | None = None
    ) -> Tensor:
        """Return the loss of a batch, in float32 where all else is in bfloat16.

        queries, positives (Tensor): [B, d], unit length; row i of one belongs to row i of the other.
        false_negatives (Tensor): bool [B, B]. counted (Tensor): bool [B]. See `info_nce`.
        """
        losses = []
        with torch.autocast(queries.device.type, enabled=False):
            for width in (None, *self.widths):
                logits = _cut(queries, width).float() @ _cut(positives, width).float().T / self.temperature
                losses.append(info_nce(logits, false_negatives, counted))
        return torch.stack(losses).mean()


class CompatibleLoss(nn.Module):
    """Keeps new vectors comparable with old ones: new queries find their positives among old vectors, old among new.

    Backward-compatible training (Shen et al., CVPR 2020, arXiv 2003.11942) has the classifier of the old model judge
    the new vectors. Pairs have no classifier: the old vectors of their items take its place, as in the contrastive
    forms of it (Zhang et al., ICLR 2022, arXiv 2201.09724).

    Args:
        pairs: the loss of a batch, whatever it is made of, with its temperature; this one wraps it.

    Example:
        >>> loss = CompatibleLoss(PairLoss(0.05))
        >>> value = loss((queries, positives), (old_queries, old_positives), false_negatives)
    """

    def __init__(self, pairs: PairLoss) -> None:
        super().__init__()
        self.pairs = pairs

    def forward(self, new: tuple[Tensor, Tensor], old: tuple[Tensor, Tensor], false_negatives: Tensor) -> Tensor:
        """Return the loss of a batch; new, old: (queries, positives) [B, d] of unit length, see `PairLoss`."""
        among_old = self.pairs(new[0], old[1], false_negatives)
        among_new = self.pairs(old[0], new[1], false_negatives)
        both: Tensor = (among_old + among_new) / 2
        return both


def _cut(vectors: Tensor, width: int | None) -> Tensor:
    """Keep the first `width` dimensions of [n, d], of unit length again; None keeps all."""
    return vectors if width is None else F.normalize(vectors[:, :width].float(), dim=-1)


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
