"""Flip single bits in what we write: a reader says that it is damaged, or gives the same answer, and never crashes.

    python benchmarks/faults_bits.py --flips 1000

Each flip is in a random bit of a random file, of embeddings, neighbours, a catalogue with packed pictures, a store with
an index and deleted rows, the token cache, or a saved model. A copy is flipped, read in a process of its own, and
compared with what was read before.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item, Picture
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.encoders.parts import PartFolder, digests_of
from tgqformer.errors import TgqError
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.version import version_of
from tgqformer.store import make_store, open_store
from tgqformer.store.base import Filter, StoreRow
from tgqformer.store.embeddings import Embeddings, fingerprint_of
from tgqformer.store.ledger import VersionSpec
from tgqformer.store.neighbours import Neighbours, build_neighbours

SAME, TOLD, OTHER = 0, 3, 4
PATIENCE = 300  # seconds for one reader


def write_all(folder: Path, items: int = 300, dim: int = 16, *, store: bool = True) -> None:
    """Write one of each kind, except the model."""
    rng, ids = np.random.default_rng(0), [f"item-{n}" for n in range(items)]
    made = Embeddings.create(
        folder / "embeddings", dim=dim, model_version="m", ids_fingerprint=fingerprint_of(ids), count=items,
        partition_size=128,
    )  # fmt: skip
    for number in made.missing():
        start, stop = made.bounds(number)
        vectors = rng.normal(size=(stop - start, dim)).astype(np.float32)
        made.write(number, ids[start:stop], vectors, [f"{n:032x}" for n in range(start, stop)])
    build_neighbours(made, folder / "neighbours", 5, show_progress_bar=False)
    with CatalogWriter(folder / "catalog", name="shop", pack=True) as writer:
        for name in ids:
            data = rng.bytes(200)
            writer.add(Item(name, f"title of {name}", "acme", ("All", "Shoes"), {"color": "red"}, 5.0,
                            (Picture(Picture.digest_of(data), None, data),)))  # fmt: skip

    if store:
        assert in_a_child(lambda: write_store(folder / "store", ids, dim)) == 0
    cache = PartFolder(folder / "cache")
    for start in range(0, items, 100):
        keys = ids[start : start + 100]
        tokens = rng.normal(size=(len(keys), 9, dim)).astype(np.float16)
        cache.write(digests_of(keys), {"tokens": tokens, "vector": tokens.mean(1)})


def write_store(path: Path, ids: list[str], dim: int) -> int:
    """Write a store with an index, changed and deleted rows, and rows beside the index; return 0."""
    from tgqformer.store import lance

    lance.INDEX_FROM, rng = len(ids) // 2, np.random.default_rng(1)
    vectors = rng.normal(size=(len(ids), dim)).astype(np.float32)
    rows = [StoreRow(name, vector, f"title of {name}", "acme", ("All", name[-1]), float(n), f"c{n}")
            for n, (name, vector) in enumerate(zip(ids, vectors, strict=True))]  # fmt: skip
    store = make_store(str(path))
    table = store.table(store.serve(store.create(VersionSpec("m", dim), rows).name).name)
    table.upsert([StoreRow("item-7", vectors[8], "changed"), StoreRow("new", vectors[9], "new")], model_version="m")
    table.delete(["item-3"])
    return 0


def read_store(path: Path) -> str:
    """Read all rows, and what searches find with and without index and filter."""
    table = open_store(str(path)).table()
    contents = sorted(table.contents())
    rows = [(row, row.vector.tobytes()) for row in table.get([name for name, _ in contents])]
    filters = (None, Filter(category=("3",)), Filter(min_price=50.0))
    hits = [table.search(row.vector, 5, where, exact=exact) for row, _ in rows[:3] for where in filters
            for exact in (False, True)]  # fmt: skip
    return digest(contents, [(replace(row, vector=row.vector[:0]), kept) for row, kept in rows], hits, table.count())


def read_cache(path: Path) -> str:
    """Read all rows of a cache."""
    cache = PartFolder(path)
    found = [(part[name].tobytes(), at.tolist(), local.tolist()) for name in ("keys", "tokens", "vector")
             for at, part, local in cache.split(np.arange(len(cache)))]  # fmt: skip
    return digest(found, cache.index.find(digests_of(["item-1"])).tolist())


def read_embeddings(path: Path) -> str:
    """Read all that embeddings say."""
    made = Embeddings.open(path)
    return digest(made.manifest, [(part.ids, part.vectors.tobytes(), part.contents) for part in made])


def read_neighbours(path: Path) -> str:
    """Read all that a table of neighbours says."""
    made = Neighbours.open(path)
    return digest(made.manifest, list(made.contents()), [(name, made.of(name)) for name in made.ids()])


def read_catalog(path: Path) -> str:
    """Read all items with their pictures."""
    made = Catalog.open(path)
    return digest(made.fingerprint, made.name, list(made.items()))


def read_model(path: Path) -> str:
    """Load a model: its weights are what its version names."""
    return digest(ItemEmbedder.load(path).version, version_of(path))


READERS: dict[str, Callable[[Path], str]] = {
    "embeddings": read_embeddings, "neighbours": read_neighbours, "catalog": read_catalog, "store": read_store,
    "cache": read_cache, "model": read_model,
}  # fmt: skip


def digest(*what: object) -> str:
    """Return a digest of what was read."""
    return sha256(repr(what).encode()).hexdigest()


def flip(path: Path, kind: str, expected: str, luck: random.Random) -> int:
    """Flip a bit below a copy of a folder and read it in a child; return the child's status."""
    with tempfile.TemporaryDirectory(dir=path.parent) as made:
        copy = Path(shutil.copytree(path, Path(made) / path.name))
        files = sorted(file for file in copy.rglob("*") if file.is_file() and file.stat().st_size)
        sizes = [file.stat().st_size for file in files]
        file = luck.choices(files, sizes)[0] if luck.random() < 0.5 else luck.choice(files)
        at, bit = luck.randrange(file.stat().st_size), 1 << luck.randrange(8)
        turn(file, at, bit)
        status = in_a_child(lambda: status_of(copy, kind, expected))
        if status not in (SAME, TOLD):
            print(f"{kind}: {file.relative_to(copy)}, byte {at}, bit {bit}: {status}", flush=True)
        return status


def in_a_child(work: Callable[[], int]) -> int:
    """Do what LanceDB may crash of in a process of its own, which has not begun its threads yet; return its status."""
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)
        try:
            os._exit(work())
        finally:  # any other error than ours is a fault
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def status_of(path: Path, kind: str, expected: str) -> int:
    """Read, and say what came of it."""
    try:
        return SAME if READERS[kind](path) == expected else OTHER
    except TgqError:
        return TOLD


def turn(file: Path, at: int, bit: int) -> None:
    """Flip one bit of a file."""
    with file.open("r+b") as both:
        both.seek(at)
        [byte] = both.read(1)
        both.seek(at)
        both.write(bytes([byte ^ bit]))


def flips(folder: Path, count: int, kinds: list[str], seed: int = 0) -> Counter[tuple[str, int]]:
    """Flip bits in each kind in turn; return how often each kind was read how."""
    luck, seen = random.Random(seed), Counter[tuple[str, int]]()
    for kind in kinds:
        noted = folder / f"{kind}.expected"
        in_a_child(lambda kind=kind, noted=noted: noted.write_text(READERS[kind](folder / kind)) * 0)
    expected = {kind: (folder / f"{kind}.expected").read_text() for kind in kinds}
    for n in range(count):
        kind = kinds[n % len(kinds)]
        seen[kind, flip(folder / kind, kind, expected[kind], luck)] += 1
    return seen


def main() -> None:
    """Flip bits and print what was seen."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--flips", type=int, default=1000)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    from _shop import tiny_models

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_all(folder)
        [model] = tiny_models(folder, 1)
        model.rename(folder / "model")
        seen = flips(folder, given.flips, list(READERS), given.seed)
    for kind in READERS:
        print(f"{kind}: told {seen[kind, TOLD]}, the same answer {seen[kind, SAME]}")
    assert {status for _, status in seen} <= {SAME, TOLD}, "a flip gave other numbers, or ended the process"
    print(f"{given.flips} flips: ok")


if __name__ == "__main__":
    main()
