"""Embedding a whole catalogue from its pictures and metadata, in restartable partitions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item
from tgqformer.catalog.pictures import PictureError
from tgqformer.cluster.work import Maker, fill_here
from tgqformer.encoders.frozen import Precision, dtype_name, resolve_precision
from tgqformer.errors import TgqError
from tgqformer.files import write_json
from tgqformer.model.base import evaluating, truncate
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.encoding import Encoders, unread_in
from tgqformer.model.version import check_cut
from tgqformer.objects import told
from tgqformer.parallel import ahead, batches, cores, one_thread_each
from tgqformer.progress import console
from tgqformer.stages import make_way
from tgqformer.store.content import BLIND, seen_of
from tgqformer.store.embeddings import KIND, Embeddings, fingerprint_of
from tgqformer.types import Vectors

UNREADABLE = "unreadable.json"


@dataclass(frozen=True)
class EmbedReport:
    """What an embedding job did: items embedded now, and those whose picture could not be read (id -> reason).

    `unreadable` holds those of other calls for the same folder too. missing: partitions that are left for others.
    """

    embedded: int
    unreadable: dict[str, str]
    missing: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class EmbedOptions:
    """How a catalogue is embedded.

    Args:
        batch_size: items embedded at once. workers: threads that each read, prepare and embed a batch; one per
            processor by default. truncate_dim: keep the first so many dimensions.
        precision: of the matrix products of text encoder, connector and language model; `auto` is bfloat16 where the
            processor has it. The vision encoder keeps its own.
    """

    batch_size: int = 64
    workers: int | None = None
    truncate_dim: int | None = None
    precision: Precision = "float32"


@dataclass(frozen=True)
class EmbeddedItems:
    """Items, their vectors [n, d] float32, and which pictures could not be read (id -> reason)."""

    items: list[Item]
    vectors: Vectors
    unreadable: dict[str, str] = field(default_factory=dict)


class Embedding:
    """The `Work` of embedding a catalogue into a folder of partitions."""

    title = "embedding"

    def __init__(self, model: ItemEmbedder, catalog: Catalog, table: Embeddings, options: EmbedOptions) -> None:
        self.model, self.catalog, self.table, self.options = model, catalog, table, options
        self._prompt = _encoders(model).prompt

    @classmethod
    def begin(
        cls,
        model: ItemEmbedder,
        catalog: Catalog,
        to: Path,
        options: EmbedOptions = EmbedOptions(),
        *,
        partition_size: int = 4096,
        overwrite: bool = False,
    ) -> Embedding:
        """Start a folder of embeddings, or take up what another job began; several may do so at once.

        Raises:
            TgqError: if the folder holds embeddings of another model, width or catalogue, and `overwrite` does not say
                to replace them; for a model without encoders, or one whose vectors cannot be cut.
        """
        _encoders(model)
        check_cut(model.frozen, options.truncate_dim, model.dim)
        make_way(to, KIND, resumable=True, objects=True, sources=[catalog.path, catalog.root])
        table = Embeddings.create(
            to,
            dim=options.truncate_dim or model.dim,
            model_version=model.version,
            ids_fingerprint=fingerprint_of(catalog.column("id")),
            count=len(catalog),
            partition_size=partition_size,
            catalog=catalog.fingerprint,
            precision=dtype_name(resolve_precision(options.precision, model.device)),
            cuttable=model.frozen is None,
            overwrite=overwrite,
        )
        return cls(model, catalog, table, options)

    @classmethod
    def open(cls, to: Path, model: Path, device: str, catalog: Path, options: EmbedOptions) -> Embedding:
        """Open a folder that was begun, on whatever machine.

        Raises:
            TgqError: where model or catalogue are not those that it was begun with.
        """
        own = cls(ItemEmbedder.load(model, device), Catalog.open(catalog), Embeddings.open(to), options)
        begun = own.table.manifest
        if (own.model.version, own.catalog.fingerprint) != (begun.model_version, begun.catalog):
            raise TgqError(
                f"{model} or {told(catalog)} here are not what {told(to)} was begun with: all machines need the same"
            )
        if own.precision != begun.precision:
            raise TgqError(
                f"{told(to)} was begun with precision {begun.precision}, and `auto` is {own.precision} here; name it"
            )
        return own

    @property
    def precision(self) -> str:
        """What the precision comes to on this machine."""
        return dtype_name(resolve_precision(self.options.precision, self.model.device))

    @property
    def path(self) -> Path:
        """The folder."""
        return self.table.path

    def missing(self) -> list[int]:
        """List the partitions that are not yet written."""
        return self.table.missing()

    def rows(self, partition: int) -> int:
        """Return how many items a partition has."""
        start, stop = self.table.bounds(partition)
        return stop - start

    def fill(self, partitions: Sequence[int]) -> Iterator[int]:
        """Embed partitions that nobody has written meanwhile; yield numbers of items as they are done."""
        for partition in partitions:
            if self.table.has(partition):
                yield self.rows(partition)
                continue
            ids, contents, vectors, unreadable = list[str](), list[str](), list[Vectors](), dict[str, str]()
            items = self.catalog.items(*self.table.bounds(partition))
            for batch in embed_stream(self.model, items, self.catalog.root, self.options):
                blind = batch.unreadable
                ids += [item.id for item in batch.items]
                contents += [BLIND if item.id in blind else seen_of(item, self._prompt) for item in batch.items]
                vectors.append(batch.vectors)
                unreadable |= blind
                yield len(batch.items)
            self.table.write(partition, ids, np.concatenate(vectors), contents, unreadable)

    def warnings(self) -> list[str]:
        """Say which titles the model cannot read."""
        return unread_in(self.catalog, _encoders(self.model), self.model.language)

    def finish(self) -> dict[str, str]:
        """List unreadable pictures in `unreadable.json`; let the folder take its place. Return them.

        Raises:
            TgqError: unless every partition is written.
        """
        self.table.require_complete()
        place = self.table.place
        before = json.loads(place.read(UNREADABLE) or b"{}")  # an earlier version wrote them there alone
        found: dict[str, str] = before | self.table.unreadable()
        if found != before:
            write_json(place.here / UNREADABLE, found)
            place.keep(UNREADABLE)
        self.table.finish()
        return found


def embed_catalog(
    model: ItemEmbedder,
    catalog: Catalog,
    to: Path,
    *,
    make: Maker | None = None,
    partition_size: int = 4096,
    shown: bool = True,
    overwrite: bool = False,
    **options: Any,
) -> EmbedReport:
    """Embed every item of a catalogue into a folder of partitions; a killed job continues where it was.

    A finished job embeds nothing. `overwrite` replaces embeddings of another model, width, precision or catalogue,
    which stay until the new ones are whole. The catalogue streams, so memory does not grow with it. An item whose
    picture can no longer be read is embedded by its text and listed in `unreadable.json`.

    make: makes what is missing, or a shard of it (this process, by default); who makes the last partition finishes the
        folder. options: see `EmbedOptions`.

    Raises:
        TgqError: if the folder holds embeddings of another model, width or catalogue; for a model without encoders.
    """
    how = EmbedOptions(**options)
    work = Embedding.begin(model, catalog, to, how, partition_size=partition_size, overwrite=overwrite)
    if shown and not work.missing():
        console.print(f"{told(to)} is finished already, by this model and of this catalogue: nothing to do")
    elif shown:
        for warning in work.warnings():
            console.print(f"warning: {warning}", style="yellow", markup=False)
    embedded = make(work) if make else fill_here(work, shown=shown)
    missing = work.missing()
    return EmbedReport(embedded, work.table.unreadable() if missing else work.finish(), missing)


def embed_stream(
    model: ItemEmbedder,
    items: Iterable[Item],
    root: Path | None,
    options: EmbedOptions = EmbedOptions(),
) -> Iterator[EmbeddedItems]:
    """Embed a stream of items in its order, a batch in each of the threads."""
    count = options.workers or cores()

    def work(batch: list[Item]) -> EmbeddedItems:
        unreadable: dict[str, str] = {}
        pixels = [_prepare(model, item, root, unreadable) for item in batch]
        vectors = embed_prepared(model, batch, pixels, options.precision)
        return EmbeddedItems(batch, truncate(vectors, options.truncate_dim).numpy(), unreadable)

    with evaluating(model), one_thread_each(), ThreadPoolExecutor(count) as pool:
        yield from ahead(pool, work, batches(items, options.batch_size), count)


@torch.inference_mode()
def embed_prepared(
    model: ItemEmbedder,
    items: Sequence[Item],
    pixels: Sequence[Tensor | None],
    precision: Precision = "float32",
) -> Tensor:
    """Embed items whose pictures are prepared: float32 [B, d] on the CPU; precision: see `EmbedOptions`."""
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
