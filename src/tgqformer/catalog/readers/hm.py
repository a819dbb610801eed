"""*H&M Personalized Fashion Recommendations* (Kaggle): `articles.csv`, `images/<first 3>/<id>.jpg`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tgqformer.catalog.mapping import ColumnMapping
from tgqformer.catalog.readers.base import SourceRow, folder_of
from tgqformer.catalog.readers.table import header_of, table_rows

ID_LENGTH = 10
_NAMED = (
    "colour_group perceived_colour_value perceived_colour_master graphical_appearance department section garment_group"
)
_MAPPING = ColumnMapping(
    id="article_id",
    title="prod_name",
    category=("index_group_name", "product_group_name", "product_type_name"),
    attributes=(*(f"{name}_name" for name in _NAMED.split()), "detail_desc"),
    pictures=("picture",),
)


class HMReader:
    """Reads H&M's articles; ids stay texts of ten digits, with their leading zero."""

    name = "hm"
    about = "H&M's articles.csv and images/<first 3>/<article_id>.jpg"
    mapping: ColumnMapping | None = _MAPPING

    def sniff(self, path: Path) -> bool:
        """Say whether there is an `articles.csv` with H&M's columns."""
        file = _articles(path)
        return file is not None and {"article_id", "prod_name"} <= set(header_of(file))

    def rows(self, path: Path, encoding: str | None = None) -> Iterator[SourceRow]:
        """Stream the articles; an id that lost its leading zero on the way gets it back."""
        file = _articles(path)
        for row in table_rows(file, encoding) if file is not None else ():
            if row.fields is None:
                yield row
                continue
            number = str(row.fields.get("article_id", "")).strip()
            number = number.zfill(ID_LENGTH) if number.isdigit() else number
            picture = f"images/{number[:3]}/{number}.jpg" if number else None
            yield replace(row, fields={**row.fields, "article_id": number, "picture": picture})

    def root(self, path: Path) -> Path:
        """`images/` lies beside `articles.csv`."""
        return folder_of(path)


def _articles(path: Path) -> Path | None:
    names = (path / "articles.csv", path / "articles.csv.gz") if path.is_dir() else (path,)
    return next((file for file in names if file.is_file() and ".csv" in file.name.lower()), None)
