"""Live search in memory: time, recall and memory, with and without filters, against the search of the store itself.

    python benchmarks/live.py [--items 134000] [--dim 512] [--queries 200] [-k 10] [--store]

Vectors, queries and categories are those of `search.py`. Recall is counted against the exact answer of float64
products. With `--store` LanceDB builds its own index, too, which takes minutes, and is asked in turn with ours.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from _shop import environment
from search import ALL, Task, rows_of
from tgqformer.service.memory import give_back, use_system_memory
from tgqformer.store import lance, make_store
from tgqformer.store.base import Filter, StoreRow
from tgqformer.store.ledger import VersionSpec
from tgqformer.store.live import LiveTable
from tgqformer.store.rules import PLAIN


def resident() -> int:
    """Return the bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def main() -> None:
    """Build, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=134_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--store", action="store_true", help="ask LanceDB with its own index, too")
    asked = parser.parse_args()
    task = Task.draw(asked.items, asked.dim, asked.queries, asked.k)
    use_system_memory()  # as a service does
    if not asked.store:
        lance.INDEX_FROM = asked.items + 1
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(folder)
        version = store.create(VersionSpec("benchmark", asked.dim), rows_of(task.vectors, task.within, "store"))
        table = store.table(version.name)
        give_back()
        before, began = resident(), time.process_time()
        live = LiveTable.build(table)
        assert live is not None
        give_back()
        took, most = time.process_time() - began, (resident() - before) / asked.items - 4 * asked.dim
        live.save(Path(folder) / "live")
        del live
        gc.collect()
        give_back()
        before = resident()
        live = LiveTable.load(table, Path(folder) / "live")
        assert live is not None
        give_back()
        kept = (resident() - before) / asked.items - 4 * asked.dim
        print(f"{asked.items:,} items x {asked.dim}, k = {asked.k}; {environment()}")
        print(f"made in {took:.0f} s of a processor; width {live.width}")
        print(
            f"bytes an item besides the vectors: {most:.0f} when it was made, {kept:.0f} read back, as a service has it"
        )
        print("\n| passes | recall | p50, ms | p99, ms |" + (" store: recall | p50, ms |" if asked.store else ""))
        print("|---|---|---|---|" + ("---|---|" if asked.store else ""))
        for name, truth in task.truth.items():
            where, ours, theirs = None if name == ALL else Filter(category=(name,)), ([], []), ([], [])
            for query, right in zip(task.queries, truth, strict=True):
                start = time.perf_counter()
                found = live.listed(StoreRow("", query), asked.k, where, PLAIN)
                ours[0].append(time.perf_counter() - start)
                ours[1].append(len({hit.id for hit in found[0]} & right) / max(1, len(right)) if found else 0.0)
                if asked.store:
                    start = time.perf_counter()
                    hits = table.search(query, asked.k, where)
                    theirs[0].append(time.perf_counter() - start)
                    theirs[1].append(len({hit.id for hit in hits} & right) / max(1, len(right)))
            cells = f"{np.mean(ours[1]):.3f} | {1000 * median(ours[0]):.2f} | {1000 * np.quantile(ours[0], 0.99):.2f} |"
            beside = f" {np.mean(theirs[1]):.3f} | {1000 * median(theirs[0]):.2f} |" if asked.store else ""
            print(f"| {name} | {cells}{beside}", flush=True)


if __name__ == "__main__":
    main()
