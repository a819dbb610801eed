"""Ranked lists: for each item the best others by some model, whatever the model is: vectors, scores, or counts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch.nn.functional import normalize

from tgqformer.collaborative.base import Scorer
from tgqformer.errors import TgqError
from tgqformer.evaluation.metrics import Queries, Ranks
from tgqformer.files import atomic_path
from tgqformer.progress import progress
from tgqformer.topk import best_of
from tgqformer.types import Bools, Floats, Int32s, Ints, Vectors

BLOCK = 512
DIGITS = 6
"""Scores are rounded to so many digits: equal items have equal scores, whatever block of a product they come from."""


@dataclass(frozen=True)
class Lists:
    """The best others of N items, best first.

    items: int32 [N, K], -1 where a list has no more. scores: float32 [N, K], 0 there.
    """

    items: Int32s
    scores: Floats

    def __post_init__(self) -> None:
        if self.items.shape != self.scores.shape or self.items.ndim != 2:
            raise TgqError(f"lists need as many scores as items: {list(self.items.shape)}, {list(self.scores.shape)}")

    def __len__(self) -> int:
        return len(self.items)

    @property
    def k(self) -> int:
        """K, how long a list is at most."""
        return int(self.items.shape[1])

    def of(self, rows: Ints) -> Lists:
        """Return some of the lists, in that order."""
        return Lists(self.items[rows], self.scores[rows])

    def write(self, path: Path) -> None:
        """Write safetensors, atomically."""
        with atomic_path(path) as unfinished:
            save_file({"items": self.items, "scores": self.scores}, unfinished)

    @classmethod
    def read(cls, path: Path) -> Lists:
        """Read what `write` wrote; raises TgqError where it is absent or damaged."""
        try:
            found = load_file(path)
            return cls(found["items"], found["scores"])
        except (OSError, SafetensorError, KeyError) as error:
            raise TgqError(f"{path} holds no lists: {error}; make them again") from error


@torch.no_grad()
def lists_of_vectors(vectors: Vectors, k: int, *, rows: Ints | None = None, shown: bool = False) -> Lists:
    """Find the k items of the greatest cosine of each item [N, d], but itself; rows: of these items only, int64 [Q].

    An item whose vector is zero is not known: it has no list, and stands in none.
    """
    unit = normalize(torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32)), dim=1)
    return lists_of_scorer(
        lambda block: unit[torch.from_numpy(block)] @ unit.T, unit.any(1).numpy(), k, rows=rows, shown=shown
    )


@torch.no_grad()
def lists_of_scorer(
    score: Scorer,
    known: Bools,
    k: int,
    *,
    rows: Ints | None = None,
    floor: float | None = None,
    shown: bool = False,
) -> Lists:
    """Find the k items of the highest score of each item, but itself; equal scores as `topk` says.

    Args:
        score: items int64 [b] → scores [b, N]. known: bool [N], items that the model knows: others have no list and
            stand in none. rows: of these items only, int64 [Q]. floor: only scores above it count, for models whose 0
            says that nothing is known.
    """
    asked = np.arange(len(known)) if rows is None else rows
    width = max(1, min(k, int(known.sum()) - 1))
    found = Lists(np.full((len(asked), width), -1, np.int32), np.zeros((len(asked), width), np.float32))
    hidden, places = torch.from_numpy(~known), np.flatnonzero(known[asked])
    with progress("ranking", len(places), shown=shown) as bar:
        for first in range(0, len(places), BLOCK):
            block = places[first : first + BLOCK]
            items = asked[block]
            scores = score(items).float().cpu().masked_fill(hidden, -torch.inf)
            scores[torch.arange(len(block)), torch.from_numpy(items)] = -torch.inf
            _keep_best(scores, block, found, -torch.inf if floor is None else floor)
            bar.advance(len(block))
    return found


def ranks_of_lists(lists: Lists, queries: Queries, pool: int) -> Ranks:
    """Say where each positive of the queries stands in a pool of `pool` items; lists: one for each query, in order.

    What a list does not hold stands in no order behind it: tied with all that is not in the list.
    """
    above, tied = np.empty((2, len(queries.positives.indices)), np.int64)
    for at in range(len(queries)):
        entries = slice(queries.positives.indptr[at], queries.positives.indptr[at + 1])
        items, scores = lists.items[at], lists.scores[at]
        there = items >= 0
        items, scores = items[there], scores[there]
        own = queries.positives.indices[entries]
        order = np.argsort(items, kind="stable")
        place = np.minimum(np.searchsorted(items[order], own), max(len(items) - 1, 0))
        inside = items[order][place] == own if len(items) else np.zeros(len(own), bool)
        value = scores[order][place] if len(items) else np.zeros(len(own), np.float32)
        above[entries] = np.where(inside, (scores[None] > value[:, None]).sum(1), len(items))
        tied[entries] = np.where(inside, (scores[None] == value[:, None]).sum(1), pool - 1 - len(items))
    return Ranks(above, tied)


def _keep_best(scores: torch.Tensor, rows: Ints, found: Lists, floor: float) -> None:
    places, values = best_of(torch.round(scores, decimals=DIGITS).numpy(), found.k)
    real = values > max(floor, float(np.finfo(np.float32).min))
    found.items[rows] = np.where(real, places, -1)
    found.scores[rows] = np.where(real, values, 0.0)
