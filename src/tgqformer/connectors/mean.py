"""Mean pooling: the visual tokens, averaged, and nothing learned."""

from __future__ import annotations

from tgqformer.config import Positive
from tgqformer.connectors.base import TOKENS, Connector, ConnectorInput, ConnectorOutput, ConnectorWidths
from tgqformer.connectors.pooling import GridPool


class MeanPool(Connector):
    """Visual tokens averaged over a grid of K cells, of width D = Dv; `tokens: 1` is the mean of the whole picture.

    Nothing is learned here; as for every connector, the model brings the tokens to the LM's width by one layer.

    Args:
        widths: what the encoders give.
        tokens: K, cells of the pooled grid; None for all P tokens.
    """

    def __init__(self, widths: ConnectorWidths, *, tokens: Positive | None = TOKENS) -> None:
        super().__init__()
        self.pool = GridPool(tokens, widths.grid)
        self.tokens, self.width = self.pool.tokens, widths.visual

    def forward(self, inputs: ConnectorInput) -> ConnectorOutput:
        """Return [B, K, Dv]."""
        return ConnectorOutput(self.pool(inputs.visual))
