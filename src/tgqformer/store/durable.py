"""What LanceDB leaves to us: its files are on the disk before a write is acknowledged, and a power cut is mended.

LanceDB never syncs. A table is a folder of files that are written once and never changed; each transaction adds a few,
the last of them a manifest, whose name counts the transactions. So this is enough:

- After a transaction, all files that are new since the last one are synced, then the folders that hold them, and then
  the number of the manifest is written into a mark, a file of one line that is overwritten in place.
- A manifest beyond the mark was never acknowledged. When a table is opened, those of them that lack a file, or a part
  of one, are removed; the newest that is whole is taken, synced and marked.
- A transaction that fails after its manifest was written is taken back.

LanceDB checks nothing that it reads either: each file has a checksum of ours, which is looked at when a table opens.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import Any, Protocol

from filelock import FileLock, Timeout

from tgqformer.errors import TgqError
from tgqformer.files import read_number, sync_entries, write_number
from tgqformer.packages import need
from tgqformer.store.base import Unreachable
from tgqformer.store.lance_errors import remedy_of
from tgqformer.store.sums import Sums

_LAST = 2**64 - 1  # a manifest is named by this less its number, so that the newest comes first
_ENDS = {".lance": b"LANC", ".idx": b"LANC", ".manifest": b"LANC", ".arrow": b"ARROW1"}
_POLL = 0.002  # seconds
_PATIENCE = 60.0  # seconds to wait for a writer, when a table is opened in the middle of its work


class Durability(Protocol):
    """How the transactions of one table become durable."""

    def transaction(self) -> Any:
        """Hold the table alone while the block changes it; what it did is on the disk afterwards, or undone."""
        ...

    def upkeep(self) -> Any:
        """Hold the right to compact, beside writers, while the block runs."""
        ...

    def require_store(self) -> None:
        """Raise Unreachable where the store is gone."""
        ...

    def recover(self) -> None:
        """Mend what a power cut left; call it before the table is opened."""
        ...

    def check(self) -> None:
        """Read all files, and raise TgqError for one that is not as it was written."""
        ...

    def is_unborn(self) -> bool:
        """Say whether the table was cut off while it was made."""
        ...

    def forget(self) -> None:
        """Remove what is kept about a table that was dropped."""
        ...


class Remote:
    """An object store: a write that it took is durable."""

    def __init__(self) -> None:
        self._lock = RLock()

    def transaction(self) -> Any:
        """Hold the table alone in this process."""
        return self._lock

    def upkeep(self) -> Any:
        """Hold nothing: compacting beside writers is safe."""
        return ExitStack()

    def require_store(self) -> None:
        """Do nothing: LanceDB says it itself."""

    def recover(self) -> None:
        """Do nothing: there are no halves of files."""

    def check(self) -> None:
        """Do nothing: an object store checks what it keeps."""

    def is_unborn(self) -> bool:
        """Say no: a table is there or not."""
        return False

    def forget(self) -> None:
        """Do nothing: nothing is kept."""


class LocalFiles:
    """The files of one table on a local disk. Thread-safe; several processes may have one each.

    Args:
        store: folder of the store. name: of the table.
    """

    def __init__(self, store: Path, name: str) -> None:
        self.folder, self._mark = store / "tables" / f"{name}.lance", store / f".{name}.synced"
        # Lance lets writers of one table go at the same time, and then doubles a row once in a while.
        self._writing = FileLock(store / f".{name}.lock", poll_interval=_POLL)
        self._upkeep = FileLock(store / f".{name}.upkeep.lock", poll_interval=_POLL)
        self._known: dict[Path, set[str]] = {}
        self._sums = Sums(store / f".{name}.sums", self.folder, remedy_of(store, name))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the table alone while the block changes it; what it did is on the disk afterwards, or undone."""
        self.require_store()
        with self._writing:
            before = self.latest()
            try:
                yield
                if (now := self.latest()) != self.marked():
                    self._sync()
                    write_number(self._mark, now)
            except BaseException:  # what is answered with an error must not be there later
                self._take_back(before)
                raise

    @contextmanager
    def upkeep(self) -> Iterator[None]:
        """Hold the right to compact, beside writers, while the block runs."""
        self.require_store()
        with self._upkeep:
            yield

    def recover(self) -> None:
        """Take the newest manifest that is whole, and remove what a power cut left beyond it.

        Where a process is at work on the table nothing is done: no power was cut since that process began.

        Raises: TgqError where a state that was acknowledged is gone; an older one is not taken for it.
        """
        marked = self.marked()  # before the manifests: a writer makes its manifest first
        if 0 < self.latest() < marked and self._mark.exists():
            raise TgqError(
                f"{self.folder} has lost its newest state: files were removed, or copied while they were written;"
                f" {remedy_of(self._mark.parent, self.folder.stem)}; to take the older state that is there, remove"
                f" {self._mark}"
            )
        if self.latest() == self.marked() or not os.access(self.folder, os.W_OK):
            return
        with ExitStack() as held:
            try:
                held.enter_context(self._writing.acquire(timeout=_PATIENCE))
                held.enter_context(self._upkeep.acquire(timeout=0))
            except Timeout:
                return
            marked, there = self.marked(), self._numbers()
            if not there or there[0] == marked:
                return
            whole = next((number for number in there if number <= marked or is_whole(self.folder, number)), there[0])
            self._remove(number for number in there if number > whole)
            self._sync()
            write_number(self._mark, whole)

    def check(self) -> None:
        """Read all files, and raise TgqError for one that is not as it was written."""
        self._sums.check()

    def is_unborn(self) -> bool:
        """Say whether the table was cut off while it was made: it was never acknowledged, and no manifest is whole."""
        there = self._numbers()
        return self.folder.is_dir() and not self.marked() and not any(is_whole(self.folder, one) for one in there)

    def forget(self) -> None:
        """Remove the mark and the checksums of a table; without a mark it counts as dropped, not as damaged."""
        self._mark.unlink(missing_ok=True)
        self._sums.journal.unlink(missing_ok=True)

    def latest(self) -> int:
        """Return the number of the newest manifest; 0 where there is none."""
        return max(self._numbers(), default=0)

    def marked(self) -> int:
        """Return the number up to which all is on the disk; 0 where that is not known."""
        return read_number(self._mark) or 0

    def require_store(self) -> None:
        """Raise Unreachable where the store is gone: a lock or a write would make a part of it anew."""
        if not (self._mark.parent / "store.json").is_file():
            raise Unreachable(
                f"{self._mark.parent} is gone: no store.json is there any more; see what became of its disk"
            )

    def _numbers(self) -> list[int]:
        """Return the numbers of all manifests, newest first."""
        try:
            names = os.listdir(self.folder / "_versions")  # noqa: PTH208 - for each write
        except FileNotFoundError:
            return []
        found = (name.partition(".") for name in names)
        return sorted(
            (_LAST - int(stem) for stem, _, end in found if end == "manifest" and stem.isdigit()), reverse=True
        )

    def _sync(self) -> None:
        """Bring all files onto the disk that are new since the last call, and then the folders that hold them."""
        if self.folder not in self._known:
            sync_entries(self.folder.parent)
        known, folders, changed, new = {}, [self.folder], [], list[Path]()
        for folder in folders:
            known[folder], before = set[str](), self._known.get(folder, set())
            for entry in _entries(folder):
                known[folder].add(entry.name)
                if entry.is_dir():
                    folders.append(folder / entry.name)
                elif entry.name not in before:
                    _sync_file(folder / entry.name)
                    new.append(folder / entry.name)
            if not known[folder] <= before:
                changed.append(folder)
        for folder in changed:
            _sync_file(folder)
        self._known = known
        marked = self.marked()
        written = [one for one in new if one.suffix != ".json" and not one.name.startswith(".")]  # those change no more
        self._sums.add(written, [one for one in written if _number_of(one) > marked])

    def _take_back(self, before: int) -> None:
        """Remove the manifests that a failed transaction wrote; one who compacts meanwhile is waited for."""
        if self.latest() > before:
            with self._upkeep:
                self._remove(number for number in self._numbers() if number > before)

    def _remove(self, numbers: Iterator[int]) -> None:
        versions = self.folder / "_versions"
        gone = [versions / f"{_LAST - number}.manifest" for number in numbers]
        self._sums.drop(gone)
        for manifest in gone:
            manifest.unlink()
            self._known.get(versions, set()).discard(manifest.name)
        (versions / "latest_version_hint.json").unlink(missing_ok=True)
        sync_entries(versions)


def is_whole(folder: Path, number: int) -> bool:
    """Say whether all files of one transaction of a table are there and not cut off. Reads ids, not vectors."""
    lance = need("lance")  # a fifth of a second, and only after a power cut or a kill

    if not _ends_well(folder / "_versions" / f"{_LAST - number}.manifest"):
        return False
    try:
        table = lance.dataset(str(folder), version=number)
        for fragment in table.get_fragments():
            for file in fragment.metadata.files:
                path = folder / "data" / file.path
                if not _ends_well(path) or path.stat().st_size != (file.file_size_bytes or path.stat().st_size):
                    return False
        uuids = [segment.uuid for index in table.describe_indices() for segment in index.segments]
        indexes = [folder / "_indices" / str(uuid) for uuid in uuids]
        if not all(index.is_dir() and all(map(_ends_well, index.iterdir())) for index in indexes):
            return False
        for _ in table.to_batches(columns=["id" if "id" in table.schema.names else "key"]):  # deletions, too
            pass
    except (OSError, ValueError, RuntimeError):
        return False
    return True


def _number_of(file: Path) -> int:
    """Return the number of a manifest; 0 for another file."""
    return _LAST - int(file.stem) if file.suffix == ".manifest" and file.stem.isdigit() else 0


def _ends_well(path: Path) -> bool:
    """Say whether a file is there with the last bytes that its format has."""
    end = _ENDS.get(path.suffix, b"")
    try:
        with path.open("rb") as source:
            size = source.seek(0, os.SEEK_END)
            source.seek(max(0, size - len(end)))
            return size > 0 and source.read() == end if end else size > 0
    except FileNotFoundError:
        return False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:  # of an index that was replaced this moment
        return []


def _sync_file(path: Path) -> None:
    with suppress(FileNotFoundError):  # compacting removed it this moment
        sync_entries(path)
