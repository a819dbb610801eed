"""One version being served: its table, its precomputed neighbours, its model. Every answer comes wholly from one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL.Image import Image

from tgqformer.catalog.item import Item
from tgqformer.model.prompt import Prompt
from tgqformer.service.batching import Batcher, Pool
from tgqformer.service.errors import ApiError, unknown_item
from tgqformer.service.models import Model
from tgqformer.service.precomputed import Precomputed
from tgqformer.service.settings import ServiceSettings
from tgqformer.store.base import Filter, Hit, StoreRow, StoreTable, UnknownItem
from tgqformer.store.facets import KnownValues
from tgqformer.store.ledger import Version
from tgqformer.store.live import LiveTable
from tgqformer.store.rows import unit
from tgqformer.store.rules import LENGTH, PLAIN, Rules, listed
from tgqformer.types import Floats

Prepared = tuple[Item, Any]  # and the model's input of its picture, or None


@dataclass(frozen=True)
class Answer:
    """Similar items, where they come from, and what the rules did, in words (of a search only)."""

    model_version: str
    source: Literal["precomputed", "live"]
    hits: list[Hit]
    rules: str = ""


class Served:
    """A snapshot of one version. Nothing in it changes to another version, whatever is served meanwhile.

    `users` requests hold it now (see `Site.lease`); its batcher lives until the last has left.
    """

    def __init__(
        self,
        table: StoreTable,
        embedder: Model | None,
        neighbours: Precomputed | None,
        *,
        pool: Pool,
        settings: ServiceSettings,
        rules: Rules = PLAIN,
        seen: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.table, self.embedder, self.neighbours, self._pool = table, embedder, neighbours, pool
        self.version, self.rules = table.version, rules
        self.model_version, self.label = table.version.model_version, table.version.label
        self.truncate_dim = table.version.dim
        self.users = 0
        self.behind = 0  # items that were put over HTTP and wait for a model
        self.index: LiveTable | None = None  # until it is made, and where it is not, the store is searched
        self._values = KnownValues(table)
        self.batcher: Batcher[Prepared, Floats] = Batcher(
            lambda jobs: list(self._embed_prepared(jobs)),
            size=settings.batch,
            wait=settings.batch_wait,
            queue=settings.batch_queue,
            workers=settings.batch_workers,
            name="embedding",
            seen=seen,
        )

    @property
    def key(self) -> str:
        """Return what `key_of` names this version."""
        return key_of(self.version)

    def about(self) -> dict[str, str | bool]:
        """Return what a person wants to know of what is served."""
        names = {"version": self.version.name, "model_version": self.model_version, "label": self.label}
        return {**names, "model": self.embedder is not None, "precomputed": self.neighbours is not None}

    @property
    def model(self) -> Model:
        """The model; raises ApiError 501 where the service has none."""
        if self.embedder is None:
            raise ApiError(501, "this service has no model, so it cannot embed", "start it with --model FOLDER")
        return self.embedder

    @property
    def prompt(self) -> Prompt | None:
        """What the model reads of an item's metadata; None where there is no model."""
        return None if self.embedder is None else self.embedder.prompt

    def has(self, item_id: str) -> bool:
        """Return whether the table has an item; blocking."""
        return any(True for _ in self.table.contents([item_id]))

    def similar(self, item_id: str, k: int, where: Filter | None = None, rules: Rules | None = None) -> Answer:
        """Find the items most similar to one of the table; blocking unless it is precomputed.

        Raises: ApiError 404 for an unknown id.
        """
        return self.precomputed(item_id, k, where, rules) or self.live(item_id, k, where, rules)

    def precomputed(
        self, item_id: str, k: int, where: Filter | None = None, rules: Rules | None = None
    ) -> Answer | None:
        """Look the answer up; None where it must be searched. Never blocks."""
        rules = self.rules if rules is None else rules
        found = None if where or self.neighbours is None else self.neighbours.of(item_id, k, rules)
        return None if found is None else Answer(self.model_version, "precomputed", [Hit(*hit) for hit in found])

    def live(
        self,
        item_id: str,
        k: int,
        where: Filter | None = None,
        rules: Rules | None = None,
        *,
        facts: bool = True,
    ) -> Answer:
        """Search the answer; blocking. Without `facts` hits may have an id and a score alone.

        Raises: ApiError 404 for an unknown id. UnknownValue for a filter by what no item has.
        """
        rules = self.rules if rules is None else rules
        if self.index is not None:
            found = self.index.similar(item_id, k, where, rules)
            if found is not None and (hits := self._told(found[0], facts)) is not None:
                return Answer(self.model_version, "live", hits, found[1].told())
        if not self.has(item_id):
            raise unknown_item(item_id)
        where = where and self._values.meant(where)
        try:
            [row] = self.table.get([item_id])
            hits, chosen = listed(self.table, row, k, where, rules)
            return Answer(self.model_version, "live", hits, chosen.told())
        except UnknownItem as error:  # deleted between the two
            raise unknown_item(item_id) from error

    def search(
        self,
        query: StoreRow,
        k: int,
        where: Filter | None = None,
        rules: Rules | None = None,
        *,
        facts: bool = True,
    ) -> tuple[list[Hit], str]:
        """Find the items nearest to a row that is not in the table, and say what the rules did; blocking.

        Without `facts` hits may have an id and a score alone.

        Raises: UnknownValue for a filter by what no item has.
        """
        rules = self.rules if rules is None else rules
        if self.index is not None:
            found = self.index.listed(query, k, where, rules)
            if found is not None and (hits := self._told(found[0], facts)) is not None:
                return hits, found[1].told()
        hits, chosen = listed(self.table, query, k, where and self._values.meant(where), rules)
        return hits, chosen.told()

    def completed(self, item_id: str) -> list[tuple[str, float]] | None:
        """Return the list of an item by the served rules, of all items; None where there is no index in memory."""
        found = None if self.index is None else self.index.similar(item_id, LENGTH, None, self.rules)
        return None if found is None else [(hit.id, hit.score) for hit in found[0]]

    def _told(self, hits: list[Hit], facts: bool) -> list[Hit] | None:
        """Add what the rows say to hits; None where one is gone this moment."""
        if not facts or not hits:
            return hits
        rows = {row.id: row for row in self.table.facts([hit.id for hit in hits])}
        if any(hit.id not in rows for hit in hits):
            return None
        return [replace(rows[hit.id], score=hit.score) for hit in hits]

    async def embed(self, item: Item, picture: Callable[[], Image] | None) -> Floats:
        """Embed one item [d], together with others that come at the same moment.

        `picture` decodes the item's picture. It is called in a thread of `pool`, which makes the model's input of it at
        once, so that no more pictures lie decoded in memory than that has threads, and no search waits for them.
        """
        pixels = None
        if picture is not None:
            pixels = await self._pool.run(lambda: self.model.prepared(picture()))
        return await self.batcher.submit((item, pixels))

    def embed_now(self, items: Sequence[Item], pictures: Iterable[Image | None]) -> Floats:
        """Embed items [n, d] in this thread; blocking."""
        pixels = [None if picture is None else self.model.prepared(picture) for picture in pictures]
        return self._embed_prepared(list(zip(items, pixels, strict=True)))

    def _embed_prepared(self, prepared: list[Prepared]) -> Floats:
        items, pixels = [item for item, _ in prepared], [one for _, one in prepared]
        vectors = self.model.embed_prepared(items, pixels).astype(np.float32, copy=False)
        return unit(vectors[:, : self.truncate_dim]) if self.truncate_dim < vectors.shape[1] else vectors


def key_of(version: Version) -> str:
    """Return a name that a version has for ever, even where a store is made anew in the same place."""
    return f"{version.name}@{version.created}"
