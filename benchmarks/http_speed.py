"""Similar items by id over HTTP, against a bare FastAPI endpoint that gives a constant body of equal size.

    python benchmarks/http_speed.py --items 134000 --seconds 10 --rounds 5

Both servers run as processes of their own with the same uvicorn settings; the load goes to one after the other, in
rounds. The bar: p99 at most 3 times that of the bare endpoint, for answers from precomputed neighbours.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import numpy as np
import uvloop

from _shop import (
    K,
    Line,
    Process,
    add_version,
    closed_loop,
    decoded,
    environment,
    item_id,
    random_ids,
    request,
    tiny_models,
    write_neighbours,
)

BAR = 3.0


def main() -> None:
    """Build, measure, print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--items", type=int, default=134_000)
    options.add_argument("--seconds", type=float, default=5.0, help="of one load")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--lines", type=int, default=16, help="connections")
    options.add_argument("-k", type=int, nargs="*", default=[10, 100])
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as made:
        measure(Path(made), given)


def measure(folder: Path, given: argparse.Namespace) -> None:
    """Run both servers and load them in turns."""
    [model] = tiny_models(folder, 1)
    version = add_version(folder / "store", model, given.items, serve=True)
    write_neighbours(folder / "neighbours", version.model_version, given.items)
    options = ("--neighbours", str(folder / "neighbours"), "--model", str(model))
    served = Process.serve(folder / "store", folder / "log", *options)
    print(f"{given.items:,} items x {version.dim}, {K} neighbours each; {given.lines} connections; {environment()}")
    print(f"{'k':>4} {'bytes':>6}  {'':<12} {'p50 ms':>7} {'p99 ms':>7} {'a second':>9}")
    try:
        for k in given.k:
            compare(folder, served, given, k)
        print(f"memory of the service: {served.memory():.0f} MB")
    finally:
        served.stop()


def compare(folder: Path, served: Process, given: argparse.Namespace, k: int) -> None:
    """Compare answers of k neighbours with a constant of their size."""
    size, pick = asyncio.run(size_of(served.port, k)), random_ids(given.items)
    constant = Process([sys.executable, str(Path(__file__).with_name("_shop.py")), "bare", str(size)], folder / "bare")
    found: dict[str, list[tuple[float, float, float]]] = {"bare": [], "tgqformer": []}
    try:
        for turn in range(given.rounds + 1):
            for name, port in (("bare", constant.port), ("tgqformer", served.port)):
                seconds = given.seconds if turn else min(1.0, given.seconds)  # the first is for warming up
                load = closed_loop(
                    port, given.lines, seconds, lambda: request("GET", f"/items/{item_id(pick())}/similar?k={k}")
                )
                tally = uvloop.run(load)
                assert set(tally.statuses) == {200}, tally.statuses
                if turn:
                    found[name].append((tally.quantile(0.5), tally.quantile(0.99), tally.rate))
    finally:
        constant.stop()
    for name, values in found.items():
        p50, p99, rate = np.median(values, axis=0)
        print(f"{k:>4} {size:>6}  {name:<12} {p50:>7.2f} {p99:>7.2f} {rate:>9.0f}")
    ratio = float(np.median([mine[1] / theirs[1] for mine, theirs in zip(*reversed(found.values()), strict=True)]))
    print(
        f"{'':>12} p99 is {ratio:.2f} times that of the bare endpoint (bar {BAR}): {'ok' if ratio <= BAR else 'MISSED'}"
    )


async def size_of(port: int, k: int) -> int:
    """Ask once, see that the answer is precomputed, and give its size."""
    line = await Line.open(port)
    status, body = await line.ask(request("GET", f"/items/{item_id(1)}/similar?k={k}"))
    line.close()
    assert status == 200 and decoded(body)["source"] == "precomputed", body
    return len(body)


if __name__ == "__main__":
    main()
