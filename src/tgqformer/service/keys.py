"""API keys: shown once when made, kept as digests, compared in constant time."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock

from tgqformer.errors import TgqError, nearest
from tgqformer.files import make_folder, read_json, write_json

Scope = Literal["read", "write"]
PREFIX = "tgq_"


@dataclass(frozen=True)
class Key:
    """A key at rest. `digest` is SHA-256 of the key: it holds 256 random bits, so no slow hash is needed."""

    name: str
    digest: str
    scope: Scope
    created: str


class Keyring:
    """The keys in a file, which is looked at for each request. Where it cannot be read any more, no key is known.

    Raises: TgqError, when it is made, where there is no readable file of keys.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, ...] | None = None
        self._keys: Sequence[Key] = ()
        self.reload()

    def reload(self) -> bool:
        """Read the file if it has changed; return whether it had."""
        try:
            about = self.path.stat()
        except OSError as error:
            raise TgqError(f"there is no file of keys {self.path}; make a key with `tgq keys new`") from error
        seen = (about.st_mtime_ns, about.st_ctime_ns, about.st_ino, about.st_size)  # rights change the second alone
        if seen == self._seen:
            return False
        self._seen = None
        self._keys, self._seen = read_keys(self.path), seen
        return True

    def scope_of(self, key: str) -> Scope | None:
        """Return what a key may do; None for one that is not known. Takes equally long for every key.

        Raises: TgqError where the file of keys cannot be read now.
        """
        self.reload()
        digest, scope = digest_of(key), None
        for known in self._keys:
            if hmac.compare_digest(digest, known.digest):
                scope = known.scope
        return scope


def new_key(path: Path, name: str, scope: Scope) -> str:
    """Make a key, add its digest to the file, and return the key: it cannot be shown again.

    Raises: TgqError for a name that is empty or taken.
    """
    if not name.strip():
        raise TgqError("a key needs a name, such as shop-front")
    key = PREFIX + secrets.token_urlsafe(32)
    with _alone(path):
        keys = read_keys(path) if path.exists() else []
        if any(one.name == name for one in keys):
            raise TgqError(f"{path} has a key {name!r} already; choose another name or remove that one")
        _write(path, [*keys, Key(name, digest_of(key), scope, datetime.now(UTC).isoformat(timespec="seconds"))])
    return key


def remove_key(path: Path, name: str) -> None:
    """Take a key out of the file; a running service notices."""
    with _alone(path):
        keys = read_keys(path)
        if all(key.name != name for key in keys):
            raise TgqError(f"{path} has no key {name!r}; {nearest(name, [key.name for key in keys], 'it has')}")
        _write(path, [key for key in keys if key.name != name])


def read_keys(path: Path) -> list[Key]:
    """Read a file of keys."""
    try:
        keys = [Key(**one) for one in read_json(path)["keys"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TgqError(f"{path} is no readable file of keys ({error}); make one with `tgq keys new`") from error
    if wrong := [key.name for key in keys if key.scope not in get_args(Scope)]:
        raise TgqError(f"{path}: the scope of the key {wrong[0]!r} is neither read nor write; mend it")
    return keys


def digest_of(key: str) -> str:
    """What is kept of a key."""
    return sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def key_in(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """Find the key in a request: `Authorization: Bearer KEY`, `X-API-Key: KEY`, or as password of a browser's form."""
    for name, value in headers:
        if name == b"x-api-key":
            return value.decode("latin-1")
        if name == b"authorization":
            kind, _, rest = value.decode("latin-1").partition(" ")
            if kind.lower() == "bearer":
                return rest.strip()
            if kind.lower() == "basic":
                return _password(rest)
    return None


def _password(encoded: str) -> str | None:
    try:
        return base64.b64decode(encoded, validate=True).decode("latin-1").partition(":")[2]
    except (binascii.Error, ValueError):
        return None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a file of keys while the block reads and writes it; another command waits."""
    make_folder(path.parent)
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield


def _write(path: Path, keys: Sequence[Key]) -> None:
    write_json(path, {"keys": [asdict(key) for key in keys]})
    path.chmod(0o600)
