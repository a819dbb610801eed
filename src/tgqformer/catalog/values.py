"""Values of files as text: objects and lists of JSON, HTML, what spreadsheets disguise, words for "not known"."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any
from uuid import UUID

_WORDS = r"null none unknown nil nan n/a #n/a undefined (none) <na> \n - (direct) (other)"
UNKNOWN = frozenset(
    [*_WORDS.split(), f"{UUID(int=0)}", "(not set)", "(not provided)", "(data deleted)", "[object object]"]
)
"""Words for "not known", as databases and trackers write them, in small letters."""
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,2000}>|<!--.*?-->", re.DOTALL)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_LANGUAGE = re.compile(r"[a-z]{2}(?:[-_][A-Za-z]{2,4})?")
_LANGUAGES = ("language_tag", "language", "lang", "locale")
_VALUES = ("value", "text", "name", "title", "label")
MAX_DEPTH = 100
"""Objects and lists that lie in each other; Python itself gives up at some hundred."""
_HOLDERS = (dict, list, tuple)


def is_unknown(text: str) -> bool:
    """Say whether a text is a word for "not known"."""
    return text.lower() in UNKNOWN


def all_known(texts: Iterable[str]) -> bool:
    """Say whether no text is a word for "not known"."""
    return UNKNOWN.isdisjoint(map(str.lower, texts))


def is_deep(value: Any) -> bool:
    """Say whether objects and lists lie in each other more than `MAX_DEPTH` deep."""
    holders = [value] if isinstance(value, _HOLDERS) else []
    depth = 0
    while holders and depth < MAX_DEPTH:
        inside = chain.from_iterable(one.values() if isinstance(one, dict) else one for one in holders)
        holders, depth = [one for one in inside if isinstance(one, _HOLDERS)], depth + 1
    return bool(holders)


def bare_text(text: str) -> tuple[str, bool]:
    """Return a text without HTML, and whether there was any: entities become characters, tags a space.

    What was escaped twice is read twice.
    """
    if "<" not in text and "&" not in text:
        return text, False
    found = text
    for _ in range(2):
        found = _TAG.sub(" ", _ENTITY.sub(lambda match: html.unescape(match.group()), found))
    return found, found != text


def as_text(value: Any, language: str = "en") -> str | None:
    """Return a value as text, "" for a missing one; None for an object that holds no one text.

    Of `{"$oid": "5f"}` and of `{"value": "Mug"}` the inner value is taken; of texts in several languages, as a list of
    `{"language_tag": …, "value": …}` or as `{"en": …, "de": …}`, that of `language`, else the first. `="00123"`, which
    keeps spreadsheets from reading a number, is 00123.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value[2:-1] if value.startswith('="') and value.endswith('"') and len(value) > 2 else value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, Mapping):
        return _of_object(value, language)
    if isinstance(value, (list, tuple)):
        return _of_list(value, language)
    try:
        return str(value)
    except ValueError:  # a whole number of more digits than Python prints
        return ""


def _of_object(value: Mapping[str, Any], language: str) -> str | None:
    if len(value) == 1 and str(next(iter(value))).startswith("$"):
        return as_text(next(iter(value.values())), language)
    if value and all(_LANGUAGE.fullmatch(str(name)) for name in value):
        chosen = next((name for name in value if str(name).startswith(language[:2])), next(iter(value)))
        return as_text(value[chosen], language)
    known = next((name for name in _VALUES if name in value), None)
    return None if known is None else as_text(value[known], language)


def _of_list(values: list[Any] | tuple[Any, ...], language: str) -> str | None:
    if any(isinstance(one, Mapping) and any(name in one for name in _LANGUAGES) for one in values):
        values = [max(values, key=lambda one: _speaks(one, language))]
    texts = [as_text(one, language) for one in values]
    return None if texts and all(text is None for text in texts) else "; ".join(text for text in texts if text)


def _speaks(value: Any, language: str) -> int:
    """Return how well the language of an object fits: 2 the same, 1 another country's, 0 another."""
    spoken = next((str(value[name]) for name in _LANGUAGES if name in value), "") if isinstance(value, Mapping) else ""
    return (spoken.replace("-", "_") == language.replace("-", "_")) + (spoken[:2] == language[:2])
