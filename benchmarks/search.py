"""Live search in a store: time against LanceDB called directly, and recall, for every back end, dtype and width.

    python benchmarks/search.py [--items 134000] [--dim 512] [--queries 200] [-k 100] [--store both]

Vectors lie around 2,000 centres, so that neighbours mean something; categories of 0.1 % to 50 % of the items are spread
over them at random. The peer is LanceDB with the same table, index and settings, called in turn with ours, so that
medians count on a machine that others use, too. Recall is counted against float64 cosines of the full float32 vectors.
Truncated vectors are the first dimensions, as of a model trained for it: the first half holds 98 % of the squares.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as Printed

from tgqformer.store import make_store
from tgqformer.store.base import Dtype, Filter, Row, Store, Table, VersionSpec
from tgqformer.store.lance import EF, REFINE, LanceTable
from tgqformer.store.rows import unit

SHARES = {"0.1 %": 0.001, "1 %": 0.01, "5 %": 0.05, "10 %": 0.1, "25 %": 0.25, "50 %": 0.5}
FORMS: tuple[tuple[Dtype, float], ...] = (("float32", 1), ("float16", 1), ("int8", 1), ("float32", 0.5), ("int8", 0.25))


def clustered(count: int, dim: int, seed: int) -> np.ndarray:
    """Give unit vectors [count, dim] around centres that the seed does not move; later dimensions say less."""
    centres = np.random.default_rng(0).normal(size=(2000, dim)).astype(np.float32)
    luck = np.random.default_rng(seed)
    vectors = centres[luck.integers(0, len(centres), count)]
    vectors += luck.normal(size=(count, dim)).astype(np.float32) * 0.8
    return unit(vectors * 2 ** (-6 * np.arange(dim, dtype=np.float32) / dim))


def categories(count: int) -> dict[str, np.ndarray]:
    """Say which items [count] are in which category, by name."""
    luck = np.random.default_rng(1)
    return {name: luck.random(count) < share for name, share in SHARES.items()}


def rows_of(vectors: np.ndarray, within: dict[str, np.ndarray]) -> Iterator[Row]:
    """Stream the rows of all items."""
    for i, vector in enumerate(vectors):
        yield Row(f"item-{i}", vector, f"title {i}", f"brand {i % 97}", tuple(n for n, has in within.items() if has[i]))


def best(vectors: np.ndarray, query: np.ndarray, k: int, passing: np.ndarray | None) -> set[str]:
    """Give the ids of the k nearest by brute force."""
    scores = vectors @ query
    if passing is not None:
        scores = np.where(passing, scores, -np.inf)
    nearest = np.argpartition(-scores, min(k, len(scores) - 1))[:k]
    return {f"item-{i}" for i in nearest if scores[i] > -np.inf}


def recall(table: Table, vectors: np.ndarray, queries: np.ndarray, k: int, name: str, within: np.ndarray | None,
           cut: int) -> tuple[float, float]:  # fmt: skip
    """Give (recall@k, median milliseconds of a search)."""
    where, found, times = Filter(category=(name,)) if within is not None else None, [], []
    table.search(queries[0][:cut], k, where)
    for query in queries:
        start = time.perf_counter()
        hits = table.search(query[:cut], k, where)
        times.append(time.perf_counter() - start)
        truth = best(vectors, query, k, within)
        found.append(len({hit.id for hit in hits} & truth) / max(1, len(truth)))
    return float(np.mean(found)), 1000 * median(times)


def against_lancedb(table: LanceTable, queries: np.ndarray, k: int) -> tuple[float, float]:
    """Ask ours and LanceDB itself in turn; give the medians in milliseconds."""
    bare, columns = table._table, ["id", "title", "brand", "category", "price", "_distance"]

    def direct(query: np.ndarray) -> Any:
        asked = bare.search(query).distance_type("dot").limit(k).ef(max(EF, 4 * k)).refine_factor(REFINE)
        return asked.select(columns).to_arrow()

    ours, theirs = [], []
    for number, query in enumerate(np.concatenate([queries, queries])):
        for ask, times in ((table.search, ours), (direct, theirs))[:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            ask(query, k) if ask is not direct else ask(query)
            times.append(time.perf_counter() - start)
    return 1000 * median(ours), 1000 * median(theirs)


def measure(store: Store, vectors: np.ndarray, queries: np.ndarray, k: int, within: dict[str, np.ndarray]) -> Printed:
    """Build every form in one store and measure it; give a table of recall and median milliseconds."""
    table = Printed(title=f"{store.backend}: recall@{k} / p50 in ms")
    for column in ("kept as", "MB", "build s", "all", *SHARES):
        table.add_column(column, justify="right")
    for dtype, part in FORMS:
        cut = int(vectors.shape[1] * part)
        start = time.monotonic()
        version = store.create(VersionSpec("benchmark", cut, dtype), rows_of(vectors[:, :cut], within))
        took, opened = time.monotonic() - start, store.table(version.name)
        cells = [recall(opened, vectors, queries, k, "", None, cut)]
        cells += [recall(opened, vectors, queries, k, name, has, cut) for name, has in within.items()]
        size = (opened.stats().bytes or 0) / 1e6
        shown = [f"{share:.3f} / {ms:.1f}" for share, ms in cells]
        table.add_row(f"{cut} x {dtype}", f"{size:,.0f}", f"{took:,.0f}", *shown)
        if isinstance(opened, LanceTable) and (dtype, part) == FORMS[0]:
            ours, theirs = against_lancedb(opened, queries, k)
            print(f"live search p50: ours {ours:.2f} ms, LanceDB directly {theirs:.2f} ms: {ours / theirs:.2f} times")
        store.drop(version.name)
    return table


@contextmanager
def place_in(backend: str, folder: Path) -> Iterator[str]:
    """Give a place for a store; PostgreSQL is started for it, and stopped."""
    if backend == "lance":
        yield str(folder / "store")
        return
    import pgserver

    server = pgserver.get_server(folder / "postgres", cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=134_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("-k", type=int, default=100)
    parser.add_argument("--store", choices=["lance", "postgres", "both"], default="both")
    asked = parser.parse_args()
    vectors, within = clustered(asked.items, asked.dim, 1), categories(asked.items)
    queries = clustered(asked.queries, asked.dim, 2)
    for backend in ("lance", "postgres") if asked.store == "both" else (asked.store,):
        with tempfile.TemporaryDirectory() as folder, place_in(backend, Path(folder)) as where:
            Console(width=160).print(measure(make_store(where), vectors, queries, asked.k, within))


if __name__ == "__main__":
    main()
