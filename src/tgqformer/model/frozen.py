"""What needs no training: the frozen vectors of picture and text, joined to one."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgqformer.connectors import ConnectorWidths
from tgqformer.model.batch import ItemBatch

MOST = 128
"""Dimensions of each modality, at most."""


@dataclass(frozen=True)
class FrozenVectors:
    """What the frozen encoders say of B items, a vector a modality; zeros where it is missing.

    picture (Tensor): [B, Dg]. has_picture (Tensor): bool [B]. text (Tensor): [B, Dt]. has_text (Tensor): bool [B].
    """

    picture: Tensor
    has_picture: Tensor
    text: Tensor
    has_text: Tensor

    @classmethod
    def of(cls, batch: ItemBatch) -> FrozenVectors:
        """Take them from a batch."""
        return cls(batch.vector, batch.has_picture, batch.metadata_vector, batch.metadata_mask.any(1))


class Reduction(nn.Module):
    """Vectors [B, width] -> centred, turned to their `dim` main axes, of unit length [B, dim].

    Args:
        width: of the vectors. dim: how many axes are kept.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("axes", torch.eye(width, dim))

    def fit(self, count: int, total: Tensor, squares: Tensor) -> None:
        """Set mean and axes.

        Args:
            count: n, of the vectors x. total: Σ x [width]. squares: Σ xᵀx [width, width], both in double precision.
        """
        if not count:
            return
        mean = total / count
        self.mean.copy_(mean)
        width, dim = self.axes.shape
        if dim < width:
            axes = torch.linalg.eigh(squares / count - torch.outer(mean, mean)).eigenvectors
            self.axes.copy_(axes[:, -dim:].flip(1))

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        """vectors (Tensor): [B, width]. present (Tensor): bool [B]; the others get zeros. Returns [B, dim]."""
        reduced: Tensor = F.normalize((vectors.float() - self.mean) @ self.axes, dim=-1)
        return reduced * present[:, None]


class FrozenPart(nn.Module):
    """[√(1−w)·picture ; √w·text], of unit length: its cosine is the mixture of the two cosines.

    A missing modality leaves zeros in its place; items without any share one place.

    Args:
        widths: what the encoders give. text_share: w, from 0 (the picture alone) to 1 (the text alone).
        most: dimensions of each modality, at most.
    """

    def __init__(self, widths: ConnectorWidths, text_share: float = 0.5, most: int = MOST) -> None:
        super().__init__()
        self.options = {"text_share": text_share, "most": most}
        self.picture = Reduction(widths.vector, min(most, widths.vector))
        self.text = Reduction(widths.metadata, min(most, widths.metadata))

    @property
    def text_share(self) -> float:
        """w, how much of the cosine is that of the texts."""
        return self.options["text_share"]

    @property
    def dim(self) -> int:
        """Width of the vectors; a modality that counts for nothing has no dimensions."""
        sides = (self.picture, 1 - self.text_share), (self.text, self.text_share)
        return sum(side.axes.shape[1] for side, share in sides if share)

    @property
    def sees(self) -> bool:
        """Whether a picture makes a difference."""
        return self.text_share < 1

    def sharing(self, text_share: float) -> FrozenPart:
        """Return the same with another share of the text."""
        other = copy(self)
        other.options = self.options | {"text_share": text_share}
        return other

    def fit(self, parts: Iterable[FrozenVectors]) -> None:
        """Set means and axes from the items of training, given part by part."""
        sums: dict[str, list[Any]] = {"picture": [0, 0.0, 0.0], "text": [0, 0.0, 0.0]}
        for part in parts:
            for name, present in (("picture", part.has_picture), ("text", part.has_text)):
                vectors = getattr(part, name)[present].double()
                for at, more in enumerate((len(vectors), vectors.sum(0), vectors.T @ vectors)):
                    sums[name][at] += more
        for name, (count, total, squares) in sums.items():
            getattr(self, name).fit(count, total, squares)

    def forward(self, seen: FrozenVectors) -> Tensor:
        """Return [B, dim]."""
        with torch.autocast(seen.picture.device.type, enabled=False):
            sides = []
            if self.text_share < 1:
                sides.append((1 - self.text_share) ** 0.5 * self.picture(seen.picture, seen.has_picture))
            if self.text_share > 0:
                sides.append(self.text_share**0.5 * self.text(seen.text, seen.has_text))
            whole = torch.cat(sides, -1)
            known = whole.square().sum(-1, keepdim=True) > 0
            return F.normalize(whole, dim=-1).where(known, whole.new_full((), self.dim**-0.5))
