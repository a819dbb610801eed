"""The exact top K of vectors: a pool against itself, in blocks.

Products are float32, and their last bits depend on block sizes and on the machine. So they only find candidates, a few
more than are asked for; what is answered is scored once more in float64. Neither order nor scores depend on the blocks.
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
from tgqformer.types import ArrayLike, Doubles, Floats, Positions, Reals

QUERIES = 512  # rows of one product, and
COLUMNS = 16_384  # its columns: 32 MB of scores, which measured best on two cores; the whole pool need not fit
SPARE = 16  # candidates kept beyond K, so that ties at the K-th place are seen


def exact(one: Floats, other: Floats) -> Floats:
    """Return the products [n] of rows [n, d], or one row [d], with rows [n, d]: in float64, the same in any batch."""
    doubles = other.astype(np.float64)
    sums: Doubles = np.einsum("ij,ij->i", np.broadcast_to(one.astype(np.float64), doubles.shape), doubles)
    return sums.astype(np.float32)


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


def tolerance(dim: int) -> float:
    """Return how far a float32 product of unit vectors may be from the true one, generously."""
    return 2e-7 * max(4.0, sqrt(dim))


class TopK:
    """The `k` nearest others of the rows of `pool` [N, d] float32, L2-normalised; k at most N - 1."""

    def __init__(self, pool: Tensor, k: int, *, device: str = "cpu") -> None:
        if len(pool) and k >= len(pool):
            raise ValueError(f"a pool of {len(pool)} has {len(pool) - 1} others, fewer than k = {k}")
        self.pool, self.k, self.device = pool, k, device
        self.tolerance = tolerance(pool.shape[1])
        self._scores, self._rows = torch.empty(0), pool.numpy()

    def of(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return (positions [n, k] int32, scores [n, k] float32) for the pool's rows `start` to `stop`, best first.

        A row itself is left out; equal scores stand in the order of the pool.
        """
        return self.of_rows(torch.arange(start, stop))

    def of_rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Answer any rows [n] of the pool as `of` does."""
        if not self.k or not len(rows):
            return torch.empty(len(rows), self.k, dtype=torch.int32), torch.empty(len(rows), self.k)
        positions = self._candidates(rows)
        found = [self._precise(row, others) for row, others in zip(rows.tolist(), positions, strict=True)]
        positions, scores = _ordered(torch.stack(found), positions)
        last = scores[:, self.k - 1] - scores[:, -1]
        answer = positions[:, : self.k].to(torch.int32), scores[:, : self.k].contiguous()
        if scores.shape[1] < len(self.pool) - 1:
            for row in (last <= self.tolerance).nonzero().flatten().tolist():
                answer[0][row], answer[1][row] = self._crowded(int(rows[row]), float(scores[row, self.k - 1]))
        return answer

    @torch.no_grad()
    def _candidates(self, asked: Tensor) -> Tensor:
        """Return positions [n, min(k + SPARE, N - 1)] of the best by float32 products, in any order."""
        queries, wanted = self.pool[asked].to(self.device), min(self.k + SPARE, len(self.pool) - 1)
        best: tuple[Tensor, Tensor] | None = None
        for first in range(0, len(self.pool), COLUMNS):
            columns = self.pool[first : first + COLUMNS].to(self.device)
            block = torch.mm(queries, columns.T, out=self._buffer(len(queries), len(columns)))
            own = ((asked >= first) & (asked < first + len(columns))).nonzero().flatten()
            block[own.to(self.device), (asked[own] - first).to(self.device)] = -torch.inf
            scores, positions = block.topk(min(wanted, len(columns)), dim=1, sorted=False)
            positions += first
            if best is not None:
                scores, positions = torch.cat([best[0], scores], 1), torch.cat([best[1], positions], 1)
            best = scores, positions
        assert best is not None
        return best[1].gather(1, best[0].topk(wanted, dim=1, sorted=False)[1]).cpu()

    def _buffer(self, rows: int, columns: int) -> Tensor:
        if self._scores.numel() < rows * columns:
            self._scores = torch.empty(rows * columns, device=self.device)
        return self._scores[: rows * columns].view(rows, columns)

    def _precise(self, row: int, others: Tensor) -> Tensor:
        return torch.from_numpy(exact(self._rows[row], self._rows[others.numpy()]))

    def _crowded(self, query: int, kth: float) -> tuple[Tensor, Tensor]:
        """Answer one query with more ties at the K-th place than were kept: look at all that could stand there."""
        scores = torch.cat([columns @ self.pool[query] for columns in _split(self.pool)])
        scores[query] = -torch.inf
        others = (scores >= kth - 2 * self.tolerance).nonzero().flatten()
        precise = torch.cat([self._precise(query, part) for part in _split(others)])
        positions, found = _ordered(precise[None], others[None])
        return positions[0, : self.k].to(torch.int32), found[0, : self.k]


def _ordered(scores: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Sort each row by score, best first, then by position; return (positions, scores)."""
    positions, by_position = positions.sort(dim=1)
    scores, by_score = scores.gather(1, by_position).sort(dim=1, descending=True, stable=True)
    return positions.gather(1, by_score), scores


def _split(rows: Tensor) -> tuple[Tensor, ...]:
    return torch.split(rows, COLUMNS)
