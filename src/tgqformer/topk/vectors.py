"""The exact top K of vectors: a pool against itself, in blocks.

Coarse products, in bfloat16 where the machine computes in it, tell what can be among the best at all, within a margin
that holds for any vectors. That alone is scored in float32, whose last bits depend on block sizes and on the machine;
so this only finds candidates, a few more than are asked for. What is answered is scored once more in float64: neither
order nor scores depend on the blocks.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import local

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from tgqformer.parallel import ahead, has_bfloat16, one_thread_each
from tgqformer.topk import best_of
from tgqformer.topk.exact import GROUP, exact, exact_of, tolerance
from tgqformer.types import ArrayLike, Floats, Positions, Reals

COLUMNS = 16_384  # of one product of `QUERIES` rows: 32 MB of scores, which measured best on two cores
MANY = 32  # queries for which it pays to round the pool
FEW = 1024  # candidates that are scored at once: they stay in the cache of a core
CROWD = 16  # times K candidates of a query on average: with more it is cheaper to sort whole products
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
        self.tolerance = tolerance(pool.shape[1])
        self._scores, self._rows = torch.empty(0), pool.numpy()
        self._held = pool.to(device) if _fits(pool, device) else pool
        self._half = has_bfloat16(torch.device(device))

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
        found = torch.from_numpy(exact_of(self._rows, rows.numpy(), positions.numpy()))
        positions, scores = ordered(found, positions)
        last = scores[:, self.k - 1] - scores[:, -1]
        answer = positions[:, : self.k].to(torch.int32), scores[:, : self.k].contiguous()
        if scores.shape[1] < len(self.pool) - 1:
            for row in (last <= self.tolerance).nonzero().flatten().tolist():
                answer[0][row], answer[1][row] = self._crowded(int(rows[row]), float(scores[row, self.k - 1]))
        return answer

    @torch.no_grad()
    def _candidates(self, asked: Tensor) -> Tensor:
        """Return positions [n, min(k + SPARE, N - 1)] of the best by float32 products, in any order."""
        queries = self._held[asked.to(self._held.device)].to(self.device)
        asked, wanted = asked.to(self.device), min(self.k + SPARE, len(self.pool) - 1)
        near = self._near(queries, asked, wanted)
        if near is None:
            return self._sorted(queries, asked, wanted)
        row, place = near
        score = torch.cat(
            [self._score(queries, r, p) for r, p in zip(_split(row, FEW), _split(place, FEW), strict=True)]
        )
        counts = row.bincount(minlength=len(queries))
        at = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
        scores = queries.new_full((len(queries), int(counts.max())), -torch.inf)
        positions = torch.zeros_like(scores, dtype=torch.int64)
        scores[row, at], positions[row, at] = score, place
        return positions.gather(1, scores.topk(wanted, dim=1, sorted=False)[1]).cpu()

    def _score(self, queries: Tensor, row: Tensor, place: Tensor) -> Tensor:
        others = self._held.index_select(0, place.to(self._held.device)).to(self.device)
        return others.mul_(queries.index_select(0, row)).sum(1)

    def _coarse(self, queries: int) -> tuple[torch.dtype, float]:
        """Return in what to multiply, and how far apart two products may then be from their true order."""
        if not self._half or queries < MANY:
            return torch.float32, 2 * self.tolerance
        # Off by the rounding of both vectors, of the product and of the sum; a difference by twice that.
        return torch.bfloat16, 2 * (3.05 * 2**-9 + 1e-7 * self.pool.shape[1])

    def _near(self, queries: Tensor, asked: Tensor, wanted: int) -> tuple[Tensor, Tensor] | None:
        """Return (row, position) of all that can be among the `wanted` best of each query; None where it is a crowd.

        The `wanted`-th best among the maxima of groups of columns is a lower bound of the `wanted`-th best score: what
        lies below by more than the margin cannot be among the best, and few groups hold anything else.
        """
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        best = queries.new_empty(len(queries), 0)
        dtype, margin = self._coarse(len(queries))
        for first, block in self._products(queries, asked, dtype):
            over = -block.shape[1] % GROUP
            groups = (pad(block, (0, over), value=-torch.inf) if over else block).view(len(block), -1, GROUP)
            peaks = groups.amax(2).float()
            some = peaks if best.shape[1] or 2 * wanted <= peaks.shape[1] else block.float()
            best = torch.cat([best, some], 1)
            best = best.topk(min(wanted, best.shape[1]), dim=1).values
            low = best[:, -1] - margin if best.shape[1] == wanted else best.new_full((len(best),), -torch.inf)
            floor = low.clamp_min(-2)  # above the -inf of a query itself
            row, group = (peaks >= floor[:, None]).nonzero().unbind(1)
            held = groups[row, group].float()
            which, place = (held >= floor[row, None]).nonzero().unbind(1)
            found.append((row[which], first + group[which] * GROUP + place, held[which, place]))
            if sum(len(part[0]) for part in found) > CROWD * wanted * len(queries):
                return None
        row, position, score = (torch.cat(part) for part in zip(*found, strict=True))
        kept = (score >= floor[row]).nonzero().flatten()
        kept = kept[row[kept].argsort(stable=True)]
        return row[kept], position[kept]

    def _sorted(self, queries: Tensor, asked: Tensor, wanted: int) -> Tensor:
        """Return what `_candidates` does by sorting whole products."""
        best: tuple[Tensor, Tensor] | None = None
        for first, block in self._products(queries, asked, torch.float32):
            scores, positions = block.topk(min(wanted, block.shape[1]), dim=1, sorted=False)
            positions += first
            if best is not None:
                scores, positions = torch.cat([best[0], scores], 1), torch.cat([best[1], positions], 1)
            best = scores, positions
        assert best is not None
        return best[1].gather(1, best[0].topk(wanted, dim=1, sorted=False)[1]).cpu()

    def _products(self, queries: Tensor, asked: Tensor, dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
        """Stream (first column, scores [n, columns]) of queries that are the rows `asked`; themselves at -inf."""
        seen = queries.to(dtype)
        for first in range(0, len(self._held), COLUMNS):
            columns = self._held[first : first + COLUMNS].to(self.device, dtype)
            block = torch.mm(seen, columns.T, out=self._buffer(len(queries), len(columns), dtype))
            own = ((asked >= first) & (asked < first + len(columns))).nonzero().flatten()
            block[own, asked[own] - first] = -torch.inf
            yield first, block

    def _buffer(self, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        if self._scores.dtype != dtype or self._scores.numel() < rows * columns:
            self._scores = torch.empty(rows * columns, device=self.device, dtype=dtype)
        return self._scores[: rows * columns].view(rows, columns)

    def _crowded(self, query: int, kth: float) -> tuple[Tensor, Tensor]:
        """Answer one query with more ties at the K-th place than were kept: look at all that could stand there."""
        scores = torch.cat([columns @ self.pool[query] for columns in _split(self.pool)])
        scores[query] = -torch.inf
        others = (scores >= kth - 2 * self.tolerance).nonzero().flatten()
        parts = [exact(self._rows[query], self._rows[part.numpy()]) for part in _split(others)]
        precise = torch.from_numpy(np.concatenate(parts))
        positions, found = ordered(precise[None], others[None])
        return positions[0, : self.k].to(torch.int32), found[0, : self.k]


def ordered(scores: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Sort each row by score, best first, then by position; return (positions, scores)."""
    positions, by_position = positions.sort(dim=1)
    scores, by_score = scores.gather(1, by_position).sort(dim=1, descending=True, stable=True)
    return positions.gather(1, by_score), scores


def _split(rows: Tensor, size: int = COLUMNS) -> tuple[Tensor, ...]:
    return torch.split(rows, size)


def _fits(pool: Tensor, device: str) -> bool:
    """Return whether a GPU has room for the whole pool, so that it is sent there once and not for each block."""
    if torch.device(device).type != "cuda":
        return False
    return 2 * pool.numel() * pool.element_size() < torch.cuda.mem_get_info(device)[0]
