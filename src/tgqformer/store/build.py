"""From embeddings and a catalogue to a store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tgqformer.catalog.catalog import Catalog
from tgqformer.errors import TgqError
from tgqformer.progress import progress
from tgqformer.store.base import Row, Store
from tgqformer.store.embeddings import Embeddings


def build_store(embeddings: Embeddings, catalog: Catalog, to: Path, *, show_progress_bar: bool = True) -> Store:
    """Write every item with its vector to the store at `to` and index it; what was served there before is replaced.

    The old table is served until the new one is whole; partitions stream, so memory does not grow with the catalogue.

    Raises: TgqError where the embeddings are not complete or were made from another catalogue.
    """
    from tgqformer.store.lance import LanceStore

    embeddings.require_complete()
    if len(catalog) != len(embeddings):
        raise _other_catalog(embeddings, catalog)
    with progress("index", len(embeddings), shown=show_progress_bar) as bar:

        def rows() -> Iterator[Row]:
            for row in rows_of(embeddings, catalog):
                yield row
                bar.advance()
            bar.note("building the index")

        version = embeddings.model_version
        return LanceStore.create(to, rows(), dim=embeddings.dim, model_version=version, catalog=catalog.path)


def rows_of(embeddings: Embeddings, catalog: Catalog) -> Iterator[Row]:
    """Stream the items of a catalogue with their vectors; raises TgqError where the two do not belong together."""
    for part in embeddings:
        items = catalog.items(part.start, part.start + len(part.ids), pictures=False)
        for item_id, vector, item in zip(part.ids, part.vectors, items, strict=True):
            if item_id != item.id:
                raise _other_catalog(embeddings, catalog)
            yield Row(item.id, vector, item.title, item.brand, item.category, item.price)


def _other_catalog(embeddings: Embeddings, catalog: Catalog) -> TgqError:
    return TgqError(
        f"{embeddings.path} ({len(embeddings)} vectors) was not made from {catalog.path} ({len(catalog)} items), or the"
        " catalogue has changed since; run `tgq embed` again"
    )
