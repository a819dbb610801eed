"""Mean pooling: the visual tokens, averaged, and nothing learned."""

from __future__ import annotations

from torch import nn

from tgqformer.connectors.base import TOKENS, ConnectorInput, ConnectorOutput, ConnectorWidths
from tgqformer.connectors.pooling import GridPool


class MeanPool(nn.Module):
    """Visual tokens averaged over a grid of K cells, of width D = Dv; `tokens: 1` is the mean of the whole picture.

    Nothing is learned here; as for every connector, the model brings the tokens to the LM's width by one layer.

    Args:
        widths: what the encoders give.
        tokens: K, cells of the pooled grid; None for all P tokens.
    """

    guided = False

    def __init__(self, widths: ConnectorWidths, *, tokens: int | None = TOKENS) -> None:
        super().__init__()
        self.pool = GridPool(tokens, widths.grid)
        self.tokens, self.width = self.pool.tokens, widths.visual

    def forward(self, inputs: ConnectorInput) -> ConnectorOutput:
        """Give [B, K, Dv]."""
        return ConnectorOutput(self.pool(inputs.visual))
