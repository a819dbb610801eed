"""Writes that are whole or not there at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write a file or folder to; rename it to `path` only if the block succeeds.

    A folder that already stands at `path` is replaced; whatever the block raises, `path` keeps its old content. A
    folder takes two renames, so a process that is killed between them leaves none; `restore` puts the old one back.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        yield unfinished
        if unfinished.is_dir() and path.exists():
            old = path.with_name(f".{path.name}.{uuid4().hex[:8]}.old")
            path.replace(old)
            unfinished.replace(path)
            shutil.rmtree(old)
        else:
            _sync(unfinished)
            unfinished.replace(path)
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished)
        else:
            unfinished.unlink(missing_ok=True)


def restore(path: Path) -> bool:
    """Put back a folder that a kill between the two renames of `atomic_path` took away; say whether `path` is there.

    Also removes what killed writers of `path` left beside it; call it where no other process writes `path`.
    """
    old = sorted(path.parent.glob(f".{path.name}.*.old"), key=lambda one: one.stat().st_mtime)
    if old and not path.exists():
        old.pop().replace(path)
    for left in (*old, *path.parent.glob(f".{path.name}.*.tmp")):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return path.exists()


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, indented, non-ASCII kept readable."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON written by `write_json`."""
    return json.loads(path.read_text(encoding="utf-8"))


def _sync(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())
