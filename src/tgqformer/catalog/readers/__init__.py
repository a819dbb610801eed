"""The readers: one file each, one line here. The first whose `sniff` says yes reads a source."""

from __future__ import annotations

from pathlib import Path

from tgqformer.catalog.readers.amazon import AMAZON_2018, AMAZON_2023
from tgqformer.catalog.readers.base import Reader, SourceRow
from tgqformer.catalog.readers.fashion import FASHION, KaggleFashionReader
from tgqformer.catalog.readers.feed import FEED
from tgqformer.catalog.readers.flat_file import AMAZON_FLAT_FILE
from tgqformer.catalog.readers.folder import ItemFoldersReader, PicturesReader
from tgqformer.catalog.readers.google import GOOGLE_MERCHANT
from tgqformer.catalog.readers.hm import HMReader
from tgqformer.catalog.readers.imported import CatalogReader
from tgqformer.catalog.readers.jsonlines import JSON_LINES
from tgqformer.catalog.readers.lines import packer_of
from tgqformer.catalog.readers.magento import MAGENTO
from tgqformer.catalog.readers.parquet import PARQUET
from tgqformer.catalog.readers.saved_dataset import SavedDatasetReader
from tgqformer.catalog.readers.shops import SHOPIFY, WOOCOMMERCE
from tgqformer.catalog.readers.table import TABLES, TEXT_TABLES
from tgqformer.errors import TgqError, nearest

__all__ = ["BY_DAY", "READERS", "Reader", "SourceRow", "choose_reader"]

READERS: tuple[Reader, ...] = (
    CatalogReader(),
    SavedDatasetReader(),
    FASHION,
    KaggleFashionReader(),
    HMReader(),
    AMAZON_2023,
    AMAZON_2018,
    SHOPIFY,
    WOOCOMMERCE,
    MAGENTO,
    GOOGLE_MERCHANT,
    AMAZON_FLAT_FILE,
    PARQUET,
    JSON_LINES,
    TABLES,
    TEXT_TABLES,
    FEED,
    PicturesReader(),
    ItemFoldersReader(),
)
BY_DAY: tuple[Reader, ...] = (WOOCOMMERCE, MAGENTO, GOOGLE_MERCHANT, AMAZON_FLAT_FILE)
"""Those that read the same files otherwise on another day, see `products.holds_today`."""


def choose_reader(path: Path, name: str | None = None) -> Reader:
    """Return the reader called `name`, or the first that recognises `path`. Raise TgqError where there is none."""
    if not path.exists():
        raise TgqError(f"there is nothing at {path}; check the path of the source")
    if name is not None:
        by_name = {reader.name: reader for reader in READERS}
        if name in by_name:
            return by_name[name]
        raise TgqError(f"there is no reader {name!r}; {nearest(name, by_name, 'there are')}")
    for reader in READERS:
        if reader.sniff(path):
            return reader
    if path.is_file():
        try:
            packer_of(path)  # says what it is, where that is known
        except OSError as error:
            raise TgqError(f"{path} cannot be read: {error}") from error
    known = "\n".join(f"  {reader.name}: {reader.about}" for reader in READERS)
    raise TgqError(f"no reader recognises {path}. These are read:\n{known}")
