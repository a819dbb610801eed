"""Attention of few queries over many tokens, and the transformer block of the Q-Former family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

FUSED_LINEAR = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]

CACHE = 8 << 20  # bytes of an intermediate result that stay near the cores
SMALL_PRODUCTS = 1.7  # a multiplication of the folded order against one of the direct order, in time, on a CPU


def dense(layer: nn.Linear, x: Tensor, activation: Literal["none", "gelu"] = "none") -> Tensor:
    """Apply `layer`, then the activation, to x [..., in].

    Where no gradient is needed on a CPU, oneDNN's product does both at once; it is a tenth faster than PyTorch's own.
    """
    plain = x.is_cpu and x.dtype == layer.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if plain and not torch.is_grad_enabled() and FUSED_LINEAR and not torch.compiler.is_exporting():
        fused: Tensor = torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, activation, [], "none")
        return fused
    y: Tensor = layer(x)
    return F.gelu(y) if activation == "gelu" else y


def _fused_flops(x: torch.Size, weight: torch.Size, *_: object, **__: object) -> int:
    """Return what `torch.utils.flop_counter` is to count for oneDNN's product, which it does not know."""
    return 2 * x.numel() * weight[0]


if FUSED_LINEAR:
    register_flop_formula(torch.ops.mkldnn._linear_pointwise)(_fused_flops)


def drawn(*shape: int, std: float = 0.5) -> nn.Parameter:
    """Return a parameter drawn from a normal distribution: learned queries, latents, positions."""
    values = torch.empty(shape)
    return nn.Parameter(values if values.is_meta else values.normal_(std=std))  # on "meta" there is nothing to draw


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

    Keys and values are linear in the tokens, so that `q·(W x) = (Wᵀq)·x` and `Σ w (W x) = W Σ w x`: with few queries
    it is cheaper to bring the queries to the tokens' width than each token to the queries'. The two orders give the
    same result; the cheaper one is taken. What the folded order makes on the way is larger than what
    it gives, so on a CPU it goes through the batch in portions that stay in the cache.

    The bias of `key` is not trained: it moves all logits of a query alike, and a softmax does not see that.

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
        nn.init.zeros_(self.key.bias.requires_grad_(False))
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
            (pooled [B, Q, D], weights [B, heads, Q, P]). A query that sees no token gets zeros.
        """
        q = self._split(dense(self.query, queries)) / math.sqrt(queries.shape[-1] // self.heads)
        values = context if values is None else values
        mask = None if mask is None else mask[:, None, None, :]
        traced = torch.compiler.is_exporting()
        if traced or not self._folding_pays(queries.shape[1], context.shape[1], shared=len(queries) < len(context)):
            return self._direct(q, context, values, mask, bias)
        item_bytes = self.heads * queries.shape[1] * self.key.in_features * q.element_size()
        portion = max(1, CACHE // item_bytes) if q.is_cpu else len(context)
        portions = (_split_batch(x, len(context), portion) for x in (q, context, values, mask, bias))
        pooled, weights = zip(*(self._folded(*each) for each in zip(*portions, strict=True)), strict=True)
        return (pooled[0], weights[0]) if len(pooled) == 1 else (torch.cat(pooled), torch.cat(weights))

    def _folding_pays(self, queries: int, tokens: int, shared: bool) -> bool:
        """Compare multiplications; many small products are slower than few large ones, measured by `SMALL_PRODUCTS`."""
        dim, context_dim = self.key.out_features, self.key.in_features
        into_width = queries * dim * context_dim * (0.5 if shared else 1.0)  # shared queries: values only
        folded = self.heads * queries * tokens * context_dim + into_width
        return SMALL_PRODUCTS * folded < tokens * dim * context_dim + queries * tokens * dim

    def _split(self, x: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, heads, D / heads]."""
        return x.view(*x.shape[:2], self.heads, x.shape[2] // self.heads)

    def _direct(
        self, q: Tensor, context: Tensor, values: Tensor, mask: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Bring every token to the queries' width. q (Tensor): [B, Q, heads, D / heads]; the rest as in `forward`."""
        key = self._split(dense(self.key, context)).transpose(1, 2)
        value = self._split(dense(self.value, values)).transpose(1, 2)
        weights = _weights(q.transpose(1, 2) @ key.mT, mask, bias)
        return (weights @ value).transpose(1, 2).flatten(2), weights

    def _folded(
        self, q: Tensor, context: Tensor, values: Tensor, mask: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Bring the queries to the tokens' width, and what they pooled back. q (Tensor): [B, Q, heads, D / heads]."""
        key, value = (layer.weight.view(self.heads, -1, layer.in_features) for layer in (self.key, self.value))
        shape = (self.heads, q.shape[1])
        sought = torch.einsum("bqhd,hdc->bhqc", q, key).flatten(1, 2)  # [B, heads · Q, Dc]
        logits = (context @ (sought[0] if len(sought) == 1 else sought).mT).mT  # one product for shared queries
        weights = _weights(logits.reshape(len(context), *shape, context.shape[1]), mask, bias)
        pooled = (weights.flatten(1, 2) @ values).view(len(values), *shape, values.shape[2])
        offset = self.value.bias if mask is None else self.value.bias * mask[:, 0].any(-1, keepdim=True)
        return torch.einsum("bhqc,hdc->bqhd", pooled, value).flatten(2) + offset, weights


def _weights(logits: Tensor, mask: Tensor | None, bias: Tensor | None) -> Tensor:
    return masked_softmax(logits if bias is None else logits + bias, mask)


def _split_batch(x: Tensor | None, batch: int, portion: int) -> Sequence[Any]:
    """Split into portions of `portion` items; what all items share (one row, or nothing) goes whole into each."""
    if x is None or len(x) < batch:
        return [x] * max(1, math.ceil(batch / portion))
    return torch.split(x, portion)


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
        q, k, v = (
            dense(self.query_key_value, x)
            .view(*x.shape[:2], 3, self.heads, x.shape[2] // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        return F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)


class QFormerBlock(nn.Module):
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
        bias: Tensor | None = None,
        seen: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Run the block.

        queries (Tensor): [B, Q, D], or [1, Q, D] when all items share them so far.
        context (Tensor): [B, P, Dc]; bias (Tensor): broadcastable to [B, heads, Q, P].
        seen (Tensor): bool [Q, Q], which queries see each other in self-attention; None for all.

        Returns:
            (queries [B, Q, D], cross-attention weights [B, heads, Q, P] or None).
        """
        return self.look(self.mix(queries, seen), context, bias)

    def mix(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Self-attention over x [B, Q, D] with its residual; `seen` is broadcastable to bool [B, heads, Q, Q]."""
        mixed: Tensor = self.self_norm(x + self.dropout(dense(self.self_out, self.self_attention(x, seen))))
        return mixed

    def look(self, x: Tensor, context: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Cross-attention of x [B, Q, D] to the tokens, and feed-forward; arguments and results as in `forward`."""
        weights = None
        if self.cross_attention is not None:
            pooled, weights = self.cross_attention(x, context, None, bias)
            x = self.cross_norm(x + self.dropout(dense(self.cross_out, pooled)))
        return self.feed_norm(x + self.dropout(dense(self.feed_out, dense(self.feed_in, x, "gelu")))), weights


class ValuePath(nn.Module):
    """Each query also pools `MLP(token)` over the tokens by one more attention, in the same places (ours).

    A linear value cannot tell "red cloth" from "red" and "cloth" apart; pooling a non-linear function of each token
    can.

    Args:
        dim: D. context_dim: Dc. heads: number of heads.
    """

    def __init__(self, dim: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.attention = CrossAttention(dim, context_dim, heads, value_dim=dim)
        self.mlp = nn.Sequential(nn.Linear(context_dim, dim), nn.GELU())

    def forward(self, queries: Tensor, context: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return (queries [B, Q, D] with what they pooled added, weights [B, heads, Q, P])."""
        inner = self.mlp[0]
        assert isinstance(inner, nn.Linear)
        pooled, weights = self.attention(queries, context, None, bias, values=dense(inner, context, "gelu"))
        return queries + pooled, weights
