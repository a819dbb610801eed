"""Neighbours after a sync against a fresh build: equal files, and what share of its time they take.

    python benchmarks/follow.py --items 134000 --dim 256 --changed 0.01 --days 2

A real store and the real build. Each day a third of the changed items is new, a third has another vector and a third
is gone; the order of the rest stays. The time to compare is that of everything `follow` does: it reads the store,
compares, searches and writes the folder anew. The bar: equal, in at most 5 % of a fresh build's time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from neighbours import clustered
from tgqformer.store import make_store
from tgqformer.store.base import StoreRow, StoreTable
from tgqformer.store.embeddings import Embeddings, fingerprint_of
from tgqformer.store.follow import Followed, follow
from tgqformer.store.ledger import VersionSpec
from tgqformer.store.neighbours import Neighbours, build_neighbours

BAR, MODEL = 0.05, "benchmark"


def change(
    ids: list[str], vectors: np.ndarray, contents: list[str], share: float, day: int
) -> tuple[list[str], np.ndarray, list[str]]:
    """Return a shop a day later."""
    luck, count = np.random.default_rng(day), round(share * len(ids) / 3)
    chosen = luck.permutation(len(ids))
    other, gone = chosen[:count], set(chosen[count : 2 * count].tolist())
    now, seen = vectors.copy(), list(contents)
    for number, place in enumerate(other.tolist()):
        now[place], seen[place] = _drawn(vectors, luck), f"{day}-{number}".zfill(32)
    stays = [place for place in range(len(ids)) if place not in gone]
    new = [f"new-{day}-{number}" for number in range(count)]
    drawn = np.array([_drawn(vectors, luck) for _ in new])
    names = [*(ids[place] for place in stays), *new]
    told = [*(seen[place] for place in stays), *(name.zfill(32) for name in new)]
    return names, np.concatenate([now[stays], drawn]), told


def _drawn(vectors: np.ndarray, luck: np.random.Generator) -> np.ndarray:
    """Return a vector near one that is there."""
    return vectors[luck.integers(len(vectors))] + luck.normal(0, 1.0, vectors.shape[1]).astype(np.float32)


def embedded(folder: Path, ids: list[str], vectors: np.ndarray, contents: list[str]) -> Embeddings:
    """Write embeddings."""
    shape = {"dim": vectors.shape[1], "count": len(ids)}
    made = Embeddings.create(folder, model_version=MODEL, ids_fingerprint=fingerprint_of(ids), **shape)
    for number in made.missing():
        part = slice(*made.bounds(number))
        made.write(number, ids[part], vectors[part], contents[part])
    return made


def stored(table: StoreTable, ids: list[str], vectors: np.ndarray, contents: list[str]) -> None:
    """Bring the store up to date, as `tgq sync` does with vectors that it embeds."""
    there, stays = dict(table.contents()), set(ids)
    table.delete([name for name in there if name not in stays])
    rows = [
        StoreRow(name, vector, content=f"{seen}facts")
        for name, vector, seen in zip(ids, vectors, contents, strict=True)
        if there.get(name, "")[:32] != seen
    ]
    table.upsert(rows, model_version=MODEL)
    table.optimize()


def differing(one: Path, other: Path) -> list[str]:
    """Name the files that are not the same; spare neighbours, which may be fewer, are compared by the test."""
    names = {path.name for folder in (one, other) for path in folder.glob("[!.]*")}
    served = [name for name in sorted(names) if not name.startswith("spare")]
    return [name for name in served if (one / name).read_bytes() != (other / name).read_bytes()]


def seconds_of_build(made: Embeddings, to: Path, k: int) -> float:
    """Build from nothing."""
    start = time.perf_counter()
    build_neighbours(made, to, k, show_progress_bar=False)
    return time.perf_counter() - start


def main() -> None:
    """Build once, change and follow day by day, and build anew to compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=134_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("-k", type=int, default=100)
    parser.add_argument("--changed", type=float, default=0.01, help="share of the items, each day")
    parser.add_argument("--days", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        run(Path(place), asked)


def run(folder: Path, asked: argparse.Namespace) -> None:
    """Measure each day."""
    vectors = clustered(folder / "drawn", asked.items, asked.dim).vectors()
    ids, contents = [f"item-{n}" for n in range(asked.items)], [f"{n:032x}" for n in range(asked.items)]
    store = make_store(str(folder / "store"))
    rows = (
        StoreRow(name, vector, content=f"{seen}facts")
        for name, vector, seen in zip(ids, vectors, contents, strict=True)
    )
    store.serve(store.create(VersionSpec(MODEL, asked.dim), rows).name)
    first = seconds_of_build(embedded(folder / "e0", ids, vectors, contents), folder / "n", asked.k)
    size = sum(path.stat().st_size for path in Neighbours.open(folder / "n").path.iterdir()) / 1e6
    print(f"{asked.items:,} x {asked.dim}, K = {asked.k}, {torch.get_num_threads()} threads; {size:.0f} MB on disk")
    print(f"fresh build {first:.1f} s", flush=True)
    for day in range(1, asked.days + 1):
        ids, vectors, contents = change(ids, vectors, contents, asked.changed, day)
        table = store.table()
        stored(table, ids, vectors, contents)
        start = time.perf_counter()
        done: Followed = follow(folder / "n", table, ids, shown=False)
        taken = time.perf_counter() - start
        fresh = seconds_of_build(embedded(folder / f"e{day}", ids, vectors, contents), folder / f"n{day}", asked.k)
        wrong = differing(folder / "n", folder / f"n{day}")
        words = f"{done.fresh:,} vectors came, {done.gone:,} went, {done.searched:,} lists searched"
        held = "held" if not wrong and taken <= BAR * fresh else "missed"
        print(f"day {day}: {words}; {taken:.1f} s of {fresh:.1f} s, {taken / fresh:.1%} (bar {BAR:.0%}: {held})")
        print(f"  {'files differ: ' + ', '.join(wrong) if wrong else 'all files equal'}", flush=True)


if __name__ == "__main__":
    main()
