"""Content and behaviour joined: late fusion of ranked lists, and one vector for each item learned on pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn import functional as F

from tgqformer.collaborative.lists import Lists
from tgqformer.config import Natural, PositiveFloat, Share, settings
from tgqformer.contrastive import info_nce
from tgqformer.errors import TgqError
from tgqformer.training.loop import Objective, Place, Plan, fit
from tgqformer.types import Doubles, Ints, Vectors


def reciprocal_rank(
    lists: Sequence[Ints], k: int, *, weights: Sequence[float] | None = None, constant: float = 60.0
) -> tuple[Ints, Doubles]:
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


def spread(vectors: Vectors, lists: Lists, share: float, near: int = 30) -> Vectors:
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


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)


@settings
class FusionSettings:
    """How vectors of several sources are fused.

    Args:
        steps, batch, lr: of the training on pairs. temperature: of the contrastive loss.
        hide: how often an item that has several sources is shown without one of them, so that new items, which have
            only content, land where they would with all. ridge: of the regression that the guesses start from.
        seed: of draws and weights.
    """

    steps: Natural = 500
    batch: Annotated[int, Field(ge=2)] = 256
    lr: PositiveFloat = 1e-3
    temperature: PositiveFloat = 0.07
    hide: Share = 0.3
    ridge: PositiveFloat = 1.0
    seed: Natural = 0


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


class FusionObjective(Objective):
    """Pairs of items whose fused vectors should be close, items with several sources now and then without one of them.

    Args:
        fusion: what learns. sources, there: as it takes them, of all items. a, b: int64 [M], the items of each pair.
    """

    title = "fusing vectors"

    def __init__(
        self, fusion: Fusion, sources: Sequence[Tensor], there: Tensor, a: Ints, b: Ints, how: FusionSettings
    ) -> None:
        super().__init__()
        self.fusion, self._sources, self._there, self._pairs, self._how = fusion, sources, there, (a, b), how

    def batch(self, step: int, place: Place) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries and positives, int64 [B] each, and which sources of them are shown, bool [2 B, S]."""
        rng = np.random.default_rng([self._how.seed, step])
        at = rng.integers(len(self._pairs[0]), size=self._how.batch)
        queries, positives = (torch.from_numpy(side[at]) for side in self._pairs)
        return queries, positives, _hidden(self._there[torch.cat([queries, positives])], self._how.hide, rng)

    def forward(self, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        """Return the contrastive loss; the same item again is no negative."""
        queries, positives, shown = batch
        items = torch.cat([queries, positives])
        left, right = self.fusion([source[items] for source in self._sources], shown).chunk(2)
        same = (queries[:, None] == queries) | (positives[:, None] == positives) | (queries[:, None] == positives)
        return {"loss": info_nce(left @ right.T / self._how.temperature, same)}


def fuse_vectors(
    sources: Sequence[Vectors], a: Ints, b: Ints, how: FusionSettings | None = None, *, shown: bool = True
) -> Vectors:
    """Learn on pairs how to fuse the sources' vectors, and fuse them.

    Args:
        sources: float32 [N, d_s] each, of the same items; a row of zeros says that the source does not know the item.
        a, b: int64 [M], the two items of each training pair.

    Returns:
        float32 [N, Σ d_s] of unit length (zeros for an item that no source knows), to be compared by cosine.

    Raises:
        TgqError: where there is no pair, or the sources have different numbers of items.
    """
    how, sizes = how or FusionSettings(), [len(source) for source in sources]
    if len(set(sizes)) != 1 or not len(a):
        raise TgqError(
            f"fusion needs sources of the same items and at least one pair; got {sizes} items, {len(a)} pairs"
        )
    there = torch.from_numpy(np.stack([np.abs(source).sum(1) > 0 for source in sources], axis=1))
    tensors = [F.normalize(torch.from_numpy(source), dim=1) for source in sources]
    torch.manual_seed(how.seed)
    model = Fusion([source.shape[1] for source in sources])
    model.start_guesses(tensors, there, how.ridge)
    optimizer = torch.optim.Adam(model.parameters(), lr=how.lr)
    rate = {"lr": how.lr}
    plan = Plan(how.steps, lambda step: rate)
    fit(FusionObjective(model, tensors, there, a, b, how), optimizer, plan, shown=shown)
    with torch.no_grad():
        return np.asarray(model(tensors, there).numpy(), dtype=np.float32)


def _linear(start: Tensor) -> nn.Linear:
    layer = nn.Linear(start.shape[1], start.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(start)
    return layer


def _hidden(there: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Hide one source of some of the items that have several: bool [n, S]."""
    known = there.numpy()
    several = (known.sum(1) > 1) & (rng.random(len(known)) < share)
    chosen = np.where(known, rng.random(known.shape), -1.0).argmax(1)
    shown = known.copy()
    shown[np.flatnonzero(several), chosen[several]] = False
    return torch.from_numpy(shown)


def _fuse(
    lists: Sequence[Ints], values: Sequence[Doubles], k: int, weights: Sequence[float] | None
) -> tuple[Ints, Doubles]:
    """Sum values by (query, item) and return the best k of each query."""
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
