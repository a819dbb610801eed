"""Embedding a whole catalogue from its pictures and metadata, in restartable partitions."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item
from tgqformer.catalog.pictures import PictureError
from tgqformer.errors import TgqError
from tgqformer.files import read_json, write_json
from tgqformer.model.embedder import ItemEmbedder, truncate
from tgqformer.parallel import ahead, batches, cores, one_thread_each
from tgqformer.progress import progress
from tgqformer.store.embeddings import Embeddings, fingerprint_of


@dataclass
class EmbedReport:
    """What an embedding job did: items embedded now, and those whose picture could not be read (id -> reason).

    `unreadable` holds those of earlier, killed calls for the same folder too.
    """

    embedded: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)


def embed_catalog(
    model: ItemEmbedder,
    catalog: Catalog,
    to: Path,
    *,
    batch_size: int = 64,
    workers: int | None = None,
    truncate_dim: int | None = None,
    partition_size: int = 4096,
    shown: bool = True,
) -> EmbedReport:
    """Embed every item of a catalogue into a folder of partitions; a killed job continues where it was.

    Each of `workers` threads (one per processor by default) reads, prepares and embeds a batch at a time; the catalogue
    streams, so memory does not grow with it. An item whose picture can no longer be read is embedded by its text and
    listed in `unreadable.json`.

    Raises:
        TgqError: if the folder holds embeddings of another model, width or catalogue.
    """
    table = Embeddings.create(
        to, dim=truncate_dim or model.dim, model_version=model.version,
        ids_fingerprint=fingerprint_of(catalog.ids()), count=len(catalog), partition_size=partition_size,
    )  # fmt: skip
    missing, count, listed = table.missing(), workers or cores(), to / "unreadable.json"
    report = EmbedReport(unreadable=read_json(listed) if listed.exists() else {})
    left = sum(stop - start for start, stop in map(table.bounds, missing))

    def work(items: list[Item]) -> tuple[list[str], Tensor]:
        vectors = embed_prepared(model, items, [_prepare(model, item, catalog.root, report) for item in items])
        return [item.id for item in items], truncate(vectors, truncate_dim)

    with one_thread_each(), ThreadPoolExecutor(count) as pool, progress("embedding", left, shown=shown) as bar:
        for partition in missing:
            ids: list[str] = []
            vectors: list[Tensor] = []
            for names, embedded in ahead(
                pool, work, batches(catalog.items(*table.bounds(partition)), batch_size), count
            ):
                ids.extend(names)
                vectors.append(embedded)
                bar.advance(len(names))
            if report.unreadable:
                write_json(listed, report.unreadable)  # before the partition: a kill between the two forgets none
            table.write(partition, ids, torch.cat(vectors).numpy())
            report.embedded += len(ids)
    return report


@torch.inference_mode()
def embed_prepared(model: ItemEmbedder, items: Sequence[Item], pixels: Sequence[Tensor | None]) -> Tensor:
    """Embed items whose pictures are prepared: float32 [B, d] on the CPU."""
    if model.encoders is None:
        raise TgqError("this model has no encoders; load it with ItemEmbedder.load(path)")
    features = model.encoders.encode(items, pixels, model.language)
    embedding: Tensor = model(features.to(model.device)).embedding
    return embedding.float().cpu()


def _prepare(model: ItemEmbedder, item: Item, root: Path | None, report: EmbedReport) -> Tensor | None:
    try:
        return model.encoders.preprocess(item, root) if model.encoders else None
    except PictureError as error:
        report.unreadable[item.id] = str(error)
        return None
