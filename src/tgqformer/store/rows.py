"""What all back ends do with rows: check, normalise and quantise them, and remember how many pass a filter."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import islice
from threading import Lock
from time import monotonic
from typing import TypeVar

import numpy as np

from tgqformer.errors import TgqError
from tgqformer.store.base import StoreRow
from tgqformer.store.ledger import Dtype, Version
from tgqformer.types import Floats

T = TypeVar("T")
SEPARATOR = "\x1f"  # between the levels of a category where a whole path is compared
UNIT = 1e-6  # what rounding may make of a length of 1
COUNT_FOR = 30.0  # seconds for which a count is taken as still right: it only chooses the way of searching


def checked(rows: Iterable[StoreRow], version: Version, where: str, *, model_version: str) -> list[StoreRow]:
    """Return rows as a list; raises TgqError for another model, width, an infinite vector, an id that stands twice."""
    if model_version not in version.models:
        raise TgqError(
            f"{where}: version {version.name} holds vectors of model {version.latest!r}, not {model_version!r};"
            " vectors of two models must not be mixed: build a new version beside it (`tgq sync --new-version`)"
        )
    taken, seen = list(rows), set[str]()
    for row in taken:
        check_vector(row.vector, version.dim, f"item {row.id!r}")
        if row.id in seen:
            raise TgqError(f"the id {row.id!r} stands twice among the rows to write; give every item once")
        seen.add(row.id)
    return taken


def check_vector(vector: Floats, dim: int, what: str) -> None:
    """Raise TgqError unless a vector is finite and of width `dim`."""
    if vector.shape != (dim,) or not np.isfinite(vector).all():
        raise TgqError(f"{what}: the store takes finite vectors of width {dim}; got {list(vector.shape)}")


def matrix(rows: Sequence[StoreRow], version: Version) -> Floats:
    """Return the vectors of rows as they are kept: [n, d], of unit length, or whole numbers up to 127 for int8."""
    stacked = np.array([row.vector for row in rows], np.float32).reshape(-1, version.dim)
    return quantised(unit(stacked), version.dtype)


def unit(vectors: Floats) -> Floats:
    """Scale vectors [n, d] to unit length; a zero vector stays zero, one of unit length as it is."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where((length > 0) & (np.abs(length - 1) > UNIT), length, 1), np.float32)


def quantised(vectors: Floats, dtype: Dtype) -> Floats:
    """Round vectors [n, d] to what `dtype` can say, still as float32.

    int8 is symmetric, with one scale for each vector: its greatest component becomes 127 or -127. The scale need not be
    kept: a vector of unit length is its codes divided by their length, and a cosine does not see it.
    """
    if dtype == "float32":
        return vectors
    if dtype == "float16":
        return vectors.astype(np.float16).astype(np.float32)
    greatest = np.abs(vectors).max(axis=1, keepdims=True)
    return np.rint(vectors * (127 / np.where(greatest > 0, greatest, 1))).astype(np.float32)


def parts(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut a stream into lists of `size`; the last may be shorter."""
    remaining = iter(values)
    while part := list(islice(remaining, size)):
        yield part


class Counts:
    """Remembers for a while how many rows pass each of the latest filters; safe between threads."""

    def __init__(self, size: int = 1000) -> None:
        self._size, self._lock = size, Lock()
        self._known: dict[Hashable, tuple[float, int]] = {}

    def of(self, key: Hashable, count: Callable[[], int]) -> int:
        """Return the count of `key`, by `count()` where it is not known or too old."""
        found = self._known.get(key)
        if found is not None and monotonic() - found[0] < COUNT_FOR:
            return found[1]
        number = count()
        with self._lock:
            if len(self._known) >= self._size:
                self._known.pop(next(iter(self._known)))
            self._known[key] = monotonic(), number
        return number
