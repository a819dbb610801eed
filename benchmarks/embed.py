"""`tgq embed` against the bare forward of encoder, connector and language model on tensors that are ready.

The bare side has its pictures decoded and prepared and its items in memory, and computes with all of torch's threads,
or with a batch a thread as `tgq embed` does; the better of the two is what counts. Ours reads the catalogue, decodes,
prepares, computes and writes partitions. Prints medians of interleaved repeats, and the ratio of the rates.

    python benchmarks/embed.py [MODEL CATALOG] [--items 512] [--repeats 5]     # those of the demo by default
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from torch import Tensor

from tgqformer.catalog.catalog import Catalog, CatalogWriter
from tgqformer.catalog.item import Item
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.parallel import cores, one_thread_each
from tgqformer.store.embed import embed_catalog, embed_prepared

Batch = tuple[list[Item], list[Tensor | None]]


def main() -> None:
    """Time both in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", default=Path("demo/models/tgq-former/seed-0/model"))
    parser.add_argument("catalog", type=Path, nargs="?", default=Path("demo/shown"))
    parser.add_argument("--items", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    model, whole = ItemEmbedder.load(arguments.model), Catalog.open(arguments.catalog)
    assert model.encoders is not None
    items = list(whole.items(0, arguments.items))
    chunks = [items[start : start + arguments.batch] for start in range(0, len(items), arguments.batch)]
    ready: list[Batch] = [(chunk, [model.encoders.preprocess(item, whole.root) for item in chunk]) for chunk in chunks]

    def together() -> None:
        for chunk, pixels in ready:
            embed_prepared(model, chunk, pixels)

    def one_each() -> None:
        with one_thread_each(), ThreadPoolExecutor(cores()) as pool:
            list(pool.map(lambda batch: embed_prepared(model, *batch), ready))

    with tempfile.TemporaryDirectory() as folder:
        with CatalogWriter(Path(folder) / "catalog", name="part", pack=True, root=whole.root) as writer:
            for item in items:
                writer.add(item)
        part = Catalog.open(Path(folder) / "catalog")
        times: dict[str, list[float]] = {"bare, all threads": [], "bare, a batch a thread": [], "tgq embed": []}
        for repeat in range(arguments.repeats + 1):
            to = Path(folder) / f"embeddings-{repeat}"
            works: list[Callable[[], object]] = [
                together, one_each,
                lambda to=to: embed_catalog(model, part, to, batch_size=arguments.batch, shown=False),  # type: ignore[misc]
            ]  # fmt: skip
            for name, work in zip(times, works, strict=True):
                times[name].append(clock(work))
    rates = {name: len(items) / statistics.median(found[1:]) for name, found in times.items()}  # the first is warm-up
    for name, rate in rates.items():
        print(f"{name:<24} {rate:7.1f} items/s (median of {arguments.repeats})")
    bare = max(rates["bare, all threads"], rates["bare, a batch a thread"])
    print(f"ratio {rates['tgq embed'] / bare:.2f}")


def clock(work: Callable[[], object]) -> float:
    """Time one call in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
