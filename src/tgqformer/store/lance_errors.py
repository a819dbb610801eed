"""What LanceDB says when something is wrong, in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tgqformer.objects import KEYS, trouble_with
from tgqformer.store.base import Unreachable, Unwritable, VersionGone
from tgqformer.store.ledger import Version


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
def gone(version: Version, where: str) -> Iterator[None]:
    """Turn the errors of a table that was dropped, of a disk that takes nothing, and of an object store into words."""
    try:
        with reaching(where):
            yield
    except (ValueError, RuntimeError, OSError) as error:
        if "not found" in str(error).lower() or "no such file" in str(error).lower():
            raise VersionGone(f"{where}: version {version.name} was dropped; open the store again") from error
        if any(words in str(error).lower() for words in ("no space left", "read-only file system")):
            raise Unwritable(f"{where} cannot be written: {str(error).splitlines()[0]}") from error
        raise
