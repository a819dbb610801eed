"""What the frozen encoders saw in a batch of items: the input of every trained part."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class ItemBatch:
    """B items as the frozen encoders gave them. A missing modality is masked; its numbers are zeros and mean nothing.

    visual (Tensor): [B, P, Dv]; where several pictures are attended to, [B, M·P, Dv]. vector (Tensor): [B, Dg].
    has_picture (Tensor): bool [B].
    metadata (Tensor): [B, T, Dt]. metadata_mask (Tensor): bool [B, T]. metadata_vector (Tensor): [B, Dt], pooled.
    states (Tensor): [B, L, H], what the LM's frozen prefix made of the prompt. states_mask (Tensor): bool [B, L].
    pictures (Tensor): bool [B, M], which of M pictures an item has, where several are attended to; else None.
    """

    visual: Tensor
    vector: Tensor
    has_picture: Tensor
    metadata: Tensor
    metadata_mask: Tensor
    metadata_vector: Tensor
    states: Tensor
    states_mask: Tensor
    pictures: Tensor | None = None

    def __len__(self) -> int:
        return len(self.has_picture)

    def to(self, device: torch.device | str) -> ItemBatch:
        """Move all tensors."""
        return replace(self, **{name: one.to(device) for name, one in vars(self).items() if one is not None})

    @property
    def visual_mask(self) -> Tensor | None:
        """Return which visual tokens are those of a picture, bool [B, M·P]; None where all are, or none of an item."""
        if self.pictures is None:
            return None
        return self.pictures.repeat_interleave(self.visual.shape[1] // self.pictures.shape[1], 1)

    def without_pictures(self, dropped: Tensor) -> ItemBatch:
        """Hide the pictures of the items where bool [B] `dropped` is True."""
        return replace(self, has_picture=self.has_picture & ~dropped)

    def with_swapped_text(self, swapped: Tensor) -> ItemBatch:
        """Give the items where bool [B] `swapped` is True a wrong text: that of the item before them."""

        def mixed(own: Tensor) -> Tensor:
            return torch.where(swapped.view(-1, *[1] * (own.ndim - 1)), own.roll(1, 0), own)

        return replace(
            self,
            metadata=mixed(self.metadata),
            metadata_mask=mixed(self.metadata_mask),
            metadata_vector=mixed(self.metadata_vector),
            states=mixed(self.states),
            states_mask=mixed(self.states_mask),
        )

    def without_text(self, dropped: Tensor, empty: ItemBatch) -> ItemBatch:
        """Hide the metadata where bool [B] `dropped` is True; `empty` is the batch of one item without any text."""
        length = max(self.states.shape[1], empty.states.shape[1])
        states, mask = _pad(self.states, length), _pad(self.states_mask, length)
        empty_states, empty_mask = _pad(empty.states, length), _pad(empty.states_mask, length)
        return replace(
            self,
            metadata_mask=self.metadata_mask & ~dropped[:, None],
            metadata_vector=self.metadata_vector * ~dropped[:, None],
            states=torch.where(dropped[:, None, None], empty_states.to(states.dtype), states),
            states_mask=torch.where(dropped[:, None], empty_mask, mask),
        )


def _pad(x: Tensor, length: int) -> Tensor:
    """Lengthen dimension 1 to `length` with zeros."""
    missing = length - x.shape[1]
    return x if not missing else torch.cat([x, x.new_zeros(len(x), missing, *x.shape[2:])], 1)
