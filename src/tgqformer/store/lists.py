"""Lists by rules of all items at once, from the table of neighbours: how many are full, and what is left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tgqformer.catalog.catalog import Catalog
from tgqformer.errors import TgqError
from tgqformer.files import atomic_path, write_json
from tgqformer.store.content import row_of
from tgqformer.store.neighbours import Neighbours
from tgqformer.store.rules import LISTS, Chosen, Columns, Rules, choose
from tgqformer.types import Ints, Vectors


@dataclass(frozen=True)
class ListSummary:
    """What rules leave of the table of neighbours: lists of `length` items, of which `full` are; `hidden` by rule."""

    items: int
    length: int
    full: int
    kept: int
    hidden: dict[str, int]

    @property
    def share(self) -> float:
        """The share of lists that are full; the others are filled up by a live search."""
        return self.full / max(self.items, 1)

    def told(self) -> str:
        """Say it in a sentence."""
        seen = max(self.items * self.kept, 1)
        hidden = [f"{100 * count / seen:.1f} % of the neighbours by {name}" for name, count in self.hidden.items()]
        words = f"; left out: {', '.join(hidden)}" if hidden else ""
        return f"{100 * self.share:.1f} % of the items have a full list of {self.length} by the rules{words}"


def columns_of(catalog: Catalog, rules: Rules) -> Columns:
    """Return the columns of a catalogue, in its order."""
    rows = (row_of(item, (), None) for item in catalog.items(pictures=False))
    return Columns.of(rows, pictures=rules.same_picture_once)


def list_of(neighbours: Neighbours, columns: Columns, item_id: str, k: int, rules: Rules) -> Chosen:
    """Return the list of an item by the rules, from its neighbours that are kept; places are positions."""
    at, places, scores = neighbours.row(item_id)
    return choose(columns, at, places, scores, k, rules, vectors_of(neighbours))


def vectors_of(neighbours: Neighbours) -> Any:
    """Return what gives the vectors of some positions; None where they were not kept."""
    kept = neighbours.vectors
    if kept is None:
        return None

    def vectors(places: Ints) -> Vectors:
        return np.asarray(kept[places], np.float32)

    return vectors


def write_ruled(
    neighbours: Neighbours, catalog: Catalog, rules: Rules, length: int, parquet: Path | None = None
) -> ListSummary:
    """Work out the lists of all items; write what they are like into the folder, and the lists as one Parquet file.

    Raise TgqError for another catalogue than that of the neighbours.
    """
    if catalog.ids() != neighbours.ids():
        raise TgqError(f"{neighbours.path} was not made from {catalog.path}; run `tgq neighbours` again")
    columns, hidden, full = columns_of(catalog, rules), Counter[str](), 0
    rows = list[dict[str, Any]]()
    for item_id in neighbours.ids():
        chosen = list_of(neighbours, columns, item_id, length, rules)
        full += len(chosen.places) == length
        hidden.update({name: len(places) for name, places in chosen.hidden.items()})
        if parquet is not None:
            names = [columns.ids[place] for place in chosen.places.tolist()]
            rows.append({"id": item_id, "neighbours": names, "scores": chosen.scores})
    lists = ListSummary(len(neighbours), length, full, neighbours.manifest.width, dict(hidden))
    write_json(neighbours.path / LISTS, {**asdict(lists), "share": lists.share, "rules": asdict(rules)})
    if parquet is not None:
        with atomic_path(parquet) as unfinished:
            pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), unfinished)
    return lists


_SCHEMA = pa.schema({"id": pa.string(), "neighbours": pa.list_(pa.string()), "scores": pa.list_(pa.float32())})
