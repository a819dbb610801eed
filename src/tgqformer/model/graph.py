"""A whole model as one graph: from pixels and token ids to the embedding. `tgq export` writes it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tgqformer.encoders.cache import half
from tgqformer.encoders.efficientnet import EfficientNetEncoder
from tgqformer.encoders.huggingface import HuggingFaceText, HuggingFaceVision
from tgqformer.errors import TgqError
from tgqformer.model.batch import ItemBatch
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.encoding import no_states
from tgqformer.model.language import HuggingFaceLM


class WholeGraph(nn.Module):
    """Pixels and token ids -> embeddings; the same numbers as `ItemEmbedder.encode` with encoders in float32.

    Args:
        model: an embedder with encoders. Its vision encoder is put into float32, for good.

    Raises:
        TgqError: for encoders or a language model that are not ours, or a model that looks at several pictures.
    """

    def __init__(self, model: ItemEmbedder) -> None:
        super().__init__()
        encoders = model.encoders
        if encoders is None:
            raise TgqError("this model has no encoders; load it with ItemEmbedder.load(path)")
        vision, text, language = encoders.vision, encoders.text, model.language
        if encoders.prompt.pictures != "first":
            raise TgqError("only models that look at one picture of an item can be exported (prompt.pictures: first)")
        if not isinstance(vision, EfficientNetEncoder | HuggingFaceVision) or not isinstance(text, HuggingFaceText):
            raise TgqError(f"the encoders {vision.name} and {text.name} cannot be exported")
        if language is not None and not isinstance(language, HuggingFaceLM):
            raise TgqError(f"a language model {type(language).__name__} cannot be exported")
        if model.picture_head is not None and language is not None:
            model.picture_head.write_down(language)
        network: Any = vision.network if isinstance(vision, EfficientNetEncoder) else vision.tower
        vision.dtype = network.float().dtype if hasattr(network, "dtype") else next(network.float().parameters()).dtype
        self.model, self.network, self.tower = model, network, text.tower
        self.vision, self.text, self.language = vision, text, language

    def forward(
        self,
        pixels: Tensor,
        has_picture: Tensor,
        ids: Tensor,
        mask: Tensor,
        has_text: Tensor,
        prompt_ids: Tensor,
        prompt_mask: Tensor,
    ) -> Tensor:
        """Embed B items.

        pixels (Tensor): [B, 3, h, w], anything where bool [B] `has_picture` is False.
        ids, mask (Tensor): int64 [B, T], of the metadata; at least one token is real, also where bool [B] `has_text`
            is False. prompt_ids, prompt_mask (Tensor): int64 [B, L], what the language model reads.

        Returns:
            [B, d] of unit length.
        """
        seen, read = self.vision.seen(pixels), self.text.read(ids, mask)
        states = self.language.prefixed(prompt_ids, prompt_mask) if self.language else no_states(ids.shape[0])
        batch = ItemBatch(
            half(seen.tokens).float() * has_picture[:, None, None],
            half(seen.vector).float() * has_picture[:, None],
            has_picture,
            half(read.tokens * has_text[:, None, None]),
            read.mask & has_text[:, None],
            half(read.vector * has_text[:, None]),
            half(states.tokens),
            states.mask,
        )
        embedding: Tensor = self.model(batch).embedding
        return embedding
