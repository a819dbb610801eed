"""What the training of an embedder minimises: the pair loss of embeddings, and of the visual tokens by themselves."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgqformer.errors import TgqError
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.training.batches import PairBatch, PairBatches
from tgqformer.training.loop import Objective, Place
from tgqformer.training.losses import CompatibleLoss, PairLoss, gather
from tgqformer.training.settings import TrainingSettings

ADVICE = "Lower training.lr, raise training.warmup, or train with precision float32"


class PairObjective(Objective):
    """Model and loss in one module: what the optimiser moves.

    Args:
        model: what learns. settings: the weights of its losses.
        visual: the loss of the visual tokens by themselves, weighed by `visual_loss`; None where that is 0 or the
            connector has no tokens.
        batches: of the training pairs; a training needs them, a look at the losses of one batch does not.
    """

    advice = ADVICE

    def __init__(
        self,
        model: ItemEmbedder,
        settings: TrainingSettings,
        visual: VisualLoss | None = None,
        batches: PairBatches | None = None,
    ) -> None:
        super().__init__()
        width, widest = model.projection.out_features, max(settings.matryoshka, default=0)
        if widest > width:
            raise TgqError(f"training.matryoshka: {widest} is more than the {width} dimensions that the model learns")
        model.cuts = settings.matryoshka
        self.model, self.loss = model, PairLoss(settings.temperature, settings.matryoshka)
        self.visual, self._batches, self._compatible = visual, batches, CompatibleLoss(self.loss)
        visual_loss, redundancy = settings.visual_loss, settings.redundancy
        self.weights = {"visual": visual_loss, "redundancy": redundancy, "compatible": settings.compatible}

    def batch(self, step: int, place: Place) -> PairBatch:
        """Return the pairs of a step."""
        assert self._batches is not None
        return self._batches.at(step, place)

    def forward(self, batch: PairBatch) -> dict[str, Tensor]:
        """Return the losses of the embeddings (`pairs`), of the visual tokens, of redundancy, and against old vectors.

        With several processes the embeddings of all are gathered.
        """
        out = self.model(batch.items)
        pairs = self._contrast(out.embedding.float(), batch.false_negatives)
        if out.picture is not None:
            pairs = torch.lerp(pairs, self._contrast(out.picture, batch.false_negatives), self.model.picture_weight)
        losses = {"pairs": pairs}
        if batch.old is not None:
            new, old = (self._sides(vectors) for vectors in (out.embedding.float(), batch.old))
            losses["compatible"] = self._compatible(new, old, batch.false_negatives)
        if self.visual is not None:
            losses["visual"] = self.visual(out.connector.tokens, batch)
        redundancy = out.connector.redundancy
        return {**losses, "redundancy": pairs.new_zeros(()) if redundancy is None else redundancy}

    def facts(self) -> dict[str, float]:
        """Return the temperature."""
        return {"temperature": self.loss.temperature.item()}

    def after_step(self) -> None:
        """Keep the temperatures where a gradient reaches them."""
        self.loss.keep_above_floor()
        if self.visual is not None:
            self.visual.loss.keep_above_floor()

    def _contrast(self, vectors: Tensor, false_negatives: Tensor) -> Tensor:
        loss: Tensor = self.loss(*self._sides(vectors), false_negatives)
        return loss

    @staticmethod
    def _sides(vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Part vectors [2B, d] into those of queries and of positives, of all processes."""
        queries, positives = (gather(side) for side in vectors.chunk(2))
        return queries, positives


class VisualLoss(nn.Module):
    """The pair loss on the visual tokens alone (ours).

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
        """Return one for a model, or None where its connector has no tokens, or the settings do not ask for it."""
        used = settings.visual_loss or settings.visual_steps
        tokens, width = model.connector.tokens, model.connector.width
        return cls(tokens, width, settings.temperature) if used and tokens else None

    def forward(self, tokens: Tensor, batch: PairBatch) -> Tensor:
        """tokens (Tensor): [2B, K, D] of the items of a batch. Returns a scalar.

        Pairs with a missing picture are negatives only.
        """
        vectors = F.normalize(self.head(tokens).float(), dim=-1)
        queries, positives = (gather(side) for side in vectors.chunk(2))
        first, second = batch.items.has_picture.chunk(2)
        both = gather((first & second).float()) > 0
        loss: Tensor = self.loss(queries, positives, batch.false_negatives, both)
        return loss


class VisualObjective(Objective):
    """The connector alone: what its tokens say, before a language model reads them (BLIP-2's first stage).

    It holds what the connector's input goes through, and no language model: a weight without a gradient would stop DDP.

    Args:
        model: whose connector learns. visual: its loss, which the training that follows may go on with.
        settings: as `TrainingSettings.visual_stage` gives them. batches: of the training pairs.
    """

    title, advice = "training the connector", ADVICE

    def __init__(
        self,
        model: ItemEmbedder,
        settings: TrainingSettings,
        visual: VisualLoss,
        batches: PairBatches | None = None,
    ) -> None:
        super().__init__()
        self.token_norm, self.alignment = model.token_norm, model.alignment
        self.connector, self.visual = model.connector, visual
        self._inputs, self._batches = model.connector_input, batches
        self.weights = {"redundancy": settings.redundancy}

    def batch(self, step: int, place: Place) -> PairBatch:
        """Return the pairs of a step."""
        assert self._batches is not None
        return self._batches.at(step, place)

    def forward(self, batch: PairBatch) -> dict[str, Tensor]:
        """Return the losses of the visual tokens and of redundancy."""
        seen = self.connector(self._inputs(batch.items))
        visual = self.visual(seen.tokens, batch)
        return {"visual": visual, "redundancy": visual.new_zeros(()) if seen.redundancy is None else seen.redundancy}

    def facts(self) -> dict[str, float]:
        """Return the temperature."""
        return {"temperature": self.visual.loss.temperature.item()}

    def after_step(self) -> None:
        """Keep the temperature where a gradient reaches it."""
        self.visual.loss.keep_above_floor()
