"""Catalogue and pairs of a recipe: drawn and simulated, or read from the files of a shop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tgqformer import config
from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.importer import import_catalog
from tgqformer.catalog.readers import BY_DAY, choose_reader
from tgqformer.catalog.readers.folder import may_be_picture
from tgqformer.catalog.readers.products import today
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.errors import named_by
from tgqformer.experiments.recipe import IMPORT_KEYS, PAIRS_KEYS, CatalogSection, PairsSection
from tgqformer.files import workplace
from tgqformer.pairs.interactions import read_interactions
from tgqformer.pairs.pairs import Pairs, PairSets, check_parts, pairs_from_related, split_pairs
from tgqformer.pairs.source import read_periods, read_source
from tgqformer.pairs.splits import PARTS, ItemSplit, stable_uniform
from tgqformer.progress import console
from tgqformer.stages import Digests
from tgqformer.synthetic.shoppers import SHOPPERS, prepare_pairs, read_truth, subset

CROSS = "pairs-cross.parquet"
"""The pairs across parts of the split, in the folder of the pairs."""
RELATED = "related.parquet"
"""The lists of related items that came with a catalogue, in its folder."""


def catalog_inputs(section: CatalogSection, digests: Digests) -> dict[str, Any]:
    """Return what decides a catalogue: its settings, its files, and the day where sale prices begin and end by it."""
    inputs: dict[str, Any] = config.plain(section)
    if section.source != "studio":
        source = Path(section.source)
        reader = choose_reader(source, section.reader)
        pictures = Path(section.pictures) if section.pictures else reader.root(source)
        inputs["content"] = [digests.of(source), digests.of(pictures, may_be_picture)]
        if reader in BY_DAY:
            inputs["day"] = today()
    return inputs


def make_catalog(section: CatalogSection, pairs: PairsSection, to: Path) -> None:
    """Draw or import a catalogue into `to`, and say what was read; unfinished work stands beside it."""
    if section.source == "studio":
        from tgqformer.synthetic.studio import draw_studio

        draw_studio(to, items=section.items or 2000, seed=section.seed)
        return
    with workplace(to) as whole, named_by(IMPORT_KEYS):
        imported = whole / "catalog" if section.items else to
        report = import_catalog(
            Path(section.source),
            imported,
            reader=section.reader,
            mapping=section.mapping or None,
            pack=section.pack,
            root=Path(section.pictures) if section.pictures else None,
            show_progress_bar=True,
        )
        console.print(report.summary())
        for warning in report.warnings:
            console.print(f"warning: {warning}", style="yellow", markup=False)
        if section.items:
            catalog = Catalog.open(imported)
            frequent = section.chosen_by == "pairs"
            kept = most_paired(catalog, pairs, section.items) if frequent else subset(catalog.ids(), section.items)
            _keep_some(catalog, set(kept), to)


def make_pairs(section: PairsSection, catalog: Catalog, to: Path) -> None:
    """Simulate the pairs of a catalogue, or read them, and write them with their split into the folder `to`."""
    ids = catalog.ids()
    if section.shoppers is not None:
        truth = catalog.path / "truth.parquet"
        known = read_truth(truth, ids) if truth.exists() else None
        prepare_pairs(catalog, SHOPPERS[section.shoppers], to, section.shares, section.seed, truth=known)
        return
    if section.by == "time":
        with named_by(PAIRS_KEYS):
            log = Path(str(section.interactions))
            sets = read_periods(log, ids, section.shares, section.log, section.mining)
    else:
        pairs = _whole(section, catalog)
        sets = split_pairs(pairs, ItemSplit.by_hash(ids, section.shares, section.seed))
        check_parts(pairs, sets)
    sets.split.save(to / "split.parquet")
    for name in PARTS:
        getattr(sets, name).write(to / f"pairs-{name}.parquet")
    sets.cross.write(to / CROSS)


def read_pairs(folder: Path, *, by_time: bool) -> PairSets:
    """Read what `make_pairs` wrote. by_time: how it was split."""
    train, val, test = (Pairs.read(folder / f"pairs-{name}.parquet") for name in PARTS)
    across = folder / CROSS  # simulated shoppers stay in one part
    cross = Pairs.read(across) if across.is_file() else Pairs.of([], [])
    return PairSets(train, val, test, ItemSplit.load(folder / "split.parquet"), cross, by_time)


def _whole(section: PairsSection, catalog: Catalog) -> Pairs:
    if section.related is not None:
        return related_pairs(catalog.path, section.related).within(catalog.ids())
    source = Path(str(section.pairs if section.pairs is not None else section.interactions))
    with named_by(PAIRS_KEYS):
        return read_source(source, ids=catalog.ids(), log=section.log, mining=section.mining)


def related_pairs(catalog: Path, kinds: tuple[str, ...]) -> Pairs:
    """Read the pairs of a catalogue's own lists of related items, of some kinds. Raise TgqError where it has none."""
    return pairs_from_related(catalog / RELATED, kinds)


def most_paired(catalog: Catalog, pairs: PairsSection, count: int) -> list[str]:
    """Return the ids of `count` items: those that most interactions, or most pairs, name; ties by a stable hash."""
    ids = pa.array(catalog.ids(), pa.string())
    if pairs.interactions is not None:
        log = read_interactions(pairs.interactions, pairs.log)
        places, often = log.item_names, np.bincount(log.items, minlength=len(log.item_names))
    else:
        known = (
            related_pairs(catalog.path, pairs.related)
            if pairs.related
            else read_source(Path(str(pairs.pairs)), log=pairs.log)
        )
        counted = pc.value_counts(pa.chunked_array([*known.table["a"].chunks, *known.table["b"].chunks]))
        places, often = counted.field("values"), counted.field("counts").to_numpy()
    found = pc.index_in(ids, value_set=places).fill_null(-1).to_numpy()
    times = np.where(found < 0, 0, np.append(often, 0)[found])
    names = ids.to_pylist()
    order = sorted(range(len(names)), key=lambda place: (-times[place], stable_uniform("subset", 0, names[place])))
    return [names[place] for place in order[:count]]


def _keep_some(catalog: Catalog, kept: set[str], to: Path) -> None:
    """Write a catalogue of some items, in the same order, with those lists of related items that stay among them."""
    with CatalogWriter(to, name=catalog.name, pack=False, root=catalog.root) as writer:
        for item in catalog.items():
            if item.id in kept:
                writer.add(item)
        if (catalog.path / RELATED).is_file():
            lists, names = pq.read_table(catalog.path / RELATED), pa.array(sorted(kept), pa.string())
            inside = pc.and_(*(pc.is_in(lists[side], value_set=names) for side in ("id", "other")))
            pq.write_table(lists.filter(inside), writer.folder / RELATED, compression="zstd")
