"""Attention of few queries over many tokens, and the transformer block of the Q-Former family."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def masked_softmax(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over the last dimension among the places where `mask` is True; all zeros where none is.

    logits (Tensor): [..., P]; mask (Tensor): bool, broadcastable to it.
    """
    if mask is None:
        return logits.softmax(-1)
    weights = logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(-1)
    return weights * mask


class CrossAttention(nn.Module):
    """Multi-head attention of Q queries over P tokens of another width.

    Keys and values are linear in the tokens, so that `q·(W x) = (Wᵀq)·x` and `Σ w (W x) = W Σ w x`: with few queries it is
    cheaper to bring the queries to the tokens' width than each token to the queries'. The two orders give the same
    result; the one with fewer multiplications is taken.

    Args:
        dim: D, width of queries and output.
        context_dim: Dc, width of the tokens.
        heads: number of heads; divides D.
        value_dim: width of the values, where they are made of something else than the tokens.
    """

    def __init__(self, dim: int, context_dim: int, heads: int, value_dim: int | None = None) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide a width of {dim}")
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(context_dim, dim)
        self.value = nn.Linear(value_dim or context_dim, dim)

    def forward(
        self,
        queries: Tensor,
        context: Tensor,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
        values: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attend.

        queries (Tensor): [B, Q, D]; B may be 1 for queries that all items share.
        context (Tensor): [B, P, Dc].
        mask (Tensor): bool [B, P], True where a token is real.
        bias (Tensor): added to the logits, broadcastable to [B, heads, Q, P].
        values (Tensor): [B, P, value_dim], what is pooled; None for the tokens themselves.

        Returns:
            (pooled [B, Q, D], weights [B, heads, Q, P]). An item with no real token gets zeros.
        """
        q = self._split(self.query(queries)) / math.sqrt(queries.shape[-1] // self.heads)
        folded = self._folding_pays(q.shape[2], context.shape[1])
        logits = self._folded_logits(q, context) if folded else q @ self._split(self.key(context)).transpose(-1, -2)
        if bias is not None:
            logits = logits + bias
        weights = masked_softmax(logits, None if mask is None else mask[:, None, None, :])
        values = context if values is None else values
        pooled = self._folded_values(weights, values) if folded else weights @ self._split(self.value(values))
        return pooled.transpose(1, 2).flatten(2), weights

    def _folding_pays(self, queries: int, tokens: int) -> bool:
        dim, context_dim = self.key.out_features, self.key.in_features
        folded = self.heads * queries * tokens * context_dim + queries * dim * context_dim
        return folded < tokens * dim * context_dim + queries * tokens * dim

    def _split(self, x: Tensor) -> Tensor:
        """[B, L, D] -> [B, heads, L, D / heads]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _folded_logits(self, q: Tensor, context: Tensor) -> Tensor:
        key = self.key.weight.unflatten(0, (self.heads, -1))  # [heads, D / heads, Dc]
        seen = (q @ key).flatten(1, 2)  # [B, heads · Q, Dc]
        constant = (q @ self.key.bias.unflatten(0, (self.heads, -1)).unsqueeze(-1)).flatten(1, 2)  # [B, heads · Q, 1]
        if len(seen) != len(context):
            seen, constant = seen.expand(len(context), -1, -1), constant.expand(len(context), -1, -1)
        return torch.baddbmm(constant, seen, context.transpose(1, 2)).unflatten(1, (self.heads, -1))

    def _folded_values(self, weights: Tensor, context: Tensor) -> Tensor:
        pooled = (weights.flatten(1, 2) @ context).unflatten(1, (self.heads, -1))  # [B, heads, Q, Dc]
        value = self.value.weight.unflatten(0, (self.heads, -1)).transpose(-1, -2)  # [heads, Dc, D / heads]
        bias = self.value.bias.unflatten(0, (self.heads, -1)).unsqueeze(1)  # [heads, 1, D / heads]
        return pooled @ value + weights.sum(-1, keepdim=True) * bias


class SelfAttention(nn.Module):
    """Multi-head self-attention over the queries, with one product for query, key and value."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide a width of {dim}")
        self.heads = heads
        self.query_key_value = nn.Linear(dim, 3 * dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (Tensor): [B, Q, D]; mask (Tensor): bool, broadcastable to [B, heads, Q, Q], True where seen."""
        q, k, v = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = masked_softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), mask)
        return (weights @ v).transpose(1, 2).flatten(2)


class Block(nn.Module):
    """Self-attention over queries, cross-attention to tokens, feed-forward; residuals normalised after (BERT, BLIP-2).

    Args:
        dim: D. context_dim: Dc. heads: number of heads. hidden: width of the feed-forward.
        cross: whether the block looks at the tokens at all (BLIP-2: every second one does).
        dropout: probability in the residual branches.
    """

    def __init__(
        self, dim: int, context_dim: int, heads: int, *, hidden: int, cross: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.self_attention = SelfAttention(dim, heads)
        self.self_out = nn.Linear(dim, dim)
        self.self_norm = nn.LayerNorm(dim, eps=1e-12)
        self.cross_attention = CrossAttention(dim, context_dim, heads) if cross else None
        if cross:
            self.cross_out = nn.Linear(dim, dim)
            self.cross_norm = nn.LayerNorm(dim, eps=1e-12)
        self.feed_in = nn.Linear(dim, hidden)
        self.feed_out = nn.Linear(hidden, dim)
        self.feed_norm = nn.LayerNorm(dim, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        queries: Tensor,
        context: Tensor,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
        seen: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Run the block.

        queries (Tensor): [B, Q, D], or [1, Q, D] when all items share them so far.
        context (Tensor): [B, P, Dc]; mask (Tensor): bool [B, P]; bias (Tensor): broadcastable to [B, heads, Q, P].
        seen (Tensor): bool [Q, Q], which queries see each other in self-attention; None for all.

        Returns:
            (queries [B, Q, D], cross-attention weights [B, heads, Q, P] or None).
        """
        x = self.self_norm(queries + self.dropout(self.self_out(self.self_attention(queries, seen))))
        weights = None
        if self.cross_attention is not None:
            pooled, weights = self.cross_attention(x, context, mask, bias)
            x = self.cross_norm(x + self.dropout(self.cross_out(pooled)))
        return self.feed_norm(x + self.dropout(self.feed_out(F.gelu(self.feed_in(x))))), weights


class ValuePath(nn.Module):
    """Each query also pools `MLP(token)` over the tokens by one more attention, in the same places (ours).

    A linear value cannot tell "red cloth" from "red" and "cloth" apart; pooling a non-linear function of each token can.

    Args:
        dim: D. context_dim: Dc. heads: number of heads.
    """

    def __init__(self, dim: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.attention = CrossAttention(dim, context_dim, heads, value_dim=dim)
        self.mlp = nn.Sequential(nn.Linear(context_dim, dim), nn.GELU())

    def forward(
        self, queries: Tensor, context: Tensor, mask: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Give (pooled [B, Q, D], weights [B, heads, Q, P])."""
        pooled, weights = self.attention(queries, context, mask, bias, values=self.mlp(context))
        return pooled, weights
