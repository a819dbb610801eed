"""The catalogue on disk: a folder of Parquet partitions that is read in streams; `writer.py` writes it.

`catalog.json` names the partitions; `items-00000.parquet …` hold the items in small row groups, so that packed pictures
are read a few at a time.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tgqformer.catalog.item import OFFER, Item, Picture
from tgqformer.catalog.places import IdPlaces
from tgqformer.errors import TgqError, nearest
from tgqformer.files import is_checked
from tgqformer.objects import Disk, Objects, object_address, place_at, told
from tgqformer.types import Positions

FORMAT, VERSION, KIND, ABOUT = "tgqformer-catalog", 2, "catalogue", "catalog.json"

_PICTURE = pa.struct([("digest", pa.string()), ("path", pa.string()), ("data", pa.binary()), ("look", pa.binary())])
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        ("title", pa.string()),
        ("brand", pa.string()),
        ("category", pa.list_(pa.string())),
        ("attributes", pa.map_(pa.string(), pa.string())),
        ("price", pa.float64()),
        ("pictures", pa.list_(_PICTURE)),
        *((name, pa.float64() if name == "sale_price" else pa.string()) for name in OFFER),
    ]
)
FOOTERS = 16
"""Footers of partitions that stay in memory: each takes some 5 MB."""
_LIGHT = [name for name in SCHEMA.names if name != "pictures"]
PICTURES_LIGHT = ["pictures.list.element.digest", "pictures.list.element.path", "pictures.list.element.look"]


class Catalog:
    """A checked catalogue on disk. Opening it reads only `catalog.json` and the footers of the partitions.

    `root` is the folder that picture paths are relative to (None where every picture is packed); `fingerprint` changes
    with any item's content (whether pictures are packed makes no difference).
    """

    path: Path
    name: str
    root: Path | None
    fingerprint: str

    def __init__(self, path: Path, about: dict[str, Any], root: Path | None) -> None:
        """Use `Catalog.open`."""
        self.path, self.about, self.root, self._place = path, about, root, place_at(path)
        self.name, self.fingerprint = about["name"], about["fingerprint"]
        self._footer = lru_cache(FOOTERS)(partial(_footer, self._place))
        footers = (self._footer(*_end_of(part)) for part in about["partitions"])
        groups = [
            (part, group, footer.row_group(group).num_rows)
            for part, footer in enumerate(footers)
            for group in range(footer.num_row_groups)
        ]
        self._groups = [(part, group) for part, group, _ in groups]
        self._starts = np.cumsum([0, *(rows for _, _, rows in groups)], dtype=np.int64)

    @classmethod
    def open(cls, path: str | Path, *, root: Path | None = None) -> Catalog:
        """Open the catalogue in the folder `path`; `root` overrides where its pictures lie (when they were moved).

        Raise TgqError where there is none, or where it is damaged or of a newer version, or where it lies in an object
        store without its pictures.
        """
        path = Path(path)
        about = _about(path)
        stored = about.get("root")
        if root is None and stored is not None and object_address(path):
            raise TgqError(f"the pictures of {told(path)} are not in it; make it with `tgq catalog import … --pack`")
        if root is None and stored is not None:
            root = Path(os.path.normpath(path / stored))
        return cls(path, about, root)

    def to_dataset(self) -> Any:
        """Return it as a `datasets.Dataset` of Hugging Face, see `exchange.to_dataset`."""
        from tgqformer.catalog.exchange import to_dataset

        return to_dataset(self)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def ids(self) -> list[str]:
        """Return the ids of all items; the place in this list is the item's position."""
        ids: list[str] = self._ids.to_pylist()
        return ids

    def positions(self, ids: Sequence[str]) -> Positions:
        """Return the positions [len(ids)] of items by id, int64. Raise TgqError for ids that the catalogue has not."""
        found = self._places.of(ids)
        if (found < 0).any():
            raise self._unknown(list(dict.fromkeys(ids[at] for at in np.flatnonzero(found < 0).tolist())))
        return found

    def items(self, start: int = 0, stop: int | None = None, *, pictures: bool = True) -> Iterator[Item]:
        """Stream the items of positions `start` to `stop`, a row group at a time.

        With `pictures=False` the bytes of packed pictures are not read (`Picture.data` is None); digests and paths are.
        """
        stop = len(self) if stop is None else min(stop, len(self))
        group = int(np.searchsorted(self._starts, start, side="right")) - 1
        while group < len(self._groups) and self._starts[group] < stop:
            first = int(self._starts[group])
            rows = self._read(group, pictures=pictures)
            yield from _items(rows.slice(max(start - first, 0), stop - max(first, start)))
            group += 1

    def take(self, ids: Sequence[str], *, pictures: bool = True) -> list[Item]:
        """Return the items with these ids, in the order asked; only the row groups that hold them are read.

        Raise TgqError for unknown ids.
        """
        return self.take_positions(self.positions(ids), pictures=pictures)

    def take_positions(self, positions: Sequence[int] | Positions, *, pictures: bool = True) -> list[Item]:
        """Return the items at these positions, in the order asked."""
        asked = np.asarray(positions, dtype=np.int64)
        if len(asked) and (asked.min() < 0 or asked.max() >= len(self)):
            raise IndexError(f"positions must be from 0 to {len(self) - 1}")
        wanted, places = np.unique(asked, return_inverse=True)
        groups = np.searchsorted(self._starts, wanted, side="right") - 1
        found: list[Item] = []
        for group in np.unique(groups):
            rows = wanted[groups == group] - self._starts[group]
            found += _items(self._read(int(group), pictures=pictures).take(pa.array(rows)))
        return [found[place] for place in places.reshape(-1)]

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Read whole columns, as `SCHEMA` names them; pictures without their bytes.

        Raise TgqError for a column that a catalogue has not.
        """
        unknown = [name for name in columns if name not in SCHEMA.names]
        if unknown:
            raise TgqError(f"a catalogue has no column {unknown[0]!r}; it has {', '.join(SCHEMA.names)}")
        leaves = [leaf for name in columns for leaf in (PICTURES_LIGHT if name == "pictures" else [name])]
        parts = [_columns(self._place, part["file"], leaves) for part in self.about["partitions"]]
        if not parts:
            return SCHEMA.empty_table().select(list(columns))
        return pa.concat_tables(parts).select(list(columns))

    def column(self, name: str, *, every: int = 1) -> Iterator[Any]:
        """Stream a column of one value an item, a partition at a time; `every` n-th value alone, from the first on."""
        seen = 0
        for part in self.about["partitions"]:
            values = _columns(self._place, part["file"], [name])[name]
            yield from values.take(np.arange(-seen % every, len(values), every)).to_pylist()
            seen += len(values)

    @cached_property
    def _ids(self) -> pa.ChunkedArray:
        return self.table(["id"]).column("id")

    @cached_property
    def _places(self) -> IdPlaces:
        return IdPlaces(self._ids)

    def _read(self, group: int, *, pictures: bool) -> pa.Table:
        number, row_group = self._groups[group]
        part = self.about["partitions"][number]
        name, footer = part["file"], self._footer(*_end_of(part))
        columns = None if pictures else [*_LIGHT, *PICTURES_LIGHT]
        try:
            with pq.ParquetFile(self._place.source(name), metadata=footer, page_checksum_verification=True) as file:
                return file.read_row_group(row_group, columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise _damaged(self._place.where(name), str(error)) from error

    def _unknown(self, missing: list[str]) -> TgqError:
        named = ", ".join(repr(name) for name in missing[:3]) + (", …" if len(missing) > 3 else "")
        hint = nearest(missing[0], self.ids()[:200_000]) if len(self) else "it is empty"
        hint = hint if hint.startswith("did") or not len(self) else "`tgq catalog show` lists some"
        return TgqError(f"{told(self.path)} has no item {named} ({len(missing)} unknown); {hint}")


def _items(rows: pa.Table) -> list[Item]:
    return [_item(row) for row in rows.to_pylist()]


def _item(row: dict[str, Any]) -> Item:
    return Item(
        id=row["id"],
        title=row["title"],
        brand=row["brand"],
        category=tuple(row["category"] or ()),
        attributes=dict(row["attributes"] or ()),
        price=row["price"],
        pictures=tuple(Picture(**{"data": None, **one}) for one in row["pictures"] or ()),
        **{name: row[name] for name in OFFER},
    )


def _about(path: Path) -> dict[str, Any]:
    file, where = path / ABOUT, told(path)
    try:
        if (content := place_at(path).read(file.name)) is None:
            make = f"make one with `tgq catalog import SOURCE --to {where}`"
            raise TgqError(f"{where} is not a catalogue (it has no catalog.json); {make}")
        about = json.loads(content)
    except (OSError, ValueError) as error:
        raise _damaged(told(file), str(error)) from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise TgqError(
            f"{told(file)} does not describe a catalogue of this program; import your data with `tgq catalog import`"
        )
    if about.get("version") != VERSION:
        raise TgqError(
            f"{where} is a catalogue of version {about.get('version')}; this program reads version {VERSION}. "
            "Import it again."
        )
    missing = [key for key in ("name", "items", "fingerprint", "partitions") if key not in about]
    if missing:
        raise _damaged(told(file), f"no {missing[0]!r}")
    if not is_checked(about):
        raise _damaged(told(file), "its checksum does not fit")
    return about


def end_of(source: Path | io.RawIOBase) -> bytes:
    """Read the end of a Parquet file, which says where all else stands; pages have their own checksums."""
    with source.open("rb") if isinstance(source, Path) else source as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        length = int.from_bytes(file.read(4) or b"", "little") + 8
        file.seek(max(0, size - length))
        return file.read(length) or b""


def _end_of(part: dict[str, Any]) -> tuple[str, int, int | None]:
    """Return what `_footer` asks of a partition."""
    return part["file"], part["items"], part.get("footer")


def _footer(place: Disk | Objects, name: str, items: int, check: int | None) -> pq.FileMetaData:
    file = place.where(name)
    try:
        end = end_of(place.source(name))
        if check is not None and crc32(end) != check:
            raise _damaged(file, "the checksum of its end does not fit")
        footer = pq.read_metadata(pa.BufferReader(end))
    except (OSError, pa.ArrowException) as error:
        raise _damaged(file, str(error)) from error
    if footer.num_rows != items:
        raise _damaged(file, f"{footer.num_rows} items where catalog.json says {items}")
    return footer


def _columns(place: Disk | Objects, name: str, leaves: list[str]) -> pa.Table:
    try:
        with pq.ParquetFile(place.source(name), page_checksum_verification=True) as file:
            return file.read(columns=leaves)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(place.where(name), str(error)) from error


def _damaged(path: Path | str, why: str) -> TgqError:
    return TgqError(
        f"the catalogue is damaged at {path}: {why.splitlines()[0] if why else 'unreadable'}; import it again"
    )
