"""Joined lists for a shop: its embeddings and its log → for every item what to show beside it, ready to be served.

Nothing is trained but the weights of the blend. They are learned as in a study: on the log without its last part, from
which some items lost their clicks, asked by that last part. Then every click counts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tgqformer.catalog.interactions import Interactions
from tgqformer.collaborative.base import Features
from tgqformer.collaborative.blend import Blend, chained, learn_blend
from tgqformer.collaborative.counting import item_knn, neighbours_of
from tgqformer.collaborative.data import Ints, histories
from tgqformer.collaborative.graph import interactions_matrix
from tgqformer.collaborative.lists import Lists, lists_of_vectors
from tgqformer.errors import TgqError
from tgqformer.evaluation.metrics import Csr
from tgqformer.joined.log import bucket_of, coded, make_log
from tgqformer.joined.settings import ProtocolSettings
from tgqformer.store.embeddings import Embeddings
from tgqformer.store.neighbours import Neighbours, write_lists

CONTENT, CLICKS = "content", "item-kNN"
LONG = 200


def learn(content: Features, ids: list[str], log: Interactions, settings: ProtocolSettings | None = None) -> Blend:
    """Learn the weights of a blend of content and clicks from a shop's log.

    Args:
        content: float32 [N, d], of the items `ids`. log: the shop's interactions.

    Raises:
        TgqError: where log and items do not fit, or the log is too short to hold anything out.
    """
    study = make_log(log, ids, settings or ProtocolSettings())
    sources = sources_of(lists_of_vectors(content, LONG, shown=True), study.train)
    return learn_blend(sources, study.validation, study.bucket)


def join(
    content: Features, ids: list[str], log: Interactions, blend: Blend, k: int, *, few: int | None = None
) -> Lists:
    """Blend content and all clicks of a log: the k best others of each of N items, fewer where there are none.

    few: clicks up to which an item is one of few; those of the protocol, if not given.
    """
    sessions = whole_log(log, ids)
    clicks = np.bincount(sessions.indices, minlength=len(ids)).astype(np.int64)
    bucket = bucket_of(clicks, ProtocolSettings().few_clicks if few is None else few)
    near = lists_of_vectors(content, max(LONG, k), shown=True)
    found = blend.apply(sources_of(near, sessions), bucket, k, shown=True)
    return filled(found, near, k)


def sources_of(content: Lists, sessions: Csr) -> dict[str, Lists]:
    """Give the sources of a blend: content, clicks, and each followed into the other."""
    items, scores = neighbours_of(item_knn(interactions_matrix(sessions, len(content)), LONG, 10.0), LONG)
    clicks = Lists(items.astype(np.int32), scores.astype(np.float32))
    return {
        CONTENT: content, CLICKS: clicks, "looks, then clicks": chained(content, clicks, LONG),
        "clicks, then looks": chained(clicks, content, LONG),
    }  # fmt: skip


def whole_log(log: Interactions, ids: list[str]) -> Csr:
    """Gather a whole log by session, in the order of time: Csr of places in `ids`."""
    known = log.within(ids)
    if not len(known):
        raise TgqError("no interaction is with an item of the embeddings; are both of one shop?")
    users, items = coded(known, {name: place for place, name in enumerate(ids)})
    return histories(users, items, len(log.session_names))


def filled(lists: Lists, content: Lists, k: int) -> Lists:
    """Turn blended scores into how likely an item is beside the best of its list, and fill short lists by content."""
    width = min(k, len(lists) - 1)
    items, scores = lists.items[:, :width].copy(), relative_odds(lists)[:, :width]
    for row in np.flatnonzero((items < 0).any(1)).tolist():
        have = items[row][items[row] >= 0]
        rest = _others(have, content.items[row], row, width - len(have), len(lists))
        low = scores[row, len(have) - 1] if len(have) else 1.0
        items[row, len(have) :] = rest
        scores[row, len(have) :] = low * 0.99 ** np.arange(1, len(rest) + 1)
    return Lists(items, scores)


def relative_odds(lists: Lists) -> NDArray[np.float32]:
    """Give exp(score - best score of the list), 0 where there is no item: float32 [N, K]."""
    return np.where(lists.items >= 0, np.exp(lists.scores - lists.scores[:, :1]), 0.0).astype(np.float32)


def write(lists: Lists, embeddings: Embeddings, to: Path) -> Neighbours:
    """Write lists as precomputed neighbours, which `tgq serve` answers from.

    They carry the version of the content they were made with: a service with a store of that version takes them, and
    searches live, by content, what is not in them.
    """
    return write_lists(to, embeddings, lists.items, lists.scores)


def _others(have: NDArray[np.int32], near: NDArray[np.int32], row: int, count: int, total: int) -> Ints:
    """Give `count` items that are not there yet: by content, then any."""
    taken = {*have.tolist(), row, -1}
    ranked = [*near.tolist(), *(range(min(total, count + len(taken) + len(near))))]
    rest = [item for item in dict.fromkeys(ranked) if item not in taken]
    return np.array(rest[:count], dtype=np.int64)
