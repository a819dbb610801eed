"""Keeping a version fresh: embed what is new or changed in the catalogue, delete what is gone.

Every batch is acknowledged by the store before the next one is written, and what is left to do is found by comparing
the catalogue with the table. So a sync that was killed goes on when it is run again, and two at a time do no harm.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item
from tgqformer.config import Positive, settings
from tgqformer.errors import TgqError
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.hub import name_of
from tgqformer.model.prompt import Prompt
from tgqformer.model.version import check_cut
from tgqformer.objects import absolute
from tgqformer.progress import progress, track
from tgqformer.store.base import Store, StoreRow, StoreTable
from tgqformer.store.content import SEEN, content_of, row_of
from tgqformer.store.embed import EmbedOptions, embed_stream
from tgqformer.store.follow import Followed, check_follows, follow
from tgqformer.store.ledger import Dtype, Version, VersionSpec, alike
from tgqformer.store.lists import renew_ruled
from tgqformer.store.neighbours import neighbours_in
from tgqformer.store.rows import parts
from tgqformer.types import Positions

ROWS = 1000  # of one delete, or of one update of facts
SHRINK = 0.5  # share of a table that may go at once
OF_A_NEW_VERSION = ("label", "dtype", "dim", "serve", "keep")


@settings
class SyncSettings:
    """How a sync works.

    version: name of the version to keep fresh; the served one by default.
    new_version: the model may be another one; its version is built beside, and served when it is whole.
    label, dtype, dim: of a new version alone; see `VersionSpec`. `dim` keeps the first so many dimensions.
    serve, keep: likewise; whether it is served when it is whole, and how many versions stay then.
    model: where the model was loaded from.
    batch_size, workers: items embedded at once in a thread, and threads. batch_rows: rows of one write.
    allow_shrink: let more than half of the table go.
    neighbours: tables of neighbours to bring up to date as well; by default those of the run that the store lies in.
    """

    version: str | None = None
    new_version: bool = False
    label: str = ""
    dtype: Dtype = "float32"
    dim: Positive | None = None
    model: Path | None = None
    serve: bool = True
    keep: Positive = 2
    batch_size: Positive = 64
    workers: Positive | None = None
    batch_rows: Positive = 512
    allow_shrink: bool = False
    neighbours: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        known = [one for one in fields(self) if one.name in OF_A_NEW_VERSION]
        given = [one.name for one in known if getattr(self, one.name) != one.default]
        if given and not self.new_version:
            raise ValueError(f"{' and '.join(given)} can be set for a new version alone; give --new-version, too")


@dataclass(frozen=True)
class SyncPlan:
    """What differs: positions in the catalogue to embed and to update without embedding, ids to delete."""

    embed: Positions
    facts: Positions
    gone: list[str]
    same: int


@dataclass
class SyncReport:
    """What a sync did. `unreadable` items (id -> reason) were embedded by their text; the next sync tries again.

    `neighbours`: what became of each table of neighbours, or why it was left as it is.
    """

    version: Version
    embedded: int = 0
    updated: int = 0
    deleted: int = 0
    same: int = 0
    built: bool = False
    unreadable: dict[str, str] = field(default_factory=dict)
    neighbours: dict[Path, Followed | str] = field(default_factory=dict)


def sync(catalog: Catalog, store: Store, model: ItemEmbedder, how: SyncSettings, *, shown: bool = True) -> SyncReport:
    """Bring a version of the store up to date with a catalogue.

    Raises:
        TgqError: for a model of another version than the table's (unless `new_version`, or the model was trained to be
            compatible with all that the table holds: from then on it embeds what is new), or a catalogue that lacks
            more than half of the table's items (unless `allow_shrink`); for neighbours that are named and cannot
            follow the store.
    """
    if model.encoders is None:
        raise TgqError("this model has no encoders; load it with ItemEmbedder.load(path)")
    table, unfinished = _target(catalog, store, model, how)
    table = _with_model(table, store, model, how)
    for path in how.neighbours:
        check_follows(path, table.version)
    report = SyncReport(table.version, built=unfinished)
    prompt = model.encoders.prompt
    plan = plan_sync(catalog, table, prompt, shown=shown)
    _require_no_slip(plan, table, catalog, how)
    for ids in parts(plan.gone, ROWS):
        table.delete(ids)
    for places in parts(plan.facts.tolist(), ROWS):
        _update_facts(table, catalog.take_positions(places, pictures=False), prompt)
    rows = _rows(table, model, catalog, plan.embed, how, report)
    with progress("embedding", len(plan.embed), shown=shown) as bar:
        for part in parts(rows, how.batch_rows):
            table.upsert(part, model_version=model.version)
            report.embedded += len(part)
            bar.advance(len(part))
    report.updated, report.deleted, report.same = len(plan.facts), len(plan.gone), plan.same
    if unfinished:
        store.finish(table.version.name)
    elif report.embedded or report.deleted or report.updated:
        table.optimize()
    if how.new_version and how.serve:
        store.serve(table.version.name)
        store.prune(how.keep)
    report.neighbours = _follow(catalog, store, table, how.neighbours, shown=shown)
    return report


def _follow(
    catalog: Catalog, store: Store, table: StoreTable, named: tuple[Path, ...], *, shown: bool
) -> dict[Path, Followed | str]:
    """Bring neighbours and what is said of their lists up to date: those that are named, or else the run's."""
    run, found = Path(store.where).parent, dict[Path, Followed | str]()
    beside = neighbours_in(run) if (run / "recipe.yaml").is_file() and "://" not in store.where else []
    for path in named or beside:
        try:
            found[path] = follow(path, table, catalog.ids(), shown=shown)
            renew_ruled(path, catalog)
        except TgqError as error:
            if named:
                raise
            found[path] = str(error)
    return found


def plan_sync(catalog: Catalog, table: StoreTable, prompt: Prompt, *, shown: bool = False) -> SyncPlan:
    """Compare a catalogue with a table by content; ids and digests of the table are held in memory."""
    known = dict(table.contents())
    embed, facts, same = list[int](), list[int](), 0
    items = track(catalog.items(pictures=False), "comparing", len(catalog), shown=shown)
    for place, item in enumerate(items):
        content, found = content_of(item, prompt), known.pop(item.id, "")
        if content == found:
            same += 1
        elif content[:SEEN] == found[:SEEN]:
            facts.append(place)
        else:
            embed.append(place)
    return SyncPlan(np.array(embed, np.int64), np.array(facts, np.int64), list(known), same)


def _target(catalog: Catalog, store: Store, model: ItemEmbedder, how: SyncSettings) -> tuple[StoreTable, bool]:
    """Return the table to bring up to date, and whether it is one that is still being built."""
    if not how.new_version:
        return store.table(how.version), False
    if how.version is not None:
        raise TgqError("a version is either named or new; give one of --version and --new-version")
    place = name_of(how.model) if how.model is not None else None
    check_cut(model.frozen, how.dim, model.dim)
    dim = how.dim or model.dim
    spec = VersionSpec(model.version, dim, how.dtype, how.label, place, str(absolute(catalog.path)))
    if dim > model.dim:
        raise TgqError(f"the model gives {model.dim} dimensions, not {dim}")
    whole = [version for version in store.versions() if alike(version, spec)]
    return (store.table(whole[-1].name), False) if whole else (store.begin(spec), True)


def _with_model(table: StoreTable, store: Store, model: ItemEmbedder, how: SyncSettings) -> StoreTable:
    """Return the table, open for the vectors of a model: that of the table, or one compatible with all in it."""
    version = table.version
    if model.version == version.latest:
        return table
    if set(version.models) <= set(model.compatible) and model.dim >= version.dim:
        check_cut(model.frozen, version.dim, model.dim)
        store.admit(version.name, model.version, str(how.model.resolve()) if how.model is not None else None)
        return store.table(version.name)
    held = " and ".join(version.models)
    why = f"it is compatible with {' and '.join(model.compatible)}" if model.compatible else ""
    why = f"{version.latest} came after it" if model.version in version.models else why
    raise TgqError(
        f"version {version.name} of the store holds vectors of model {held}, this model is {model.version}"
        f"{f' ({why})' if why else ''}: vectors of two models must not be mixed. Use the model of the store"
        f"{f' ({version.model})' if version.model else ''}, or build a new version with --new-version"
    )


def _require_no_slip(plan: SyncPlan, table: StoreTable, catalog: Catalog, how: SyncSettings) -> None:
    rows = table.count()
    if len(plan.gone) > SHRINK * rows and not how.allow_shrink:
        raise TgqError(
            f"{catalog.path} lacks {len(plan.gone):,} of the {rows:,} items in the store, and they would be deleted;"
            " if that is meant, give --allow-shrink"
        )


def _update_facts(table: StoreTable, items: list[Item], prompt: Prompt) -> None:
    """Write what changed besides what the model sees: the vectors stay."""
    stored = table.get([item.id for item in items])
    rows = [row_of(item, row.vector, prompt) for item, row in zip(items, stored, strict=True)]
    # One that was written since the comparison has the vector of something else: the next sync sees to it.
    same = [row for row, was in zip(rows, stored, strict=True) if row.content[:SEEN] == was.content[:SEEN]]
    table.upsert(same, model_version=table.version.model_version)


def _rows(
    table: StoreTable,
    model: ItemEmbedder,
    catalog: Catalog,
    places: Positions,
    how: SyncSettings,
    report: SyncReport,
) -> Iterator[StoreRow]:
    """Stream the rows of the items at these positions, embedding them on the way."""
    assert model.encoders is not None
    items = (item for part in parts(places.tolist(), 256) for item in catalog.take_positions(part))
    size, workers, dim = how.batch_size, how.workers, table.version.dim
    stream = embed_stream(model, items, catalog.root, EmbedOptions(size, workers, dim))
    for batch in stream:
        report.unreadable |= batch.unreadable
        for item, vector in zip(batch.items, batch.vectors, strict=True):
            yield row_of(item, vector, model.encoders.prompt, blind=item.id in batch.unreadable)
