"""Folders of pictures without any table."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tgqformer.catalog.mapping import ColumnMapping
from tgqformer.catalog.pictures import begins_as_picture
from tgqformer.catalog.readers.base import SourceRow

_ENDINGS = "jpg jpeg jpe jfif png webp gif bmp tif tiff avif jp2 ppm pgm"
SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS.split())
_MAPPING = ColumnMapping(id="id", category=("category",), pictures=("pictures",))
_CLUTTER = frozenset({"thumbs.db", "desktop.ini"})


def may_be_picture(file: Path) -> bool:
    """Say whether a file that a table names may be a picture: by the ending of its name, else by its first bytes."""
    return file.suffix.lower() in SUFFIXES or begins_as_picture(file)


class PicturesReader:
    """Reads a folder of pictures: every picture is an item, its folders are the category."""

    name = "pictures"
    about = "a folder of pictures: one item a picture, id = path without ending, sub-folders = category"
    mapping: ColumnMapping | None = _MAPPING

    def sniff(self, path: Path) -> bool:
        """Say whether there is a picture somewhere in the folder."""
        return path.is_dir() and any(_is_picture(name) for _, _, names in os.walk(path) for name in names)

    def rows(self, path: Path, encoding: str | None = None) -> Iterator[SourceRow]:
        """Stream one row a file, sorted by path."""
        for folder, names in _folders(path):
            for name in names:
                inside = (folder / name).relative_to(path)
                if not _is_picture(name):
                    yield SourceRow(str(inside), 1, reason="not a picture by the ending of its name")
                    continue
                found = {
                    "id": str(inside.with_suffix("")),
                    "category": list(inside.parts[:-1]),
                    "pictures": [str(inside)],
                }
                yield SourceRow(str(inside), 1, found)

    def root(self, path: Path) -> Path:
        """Picture names are relative to the folder."""
        return path


class ItemFoldersReader:
    """Reads folders of pictures where every innermost folder is one item with several pictures."""

    name = "item-folders"
    about = (
        "folders of pictures: one item a folder (all pictures in it), the folders above = category; ask for it by name"
    )
    mapping: ColumnMapping | None = _MAPPING

    def sniff(self, path: Path) -> bool:
        """Say no: such a folder looks like a folder of pictures, so this reader must be asked for."""
        return False

    def rows(self, path: Path, encoding: str | None = None) -> Iterator[SourceRow]:
        """Stream one row a folder that holds pictures, sorted by path."""
        for folder, names in _folders(path):
            pictures = [str((folder / name).relative_to(path)) for name in names if _is_picture(name)]
            inside = folder.relative_to(path)
            if pictures and inside.parts:
                yield SourceRow(
                    str(inside), 1, {"id": str(inside), "category": list(inside.parts[:-1]), "pictures": pictures}
                )
            for name in names:
                if not _is_picture(name) or not inside.parts:
                    reason = (
                        "a picture outside any item's folder" if _is_picture(name) else "not a picture by its ending"
                    )
                    yield SourceRow(str(inside / name), 1, reason=reason)

    def root(self, path: Path) -> Path:
        """Picture names are relative to the folder."""
        return path


def _folders(path: Path) -> Iterator[tuple[Path, list[str]]]:
    """Walk through the folders in order; hidden files and folders, and catalogues, are no part of the source."""
    for folder, below, names in os.walk(path):
        if "catalog.json" in names:
            below.clear()
            continue
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield Path(folder), sorted(name for name in names if not name.startswith(".") and name.lower() not in _CLUTTER)


def _is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES
