"""Flip single bits in what we write: a reader says that it is damaged, or gives the same answer, and never crashes.

    python benchmarks/faults_bits.py --flips 1000

Each flip is in a random bit of a random file, of embeddings, neighbours, a catalogue with packed pictures, or a saved
model. It is read in a process of its own, and compared with what was read before; then the bit is put back.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np

from tgqformer.catalog.catalog import Catalog, CatalogWriter
from tgqformer.catalog.item import Item, Picture
from tgqformer.errors import TgqError
from tgqformer.model.embedder import ItemEmbedder, version_of
from tgqformer.store.embeddings import Embeddings, fingerprint_of
from tgqformer.store.neighbours import Neighbours, build_neighbours

SAME, TOLD, OTHER = 0, 3, 4


def write_all(folder: Path, items: int = 300, dim: int = 16) -> None:
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
    "embeddings": read_embeddings, "neighbours": read_neighbours, "catalog": read_catalog, "model": read_model
}  # fmt: skip


def digest(*what: object) -> str:
    """Return a digest of what was read."""
    return sha256(repr(what).encode()).hexdigest()


def flip(path: Path, kind: str, expected: str, luck: random.Random) -> int:
    """Flip a bit below a folder and read it in a child; put the bit back; return the child's status."""
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.stat().st_size)
    file = (
        luck.choices(files, [file.stat().st_size for file in files])[0] if luck.random() < 0.5 else luck.choice(files)
    )
    at, bit = luck.randrange(file.stat().st_size), 1 << luck.randrange(8)
    turn(file, at, bit)
    try:
        child = os.fork()
        if child == 0:
            try:
                os._exit(status_of(path, kind, expected))
            finally:  # any other error than ours is a fault
                os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        turn(file, at, bit)
    if status not in (SAME, TOLD):
        print(f"{kind}: {file.relative_to(path)}, byte {at}, bit {bit}: {status}", flush=True)
    return status


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
    expected = {kind: READERS[kind](folder / kind) for kind in kinds}
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
