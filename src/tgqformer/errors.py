"""Errors that are meant for the person at the keyboard."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class TgqError(Exception):
    """Something the user can mend: the message says what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """


def nearest(word: str, known: Iterable[str], otherwise: str = "choose from", most: int = 100) -> str:
    """Return a hint at the end of an error: the known word nearest to `word`, or else those that are known.

    otherwise: the words before that list. most: how many it shows.
    """
    words = list(known)
    close = get_close_matches(word, words, n=1)
    shown = ", ".join(words[:most]) + (", …" if len(words) > most else "")
    return f"did you mean {close[0]!r}?" if close else f"{otherwise} {shown or 'none'}"
