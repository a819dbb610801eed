"""Embedding a whole catalogue from its pictures and metadata, in restartable partitions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item
from tgqformer.catalog.pictures import PictureError
from tgqformer.encoders.frozen import Precision, dtype_name, resolve_precision
from tgqformer.errors import TgqError
from tgqformer.files import read_json, write_json
from tgqformer.model.base import truncate
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.encoding import Encoders, unread_titles
from tgqformer.parallel import ahead, batches, cores, one_thread_each
from tgqformer.progress import console, progress
from tgqformer.stages import make_way
from tgqformer.store.content import BLIND, seen_of
from tgqformer.store.embeddings import KIND, Embeddings, fingerprint_of
from tgqformer.types import Vectors


@dataclass
class EmbedReport:
    """What an embedding job did: items embedded now, and those whose picture could not be read (id -> reason).

    `unreadable` holds those of earlier, killed calls for the same folder too.
    """

    embedded: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EmbeddedItems:
    """Items, their vectors [n, d] float32, and which pictures could not be read (id -> reason)."""

    items: list[Item]
    vectors: Vectors
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
    precision: Precision = "float32",
    shown: bool = True,
    overwrite: bool = False,
) -> EmbedReport:
    """Embed every item of a catalogue into a folder of partitions; a killed job continues where it was.

    precision: of the matrix products of text encoder, connector and language model; `auto` is bfloat16 where the
    processor has it. The vision encoder keeps its own.

    A finished job embeds nothing. `overwrite` replaces embeddings of another model, width, precision or catalogue,
    which stay until the new ones are whole.

    Each of `workers` threads (one per processor by default) reads, prepares and embeds a batch at a time; the catalogue
    streams, so memory does not grow with it. An item whose picture can no longer be read is embedded by its text and
    listed in `unreadable.json`.

    Raises:
        TgqError: if the folder holds embeddings of another model, width or catalogue; for a model without encoders.
    """
    encoders = _encoders(model)
    make_way(to, KIND, resumable=True, sources=[catalog.path, catalog.root])
    table = Embeddings.create(
        to,
        dim=truncate_dim or model.dim,
        model_version=model.version,
        ids_fingerprint=fingerprint_of(catalog.ids()),
        count=len(catalog),
        partition_size=partition_size,
        catalog=catalog.fingerprint,
        precision=dtype_name(resolve_precision(precision, model.device)),
        overwrite=overwrite,
    )
    missing, listed, prompt = table.missing(), table.path / "unreadable.json", encoders.prompt
    report = EmbedReport(unreadable=read_json(listed) if listed.exists() else {})
    if shown and not missing:
        console.print(f"{to} is finished already, by this model and of this catalogue: nothing to do")
    if shown and missing:
        for warning in unread_titles(catalog.table(["title"])["title"].to_pylist(), encoders, model.language):
            console.print(f"warning: {warning}", style="yellow", markup=False)
    left = sum(stop - start for start, stop in map(table.bounds, missing))

    with progress("embedding", left, shown=shown) as bar:
        for partition in missing:
            ids, contents, vectors = list[str](), list[str](), list[Vectors]()
            items = catalog.items(*table.bounds(partition))
            for batch in embed_stream(
                model,
                items,
                catalog.root,
                batch_size=batch_size,
                workers=workers,
                truncate_dim=truncate_dim,
                precision=precision,
            ):
                ids += [item.id for item in batch.items]
                contents += [BLIND if item.id in batch.unreadable else seen_of(item, prompt) for item in batch.items]
                vectors.append(batch.vectors)
                report.unreadable |= batch.unreadable
                bar.advance(len(batch.items))
            if report.unreadable:
                write_json(listed, report.unreadable)  # before the partition: a kill between the two forgets none
            table.write(partition, ids, np.concatenate(vectors), contents)
            report.embedded += len(ids)
    table.finish()
    return report


def embed_stream(
    model: ItemEmbedder,
    items: Iterable[Item],
    root: Path | None,
    *,
    batch_size: int = 64,
    workers: int | None = None,
    truncate_dim: int | None = None,
    precision: Precision = "float32",
) -> Iterator[EmbeddedItems]:
    """Embed a stream of items in its order, a batch in each of `workers` threads (one per processor by default)."""
    count = workers or cores()

    def work(batch: list[Item]) -> EmbeddedItems:
        unreadable: dict[str, str] = {}
        pixels = [_prepare(model, item, root, unreadable) for item in batch]
        vectors = embed_prepared(model, batch, pixels, precision)
        return EmbeddedItems(batch, truncate(vectors, truncate_dim).numpy(), unreadable)

    with one_thread_each(), ThreadPoolExecutor(count) as pool:
        yield from ahead(pool, work, batches(items, batch_size), count)


@torch.inference_mode()
def embed_prepared(
    model: ItemEmbedder,
    items: Sequence[Item],
    pixels: Sequence[Tensor | None],
    precision: Precision = "float32",
) -> Tensor:
    """Embed items whose pictures are prepared: float32 [B, d] on the CPU; precision: see `embed_catalog`."""
    half = resolve_precision(precision, model.device) is torch.bfloat16
    with torch.autocast(model.device.type, torch.bfloat16, enabled=half):
        features = _encoders(model).encode(items, pixels, model.language, shared=half)
        embedding: Tensor = model(features.to(model.device)).embedding
    return embedding.float().cpu()


def _encoders(model: ItemEmbedder) -> Encoders:
    if model.encoders is None:
        raise TgqError("this model has no encoders; load it with ItemEmbedder.load(path)")
    return model.encoders


def _prepare(model: ItemEmbedder, item: Item, root: Path | None, unreadable: dict[str, str]) -> Tensor | None:
    try:
        return model.encoders.preprocess(item, root) if model.encoders else None
    except PictureError as error:
        unreadable[item.id] = str(error)
        return None
