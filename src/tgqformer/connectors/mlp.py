"""The MLP projector of LLaVA-1.5."""

from __future__ import annotations

from torch import nn
from torch.nn import functional as F

from tgqformer.config import Positive
from tgqformer.connectors.base import TOKENS, Connector, ConnectorInput, ConnectorOutput, ConnectorWidths
from tgqformer.connectors.pooling import GridPool


class MLPProjector(Connector):
    """Visual tokens, pooled over a grid of K cells, through a two-layer MLP (LLaVA-1.5, arXiv 2310.03744).

    Args:
        widths: what the encoders give.
        tokens: K, cells of the pooled grid; None for all P tokens, as in LLaVA; 1 pools the whole picture.
        dim: D, width of hidden layer and output.
        value_path: pool `MLP(token)` instead of the tokens themselves, as the value path of the other connectors does
            (ours): each token goes through the non-linear layer before its cell is averaged.
    """

    def __init__(
        self,
        widths: ConnectorWidths,
        *,
        tokens: Positive | None = TOKENS,
        dim: Positive = 256,
        value_path: bool = False,
    ) -> None:
        super().__init__()
        self.pool = GridPool(tokens, widths.grid)
        self.tokens, self.width, self.value_path = self.pool.tokens, dim, value_path
        self.linear_1 = nn.Linear(widths.visual, dim)
        self.linear_2 = nn.Linear(dim, dim)

    def forward(self, inputs: ConnectorInput) -> ConnectorOutput:
        """Return [B, K, D]."""
        if self.value_path:
            return ConnectorOutput(self.linear_2(self.pool(F.gelu(self.linear_1(inputs.visual)))))
        return ConnectorOutput(self.linear_2(F.gelu(self.linear_1(self.pool(inputs.visual)))))
