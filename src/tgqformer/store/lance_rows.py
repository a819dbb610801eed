"""Rows of a store as LanceDB keeps them: columns, filters as SQL, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from lancedb.index import Bitmap, BTree, LabelList

from tgqformer.store.base import FACTS, Filter, Hit, StoreRow
from tgqformer.store.ledger import Version, VersionSpec
from tgqformer.store.rows import SEPARATOR, matrix, quantised, unit

INDEXES = (
    ("id", BTree()),
    ("brand", Bitmap()),
    ("category", LabelList()),
    ("price", BTree()),
    ("sale_price", BTree()),
    ("availability", Bitmap()),
)
FOUND = ["id", *FACTS]
# Two processes that add the same id at the same time: with a primary key Lance finds it out.
_ID = pa.field("id", pa.string(), nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"})


def sql_of(where: Filter) -> str:
    """Write a filter as the SQL that LanceDB reads; every value is a quoted literal."""
    conditions, categories = [], []
    if where.category:
        categories.append(f"array_has_any(category, [{', '.join(map(_literal, where.category))}])")
    for path in where.path:
        levels, run, mark = ", ".join(map(_literal, path)), SEPARATOR.join(["", *path, ""]), _literal(SEPARATOR)
        whole = f"concat({mark}, array_to_string(category, {mark}), {mark})"
        categories.append(f"(array_has_all(category, [{levels}]) AND strpos({whole}, {_literal(run)}) > 0)")
    if categories:
        conditions.append(f"({' OR '.join(categories)})")
    for column in ("brand", "availability", "item_group", "currency"):
        if words := getattr(where, column):
            conditions.append(f"{column} IN {any_of(words)}")
    for sign, price in ((">=", where.min_price), ("<=", where.max_price)):
        if price is not None:
            bound = f"{sign} {float(price)!r}"
            conditions.append(f"(sale_price {bound} OR (sale_price IS NULL AND price {bound}))")
    if where.in_stock:
        conditions.append("(availability IS NULL OR availability != 'out_of_stock')")
    return " AND ".join(conditions)


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def any_of(values: Iterable[str]) -> str:
    """Write words as the list of an SQL `IN`."""
    return f"({', '.join(map(_literal, values))})"


def schema_of(version: VersionSpec) -> Any:
    """Return the columns. LanceDB searches no 8-bit vectors: int8 is rounded so and rests as float16."""
    kept = pa.float32() if version.dtype == "float32" else pa.float16()
    facts = dict.fromkeys(FACTS, pa.string()) | {"category": pa.list_(pa.string()), "look": pa.binary()}
    facts |= dict.fromkeys(("price", "sale_price"), pa.float64())
    return pa.schema([_ID, ("vector", pa.list_(kept, version.dim)), *facts.items(), ("content", pa.string())])


def table_of(rows: list[StoreRow], version: Version) -> Any:
    """Return checked rows as an Arrow table of the columns of `schema_of`."""
    schema = schema_of(version)
    columns = {name: [getattr(row, name) for row in rows] for name in (*FOUND, "content")}
    flat = unit(matrix(rows, version)).astype(schema.field("vector").type.value_type.to_pandas_dtype()).reshape(-1)
    arrays = {name: pa.array(values, schema.field(name).type) for name, values in columns.items()}
    arrays["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(flat), version.dim)
    return pa.table(arrays, schema=schema)


def hits_of(found: Any) -> list[Hit]:
    """Return the answers of a search, best first, equal scores by id."""
    hits = []
    for row in found.to_pylist():
        score = min(1.0, 1 - row.pop("_distance"))
        hits.append(Hit(score=score, **row | {"category": tuple(row["category"] or ())}))
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))


def rows_of(batch: Any, version: Version) -> Iterator[StoreRow]:
    """Return the rows of an Arrow batch."""
    column = batch["vector"]
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    vectors = flat.reshape(-1, version.dim)
    vectors = vectors if version.dtype == "float32" else unit(quantised(vectors, version.dtype))
    for row, vector in zip(batch.select([*FOUND, "content"]).to_pylist(), vectors, strict=True):
        yield StoreRow(
            vector=vector, **row | {"category": tuple(row["category"] or ()), "content": row["content"] or ""}
        )
