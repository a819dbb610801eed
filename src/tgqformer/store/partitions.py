"""A folder of Arrow partitions and a manifest, written by jobs that may be killed at any moment, by several at once.

    folder/
      tgq.json             our note, see `stages.mark`
      manifest.json        what all partitions share: at least `count` and `partition_size`
      part-00000.arrow     one Arrow IPC file a partition, whole or not there at all
      part-00001.arrow     ...

Row `i` of the whole is row `i % partition_size` of partition `i // partition_size`. The files are uncompressed, so that
reading one maps it into memory and copies nothing; pandas, polars and DuckDB read them too.

The folder may be an address in an object store (`objects.py`): then each file is an object, fetched when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from tgqformer.errors import TgqError
from tgqformer.files import (
    clear_abandoned,
    is_checked,
    make_folder,
    read_arrow,
    replace_folder,
    with_check,
    write_arrow,
    write_json_once,
)
from tgqformer.objects import Disk, object_address, place_at, told
from tgqformer.stages import NOTE, check_ours, clear, mark

FORMAT = 1
HEAD = 16 << 10  # bytes in which the schema of a partition mostly lies


UNSAID = {"precision": "float32", "found": "exact", "cuttable": None}
"""What manifests of earlier versions do not say, and how it was; None where nobody knows.

Approximate neighbours had a report beside."""
APPROXIMATE, MANIFEST = "approximate.json", "manifest.json"


class PartitionFolder:
    """Partitions of one kind (`embeddings`, `neighbours`) made by one `command`; the words go into the errors."""

    def __init__(self, path: Path, manifest: Mapping[str, Any], *, kind: str, command: str) -> None:
        self.path, self.manifest, self.place = path, manifest, place_at(path)
        self.count, self.partition_size = int(manifest["count"]), int(manifest["partition_size"])
        self._kind, self._command = kind, command
        self.sealed = True  # whether each file has a checksum; those of an earlier version have none
        self._instead: Path | None = None  # where it will stand once it is whole

    @classmethod
    def create(
        cls, path: Path, manifest: Mapping[str, Any], *, kind: str, command: str, overwrite: bool = False
    ) -> PartitionFolder:
        """Start a folder, or take up the one that another job began: a killed one, or one that is at work beside this.

        Partitions with another manifest are replaced where `overwrite` says so: the new ones are written to a hidden
        folder beside, and take their place by `finish`.

        Raises: TgqError where `path` holds something else, or partitions with another manifest.
        """
        check_ours(path, kind)
        if place_at(path).has(MANIFEST):
            try:
                return cls._taken_up(path, manifest, kind, command)
            except TgqError:
                if not overwrite:
                    raise
            if address := object_address(path):
                raise TgqError(f"{address} holds other {kind}, and objects are never replaced; choose another address")
            return cls._begun_beside(path.resolve(), manifest, kind, command)
        return cls._begun(path, manifest, kind, command)

    @classmethod
    def _taken_up(cls, path: Path, manifest: Mapping[str, Any], kind: str, command: str) -> PartitionFolder:
        found = cls.open(path, manifest.keys(), kind=kind, command=command)
        found._refuse_mix(manifest)
        for left in path.glob(".*.tmp"):
            clear_abandoned(left)
        return found

    @classmethod
    def _begun_beside(cls, path: Path, manifest: Mapping[str, Any], kind: str, command: str) -> PartitionFolder:
        beside = path.with_name(f".{path.name}.next")
        try:
            found = cls._taken_up(beside, manifest, kind, command)
        except TgqError:
            clear(beside, kind)
            found = cls._begun(beside, manifest, kind, command)
        found._instead = path
        return found

    @classmethod
    def _begun(cls, path: Path, manifest: Mapping[str, Any], kind: str, command: str) -> PartitionFolder:
        place = place_at(path)
        make_folder(place.here)
        if not place.has(NOTE):
            mark(place.here, kind)
            place.keep(NOTE)
        content = {"kind": kind, "format": FORMAT, "sealed": True, **manifest}
        write_json_once(place.here / MANIFEST, with_check(content))
        place.keep(MANIFEST)
        return cls._taken_up(path, manifest, kind, command)

    @classmethod
    def open(cls, path: Path, names: Any, *, kind: str, command: str) -> PartitionFolder:
        """Open a folder made by `create`, complete or not; `names` are the manifest's keys.

        Raises: TgqError where there is no readable manifest of this kind and format.
        """
        try:
            content = json.loads(place_at(path).read(MANIFEST) or b"")
        except (OSError, ValueError) as error:
            raise TgqError(
                f"{told(path)} holds no {kind} (no readable manifest.json); make them by `tgq {command}`"
            ) from error
        if not isinstance(content, dict) or content.get("kind") != kind or not set(names) <= {*content, *UNSAID}:
            raise TgqError(
                f"{told(path / 'manifest.json')} is no manifest of {kind}; make the folder anew by `tgq {command}`"
            )
        if (found := content.get("format")) != FORMAT:
            raise TgqError(
                f"{told(path)} has format {found}, this version reads {FORMAT}; make it anew by `tgq {command}`"
            )
        if not is_checked(content):
            raise TgqError(f"{told(path / 'manifest.json')} is damaged; make the folder anew by `tgq {command}`")
        if "found" not in content and "found" in names and place_at(path).has(APPROXIMATE):
            content["found"] = "approximate"
        found = cls(path, {name: {**UNSAID, **content}[name] for name in names}, kind=kind, command=command)
        found.sealed = "sealed" in content
        return found

    def __len__(self) -> int:
        return -(-self.count // self.partition_size)

    def bounds(self, partition: int) -> tuple[int, int]:
        """Return the positions [start, stop) of the rows of a partition."""
        if not 0 <= partition < len(self):
            raise TgqError(
                f"{told(self.path)} has {len(self)} partitions, counted from 0; there is no partition {partition}"
            )
        start = partition * self.partition_size
        return start, min(start + self.partition_size, self.count)

    def missing(self) -> list[int]:
        """List the partitions that are not yet written, in order."""
        there = self.place.names()
        return [number for number in range(len(self)) if part_name(number) not in there]

    def has(self, partition: int) -> bool:
        """Say whether a partition is written."""
        return self.place.has(part_name(partition))

    def notes(self, name: str) -> dict[str, Any]:
        """Join what the partitions that are written say of themselves under a name (`write`)."""
        found: dict[str, Any] = {}
        missing = set(self.missing())
        for number in (number for number in range(len(self)) if number not in missing):
            try:
                schema = self._schema(number)
            except (OSError, pa.ArrowInvalid) as error:
                raise self._damaged(number) from error
            found |= json.loads((schema.metadata or {}).get(name.encode(), b"{}"))
        return found

    def _schema(self, partition: int) -> Any:
        """Read the schema of a partition, from the first bytes of its file alone."""
        start = self.place.start_of(part_name(partition), HEAD)
        length = int.from_bytes(start[12:16], "little")  # behind the format's name and four bytes that are always set
        whole = start if 16 + length <= HEAD else self.place.start_of(part_name(partition), 16 + length)
        return pa.ipc.read_schema(pa.py_buffer(whole[8:]))

    def write(self, partition: int, table: Any, **notes: Mapping[str, Any]) -> None:
        """Write an Arrow table as one partition, whole or not at all; one that is there is replaced.

        notes: what else is to be known of it, see the method of this name.
        """
        said = {name: json.dumps(note, ensure_ascii=False) for name, note in notes.items() if note}
        self.put(part_name(partition), table.replace_schema_metadata(said) if said else table)

    def put(self, name: str, table: Any) -> None:
        """Write an Arrow table as a file of the folder, with its checksum, whole or not at all.

        In an object store, one that is there stays.
        """
        write_arrow(self.place.here / name, table)
        self.place.keep(name)

    def fetch(self) -> None:
        """Bring all partitions to this machine, several at once, where they are not."""
        self.place.fetch(map(part_name, range(len(self))))

    def read(self, partition: int) -> Any:
        """Return one partition as an Arrow table mapped from disk; raises TgqError where it is missing or damaged.

        Its checksum is looked at first, so all of it is read once.
        """
        start, stop = self.bounds(partition)
        file = self.place.file(part_name(partition))
        if not file.exists():
            place = told(self.path / file.name)
            raise TgqError(f"{place} is not written yet; run the same `tgq {self._command}` again")
        try:
            table = read_arrow(file, sealed=self.sealed)
        except (OSError, pa.ArrowInvalid) as error:
            raise self._damaged(partition) from error
        if table.num_rows != stop - start:
            raise self._damaged(partition)
        return table

    def finish(self) -> None:
        """Take the place of the folder that is to be replaced, if there is one, in one step.

        Raises: TgqError unless every partition is written.
        """
        self.require_complete()
        if self._instead is not None:
            check_ours(self._instead, self._kind)
            replace_folder(self.path, self._instead)
            self.path, self.place, self._instead = self._instead, Disk(self._instead), None

    def require_complete(self) -> None:
        """Raise TgqError unless every partition is written."""
        if missing := self.missing():
            some = ", ".join(map(str, missing[:10])) + (", …" if len(missing) > 10 else "")
            raise TgqError(
                f"{told(self.path)} lacks {len(missing)} of {len(self)} partitions ({some});"
                f" run the same `tgq {self._command}` again, it goes on where it stopped"
            )

    def _damaged(self, partition: int) -> TgqError:
        file = told(self.path / part_name(partition))
        return TgqError(f"{file} is damaged; remove it and run the same `tgq {self._command}` again")

    def _refuse_mix(self, wanted: Mapping[str, Any]) -> None:
        for name, value in self.manifest.items():
            if value is not None and value != wanted[name]:
                digests = len(str(value)) == len(str(wanted[name])) == 32
                what = f"of other {name}" if digests else f"with {name} {value!r}, not {wanted[name]!r}"
                raise TgqError(
                    f"{told(self.path)} holds {self._kind} {what}; they must not be mixed: choose another folder, or"
                    " replace it with --overwrite"
                )


def part_name(partition: int) -> str:
    """Name the file of a partition."""
    return f"part-{partition:05d}.arrow"


def matrix_column(matrix: Any) -> Any:
    """Turn a C-contiguous numpy array [n, w] into an Arrow column of fixed-size lists of width w, without a copy."""
    if not matrix.shape[1]:  # Arrow has no fixed-size lists of width 0
        return pa.array([[]] * len(matrix), pa.list_(pa.from_numpy_dtype(matrix.dtype)))
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])


def column_matrix(table: Any, name: str, width: int) -> Any:
    """Turn such a column back into a read-only array [n, w] that lies on the mapped file."""
    return table[name].combine_chunks().flatten().to_numpy(zero_copy_only=True).reshape(table.num_rows, width)
