"""The papers' own protocols, in blocks of users: never a dense user x item matrix.

`full_ranking`: every item but those of training is ranked for every user with a test item; recall@k is the share of
test items in the top k, nDCG@k is normalised by the best order of min(k, test items); means over users (NGCF, section
4.2; LightGCN takes it over). A test item that the user had before is ranked, too, as RecBole does. `leave_one_out`:
the held-out item among sampled ones that the user did not touch in training, for at most 10,000 users drawn at random
(SASRec, section IV-C and the authors' code); and, since sampled metrics can order models wrongly (Krichene and Rendle,
KDD 2020), its place among all items beside it.
Ties are averaged, by `evaluation.metrics`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tgqformer.collaborative.base import Recommender, Scorer
from tgqformer.collaborative.data import Split, take
from tgqformer.collaborative.sampling import Negatives
from tgqformer.collaborative.settings import EvaluationSettings
from tgqformer.errors import TgqError
from tgqformer.evaluation.metrics import Csr, Ranks, ndcg, ranks_of_scores, recall
from tgqformer.progress import progress
from tgqformer.types import Array, Doubles, Ints

BLOCK = 256


def evaluate(
    recommender: Recommender,
    split: Split,
    settings: EvaluationSettings,
    *,
    validation: bool = False,
    shown: bool = False,
) -> dict[str, float]:
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
    """Rank all items for each user with a held-out item, but known ones that are not held out: recall@k and nDCG@k."""
    users = np.flatnonzero(np.diff(held.indptr))
    shares, gains = [], []
    for block, scores in _blocks(scorer, users, "ranking", shown=shown):
        wanted = held.at(block)
        place, items = (torch.from_numpy(one).to(scores.device) for one in take(held, block))
        own = scores[place, items]
        _hide(known, block, scores)
        scores[place, items] = own
        ranks = ranks_of_scores(scores, wanted, k)
        shares.append(recall(wanted, ranks, k))
        gains.append(ndcg(wanted, ranks, k))
    return {f"recall@{k}": _mean(shares), f"ndcg@{k}": _mean(gains), "users": float(len(users))}


def leave_one_out(
    scorer: Scorer, users: Ints, targets: Ints, others: Ints, known: Csr, k: int, *, shown: bool = False
) -> dict[str, float]:
    """Rank each user's one held-out item among sampled items, and among all items that the user is not known to have.

    users, targets: int64 [Q]. others: int64 [Q, negatives].
    """
    found: dict[str, list[Doubles]] = {f"{name}@{k}": [] for name in ("hit", "full_hit", "ndcg", "full_ndcg")}
    done = 0
    for block, scores in _blocks(scorer, users, "ranking", shown=shown):
        rows = slice(done, done + len(block))
        done += len(block)
        target, drawn = (torch.from_numpy(one[rows]).to(scores.device) for one in (targets, others))
        own, one_each = scores.gather(1, target[:, None]), Csr(np.arange(len(block) + 1), targets[rows])
        sampled = _rank(scores.gather(1, drawn), own)
        _hide(known, block, scores)
        scores.scatter_(1, target[:, None], -torch.inf)
        for name, ranks in (("", sampled), ("full_", _rank(scores, own))):
            found[f"{name}hit@{k}"].append(recall(one_each, ranks, k))  # the recall of one item: whether it is hit
            found[f"{name}ndcg@{k}"].append(ndcg(one_each, ranks, k))
    return {name: _mean(parts) for name, parts in found.items()} | {"users": float(len(users))}


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


def _hide(known: Csr, users: Ints, scores: Tensor) -> None:
    """Set the scores [b, N] of what users are known to have to -inf, in place."""
    place, items = (torch.from_numpy(one).to(scores.device) for one in take(known, users))
    scores[place, items] = -torch.inf


def _rank(scores: Tensor, own: Tensor) -> Ranks:
    """Return where `own` [b, 1] stands among it and scores [b, n]."""
    above, tied = (scores > own).sum(1), (scores == own).sum(1) + 1
    return Ranks(above.cpu().numpy(), tied.cpu().numpy())


def _some(users: Ints, settings: EvaluationSettings) -> Ints:
    if len(users) <= settings.users:
        return users
    rng = np.random.default_rng([settings.seed, 8])
    return np.sort(rng.choice(users, settings.users, replace=False))


def _mean(parts: list[Array]) -> float:
    return float(np.concatenate(parts).mean()) if parts else 0.0
