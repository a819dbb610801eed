"""SASRec: Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018, arXiv 1808.09781.

A causal transformer over a user's last L items; a place's score of an item is the dot product of its state with that
item's vector (shared with the input). Trained by binary cross-entropy of the next item against one negative, at every
place. As in the authors' code, each sub-layer adds what it gives to its *normalised* input, the attention has no output
projection, and input vectors are scaled by sqrt(d).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgqformer.collaborative.base import Recommender, Scorer
from tgqformer.collaborative.data import Split
from tgqformer.collaborative.sampling import SequenceSampler, last_items
from tgqformer.collaborative.training import Drop, EpochObjective
from tgqformer.config import Natural, NaturalFloat, Positive, settings
from tgqformer.evaluation.metrics import Csr


@settings
class SASRecSettings:
    """SASRec.

    Args:
        dim: width. blocks, heads: of the transformer. length: L, how many of a user's last items are read.
        dropout: of input, attention and feed-forward layers. l2: weight of the item vectors' squared norm.
    """

    dim: Positive = 50
    blocks: Natural = 2
    heads: Positive = 1
    length: Positive = 50
    dropout: Drop = 0.5
    l2: NaturalFloat = 0.0

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ValueError(f"dim ({self.dim}) must be a multiple of heads ({self.heads})")


class SequenceBlock(nn.Module):
    """Causal self-attention and a feed-forward layer over [B, L, d]."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.before, self.between = nn.LayerNorm(dim, eps=1e-8), nn.LayerNorm(dim, eps=1e-8)
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.inner, self.outer = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Change states [B, L, d]; bias [B, 1, L, L] is added to the attention's logits."""
        normed = self.before(x)
        y = self.between(normed + self._attend(normed, x, bias))
        hidden = F.dropout(F.relu(self.inner(y)), self.dropout, self.training)
        result: Tensor = y + F.dropout(self.outer(hidden), self.dropout, self.training)
        return result

    def _attend(self, queries: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
        batch, length, dim = keys.shape
        q, k, v = (
            layer(source).view(batch, length, self.heads, -1).transpose(1, 2)
            for layer, source in ((self.query, queries), (self.key, keys), (self.value, keys))
        )
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias).softmax(-1)
        weights = F.dropout(weights, self.dropout, self.training)
        mixed: Tensor = (weights @ v).transpose(1, 2).reshape(batch, length, dim)
        return mixed


class SASRec(nn.Module):
    """Item vectors and a causal transformer over them.

    Args:
        items: N; item i of the catalogue is i + 1 here, 0 pads. The others: see `SASRecSettings`.
    """

    def __init__(self, items: int, *, dim: int, blocks: int, heads: int, length: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.table = nn.Embedding(items + 1, dim, padding_idx=0)
        self.places = nn.Parameter(torch.empty(length, dim))
        self.blocks = nn.ModuleList([SequenceBlock(dim, heads, dropout) for _ in range(blocks)])
        self.last = nn.LayerNorm(dim, eps=1e-8)
        for name, weight in self.named_parameters():
            if weight.ndim > 1:
                nn.init.xavier_uniform_(weight)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)
        with torch.no_grad():
            self.table.weight[0] = 0
        self.causal: Tensor
        causal = torch.full((length, length), -1e9).triu(1)
        self.register_buffer("causal", causal, persistent=False)

    def forward(self, sequence: Tensor) -> Tensor:
        """Read sequences int64 [B, l], l <= L, of items from 1, padded by 0 at the left; return states [B, l, d].

        Places count from the last one, so a sequence reads the same with any number of zeros at its left.
        """
        return self._read(self.table(sequence), (sequence > 0)[..., None])

    def _read(self, vectors: Tensor, there: Tensor) -> Tensor:
        """Return states [B, l, d] of item vectors [B, l, d], where `there` [B, l, 1] says which are no padding."""
        length = vectors.shape[1]
        x = vectors * vectors.shape[2] ** 0.5 + self.places[-length:]
        x = F.dropout(x, self.dropout, self.training) * there
        bias = self.causal[:length, :length] + torch.where(there.transpose(1, 2), 0.0, -1e9)[:, None]
        for block in self.blocks:
            x = block(x, bias) * there
        states: Tensor = self.last(x)
        return states

    def loss(self, sequence: Tensor, following: Tensor, negatives: Tensor, l2: float = 0.0) -> Tensor:
        """Return the loss of int64 [B, L] inputs, next items and negatives; 0 as next item does not count."""
        # The table is read once: each reading has a gradient of the whole table's size.
        items, places = torch.unique(torch.stack([sequence, following, negatives]), return_inverse=True)
        vectors, parts = self.table(items), []
        for rows, length in by_length(sequence):
            inputs, after, others = (vectors[places[i, rows, -length:]] for i in range(3))
            states = self._read(inputs, (sequence[rows, -length:] > 0)[..., None])
            real = following[rows, -length:] > 0
            liked, other = ((states * one).sum(-1)[real] for one in (after, others))
            parts.append(F.softplus(-liked).sum() + F.softplus(other).sum())
        found = torch.stack(parts).sum() / (following > 0).sum()
        return found + l2 * self.table.weight.pow(2).sum() / 2 if l2 else found

    def vectors(self) -> Tensor:
        """Item vectors [N, d], in the order of the catalogue."""
        return self.table.weight[1:]

    def next_scores(self, sequence: Tensor) -> Tensor:
        """Score every item as the next one of sequences int64 [B, L]: [B, N]."""
        return torch.mm(self(sequence)[:, -1], self.vectors().T)


def by_length(sequence: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Part a batch of padded sequences int64 [B, L] into some of like length: rows, and how many places they need.

    Most users have few items, and a step over [B, L] would mostly compute what pads.
    """
    longest = sequence.shape[1]
    lengths = (sequence > 0).sum(1)
    bounds = sorted({longest, *(bound for bound in (8, 20) if bound < longest)})
    for low, high in pairwise([0, *bounds]):
        rows = ((lengths > low) & (lengths <= high)).nonzero()[:, 0]
        if len(rows):
            yield rows, high


def sasrec(options: SASRecSettings, split: Split, *, batch: int, seed: int, device: torch.device) -> Recommender:
    """Put SASRec on a split."""
    torch.manual_seed(seed)
    length, sizes = options.length, {"dim": options.dim, "blocks": options.blocks, "heads": options.heads}
    model = SASRec(split.items, **sizes, length=length, dropout=options.dropout).to(device)
    sampler = SequenceSampler(split.train, split.items, batch=batch, length=length, seed=seed)

    def loss(sequence: Tensor, following: Tensor, negatives: Tensor) -> Tensor:
        return model.loss(sequence, following, negatives, options.l2)

    def scorer(known: Csr) -> Scorer:
        return lambda users: model.next_scores(torch.from_numpy(last_items(known, users, length)).to(device))

    objective = EpochObjective(model, sampler.steps, sampler.draw, loss, seed=seed)
    return Recommender(scorer, model.vectors, objective=objective)
