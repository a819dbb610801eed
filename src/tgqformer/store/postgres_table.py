"""One version of a store in PostgreSQL: how vectors are kept, written and searched in SQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import numpy as np
from pgvector import HalfVector
from pgvector import Vector as FullVector
from psycopg import errors
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from tgqformer.store.base import FACTS, Filter, Hit, StoreRow, TableStats, UnknownItem, VersionGone
from tgqformer.store.ledger import Version
from tgqformer.store.rows import SEPARATOR, Counts, check_vector, checked, matrix, parts, unit
from tgqformer.types import Floats

INDEX_FROM = 10_000  # rows; below, an exact search takes some milliseconds and needs no index
EXACT_BELOW = 20_000  # rows that pass a filter; below, the index would lose some of them
WRITE_ROWS = 8192  # rows of one transaction of a bulk load
MOST_WRITES = 1000  # whose ids are kept
EF, EF_MOST = 200, 1000  # candidates of HNSW at least, and at most (pgvector's own limit)
SPARE = 4  # candidates that pass the filter, for each row that is asked for
M, EF_CONSTRUCTION = 16, 100  # links of a node of HNSW, and candidates when it is built
_FACTS = SQL(", ".join(("id", *FACTS)))
_TYPES = dict.fromkeys(FACTS, "text") | {
    "category": "text[]",
    "look": "bytea",
    "price": "float8",
    "sale_price": "float8",
}
COLUMNS = ", ".join(f"{name} {kind}" for name, kind in _TYPES.items())


class Database(Protocol):
    """What a table needs of its database."""

    where: str
    schema: str
    keeps_writes: bool

    def cursor(self, name: str = "") -> AbstractContextManager[Any]:
        """Yield a cursor in a transaction."""
        ...

    def alone(self) -> AbstractContextManager[Any]:
        """Yield a connection outside of any transaction."""
        ...

    def place(self, table: str) -> Identifier:
        """Return the full name of a table."""
        ...


class Form:
    """How the vectors of a version are kept and compared, in SQL.

    pgvector has no 8-bit type: int8 rests as an array of the one-byte type "char", and is read as halfvec to compare.
    """

    def __init__(self, version: Version) -> None:
        width, dtype = Literal(version.dim), version.dtype
        plain = SQL("vector({})" if dtype == "float32" else "halfvec({})").format(width)
        self.taken = plain
        self.kept: Composable = SQL('"char"[]') if dtype == "int8" else plain
        self.write: Composable = SQL('vector::real[]::int4[]::"char"[]' if dtype == "int8" else "vector")
        self.read: Composable = SQL("vector::int4[]::vector" if dtype == "int8" else "vector")
        self.compared: Composable = (
            SQL("(vector::int4[]::halfvec({}))").format(width) if dtype == "int8" else SQL("vector")
        )
        # The codes of an int8 vector have no common length, so that only the cosine compares them rightly.
        self.operator = SQL("<=>" if dtype == "int8" else "<#>")
        kind = "vector" if dtype == "float32" else "halfvec"
        self.index = Identifier(f"{kind}_cosine_ops" if dtype == "int8" else f"{kind}_ip_ops")
        self.taken_name = kind
        self._dtype = dtype

    def value(self, vector: Floats) -> FullVector | HalfVector:
        """Turn a vector into what PostgreSQL takes."""
        return FullVector(vector) if self._dtype == "float32" else HalfVector(vector.astype(np.float16))

    def score(self, distance: float) -> float:
        """Turn a distance into a cosine; a vector without length is like nothing."""
        if distance != distance:
            return 0.0
        return min(1.0, 1 - distance if self._dtype == "int8" else -distance)


_INCOMING = SQL(
    "CREATE TEMP TABLE IF NOT EXISTS {} (id text, vector {}, " + COLUMNS + ", content text) ON COMMIT DELETE ROWS"
)
_NAMES = ("vector", *FACTS, "content")
_UPSERT = SQL(
    f"INSERT INTO {{}} (id, {', '.join(_NAMES)}) SELECT id, {{}}, {', '.join(_NAMES[1:])} FROM {{}} ON CONFLICT (id) DO"
    f" UPDATE SET ({', '.join(_NAMES)}) = ({', '.join(f'EXCLUDED.{name}' for name in _NAMES)})"
)


class PostgresTable:
    """A version in a table of its own; see `base.StoreTable` for what the methods do."""

    def __init__(self, backend: Database, version: Version) -> None:
        self.version, self.where, self._backend = version, backend.where, backend
        self._table, self._form, self._counts = backend.place(version.name), Form(version), Counts()

    def __len__(self) -> int:
        return self.count()

    def add(self, rows: Iterable[StoreRow]) -> None:
        """Append rows that are not there."""
        for part in parts(rows, WRITE_ROWS):
            self._write(checked(part, self.version, self.where, model_version=self.version.model_version), named=False)

    def upsert(self, rows: Iterable[StoreRow], *, model_version: str) -> int:
        """Add rows or replace those with the same id, in one transaction."""
        taken = checked(rows, self.version, self.where, model_version=model_version)
        return self._write(taken) if taken else self.revision()

    def delete(self, ids: Sequence[str]) -> int:
        """Remove rows by id, in one transaction."""
        if not ids:
            return self.revision()
        with self._cursor() as cursor:
            revision = self._count_up(cursor, _sayable(ids))
            cursor.execute(SQL("DELETE FROM {} WHERE id = ANY(%s)").format(self._table), [_sayable(ids)])
        return revision

    def search(self, vector: Floats, k: int, where: Filter | None = None, *, exact: bool = False) -> list[Hit]:
        """Find the `k` nearest rows; a filter that few rows pass is answered exactly, whatever `exact` says."""
        check_vector(vector, self.version.dim, "the vector to search")
        candidates, limit = max(EF, 4 * k), k
        if where and not exact:
            passing = self._counts.of(where, lambda: self.count(where))
            exact = passing < EXACT_BELOW
            share = passing / max(1, self._counts.of(None, self.count))
            candidates, limit = max(candidates, int(SPARE * k / max(share, 1e-9))), 2 * k
        condition, values = condition_of(where or Filter())
        asked = self._form.value(unit(np.asarray(vector, np.float32)[None])[0])
        distance = SQL("{} {} %b").format(self._form.compared, self._form.operator)
        query = SQL("SELECT {}, {} FROM {} WHERE {} ORDER BY {} LIMIT %s").format(
            _FACTS, distance, self._table, condition, SQL("({}) + 0").format(distance) if exact else distance
        )  # "+ 0" keeps PostgreSQL from using the index
        with self._cursor() as cursor:
            cursor.execute("SELECT set_config('hnsw.ef_search', %s, true)", [str(min(EF_MOST, candidates))])
            found = cursor.execute(query, [asked, *values, asked, limit]).fetchall()
        hits = [Hit(row[0], self._form.score(row[-1]), **_facts(row[1:-1])) for row in found]
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))[:k]

    def get(self, ids: Sequence[str]) -> list[StoreRow]:
        """Return rows by id, in the order asked."""
        found = {row.id: row for row in self.rows(ids)}
        for item_id in ids:
            if item_id not in found:
                raise UnknownItem(f"{self.where} has no item {item_id!r}; check the id")
        return [found[item_id] for item_id in ids]

    def count(self, where: Filter | None = None) -> int:
        """Count the rows that pass."""
        condition, values = condition_of(where or Filter())
        with self._cursor() as cursor:
            query = SQL("SELECT count(*) FROM {} WHERE {}").format(self._table, condition)
            return int(cursor.execute(query, values).fetchone()[0])

    def values(self) -> tuple[set[tuple[str, ...]], set[str]]:
        """Ask for the category paths and the brands."""
        with self._cursor() as cursor:
            paths = cursor.execute(SQL("SELECT DISTINCT category FROM {}").format(self._table)).fetchall()
            brands = cursor.execute(SQL("SELECT DISTINCT brand FROM {}").format(self._table)).fetchall()
        return {tuple(path) for (path,) in paths if path}, {brand for (brand,) in brands if brand}

    def facts(self, ids: Sequence[str] | None = None) -> Iterator[Hit]:
        """Stream what rows say."""
        for name, *facts in self._stream(SQL("SELECT {} FROM {}").format(_FACTS, self._table), ids):
            yield Hit(name, 0.0, **_facts(facts))

    def rows(self, ids: Sequence[str] | None = None) -> Iterator[StoreRow]:
        """Stream whole rows."""
        query = SQL("SELECT {}, content, {} FROM {}").format(_FACTS, self._form.read, self._table)
        for name, *facts, content, kept in self._stream(query, ids):
            yield StoreRow(name, self._vector(kept), content=content, **_facts(facts))

    def contents(self, ids: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
        """Stream ids and contents."""
        yield from self._stream(SQL("SELECT id, content FROM {}").format(self._table), ids)

    def _stream(self, query: Composed, ids: Sequence[str] | None) -> Iterator[Any]:
        """Yield the rows of a query, or those with some ids."""
        if ids is not None:
            with self._cursor() as cursor:
                yield from cursor.execute(query + SQL(" WHERE id = ANY(%s)"), [_sayable(ids)]).fetchall()
            return
        with self._cursor("contents") as cursor:
            cursor.itersize = WRITE_ROWS
            yield from cursor.execute(query)

    def revision(self) -> int:
        """Return the number of writes so far."""
        query = SQL("SELECT revision FROM {} WHERE name = %s").format(self._backend.place("revisions"))
        with self._cursor() as cursor:
            return int(self._counted(cursor.execute(query, [self.version.name]).fetchone()))

    def changes(self, since: int) -> list[int]:
        """Return the numbers of the writes after this one."""
        return list(range(since + 1, self.revision() + 1))

    def touched(self, since: int) -> set[str] | None:
        """Ask for the rows of the writes after this one; of those long ago they are not kept."""
        now = self.revision()
        if not self._backend.keeps_writes or now - since > MOST_WRITES:
            return None
        query = SQL("SELECT revision, ids FROM {} WHERE name = %s AND revision > %s").format(
            self._backend.place("writes")
        )
        with self._cursor() as cursor:
            written = dict(cursor.execute(query, [self.version.name, since]).fetchall())
        if any(written.get(number) is None for number in range(since + 1, now + 1)):
            return None
        return {item_id for ids in written.values() for item_id in ids}

    def optimize(self) -> None:
        """Build the index once there are rows enough, without locking anybody out; PostgreSQL keeps it up to date."""
        rows, name = len(self), f"{self.version.name}_vector"
        with self._backend.alone() as connection:
            if rows >= INDEX_FROM and not self._indexed(connection):
                connection.execute(  # one that a killed job left half done
                    SQL("DROP INDEX IF EXISTS {}").format(self._backend.place(name))
                )
                need = rows * (self.version.dim * 4 + 600) // 1_000_000
                connection.execute(
                    SQL("SET maintenance_work_mem = {}").format(Literal(f"{max(64, min(need, 4000))}MB"))
                )
                self._build(connection, name)
            connection.execute(SQL("ANALYZE {}").format(self._table))

    def stats(self) -> TableStats:
        """Say what the table holds."""
        rows = len(self)
        with self._cursor() as cursor:
            size = "SELECT pg_total_relation_size(%s::regclass)"
            [(taken,)] = cursor.execute(size, [f'"{self._backend.schema}"."{self.version.name}"']).fetchall()
            indexed = rows if self._indexed(cursor) else 0
        return TableStats(self.version, rows, indexed, bytes=int(taken))

    def _write(self, rows: list[StoreRow], *, named: bool = True) -> int:
        """Copy rows to a table of this session, and from there to where they belong: at once, or not at all."""
        form, incoming = self._form, Identifier(f"incoming_{self.version.dtype}_{self.version.dim}")
        with self._cursor() as cursor:
            cursor.execute(_INCOMING.format(incoming, form.taken))
            revision = self._count_up(cursor, [row.id for row in rows] if named else None)
            with cursor.copy(SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(incoming)) as copy:
                copy.set_types(["text", form.taken_name, *_TYPES.values(), "text"])
                for row, vector in zip(rows, matrix(rows, self.version), strict=True):
                    facts = [getattr(row, name) for name in FACTS]
                    facts[FACTS.index("category")] = list(row.category)
                    copy.write_row((row.id, form.value(vector), *facts, row.content))
            cursor.execute(_UPSERT.format(self._table, form.write, incoming))
        return revision

    def _build(self, connection: Any, name: str) -> None:
        index = SQL("CREATE INDEX CONCURRENTLY {} ON {} USING hnsw ({} {}) WITH (m = {}, ef_construction = {})").format(
            Identifier(name), self._table, self._form.compared, self._form.index, Literal(M), Literal(EF_CONSTRUCTION)
        )
        try:
            connection.execute(index)
        except errors.DiskFull:  # the shared memory of several workers, in a container that has little of it
            connection.execute(SQL("DROP INDEX IF EXISTS {}").format(self._backend.place(name)))
            connection.execute("SET max_parallel_maintenance_workers = 0")
            connection.execute(index)

    def _indexed(self, cursor: Any) -> bool:
        query = (
            "SELECT true FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
            " JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s AND c.relname = %s AND indisvalid"
        )
        return cursor.execute(query, [self._backend.schema, f"{self.version.name}_vector"]).fetchone() is not None

    def _count_up(self, cursor: Any, ids: list[str] | None) -> int:
        """Count a write, and keep its ids for a while; whoever writes next waits here, so they are seen in order."""
        query = SQL("UPDATE {} SET revision = revision + 1 WHERE name = %s RETURNING revision").format(
            self._backend.place("revisions")
        )
        revision, name = int(self._counted(cursor.execute(query, [self.version.name]).fetchone())), self.version.name
        if self._backend.keeps_writes:
            writes = self._backend.place("writes")
            cursor.execute(SQL("INSERT INTO {} VALUES (%s, %s, %s)").format(writes), [name, revision, ids])
            old = SQL("DELETE FROM {} WHERE name = %s AND revision <= %s").format(writes)
            cursor.execute(old, [name, revision - MOST_WRITES])
        return revision

    def _counted(self, row: Any) -> Any:
        if row is None:
            raise VersionGone(f"{self.where}: version {self.version.name} was dropped; open the store again")
        return row[0]

    def _vector(self, value: FullVector | HalfVector) -> Floats:
        vector = np.asarray(value.to_numpy(), np.float32)
        return vector if self.version.dtype == "float32" else unit(vector[None])[0]

    @contextmanager
    def _cursor(self, name: str = "") -> Iterator[Any]:
        try:
            with self._backend.cursor(name) as cursor:
                yield cursor
        except errors.UndefinedTable as error:
            raise VersionGone(f"{self.where}: version {self.version.name} was dropped; open the store again") from error


def condition_of(where: Filter) -> tuple[Composed, list[Any]]:
    """Write a filter as SQL and the values of its parameters."""
    conditions: list[Composable] = [SQL("true")]
    values: list[Any] = []
    categories = [SQL("category && %s")] if where.category else []
    values += [_sayable(where.category)] if where.category else []
    for path in where.path:
        categories.append(SQL("(category @> %s AND strpos(%s || array_to_string(category, %s) || %s, %s) > 0)"))
        values += [_sayable(path), SEPARATOR, SEPARATOR, SEPARATOR, SEPARATOR.join(["", *_sayable(path), ""])]
    if categories:
        conditions.append(SQL("({})").format(SQL(" OR ").join(categories)))
    for given, condition, value in (
        *((words, f"{name} = ANY(%s)", _sayable(words)) for name, words in _equal(where).items()),
        (where.min_price is not None, "coalesce(sale_price, price) >= %s", where.min_price),
        (where.max_price is not None, "coalesce(sale_price, price) <= %s", where.max_price),
    ):
        if given:
            conditions.append(SQL(condition))
            values.append(float(value) if isinstance(value, int | float) else value)
    if where.in_stock:
        conditions.append(SQL("availability IS DISTINCT FROM 'out_of_stock'"))
    return SQL(" AND ").join(conditions), values


def _equal(where: Filter) -> dict[str, tuple[str, ...]]:
    return {name: getattr(where, name) for name in ("brand", "availability", "item_group", "currency")}


def _facts(values: Sequence[Any]) -> dict[str, Any]:
    """Return the facts of a row as fields of a `StoreRow` or a `Hit`."""
    facts = dict(zip(FACTS, values, strict=True))
    return facts | {"category": tuple(facts["category"] or ())}


def _sayable(values: Sequence[str]) -> list[str]:
    """Leave out what no text of PostgreSQL can be equal to: words with a NUL."""
    return [value for value in values if "\x00" not in value]
