"""Answers from the table of precomputed neighbours, without what was changed or deleted since it was made."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

import numpy as np

from tgqformer.errors import TgqError
from tgqformer.files import atomic_path
from tgqformer.service.ruled import RuledLists, Whole
from tgqformer.store.base import StoreTable
from tgqformer.store.content import SEEN, short_digest
from tgqformer.store.neighbours import Neighbours
from tgqformer.store.rules import PLAIN, Chosen, Rules
from tgqformer.types import Hashes

log = logging.getLogger("tgqformer.service")
GONE, UNKNOWN = 0, 1  # in place of a short digest, see `content.short_digest`
Written = tuple[str, str | None]


class Precomputed:
    """Precomputed neighbours of one version, kept honest: an item that is not as it was is not answered from them.

    A row that is not made from what the neighbours were made from, or that is gone, is `stale`: it is left out of
    answers, and as a query it is searched live. Where neighbours do not say what they were made from (those of
    an earlier version of this package), it is what their rows are at the first look, which is written to `folder`; a
    row that does not say it counts as unchanged. About 100 bytes of memory an item.
    """

    def __init__(
        self,
        neighbours: Neighbours,
        table: StoreTable,
        folder: Path,
        rules: Rules = PLAIN,
    ) -> None:
        self.neighbours, self._table = neighbours, table
        self._position = {item_id: position for position, item_id in enumerate(neighbours.ids())}
        self._lock = threading.Lock()
        self._meanwhile: list[Written] | None = None  # own writes while `refresh` reads
        self._revision, self._own = table.revision(), set[int]()
        table.changes(self._revision)  # none; what it takes to know that is loaded here, not in the first look
        now = self._contents()
        self._baseline = np.fromiter(map(short_digest, neighbours.contents()), np.uint64, len(neighbours))
        if (unknown := self._baseline == UNKNOWN).any():
            first = _remembered(folder / f"baseline-{_key(neighbours, table)}.npy", now)
            self._baseline[unknown] = first[unknown]
        self.ruled = RuledLists(neighbours, table, rules)
        self._set_stale(frozenset(self._differing(now)))

    def of(self, item_id: str, k: int, rules: Rules = PLAIN) -> list[tuple[str, float]] | None:
        """Return the `k` nearest as (id, cosine), best first; None where the table cannot answer: search live."""
        if k > self.neighbours.manifest.width or item_id in self.stale or item_id not in self._position:
            return None
        if not self.ruled.idle(rules):
            if (found := self.ruled.found(item_id, k, rules)) is None:
                if (chosen := self.chosen(item_id, k, rules)) is None:
                    return None
                found = chosen.places, chosen.scores
            ids = self.neighbours.ids()
            return [(ids[p], s) for p, s in zip(found[0].tolist(), found[1].tolist(), strict=True)]
        stale = self.stale
        try:
            near = self.neighbours.of(item_id, None if stale else k)
        except TgqError:  # its files were removed or replaced this moment; the next look at them takes that in
            return None
        near = [hit for hit in near if hit[0] not in stale] if stale else near
        return near[:k] if len(near) >= k else None

    def chosen(self, item_id: str, k: int, rules: Rules) -> Chosen | None:
        """Return the list by the rules, and what they left out; None where it must be searched."""
        if item_id in self.stale or item_id not in self._position:
            return None
        return self.ruled.of(item_id, k, rules, self._stale_at)

    def fill(self, seconds: float, whole: Whole | None = None) -> None:
        """Work out lists by the default rules for about so long; from the thread that calls `refresh`. Blocking.

        whole: gives the list of an item of all items, for those of whose neighbours too few pass the rules.
        """
        self.ruled.fill(lambda: self._stale_at, seconds, whole)

    def _set_stale(self, stale: frozenset[str]) -> None:
        at = np.zeros(len(self._position), bool)
        at[[self._position[item_id] for item_id in stale]] = True
        self.stale, self._stale_at = stale, at

    def wrote(self, contents: Iterable[Written], revision: int) -> None:
        """Take in own writes, (id, content; None for deleted), that left the table at `revision`."""
        written = list(contents)
        self.ruled.wrote(item_id for item_id, _ in written)
        with self._lock:
            if self._meanwhile is not None:
                self._meanwhile += written
            self._set_stale(self._with(self.stale, written))
            self._own.add(revision)

    def refresh(self) -> bool:
        """Look whether others wrote to the table, and take it in; return whether they did. Blocking.

        Only what was changed is compared, where the table still knows that; else all is. Compacting and indexing change
        no rows, so nothing is compared after them.
        """
        revision = self._table.revision()
        if revision <= self._revision or not self._changed_by_others(revision):
            self.ruled.refresh(everything=False)
            return False
        with self._lock:
            self._meanwhile = []
        touched = self._table.touched(self._revision)
        everything = touched is None
        if touched is None:
            anew, written = frozenset(self._differing(self._contents())), list[Written]()
        else:
            now = dict(self._table.contents(sorted(touched)))
            anew, written = frozenset(), [(item_id, now.get(item_id)) for item_id in touched]
            self.ruled.wrote(touched)
        with self._lock:
            stale = self._with(anew if everything else self.stale, written)
            self._set_stale(self._with(stale, self._meanwhile))
            self._revision, self._meanwhile = max(revision, self._revision), None
        self.ruled.refresh(everything=everything)
        return True

    def _changed_by_others(self, revision: int) -> bool:
        changes = set(self._table.changes(self._revision))
        with self._lock:
            others = not changes <= self._own
            if not others:
                self._revision = revision
            self._own = {own for own in self._own if own > self._revision}
            return others

    def _with(self, stale: frozenset[str], written: Iterable[Written]) -> frozenset[str]:
        """Which items are stale after these writes: set anew, because answers read it meanwhile."""
        changed = {item_id: self._changed(item_id, content) for item_id, content in written}
        left = {item_id for item_id, stays in changed.items() if stays is False}
        return (stale - left) | {item_id for item_id, stays in changed.items() if stays}

    def _changed(self, item_id: str, content: str | None) -> bool | None:
        at = self._position.get(item_id)
        if at is None:
            return None
        return content is None or short_digest(content[:SEEN]) not in (UNKNOWN, int(self._baseline[at]))

    def _contents(self) -> Hashes:
        """Short digests of what the table holds, in the order of the neighbours; GONE where an item is gone."""
        digests = np.full(len(self._position), GONE, np.uint64)
        position = self._position
        for item_id, content in self._table.contents():
            if (at := position.get(item_id)) is not None:
                digests[at] = short_digest(content[:SEEN])
        return digests

    def _differing(self, now: Hashes) -> set[str]:
        places = np.flatnonzero(((now != self._baseline) & (now != UNKNOWN)) | (now == GONE))
        ids = self.neighbours.ids()
        return {ids[place] for place in places.tolist()}


def find_neighbours(paths: Iterable[Path], model_version: str) -> Neighbours | None:
    """Open the first table of neighbours that was made by this model version; None where there is none."""
    for path in paths:
        try:
            found = Neighbours.open(path)
        except TgqError as error:  # being made this moment, perhaps: it is looked at again when it changes
            log.warning("not used: %s", error)
            continue
        if found.manifest.model_version == model_version:
            return found
    return None


def stamp(path: Path) -> str:
    """Return a mark that changes when a file or a folder is replaced, or a file is put into the folder; "" for none."""
    try:
        seen = path.stat()
    except OSError:
        return ""
    return f"{seen.st_mtime_ns:x}-{seen.st_ino:x}"


def _key(neighbours: Neighbours, table: StoreTable) -> str:
    parts = (
        table.version.name,
        table.version.created,
        neighbours.manifest.ids_fingerprint,
        stamp(neighbours.path / "manifest.json"),
    )
    return blake2b("|".join(parts).encode(), digest_size=8).hexdigest()


def _remembered(file: Path, now: Hashes) -> Hashes:
    """Read the digests written at the first look, or write them now."""
    if file.exists():
        kept: Hashes = np.load(file, allow_pickle=False)
        if kept.shape == now.shape:
            return kept
    with atomic_path(file) as unfinished, unfinished.open("wb") as sink:
        np.save(sink, now, allow_pickle=False)
    return now
