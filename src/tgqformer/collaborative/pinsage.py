"""PinSage: Ying, He, Chen, Eksombatchai, Hamilton, Leskovec, "Graph Convolutional Neural Networks for Web-Scale
Recommender Systems", KDD 2018, arXiv 1806.01973.

An item's neighbours are what short random walks from it visit most; a convolution pools what they say, weighted by
visits (importance pooling), and joins it to what the item itself says (algorithm 1). Trained by a max-margin loss on
pairs against negatives shared by the batch and, by a curriculum, hard ones: items that walks visit, but seldom.
Ours: the final vectors are of unit length, so that their score is the cosine and the margin has a scale.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgqformer.collaborative.base import Recommender, profile_scorer
from tgqformer.collaborative.data import Split
from tgqformer.collaborative.graph import interactions_matrix
from tgqformer.collaborative.training import Drop, EpochObjective
from tgqformer.collaborative.walks import Visits, walk
from tgqformer.config import Natural, NaturalFloat, Positive, settings
from tgqformer.errors import TgqError
from tgqformer.evaluation.metrics import Csr
from tgqformer.types import Ints, Vectors

_ITEMS_AT_ONCE = 4096


@settings
class PinSageSettings:
    """PinSage.

    Args:
        dim: width of the vectors and, without content, of what is learned for each item. hidden: of the messages.
        layers: convolutions; 0 uses content alone. neighbours: T, items that a convolution pools.
        importance: pool by visits; otherwise all neighbours weigh the same.
        walks, length, restart: of the random walks, see `walks.walk`.
        margin: Δ. negatives: shared by the batch. hard: hard negatives of each pair at most: none in the first epoch,
            one more in each epoch after it. hard_from, hard_to: the ranks by visits among which they are drawn.
        hide: with content, how often an item of a batch is shown without its neighbours, so that new items, which have
            none, land where they would with them (ours).
        carry: with content, whether an item's own content and that of its neighbours also reach the final vector as
            they are, by principal axes that go on learning (ours).
    """

    dim: Positive = 64
    hidden: Positive = 128
    layers: Natural = 2
    neighbours: Positive = 10
    importance: bool = True
    walks: Positive = 50
    length: Positive = 3
    restart: Drop = 0.3
    margin: NaturalFloat = 0.1
    negatives: Positive = 500
    hard: Natural = 5
    hard_from: Natural = 30
    hard_to: Positive = 100
    hide: Drop = 0.0
    carry: bool = False

    def __post_init__(self) -> None:
        if self.hard_from >= self.hard_to:
            raise ValueError(f"hard_from ({self.hard_from}) must be below hard_to ({self.hard_to})")


def pooled(vectors: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum [n, width] of the rows of vectors [m, width] at places int64 [n, T]; weights: [n, T]."""
    return F.embedding_bag(places, vectors, mode="sum", per_sample_weights=weights)


class Convolution(nn.Module):
    """Algorithm 1: an item's vector from its own and its neighbours'."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, hidden), nn.Linear(width + hidden, out)

    def forward(self, own: Tensor, others: Tensor, places: Tensor, weights: Tensor) -> Tensor:
        """Return vectors [n, out] of unit length.

        own: [n, width]. others: [m, width], all items that are anyone's neighbour. places: int64 [n, T], whose rows of
        `others` the neighbours are. weights: [n, T].
        """
        messages = F.relu(self.inner(others))
        found = torch.cat([own, pooled(messages, places, weights)], 1)
        return F.normalize(F.relu(self.outer(found)), dim=1)


class PinSage(nn.Module):
    """Item vectors from content, or from vectors learned for each item, convolved over their neighbourhoods.

    Args:
        neighbours, weights: int64 and float32 [N, T], of `Visits.nearest`. dim, hidden, layers, hide: see
            `PinSageSettings`. features: float32 [N, Df], content of the items; None learns a vector for each. carry: of
            the features to `dim`, float32 [dim, Df], where it starts; None for none.
    """

    def __init__(
        self,
        neighbours: Tensor,
        weights: Tensor,
        *,
        dim: int,
        hidden: int,
        layers: int,
        hide: float = 0.0,
        features: Tensor | None = None,
        carry: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.hide = hide if features is not None else 0.0
        self.register_buffer("neighbours", neighbours, persistent=False)
        self.register_buffer("weights", weights, persistent=False)
        self.neighbours: Tensor
        self.weights: Tensor
        self.table: Tensor
        if features is None:
            self.table = nn.Parameter(torch.randn(len(neighbours), dim) * 0.1)
        else:
            self.register_buffer("table", features, persistent=False)
        widths = [self.table.shape[1], *[dim] * layers]
        self.convolutions = nn.ModuleList([Convolution(width, hidden, dim) for width in widths[:-1]])
        self.final = nn.Sequential(nn.Linear(widths[-1], dim), nn.ReLU(), nn.Linear(dim, dim, bias=False))
        self.carry = None if carry is None else nn.Parameter(carry.clone())
        self.register_buffer("own", None if carry is None else F.normalize(self.table, dim=1), persistent=False)
        around = None if carry is None else pooled(self.own, neighbours, weights)
        self.register_buffer("around", around, persistent=False)
        self.own: Tensor
        self.around: Tensor

    def forward(self, items: Tensor) -> Tensor:
        """Return vectors [n, d] of unit length for items int64 [n]; only what they hang on is computed."""
        levels = [torch.unique(items)]
        for _ in self.convolutions:
            levels.append(torch.unique(torch.cat([levels[-1], self.neighbours[levels[-1]].flatten()])))
        weights = self._shown()
        x = self.table[levels[-1]]
        for convolution, below, here in zip(self.convolutions, levels[:0:-1], levels[-2::-1], strict=True):
            places = torch.searchsorted(below, self.neighbours[here])
            x = convolution(x[torch.searchsorted(below, here)], x, places, weights[here])
        final = self.final(x)
        if self.carry is not None:
            final = F.normalize(final, dim=1) + self._carried(levels[0], weights)
        return F.normalize(final, dim=1)[torch.searchsorted(levels[0], items)]

    def _carried(self, items: Tensor, weights: Tensor) -> Tensor:
        """Return an item's own content plus the mean of its neighbours', as directions: [n, dim]."""
        assert self.carry is not None
        own, around = (F.normalize(content[items] @ self.carry.T, dim=1) for content in (self.own, self.around))
        shown = weights[items].any(1, keepdim=True)
        return own + around * shown

    def _shown(self) -> Tensor:
        """Return the weights [N, T], zero for items that are shown without neighbours (torch's own random numbers)."""
        if not (self.training and self.hide):
            return self.weights
        return self.weights * (torch.rand(len(self.weights), 1, device=self.weights.device) >= self.hide)

    def vectors(self) -> Tensor:
        """Item vectors [N, d], some items at a time."""
        everything = torch.arange(len(self.neighbours), device=self.neighbours.device)
        return torch.cat([self(part) for part in torch.split(everything, _ITEMS_AT_ONCE)])

    def loss(self, queries: Tensor, positives: Tensor, shared: Tensor, hard: Tensor, margin: float) -> Tensor:
        """Max-margin loss (equation 1) of pairs int64 [B] against negatives `shared` [S] and `hard` [B, H].

        A negative that is its pair's query or positive does not count.
        """
        ids = torch.cat([queries, positives, shared, hard.flatten()])
        sizes = [len(queries), len(positives), len(shared), hard.numel()]
        q, p, s, h = self(ids).split(sizes)
        of_hard = torch.einsum("bd,bhd->bh", q, h.view(*hard.shape, q.shape[1]))
        others = torch.cat([shared.expand(len(q), -1), hard], 1)
        wrong = (others == queries[:, None]) | (others == positives[:, None])
        short = F.relu(torch.cat([q @ s.T, of_hard], 1) - (q * p).sum(1, keepdim=True) + margin)
        return short.masked_fill(wrong, 0.0).sum() / (~wrong).sum().clamp_min(1)


class PairSource(Protocol):
    """Where the pairs of a batch come from."""

    def __len__(self) -> int:
        """How many pairs make an epoch."""
        ...

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Draw pairs: queries and positives, int64 [count] each."""
        ...


class UserPairs:
    """Pairs of two items of one user: a click drawn uniformly, and another of the same user.

    Args:
        rows: Csr of users, each item once in a row; users with one item make no pair.
    """

    def __init__(self, rows: Csr) -> None:
        self.rows, self._user = rows, rows.rows()
        self._usable = np.flatnonzero(np.diff(rows.indptr)[self._user] > 1)
        if not len(self._usable):
            raise TgqError("no user has two different items: there is no pair to train on")

    def __len__(self) -> int:
        """As many pairs as there are interactions."""
        return len(self._usable)

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Draw pairs."""
        at = rng.choice(self._usable, count)
        start, stop = self.rows.indptr[self._user[at]], self.rows.indptr[self._user[at] + 1]
        further = 1 + np.floor(rng.random(len(at)) * (stop - start - 1)).astype(np.int64)
        other = start + (at - start + further) % (stop - start)
        return self.rows.indices[at], self.rows.indices[other]


class MinedPairs:
    """Pairs as `tgq pairs mine` finds them, each alike often, in either direction.

    Args:
        a, b: int64 [M], places of the items.
    """

    def __init__(self, a: Ints, b: Ints) -> None:
        if not len(a):
            raise TgqError("no pair is of two items that are known here: there is nothing to train on")
        self.pairs = np.stack([a, b], axis=1)

    def __len__(self) -> int:
        """As many as there are pairs, in both directions."""
        return 2 * len(self.pairs)

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Draw pairs."""
        at, side = rng.integers(len(self.pairs), size=count), rng.integers(2, size=count)
        return self.pairs[at, side], self.pairs[at, 1 - side]


class PairDraws:
    """Pairs with shared and hard negatives; a function of (seed, epoch, step) alone.

    Args:
        pairs: where they come from. items: N. visits: of the walks.
    """

    def __init__(
        self, pairs: PairSource, items: int, visits: Visits, options: PinSageSettings, *, batch: int, seed: int
    ) -> None:
        self.pairs, self.items, self.batch, self.seed = pairs, items, batch, seed
        self.shared, self.hard = options.negatives, options.hard
        self._seldom = visits.items[:, options.hard_from : options.hard_to]

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.pairs) // self.batch)

    def draw(self, epoch: int, step: int) -> tuple[Ints, Ints, Ints, Ints]:
        """Return queries [B], positives [B], shared negatives [S] and hard negatives [B, H]; H grows with the epoch."""
        rng = np.random.default_rng([self.seed, epoch, step])
        queries, positives = self.pairs.draw(self.batch, rng)
        shared = rng.integers(self.items, size=self.shared)
        return queries, positives, shared, self._hard(queries, min(epoch, self.hard), rng)

    def _hard(self, queries: Ints, count: int, rng: np.random.Generator) -> Ints:
        """Draw seldom visited items; where a query has none, any item."""
        seldom = self._seldom[queries]
        there = (seldom >= 0).sum(1)[:, None]
        places = np.floor(rng.random((len(queries), count)) * there).astype(np.int64)
        anything = rng.integers(self.items, size=(len(queries), count))
        return np.where(there > 0, np.take_along_axis(seldom, places, 1), anything)


def pinsage(
    options: PinSageSettings,
    split: Split,
    *,
    batch: int,
    seed: int,
    device: torch.device,
    features: Vectors | None = None,
    pairs: tuple[Ints, Ints] | None = None,
) -> Recommender:
    """Put PinSage on a split, with content `features` [N, Df] or without.

    pairs: places of two items each, int64 [M], to train on instead of two items of one user; the graph is that of the
    split in any case.
    """
    if features is None and not options.layers:
        raise TgqError("PinSage without layers is content alone, and there are no features; give --features or layers")
    torch.manual_seed(seed)
    how = {"walks": options.walks, "length": options.length, "restart": options.restart}
    keep = max(options.neighbours, options.hard_to)
    visits = walk(split.train, split.items, **how, keep=keep, seed=seed, shown=True)  # type: ignore[arg-type]
    model = _model(options, visits, features).to(device)
    matrix = interactions_matrix(split.train, split.items)
    rows = Csr(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64))
    source = UserPairs(rows) if pairs is None else MinedPairs(*pairs)
    draws = PairDraws(source, split.items, visits, options, batch=batch, seed=seed)

    def loss(queries: Tensor, positives: Tensor, shared: Tensor, hard: Tensor) -> Tensor:
        return model.loss(queries, positives, shared, hard, options.margin)

    objective = EpochObjective(model, draws.steps, draws.draw, loss, seed=seed)
    return Recommender(profile_scorer(model.vectors), model.vectors, "cosine", objective)


def _model(options: PinSageSettings, visits: Visits, features: Vectors | None) -> PinSage:
    neighbours, weights = visits.nearest(options.neighbours, importance=options.importance)
    content = None if features is None else torch.from_numpy(standardised(features))
    return PinSage(
        torch.from_numpy(neighbours),
        torch.from_numpy(weights),
        dim=options.dim,
        hidden=options.hidden,
        layers=options.layers,
        hide=options.hide,
        features=content,
        carry=principal_axes(content, options.dim) if content is not None and options.carry else None,
    )


def standardised(features: Vectors) -> Vectors:
    """Return each column mean 0 and variance 1 over the items [N, Df]; a constant column becomes 0."""
    centred = features - features.mean(0, keepdims=True)
    spread = centred.std(0, keepdims=True)
    return np.asarray(np.where(spread > 1e-8, centred / np.maximum(spread, 1e-8), 0.0), dtype=np.float32)


def principal_axes(features: Tensor, dim: int) -> Tensor:
    """Return the first `dim` principal axes of the directions of features [N, Df]: [dim, Df], orthonormal.

    Features with fewer columns have fewer axes; zeros follow.
    """
    unit = F.normalize(features, dim=1).double()
    _, found = torch.linalg.eigh(unit.T @ unit)
    axes = torch.zeros(dim, features.shape[1])
    kept = min(dim, features.shape[1])
    axes[:kept] = found.flip(1)[:, :kept].T.float()
    return axes
