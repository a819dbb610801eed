"""Writes that are whole or not there at all."""

from __future__ import annotations

import ctypes
import glob
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import uuid4
from zlib import crc32

_UNFINISHED = re.compile(r"\..+\.([0-9a-f]{8})?[0-9a-f]{8}\.tmp", re.DOTALL)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Name a path beside `path` to write a file to; it becomes `path`, on the disk, once the block succeeds.

    Whatever the block raises, `path` keeps its old content. Folders are written by `stages.atomic_folder`.
    """
    make_folder(path.parent)
    with workplace(path) as folder:
        unfinished = folder / path.name
        yield unfinished
        sync(unfinished)
        unfinished.replace(path)
        sync_entries(path.parent)


@contextmanager
def workplace(path: Path) -> Iterator[Path]:
    """Make a hidden folder beside `path` that is ours while the block runs, and removed after it.

    Those that killed processes of this machine left there are removed first: nobody holds their lock any more.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        clear_abandoned(left)
    handle = None
    while handle is None:
        made = beside(path, "tmp", _machine())
        made.mkdir()
        handle = _locked(made, shared=True)
        if handle is not None and not made.is_dir():  # another process took it for abandoned before it was locked
            os.close(handle)
            handle = None
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        if handle >= 0:
            os.close(handle)


def clear_abandoned(folder: Path) -> None:
    """Remove an unfinished folder, made by `workplace`, whose process has ended; leave all else as it is.

    That of another machine stays: on a shared disk its lock may not be seen from here.
    """
    name = _UNFINISHED.fullmatch(folder.name)
    if name is None or name[1] not in (None, _machine()) or folder.is_symlink() or not folder.is_dir():
        return
    handle = _locked(folder, shared=False)
    if handle is not None and handle >= 0:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


@cache
def _machine() -> str:
    """Return 8 hex digits of the name of this machine, which differ on those that share a disk."""
    known = Path("/etc/machine-id")
    return blake2b(
        socket.gethostname().encode() + (known.read_bytes() if known.is_file() else b""), digest_size=4
    ).hexdigest()


def _locked(folder: Path, *, shared: bool) -> int | None:
    """Lock a folder until what this returns is closed; -1 where that cannot be done here, None where it is not free."""
    if sys.platform == "win32":
        return -1
    import fcntl

    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # held by its process, or a file system without locks
        os.close(handle)
        return None if isinstance(error, BlockingIOError) else -1
    return handle


def make_folder(path: Path) -> None:
    """Make a folder, with those above it, on the disk; one that is there is left as it is."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_entries(path.parent)


def beside(path: Path, ending: str, maker: str = "") -> Path:
    """Name a hidden path beside `path` that nothing else has; `restore` knows it by its ending."""
    return path.with_name(f".{path.name}.{maker}{uuid4().hex[:8]}.{ending}")


def exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; return False where the system cannot do that, and nothing was done."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)  # -100: paths are from here; 2: exchange
    return rename is not None and rename(-100, os.fsencode(one), -100, os.fsencode(other), 2) == 0


def replace_folder(new: Path, path: Path) -> None:
    """Let a folder beside `path` become `path`, on the disk, and remove what stood there: in one step on Linux.

    Elsewhere it takes two renames, and a process that is killed between them leaves none; `restore` puts the old back.
    """
    sync(new)
    old = new if path.exists() and exchange(new, path) else beside(path, "old")
    if old is not new:
        if path.exists():
            path.replace(old)
        new.replace(path)
    sync_entries(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def restore(path: Path) -> bool:
    """Put back a folder that a kill between the two renames of `replace_folder` took away; say whether `path` is there.

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


@contextmanager
def once_path(path: Path) -> Iterator[Path]:
    """Name a path to write a file to, as `atomic_path` does; where a file stands at `path` by then, that one stays."""
    with workplace(path) as folder:
        unfinished = folder / path.name
        yield unfinished
        sync(unfinished)
        try:
            os.link(unfinished, path)
        except FileExistsError:
            return
        except OSError:  # a file system without links
            unfinished.replace(path)
        sync_entries(path.parent)


def link_or_copy(source: Path, to: Path) -> None:
    """Let a file stand at another place too, where none is; it is copied on a file system without links."""
    try:
        os.link(source, to)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, to)


def write_json_once(path: Path, content: Any) -> None:
    """Write JSON atomically unless a file stands there, also where several processes do so at once: the first wins."""
    with once_path(path) as unfinished:
        write_json(unfinished, content)


def read_json(path: Path) -> Any:
    """Read JSON written by `write_json`."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_number(path: Path) -> int | None:
    """Read a number written by `write_number`; None where there is none that can be trusted."""
    try:
        text, _, check = path.read_text(encoding="ascii").strip().partition(" ")
    except (OSError, ValueError):
        return None
    return int(text) if text.isdigit() and check == _check_of(text) else None


def write_number(path: Path, number: int) -> None:
    """Overwrite a number of up to 20 digits in place, on the disk.

    A file that is there needs no more room, so this works on a full disk. A sector is written wholly or not at all.
    """
    new, text = not path.exists(), f"{number:020d}"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.pwrite(handle, f"{text} {_check_of(text)}\n".encode(), 0)
        os.fsync(handle)
    finally:
        os.close(handle)
    if new:
        sync_entries(path.parent)


@contextmanager
def sealed_path(path: Path) -> Iterator[Path]:
    """Name a path to write a file to, as `atomic_path` does; its checksum is kept, so `is_intact` finds flipped bits.

    The checksum stands there before the file does; that of the file that is replaced stays valid, too. Several
    processes may write one file at once.
    """
    with atomic_path(path) as unfinished:
        yield unfinished
        own = f"{checksum(unfinished):08x}"
        known = [f"{checksum(path):08x}"] if path.exists() else []
        write_text(seal_of(path), "".join(f"{one}\n" for one in dict.fromkeys((own, *known))))
    while own not in (known := seal_of(path).read_text(encoding="ascii").split()):  # another writer put its own there
        write_text(seal_of(path), "".join(f"{one}\n" for one in (own, *known)))


def write_arrow(path: Path, table: Any) -> None:
    """Write a table as an uncompressed Arrow file with its checksum beside it, whole or not at all."""
    import pyarrow as pa

    with (
        sealed_path(path) as unfinished,
        pa.OSFile(str(unfinished), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)


def read_arrow(path: Path, *, sealed: bool) -> Any:
    """Map such a file.

    Raises: OSError, ArrowInvalid where it is not there, or not as it was written.

    sealed: whether it must have a checksum.
    """
    import pyarrow as pa

    if not is_intact(path, sealed=sealed):
        raise pa.ArrowInvalid(f"{path} is not as it was written: its checksum does not fit")
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def is_intact(path: Path, *, sealed: bool) -> bool:
    """Read a whole file, and say whether it is as it was when it was sealed; where it is not, it is as `sealed` says.

    sealed: whether it must have been sealed: one of an earlier version was not.
    """
    try:
        known = seal_of(path).read_text(encoding="ascii", errors="replace").split()
    except FileNotFoundError:
        return not sealed
    return f"{checksum(path):08x}" in known


def with_check(content: dict[str, Any]) -> dict[str, Any]:
    """Return plain data with a checksum of it, under `check`."""
    return {**content, "check": _check_of(json.dumps(content, sort_keys=True))}


def is_checked(content: dict[str, Any]) -> bool:
    """Say whether data read from JSON is as `with_check` made it; True where it has no checksum."""
    rest = {name: value for name, value in content.items() if name != "check"}
    return "check" not in content or content["check"] == _check_of(json.dumps(rest, sort_keys=True))


def seal_of(path: Path) -> Path:
    """Return where the checksums of a sealed file are."""
    return path.with_name(f"{path.name}.crc")


def checksum(path: Path) -> int:
    """Return the CRC-32 of a file."""
    found = 0
    with path.open("rb") as source:
        while part := source.read(1 << 20):
            found = crc32(part, found)
    return found


def _check_of(text: str) -> str:
    return f"{crc32(text.encode()):08x}"


def sync(path: Path) -> None:
    """Bring a file, or a folder with all that is in it, onto the disk: what is synced survives a power cut."""
    if path.is_dir():
        for inner in path.iterdir():
            sync(inner)
    sync_entries(path)


def sync_entries(path: Path) -> None:
    """Bring a file, or the names in a folder, onto the disk."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
