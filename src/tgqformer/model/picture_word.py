"""A second embedding, of the picture alone, out of the same pass through the language model (NoteLLM-2, 2405.16789).

The LM reads

    [K visual tokens] [prompt for the picture's word] <IMG_EMB> [the item's own prompt]

and its states are read at two places: the picture's embedding is the state before `<IMG_EMB>`, the item's the usual
one. The picture's global vector is fused into both, and training weighs both (`PictureWord.weight`).

A decoder (pooling `last`) sees only what stands before, so the state at the last token of the picture's prompt knows
the picture alone. Ours: in a bidirectional model a state would have read the item's text too. There the tokens up to
`<IMG_EMB>` are kept from seeing it and what follows, and the picture's embedding is their mean, as the item's is the
mean over all.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tgqformer.connectors import PictureWord
from tgqformer.model.language import LanguageModel


class LateFusion(nn.Module):
    """`z = sigmoid(W[h ; v])`, `h ← z ⊙ h + (1 − z) ⊙ v`, v the projected global vector of the picture.

    Ours: the global vector is layer-normalised on its way in, for its scale is any. An item without picture keeps h.
    """

    def __init__(self, vector_width: int, width: int) -> None:
        super().__init__()
        self.norm, self.project = nn.LayerNorm(vector_width), nn.Linear(vector_width, width)
        self.gate = nn.Linear(2 * width, width)

    def forward(self, h: Tensor, vector: Tensor, has_picture: Tensor) -> Tensor:
        """Fuse h [B, H] with vector [B, Dg] where bool [B] `has_picture`."""
        v = self.project(self.norm(vector))
        z = self.gate(torch.cat([h, v], -1)).sigmoid()
        return torch.where(has_picture[:, None], z * h + (1 - z) * v, h)


class PictureHead(nn.Module):
    """Ask the LM for the picture's word before the item's.

    Args:
        word: the prompt, the weight of the loss, and whether to fuse.
        language: the LM that reads the prompt; not part of this module.
        vector_width: Dg.
    """

    asked: Tensor | None
    """The states [1, W, H] of the prompt for the picture's word, where they are written down (`write_down`)."""

    def __init__(self, word: PictureWord, language: LanguageModel, vector_width: int) -> None:
        super().__init__()
        self.word = word
        self.mark = nn.Parameter(torch.randn(1, 1, language.width) * language.state_scale())  # <IMG_EMB>
        self.fusion = LateFusion(vector_width, language.width) if word.fusion else None
        self.register_buffer("asked", None, persistent=False)

    def write_down(self, language: LanguageModel) -> None:
        """Keep the states of the prompt, so that a graph needs no tokenizer; the LM's frozen prefix gave them."""
        self.asked = language.encode([self.word.prompt], end=False).tokens

    def forward(
        self, language: LanguageModel, visual: Tensor, has_picture: Tensor, states: Tensor, mask: Tensor, vector: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return both embeddings.

        visual (Tensor): [B, K, H]. has_picture (Tensor): bool [B]. states (Tensor): [B, L, H], of the item's prompt;
        mask (Tensor): bool [B, L]. vector (Tensor): [B, Dg].

        Returns:
            (the item's state [B, H], the picture's [B, H]); for an item without picture both are the item's.
        """
        asked = language.encode([self.word.prompt], end=False).tokens if self.asked is None else self.asked
        word, batch = asked.to(visual.dtype), visual.shape[0]
        own = visual.shape[1] + word.shape[1]
        prefix = torch.cat([visual, word.expand(batch, -1, -1), self.mark.to(visual.dtype).expand(batch, -1, -1)], 1)
        item, picture = language.read_prefixed(prefix, has_picture, own, states, mask)
        if self.fusion is not None:
            item, picture = (self.fusion(h, vector, has_picture) for h in (item, picture))
        return item, torch.where(has_picture[:, None], picture, item)
