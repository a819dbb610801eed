"""`tgq embed` against the bare forward of encoder, connector and language model on tensors that are ready.

The bare side has its pictures decoded and prepared and its items in memory, and computes with all of torch's threads,
or with a batch a thread as `tgq embed` does; the better of the two is what counts. Ours reads the catalogue, decodes,
prepares, computes and writes partitions: as it is, with `--precision auto`, and as it was before EfficientNet took its
batches in pieces. Prints the medians of processor time over interleaved repeats.

    python benchmarks/embed.py [MODEL CATALOG] [--items 512] [--repeats 5]     # those of the demo by default
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
from torch import Tensor

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.encoders import efficientnet
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.parallel import cores, one_thread_each
from tgqformer.store.embed import embed_catalog, embed_prepared
from tgqformer.store.embeddings import Embeddings
from tgqformer.types import Vectors

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
        place = Path(folder) / "embeddings"
        ours = partial(embed_catalog, model, part, place, batch_size=arguments.batch, shown=False)

        def in_one_piece() -> None:
            with patch.object(efficientnet, "PIECES", dict.fromkeys(efficientnet.PIECES, arguments.batch)):
                ours()

        works: dict[str, Callable[[], object]] = {
            "bare, all threads": together,
            "bare, a batch a thread": one_each,
            "tgq embed, whole batches": in_one_piece,
            "tgq embed": ours,
            "tgq embed --precision auto": partial(ours, precision="auto"),
        }
        times: dict[str, list[float]] = {name: [] for name in works}
        found: dict[str, Vectors] = {}
        for _ in range(arguments.repeats + 1):  # the first is warm-up
            for name, work in works.items():
                times[name].append(clock(work))
                if place.exists():
                    found[name] = Embeddings.open(place).vectors()
                    shutil.rmtree(place)
    told = {name: statistics.median(taken[1:]) / len(items) * 1e3 for name, taken in times.items()}
    for name, cost in told.items():
        print(f"{name:<28} {cost:7.2f} ms an item, {cost / told['tgq embed, whole batches']:.2f} of whole batches")
    pieces, half = found["tgq embed"], found["tgq embed --precision auto"]
    print(f"vectors of pieces equal: {np.array_equal(pieces, found['tgq embed, whole batches'])}")
    cosine = float((pieces * half).sum(1).min())
    print(f"--precision auto: least cosine {cosine:.6f}, top-10 overlap {overlap(pieces, half):.4f}")


def overlap(one: Vectors, other: Vectors, k: int = 10) -> float:
    """Return the share of each item's `k` nearest that both know."""
    near = [np.argsort(-(vectors @ vectors.T), axis=1)[:, 1 : k + 1] for vectors in (one, other)]
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(*near, strict=True)]))


def clock(work: Callable[[], object]) -> float:
    """Take the processor seconds of one call, all threads together."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
