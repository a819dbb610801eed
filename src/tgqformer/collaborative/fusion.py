"""Content and behaviour joined: late fusion of ranked lists, and one vector for each item learned on pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn import functional as F

from tgqformer.collaborative.base import Features
from tgqformer.collaborative.data import Ints
from tgqformer.collaborative.lists import Lists
from tgqformer.errors import TgqError
from tgqformer.progress import progress

Floats = NDArray[np.float64]


def reciprocal_rank(
    lists: Sequence[Ints], k: int, *, weights: Sequence[float] | None = None, constant: float = 60.0
) -> tuple[Ints, Floats]:
    """Fuse ranked lists: an item's score is the sum of weight / (constant + its place, from 1) over the lists.

    Cormack, Clarke, Buettcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods",
    SIGIR 2009.

    Args:
        lists: int64 [Q, K] each, items best first, -1 where a list has no more. k: length of the answer.
        weights: of the lists, all 1 if None; a weight may be 0.

    Returns:
        Items int64 [Q, k], best first, -1 where there are no more, and their scores float64 [Q, k]. Equal scores stand
        in the order of the items.
    """
    values = [np.broadcast_to(1.0 / (constant + 1 + np.arange(one.shape[1])), one.shape) for one in lists]
    return _fuse(lists, values, k, weights)


def weighted_scores(
    lists: Sequence[Ints], scores: Sequence[NDArray[np.floating]], k: int, *, weights: Sequence[float] | None = None
) -> tuple[Ints, Floats]:
    """Fuse ranked lists by their scores, each list's scores of a query scaled to 0 (its last) … 1 (its first).

    An item that a list does not hold gets 0 from it. scores: [Q, K] each, beside `lists`; see `reciprocal_rank`.
    """
    scaled = []
    for items, found in zip(lists, scores, strict=True):
        real = items >= 0
        low = np.where(real, found, np.inf).min(1, keepdims=True)
        high = np.where(real, found, -np.inf).max(1, keepdims=True)
        span = np.where(high > low, high - low, 1.0)
        share = np.where(high > low, (found - low) / span, 1.0)
        scaled.append(np.where(real, share, 0.0).astype(np.float64))
    return _fuse(lists, scaled, k, weights)


def spread(vectors: Features, lists: Lists, share: float, near: int = 30) -> Features:
    """Spread content over behaviour: add to each item's vector `share` times that of the items clicked with it.

    x_i + share · y_i, where y_i is the direction of the mean of x_j over the first `near` of i's list, weighted by
    their scores; an item without a list keeps its own vector. It is one step of a graph convolution without weights
    (Wu et al., "Simplifying Graph Convolutional Networks", ICML 2019): what is wrong in one picture is made up for by
    its neighbours' pictures, and a new item, which has none, is compared with vectors that are right more often.

    Args:
        vectors: float32 [N, d], of any length. lists: of the N items, by a model of behaviour.

    Returns:
        float32 [N, d] of unit length, zeros for an item without content whose neighbours have none.
    """
    own = _unit(vectors)
    there = lists.items[:, :near] >= 0
    rows = np.broadcast_to(np.arange(len(own))[:, None], there.shape)[there]
    weights = np.maximum(lists.scores[:, :near][there], 0.0)
    graph = csr_array((weights, (rows, lists.items[:, :near][there])), shape=(len(own), len(own)))
    return _unit(own + share * _unit(np.asarray(graph @ own)))


def _unit(vectors: Features) -> Features:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)


@dataclass(frozen=True)
class FusionSettings:
    """How vectors of several sources are fused.

    Args:
        steps, batch, lr: of the training on pairs. temperature: of the contrastive loss.
        hide: how often an item that has several sources is shown without one of them, so that new items, which have
            only content, land where they would with all. ridge: of the regression that the guesses start from.
        seed: of draws and weights.
    """

    steps: int = 500
    batch: int = 256
    lr: float = 1e-3
    temperature: float = 0.07
    hide: float = 0.3
    ridge: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if (
            self.steps < 0
            or self.batch < 2
            or self.lr <= 0
            or min(self.temperature, self.ridge) <= 0
            or not 0 <= self.hide <= 1
        ):
            raise ValueError(
                f"fusion takes steps >= 0, batch >= 2, lr, temperature, ridge > 0, hide in [0, 1]; found {self}"
            )


class Fusion(nn.Module):
    """One vector from several: parts laid side by side, each changed by a matrix; a missing part is guessed.

    Part s is `own[s](x_s)` where source s is there; where it is not, it is the direction of the sum of
    `guess[t][s](x_t)` over those that are. At the start `own` changes nothing, so that the cosine of two items that
    have all sources is the mean of the sources' cosines, and `guess` is what `start_guesses` finds by regression
    (Gantner et al., ICDM 2010). In training sources are hidden as in DropoutNet (Volkovs, Yu, Poutanen, NIPS 2017).

    Args:
        widths: of the sources.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.own = nn.ModuleList([_linear(torch.eye(width)) for width in widths])
        self.guess = nn.ModuleList(
            [nn.ModuleList([_linear(torch.zeros(other, width)) for other in widths]) for width in widths]
        )

    @torch.no_grad()
    def start_guesses(self, sources: Sequence[Tensor], there: Tensor, ridge: float) -> None:
        """Set each guess by ridge regression on the items that have both sources; shapes as in `forward`."""
        for t, guesses in enumerate(self.guess):
            for s, weight in enumerate(guesses.parameters()):
                both = there[:, t] & there[:, s]
                x, y = sources[t][both], sources[s][both]
                weight.copy_(torch.linalg.solve(x.T @ x + ridge * torch.eye(x.shape[1]), x.T @ y).T)

    def forward(self, sources: Sequence[Tensor], there: Tensor) -> Tensor:
        """Fuse sources [n, d_s], rows of unit length, known where bool [n, S] `there`: [n, Σ d_s], unit length."""
        shown = [source * there[:, s, None] for s, source in enumerate(sources)]
        parts = []
        for s, own in enumerate(self.own):
            others = [self.guess[t][s](shown[t]) for t in range(len(shown)) if t != s]  # type: ignore[index]
            guessed = torch.stack(others).sum(0) if others else torch.zeros_like(shown[s])
            parts.append(torch.where(there[:, s, None], own(shown[s]), F.normalize(guessed, dim=1)))
        return F.normalize(torch.cat(parts, 1), dim=1)


def fuse_vectors(
    sources: Sequence[Features], a: Ints, b: Ints, settings: FusionSettings | None = None, *, shown: bool = True
) -> Features:
    """Learn on pairs how to fuse the sources' vectors, and fuse them.

    Args:
        sources: float32 [N, d_s] each, of the same items; a row of zeros says that the source does not know the item.
        a, b: int64 [M], the two items of each training pair.

    Returns:
        float32 [N, Σ d_s] of unit length (zeros for an item that no source knows), to be compared by cosine.

    Raises:
        TgqError: where there is no pair, or the sources have different numbers of items.
    """
    settings = settings or FusionSettings()
    if len({len(source) for source in sources}) != 1 or not len(a):
        sizes = [len(source) for source in sources]
        raise TgqError(
            f"fusion needs sources of the same items and at least one pair; got {sizes} items, {len(a)} pairs"
        )
    there = torch.from_numpy(np.stack([np.abs(source).sum(1) > 0 for source in sources], axis=1))
    tensors = [F.normalize(torch.from_numpy(source), dim=1) for source in sources]
    torch.manual_seed(settings.seed)
    model = Fusion([source.shape[1] for source in sources])
    model.start_guesses(tensors, there, settings.ridge)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr)
    with progress("fusing vectors", settings.steps, shown=shown) as bar:
        for step in range(settings.steps):
            rng = np.random.default_rng([settings.seed, step])
            at = rng.integers(len(a), size=settings.batch)
            queries, positives = torch.from_numpy(a[at]), torch.from_numpy(b[at])
            items = torch.cat([queries, positives])
            fused = model([tensor[items] for tensor in tensors], _hidden(there[items], settings.hide, rng))
            loss = _contrast(fused, queries, positives, settings.temperature)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            bar.advance()
    with torch.no_grad():
        return np.asarray(model(tensors, there).numpy(), dtype=np.float32)


def _linear(start: Tensor) -> nn.Linear:
    layer = nn.Linear(start.shape[1], start.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(start)
    return layer


def _contrast(fused: Tensor, queries: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """InfoNCE both ways, [2 B, d]; the same item again is no negative."""
    left, right = fused.chunk(2)
    logits = left @ right.T / temperature
    same = (queries[:, None] == queries) | (positives[:, None] == positives) | (queries[:, None] == positives)
    same &= ~torch.eye(len(queries), dtype=torch.bool)
    logits = logits.masked_fill(same, -1e4)
    target = torch.arange(len(queries))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _hidden(there: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Hide one source of some of the items that have several: bool [n, S]."""
    known = there.numpy()
    several = (known.sum(1) > 1) & (rng.random(len(known)) < share)
    chosen = np.where(known, rng.random(known.shape), -1.0).argmax(1)
    shown = known.copy()
    shown[np.flatnonzero(several), chosen[several]] = False
    return torch.from_numpy(shown)


def _fuse(
    lists: Sequence[Ints], values: Sequence[Floats], k: int, weights: Sequence[float] | None
) -> tuple[Ints, Floats]:
    """Sum values by (query, item) and give the best k of each query."""
    if not lists or len({len(one) for one in lists}) != 1:
        raise TgqError(f"lists of the same queries can be fused; got {[len(one) for one in lists]} queries")
    factors = [1.0] * len(lists) if weights is None else list(weights)
    if len(factors) != len(lists) or min(factors) < 0:
        raise TgqError(f"fusion takes a weight of 0 or more for each of {len(lists)} lists; got {factors}")
    queries, span = len(lists[0]), max(int(one.max(initial=0)) for one in lists) + 1
    keys = np.concatenate([(np.arange(queries)[:, None] * span + one).ravel() for one in lists])
    real = np.concatenate([(one >= 0).ravel() for one in lists])
    gains = np.concatenate([(w * v).ravel() for w, v in zip(factors, values, strict=True)])
    unique, inverse = np.unique(keys[real], return_inverse=True)
    totals = np.bincount(inverse, weights=gains[real], minlength=len(unique))
    query, item = np.divmod(unique, span)
    order = np.lexsort((item, -totals, query))
    query, item, totals = query[order], item[order], totals[order]
    rank = np.arange(len(query)) - np.searchsorted(query, query)
    kept = rank < k
    items, scores = np.full((queries, k), -1, np.int64), np.zeros((queries, k))
    items[query[kept], rank[kept]], scores[query[kept], rank[kept]] = item[kept], totals[kept]
    return items, scores
