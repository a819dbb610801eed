"""Where ids stand among very many: looked up, not searched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tgqformer.types import Positions


class IdPlaces:
    """The place of each id of a column of different ids. 16 bytes an id; a look-up costs the same in any number."""

    def __init__(self, ids: pa.Array | pa.ChunkedArray) -> None:
        self._ids = ids
        chunks = ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids]
        hashes = [np.fromiter(map(hash, chunk.to_pylist()), np.int64, len(chunk)) for chunk in chunks]
        whole = np.concatenate(hashes) if hashes else np.zeros(0, np.int64)
        self._order = np.argsort(whole, kind="stable")
        self._hashes = whole[self._order]

    def of(self, ids: Sequence[str]) -> Positions:
        """Return the place of each id [len(ids)], int64; -1 where it is not there."""
        wanted = np.fromiter(map(hash, ids), np.int64, len(ids))
        at = np.searchsorted(self._hashes, wanted)
        found, left = np.full(len(ids), -1, np.int64), np.arange(len(ids))
        while len(left):  # one round, unless ids share a hash
            left = left[at[left] < len(self._hashes)]
            left = left[self._hashes[at[left]] == wanted[left]]
            places = self._order[at[left]]
            asked = pa.array([ids[one] for one in left], pa.string())
            same = pc.equal(self._ids.take(pa.array(places)), asked).to_numpy(zero_copy_only=False).astype(bool)
            found[left[same]] = places[same]
            left = left[~same]
            at[left] += 1
        return found
