"""What a training minimises: the pair loss of the embeddings, and of the visual tokens by themselves."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgqformer.model.batch import ItemBatch
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.training.losses import Memory, PairLoss, SecondLook, gather
from tgqformer.training.settings import TrainingSettings


class Objective(nn.Module):
    """Model and loss in one module: what the optimiser moves.

    Args:
        model: what learns. settings: the weights of its losses. visual: the loss of the visual tokens by themselves,
            weighed by `visual_loss`; None where that is 0 or the connector has no tokens.
    """

    title = "training"

    def __init__(self, model: ItemEmbedder, settings: TrainingSettings, visual: VisualLoss | None = None) -> None:
        super().__init__()
        self.model, self.loss = model, PairLoss(settings.temperature, settings.matryoshka)
        self.two_views, self.visual_weight, self.visual = settings.two_views, settings.visual_loss, visual

    def keep_above_floor(self) -> None:
        """Keep the temperatures where a gradient reaches them; call after each step."""
        self.loss.keep_above_floor()
        if self.visual is not None:
            self.visual.loss.keep_above_floor()

    def forward(
        self, batch: ItemBatch, false_negatives: Tensor, memory: Memory | None = None, second: SecondLook | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Give (contrastive loss, redundancy loss, embeddings) of a batch: B queries, B positives.

        With `second`, B more items are the second look of the queries; their loss is weighed by `two_views`. With
        several processes the embeddings of all are gathered: `false_negatives` [B, B] spans them all.
        """
        out = self.model(batch)
        sides = 2 if second is None else 3
        queries, positives, *again = (gather(side) for side in out.embedding.float().chunk(sides))
        redundancy = out.connector.redundancy
        contrastive = self.loss(queries, positives, false_negatives, memory)
        if out.picture is not None:
            alone = self.loss(*(gather(side) for side in out.picture.chunk(sides)[:2]), false_negatives)
            contrastive = torch.lerp(contrastive, alone, self.model.picture_weight)
        if second is not None:
            looks = self.loss(queries, again[0], second.false_negatives, counted=second.differs)
            contrastive = contrastive + self.two_views * looks
        if self.visual is not None:
            seen = self.visual(out.connector.tokens, batch.has_picture, len(out.embedding) // sides, false_negatives)
            contrastive = contrastive + self.visual_weight * seen
        both = torch.cat([queries, positives]).detach()
        return contrastive, contrastive.new_zeros(()) if redundancy is None else redundancy, both


class VisualLoss(nn.Module):
    """The pair loss asked of the visual tokens by themselves (ours).

    Through the language model alone the tokens are learned slowly: it has the text to go by. The head is for training
    only, and is not saved with the model.

    Args:
        tokens: K. width: D. temperature: where that of this loss starts.
    """

    def __init__(self, tokens: int, width: int, temperature: float) -> None:
        super().__init__()
        self.loss = PairLoss(temperature)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Flatten(), nn.Linear(tokens * width, 128))

    @classmethod
    def wanted(cls, model: ItemEmbedder, settings: TrainingSettings) -> VisualLoss | None:
        """Give one for a model, or None where its connector has no tokens, or the settings do not ask for it."""
        asked = settings.visual_loss or settings.visual_steps
        tokens, width = model.connector.tokens, model.connector.width
        return cls(tokens, width, settings.temperature) if asked and tokens else None

    def forward(self, tokens: Tensor, has_picture: Tensor, pairs: int, false_negatives: Tensor) -> Tensor:
        """tokens (Tensor): [2B or more, K, D], B queries, B positives; has_picture (Tensor): bool, of each item.

        Pairs with a missing picture are negatives only. Returns a scalar.
        """
        vectors = F.normalize(self.head(tokens).float(), dim=-1)
        queries, positives = gather(vectors[:pairs]), gather(vectors[pairs : 2 * pairs])
        both = gather((has_picture[:pairs] & has_picture[pairs : 2 * pairs]).float()) > 0
        loss: Tensor = self.loss(queries, positives, false_negatives, counted=both)
        return loss


class VisualStage(nn.Module):
    """The connector alone: what its tokens say, before a language model reads them (BLIP-2's first stage).

    It holds what the connector's input goes through, and no language model: a weight without a gradient would stop DDP.

    Args:
        model: whose connector learns. visual: its loss, which the training that follows may go on with.
    """

    title = "training the connector"

    def __init__(self, model: ItemEmbedder, visual: VisualLoss) -> None:
        super().__init__()
        self.token_norm, self.alignment = model.token_norm, model.alignment
        self.connector, self.visual = model.connector, visual
        self._inputs = model.connector_input

    @property
    def loss(self) -> PairLoss:
        """The pair loss, with its temperature."""
        return self.visual.loss

    def keep_above_floor(self) -> None:
        """Keep the temperature where a gradient reaches it; call after each step."""
        self.visual.loss.keep_above_floor()

    def forward(
        self, batch: ItemBatch, false_negatives: Tensor, memory: Memory | None = None, second: SecondLook | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Give (loss, redundancy loss, nothing for a memory) of a batch: B queries, B positives."""
        seen = self.connector(self._inputs(batch))
        contrastive = self.visual(seen.tokens, batch.has_picture, len(batch) // 2, false_negatives)
        redundancy = contrastive.new_zeros(()) if seen.redundancy is None else seen.redundancy
        return contrastive, redundancy, seen.tokens.new_zeros(0)
