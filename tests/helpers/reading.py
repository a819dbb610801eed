"""Small files as shops have them, and what the readers of `tgqformer.catalog.readers` find in them."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from tgqformer.catalog import Catalog, Item, import_catalog
from tgqformer.catalog.readers import choose_reader
from tgqformer.catalog.readers.base import Reader, SourceRow


def jpeg(shade: int = 0) -> bytes:
    buffer = BytesIO()
    image = Image.new("RGB", (12, 16), (200, shade * 40 % 256, 30))
    image.paste((0, 90, 250), (0, 0, 4, 4))  # of one colour throughout it would be blank
    image.save(buffer, "JPEG")
    return buffer.getvalue()


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def reader(name: str) -> Reader:
    return choose_reader(Path(), name)


def rows(name: str, path: Path) -> list[SourceRow]:
    return list(reader(name).rows(path))


def fields(name: str, path: Path) -> list[dict[str, Any]]:
    found = rows(name, path)
    assert all(row.fields is not None for row in found), [row.reason for row in found]
    return [dict(row.fields or {}) for row in found]


def imported(source: Path, **options: Any) -> tuple[list[Item], Catalog]:
    import_catalog(source, source.parent / "imported", **options)
    catalog = Catalog.open(source.parent / "imported")
    return list(catalog.items()), catalog
