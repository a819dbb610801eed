"""The Perceiver resampler: learned latents read the picture and each other in one attention (Flamingo, Idefics2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgqformer.config import Positive
from tgqformer.connectors.attention import ValuePath, drawn
from tgqformer.connectors.base import TOKENS, Connector, ConnectorInput, ConnectorOutput, ConnectorWidths
from tgqformer.connectors.bias import AgreementBias, GridPrior, shared_bias


class PerceiverAttention(nn.Module):
    """Latents attend to picture and latents together; grouped keys and values, no biases.

    Args:
        dim: D. heads: of the queries. head_dim: width of a head. key_heads: heads of keys and values; divides heads.
    """

    def __init__(self, dim: int, heads: int, head_dim: int, key_heads: int) -> None:
        super().__init__()
        if heads % key_heads:
            raise ValueError(f"{key_heads} heads of keys do not divide {heads} heads")
        self.heads, self.key_heads, self.head_dim = heads, key_heads, head_dim
        self.query = nn.Linear(dim, heads * head_dim, bias=False)
        self.key = nn.Linear(dim, key_heads * head_dim, bias=False)
        self.value = nn.Linear(dim, key_heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, dim, bias=False)

    def forward(self, latents: Tensor, context: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Attend.

        latents (Tensor): [B, K, D]. context (Tensor): [B, P, D]. bias (Tensor): broadcastable to [B, heads, K, P].

        Returns:
            (pooled [B, K, D], weights [B, heads, K, P]: how the attention that goes to the picture is spread there).
        """
        everything, places = torch.cat([context, latents], 1), context.shape[1]
        q = self._split(self.query(latents), self.heads)
        k, v = (
            self._split(layer(everything), self.key_heads).repeat_interleave(self.heads // self.key_heads, 1)
            for layer in (self.key, self.value)
        )
        logits = q @ k.mT / math.sqrt(self.head_dim)
        if bias is not None:
            logits = torch.cat([logits[..., :places] + balanced(bias, places), logits[..., places:]], -1)
        weights = logits.softmax(-1)
        picture = weights[..., :places]
        spread = picture / picture.sum(-1, keepdim=True).clamp_min(1e-12)
        return self.out((weights @ v).transpose(1, 2).flatten(2)), spread

    def _split(self, x: Tensor, heads: int) -> Tensor:
        """[B, L, heads · d] -> [B, heads, L, d]."""
        return x.unflatten(-1, (heads, self.head_dim)).transpose(1, 2)  # type: ignore[no-any-return, no-untyped-call]


def balanced(bias: Tensor, places: int) -> Tensor:
    """Shift a bias [..., P] so that it moves attention among the places only, not between picture and latents.

    A bias of zeros weighs P places with P; afterwards every bias does.
    """
    return bias - bias.logsumexp(-1, keepdim=True) + math.log(places)


class ResamplerLayer(nn.Module):
    """Attention and a gated feed-forward (SwiGLU, 4 · D wide), each on normalised input, with residuals."""

    def __init__(self, dim: int, heads: int, head_dim: int, key_heads: int) -> None:
        super().__init__()
        self.latents_norm, self.context_norm = nn.RMSNorm(dim, eps=1e-6), nn.RMSNorm(dim, eps=1e-6)
        self.attention = PerceiverAttention(dim, heads, head_dim, key_heads)
        self.feed_norm = nn.RMSNorm(dim, eps=1e-6)
        self.gate, self.up = (nn.Linear(dim, 4 * dim, bias=False) for _ in range(2))
        self.down = nn.Linear(4 * dim, dim, bias=False)

    def forward(self, latents: Tensor, context: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return (latents [B, K, D], spread of the attention over the picture [B, heads, K, P])."""
        pooled, weights = self.attention(self.latents_norm(latents), self.context_norm(context), bias)
        latents = latents + pooled
        x = self.feed_norm(latents)
        return latents + self.down(F.silu(self.gate(x)) * self.up(x)), weights


class PerceiverResampler(Connector):
    """K learned latents resample the projected visual tokens (Flamingo, arXiv 2204.14198; Idefics2, arXiv 2405.02246).

    Without value path and grid prior, behind the projection to width D, this is `Idefics2PerceiverResampler`, weight
    for weight (see `tests/connectors`). Ours: one linear layer as projection, where Idefics2 has a gated MLP as wide as
    its language model. A bias moves attention among the places of the picture, never between picture and latents.

    Args:
        widths: what the encoders give.
        tokens: K. dim: D. heads, blocks: of the transformer. head_dim: width of a head (D / heads by default).
        key_heads: heads of keys and values (as many as heads by default).
        value_path, prior, agreement_bias, beta: as in the plain Q-Former (ours).
    """

    def __init__(
        self,
        widths: ConnectorWidths,
        *,
        tokens: Positive = TOKENS,
        dim: Positive = 256,
        heads: Positive = 4,
        blocks: Positive = 1,
        head_dim: Positive | None = None,
        key_heads: Positive | None = None,
        value_path: bool = True,
        prior: bool = True,
        agreement_bias: bool = False,
        beta: float = 2.0,
    ) -> None:
        super().__init__()
        if head_dim is None and dim % heads:
            raise ValueError(f"{heads} heads do not divide a width of {dim}")
        self.tokens, self.width, self.guided = tokens, dim, agreement_bias
        self.latents = drawn(1, tokens, dim)
        self.project = nn.Linear(widths.visual, dim)
        self.blocks = nn.ModuleList(
            ResamplerLayer(dim, heads, head_dim or dim // heads, key_heads or heads) for _ in range(blocks)
        )
        self.norm = nn.RMSNorm(dim, eps=1e-6)
        self.value_path = ValuePath(dim, widths.visual, heads) if value_path else None
        self.prior = GridPrior(tokens, widths.grid, heads) if prior else None
        self.agreement_bias = AgreementBias(heads, beta) if agreement_bias else None

    def forward(self, inputs: ConnectorInput) -> ConnectorOutput:
        """Return [B, K, D] and the attention of the stream `query`, as it is spread over the picture."""
        bias, context = shared_bias(inputs, self.prior, self.agreement_bias), self.project(inputs.visual)
        x, weights = self.latents.repeat(context.shape[0], 1, 1), inputs.visual.new_zeros(0)
        for block in self.blocks:
            x, weights = block(x, context, bias)
        x = self.norm(x)
        if self.value_path is not None:
            x, weights = self.value_path(x, inputs.visual, bias)
        return ConnectorOutput(x, attention={"query": weights})
