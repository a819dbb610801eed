"""The linear projector of the first LLaVA."""

from __future__ import annotations

from torch import nn

from tgqformer.config import Positive
from tgqformer.connectors.base import TOKENS, Connector, ConnectorInput, ConnectorOutput, ConnectorWidths
from tgqformer.connectors.pooling import GridPool


class LinearProjector(Connector):
    """Visual tokens, pooled over a grid of K cells, through one linear layer (LLaVA, arXiv 2304.08485).

    Args:
        widths: what the encoders give.
        tokens: K, cells of the pooled grid; None for all P tokens, as in LLaVA.
        dim: D.
    """

    def __init__(self, widths: ConnectorWidths, *, tokens: Positive | None = TOKENS, dim: Positive = 256) -> None:
        super().__init__()
        self.pool = GridPool(tokens, widths.grid)
        self.tokens, self.width = self.pool.tokens, dim
        self.linear = nn.Linear(widths.visual, dim)

    def forward(self, inputs: ConnectorInput) -> ConnectorOutput:
        """Return [B, K, D]."""
        return ConnectorOutput(self.linear(self.pool(inputs.visual)))
