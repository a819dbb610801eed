"""Errors that are meant for the person at the keyboard, and words for messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from pathlib import Path


class TgqError(Exception):
    """Something the user can mend: the message says what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """


_KEYS: ContextVar[Mapping[str, str]] = ContextVar("_KEYS", default={})  # noqa: B039 - never changed


@contextmanager
def named_by(keys: Mapping[str, str]) -> Iterator[None]:
    """Let errors name options by the keys of a file of settings while the block runs: {"item": "pairs.log.item"}."""
    before = _KEYS.set(keys)
    try:
        yield
    finally:
        _KEYS.reset(before)


def option(name: str) -> str:
    """Return how a person sets something: by an option of a command, `--time-format`, or by a key, see `named_by`."""
    return _KEYS.get().get(name, "--" + name.replace("_", "-"))


def counted(number: int, what: str) -> str:
    """Return a number of things: `1 row`, `2,000 rows`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s" if what[-1] != "s" else "es")


def alike(word: str, known: Iterable[str], most: int = 1) -> list[str]:
    """Return the known words that are spelt most like a word, the nearest first; none that is far from it.

    First those that differ in capitals, signs and leading zeros alone: SKU-5 for sku_0005.
    """
    words, bare = list(known), _bare(word)
    same = [one for one in words if _bare(one) == bare][:most] if bare else []
    return same or get_close_matches(word, words, n=most)


def _bare(word: str) -> str:
    return re.sub(r"[\W_]|(?<!\d)0+(?=\d)", "", word.casefold())


def beside(path: str | Path) -> str:
    """Return a hint for a path that is not there: the file beside it that is spelt most like it, or ""."""
    wanted = Path(path)
    try:
        there = [] if wanted.exists() else [one.name for one in wanted.parent.iterdir()]
    except OSError:
        return ""
    close = alike(wanted.name, there)
    return f"did you mean {str(wanted.with_name(close[0]))!r}?" if close else ""


def nearest(word: str, known: Iterable[str], otherwise: str = "choose from", most: int = 100) -> str:
    """Return a hint at the end of an error: the known word nearest to `word`, or else those that are known.

    otherwise: the words before that list. most: how many it shows.
    """
    words = list(known)
    close = alike(word, words)
    shown = ", ".join(words[:most]) + (", …" if len(words) > most else "")
    return f"did you mean {close[0]!r}?" if close else f"{otherwise} {shown or 'none'}"
