"""PostgreSQL with pgvector: for shops that have a database server already.

A store is a schema (`?schema=shop` at the end of the URL; `tgqformer` by default): one table for each version,
`ledger` with a single row that says which versions there are, `revisions` with the count of writes of each, `writes`
with the ids of the latest of them.
"""

from __future__ import annotations

import atexit
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg
from pgvector.psycopg import register_vector
from psycopg import errors
from psycopg.sql import SQL, Identifier
from psycopg_pool import ConnectionPool, PoolTimeout

from tgqformer.errors import TgqError
from tgqformer.store.base import Unreachable, VersionGone
from tgqformer.store.ledger import Ledger, Version
from tgqformer.store.postgres_table import COLUMNS, Form, PostgresTable

NAME = "postgres"
WIDEST = {"float32": 2000, "float16": 4000, "int8": 4000}  # dimensions that pgvector can index
CONNECTIONS, PATIENCE = 8, 20  # at once; seconds to wait for one


_NEW_TABLE = SQL(
    "CREATE TABLE IF NOT EXISTS {} (id text PRIMARY KEY, vector {} NOT NULL, " + COLUMNS + ", content text NOT NULL)"
)
_INDEXES = {
    "brand": "btree (brand)",
    "category": "gin (category)",
    "price": "btree ((coalesce(sale_price, price)))",
    "availability": "btree (availability)",
}
_NEW_LEDGER = SQL(
    "CREATE TABLE IF NOT EXISTS {}.ledger (single bool PRIMARY KEY DEFAULT true CHECK (single), content text)"
)
_NEW_REVISIONS = SQL("CREATE TABLE IF NOT EXISTS {}.revisions (name text PRIMARY KEY, revision bigint NOT NULL)")
_NEW_WRITES = SQL(
    "CREATE TABLE IF NOT EXISTS {}.writes (name text, revision bigint, ids text[], PRIMARY KEY (name, revision))"
)


class PostgresBackend:
    """A schema of a PostgreSQL database; see `base.Backend`. `where` is the URL without its password."""

    name = NAME

    def __init__(self, url: str) -> None:
        self.conninfo, self.schema = _split(url)
        self.where = _without_password(url)
        self._pool = _pool(self.conninfo)
        with self.cursor() as cursor:  # a store of an earlier version has none until it is made or synced again
            asked = cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [f'"{self.schema}"."writes"'])
            [(self.keeps_writes,)] = asked.fetchall()

    def trouble(self) -> str | None:
        """Say nothing: whether the server answers is seen when it is asked."""
        return None

    def read(self) -> Ledger:
        """Read the ledger."""
        with self.cursor() as cursor:
            [(content,)] = cursor.execute(SQL("SELECT content FROM {}").format(self.place("ledger"))).fetchall()
        return Ledger.from_json(content)

    def change(self, step: Callable[[Ledger], Ledger]) -> Ledger:
        """Replace the ledger in one transaction; others wait for it."""
        ledger = self.place("ledger")
        with self.cursor() as cursor:
            [(content,)] = cursor.execute(SQL("SELECT content FROM {} FOR UPDATE").format(ledger)).fetchall()
            after = step(Ledger.from_json(content))
            cursor.execute(SQL("UPDATE {} SET content = %s").format(ledger), [after.to_json()])
        return after

    def tables(self) -> set[str]:
        """Name all tables of versions."""
        with self.cursor() as cursor:
            asked = SQL("SELECT name FROM {}").format(self.place("revisions"))
            return {name for (name,) in cursor.execute(asked).fetchall()}

    def make(self, version: Version) -> PostgresTable:
        """Make an empty table, or open the one that is there."""
        if version.dim > WIDEST[version.dtype]:
            raise TgqError(
                f"pgvector indexes {version.dtype} vectors up to {WIDEST[version.dtype]} dimensions, not {version.dim};"
                " choose float16, or keep fewer dimensions (--dim)"
            )
        table = self.place(version.name)
        with self.cursor() as cursor:
            cursor.execute(_NEW_TABLE.format(table, Form(version).kept))
            counted = SQL("INSERT INTO {} VALUES (%s, 0) ON CONFLICT DO NOTHING").format(self.place("revisions"))
            cursor.execute(counted, [version.name])
            for name, way in _INDEXES.items():
                words = (Identifier(f"{version.name}_{name}"), table, SQL(way))
                cursor.execute(SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING {}").format(*words))
        return self.open(version)

    def open(self, version: Version) -> PostgresTable:
        """Open a table."""
        if version.name not in self.tables():
            raise VersionGone(f"{self.where}: version {version.name} was dropped; open the store again")
        return PostgresTable(self, version)

    def drop(self, name: str) -> None:
        """Remove a table."""
        with self.cursor() as cursor:
            cursor.execute(SQL("DROP TABLE IF EXISTS {}").format(self.place(name)))
            for table in ("revisions", *(["writes"] if self.keeps_writes else [])):
                cursor.execute(SQL("DELETE FROM {} WHERE name = %s").format(self.place(table)), [name])

    @contextmanager
    def alone(self) -> Iterator[Any]:
        """Yield a connection outside of any transaction, for what cannot run in one."""
        with _explained(self.where), psycopg.connect(self.conninfo, autocommit=True) as connection:
            yield connection

    def place(self, table: str) -> Identifier:
        """Return the full name of a table."""
        return Identifier(self.schema, table)

    @contextmanager
    def cursor(self, name: str = "") -> Iterator[Any]:
        """Yield a cursor in a transaction that is committed at the end; named ones stream from the server."""
        with (
            _explained(self.where),
            self._pool.connection() as connection,
            connection.cursor(name, binary=True) if name else connection.cursor(binary=True) as cursor,
        ):
            yield cursor


def open_postgres(url: str) -> PostgresBackend:
    """Open the store in a schema of a database; raises TgqError where there is none."""
    conninfo, schema = _split(url)
    where = _without_password(url)
    with _explained(where), psycopg.connect(conninfo, connect_timeout=PATIENCE) as connection:
        query = "SELECT to_regclass(%s) IS NOT NULL"
        [(there,)] = connection.execute(query, [f'"{schema}"."ledger"']).fetchall()
        if not there:
            raise TgqError(f"{where} has no store in the schema {schema!r}; make one with `tgq index` or `tgq sync`")
    return PostgresBackend(url)


def make_postgres(url: str) -> PostgresBackend:
    """Open a store, or make an empty one, with its schema and the extension pgvector."""
    conninfo, schema = _split(url)
    place = Identifier(schema)
    with _explained(_without_password(url)), psycopg.connect(conninfo, connect_timeout=PATIENCE) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(7461661)")  # one at a time: IF NOT EXISTS alone may collide
        _require_pgvector(connection, _without_password(url))
        connection.execute(SQL("CREATE SCHEMA IF NOT EXISTS {}").format(place))
        connection.execute(_NEW_LEDGER.format(place))
        first = SQL("INSERT INTO {}.ledger (content) VALUES (%s) ON CONFLICT DO NOTHING").format(place)
        connection.execute(first, [Ledger.new().to_json()])
        connection.execute(_NEW_REVISIONS.format(place))
        connection.execute(_NEW_WRITES.format(place))
    return PostgresBackend(url)


@cache
def _pool(conninfo: str) -> ConnectionPool[Any]:
    """Return the connections of this process to a database, for all stores in it; they are closed at its end."""
    pool: ConnectionPool[Any] = ConnectionPool(
        conninfo,
        min_size=0,
        max_size=CONNECTIONS,
        timeout=PATIENCE,
        open=True,
        configure=_configure,
        check=ConnectionPool.check_connection,
    )
    atexit.register(pool.close)
    return pool


def _require_pgvector(connection: Any, where: str) -> None:
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except (errors.InsufficientPrivilege, errors.UndefinedFile, errors.FeatureNotSupported) as error:
        raise TgqError(
            f"{where} lacks pgvector, and it cannot be added ({_first_line(error)}); let an administrator run"
            " CREATE EXTENSION vector in this database"
        ) from error
    [(version,)] = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchall()
    if tuple(int(part) for part in version.split(".")[:2]) < (0, 8):
        raise TgqError(f"{where} has pgvector {version}; this needs 0.8 or later: ALTER EXTENSION vector UPDATE")


def _configure(connection: Any) -> None:
    register_vector(connection)
    connection.execute("SET hnsw.iterative_scan = relaxed_order")
    connection.commit()


@contextmanager
def _explained(where: str) -> Iterator[None]:
    try:
        yield
    except (errors.OperationalError, PoolTimeout) as error:
        raise Unreachable(f"{where}: PostgreSQL does not do it ({_first_line(error)}); check server and URL") from error
    except (errors.DataError, errors.InsufficientPrivilege) as error:
        raise TgqError(f"{where}: PostgreSQL refuses this ({_first_line(error)})") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _split(url: str) -> tuple[str, str]:
    """Take `schema` out of a URL: (what PostgreSQL's own library takes, schema)."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    schema = options.pop("schema", "tgqformer")
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,50}", schema):
        raise TgqError(f"the schema {schema!r} of the store must be of small letters, digits and _, 51 at most")
    return urlunsplit(parts._replace(query=urlencode(options, safe="/"))), schema


def _without_password(url: str) -> str:
    parts = urlsplit(re.sub(r"(://[^:/@]*):.*@", r"\1@", url))  # a password may hold what ends it by the rules of URLs
    user, at, host = parts.netloc.rpartition("@")
    shown = [(name, value) for name, value in parse_qsl(parts.query) if "password" not in name]
    query = urlencode(shown, safe="/")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}{at}{host}", query=query))
