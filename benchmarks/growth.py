"""How the cost of a step grows with the number of rows: the slope in log-log, and the memory it takes.

Each size runs in a process of its own, on rows that are made up; the code is the one that runs in a shop. A slope of 1
means that twice the rows take twice the time.

    python benchmarks/growth.py [ids import mine mine-expanded rank rank-few] [--sizes 10000 40000 160000] [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa

from tgqformer.evaluation import metrics
from tgqformer.pairs.interactions import Interactions
from tgqformer.pairs.mining import MiningSettings, Window, _Clicks, mine_table


def ids(count: int, _: Path) -> float:
    """Return the processor seconds that the duplicate check takes for `count` ids, all different."""
    from tgqformer.catalog.checks import SeenIds

    seen, start = SeenIds(), time.process_time()
    for number in range(count):
        seen.add(f"item-{number}")
    return time.process_time() - start


def rows(count: int, folder: Path) -> float:
    """Return the processor seconds of an import of `count` rows of text: `tgq catalog import` of a CSV file."""
    from tgqformer.catalog.importer import import_catalog

    source, luck = folder / "shop.csv", np.random.default_rng(0)
    colours, prices = luck.choice(["red", "blue", "green"], count), luck.integers(100, 9000, count) / 100
    with source.open("w") as file:
        file.write("id,title,brand,category,price\n")
        for number in range(count):
            file.write(f"item-{number},A {colours[number]} shirt no {number},Acme,Clothing,{prices[number]}\n")
    start = time.process_time()
    import_catalog(source, folder / "shop")
    return time.process_time() - start


def clicks(count: int) -> Interactions:
    """Make up clicks of customers who come back: 100 each, in the course of a year."""
    luck = np.random.default_rng(0)
    sessions, items = np.arange(count) // 100, (luck.pareto(1.1, count) * count / 200).astype(np.int64) % (count // 20)
    times = 1_700_000_000 + luck.integers(0, 365 * 86_400, count)
    names = [pa.array([str(n) for n in range(int(codes.max()) + 1)]) for codes in (sessions, items)]
    return Interactions(sessions, items, *names, times)


def mine(count: int, _: Path) -> float:
    """Return the processor seconds of mining `count` clicks with a window of 12 hours."""
    log = clicks(count)
    start = time.process_time()
    mine_table(log, MiningSettings(window=Window(seconds=43_200)))
    return time.process_time() - start


def expand(count: int, folder: Path) -> float:
    """Return the processor seconds of the same where all pairs of a session are made before the window is looked at."""
    with patch.object(_Clicks, "_clock", None):
        return mine(count, folder)


def rank(count: int, _: Path) -> float:
    """Return the processor seconds of ranking the positives of 256 queries in a pool of `count` vectors."""
    luck = np.random.default_rng(0)
    vectors = luck.standard_normal((count, 32), dtype=np.float32)
    queries = metrics.Queries.from_pairs(np.arange(128), np.arange(128, 256))
    start = time.process_time()
    metrics.retrieve_ranks(vectors, queries)
    return time.process_time() - start


def rank_few(count: int, folder: Path) -> float:
    """Return the same where as many queries are scored at once as fit with the whole pool."""
    with patch.object(metrics, "_FEW", 0):
        return rank(count, folder)


STEPS: dict[str, tuple[Callable[[int, Path], float], tuple[int, ...]]] = {
    "ids": (ids, (500_000, 1_000_000, 2_000_000, 4_000_000)),
    "import": (rows, (10_000, 40_000, 160_000)),
    "mine": (mine, (250_000, 1_000_000, 4_000_000)),
    "mine-expanded": (expand, (250_000, 1_000_000)),
    "rank": (rank, (2_000_000, 8_000_000)),
    "rank-few": (rank_few, (2_000_000, 8_000_000)),
}
"""By name: what is timed, and the sizes."""


def main() -> None:
    """Measure the steps that are asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"of {', '.join(STEPS)}")
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    for name in asked.steps or STEPS:
        if asked.one:
            print(json.dumps(once(name, asked.one)))
        else:
            tell(name, asked.sizes or STEPS[name][1], asked.repeats)


def tell(name: str, sizes: tuple[int, ...], repeats: int) -> None:
    """Run all sizes in turn, `repeats` times; print the medians and the slope."""
    found: dict[int, list[tuple[float, float]]] = {size: [] for size in sizes}
    for _ in range(repeats):
        for size, taken in found.items():
            command = [sys.executable, __file__, name, "--one", str(size)]
            taken.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    seconds = [statistics.median(one for one, _ in taken) for taken in found.values()]
    print(f"{name:<12} {'rows':>12} {'seconds':>9} {'us a row':>9} {'MB more':>9}")
    for (size, taken), median in zip(found.items(), seconds, strict=True):
        memory = statistics.median(more for _, more in taken)
        print(f"{'':<12} {size:>12,} {median:>9.2f} {median / size * 1e6:>9.2f} {memory:>9.0f}")
    slope = np.polyfit(np.log(sizes), np.log(seconds), 1)[0] if len(sizes) > 1 else float("nan")
    print(f"{'':<12} slope {slope:.2f}", flush=True)


def once(name: str, size: int) -> tuple[float, float]:
    """Return the processor seconds of one size, and the megabytes that the process grew by at its peak."""
    step = STEPS[name][0]
    with tempfile.TemporaryDirectory() as warm, tempfile.TemporaryDirectory() as timed:
        step(1000, Path(warm))
        before = peak()
        return step(size, Path(timed)), peak() - before


def peak() -> float:
    """Return the most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
