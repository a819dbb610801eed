"""Visual tokens averaged over the cells of a grid: the token budget of connectors that have no queries."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from tgqformer.connectors.bias import grid_cells


class GridPool(nn.Module):
    """Average a grid of P tokens over `tokens` cells, as square as the grid allows; None keeps every token.

    `tokens` is K, the number of tokens it gives. More cells than the grid has rows or columns repeat them.
    """

    def __init__(self, tokens: int | None, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.cells = None if tokens is None else grid_cells(tokens, grid)
        self.tokens = grid[0] * grid[1] if tokens is None else tokens

    def forward(self, visual: Tensor) -> Tensor:
        """Turn [B, P, C] into [B, K, C]."""
        if self.cells is None:
            return visual
        maps = visual.transpose(1, 2).unflatten(-1, self.grid)  # type: ignore[no-untyped-call]
        return F.adaptive_avg_pool2d(maps, self.cells).flatten(2).transpose(1, 2)
