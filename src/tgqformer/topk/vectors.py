"""The exact top K of vectors: a pool against itself, in blocks.

Products are float32, and their last bits depend on block sizes and on the machine. Candidates whose scores lie closer
to each other than that error are scored once more in float64, so that the order does not depend on it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from math import sqrt
from threading import local

import numpy as np
import torch
from torch import Tensor

from tgqformer.parallel import ahead, one_thread_each
from tgqformer.topk import best_of
from tgqformer.types import ArrayLike, Floats, Positions, Reals

QUERIES = 512  # rows of one product, and
COLUMNS = 16_384  # its columns: 32 MB of scores, which measured best on two cores; the whole pool need not fit
SPARE = 16  # candidates kept beyond K, so that ties at the K-th place are seen


def top_k(
    pool: Tensor, k: int, spans: Iterable[tuple[int, int]], *, device: str = "cpu"
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Answer spans (start, stop) of the rows of `pool` as `TopK.of` does, in order.

    On a CPU every thread that torch may use works on a span of its own, by itself: nobody waits for the others within
    a product, which on a busy machine costs more than the product. Each needs 4 * QUERIES * COLUMNS bytes.
    """
    workers = torch.get_num_threads() if torch.device(device).type == "cpu" else 1
    own = local()

    def answer(span: tuple[int, int]) -> tuple[Tensor, Tensor]:
        if not hasattr(own, "search"):
            own.search = TopK(pool, k, device=device)
        return own.search.of(*span)  # type: ignore[no-any-return]

    with one_thread_each(), ThreadPoolExecutor(workers) as threads:
        yield from ahead(threads, answer, spans, 2 * workers)


@torch.no_grad()
def nearest_items(vectors: Tensor | Reals, query: ArrayLike, k: int) -> tuple[Positions, Floats]:
    """Return the k nearest pool items of each query but itself, to be looked at: (positions [Q, k], scores [Q, k]).

    One matrix product for all the queries given, so give few.
    """
    pool, positions = torch.as_tensor(vectors).float(), torch.from_numpy(np.asarray(query, dtype=np.int64).ravel())
    scores = (pool[positions.to(pool.device)] @ pool.T).cpu()
    scores[torch.arange(len(positions)), positions] = -torch.inf
    return best_of(scores.numpy(), min(k, len(pool) - 1))


class TopK:
    """The `k` nearest others of the rows of `pool` [N, d] float32, L2-normalised; k at most N - 1."""

    def __init__(self, pool: Tensor, k: int, *, device: str = "cpu") -> None:
        if len(pool) and k >= len(pool):
            raise ValueError(f"a pool of {len(pool)} has {len(pool) - 1} others, fewer than k = {k}")
        self.pool, self.k, self.device = pool, k, device
        # What two float32 dot products of unit vectors may be apart from their true order, generously.
        self.tolerance = 2e-7 * max(4.0, sqrt(pool.shape[1]))
        self._scores = torch.empty(0)

    def of(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return (positions [n, k] int32, scores [n, k] float32) for the pool's rows `start` to `stop`, best first.

        A row itself is left out; equal scores stand in the order of the pool.
        """
        if not self.k:
            return torch.empty(stop - start, 0, dtype=torch.int32), torch.empty(stop - start, 0)
        scores, positions = self._candidates(start, stop)
        self._settle(scores, positions, start)
        positions, scores = _ordered(scores, positions)
        last = scores[:, self.k - 1] - scores[:, -1]
        answer = positions[:, : self.k].to(torch.int32), scores[:, : self.k].contiguous()
        if scores.shape[1] < len(self.pool) - 1:
            for row in (last <= self.tolerance).nonzero().flatten().tolist():
                answer[0][row], answer[1][row] = self._crowded(start + row, float(scores[row, self.k - 1]))
        return answer

    def _candidates(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return scores and positions [n, min(k + SPARE, N - 1)] by float32 products, best first."""
        queries, wanted = self.pool[start:stop].to(self.device), min(self.k + SPARE, len(self.pool) - 1)
        best: tuple[Tensor, Tensor] | None = None
        for first in range(0, len(self.pool), COLUMNS):
            columns = self.pool[first : first + COLUMNS].to(self.device)
            block = torch.mm(queries, columns.T, out=self._buffer(len(queries), len(columns)))
            rows = torch.arange(start, stop, device=self.device)
            rows = rows[(rows >= first) & (rows < first + len(columns))]
            block[rows - start, rows - first] = -torch.inf
            scores, positions = block.topk(min(wanted, len(columns)), dim=1, sorted=False)
            positions += first
            if best is not None:
                scores, positions = torch.cat([best[0], scores], 1), torch.cat([best[1], positions], 1)
            best = scores, positions
        assert best is not None
        scores, order = best[0].topk(wanted, dim=1)
        return scores.cpu(), best[1].gather(1, order).cpu()

    def _buffer(self, rows: int, columns: int) -> Tensor:
        if self._scores.numel() < rows * columns:
            self._scores = torch.empty(rows * columns, device=self.device)
        return self._scores[: rows * columns].view(rows, columns)

    def _settle(self, scores: Tensor, positions: Tensor, start: int) -> None:
        """Score again, in place and in float64, every candidate that lies close to the one before or after it."""
        close = (scores[:, :-1] - scores[:, 1:]) <= self.tolerance
        unsure = torch.zeros_like(scores, dtype=torch.bool)
        unsure[:, 1:] |= close
        unsure[:, :-1] |= close
        for found in _split(unsure.nonzero()):
            rows, places = found.unbind(1)
            scores[rows, places] = self._precise(rows + start, positions[rows, places])

    def _precise(self, queries: Tensor, others: Tensor) -> Tensor:
        return (self.pool[queries].double() * self.pool[others].double()).sum(-1).float()

    def _crowded(self, query: int, kth: float) -> tuple[Tensor, Tensor]:
        """Answer one query with more ties at the K-th place than were kept: look at all that could stand there."""
        scores = torch.cat([columns @ self.pool[query] for columns in _split(self.pool)])
        scores[query] = -torch.inf
        others = (scores >= kth - 2 * self.tolerance).nonzero().flatten()
        precise = torch.cat([self._precise(torch.tensor([query]), part) for part in _split(others)])
        positions, found = _ordered(precise[None], others[None])
        return positions[0, : self.k].to(torch.int32), found[0, : self.k]


def _ordered(scores: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Sort each row by score, best first, then by position; return (positions, scores)."""
    positions, by_position = positions.sort(dim=1)
    scores, by_score = scores.gather(1, by_position).sort(dim=1, descending=True, stable=True)
    return positions.gather(1, by_score), scores


def _split(rows: Tensor) -> tuple[Tensor, ...]:
    return torch.split(rows, COLUMNS)
