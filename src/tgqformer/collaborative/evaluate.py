"""The papers' own protocols, in blocks of users: never a dense user x item matrix.

`full_ranking`: every item but those of training is ranked for every user with a test item; recall@k is the share of
test items in the top k, nDCG@k is normalised by the best order of min(k, test items); means over users (NGCF, section
4.2; LightGCN takes it over). `leave_one_out`: the held-out item among sampled ones that the user did not touch in
training, for at most 10,000 users drawn at random (SASRec, section IV-C and the authors' code); and, since sampled
metrics can order models wrongly (Krichene and Rendle, KDD 2020), its place among all items beside it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tgqformer.collaborative.base import Recommender, Scorer
from tgqformer.collaborative.data import Ints, Split, take
from tgqformer.collaborative.sampling import Negatives
from tgqformer.collaborative.settings import EvaluationSettings
from tgqformer.errors import TgqError
from tgqformer.evaluation.metrics import Csr
from tgqformer.progress import progress

BLOCK = 256


def evaluate(
    recommender: Recommender, split: Split, settings: EvaluationSettings, *, validation: bool = False,
    shown: bool = False,
) -> dict[str, float]:  # fmt: skip
    """Judge a model by its preset's protocol, on the test or on the validation part.

    Returns:
        Names such as `recall@20` or `hit@10` → means over users; in [0, 1].
    """
    held, known = (split.valid, split.train) if validation else (split.test, split.known())
    scorer = recommender.scorer(known)
    if settings.protocol == "full":
        return full_ranking(scorer, held, known, settings.k, shown=shown)
    users = _some(np.flatnonzero(np.diff(held.indptr)), settings)
    targets = held.indices[held.indptr[users]]
    rng = np.random.default_rng([settings.seed, 7])
    others = Negatives(split.train, split.items).draw(np.repeat(users[:, None], settings.negatives, 1), rng)
    return leave_one_out(scorer, users, targets, others, known, settings.k, shown=shown)


def full_ranking(scorer: Scorer, held: Csr, known: Csr, k: int, *, shown: bool = False) -> dict[str, float]:
    """Rank all items but the known ones for each user with a held-out item: recall@k and nDCG@k."""
    users = np.flatnonzero(np.diff(held.indptr))
    discount = 1 / np.log2(np.arange(k) + 2)
    ideal = np.cumsum(discount)
    recall, ndcg = [], []
    for block, scores in _blocks(scorer, users, "ranking", shown=shown):
        place, items = (torch.from_numpy(one).to(scores.device) for one in take(known, block))
        scores[place, items] = -torch.inf
        top = scores.topk(min(k, scores.shape[1]), dim=1).indices.cpu().numpy()
        hits = _are_held(held, block, top, scores.shape[1])
        count = np.diff(held.indptr)[block]
        recall.append(hits.sum(1) / count)
        ndcg.append(hits @ discount[: hits.shape[1]] / ideal[np.minimum(count, k) - 1])
    return {f"recall@{k}": _mean(recall), f"ndcg@{k}": _mean(ndcg), "users": float(len(users))}


def leave_one_out(
    scorer: Scorer, users: Ints, targets: Ints, others: Ints, known: Csr, k: int, *, shown: bool = False
) -> dict[str, float]:
    """Rank each user's one held-out item among sampled items, and among all items that the user is not known to have.

    users, targets: int64 [Q]. others: int64 [Q, negatives]. A tie counts as half above.
    """
    sampled, whole = [], []
    done = 0
    for block, scores in _blocks(scorer, users, "ranking", shown=shown):
        rows = slice(done, done + len(block))
        done += len(block)
        target, drawn = (torch.from_numpy(one[rows]).to(scores.device) for one in (targets, others))
        own = scores.gather(1, target[:, None])
        sampled.append(_rank(scores.gather(1, drawn), own))
        place, items = (torch.from_numpy(one).to(scores.device) for one in take(known, block))
        scores[place, items] = -torch.inf
        scores.scatter_(1, target[:, None], -torch.inf)
        whole.append(_rank(scores, own))
    found = {f"hit@{k}": sampled, f"full_hit@{k}": whole}
    values = {name: _mean([rank < k for rank in ranks]) for name, ranks in found.items()}
    for name, ranks in ((f"ndcg@{k}", sampled), (f"full_ndcg@{k}", whole)):
        values[name] = _mean([np.where(rank < k, 1 / np.log2(rank + 2), 0.0) for rank in ranks])
    return values | {"users": float(len(users))}


def _blocks(scorer: Scorer, users: Ints, what: str, *, shown: bool) -> Iterator[tuple[Ints, Tensor]]:
    """Score users, some at a time; refuse what is not a number."""
    with progress(what, len(users), shown=shown) as bar, torch.no_grad():
        for first in range(0, len(users), BLOCK):
            block = users[first : first + BLOCK]
            scores = scorer(block).detach()
            if not torch.isfinite(scores).all():
                raise TgqError("the model gives scores that are not finite; its training went wrong, train it again")
            yield block, scores
            bar.advance(len(block))


def _are_held(held: Csr, users: Ints, top: Ints, items: int) -> np.ndarray:
    """Tell which of the top items [b, k] are held-out ones of their user: float64 [b, k]."""
    place, right = take(held, users)
    keys = np.arange(len(users))[:, None] * items + top
    return np.isin(keys, place * items + right).astype(np.float64)


def _rank(scores: Tensor, own: Tensor) -> np.ndarray:
    """Give the place, from 0, of `own` [b, 1] among scores [b, n]; ties count as half above."""
    above, tied = (scores > own).sum(1), (scores == own).sum(1)
    return (above + tied / 2).double().cpu().numpy()


def _some(users: Ints, settings: EvaluationSettings) -> Ints:
    if len(users) <= settings.users:
        return users
    rng = np.random.default_rng([settings.seed, 8])
    return np.sort(rng.choice(users, settings.users, replace=False))


def _mean(parts: list[np.ndarray]) -> float:
    return float(np.concatenate(parts).mean()) if parts else 0.0
