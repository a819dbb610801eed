"""Small embeddings and catalogues for the tests of the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tgqformer.store.embeddings import Embeddings, Vectors, fingerprint_of

torch.set_num_threads(1)

Write = Callable[..., Embeddings]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Give a function that writes vectors [N, d] (and ids) as embeddings."""

    def written(
        vectors: Vectors, ids: list[str] | None = None, *, version: str = "v1", size: int = 64, name: str = "embeddings"
    ) -> Embeddings:
        ids = ids if ids is not None else [f"i{i}" for i in range(len(vectors))]
        shape = {"dim": vectors.shape[1], "count": len(vectors), "partition_size": size}
        made = Embeddings.create(tmp_path / name, model_version=version, ids_fingerprint=fingerprint_of(ids), **shape)
        for number in made.missing():
            start, stop = made.bounds(number)
            made.write(number, ids[start:stop], vectors[start:stop])
        return made

    return written


def clusters(count: int, dim: int, seed: int = 0, centres: int = 20) -> Vectors:
    """Draw vectors [count, dim] around a few centres."""
    luck = np.random.default_rng(seed)
    middle = luck.normal(size=(centres, dim))[luck.integers(0, centres, count)]
    return (middle + 0.7 * luck.normal(size=(count, dim))).astype(np.float32)
