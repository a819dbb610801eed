"""`tgq neighbours` against the bare blocked product and top-K, side by side in one run.

    python benchmarks/neighbours.py [--items 44441] [--dim 384] [-k 100] [--rounds 5]

The peer is the plainest exact code: `torch.mm(block, pool.T)` and `topk`, given the best of several block sizes; it
neither leaves out the item itself, nor orders ties, nor writes anything. Both answer the same query blocks in turn, and
medians count. Then `build_neighbours` runs once over everything, from the embeddings on disk to the table on disk.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from tgqformer.store.embeddings import Embeddings
from tgqformer.store.neighbours import build_neighbours, normalised_pool
from tgqformer.topk.vectors import QUERIES, top_k

BLOCKS = (128, 256, 512, 1024)


def clustered(path: Path, items: int, dim: int) -> Embeddings:
    """Write embeddings around 200 centres, as trained ones lie; one in fifty is a copy of another."""
    luck = torch.Generator().manual_seed(0)
    vectors = torch.randn(200, dim, generator=luck)[torch.randint(200, (items,), generator=luck)]
    vectors += 1.5 * torch.randn(items, dim, generator=luck)
    copies = torch.randperm(items, generator=luck)[: items // 50]
    vectors[copies] = vectors[copies.roll(1)]
    shape = {"dim": dim, "count": items}
    embeddings = Embeddings.create(path, model_version="benchmark", ids_fingerprint="benchmark", **shape)
    for number in range(embeddings.partitions):
        start, stop = embeddings.bounds(number)
        embeddings.write(number, [f"item-{i}" for i in range(start, stop)], vectors[start:stop].numpy())
    return embeddings


def seconds(work: Callable[..., object], *arguments: object) -> float:
    """Time one call."""
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def bare(pool: torch.Tensor, scores: torch.Tensor, start: int, stop: int, k: int) -> None:
    """Answer the queries `start` to `stop` the plain way, in blocks of as many rows as `scores` has."""
    for first in range(start, stop, len(scores)):
        torch.mm(pool[first : first + len(scores)], pool.T, out=scores)
        scores.topk(k, dim=1)


def ours(pool: torch.Tensor, start: int, stop: int, k: int) -> None:
    """Answer the same queries as the command does."""
    for _ in top_k(pool, k, [(first, first + QUERIES) for first in range(start, stop, QUERIES)]):
        pass


def compare(pool: torch.Tensor, k: int, rounds: int) -> None:
    """Time both on the same 2,048 queries, in turn, and print the medians and their ratio."""
    queries = 2048
    ours(pool, 0, queries, k)
    times: dict[int, list[float]] = {block: [] for block in BLOCKS}
    mine: list[float] = []
    for turn in range(rounds):
        start = turn * queries % (len(pool) - queries)
        for block, taken in times.items():
            scores = torch.zeros(block, len(pool))
            taken.append(seconds(bare, pool, scores, start, start + queries, k))
        mine.append(seconds(ours, pool, start, start + queries, k))
    best = min(times, key=lambda block: median(times[block]))
    for block, taken in times.items():
        print(f"bare, blocks of {block:4d}   {median(taken) / queries * 1e3:.3f} ms a query")
    print(f"ours                  {median(mine) / queries * 1e3:.3f} ms a query")
    print(f"ratio to the best bare (blocks of {best}): {median(mine) / median(times[best]):.2f}   (bar: 1.30)")
    turns = sorted(mine[i] / times[best][i] for i in range(rounds))
    print(f"ratio turn by turn: median {median(turns):.2f}, from {turns[0]:.2f} to {turns[-1]:.2f}")


def main() -> None:
    """Compare, then run the whole once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=44_441)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("-k", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--skip-whole", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as folder:
        embeddings = clustered(Path(folder) / "embeddings", asked.items, asked.dim)
        pool = normalised_pool(embeddings, Path(folder) / "pool.npy")
        compare(pool, asked.k, asked.rounds)
        if not asked.skip_whole:
            taken = seconds(build_neighbours, embeddings, Path(folder) / "neighbours", asked.k)
            print(f"whole, disk to disk   {taken:.1f} s, {taken / asked.items * 1e3:.3f} ms a query")


if __name__ == "__main__":
    main()
