"""Catalogues to and from Hugging Face `datasets`, with their pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.importer import import_catalog
from tgqformer.catalog.item import OFFER, Item, Picture
from tgqformer.catalog.pictures import PictureError, picture_bytes
from tgqformer.catalog.report import ImportReport
from tgqformer.errors import TgqError
from tgqformer.files import write_text
from tgqformer.packages import check_there
from tgqformer.progress import track
from tgqformer.stages import atomic_folder

KIND = "dataset"
ROWS, BYTES = 100_000, 512 << 20
"""Most of one Parquet file."""
_GROUP = 64
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_TEXTS = ("id", "title", "brand", "attributes", *(name for name in OFFER if name != "sale_price"))
_NUMBERS = ("price", "sale_price")
_VALUE = {name: {"dtype": "string", "_type": "Value"} for name in _TEXTS} | {
    name: {"dtype": "float64", "_type": "Value"} for name in _NUMBERS
}
FEATURES: dict[str, Any] = _VALUE | {
    "category": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
    "pictures": {"feature": {"_type": "Image"}, "_type": "List"},
}
"""What a row of a dataset holds, in the words of `datasets`; attributes are one text of JSON."""
SCHEMA = pa.schema(
    [
        *((name, pa.string() if name in _TEXTS else pa.float64()) for name in _VALUE),
        ("category", pa.list_(pa.string())),
        ("pictures", pa.list_(_IMAGE)),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": FEATURES}})},
)
CARD = """\
---
configs:
- config_name: default
  data_files: data/*.parquet
---
# {name}
{items:,} items of a shop: metadata, and pictures as they are. Made by `tgq catalog export`; `tgq catalog import FOLDER/data` reads it back.
"""  # noqa: E501


def export_catalog(catalog: Catalog, to: Path | str, *, overwrite: bool = False, shown: bool = False) -> Path:
    """Write a catalogue as Parquet files that `datasets.load_dataset(folder)` reads, pictures of its feature `Image`.

    Raises:
        TgqError: where something stands at `to` that may not be replaced, or the catalogue is empty.
        PictureError: for a picture that is gone.
    """
    if not len(catalog):
        raise TgqError(f"{catalog.path} holds no item; there is nothing to export")
    with atomic_folder(Path(to), KIND, overwrite=overwrite) as folder:
        (folder / "data").mkdir()
        rows = track(rows_of(catalog), "exporting", len(catalog), shown=shown)
        for number, part in enumerate(_parts(rows)):
            with pq.ParquetWriter(folder / "data" / f"items-{number:05d}.parquet", SCHEMA) as writer:
                for group in part:
                    writer.write_table(pa.Table.from_pylist(group, SCHEMA))
        write_text(folder / "README.md", CARD.format(name=catalog.name, items=len(catalog)))
    return Path(to)


def to_dataset(catalog: Catalog) -> Any:
    """Return a catalogue as a `datasets.Dataset`, pictures of its feature `Image`; its rows stream through the cache.

    Raises:
        TgqError: where `datasets` is not installed.
    """
    check_there(["datasets"])
    from datasets import Dataset, Features

    return Dataset.from_generator(rows_of, features=Features.from_dict(FEATURES), gen_kwargs={"catalog": catalog})


def from_dataset(dataset: Any, to: Path | str, **how: Any) -> ImportReport:
    """Import a `datasets.Dataset` into a new catalogue, pictures stored in it; return the report of the import.

    Args:
        dataset: with a column of ids; its columns are understood as those of every source are.
        to: the new catalogue. how: see `ImportSettings`, such as `mapping={"pictures": "photo"}`.

    Raises:
        TgqError: as `import_catalog`, or where `datasets` is not installed.
    """
    check_there(["datasets"])
    target = Path(to)
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=".dataset-") as place:
        dataset.save_to_disk(f"{place}/saved")
        return import_catalog(Path(place, "saved"), target, **{"pack": True, "name": target.name, **how})


def rows_of(catalog: Catalog) -> Iterator[dict[str, Any]]:
    """Stream the items of a catalogue as rows of `FEATURES`. Raise PictureError for a picture that is gone."""
    for item in catalog.items():
        yield _row(item, catalog.root)


def _row(item: Item, root: Path | None) -> dict[str, Any]:
    try:
        pictures = [{"bytes": picture_bytes(one, root), "path": _name(one)} for one in item.pictures]
    except PictureError as error:
        told = f"the picture of item {item.id!r} cannot be read: {error}; bring it back, or import the catalogue anew"
        raise PictureError(error.kind, told) from error
    attributes = json.dumps(dict(item.attributes), ensure_ascii=False) if item.attributes else None
    plain = {name: getattr(item, name) for name in ("id", "title", "brand", "price", *OFFER)}
    return plain | {"attributes": attributes, "category": list(item.category), "pictures": pictures}


def _name(picture: Picture) -> str | None:
    return picture.path and Path(picture.path).name


def _parts(rows: Iterator[dict[str, Any]]) -> Iterator[Iterator[list[dict[str, Any]]]]:
    """Cut rows into files, and each file into groups of rows."""
    first = next(rows, None)

    def groups() -> Iterator[list[dict[str, Any]]]:
        nonlocal first
        count = size = 0
        while first is not None and count < ROWS and size < BYTES:
            group: list[dict[str, Any]] = []
            while first is not None and len(group) < _GROUP:
                group.append(first)
                size += sum(len(one["bytes"]) for one in first["pictures"])
                first = next(rows, None)
            count += len(group)
            yield group

    while first is not None:
        yield groups()
