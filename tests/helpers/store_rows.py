"""Rows for the tests of the store, and what a search of them must find."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.encoding import make_encoders
from tgqformer.model.prompt import Prompt
from tgqformer.store.base import StoreRow
from tgqformer.store.embeddings import Vectors
from tgqformer.store.rows import unit


def clusters(number: int, dim: int, seed: int = 0) -> Vectors:
    """Give vectors around 20 middles."""
    luck = np.random.default_rng(seed)
    middle = np.random.default_rng(7).normal(size=(20, dim))[luck.integers(0, 20, number)]
    return (middle + 0.7 * luck.normal(size=(number, dim))).astype(np.float32)


def rows_of(vectors: Vectors) -> Iterator[StoreRow]:
    """Give rows whose facts follow from their number."""
    for i, vector in enumerate(vectors):
        path = (f"top{i % 3}", f"leaf{i % 7}")
        price, stock = None if i % 11 == 0 else float(i), ("in_stock", "out_of_stock", None)[i % 3]
        offer = {"item_group": f"g{i // 4}", "availability": stock, "currency": "EUR" if i % 2 else None}
        look = bytes([i % 256]) * 192
        half = price / 2 if price and i % 10 == 7 else None
        facts = (f"title {i}", f"brand{i % 5}", path, price, f"c{i}")
        yield StoreRow(f"i{i}", vector, *facts, **offer, sale_price=half, created="2024-02-29", look=look)


def truth(vectors: Vectors, query: Vectors, k: int, passing: Sequence[int] | None = None) -> list[str]:
    """Give the ids of the k nearest by brute force."""
    scores = unit(vectors) @ unit(query[None])[0]
    chosen = range(len(vectors)) if passing is None else passing
    return [f"i{i}" for i in sorted(chosen, key=lambda i: -scores[i])[:k]]


def tiny_embedder(tiny_model: Callable[[str], Path], seed: int) -> ItemEmbedder:
    """Give an embedder of 8 dimensions with random weights."""
    exact = {"precision": "float32", "device": "cpu", "levels": [1]}
    encoders = make_encoders(f"hf:{tiny_model('vit')}", f"hf:{tiny_model('bert')}", Prompt(), exact)
    torch.manual_seed(seed)
    return ItemEmbedder("mlp", {"dim": 8}, encoders.widths, None, encoders=encoders).eval()
