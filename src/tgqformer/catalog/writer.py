"""The one way to write a catalogue: items come one by one, and a whole folder appears at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from zlib import crc32

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from tgqformer.catalog.catalog import ABOUT, FORMAT, KIND, PICTURES_LIGHT, SCHEMA, VERSION, Catalog, end_of
from tgqformer.catalog.checks import SeenIds
from tgqformer.catalog.item import OFFER, Item, Picture
from tgqformer.catalog.pictures import look_of, picture_bytes
from tgqformer.errors import TgqError
from tgqformer.files import link_or_copy, with_check, write_json
from tgqformer.stages import atomic_folder, make_way

GROUP_ROWS, GROUP_SHOWN, GROUP_BYTES = 1024, 256, 16 << 20
"""A row group ends with so many items, so many that have pictures, or so many bytes of pictures."""
PARTITION_ROWS, PARTITION_BYTES = 100_000, 512 << 20

_DATA = "pictures.list.element.data"
_ATTRIBUTES = ["attributes.key_value.key", "attributes.key_value.value"]
_PICTURES = SCHEMA.names.index("pictures")
_LEAVES = ["id", "title", "brand", "category.list.element", *_ATTRIBUTES, "price", *PICTURES_LIGHT, _DATA, *OFFER]


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
        self._rows: list[tuple[Any, ...]] = []
        self._row_bytes = self._part_bytes = self._shown = 0
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
        self._hash.update(_canonical([_content(item)]))
        self._rows.append(row)
        pictures = row[_PICTURES]
        self._row_bytes += sum(len(picture["data"] or b"") for picture in pictures)
        self.items += 1
        self.pictures += len(pictures)
        self._shown += bool(pictures)
        self._unpacked += sum(picture["data"] is None for picture in pictures)
        if len(self._rows) >= GROUP_ROWS or self._shown >= GROUP_SHOWN or self._row_bytes >= GROUP_BYTES:
            self._flush()

    def add_plain(self, items: Sequence[tuple[Any, ...]]) -> None:
        """Add items without pictures: their values in the order of `Item`, attributes as pairs; a text is None or full.

        The caller vouches for their ids.
        """
        self._hash.update(_canonical(items))
        self.items += len(items)
        start = 0
        while start < len(items):
            some = items[start : start + GROUP_ROWS - len(self._rows)]
            self._rows += some
            start += len(some)
            if len(self._rows) >= GROUP_ROWS:
                self._flush()

    def adopt(self, catalog: Catalog) -> Iterator[Item]:
        """Take over the files of another catalogue, which stays; yield its items, without the bytes of their pictures.

        The caller vouches for their ids.
        """
        self._flush()
        self._close_partition()
        for part in catalog.about["partitions"]:
            name = _name(len(self._partitions))
            link_or_copy(catalog.path / part["file"], self.folder / name)
            self._partitions.append({**part, "file": name})
        self._unpacked += not catalog.about["packed"]
        items = catalog.items(pictures=False)
        while some := list(islice(items, GROUP_ROWS)):
            self._hash.update(_canonical([_content(item) for item in some]))
            self.items += len(some)
            self.pictures += sum(len(item.pictures) for item in some)
            yield from some

    def _row(self, item: Item) -> tuple[Any, ...]:
        """Return the values of an item in the order of `SCHEMA`."""
        pictures = [self._picture(picture, first=not place) for place, picture in enumerate(item.pictures)]
        texts = (item.id, item.title or None, item.brand or None)
        return (*texts, item.category, list(item.attributes.items()), item.price, pictures, *_offer(item))

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
            name = _name(len(self._partitions))
            self._partitions.append({"file": name, "items": 0})
            self._parquet = pq.ParquetWriter(
                self.folder / name,
                SCHEMA,
                compression={leaf: "none" if leaf == _DATA else "zstd" for leaf in _LEAVES},
                use_dictionary=["brand", "category.list.element", *_ATTRIBUTES, "availability", "currency", "created"],
                write_statistics=["id", "price"],
                write_page_checksum=True,
            )
        columns = zip(*self._rows, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        self._parquet.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), row_group_size=GROUP_ROWS)
        self._partitions[-1]["items"] += len(self._rows)
        self._part_bytes += self._row_bytes
        self._rows, self._row_bytes, self._shown = [], 0, 0
        if self._partitions[-1]["items"] >= PARTITION_ROWS or self._part_bytes >= PARTITION_BYTES:
            self._close_partition()

    def _close_partition(self) -> None:
        if self._parquet is not None:
            self._parquet.close()
            self._partitions[-1]["footer"] = crc32(end_of(self.folder / self._partitions[-1]["file"]))
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


def _name(partition: int) -> str:
    return f"items-{partition:05d}.parquet"


def _offer(item: Item) -> tuple[Any, ...]:
    return (item.item_group, item.availability, item.sale_price, item.currency, item.created)


def _content(item: Item) -> tuple[Any, ...]:
    """Return the values of an item in the order of `SCHEMA`, of its pictures the digests."""
    digests = [picture.digest for picture in item.pictures]
    texts = (item.id, item.title, item.brand)
    return (*texts, item.category, list(item.attributes.items()), item.price, digests, *_offer(item))


def _canonical(contents: Sequence[tuple[Any, ...]]) -> bytes:
    """Return what the fingerprint is made of: each item as JSON with a comma after it. Raise TgqError for no values."""
    try:
        return orjson.dumps(contents, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1] + b"," if contents else b""
    except orjson.JSONEncodeError as error:
        raise TgqError(f"an item holds a value that no catalogue can keep: {error}") from error


def _stored_root(root: Path, path: Path) -> str:
    """Store a root inside the catalogue's folder, or beside it, relative to it, so that both can move together."""
    relative = os.path.relpath(root.absolute(), path.absolute())
    near = not relative.startswith(os.path.join("..", ".."))  # noqa: PTH118
    return relative if near else str(root.absolute())
