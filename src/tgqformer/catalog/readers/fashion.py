"""*Fashion Product Images* (Param Aggarwal, Kaggle, MIT): as Parquet with its pictures, and in Kaggle's own layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tgqformer.catalog.mapping import ColumnMapping
from tgqformer.catalog.readers.base import FileReader, SourceRow, folder_of
from tgqformer.catalog.readers.parquet import SUFFIXES as PARQUET
from tgqformer.catalog.readers.parquet import columns_of, parquet_rows
from tgqformer.catalog.readers.table import header_of, table_rows

_MAPPING = ColumnMapping(
    id="id",
    title="title",
    category=("master_category", "sub_category"),
    attributes=("gender", "article_type", "base_colour", "season", "year", "usage"),
    pictures=("image",),
    missing=("NA",),
)
_KAGGLE_NAMES = {"masterCategory": "master_category", "subCategory": "sub_category", "articleType": "article_type"}
_KAGGLE_NAMES |= {"baseColour": "base_colour", "productDisplayName": "title"}


class KaggleFashionReader:
    """Reads Kaggle's layout: `styles.csv`, whose titles hold unquoted commas, and `images/{id}.jpg`."""

    name = "kaggle-fashion"
    about = "the Fashion Product Images set as on Kaggle: styles.csv and images/{id}.jpg"
    mapping: ColumnMapping | None = _MAPPING

    def sniff(self, path: Path) -> bool:
        """Say whether there is a `styles.csv` with the columns of this set."""
        file = _styles(path)
        return file.is_file() and ".csv" in file.name.lower() and {"id", *_KAGGLE_NAMES} <= set(header_of(file))

    def rows(self, path: Path, encoding: str | None = None) -> Iterator[SourceRow]:
        """Stream the products; surplus commas belong to the title."""
        for row in table_rows(_styles(path), encoding, join_last=True):
            if row.fields is None:
                yield row
                continue
            fields = {_KAGGLE_NAMES.get(name, name): value for name, value in row.fields.items()}
            fields["image"] = f"images/{str(fields.get('id', '')).strip()}.jpg"
            yield _whole_year(replace(row, fields=fields))

    def root(self, path: Path) -> Path:
        """`images/` lies beside `styles.csv`."""
        return folder_of(path)


def _styles(path: Path) -> Path:
    return path / "styles.csv" if path.is_dir() else path


def _whole_year(row: SourceRow) -> SourceRow:
    """Write a year that went through a float column ("2011.0") as a whole number."""
    if row.fields is None or not str(row.fields.get("year", "")).endswith(".0"):
        return row
    return replace(row, fields={**row.fields, "year": str(row.fields["year"])[:-2]})


FASHION = FileReader(
    "fashion",
    "the Fashion Product Images set as Parquet files with the pictures inside",
    PARQUET,
    lambda file, _: map(_whole_year, parquet_rows(file)),
    _MAPPING,
    lambda file: set(_MAPPING.columns()) <= columns_of(file),
)
