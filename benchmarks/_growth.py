"""Made-up shops of any size, and an encoder that costs nothing: what `growth.py` measures the real code on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.model.prompt import Prompt
from tgqformer.pairs.interactions import Interactions
from tgqformer.store.embeddings import Embeddings, fingerprint_of
from tgqformer.types import Int32s, Ints, Vectors

DIM = 32
"""Width of the vectors; `growth.py --dim` sets it."""
COLOURS = ("red", "blue", "green")


@dataclass(frozen=True)
class Step:
    """What is measured: `ready` writes what it needs to a folder, `run` is what is timed."""

    ready: Callable[[int, Path], None]
    run: Callable[[int, Path], object]
    sizes: tuple[int, ...]


class StubEncoder(torch.nn.Module):
    """An item embedder whose vectors are drawn: all else of embedding and of a sync is the real code."""

    version, compatible, language, frozen, device = "stub", (), None, None, torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.dim = DIM
        self.encoders = SimpleNamespace(
            prompt=Prompt(),
            text=SimpleNamespace(name="stub"),
            preprocess=lambda item, root: None,
            encode=lambda items, pixels, language, shared: torch.randn(len(items), DIM),
        )

    def forward(self, features: torch.Tensor) -> SimpleNamespace:
        """Return what was drawn as embeddings."""
        return SimpleNamespace(embedding=features)


def items(count: int, changed: int = 0) -> Iterator[Item]:
    """Stream items of text; the first `changed` have another title."""
    luck = np.random.default_rng(0)
    colours, prices = luck.integers(0, 3, count), luck.integers(100, 9000, count) / 100
    for number in range(count):
        title = f"A {COLOURS[colours[number]]} shirt no {number}{' of linen' if number < changed else ''}"
        yield Item(f"item-{number:08d}", title, "Acme", ("Clothing", "Shirts"), {}, float(prices[number]))


def catalog(count: int, folder: Path, changed: int = 0) -> Catalog:
    """Write a catalogue of such items."""
    with CatalogWriter(folder, name="shop", pack=False, check_ids=False, overwrite=True) as writer:
        for item in items(count, changed):
            writer.add(item)
    return Catalog.open(folder)


def vectors(count: int) -> Iterator[Vectors]:
    """Stream vectors [n, DIM] in clusters of some 200, as trained ones lie."""
    luck = np.random.default_rng(0)
    centres = luck.standard_normal((max(8, count // 200), DIM), dtype=np.float32)
    for start in range(0, count, 4096):
        size = min(4096, count - start)
        near = centres[luck.integers(0, len(centres), size)] + 0.5 * luck.standard_normal((size, DIM), dtype=np.float32)
        yield near / np.linalg.norm(near, axis=1, keepdims=True)


def embeddings(count: int, folder: Path, ids: Sequence[str]) -> Embeddings:
    """Write such vectors as embeddings of these items."""
    shape = {"dim": DIM, "count": count}
    found = Embeddings.create(folder, model_version="stub", ids_fingerprint=fingerprint_of(ids), **shape)  # type: ignore[arg-type]
    for number, part in enumerate(vectors(count)):
        found.write(number, ids[slice(*found.bounds(number))], part)
    return found


def clicks(count: int, per: int = 100) -> Interactions:
    """Make up clicks of customers who come back, `per` each, in the course of a year; an item has 20 on average."""
    luck = np.random.default_rng(0)
    sessions = (np.arange(count) // per).astype(np.int32)
    chosen = (luck.pareto(1.1, count) * count / 200).astype(np.int64).astype(np.int32) % (count // 20)
    times = 1_700_000_000 + luck.integers(0, 365 * 86_400, count)
    return log_of(sessions, chosen, times)


def log_of(sessions: Int32s, items: Int32s, times: Ints) -> Interactions:
    """Make interactions of codes; the names are numbers."""
    names = [pa.array(np.arange(int(codes.max()) + 1)).cast(pa.string()) for codes in (sessions, items)]
    return Interactions(sessions, items, *names, times)


def resident() -> float:
    """Return the megabytes of memory that this process has, without what is mapped from files."""
    size = [int(word) for word in Path("/proc/self/statm").read_text().split()]
    return (size[1] - size[2]) * os.sysconf("SC_PAGESIZE") / (1 << 20)


def stub() -> Any:
    """Return the stub as what it stands for."""
    return StubEncoder()
