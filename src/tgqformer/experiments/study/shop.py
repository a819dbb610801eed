"""Content and behaviour joined for a shop: its embeddings and its log → lists that are served, vectors for a store.

Nothing is trained but the weights of the blend. Content is spread over clicks, a little and much; the lists of both, of
content and of item-kNN are blended. What weighs how much is learned as in a study: on the log without its last part, in
which some items lost their clicks, judged on that last part. Then every click counts.

FOLDER/
  blend.json             the weights
  neighbours/            blended lists, in the form of `tgq neighbours`
  embeddings/            content spread over clicks, for `tgq index`
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from tgqformer.collaborative.blend import Blend, learn_blend
from tgqformer.collaborative.counting import item_knn, neighbours_of
from tgqformer.collaborative.data import histories
from tgqformer.collaborative.fusion import spread
from tgqformer.collaborative.graph import interactions_matrix
from tgqformer.collaborative.lists import Lists, lists_of_vectors
from tgqformer.errors import TgqError
from tgqformer.evaluation.metrics import Csr
from tgqformer.experiments.study.log import coded, make_log
from tgqformer.experiments.study.settings import ProtocolSettings
from tgqformer.pairs.interactions import Interactions
from tgqformer.stages import atomic_folder
from tgqformer.store.embeddings import KIND, Embeddings
from tgqformer.store.neighbours import Neighbours, write_lists
from tgqformer.types import Floats, Int32s, Ints, Vectors

LONG, SHRINK = 200, 10.0
SPREADS = {"spread, a little": 0.5, "spread, much": 2.0}
SOURCES = ("content", "item-kNN", *SPREADS)


@dataclass(frozen=True)
class Joined:
    """What a shop gets: lists of all N items, best first, vectors float32 [N, d] of much spread content, weights."""

    lists: Lists
    vectors: Vectors
    blend: Blend


def learn(content: Vectors, ids: list[str], log: Interactions, settings: ProtocolSettings | None = None) -> Blend:
    """Learn the weights of a blend of content and clicks from a shop's log.

    Args:
        content: float32 [N, d], of the items `ids`. log: the shop's interactions. settings: what is held out.

    Raises:
        TgqError: where log and items do not fit, or the log is too short to hold anything out.
    """
    settings = settings or ProtocolSettings()
    study = make_log(log, ids, settings)
    lists, _ = sources_of(content, lists_of_vectors(content, LONG, shown=True), study.train)
    return learn_blend(lists, study.validation, study.clicks, few=settings.few_clicks)


def join(content: Vectors, ids: list[str], log: Interactions, blend: Blend, k: int) -> Joined:
    """Join content and all clicks of a log; k: how many others each of N items is given."""
    sessions = whole_log(log, ids)
    clicks = np.bincount(sessions.indices, minlength=len(ids)).astype(np.int64)
    near = lists_of_vectors(content, max(LONG, k), shown=True)
    lists, vectors = sources_of(content, near, sessions)
    return Joined(filled(blend.apply(lists, clicks, k, shown=True), near, k), vectors, blend)


def sources_of(content: Vectors, near: Lists, sessions: Csr) -> tuple[dict[str, Lists], Vectors]:
    """Return the lists of all sources of a blend, and the vectors of much spread content.

    near: lists of the content. sessions: Csr of places of the N items.
    """
    counted = item_knn(interactions_matrix(sessions, len(content)), LONG, SHRINK)
    items, scores = neighbours_of(counted, LONG)
    clicks = Lists(items.astype(np.int32), scores.astype(np.float32))
    vectors = [spread(content, clicks, share) for share in SPREADS.values()]
    lists = [near, clicks, *(lists_of_vectors(one, LONG, shown=True) for one in vectors)]
    return dict(zip(SOURCES, lists, strict=True)), vectors[-1]


def whole_log(log: Interactions, ids: list[str]) -> Csr:
    """Gather a whole log by session, in the order of time: Csr of places in `ids`."""
    known = log.within(ids)
    if not len(known):
        raise TgqError("no interaction is with an item of the embeddings; are both of one shop?")
    users, items = coded(known, {name: place for place, name in enumerate(ids)})
    return histories(users, items, len(known.session_names))


def write(joined: Joined, embeddings: Embeddings, folder: Path) -> Neighbours:
    """Write weights, joined embeddings, and the lists as precomputed neighbours.

    The lists carry the version of the content they were made with: a service with a store of that version answers from
    them, and searches live, by content, what is newer than they are.
    """
    joined.blend.write(folder / "blend.json")
    write_vectors(joined.vectors, embeddings, folder / "embeddings")
    return write_lists(folder / "neighbours", embeddings, joined.lists.items, joined.lists.scores)


def write_vectors(vectors: Vectors, embeddings: Embeddings, to: Path) -> Embeddings:
    """Write joined vectors as embeddings of the same items, with a version of their own."""
    source = embeddings.manifest
    version = f"{source.model_version}-joined-{blake2b(vectors.tobytes(), digest_size=6).hexdigest()}"
    with atomic_folder(to, KIND, overwrite=True) as unfinished:
        made = Embeddings.create(
            unfinished,
            dim=vectors.shape[1],
            model_version=version,
            ids_fingerprint=source.ids_fingerprint,
            count=source.count,
            partition_size=source.partition_size,
            cuttable=False,
        )
        for number in range(made.partitions):
            part = embeddings.read(number)
            rows = slice(*made.bounds(number))
            made.write(number, part.ids, np.ascontiguousarray(vectors[rows]), part.contents)
    return Embeddings.open(to)


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


def relative_odds(lists: Lists) -> Floats:
    """Return exp(score - best score of the list), 0 where there is no item: float32 [N, K]."""
    return np.where(lists.items >= 0, np.exp(lists.scores - lists.scores[:, :1]), 0.0).astype(np.float32)


def _others(have: Int32s, near: Int32s, row: int, count: int, total: int) -> Ints:
    """Return `count` items that are not there yet: by content, then any."""
    taken = {*have.tolist(), row, -1}
    ranked = [*near.tolist(), *range(min(total, count + len(taken) + len(near)))]
    rest = [item for item in dict.fromkeys(ranked) if item not in taken]
    return np.array(rest[:count], dtype=np.int64)
