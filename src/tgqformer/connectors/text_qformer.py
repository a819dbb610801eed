"""The text-aware Q-Former: the metadata joins the queries in self-attention (InstructBLIP, arXiv 2305.06500)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from tgqformer.config import Positive, Share
from tgqformer.connectors.attention import QFormerBlock, ValuePath, dense, drawn
from tgqformer.connectors.base import TOKENS, Connector, ConnectorInput, ConnectorOutput, ConnectorWidths
from tgqformer.connectors.bias import AgreementBias, GridPrior, shared_bias


class TextBlock(nn.Module):
    """A Q-Former block whose self-attention runs over queries and text together; the text has its own feed-forward.

    Only the queries look at the picture. The last block needs no text behind it: `keep_text` False leaves it away.
    """

    def __init__(
        self, dim: int, context_dim: int, heads: int, *, hidden: int, cross: bool, keep_text: bool, dropout: float
    ) -> None:
        super().__init__()
        self.block = QFormerBlock(dim, context_dim, heads, hidden=hidden, cross=cross, dropout=dropout)
        self.keep_text = keep_text
        if keep_text:
            self.text_in, self.text_out = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
            self.text_norm = nn.LayerNorm(dim, eps=1e-12)

    def forward(
        self, queries: Tensor, text: Tensor, seen: Tensor, context: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Run the block.

        queries (Tensor): [B, K, D]; text (Tensor): [B, T, D]; seen (Tensor): bool [B, 1, 1, K + T], what is real.
        context (Tensor): [B, P, Dc]; bias (Tensor): broadcastable to [B, heads, K, P].

        Returns:
            (queries [B, K, D], text [B, T, D], cross-attention weights [B, heads, K, P] or None).
        """
        mixed = self.block.mix(torch.cat([queries, text], 1), seen)
        x, text = mixed[:, : queries.shape[1]], mixed[:, queries.shape[1] :]
        x, weights = self.block.look(x, context, bias)
        if self.keep_text:
            moved = dense(self.text_out, dense(self.text_in, text, "gelu"))
            text = self.text_norm(text + self.block.dropout(moved))
        return x, text, weights


class TextQFormer(Connector):
    """K learned queries and the metadata's tokens see each other in self-attention; the queries look at the picture.

    Without value path and grid prior this is InstructBLIP's Q-Former, weight for weight, from its word embeddings on
    (see `tests/connectors`). Ours: the text comes from the frozen text encoder, through one layer to width D, instead
    of word embeddings of its own.

    Args:
        widths: what the encoders give.
        tokens: K. dim: D. heads, blocks: of the transformer. hidden: width of the feed-forward (4 · D by default).
        cross_every: every how many blocks look at the picture, starting with the first.
        value_path, prior, agreement_bias, beta: as in the plain Q-Former (ours).
        dropout: probability in the residual branches.
    """

    attends = True

    def __init__(
        self,
        widths: ConnectorWidths,
        *,
        tokens: Positive = TOKENS,
        dim: Positive = 256,
        heads: Positive = 4,
        blocks: Positive = 1,
        hidden: Positive | None = None,
        cross_every: Positive = 1,
        value_path: bool = True,
        prior: bool = True,
        agreement_bias: bool = False,
        beta: float = 2.0,
        dropout: Share = 0.0,
    ) -> None:
        super().__init__()
        self.tokens, self.width, self.guided = tokens, dim, agreement_bias
        self.queries = drawn(1, tokens, dim)
        self.read = nn.Linear(widths.metadata, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-12)
        block = partial(TextBlock, dim, widths.visual, heads, hidden=hidden or 4 * dim, dropout=dropout)
        self.blocks = nn.ModuleList(
            block(cross=index % cross_every == 0, keep_text=index < blocks - 1) for index in range(blocks)
        )
        self.value_path = ValuePath(dim, widths.visual, heads) if value_path else None
        self.prior = GridPrior(tokens, widths.grid, heads) if prior else None
        self.agreement_bias = AgreementBias(heads, beta) if agreement_bias else None

    def forward(self, inputs: ConnectorInput) -> ConnectorOutput:
        """Return [B, K, D] and the attention of the stream `query`."""
        bias, visual = shared_bias(inputs, self.prior, self.agreement_bias), inputs.visual
        real = inputs.metadata_mask
        seen = torch.cat([real.new_ones(real.shape[0], self.tokens), real], 1)[:, None, None]
        x = self.norm(self.queries).expand(visual.shape[0], -1, -1)
        text, weights = self.norm(self.read(inputs.metadata)), None
        for block in self.blocks:
            x, text, looked = block(x, text, seen, visual, bias)
            weights = weights if looked is None else looked
        if self.value_path is not None:
            x, weights = self.value_path(x, visual, bias)
        return ConnectorOutput(x, attention={} if weights is None else {"query": weights})
