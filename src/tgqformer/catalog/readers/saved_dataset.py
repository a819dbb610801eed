"""Folders that Hugging Face `datasets` wrote by `save_to_disk`, read without that library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from tgqformer.catalog.mapping import ColumnMapping
from tgqformer.catalog.readers.base import SourceRow
from tgqformer.errors import TgqError
from tgqformer.files import read_json

STATE, SPLITS = "state.json", "dataset_dict.json"
_BATCH = 64


class SavedDatasetReader:
    """Reads one saved dataset; pictures are a column of the feature `Image`, or of a list of them."""

    name = "datasets"
    about = "a folder written by save_to_disk of Hugging Face datasets; pictures are of its feature Image"
    mapping: ColumnMapping | None = None

    def sniff(self, path: Path) -> bool:
        """Say whether the folder says of itself that it is a dataset, or several."""
        return (path / SPLITS).is_file() or ((path / STATE).is_file() and (path / "dataset_info.json").is_file())

    def rows(self, path: Path, encoding: str | None = None) -> Iterator[SourceRow]:
        """Stream the rows of all its files; a damaged file ends with a row that says so.

        Raises:
            TgqError: for a folder of several splits: one is to be named.
        """
        if (path / SPLITS).is_file():
            splits = ", ".join(map(str, read_json(path / SPLITS).get("splits", [])))
            raise TgqError(f"{path} holds several splits ({splits}); name the folder of one, {path}/SPLIT")
        for file in read_json(path / STATE)["_data_files"]:
            yield from _rows(path / file["filename"])

    def root(self, path: Path) -> Path:
        """Return the folder itself; the paths of pictures that are not stored are whole."""
        return path


def _rows(file: Path) -> Iterator[SourceRow]:
    number = 0
    try:
        with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as batches:
            for batch in batches:
                for start in range(0, len(batch), _BATCH):
                    for fields in _plain(batch.slice(start, _BATCH)):
                        number += 1
                        yield SourceRow(file.name, number, fields)
    except (OSError, ValueError, pa.ArrowException) as error:
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        yield SourceRow(file.name, number + 1, reason=f"the dataset cannot be read from here on: {words}")


def _plain(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = batch.to_pylist()
    return rows
