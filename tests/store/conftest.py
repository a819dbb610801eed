"""Small embeddings and catalogues for the tests of the store."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest
import torch

from tgqformer.store.embeddings import Embeddings, Vectors, fingerprint_of

torch.set_num_threads(1)

Write = Callable[..., Embeddings]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Give a function that writes vectors [N, d] (and ids) as embeddings."""

    def written(
        vectors: Vectors,
        ids: list[str] | None = None,
        *,
        version: str = "v1",
        size: int = 64,
        name: str = "embeddings",
        contents: list[str] | None = None,
    ) -> Embeddings:
        ids = ids if ids is not None else [f"i{i}" for i in range(len(vectors))]
        shape = {"dim": vectors.shape[1], "count": len(vectors), "partition_size": size}
        made = Embeddings.create(tmp_path / name, model_version=version, ids_fingerprint=fingerprint_of(ids), **shape)
        for number in made.missing():
            start, stop = made.bounds(number)
            made.write(number, ids[start:stop], vectors[start:stop], contents and contents[start:stop])
        return made

    return written


Place = Callable[[], str]


@pytest.fixture(params=("lance", "postgres"))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Give a function that names a place where no store is yet, in each back end in turn."""
    return _places(request, tmp_path)


@pytest.fixture(params=("lance", "lance-uri", "postgres"))
def any_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Give the same, and places in an object store."""
    return _places(request, tmp_path)


def _places(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    numbers = count()

    def fresh() -> str:
        number = next(numbers)
        if request.param == "lance":
            return str(tmp_path / f"store-{number}")
        if request.param == "lance-uri":  # the way of an object store, over files
            return f"file-object-store://{tmp_path}/bucket-{number}"
        return f"{request.getfixturevalue('postgres_url')}&schema=s{uuid4().hex[:12]}"

    return fresh
