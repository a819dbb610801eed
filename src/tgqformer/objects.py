"""Object stores: an address such as `s3://bucket/folder` in place of a folder on a disk.

Each file of the folder is one object below the address, with the same bytes, so either may be copied into the other by
any tool. The store writes an object whole or not at all. Here one is written only where none stands: nothing is
replaced, and nothing is ever removed. Keys come from the environment, by the variables that LanceDB reads, too.
"""

from __future__ import annotations

import io
import os
import re
import time
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from shlex import quote
from tempfile import gettempdir
from typing import Any

from tgqformer.errors import TgqError
from tgqformer.files import atomic_path, seal_of, workplace
from tgqformer.packages import need

KEYS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
"""Known addresses, and the variables with the keys to each."""
ENDPOINTS = {"s3": "AWS_ENDPOINT_URL", "gs": "GOOGLE_BASE_URL", "az": "AZURE_STORAGE_ENDPOINT"}
CLIENT = {"connect_timeout": timedelta(seconds=10), "read_timeout": timedelta(minutes=1), "timeout": timedelta(hours=1)}
PATIENCE = {"max_retries": 8, "retry_timeout": timedelta(minutes=3)}
"""How long a store that is busy, or not to be reached, is asked again."""
PAUSES = (0.2, 1, 5, 15, 30)
"""Seconds before a write whose connection was cut is tried again."""
THREADS = 8  # that fetch files at once
PART = 8 << 20  # bytes of a large object that are sent or read at once
AT_ONCE = 256 << 20  # bytes; a larger object is sent in parts, and a store cannot refuse these where one stands
_ADDRESS = re.compile(r"([a-z][a-z0-9+]+):/+(.*)", re.DOTALL)


def object_address(path: Path | str) -> str | None:
    """Return the address that a path stands for, with both of its slashes; None for a path on a disk.

    Raises:
        TgqError: for an address of another kind than `KEYS` has, or with a key in it.
    """
    found = _ADDRESS.fullmatch(str(path))
    if found is None:
        return None
    scheme, rest = found.groups()
    if re.search(r"[?#]|^[^/]*@", rest):
        raise TgqError(f"no keys stand in an address ({scheme}://…): set {KEYS.get(scheme, 'variables')} instead")
    if scheme not in KEYS:
        known = ", ".join(f"{name}://" for name in KEYS)
        raise TgqError(f"{scheme}://{rest}: there are no addresses of the kind {scheme}:// here; known are {known}")
    return f"{scheme}://{rest.rstrip('/')}"


def told(path: Path | str) -> str:
    """Return a path as people write it."""
    return object_address(path) or str(path)


def in_shell(word: Path | str) -> str:
    """Return a path, an address or an id as one word of a command that is shown: quoted where a shell needs it."""
    return quote(told(word) if str(word).partition(":")[0] in KEYS else str(word))


def absolute(path: Path) -> Path:
    """Return a path that means the same in every folder and, if it is an address, on every machine."""
    return path if object_address(path) else path.resolve()


def place_at(path: Path) -> Disk | Objects:
    """Return the folder at a path, which need not be there.

    Raises:
        TgqError: for an address that cannot be one.
    """
    address = object_address(path)
    return Objects(address) if address else Disk(path)


class Disk:
    """A folder on a disk, with the methods of `Objects`."""

    def __init__(self, folder: Path) -> None:
        self.here = folder

    def where(self, name: str) -> str:
        """Return where a file is, for people."""
        return str(self.here / name)

    def names(self) -> set[str]:
        """Name what is in it."""
        return {one.name for one in self.here.iterdir()} if self.here.is_dir() else set()

    def has(self, name: str) -> bool:
        """Say whether a file is there."""
        return (self.here / name).exists()

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a file, or None where there is none."""
        return (self.here / name).read_bytes() if self.has(name) else None

    def start_of(self, name: str, size: int) -> bytes:
        """Return the first so many bytes of a file."""
        with (self.here / name).open("rb") as source:
            return source.read(size)

    def source(self, name: str) -> Path | io.RawIOBase:
        """Return what reads a file at any place."""
        return self.here / name

    def file(self, name: str) -> Path:
        """Return where a file lies on this machine."""
        return self.here / name

    def fetch(self, names: Iterable[str]) -> None:
        """Do nothing: all files are on this machine."""

    def keep(self, name: str) -> bool:
        """Do nothing: a file that was written stays."""
        return True


class Objects:
    """The objects below an address, and a folder on this machine for those that were fetched or made here.

    That folder lies where TMPDIR says, is hidden from other users, and goes when this does.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        client = CLIENT | {"allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")}
        with telling(address):
            self._store = need("obstore.store").from_url(address, client_options=client, retry_config=PATIENCE)
        self._api: Any = need("obstore")

    @cached_property
    def here(self) -> Path:
        """The folder on this machine."""
        held = ExitStack()
        folder = held.enter_context(workplace(Path(gettempdir()) / "tgq-objects"))
        weakref.finalize(self, held.close)
        folder.chmod(0o700)
        return folder

    def where(self, name: str) -> str:
        """Return where an object is, for people."""
        return f"{self.address}/{name}"

    def names(self) -> set[str]:
        """Name the objects, and what else is below the address."""
        with telling(self.address):
            found = self._api.list_with_delimiter(self._store)
        return {one["path"] for one in found["objects"]} | {f"{one}/" for one in found["common_prefixes"]}

    def has(self, name: str) -> bool:
        """Say whether an object is there."""
        with telling(self.address):
            try:
                self._api.head(self._store, name)
            except FileNotFoundError:
                return False
        return True

    def read(self, name: str) -> bytes | None:
        """Return the bytes of an object, or None where there is none."""
        with telling(self.address):
            try:
                return bytes(self._api.get(self._store, name).bytes())
            except FileNotFoundError as error:
                _refuse_no_bucket(str(error), self.address)
                return None

    def start_of(self, name: str, size: int) -> bytes:
        """Return the first so many bytes of an object."""
        with telling(self.address):
            return bytes(self._api.get_range(self._store, name, start=0, end=size))

    def source(self, name: str) -> Path | io.RawIOBase:
        """Return what reads an object at any place; each read is a request."""
        with telling(self.address):
            return _Ranges(self, name, self._api.head(self._store, name)["size"])

    def file(self, name: str) -> Path:
        """Return where an object lies on this machine, once fetched; no file is there where no object is.

        The checksum beside it comes with it.
        """
        path = self.here / name
        if path.exists():
            return path
        with telling(self.address):
            try:
                stream = self._api.get(self._store, name).stream(min_chunk_size=PART)
            except FileNotFoundError as error:
                _refuse_no_bucket(str(error), self.address)
                return path
            with atomic_path(path) as unfinished, unfinished.open("wb") as sink:
                for part in stream:
                    sink.write(part)
                if (seal := self.read(seal_of(path).name)) is not None:
                    seal_of(path).write_bytes(seal)
        return path

    def fetch(self, names: Iterable[str]) -> None:
        """Fetch objects, several at once."""
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(self.file, names))

    def keep(self, name: str) -> bool:
        """Send a file that was written here, after its checksum where it has one; return whether its bytes are there.

        An object that stands there stays; if it has other bytes, it counts, and the file goes from here.
        """
        path = self.here / name
        if (seal := seal_of(path)).exists():
            self._announce(seal.name, seal.read_text(encoding="ascii").split())
        created = self._created(path)
        if not created:
            path.unlink()
        return created

    def _created(self, path: Path) -> bool:
        """Send a file; return False where an object of its name stands."""
        size = path.stat().st_size
        with telling(self.address):
            if size > AT_ONCE:
                if self.has(path.name):
                    return False
                part = max(PART, size // 9000)  # a store takes 10,000 of them
                self._api.put(self._store, path.name, path, chunk_size=part)
                return True
            return self._put(path.name, path.read_bytes(), "create")

    def _announce(self, name: str, own: list[str]) -> None:
        """Put checksums among those of a file that stand there, whoever else does so now.

        What is replaced is told by its tag; Google asks for its version.
        """
        while True:
            with telling(self.address):
                known, mode = list[str](), dict[str, str]()
                try:
                    found = self._api.get(self._store, name)
                    mode = {one: found.meta[one] for one in ("e_tag", "version") if found.meta[one]}
                    known = bytes(found.bytes()).decode("ascii").split()
                except FileNotFoundError:
                    pass
                if set(own) <= set(known):
                    return
                lines = "".join(f"{one}\n" for one in dict.fromkeys((*own, *known)))
                if self._put(name, lines.encode(), mode or "create"):
                    return

    def _put(self, name: str, data: bytes, mode: str | dict[str, str]) -> bool:
        """Write an object if what stands there is as `mode` says; return whether it was.

        A write whose answer was lost is tried again, and then finds itself. The client leaves that to us.
        """
        wrong, pauses = need("obstore.exceptions"), iter(PAUSES)
        while True:
            try:
                self._api.put(self._store, name, data, mode=mode, use_multipart=False)
            except (wrong.AlreadyExistsError, wrong.PreconditionError):
                return mode == "create" and self.read(name) == data
            except wrong.GenericError as error:
                pause = next(pauses, None)
                if pause is None or "HTTP error" not in str(error):
                    raise
                time.sleep(pause)
            else:
                return True


class _Ranges(io.RawIOBase):
    """An object as a file that is read at any place."""

    def __init__(self, objects: Objects, name: str, size: int) -> None:
        self._objects, self._name, self._size, self._at = objects, name, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        stop = self._size if size is None or size < 0 else min(self._size, self._at + size)
        if stop <= self._at:
            return b""
        with telling(self._objects.address):
            found = bytes(self._objects._api.get_range(self._objects._store, self._name, start=self._at, end=stop))
        self._at = stop
        return found


@contextmanager
def telling(address: str) -> Iterator[None]:
    """Turn the errors of an object store into words; without the store's own, which may hold parts of a key.

    Raises:
        TgqError: in place of whatever such a client raises.
    """
    try:
        yield
    except (TgqError, FileNotFoundError):
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("obstore", "builtins"):
            raise
        words = trouble_with(address, str(error))
        if words is None:
            raise
        raise TgqError(words) from None


def trouble_with(address: str, said: str) -> str | None:
    """Return what is wrong with an object store and what to do, by what a client said; None if it says nothing of one.

    Clients of obstore and of LanceDB speak alike: both are made on the crate `object_store`.
    """
    scheme, _, rest = address.partition("://")
    keys, endpoint, bucket = KEYS[scheme], os.environ.get(ENDPOINTS[scheme], ""), rest.partition("/")[0]
    where = endpoint.rpartition("@")[2] or "its address"
    code = re.search(r"<Code>(\w+)</Code>", said)
    if "NoSuchBucket" in said or "bucket does not exist" in said:
        return f"there is no bucket {bucket!r} for {address}; make it, or check the address"
    if re.search(r"169\.254\.169\.254|metadata\.google|InvalidCredentials|Failed to get AWS credentials", said):
        return f"no keys to {address} were found; set {keys}"
    if re.search(r"403 Forbidden|401 Unauthorized|status: 40[13]", said):
        why = f" ({code[1]})" if code else ""
        return f"{address} refuses these keys{why}; check {keys}, and what they may do in {bucket!r}"
    if "BadScheme" in said:
        return f"{address}: {where} is asked without encryption; set AWS_ALLOW_HTTP=true where that is meant"
    status = re.search(r"status code: ([45]\d\d[A-Za-z ]*)|(status: [45]\d\d)", said)
    unreached = re.search(r"error sending request|HttpError|Connect|timed? ?out|error decoding response", said)
    if status is None and unreached:
        return f"{address} cannot be reached: nobody answers at {where}; check the network and {ENDPOINTS[scheme]}"
    if status is None and "status" not in said.lower():
        return None
    why = ", ".join([*([code[1]] if code else []), *([(status[1] or status[2]).strip()] if status else [])])
    return f"{address} answers with an error ({why or 'without a word'}); call the same again later"


def _refuse_no_bucket(said: str, address: str) -> None:
    """Raise TgqError where nothing is found because there is no bucket."""
    if "NoSuchBucket" in said:
        raise TgqError(str(trouble_with(address, said)))
