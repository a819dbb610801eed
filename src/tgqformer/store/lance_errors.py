"""What LanceDB says when something is wrong, in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from tgqformer.errors import TgqError
from tgqformer.objects import KEYS, trouble_with
from tgqformer.store.base import Unreachable, Unwritable, VersionGone
from tgqformer.store.ledger import Version

LEDGER = "ledger"
_DISK = {
    "no space left": "no space left on its disk; make room, and run the same command again",
    "read-only file system": "its disk is a read-only file system; mount it so that it can be written",
}


@contextmanager
def reaching(where: str) -> Iterator[None]:
    """Turn the errors of an object store into words, which hold no part of a key.

    Raises:
        Unreachable: where it does not answer, or refuses.
    """
    try:
        yield
    except (ValueError, RuntimeError, OSError) as error:
        words = trouble_with(where, str(error)) if where.partition("://")[0] in KEYS else None
        if words is None:
            raise
        raise Unreachable(words) from None


@contextmanager
def gone(version: Version | None, where: str) -> Iterator[None]:
    """Turn the errors of a table that was dropped or is damaged, of a disk and of an object store into words.

    version: whose table; None for the list of versions.
    """
    try:
        with writing(where):
            yield
    except (ValueError, RuntimeError, OSError) as error:
        if not _is_missing(error):
            raise
        if version is not None and not (Path(where) / f".{version.name}.synced").exists():  # dropping removes it first
            raise VersionGone(f"{where}: version {version.name} was dropped; open the store again") from error
        table = LEDGER if version is None else version.name
        what = "the list of versions" if version is None else f"version {table}"
        raise TgqError(f"{what} of {where} has lost {_lost(error, table)}; {remedy_of(where, table)}") from error


@contextmanager
def writing(where: str) -> Iterator[None]:
    """Turn the errors of a disk that takes nothing, and of an object store, into words."""
    try:
        with reaching(where):
            yield
    except (ValueError, RuntimeError, OSError) as error:
        for said, words in _DISK.items():
            if said in str(error).lower():
                raise Unwritable(f"{where} cannot be written: {words}") from error
        raise


class Placed(Protocol):
    """What lies somewhere."""

    where: str


S = TypeVar("S", bound=Placed)
P = ParamSpec("P")
T = TypeVar("T")


def in_words(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Let a method tell what is wrong with the disk or the object store of its `where`, as `writing` does."""

    @wraps(method)
    def called(self: S, /, *given: P.args, **named: P.kwargs) -> T:
        with writing(self.where):
            return method(self, *given, **named)

    return called


def remedy_of(where: Path | str, table: str) -> str:
    """Say what helps where a table of a store is damaged."""
    if table == LEDGER:
        return f"put {where} back from a copy, or remove it and build it anew with `tgq index`"
    return "serve another version (`tgq store versions`), or build this one anew with `tgq index`"


def _is_missing(error: Exception) -> bool:
    return "not found" in str(error).lower() or "no such file" in str(error).lower()


def _lost(error: Exception, table: str) -> str:
    """Name the file of a table that an error of LanceDB misses."""
    found = re.search(rf"/{table}\.lance/([^\s,]+)", str(error))
    return found[1] if found else "its table"
