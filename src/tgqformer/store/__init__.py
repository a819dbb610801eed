"""Embeddings on disk, the versioned vector tables that are served, and exact neighbours in bulk."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tgqformer.errors import TgqError
from tgqformer.packages import check_there

if TYPE_CHECKING:
    from tgqformer.store.base import Store

POSTGRES = ("postgresql://", "postgres://")


def open_store(where: Path | str, *, index_cache: int | None = None) -> Store:
    """Open a store: a folder, the URI of an object store (`s3://...`), or `postgresql://user@host/database`.

    index_cache: bytes of memory that LanceDB may take for the indexes of a version; by default half as much again as
        they need, and it grows with them. PostgreSQL keeps its indexes itself.

    Raises: TgqError where there is none.
    """
    from tgqformer.store.versions import VersionedStore

    place = str(where)
    if place.startswith(POSTGRES):
        return VersionedStore(_postgres().open_postgres(place))
    return VersionedStore(_lance().open_lance(place, index_cache))


def make_store(where: Path | str) -> Store:
    """Open a store as `open_store` does, or make an empty one where there is none.

    Raises: TgqError where a folder holds something else.
    """
    from tgqformer.store.versions import VersionedStore

    place = str(where)
    if place.startswith(POSTGRES):
        return VersionedStore(_postgres().make_postgres(place))
    return VersionedStore(_lance().make_lance(place))


def _lance() -> Any:
    check_there(["lancedb"])
    return import_module("tgqformer.store.lance")


def _postgres() -> Any:
    try:
        return import_module("tgqformer.store.postgres")
    except ImportError as error:
        raise TgqError(
            f"a store in PostgreSQL needs what `pip install 'tgqformer[postgres]'` installs ({error.name} is missing)"
        ) from error
