"""Small embeddings and catalogues for the tests of the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
