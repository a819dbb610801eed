"""The default store: a LanceDB table on a local disk or an object store, embedded, durable and versioned.

A store is a folder: `store.json` names the table that is served, `tables/` is the LanceDB database. A new table is
written beside the old one and becomes the served one when `store.json` is replaced, which is atomic.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

os.environ.setdefault("LANCEDB_LOG", "error")  # read at import; else every new table is announced as a warning

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import Bitmap, BTree, HnswSq, LabelList

from tgqformer.errors import TgqError
from tgqformer.files import read_json, write_json
from tgqformer.store.base import Filter, Hit, Row, Stats, Vector, unknown_item

T = TypeVar("T")
BACKEND = "lance"
INDEX_FROM = 10_000  # rows; below, an exact search takes a few milliseconds and needs no index
EXACT_BELOW = 10_000  # rows that pass a filter; below, the index would lose some of them and save nothing
WRITE_ROWS = 32_768  # a write adds a file and a version, so few large ones
EF, REFINE = 200, 2  # candidates of HNSW at least, and how many times k of them are scored again in float32
_FIELDS = ["id", "title", "brand", "category", "price"]


@dataclass(frozen=True)
class About:
    """What `store.json` says: the table that is served, what it was made from."""

    table: str
    dim: int
    model_version: str
    catalog: str | None = None


class LanceStore:
    """A store on LanceDB; see `base.Store` for what the methods do. Made by `create` or `open`."""

    def __init__(self, path: Path, about: About) -> None:
        self.path, self.dim, self.model_version = path, about.dim, about.model_version
        self.catalog = Path(about.catalog) if about.catalog is not None else None
        self._table = lancedb.connect(str(path / "tables")).open_table(about.table)

    @classmethod
    def create(
        cls, path: Path, rows: Iterable[Row], *, dim: int, model_version: str, catalog: Path | None = None
    ) -> LanceStore:
        """Write `rows` as a new table, index it, and let it take the place of the one served from `path`, if any.

        A job that is killed leaves the served table as it was.

        Raises: TgqError where `path` is a folder of something else, or a row is wrong.
        """
        if not (path / "store.json").exists() and path.exists() and any(f.name != "tables" for f in path.iterdir()):
            raise TgqError(f"{path} exists and is no store; choose another folder or remove it")
        database, name = lancedb.connect(str(path / "tables")), f"items_{uuid4().hex}"
        about = About(name, dim, model_version, str(catalog.resolve()) if catalog is not None else None)
        with ExitStack() as undo:
            table = database.create_table(name, schema=_schema(dim))
            undo.callback(database.drop_table, name)
            for part in _parts(rows, WRITE_ROWS):
                table.add(_batch(part, dim, model_version, table.schema))
            store = cls(path, about)
            store.optimize()
            write_json(path / "store.json", {"backend": BACKEND, **asdict(about)})
            undo.pop_all()
        for old in set(database.list_tables().tables) - {name}:
            database.drop_table(old)
        return store

    @classmethod
    def open(cls, path: Path) -> LanceStore:
        """Open the table that is served from `path`; raises TgqError where there is none."""
        content = dict(read_json(path / "store.json"))
        content.pop("backend")
        try:
            return cls(path, About(**content))
        except (ValueError, TypeError) as error:
            raise TgqError(f"{path} is a damaged store ({error}); make it anew with `tgq index`") from error

    def __len__(self) -> int:
        return int(self._table.count_rows())

    def upsert(self, rows: Iterable[Row], *, model_version: str) -> None:
        """Add rows or replace those with the same id, in one transaction."""
        if model_version != self.model_version:
            raise TgqError(
                f"{self.path} holds vectors of model {self.model_version!r}, not {model_version!r}; vectors of two"
                " models must not be mixed: build a new store with `tgq index`"
            )
        batch = _batch(list(rows), self.dim, model_version, self._table.schema)
        if len(set(batch["id"].to_pylist())) != batch.num_rows:
            raise TgqError("an id stands twice among the rows to write; give every item once")
        merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        merge.execute(pa.Table.from_batches([batch]))

    def delete(self, ids: Sequence[str]) -> None:
        """Remove rows by id."""
        for part in _parts(ids, 1000):
            self._table.delete(f"id IN {_in(part)}")

    def search(self, vector: Vector, k: int, where: Filter | None = None, *, exact: bool = False) -> list[Hit]:
        """Find the `k` nearest rows; a filter that few rows pass is answered exactly, whatever `exact` says."""
        condition = sql_of(where) if where else None
        query = self._table.search(_unit(np.asarray(vector, np.float32)[None])[0]).distance_type("dot").limit(k)
        if condition is not None:
            query = query.where(condition, prefilter=True)
            exact = exact or self._table.count_rows(condition) < EXACT_BELOW
        query = query.bypass_vector_index() if exact else query.ef(max(EF, 4 * k)).refine_factor(REFINE)
        found = query.select([*_FIELDS, "_distance"]).to_arrow().to_pylist()
        hits = [Hit(score=1 - row.pop("_distance"), **_plain(row)) for row in found]
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))

    def get(self, ids: Sequence[str]) -> list[Row]:
        """Give rows by id, in the order asked."""
        found: dict[str, Row] = {}
        for part in _parts(dict.fromkeys(ids), 1000):
            rows = self._table.search().where(f"id IN {_in(part)}").select([*_FIELDS, "vector"]).to_arrow()
            found |= {row["id"]: _row(row) for row in rows.to_pylist()}
        for item_id in ids:
            if item_id not in found:
                known = self._table.search().select(["id"]).limit(200_000).to_arrow()["id"].to_pylist()
                raise unknown_item(item_id, known, self.path)
        return [found[item_id] for item_id in ids]

    def optimize(self) -> None:
        """Compact the files and bring the indexes up to date; build them once there are rows enough."""
        there = {index.columns[0] for index in self._table.list_indices()}
        if "vector" in there or len(self) < INDEX_FROM:
            self._table.optimize()
            return
        for column, config in (("id", BTree()), ("brand", Bitmap()), ("category", LabelList()), ("price", BTree())):
            self._table.create_index(column, config=config)
        self._table.create_index("vector", config=HnswSq(distance_type="dot"))

    def stats(self) -> Stats:
        """Say what the store holds."""
        indexes = [index for index in self._table.list_indices() if index.columns == ["vector"]]
        indexed = self._table.index_stats(indexes[0].name).num_indexed_rows if indexes else 0
        return Stats(BACKEND, len(self), self.dim, self.model_version, int(indexed))


def sql_of(where: Filter) -> str:
    """Write a filter as the SQL that LanceDB reads; every value is a quoted literal."""
    parts = []
    if where.category:
        parts.append(f"array_has_any(category, [{', '.join(map(_literal, where.category))}])")
    if where.brand:
        parts.append(f"brand IN {_in(where.brand)}")
    if where.min_price is not None:
        parts.append(f"price >= {float(where.min_price)!r}")
    if where.max_price is not None:
        parts.append(f"price <= {float(where.max_price)!r}")
    return " AND ".join(parts)


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _in(values: Iterable[str]) -> str:
    return f"({', '.join(map(_literal, values))})"


def _schema(dim: int) -> Any:
    return pa.schema({
        "id": pa.string(), "vector": pa.list_(pa.float32(), dim), "title": pa.string(), "brand": pa.string(),
        "category": pa.list_(pa.string()), "price": pa.float64(), "model_version": pa.string(),
    })  # fmt: skip


def _batch(rows: list[Row], dim: int, model_version: str, schema: Any) -> Any:
    """Turn rows into an Arrow batch with unit vectors; raises TgqError for a vector that is wrong."""
    for row in rows:
        if row.vector.shape != (dim,) or not np.isfinite(row.vector).all():
            raise TgqError(f"item {row.id!r}: the store takes finite vectors of width {dim}; got {row.vector.shape}")
    vectors = _unit(np.array([row.vector for row in rows], np.float32).reshape(-1, dim))
    columns = {name: [getattr(row, name) for row in rows] for name in _FIELDS}
    columns |= {"vector": list(vectors), "model_version": [model_version] * len(rows)}
    return pa.RecordBatch.from_pydict(columns, schema=schema)


def _unit(vectors: Vector) -> Vector:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(length > 0, length, 1)).astype(np.float32)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _FIELDS} | {"category": tuple(row["category"] or ())}


def _row(row: dict[str, Any]) -> Row:
    return Row(vector=np.array(row["vector"], np.float32), **_plain(row))


def _parts(values: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(values)
    while part := list(islice(remaining, size)):
        yield part
