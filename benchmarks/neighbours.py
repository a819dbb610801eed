"""`tgq neighbours` against the bare blocked product and top-K, and faiss, side by side in one run.

    python benchmarks/neighbours.py [--items 44441] [--dim 384] [-k 100] [--rounds 5]

The first peer is the plainest exact code: `torch.mm(block, pool.T)` and `topk`, given the best of several block sizes;
it neither leaves out the item itself, nor orders ties, nor writes anything. Others: ours, by sorting whole float32
products, as it was before; faiss Flat, where `faiss-cpu` is installed. All answer the same query blocks in turn; what
counts is the median of processor seconds, all threads together, which other work on the machine hardly moves. Then
`build_neighbours` runs once over everything, from the embeddings on disk to the table on disk; with `--approximate`
`build_approximate` too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch

from tgqformer.store.approximate import ApproximateWork, build_approximate
from tgqformer.store.embeddings import Embeddings, normalised_pool
from tgqformer.store.neighbours import build_neighbours
from tgqformer.topk.exact import QUERIES
from tgqformer.topk.vectors import TopK, top_k

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
    """Take the processor time of one call, all threads together."""
    start = time.process_time()
    work(*arguments)
    return time.process_time() - start


def bare(pool: torch.Tensor, scores: torch.Tensor, start: int, stop: int, k: int) -> None:
    """Answer the queries `start` to `stop` the plain way, in blocks of as many rows as `scores` has."""
    for first in range(start, stop, len(scores)):
        torch.mm(pool[first : first + len(scores)], pool.T, out=scores)
        scores.topk(k, dim=1)


def ours(pool: torch.Tensor, start: int, stop: int, k: int) -> None:
    """Answer the same queries as the command does."""
    for _ in top_k(pool, k, [(first, first + QUERIES) for first in range(start, stop, QUERIES)]):
        pass


def sorting(pool: torch.Tensor, start: int, stop: int, k: int) -> None:
    """Answer them by sorting whole float32 products."""
    with patch.object(TopK, "_near", lambda *_: None):
        ours(pool, start, stop, k)


def peers(pool: torch.Tensor, k: int) -> dict[str, Callable[[int, int], object]]:
    """Return what is compared: a name, and a function of the first and last query."""
    blocks = {block: torch.zeros(block, len(pool)) for block in BLOCKS}
    found: dict[str, Callable[[int, int], object]] = {
        "ours": lambda start, stop: ours(pool, start, stop, k),
        "ours, sorting": lambda start, stop: sorting(pool, start, stop, k),
        **{
            f"bare, blocks of {block}": lambda start, stop, scores=scores: bare(pool, scores, start, stop, k)
            for block, scores in blocks.items()
        },
    }
    if find_spec("faiss") is not None:
        import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())
        flat = faiss.IndexFlatIP(pool.shape[1])
        flat.add(pool.numpy())
        found["faiss Flat"] = lambda start, stop: flat.search(pool[start:stop].numpy(), k + 1)
    return found


def compare(pool: torch.Tensor, k: int, rounds: int) -> float:
    """Time all on the same 2,048 queries, in turn; print the medians and their ratios; return ours, in ms."""
    queries = 2048
    works = peers(pool, k)
    works["ours"](0, queries)
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds):
        start = turn * queries % (len(pool) - queries)
        for name, work in works.items():
            times[name].append(seconds(work, start, start + queries))
    for name, taken in times.items():
        ratio = median(mine / other for mine, other in zip(times["ours"], taken, strict=True))
        print(f"{name:<22} {median(taken) / queries * 1e3:.3f} ms a query; ours takes {ratio:.2f} of it")
    return median(times["ours"]) / queries * 1e3


def main() -> None:
    """Compare, then run the whole once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=44_441)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("-k", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--skip-whole", action="store_true")
    parser.add_argument("--approximate", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as folder:
        embeddings = clustered(Path(folder) / "embeddings", asked.items, asked.dim)
        pool = normalised_pool(embeddings, Path(folder) / "pool.npy")
        exact = compare(pool, asked.k, asked.rounds)
        if not asked.skip_whole:
            taken = seconds(build_neighbours, embeddings, Path(folder) / "neighbours", asked.k)
            print(f"whole, disk to disk    {taken:.1f} s, {taken / asked.items * 1e3:.3f} ms a query")
        if asked.approximate:
            to, start = Path(folder) / "approximate", time.process_time()
            ApproximateWork.begin(embeddings, to, asked.k)
            plan = (time.process_time() - start) / asked.items * 1e3
            _, told = build_approximate(embeddings, to, asked.k)
            near = (time.process_time() - start) / asked.items * 1e3
            print(f"--approximate          {near:.3f} ms an item, {exact / near:.1f} times faster. {told.told()}")
            print(f"of it the cells, which one machine makes: {plan / near:.0%}")


if __name__ == "__main__":
    main()
