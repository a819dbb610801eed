"""Similar items by id over HTTP with all rules, against the same service without rules.

    python benchmarks/rules.py --items 134000 --seconds 5 --rounds 5

Both servers run as processes of their own over one store and one table of neighbours; the load goes to one after the
other, in rounds, once the lists are worked out. Vectors, groups, stock, prices and pictures are drawn. The bar: p99
with all rules at most 1.5 times that without.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import uvloop

from _shop import (
    DIM,
    K,
    Process,
    Tally,
    closed_loop,
    environment,
    item_id,
    random_ids,
    request,
    rows,
    tiny_models,
    write_neighbours,
)
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.store import lance, make_store
from tgqformer.store.base import StoreRow
from tgqformer.store.ledger import VersionSpec
from tgqformer.store.neighbours import VECTORS

BAR = 1.5
RULES = {
    "without": "one_per_group: false\n",
    "all rules": "one_per_group: true\nin_stock: true\nexclude: [item-0000001, item-0000002]\nsame_category: boost\n"
    "price_from: 0.2\nprice_to: 5\nmin_score: 0.05\ndiversity: 0.3\nsame_picture_once: true\n",
}


def sold(count: int, seed: int = 0) -> Iterator[StoreRow]:
    """Rows with drawn groups of 1 to 8 variants, a fifth out of stock, prices, and pictures shared by some."""
    rng = np.random.default_rng(seed)
    for n, row in enumerate(rows(count, DIM, seed)):
        drawn = np.random.default_rng(n - n % 2 if n % 10 == 1 else n)
        shades = drawn.integers(0, 256, 3) + drawn.normal(0, 40, (64, 3))
        look = np.clip(shades, 0, 255).astype(np.uint8).tobytes()
        stock = "out_of_stock" if rng.random() < 0.2 else "in_stock"
        price = float(np.round(np.exp(rng.normal(3.5, 0.7)), 2))
        yield replace(row, item_group=f"g{n // 4}", availability=stock, price=price, look=look)


def main() -> None:
    """Build, measure, print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--items", type=int, default=134_000)
    options.add_argument("--seconds", type=float, default=5.0, help="of one load")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--lines", type=int, default=4, help="connections")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as made:
        measure(Path(made), given)


def measure(folder: Path, given: argparse.Namespace) -> None:
    """Run both servers and load them in turns."""
    [model] = tiny_models(folder, 1)
    version, store = ItemEmbedder.load(model).version, make_store(folder / "store")
    lance.INDEX_FROM = given.items + 1  # the index of the store, which takes minutes to make, is not asked
    store.serve(store.create(VersionSpec(version, DIM, model=str(model)), sold(given.items)).name)
    write_neighbours(folder / "neighbours", version, given.items)
    vectors = np.random.default_rng(1).standard_normal((given.items, DIM), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.save(folder / "neighbours" / VECTORS, vectors)
    servers, seen = dict[str, Process](), {name: Tally() for name in RULES}
    try:
        for name, text in RULES.items():
            (folder / f"{name}.yaml").write_text(text)
            beside = ("--neighbours", str(folder / "neighbours"), "--rules", str(folder / f"{name}.yaml"))
            state = ("--state", str(folder / f"state {name}"))
            servers[name] = Process.serve(folder / "store", folder / f"{name}.log", *beside, *state)
        for server in servers.values():
            wait_until_ready(server.port)
        for _ in range(given.rounds):
            for name, server in servers.items():
                seen[name] = joined(seen[name], load(server.port, given))
    finally:
        for server in servers.values():
            server.stop()
    show(seen, given)


def wait_until_ready(port: int) -> None:
    """Wait until the lists by the default rules are worked out, which a service does in the background."""
    start = time.perf_counter()
    wanted, seen = ("\ntgq_index_ready 1.0", "\ntgq_lists_ready 1.0"), 0
    while seen < 5:  # once the index is there, lists are completed by it
        told = urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        seen = seen + 1 if all(word in told for word in wanted) else 0
        time.sleep(1)
    print(f"lists are ready after {time.perf_counter() - start:.0f} s", flush=True)


def load(port: int, given: argparse.Namespace) -> Tally:
    """Ask for random items."""
    pick = random_ids(given.items)

    def make() -> bytes:
        return request("GET", f"/items/{item_id(pick())}/similar?k=10")

    return uvloop.run(closed_loop(port, given.lines, given.seconds, make))


def joined(one: Tally, other: Tally) -> Tally:
    """Add two loads."""
    statuses = {status: one.statuses.get(status, 0) + count for status, count in other.statuses.items()}
    return Tally([*one.seconds, *other.seconds], statuses, [*one.wrong, *other.wrong], one.wall + other.wall)


def show(seen: dict[str, Tally], given: argparse.Namespace) -> None:
    """Print what was measured, and whether it holds the bar."""
    print(f"{given.items:,} items, {K} neighbours each, k = 10; {given.lines} connections; {environment()}")
    for name, tally in seen.items():
        times = f"p50 {tally.quantile(0.5):.2f} ms, p99 {tally.quantile(0.99):.2f} ms"
        print(f"{name:<10} {times}, {len(tally.seconds):,} answers, {tally.statuses}")
    without, ruled = seen["without"], seen["all rules"]
    p50, p99 = (ruled.quantile(q) / without.quantile(q) for q in (0.5, 0.99))
    held = "held" if p99 <= BAR else "missed"
    print(f"all rules: p50 {p50:.2f} times, p99 {p99:.2f} times that without (bar {BAR}: {held})")


if __name__ == "__main__":
    main()
