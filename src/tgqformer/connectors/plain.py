"""The connectors without queries: none (text only), mean pool, and the MLP projector of LLaVA."""

from __future__ import annotations

from torch import nn
from torch.nn import functional as F

from tgqformer.connectors.base import ConnectorInput, ConnectorOutput, ConnectorWidths
from tgqformer.connectors.bias import grid_cells


class NoConnector(nn.Module):
    """No visual token at all: the language model reads the metadata alone."""

    guided = False

    def __init__(self, widths: ConnectorWidths) -> None:
        super().__init__()
        self.tokens, self.width = 0, 1

    def forward(self, inputs: ConnectorInput) -> ConnectorOutput:
        """Give [B, 0, 1]."""
        return ConnectorOutput(inputs.visual.new_zeros(len(inputs.visual), 0, 1))


class MLPProjector(nn.Module):
    """Visual tokens, pooled over a grid of K cells, through a two-layer MLP (LLaVA-1.5, arXiv 2310.03744).

    With `tokens=None` every visual token is projected, as in LLaVA.

    Args:
        widths: what the encoders give.
        dim: D, width of hidden layer and output.
        tokens: K, cells of the pooled grid; None for all P tokens; 1 is the mean pool.
    """

    guided = False

    def __init__(self, widths: ConnectorWidths, *, dim: int = 256, tokens: int | None = 4) -> None:
        super().__init__()
        self.grid = widths.grid
        self.cells = None if tokens is None else grid_cells(tokens, widths.grid)
        self.tokens = widths.grid[0] * widths.grid[1] if tokens is None else tokens
        self.width = dim
        self.linear_1 = nn.Linear(widths.visual, dim)
        self.linear_2 = nn.Linear(dim, dim)

    def forward(self, inputs: ConnectorInput) -> ConnectorOutput:
        """Give [B, K, D]."""
        visual = inputs.visual
        if self.cells is not None:
            maps = visual.transpose(1, 2).unflatten(-1, self.grid)  # type: ignore[no-untyped-call]
            visual = F.adaptive_avg_pool2d(maps, self.cells).flatten(2).transpose(1, 2)
        return ConnectorOutput(self.linear_2(F.gelu(self.linear_1(visual))))
