"""The plain Q-Former: learned queries, the same for every item (BLIP-2, arXiv 2301.12597)."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from tgqformer.config import Natural, Positive, Share
from tgqformer.connectors.attention import QFormerBlock, ValuePath, drawn
from tgqformer.connectors.base import TOKENS, Connector, ConnectorInput, ConnectorOutput, ConnectorWidths
from tgqformer.connectors.bias import AgreementBias, GridPrior, shared_bias


class QFormer(Connector):
    """K learned queries attend to the visual tokens.

    Without value path and grid prior this is BLIP-2's Q-Former, weight for weight (see `tests/connectors`).

    Args:
        widths: what the encoders give.
        tokens: K. dim: D. heads, blocks: of the transformer. hidden: width of the feed-forward (4 · D by default).
        cross_every: every how many blocks look at the tokens, starting with the first.
        value_path: pool `MLP(token)` once more at the output (ours).
        prior: start the queries as cells of a pooled grid (ours).
        agreement_bias: look where the picture agrees with the metadata (ours; what TGQ-Former's anchored queries have).
        beta: where that bias starts.
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
        blocks: Natural = 1,
        hidden: Positive | None = None,
        cross_every: Positive = 1,
        value_path: bool = True,
        prior: bool = True,
        agreement_bias: bool = False,
        beta: float = 2.0,
        dropout: Share = 0.0,
    ) -> None:
        super().__init__()
        if blocks == 0 and not value_path:
            raise ValueError("a Q-Former needs a block or the value path")
        self.tokens, self.width, self.guided = tokens, dim, agreement_bias
        self.queries = drawn(1, tokens, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-12)
        block = partial(QFormerBlock, dim, widths.visual, heads, hidden=hidden or 4 * dim, dropout=dropout)
        self.blocks = nn.ModuleList(block(cross=index % cross_every == 0) for index in range(blocks))
        self.value_path = ValuePath(dim, widths.visual, heads) if value_path else None
        self.prior = GridPrior(tokens, widths.grid, heads) if prior else None
        self.agreement_bias = AgreementBias(heads, beta) if agreement_bias else None

    def forward(self, inputs: ConnectorInput) -> ConnectorOutput:
        """Return [B, K, D] and the attention of the stream `query`."""
        bias = shared_bias(inputs, self.prior, self.agreement_bias)
        tokens, weights = self.attend(inputs.visual, bias)
        return ConnectorOutput(tokens, attention={} if weights is None else {"query": weights})

    def attend(self, visual: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Attend to visual [B, P, Dv]; return (tokens [B, K, D], last attention [B, heads, K, P]).

        bias (Tensor): added to the logits, broadcastable to [B, heads, K, P].
        """
        x, weights = self.norm(self.queries), None  # [1, K, D] until the first cross-attention tells items apart
        for block in self.blocks:
            x, seen = block(x, visual, bias)
            weights = weights if seen is None else seen
        x = x.expand(visual.shape[0], -1, -1)
        if self.value_path is not None:
            x, weights = self.value_path(x, visual, bias)
        return x, weights
