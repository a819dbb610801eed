"""Embedding a whole catalogue from its pictures and metadata, in restartable partitions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item
from tgqformer.catalog.pictures import PictureError
from tgqformer.errors import TgqError
from tgqformer.files import write_json
from tgqformer.model.embedder import ItemEmbedder, truncate
from tgqformer.progress import progress
from tgqformer.store.embeddings import Embeddings, fingerprint_of

Prepared = tuple[Item, Tensor | None]


@dataclass
class EmbedReport:
    """What an embedding job did: items embedded now, and those whose picture could not be read (id -> reason)."""

    embedded: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)


def embed_catalog(
    model: ItemEmbedder,
    catalog: Catalog,
    to: Path,
    *,
    batch_size: int = 64,
    workers: int = 2,
    truncate_dim: int | None = None,
    partition_size: int = 4096,
    shown: bool = True,
) -> EmbedReport:
    """Embed every item of a catalogue into a folder of partitions; a killed job continues where it was.

    Pictures are read and prepared by `workers` threads while the model computes; the catalogue streams, so memory does
    not grow with it. An item whose picture can no longer be read is embedded by its text and listed in
    `unreadable.json`.

    Raises:
        TgqError: if the folder holds embeddings of another model, width or catalogue.
    """
    dim = truncate_dim or model.dim
    table = Embeddings.create(
        to, dim=dim, model_version=model.version, ids_fingerprint=fingerprint_of(catalog.ids()), count=len(catalog),
        partition_size=partition_size,
    )  # fmt: skip
    missing, report = table.missing(), EmbedReport()
    left = sum(stop - start for start, stop in map(table.bounds, missing))
    with ThreadPoolExecutor(workers) as pool, progress("embedding", left, shown=shown) as bar:
        for partition in missing:
            start, stop = table.bounds(partition)
            ids: list[str] = []
            vectors: list[Tensor] = []
            prepare = _preparer(model, catalog, report)
            for batch in _batches(_ahead(pool, prepare, catalog.items(start, stop), 3 * batch_size), batch_size):
                vectors.append(truncate(embed_prepared(model, batch), truncate_dim))
                ids.extend(item.id for item, _ in batch)
                bar.advance(len(batch))
            table.write(partition, ids, torch.cat(vectors).numpy())
            report.embedded += len(ids)
    if report.unreadable:
        write_json(to / "unreadable.json", report.unreadable)
    return report


@torch.inference_mode()
def embed_prepared(model: ItemEmbedder, batch: Sequence[Prepared]) -> Tensor:
    """Embed items whose pictures are prepared: float32 [B, d] on the CPU."""
    if model.encoders is None:
        raise TgqError("this model has no encoders; load it with ItemEmbedder.load(path)")
    items, pixels = [item for item, _ in batch], [picture for _, picture in batch]
    features = model.encoders.encode(items, pixels, model.language)
    embedding: Tensor = model(features.to(model.device)).embedding
    return embedding.float().cpu()


def _preparer(model: ItemEmbedder, catalog: Catalog, report: EmbedReport) -> Callable[[Item], Prepared]:
    encoders = model.encoders
    if encoders is None:
        raise TgqError("this model has no encoders; load it with ItemEmbedder.load(path)")

    def prepare(item: Item) -> Prepared:
        try:
            return item, encoders.preprocess(item, catalog.root)
        except PictureError as error:
            report.unreadable[item.id] = str(error)
            return item, None

    return prepare


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[Item], Prepared], items: Iterator[Item], count: int
) -> Iterator[Prepared]:
    """Map in threads, in order, at most `count` items ahead of the consumer."""
    running: deque[Future[Prepared]] = deque(pool.submit(work, item) for item in islice(items, count))
    while running:
        done = running.popleft()
        running.extend(pool.submit(work, item) for item in islice(items, 1))
        yield done.result()


def _batches(prepared: Iterator[Prepared], size: int) -> Iterator[list[Prepared]]:
    while batch := list(islice(prepared, size)):
        yield batch
