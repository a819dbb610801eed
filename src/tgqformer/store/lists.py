"""Lists by rules of all items at once, from the table of neighbours: how many are full, and what is left out."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tgqformer.catalog.catalog import Catalog
from tgqformer.config import parse
from tgqformer.errors import TgqError
from tgqformer.files import atomic_path, read_json, write_json
from tgqformer.store.base import FACTS, StoreRow
from tgqformer.store.content import BLIND, row_of, short_digest
from tgqformer.store.neighbours import Neighbours
from tgqformer.store.rules import LISTS, Chosen, Columns, Rules, choose
from tgqformer.types import Hashes, Ints, Vectors

ROWS = "lists.rows.parquet"  # what became of each list, and a digest of all that it depends on


@dataclass(frozen=True)
class ListSummary:
    """What rules leave of the table of neighbours: lists of `length` items, of which `full` are; `hidden` by rule.

    Full is a list that needs no search: of `length` items, chosen from as many candidates as a search would look at.
    """

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

    A list is not chosen anew where the folder knows what became of it, and all that it depends on is as it was.

    Raise TgqError for another catalogue than that of the neighbours.
    """
    if catalog.ids() != neighbours.ids():
        raise TgqError(f"{neighbours.path} was not made from {catalog.path}; run `tgq neighbours` again")
    items = [row_of(item, (), None) for item in catalog.items(pictures=False)]
    columns, keys = Columns.of(items, pictures=rules.same_picture_once), _keys(neighbours, items)
    before = {} if parquet is not None else _before(neighbours.path / ROWS, rules, length)
    kept, rows = list[dict[str, Any]](), list[dict[str, Any]]()
    everything = neighbours.manifest.width == len(neighbours) - 1
    for item_id, key in zip(neighbours.ids(), keys.tolist(), strict=True):
        if (known := before.get(item_id)) is not None and known["key"] == key:
            kept.append(known)
            continue
        chosen = list_of(neighbours, columns, item_id, length, rules)
        hidden = {name: len(places) for name, places in chosen.hidden.items()}
        full = len(chosen.places) == length and (chosen.enough or everything)
        kept.append({"id": item_id, "key": key, "full": full, "hidden": list(hidden.items())})
        if parquet is not None:
            names = [columns.ids[place] for place in chosen.places.tolist()]
            rows.append({"id": item_id, "neighbours": names, "scores": chosen.scores})
    lists = _summary(kept, length, neighbours.manifest.width)
    _write(neighbours.path / ROWS, kept, _KEPT.with_metadata({"lists": _code(rules, length)}))
    write_json(neighbours.path / LISTS, {**asdict(lists), "share": lists.share, "rules": asdict(rules)})
    if parquet is not None:
        _write(parquet, rows, _SCHEMA)
    return lists


def renew_ruled(path: Path, catalog: Catalog) -> ListSummary | None:
    """Bring what a folder says of its lists by rules up to date, by the same rules; None where it says nothing.

    Raise TgqError as `write_ruled` does.
    """
    try:
        about = read_json(path / LISTS)
    except FileNotFoundError:
        return None
    return write_ruled(Neighbours.open(path), catalog, parse(Rules, about["rules"], LISTS), about["length"])


def carry_lists(path: Path, to: Path) -> None:
    """Copy what a folder says of its lists into the one that takes its place; `renew_ruled` brings it up to date."""
    for name in (LISTS, ROWS):
        if (path / name).is_file():
            shutil.copyfile(path / name, to / name)


def _summary(kept: list[dict[str, Any]], length: int, width: int) -> ListSummary:
    hidden = Counter[str]()
    for one in kept:
        hidden.update(dict(one["hidden"]))
    return ListSummary(len(kept), length, sum(one["full"] for one in kept), width, dict(sorted(hidden.items())))


def _keys(neighbours: Neighbours, items: Sequence[StoreRow]) -> Hashes:
    """Return a digest of what each list depends on: its item, the neighbours, their scores, what is said of them."""
    own = np.empty(len(items), np.uint64)
    for at, (row, content) in enumerate(zip(items, neighbours.contents(), strict=True)):
        seen = content if content and content != BLIND else os.urandom(8).hex()  # not known: taken for changed
        facts = [getattr(row, name) for name in FACTS if name != "look"]
        own[at] = short_digest(f"{row.id}|{facts}|{seen}|{(row.look or b'').hex()}")
    weights = np.random.default_rng(0).integers(1, 2**63, (2, neighbours.manifest.width), np.uint64) | np.uint64(1)
    keys = np.empty(len(items), np.uint64)
    for start, places, scores in neighbours.partitions():
        bits = np.ascontiguousarray(scores, np.float32).view(np.uint32).astype(np.uint64)
        found = (own[places] * weights[0] + bits * weights[1]).sum(1, dtype=np.uint64)
        keys[start : start + len(places)] = found + own[start : start + len(places)] * np.uint64(3)
    return keys


def _before(file: Path, rules: Rules, length: int) -> dict[str, dict[str, Any]]:
    """Read what became of each list by these rules; nothing where that is not known."""
    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowInvalid):
        return {}
    if (table.schema.metadata or {}).get(b"lists") != _code(rules, length).encode():
        return {}
    return {row["id"]: row for row in table.to_pylist()}


def _code(rules: Rules, length: int) -> str:
    return json.dumps({"length": length, "pool": rules.pool(length), "rules": asdict(rules)}, sort_keys=True)


def _write(file: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    with atomic_path(file) as unfinished:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), unfinished)


_KEPT = pa.schema(
    {"id": pa.string(), "key": pa.uint64(), "full": pa.bool_(), "hidden": pa.map_(pa.string(), pa.int32())}
)
_SCHEMA = pa.schema({"id": pa.string(), "neighbours": pa.list_(pa.string()), "scores": pa.list_(pa.float32())})
