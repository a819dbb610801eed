"""C-Abstractor: convolutions around a pooling keep the picture's locality (Honeybee, arXiv 2312.06742)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from tgqformer.config import Positive
from tgqformer.connectors.attention import drawn
from tgqformer.connectors.base import TOKENS, Connector, ConnectorInput, ConnectorOutput, ConnectorWidths
from tgqformer.connectors.pooling import GridPool


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of [B, C, h, w], place by place."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [B, C, h, w]."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SqueezeExcite(nn.Module):
    """Scale each channel by what the whole map holds (arXiv 1709.01507)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scale x [B, C, h, w]."""
        scale: Tensor = self.excite(F.silu(self.squeeze(x.mean((2, 3), keepdim=True))))
        return x * scale.sigmoid()


class Bottleneck(nn.Module):
    """RegNet's block with squeeze-and-excitation (arXiv 2003.13678), as Honeybee sets it.

    1 x 1, depthwise 3 x 3, squeeze-and-excitation, 1 x 1; LayerNorm over channels and SiLU after each convolution; no
    narrowing in between, squeezed to a quarter of the block's input.
    """

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.norm_1 = ChannelNorm(channels, eps=1e-6)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm_2 = ChannelNorm(channels, eps=1e-6)
        self.attention = SqueezeExcite(channels, max(1, round(channels_in / 4)))
        self.conv_3 = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm_3 = ChannelNorm(channels, eps=1e-6)
        self.shortcut: nn.Module = nn.Identity()
        if channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, bias=False), ChannelNorm(channels, eps=1e-6)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Turn [B, C_in, h, w] into [B, C, h, w]."""
        y = F.silu(self.norm_1(self.conv_1(x)))
        y = self.attention(F.silu(self.norm_2(self.conv_2(y))))
        return F.silu(self.norm_3(self.conv_3(y)) + self.shortcut(x))


class CAbstractor(Connector):
    """Positions, convolution blocks, pooling to K cells, convolution blocks, MLP.

    Pooling gives each token its cell of the picture, so the grid prior is built in; and what is pooled is a non-linear
    function of the tokens, so the value path is too: neither has a switch here.

    Args:
        widths: what the encoders give.
        tokens: K, cells of the pooled grid; None for all P tokens. Honeybee takes squares; here any number will do.
        dim: D. blocks: convolution blocks before the pooling, and as many after it; Honeybee has 3.
    """

    def __init__(
        self, widths: ConnectorWidths, *, tokens: Positive | None = TOKENS, dim: Positive = 256, blocks: Positive = 3
    ) -> None:
        super().__init__()
        self.grid, self.pool = widths.grid, GridPool(tokens, widths.grid)
        self.tokens, self.width = self.pool.tokens, dim
        self.positions = drawn(1, widths.grid[0] * widths.grid[1], widths.visual, std=0.02)
        self.before = _stage(widths.visual, dim, blocks)
        self.after = _stage(dim, dim, blocks)
        self.readout = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, inputs: ConnectorInput) -> ConnectorOutput:
        """Return [B, K, D]."""
        maps = _maps(inputs.visual + self.positions, self.grid)
        pooled = self.pool(_tokens(self.before(maps)))
        return ConnectorOutput(self.readout(_tokens(self.after(_maps(pooled, self.pool.cells or self.grid)))))


def _stage(channels_in: int, channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(Bottleneck(channels if index else channels_in, channels) for index in range(blocks)))


def _maps(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """[B, P, C] -> [B, C, h, w]."""
    return tokens.transpose(1, 2).unflatten(-1, grid)  # type: ignore[no-any-return, no-untyped-call]


def _tokens(maps: Tensor) -> Tensor:
    """[B, C, h, w] -> [B, P, C]."""
    return maps.flatten(2).transpose(1, 2)
