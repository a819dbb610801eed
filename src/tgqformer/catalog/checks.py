"""What is checked of every item: ids, texts, prices; each finding is a `Problem`."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np


class SeenIds:
    """A set of ids that holds 16 bytes an id: recent ones in a set, older ones in sorted arrays of digests."""

    def __init__(self, recent: int = 1 << 18) -> None:
        self._limit = recent
        self._recent: set[bytes] = set()
        self._sorted: list[np.ndarray[Any, Any]] = []

    def add(self, name: str) -> bool:
        """Remember an id; False where it was seen before."""
        digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if digest in self._recent or any(_holds(run, digest) for run in self._sorted):
            return False
        self._recent.add(digest)
        if len(self._recent) >= self._limit:
            self._merge()
        return True

    def _merge(self) -> None:
        run = np.frombuffer(b"".join(sorted(self._recent)), dtype=_DIGEST)
        self._recent = set()
        while self._sorted and len(self._sorted[-1]) <= 2 * len(run):
            run = np.concatenate([self._sorted.pop(), run])
            run.sort(order=("high", "low"))
        self._sorted.append(run)


_DIGEST = np.dtype([("high", ">u8"), ("low", ">u8")])


def _holds(run: np.ndarray[Any, Any], digest: bytes) -> bool:
    one = np.frombuffer(digest, dtype=_DIGEST)[0]
    high = run["high"]
    first, last = np.searchsorted(high, one["high"], "left"), np.searchsorted(high, one["high"], "right")
    return bool((run["low"][first:last] == one["low"]).any())
