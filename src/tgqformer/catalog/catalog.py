"""The catalogue on disk: a folder of Parquet partitions that is read in streams, and the one way to write it.

`catalog.json` names the partitions; `items-00000.parquet …` hold the items in small row groups, so that packed pictures
are read a few at a time.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tgqformer.catalog.checks import SeenIds
from tgqformer.catalog.item import OFFER, Item, Picture
from tgqformer.catalog.pictures import look_of, picture_bytes
from tgqformer.catalog.places import IdPlaces
from tgqformer.errors import TgqError, nearest
from tgqformer.files import is_checked, with_check, write_json
from tgqformer.objects import Disk, Objects, object_address, place_at, told
from tgqformer.stages import atomic_folder, make_way
from tgqformer.types import Positions

FORMAT, VERSION, KIND, ABOUT = "tgqformer-catalog", 2, "catalogue", "catalog.json"
GROUP_ROWS, GROUP_BYTES = 256, 16 << 20
PARTITION_ROWS, PARTITION_BYTES = 100_000, 512 << 20

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
_LIGHT = [name for name in SCHEMA.names if name != "pictures"]
_PICTURES_LIGHT = ["pictures.list.element.digest", "pictures.list.element.path", "pictures.list.element.look"]
_DATA = "pictures.list.element.data"
_ATTRIBUTES = ["attributes.key_value.key", "attributes.key_value.value"]
_LEAVES = ["id", "title", "brand", "category.list.element", *_ATTRIBUTES, "price", *_PICTURES_LIGHT, _DATA, *OFFER]


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
        self._footers = [
            _footer(self._place, part["file"], part["items"], part.get("footer")) for part in about["partitions"]
        ]
        groups = [
            (part, group, footer.row_group(group).num_rows)
            for part, footer in enumerate(self._footers)
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
        leaves = [leaf for name in columns for leaf in (_PICTURES_LIGHT if name == "pictures" else [name])]
        parts = [_columns(self._place, part["file"], leaves) for part in self.about["partitions"]]
        if not parts:
            return SCHEMA.empty_table().select(list(columns))
        return pa.concat_tables(parts).select(list(columns))

    @cached_property
    def _ids(self) -> pa.ChunkedArray:
        return self.table(["id"]).column("id")

    @cached_property
    def _places(self) -> IdPlaces:
        return IdPlaces(self._ids)

    def _read(self, group: int, *, pictures: bool) -> pa.Table:
        part, row_group = self._groups[group]
        name = self.about["partitions"][part]["file"]
        columns = None if pictures else [*_LIGHT, *_PICTURES_LIGHT]
        try:
            with pq.ParquetFile(
                self._place.source(name), metadata=self._footers[part], page_checksum_verification=True
            ) as file:
                return file.read_row_group(row_group, columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise _damaged(self._place.where(name), str(error)) from error

    def _unknown(self, missing: list[str]) -> TgqError:
        named = ", ".join(repr(name) for name in missing[:3]) + (", …" if len(missing) > 3 else "")
        hint = nearest(missing[0], self.ids()[:200_000]) if len(self) else "it is empty"
        hint = hint if hint.startswith("did") or not len(self) else "`tgq catalog show` lists some"
        return TgqError(f"{told(self.path)} has no item {named} ({len(missing)} unknown); {hint}")


class CatalogWriter:
    """Write a catalogue. The folder appears, whole, only when the `with` block ends without an error.

    `pack=True` stores the bytes of every picture; `pack=False` stores only its path (a picture that has no path is
    stored all the same). `root` is where picture paths are relative to. What stands at `path` raises TgqError; with
    `overwrite` a catalogue of ours is replaced. So does an id that is added twice (with `check_ids=False` the caller
    vouches for that). `about` goes into `catalog.json`; further files may be put into `folder` inside the block.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        name: str,
        pack: bool,
        root: Path | None = None,
        about: dict[str, Any] | None = None,
        check_ids: bool = True,
        overwrite: bool = False,
    ) -> None:
        self.path, self.name, self.pack, self.root = Path(path), name, pack, root
        self.about: dict[str, Any] = dict(about or {})
        self.items = self.pictures = self._unpacked = 0
        self._partitions: list[dict[str, Any]] = []
        self._seen = SeenIds() if check_ids else None
        self._rows: list[dict[str, Any]] = []
        self._row_bytes = self._part_bytes = 0
        self._parquet: pq.ParquetWriter | None = None
        self._hash = blake2b(digest_size=16)
        self._stack = ExitStack()
        self._overwrite = overwrite
        make_way(self.path, KIND, overwrite=overwrite, objects=True)

    def __enter__(self) -> Self:
        unfinished = atomic_folder(self.path, KIND, overwrite=self._overwrite, whole_by=ABOUT)
        self.folder = self._stack.enter_context(unfinished)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            try:
                self._close_partition()
            finally:
                self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._flush()
            self._close_partition()
            write_json(self.folder / ABOUT, with_check(self._description()))

    def add(self, item: Item) -> None:
        """Add one item. Raise TgqError without an id of its own, PictureError for a picture to pack that is gone."""
        if not item.id:
            raise TgqError(f"an item {item.title!r} has no id; each item of a catalogue needs one of its own")
        if self._seen is not None and not self._seen.add(item.id):
            raise TgqError(f"the id {item.id!r} was added to the catalogue {self.name!r} before; ids must be unique")
        row = self._row(item)
        self._hash.update(_canonical(item))
        self._rows.append(row)
        self._row_bytes += sum(len(picture["data"] or b"") for picture in row["pictures"])
        self.items += 1
        self.pictures += len(row["pictures"])
        self._unpacked += sum(picture["data"] is None for picture in row["pictures"])
        if len(self._rows) >= GROUP_ROWS or self._row_bytes >= GROUP_BYTES:
            self._flush()

    def _row(self, item: Item) -> dict[str, Any]:
        return {
            "id": item.id,
            "title": item.title or None,
            "brand": item.brand or None,
            "category": list(item.category),
            "attributes": list(item.attributes.items()),
            "price": item.price,
            "pictures": [self._picture(picture, first=not place) for place, picture in enumerate(item.pictures)],
            **{name: getattr(item, name) for name in OFFER},
        }

    def _picture(self, picture: Picture, *, first: bool) -> dict[str, Any]:
        look = picture.look
        if first and look is None and picture.data is not None:
            look = look_of(picture.data)
        return {"digest": picture.digest, "path": picture.path, "data": self._data(picture), "look": look}

    def _data(self, picture: Picture) -> bytes | None:
        if self.pack or picture.path is None:
            return picture_bytes(picture, self.root)
        return None

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._parquet is None:
            name = f"items-{len(self._partitions):05d}.parquet"
            self._partitions.append({"file": name, "items": 0})
            self._parquet = pq.ParquetWriter(
                self.folder / name,
                SCHEMA,
                compression={leaf: "none" if leaf == _DATA else "zstd" for leaf in _LEAVES},
                use_dictionary=["brand", "category.list.element", *_ATTRIBUTES, "availability", "currency", "created"],
                write_statistics=["id", "price"],
                write_page_checksum=True,
            )
        self._parquet.write_table(pa.Table.from_pylist(self._rows, schema=SCHEMA), row_group_size=GROUP_ROWS)
        self._partitions[-1]["items"] += len(self._rows)
        self._part_bytes += self._row_bytes
        self._rows, self._row_bytes = [], 0
        if self._partitions[-1]["items"] >= PARTITION_ROWS or self._part_bytes >= PARTITION_BYTES:
            self._close_partition()

    def _close_partition(self) -> None:
        if self._parquet is not None:
            self._parquet.close()
            self._partitions[-1]["footer"] = crc32(_end_of(self.folder / self._partitions[-1]["file"]))
        self._parquet, self._part_bytes = None, 0

    def _description(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "items": self.items,
            "pictures": self.pictures,
            "packed": not self._unpacked,
            "root": _stored_root(self.root, self.path) if self.root is not None and self._unpacked else None,
            "fingerprint": self._hash.hexdigest(),
            **self.about,
            "partitions": self._partitions,
        }


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


def _canonical(item: Item) -> bytes:
    digests = [picture.digest for picture in item.pictures]
    content = [item.id, item.title, item.brand, item.category, list(item.attributes.items()), item.price, digests]
    offer = [getattr(item, name) for name in OFFER]
    content += [offer] if any(one is not None for one in offer) else []  # else as before there were any
    return json.dumps(content).encode() + b"\n"


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


def _end_of(source: Path | io.RawIOBase) -> bytes:
    """Read the end of a Parquet file, which says where all else stands; pages have their own checksums."""
    with source.open("rb") if isinstance(source, Path) else source as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        length = int.from_bytes(file.read(4) or b"", "little") + 8
        file.seek(max(0, size - length))
        return file.read(length) or b""


def _footer(place: Disk | Objects, name: str, items: int, check: int | None) -> pq.FileMetaData:
    file = place.where(name)
    try:
        end = _end_of(place.source(name))
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


def _stored_root(root: Path, path: Path) -> str:
    """Store a root inside the catalogue's folder, or beside it, relative to it, so that both can move together."""
    relative = os.path.relpath(root.absolute(), path.absolute())
    near = not relative.startswith(os.path.join("..", ".."))  # noqa: PTH118
    return relative if near else str(root.absolute())
