"""Load with writes and a swap in the middle: no 5xx, no answer of a wrong version, memory flat.

    python benchmarks/load.py --items 20000 --seconds 60 --share 0.8

First the server is warmed up and its capacity is measured, with the same mixture in a closed loop; then requests come
at `--share` of it, at random moments whether or not earlier ones are answered. 5 % are writes (PUT with a picture,
DELETE), the rest similar items by id (precomputed and filtered), searches by text and picture. In the middle a second
version is served.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from PIL import Image

from _shop import (
    CATEGORIES,
    Line,
    Process,
    Tally,
    add_version,
    closed_loop,
    decoded,
    environment,
    form,
    item_id,
    request,
    tiny_models,
    write_neighbours,
)
from tgqformer.store import make_store

LINES = 64


def main() -> None:
    """Build, measure, load, check."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--items", type=int, default=20_000)
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--share", type=float, default=0.8, help="of the measured capacity")
    options.add_argument("--warm", type=float, default=40.0, help="seconds of warming up")
    options.add_argument("--timeout", type=float, default=30.0)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as made:
        run(Path(made), given)


def run(folder: Path, given: argparse.Namespace) -> None:
    """Do the whole test; exits with 1 where a bar is missed."""
    models = tiny_models(folder, 2)
    store, options = folder / "store", ["--timeout", str(given.timeout)]
    for seed, model in enumerate(models):
        version = add_version(store, model, given.items, serve=not seed, seed=seed)
        write_neighbours(folder / f"neighbours-{seed}", version.model_version, given.items, seed=seed)
        options += ["--model", str(model), "--neighbours", str(folder / f"neighbours-{seed}")]
    served = Process.serve(store, folder / "log", *options)
    try:
        mixture = Mixture(given.items)
        uvloop.run(closed_loop(served.port, 16, given.warm, mixture.next))
        capacity = uvloop.run(closed_loop(served.port, 16, min(10.0, given.seconds), mixture.next)).rate
        print(f"{given.items:,} items, capacity {capacity:.0f} requests a second; {environment()}")
        load = Load(served, store, mixture, rate=given.share * capacity, seconds=given.seconds, swap_to=version.name)
        uvloop.run(load.run())
        status = served.stop()
    except BaseException:
        served.kill()
        raise
    raise SystemExit(load.report(status))


class Mixture:
    """Draws requests; remembers which items it deleted and put."""

    def __init__(self, items: int, seed: int = 0) -> None:
        self._items, self._rng = items, np.random.default_rng(seed)
        self._pictures = [_picture(n) for n in range(8)]
        self.put = 0

    def next(self) -> bytes:
        """Draw one request."""
        return self.draw()[1]

    def draw(self) -> tuple[str, bytes]:
        """Draw one request, and say of which kind it is."""
        rng, chance = self._rng, self._rng.random()
        name, category = item_id(int(rng.integers(self._items))), CATEGORIES[int(rng.integers(8))]
        if chance < 0.04:
            self.put += 1
            picture = self._pictures[int(rng.integers(8))]
            return "put", form(
                "PUT", f"/items/new-{self.put % 500}", picture, title=f"red {category}", category=category
            )
        if chance < 0.05:
            return "delete", request("DELETE", f"/items/{name}")
        if chance < 0.75:
            return "similar", request("GET", f"/items/{name}/similar?k=20")
        if chance < 0.85:
            return "filtered", request("GET", f"/items/{name}/similar?k=20&category={category}")
        if chance < 0.95:
            return "by text", form("POST", "/search?k=20", title=f"blue {category}")
        picture = self._pictures[int(rng.integers(8))]
        return "by picture", form("POST", "/search?k=20", picture, title=f"green {category}")


class Load:
    """Requests at a fixed mean rate, a swap at half time, and what was seen."""

    def __init__(
        self, served: Process, store: Path, mixture: Mixture, *, rate: float, seconds: float, swap_to: str
    ) -> None:
        self._served, self._store, self._mixture, self._rate = served, store, mixture, rate
        self._seconds, self._swap_to = seconds, swap_to
        versions = {one.name: one.model_version for one in make_store(store).versions()}
        self._old, self._new = versions["v1"], versions[swap_to]
        self.tally, self.memory = Tally(), []
        self._swapped_at = self._seen_at = float("inf")
        self.counts: dict[str, int] = {}
        self.kinds: dict[str, list[float]] = {}

    async def run(self) -> None:
        """Send everything and wait for all answers."""
        lines: asyncio.Queue[Line] = asyncio.Queue()
        for _ in range(LINES):
            lines.put_nowait(await Line.open(self._served.port))
        others = [asyncio.create_task(self._swap()), asyncio.create_task(self._watch_memory())]
        rng, begun, due, sent = np.random.default_rng(1), time.perf_counter(), 0.0, []
        while (due := due + float(rng.exponential(1 / self._rate))) < self._seconds:
            await asyncio.sleep(max(0.0, begun + due - time.perf_counter()))
            sent.append(asyncio.create_task(self._ask(lines, begun + due)))
        await asyncio.gather(*sent, others[0])
        others[1].cancel()
        self.tally.wall = time.perf_counter() - begun

    async def _ask(self, lines: asyncio.Queue[Line], due: float) -> None:
        """Ask one thing; its time counts from the moment it was due."""
        line = await lines.get()
        (kind, asked), began = self._mixture.draw(), time.perf_counter()
        status, body = await line.ask(asked)
        lines.put_nowait(line)
        self.tally.add(status, time.perf_counter() - due)
        self.kinds.setdefault(kind, []).append(time.perf_counter() - due)
        if status == 200:
            self._check(decoded(body), began)

    def _check(self, answer: Any, began: float) -> None:
        """An answer is of the old version or the new one; of the new alone if it was asked for after one was seen."""
        found = answer["model_version"]
        self.counts[found] = self.counts.get(found, 0) + 1
        if found == self._new:
            self._seen_at = min(self._seen_at, time.perf_counter())
            if time.perf_counter() < self._swapped_at:
                self.tally.wrong.append("the new version was answered before the swap")
        elif found != self._old:
            self.tally.wrong.append(f"unknown version {found}")
        elif began > self._seen_at:
            self.tally.wrong.append("the old version was answered after the new one")

    async def _swap(self) -> None:
        await asyncio.sleep(self._seconds / 2)
        self._swapped_at = time.perf_counter()
        await asyncio.to_thread(make_store(self._store).serve, self._swap_to)

    async def _watch_memory(self) -> None:
        while True:
            self.memory.append(self._served.memory())
            await asyncio.sleep(1)

    def report(self, exit_status: int) -> int:
        """Print what was seen; give 1 where a bar is missed."""
        tally, half = self.tally, len(self.memory) // 2
        late = sum(count for status, count in tally.statuses.items() if status >= 500)
        quarter = max(1, half // 2)
        growth = [_slope(self.memory[quarter:half]), _slope(self.memory[-half + quarter :])]
        statuses = dict(sorted(tally.statuses.items()))
        print(f"sent {len(tally.seconds):,} at {self._rate:.0f} a second; answered: {statuses}")
        print(f"p50 {tally.quantile(0.5):.1f} ms, p99 {tally.quantile(0.99):.1f} ms, max {tally.quantile(1):.0f} ms")
        for kind, seconds in sorted(self.kinds.items()):
            p50, p99 = np.quantile(seconds, (0.5, 0.99)) * 1000
            print(f"  {kind:<10} {len(seconds):>6,}: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
        print(f"answers by version: {self.counts}; swap seen after {self._seen_at - self._swapped_at:.1f} s")
        print(f"memory: {self.memory[0]:.0f} MB at first, {max(self.memory):.0f} at most, {self.memory[-1]:.0f} last;"
              f" growth {growth[0]:.2f} and {growth[1]:.2f} MB a second before and after the swap")  # fmt: skip
        bars = {
            "no 5xx": late == 0, "no wrong version": not tally.wrong and len(self.counts) == 2,
            "memory flat": max(growth) < 0.5, "orderly end": exit_status == 0,
        }  # fmt: skip
        print(", ".join(f"{name}: {'ok' if held else 'MISSED'}" for name, held in bars.items()), *set(tally.wrong))
        return 0 if all(bars.values()) else 1


def _slope(values: list[float]) -> float:
    """Growth a second, by least squares."""
    return float(np.polyfit(range(len(values)), values, 1)[0]) if len(values) > 3 else 0.0


def _picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).resize((300, 300)).save(file, "JPEG")
    return file.getvalue()


if __name__ == "__main__":
    main()
