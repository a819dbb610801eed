"""Stages of a run: each is made once, and again when the content of what it is made from changes.

Every folder that we make carries a note, `tgq.json`: what kind of folder it is, and what it was made from. A folder
without it is not ours: it is never removed or replaced.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from tgqformer.errors import TgqError
from tgqformer.files import read_json, replace_folder, workplace, write_json
from tgqformer.objects import object_address, place_at, told
from tgqformer.progress import console, progress

NOTE = "tgq.json"
_READ = 1 << 20  # bytes read at once

# --- ownership --------------------------------------------------------------------------------------------------------


def mark(folder: Path, kind: str, **facts: Any) -> None:
    """Write our note into a folder that exists: from now on it is ours, and may be replaced."""
    write_json(folder / NOTE, {"kind": kind, **facts})


def note_of(folder: Path) -> dict[str, Any] | None:
    """Return what our note in a folder says, or None where there is none that can be read: it is not ours then."""
    try:
        note = json.loads(place_at(folder).read(NOTE) or b"")
    except (OSError, ValueError):
        return None
    return note if isinstance(note, dict) and "kind" in note else None


def make_way(
    to: Path,
    kind: str,
    *,
    overwrite: bool = False,
    sources: Iterable[Path | None] = (),
    file: bool = False,
    resumable: bool = False,
    objects: bool = False,
) -> None:
    """Check, before any work, that a folder or file may be written at `to`. Nothing is removed here.

    Args:
        to: what will be written. kind: what it will be, for people: `catalogue`, `embeddings`.
        overwrite: whether it may replace a folder of ours of the same kind, or a file.
        sources: what is read, where it is given; none of it may be `to` or lie in it. A file that stands in a source is
            a part of it, and is not replaced either.
        file: whether `to` will be a file. resumable: whether a folder of this kind may be there: the job looks at it.
        objects: whether it may lie in an object store.

    Raises:
        TgqError: if `to` is, holds, or is a file of a source; is not ours; or exists and `overwrite` is not given.
    """
    if not objects and (address := object_address(to)):
        raise TgqError(
            f"{address} is the address of an object store; the {kind} can be written to a disk alone: name a folder"
        )
    place = to.resolve()
    for source in sources:
        if source is not None and place in (source.resolve(), *source.resolve().parents):
            raise TgqError(f"{told(to)} is what is read, or holds it; write the {kind} to another place")
        if file and source is not None and place.exists() and source.resolve() in place.parents:
            raise TgqError(f"{to} is a file of {source}, which is read; write the {kind} to another place")
    if file and to.is_dir():
        raise TgqError(f"{to} is a folder; name a file for the {kind}")
    if not file:
        check_ours(to, kind)
    if not (overwrite or resumable or is_free(to)):
        raise TgqError(f"{to} exists already; choose another place, or replace it with --overwrite")


def is_free(path: Path) -> bool:
    """Say whether nothing stands at a path, or a folder without anything but our note."""
    if object_address(path):
        return all(map(_is_note, place_at(path).names()))
    return not path.exists() or (path.is_dir() and all(_is_note(one.name) for one in path.iterdir()))


def _is_note(name: str) -> bool:
    """Say whether a name is that of our note, or of one that is being written."""
    return name == NOTE or (name.startswith(f".{NOTE}.") and name.endswith(".tmp"))


def check_ours(folder: Path, kind: str) -> None:
    """Refuse to replace or remove a folder that is not ours, or that is of another kind.

    Raises:
        TgqError: if the folder exists, holds something, and has no note of ours of this kind.
    """
    if is_free(folder):
        return
    where = told(folder)
    if not object_address(folder) and not folder.is_dir():
        raise TgqError(f"{where} is a file; name a folder for the {kind}")
    note = note_of(folder)
    if note is None:
        raise TgqError(f"{where} was not made by tgq (it has no {NOTE}), so it is not replaced; choose another place")
    if note["kind"] != kind:
        raise TgqError(f"{where} holds something else ({note['kind']}, not {kind}); choose another place")


def clear(folder: Path, kind: str) -> None:
    """Remove a folder of ours with all that is in it, but not objects; raise TgqError, as `check_ours`, if not ours."""
    check_ours(folder, kind)
    if not object_address(folder) and folder.exists():
        shutil.rmtree(folder)


@contextmanager
def atomic_folder(path: Path, kind: str, *, overwrite: bool = False, whole_by: str | None = None) -> Iterator[Path]:
    """Make a folder beside `path`, with our note; it becomes `path`, on the disk, once the block succeeds.

    Whatever the block raises, what stood at `path` stays.

    whole_by: for a kind that may lie in an object store: the file that tells it from a part of one; it is sent last.

    Raises:
        TgqError: before the block, as `make_way` does.
    """
    make_way(path, kind, overwrite=overwrite, objects=whole_by is not None)
    if whole_by is not None and object_address(path):
        with _sent(path, kind, whole_by) as unfinished:
            yield unfinished
        return
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    with workplace(path) as unfinished:
        mark(unfinished, kind)
        yield unfinished
        make_way(path, kind, overwrite=overwrite)  # somebody else may have written there meanwhile
        replace_folder(unfinished, path)


@contextmanager
def _sent(path: Path, kind: str, whole_by: str) -> Iterator[Path]:
    """Make a folder on this machine, whose files become objects once the block succeeds."""
    place = place_at(path)
    mark(place.here, kind)
    yield place.here
    make_way(path, kind, objects=True, resumable=True)
    names = {file.name for file in place.here.iterdir()} - {NOTE, whole_by}
    for name in (NOTE, *sorted(names), whole_by):
        if not place.keep(name):
            raise TgqError(f"{place.where(name)} is there with other content, and stays; choose another address")


def claim(folder: Path, kind: str, name: str, *, overwrite: bool = False) -> None:
    """Take a folder for a run, a bench or a study: a new or empty one, or that of an earlier call of the same name.

    Raises:
        TgqError: if the folder holds something that is not ours, or something else of ours (`overwrite` takes over a
            run of another name, never a folder of another kind).
    """
    note = note_of(folder)
    if note is None:
        make_way(folder, kind)
    elif note["kind"] != kind:
        raise TgqError(f"{folder} holds something else ({note['kind']}, not {kind}); choose another folder")
    elif note.get("name") != name and not overwrite:
        raise TgqError(
            f"{folder} holds the {kind} {note.get('name')!r}, not {name!r}; choose another folder, or take this one "
            "over with --overwrite"
        )
    folder.mkdir(parents=True, exist_ok=True)
    mark(folder, kind, name=name)


def undo_of(folder: Path) -> Callable[[], None]:
    """Return what removes all that is written into a folder from now on, and the folders above it that are made for it.

    It does nothing where something stands in the folder already. It never raises: what cannot be removed stays, and the
    error that led here is the one that is told.
    """
    free = is_free(folder)
    made = [place for place in (folder, *folder.parents) if not place.exists()]

    def undo() -> None:
        if not free:
            return
        with suppress(OSError):
            for inner in folder.iterdir():  # not the folder itself: it may be the working folder, a link or a mount
                shutil.rmtree(inner) if inner.is_dir() and not inner.is_symlink() else inner.unlink()
            for place in made:
                place.rmdir()  # refused where another run has written there

    return undo


# --- what a stage is made from ----------------------------------------------------------------------------------------


class Digests:
    """Digests of the content of files and folders; what has the same sizes and times as before is not read again.

    Args:
        memory: a JSON file that remembers them, if any. recheck: read everything again, whatever sizes and times say.
    """

    def __init__(self, memory: Path | None = None, *, recheck: bool = False) -> None:
        self.memory, self.recheck = memory, recheck
        self._known: dict[str, Any] = read_json(memory) if memory is not None and memory.is_file() else {}
        self._checked: set[str] = set()

    def of(self, path: Path, counts: Callable[[Path], bool] | None = None) -> str:
        """Return the digest of a file, or of the files below a folder with their names.

        Hidden files, our own notes, and folders in a folder that are ours are left out.

        Args:
            path: file or folder. counts: says of a file in a folder whether it counts; all do where it is not given.

        Raises:
            TgqError: if there is nothing at `path`.
        """
        if address := object_address(path):
            raise TgqError(f"a run reads {address} from a disk alone: copy it into a folder, and name that")
        if not path.exists():
            raise TgqError(f"there is no file or folder {str(path)!r}")
        files = _files_of(path, counts)
        place = str(path.resolve()) + (f" {counts.__name__}" if counts is not None else "")
        seen = _hash(f"{name}\x1f{stat.st_size}\x1f{stat.st_mtime_ns}" for name, _, stat in files)
        known = self._known.get(place)
        if known is None or known["seen"] != seen or (self.recheck and place not in self._checked):
            known = self._known[place] = {"seen": seen, "content": _content(files, path)}
            self._checked.add(place)
            if self.memory is not None:
                write_json(self.memory, self._known)
        return str(known["content"])


def _files_of(path: Path, counts: Callable[[Path], bool] | None) -> list[tuple[str, Path, os.stat_result]]:
    """Return (name below `path`, path, stat) of every file that counts, by name."""
    if path.is_file():
        return [("", path, path.stat())]
    found = []
    for folder, folders, names in os.walk(path, followlinks=True):
        if NOTE in names and Path(folder) != path:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder, name)
            if name.startswith(".") or name == NOTE or not file.is_file():
                continue
            if counts is None or counts(file):
                found.append((file.relative_to(path).as_posix(), file, file.stat()))
    return found


def _content(files: list[tuple[str, Path, os.stat_result]], path: Path) -> str:
    whole, size = blake2b(digest_size=16), sum(stat.st_size for *_, stat in files)
    with progress(f"reading {path.name}", size, shown=size > 1 << 30) as bar:
        for name, file, stat in files:
            whole.update(f"{name}\x1f{stat.st_size}\x1f".encode())
            with file.open("rb") as source:
                while part := source.read(_READ):
                    whole.update(part)
                    bar.advance(len(part))
    return whole.hexdigest()


def digest_of(inputs: Any) -> str:
    """Return a short digest of plain data."""
    return _hash([json.dumps(inputs, sort_keys=True)])[:16]


def _hash(texts: Iterable[str]) -> str:
    whole = blake2b(digest_size=16)
    for text in texts:
        whole.update(text.encode() + b"\x1e")
    return whole.hexdigest()


# --- stages -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """One stage: a folder that is made from inputs.

    Args:
        name: for people. folder: what it makes. kind: of the folder, for our note.
        inputs: plain data, all that decides its content: digests of what is read, and every option with its default.
        make: makes the content of the folder, which exists.
        format: number of the form of the content; raise it when the code makes something else from the same inputs.
        keep: what stays in the folder when the stage must run: nothing; what a killed call left, if it had the
            `same inputs`; or `all` of it, where the stage adds to what is there in the same format.
        outputs: files outside the folder that the stage writes too.
    """

    name: str
    folder: Path
    kind: str
    inputs: Any
    make: Callable[[], object]
    format: int = 1
    keep: Literal["nothing", "same inputs", "all"] = "nothing"
    outputs: tuple[Path, ...] = ()

    @property
    def key(self) -> Any:
        """What the note holds: inputs as JSON gives them back, and the format."""
        return {"inputs": json.loads(json.dumps(self.inputs)), "format": self.format}

    def begin(self) -> None:
        """Note in the folder, which is made, that it is being made from these inputs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        mark(self.folder, self.kind, **self.key, done=False)

    def is_done(self) -> bool:
        """Say whether the folder was made from these inputs."""
        note, key = note_of(self.folder), self.key
        there = all(path.exists() for path in self.outputs)
        return note is not None and there and note.get("done") is True and {name: note.get(name) for name in key} == key


def is_made(folder: Path) -> bool:
    """Say whether a stage has made a folder, of whatever inputs."""
    return (note_of(folder) or {}).get("done") is True


class Stages:
    """Runs stages; each is checked once a run, and says in one line whether it was made or reused."""

    def __init__(self) -> None:
        self._asked: dict[Path, Any] = {}

    def run(self, stage: Stage) -> Path:
        """Make a stage unless it is done; return its folder.

        Raises:
            TgqError: if its folder holds something that is not ours.
        """
        if self._asked.get(stage.folder) == stage.key:
            return stage.folder
        if stage.is_done():
            console.print(f"[dim]{stage.name}: reused[/]")
        else:
            self._make(stage)
        self._asked[stage.folder] = stage.key
        return stage.folder

    def _make(self, stage: Stage) -> None:
        check_ours(stage.folder, stage.kind)
        note, key = note_of(stage.folder), stage.key
        same = note is not None and not note.get("done") and {name: note.get(name) for name in key} == key
        going_on = stage.keep == "same inputs" and same
        adds = stage.keep == "all" and (note is None or note.get("format") == stage.format)
        if stage.folder.exists() and not (going_on or adds):
            shutil.rmtree(stage.folder)
        console.print(f"[bold]{stage.name}[/]" + (", going on where it was" if going_on else ""))
        stage.begin()
        started = time.perf_counter()
        stage.make()
        mark(stage.folder, stage.kind, **key, done=True)
        console.print(f"{stage.name}: made in {_duration(time.perf_counter() - started)}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{seconds:.1f} s" if seconds < 10 else f"{minutes} min {rest} s" if minutes else f"{rest} s"


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a folder while the block runs.

    Raises:
        TgqError: if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".tgq.lock", blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise TgqError(f"another tgq is at work in {folder}; wait for it, or give --to another folder") from error
    try:
        yield
    finally:
        lock.release()
