"""The default back end: LanceDB on a local disk or an object store, embedded, durable.

A store is a LanceDB database with one table for each version and one, `ledger`, with a single row that says which
versions there are. On a local disk it lies in the folder `tables/`, beside `store.json`, which names the back end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("LANCEDB_LOG", "error")  # read at import; else every new table is announced as a warning

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.index import HnswSq

from tgqformer.errors import TgqError
from tgqformer.files import make_folder, read_json, write_json
from tgqformer.packages import installed, need
from tgqformer.stages import check_ours, mark, note_of
from tgqformer.store.base import Filter, Hit, StoreRow, TableStats, UnknownItem, Unreachable, trouble_of
from tgqformer.store.durable import Durability, LocalFiles, Remote
from tgqformer.store.lance_errors import LEDGER, gone, in_words, reaching, writing
from tgqformer.store.lance_log import changes_rows, require_files, touched_ids
from tgqformer.store.lance_rows import FOUND, INDEXES, any_of, hits_of, rows_of, schema_of, sql_of, table_of
from tgqformer.store.ledger import FORMAT, NAMED, Ledger, Version
from tgqformer.store.rows import SEPARATOR, Counts, check_vector, checked, parts, unit
from tgqformer.types import Floats

NAME = "lance"
INDEX_FROM = 10_000  # rows; below, an exact search takes a few milliseconds and needs no index
EXACT_BELOW = 10_000  # rows that pass a filter; below, the index would lose some of them and save nothing
GRAPH_ROWS = 16_384  # rows of one graph of the index: what a row costs grows with its graph
GRAPHS, GRAPHS_SHARE = 32, 4  # so many graphs are all searched; of more, a fourth
EVERY_GRAPH = 1 << 20  # searched behind a filter: what passes may lie anywhere
WRITE_ROWS = 32_768  # a write adds a file and a version, so few large ones
EF, REFINE = 200, 2  # candidates of HNSW at least, and how many times k of them are scored again by the rows themselves
EF_CONSTRUCTION = 100  # candidates when a graph is built; LanceDB's 300 find 0.001 more, in some twice the time
FILTERED = 2  # times as many candidates behind a filter: only those that pass can be answers
TRIES = 3  # of compacting beside writers; then they wait
SEEN_WITHIN = timedelta(seconds=1)  # how soon a table sees what other processes wrote
OLD_AFTER = timedelta(hours=1)  # files that no reader can still be reading
NEVER = timedelta(days=36_500)
# LanceDB by itself remembers 6 GB of indexes and 1 GB of metadata, of versions that nobody asks for any more, too: each
# transaction took 0.15 MB of memory for good. So every table has caches of its own, of these bytes.
METADATA_CACHE, SPARE_CACHE, LEDGER_CACHE = 4 << 20, 4 << 20, 2 << 20
INDEX_ROW, ROOM = 450, 1.5  # bytes of a row in all indexes besides one a dimension; how much more than that there is
MOST_TRANSACTIONS = 1000  # that are read to find out whether they changed rows
_KEY = pa.field("key", pa.string(), nullable=False)
_LEDGER_SCHEMA = pa.schema([_KEY, ("revision", pa.int64()), ("content", pa.string())])


class LanceBackend:
    """A LanceDB database; see `base.Backend`. `where` is a folder or the URI of an object store."""

    name = NAME

    def __init__(self, where: str, index_cache: int | None = None, *, make: bool = False) -> None:
        self.where, self._index_cache = where, index_cache
        self._database, self._files = _connect(where, LEDGER_CACHE, LEDGER_CACHE), _files_of(where, LEDGER)
        self._files.recover()
        self._files.check()
        if make and self._files.is_unborn() and not self.tables():
            self._database.drop_table(LEDGER)
        if make and LEDGER not in (names := self._names()):
            self._make_ledger({name for name in names if NAMED.fullmatch(name)})
        self._ledger = self._database.open_table(LEDGER)
        self._read: tuple[int, int, Ledger] | None = None

    def _make_ledger(self, lost: set[str]) -> None:
        """Make a list of versions. lost: tables of a list that was lost: a folder of ours has no others."""
        if lost and "://" in self.where:
            there = f"{self.where} holds tables named {', '.join(sorted(lost))}, but no list of versions of ours"
            raise TgqError(f"{there}; give the store a prefix of its own, or remove what is there")
        content = replace(Ledger.new(), begun=max((int(name[1:]) for name in lost), default=0)).to_json()
        first = pa.table({"key": [LEDGER], "revision": [0], "content": [content]}, schema=_LEDGER_SCHEMA)
        self._create(self._files, LEDGER, first, None)

    def _create(self, files: Durability, name: str, rows: Any, schema: Any) -> None:
        with writing(self.where), files.transaction():
            if name not in self._names():
                files.forget()  # what is kept about a table of that name that was lost
                self._database.create_table(name, rows, schema=schema, exist_ok=True)

    def trouble(self) -> str | None:
        """Look whether the folder is there and can be written."""
        if "://" in self.where:
            return None
        there = (Path(self.where) / "store.json").is_file()
        return trouble_of(Path(self.where) / "tables", "the store") if there else "the store is gone"

    @in_words
    def read(self) -> Ledger:
        """Read the ledger; it is parsed again only where it was written since."""
        return self._current()[1]

    @in_words
    def change(self, step: Callable[[Ledger], Ledger]) -> Ledger:
        """Replace the ledger if nobody else did since it was read, and try again where somebody did."""
        while True:
            revision, before = self._current()
            after = step(before)
            if after == before:
                return after
            values = {"revision": revision + 1, "content": after.to_json()}
            with self._files.transaction():
                written = self._ledger.update(where=f"revision = {revision}", values=values).rows_updated == 1
            if written and revision % 50 == 49:
                with self._files.transaction():
                    self._ledger.optimize(cleanup_older_than=NEVER)
                with self._files.transaction():  # only now: what was compacted is on the disk
                    self._ledger.optimize(cleanup_older_than=OLD_AFTER)
            if written:
                return after

    @in_words
    def tables(self) -> set[str]:
        """Name all tables of versions; others are not ours."""
        return {name for name in self._names() if NAMED.fullmatch(name)}

    @in_words
    def make(self, version: Version) -> LanceTable:
        """Make an empty table, or open the one that is there."""
        files = _files_of(self.where, version.name)
        if version.name in self._names() and files.is_unborn():
            self.drop(version.name)
        if version.name not in self._names():
            self._create(files, version.name, None, schema_of(version))
        return self.open(version)

    def open(self, version: Version) -> LanceTable:
        """Open a table."""
        return LanceTable(version, self.where, self._index_cache)

    @in_words
    def drop(self, name: str) -> None:
        """Remove a table."""
        files = _files_of(self.where, name)
        files.forget()  # first: what is being dropped is not taken for damaged
        self._database.drop_table(name, ignore_missing=True)
        files.forget()

    def _names(self) -> set[str]:
        return set(self._database.list_tables(limit=10_000).tables)

    def _current(self) -> tuple[int, Ledger]:
        self._files.require_store()
        self._ledger.checkout_latest()
        number = int(self._ledger.version)
        if self._read is None or self._read[0] != number:
            with gone(None, self.where):
                [row] = self._ledger.search().to_arrow().to_pylist()
            self._read = number, row["revision"], Ledger.from_json(row["content"])
        return self._read[1:]


class LanceTable:
    """A version in a table of its own; see `base.StoreTable` for what the methods do.

    It has a connection with caches of its own: for the indexes `index_cache` bytes, or half as much again as they need.
    So memory does not grow with writes, and what a version that is dropped has in memory goes with it.
    """

    def __init__(self, version: Version, where: str, index_cache: int | None = None) -> None:
        self.version, self.where, self._counts = version, where, Counts()
        self._files = _files_of(where, version.name)
        self._cache, self._grows = index_cache or SPARE_CACHE, index_cache is None
        with gone(version, where):
            self._files.recover()
            self._files.check()
            self._table = self._opened()
            self._fit()

    def __len__(self) -> int:
        return self.count()

    def add(self, rows: Iterable[StoreRow]) -> None:
        """Append rows that are not there."""
        with gone(self.version, self.where), self._transaction():
            for part in parts(rows, WRITE_ROWS):
                self._table.add(self._batch(part, self.version.model_version))

    def upsert(self, rows: Iterable[StoreRow], *, model_version: str) -> int:
        """Add rows or replace those with the same id, in one transaction."""
        batch = self._batch(rows, model_version)
        if not batch.num_rows:
            return self.revision()
        with gone(self.version, self.where), self._transaction():
            merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            return int(merge.execute(batch).version)

    def delete(self, ids: Sequence[str]) -> int:
        """Remove rows by id, in one transaction."""
        if not ids:
            return self.revision()
        with gone(self.version, self.where), self._transaction():
            return int(self._table.delete(f"id IN {any_of(ids)}").version)

    def search(self, vector: Floats, k: int, where: Filter | None = None, *, exact: bool = False) -> list[Hit]:
        """Find the `k` nearest rows; a filter that few rows pass is answered exactly, whatever `exact` says."""
        check_vector(vector, self.version.dim, "the vector to search")
        asked = unit(np.asarray(vector, np.float32)[None])[0]
        with gone(self.version, self.where):
            self._fit()
            query = self._table.search(asked, vector_column_name="vector").distance_type("dot").limit(k)
            if where:
                condition = sql_of(where)
                query = query.where(condition, prefilter=True)
                exact = exact or self._counts.of(where, lambda: self.count(where)) < EXACT_BELOW
            candidates = max(EF, 4 * k) * (FILTERED if where else 1)
            graphs = self._counts.of(None, self._table.count_rows) // GRAPH_ROWS
            probes = EVERY_GRAPH if where else max(GRAPHS, graphs // GRAPHS_SHARE)
            near = query.nprobes(probes).ef(candidates).refine_factor(REFINE)
            query = query.bypass_vector_index() if exact else near
            found = query.select([*FOUND, "_distance"]).to_arrow()
        return hits_of(found)

    def get(self, ids: Sequence[str]) -> list[StoreRow]:
        """Return rows by id, in the order asked."""
        found = {row.id: row for row in self.rows(list(dict.fromkeys(ids)))}
        for item_id in ids:
            if item_id not in found:
                raise UnknownItem(f"{self.where} has no item {item_id!r}; check the id")
        return [found[item_id] for item_id in ids]

    def count(self, where: Filter | None = None) -> int:
        """Count the rows that pass."""
        with gone(self.version, self.where):
            return int(self._table.count_rows(sql_of(where) if where else None))

    def values(self) -> tuple[set[tuple[str, ...]], set[str]]:
        """Collect the category paths and the brands."""
        paths, brands = set[tuple[str, ...]](), set[str]()
        for batch in self._stream(["category", "brand"], None):
            joined = pc.binary_join(batch["category"].cast(pa.list_(pa.string())), SEPARATOR)
            paths.update(tuple(path.split(SEPARATOR)) for path in joined.unique().to_pylist() if path)
            brands.update(brand for brand in batch["brand"].unique().to_pylist() if brand)
        return paths, brands

    def facts(self, ids: Sequence[str] | None = None) -> Iterator[Hit]:
        """Stream what rows say."""
        for batch in self._stream(FOUND, ids):
            for row in batch.to_pylist():
                yield Hit(score=0.0, **row | {"category": tuple(row["category"] or ())})

    def rows(self, ids: Sequence[str] | None = None) -> Iterator[StoreRow]:
        """Stream whole rows."""
        for batch in self._stream([*FOUND, "content", "vector"], ids):
            yield from rows_of(batch, self.version)

    def contents(self, ids: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
        """Stream ids and contents."""
        for batch in self._stream(["id", "content"], ids):
            yield from zip(batch["id"].to_pylist(), batch["content"].to_pylist(), strict=True)

    def revision(self) -> int:
        """Return the version of the Lance table; indexing counts it up, too."""
        with gone(self.version, self.where):
            self._table.checkout_latest()
            return int(self._table.version)

    def changes(self, since: int) -> list[int]:
        """Return the versions of the Lance table that changed rows, by its transactions, which pylance reads."""
        now = self.revision()
        if not installed("lance"):
            return list(range(since + 1, now + 1))
        if now - since > MOST_TRANSACTIONS:
            return [now]
        with gone(self.version, self.where):
            log = self._log()
            return [number for number in range(since + 1, now + 1) if changes_rows(log, number)]

    def touched(self, since: int) -> set[str] | None:
        """Compare the lists of files before and after each transaction that changed rows; None without pylance."""
        now = self.revision()
        if now - since > MOST_TRANSACTIONS or not installed("lance"):
            return None
        with gone(self.version, self.where):
            return touched_ids(self._log(), since, now)

    def _log(self) -> Any:
        """Open the table as Lance itself gives it: with its transactions and older states."""
        lance = need("lance")  # a fifth of a second, and only a service asks
        caches = {"index_cache_size_bytes": LEDGER_CACHE, "metadata_cache_size_bytes": LEDGER_CACHE}
        return lance.dataset(self._table.uri, storage_options=self._table.latest_storage_options(), **caches)

    def optimize(self) -> None:
        """Compact the files and bring the indexes up to date; build them once there are rows enough."""
        with gone(self.version, self.where):
            with self._files.upkeep():
                there = {index.columns[0] for index in self._table.list_indices()}
                if "vector" not in there and len(self) >= INDEX_FROM:
                    graphs = HnswSq("dot", ef_construction=EF_CONSTRUCTION, target_partition_size=GRAPH_ROWS)
                    for column, config in (*INDEXES, ("vector", graphs)):
                        self._table.create_index(column, config=config)
                compacted = any(self._compacted(NEVER) for _ in range(TRIES))
            with self._transaction():
                if not compacted:
                    self._compacted(NEVER)
            with self._transaction():  # only now: what takes the place of old files is on the disk
                self._compacted(OLD_AFTER)
            self._fit(len(self))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Change the table; where that fails, or cannot be made durable, it is as before."""
        try:
            with self._files.transaction():
                yield
        except Unreachable:
            raise
        except BaseException:
            self._table = self._opened()  # what is open may know a manifest that was taken back
            raise

    def _opened(self) -> Any:
        return _connect(self.where, self._cache, METADATA_CACHE).open_table(self.version.name)

    def _fit(self, rows: int | None = None) -> None:
        """Open the table anew with a larger cache where its indexes have outgrown the one it has."""
        rows = self._counts.of(None, self._table.count_rows) if rows is None else rows
        needed = rows * (self.version.dim + INDEX_ROW)
        if not self._grows or needed <= self._cache:
            return
        with self._files.transaction():  # a write that is seen by the old one alone would not be seen at once
            self._cache = SPARE_CACHE + int(ROOM * needed)
            self._table = self._opened()

    def stats(self) -> TableStats:
        """Say what the table holds."""
        with gone(self.version, self.where):
            require_files(self.where, self._log)
            indexes = [index for index in self._table.list_indices() if index.columns == ["vector"]]
            indexed = self._table.index_stats(indexes[0].name).num_indexed_rows if indexes else 0
        return TableStats(self.version, len(self), int(indexed), bytes=self._bytes())

    def _compacted(self, old_after: timedelta) -> bool:
        """Compact, and take new rows into the indexes; False where a write came in between."""
        try:
            self._table.optimize(cleanup_older_than=old_after)
        except RuntimeError as error:
            if "commit conflict" not in str(error):
                raise
            return False
        return True

    def _batch(self, rows: Iterable[StoreRow], model_version: str) -> Any:
        return table_of(checked(rows, self.version, self.where, model_version=model_version), self.version)

    def _stream(self, columns: list[str], ids: Sequence[str] | None) -> Iterator[Any]:
        """Yield batches of some columns of all rows, or of those with some ids."""
        with gone(self.version, self.where):
            if ids is None:
                yield from self._table.search().select(columns).to_batches(8192)
                return
            for part in parts(ids, 1000):
                yield self._table.search().where(f"id IN {any_of(part)}").select(columns).to_arrow()

    def _bytes(self) -> int | None:
        folder = Path(self.where) / "tables" / f"{self.version.name}.lance"
        return None if "://" in self.where else sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def open_lance(where: str, index_cache: int | None = None) -> LanceBackend:
    """Open the store in a folder or at the URI of an object store; raises TgqError where there is none."""
    if "://" in where:
        with reaching(where):
            if LEDGER not in lancedb.connect(where).list_tables(limit=10_000).tables:
                raise TgqError(f"{where} is no store; make one with `tgq index`")
            return LanceBackend(where, index_cache)
    _require_lance(Path(where))
    if not (Path(where) / "tables" / f"{LEDGER}.lance").is_dir():
        raise TgqError(f"{where} has lost its tables, or was cut off while it was made; build it with `tgq index`")
    return LanceBackend(where, index_cache)


def _require_lance(path: Path) -> None:
    """Raise TgqError unless a folder holds a store of this back end."""
    try:
        about = read_json(path / "store.json")
        backend = about["backend"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if note_of(path) is None or not (path / "store.json").exists():
            raise TgqError(f"{path} is no store (no readable store.json); make one with `tgq index`") from error
        words = "remove that file, and `tgq index` writes it anew and keeps the versions"
        raise TgqError(f"{path / 'store.json'} cannot be read; {words}") from error
    if backend != NAME:
        raise TgqError(f"{path} is a store of the back end {backend!r}; this version reads {NAME!r} from a folder")
    if about.get("format") != FORMAT:
        raise TgqError(f"{path} was written by another version of tgqformer; remove it and build it with `tgq index`")


def make_lance(where: str) -> LanceBackend:
    """Open a store, or make an empty one; raises TgqError where a folder holds something else."""
    path = Path(where)
    if "://" in where:
        with reaching(where):
            return LanceBackend(where, make=True)
    if not (path / "store.json").exists():
        check_ours(path, "store")
        make_folder(path)
        if note_of(path) is None:
            mark(path, "store")
        write_json(path / "store.json", {"backend": NAME, "format": FORMAT})
    _require_lance(path)
    return LanceBackend(where, make=True)


def _files_of(where: str, name: str) -> Durability:
    return Remote() if "://" in where else LocalFiles(Path(where), name)


def _connect(where: str, index_cache: int, metadata_cache: int) -> Any:
    """Connect to the database of a store, with caches of so many bytes."""
    session = lancedb.Session(index_cache_size_bytes=index_cache, metadata_cache_size_bytes=metadata_cache)
    place = where if "://" in where else str(Path(where) / "tables")
    return lancedb.connect(place, read_consistency_interval=SEEN_WITHIN, session=session)
