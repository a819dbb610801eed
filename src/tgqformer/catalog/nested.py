"""Fields inside objects and lists, as JSON and Parquet have them, by their path: `items.item_id`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Bound = dict[tuple[str, ...], Any]
"""Which element of the list at a path a row is about."""
_KEYS, _VALUES = ("key", "name"), ("value", "values")


def paths_in(objects: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the paths of all plain values in some objects, in the order in which they come first.

    Where an object or a list is sometimes null or empty, only what stands inside it elsewhere counts.
    """
    found: dict[tuple[str, ...], bool] = {}
    for one in objects:
        for path, filled in _paths(one, ()):
            found[path] = found.get(path, False) or filled
    above = {path[:depth] for path in found for depth in range(1, len(path))}
    return list(dict.fromkeys(".".join(path) for path, filled in found.items() if filled or path not in above))


def _paths(value: Any, before: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], bool]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _paths(inner, (*before, str(name)))
    elif isinstance(value, (list, tuple)):
        if not any(isinstance(one, Mapping) for one in value):
            yield before, bool(value)
        for one in value[:50]:
            if isinstance(one, Mapping):
                if (key := _key_of(one)) is not None:
                    yield (*before, key), True
                yield from _paths(one, before)
    else:
        yield before, value is not None


def rows_of(value: Mapping[str, Any], path: str) -> Iterator[tuple[Any, Bound]]:
    """Return what stands at a path, once for every element of the lists on the way, with the elements it lies in."""
    yield from _rows(value, tuple(path.split(".")), (), {})


def _rows(value: Any, rest: tuple[str, ...], before: tuple[str, ...], bound: Bound) -> Iterator[tuple[Any, Bound]]:
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _rows(one, rest, before, {**bound, before: one})
    elif not rest:
        yield value, bound
    elif isinstance(value, Mapping):
        name, rest = _step(value, rest)
        yield from _rows(value.get(name), rest, (*before, name), bound)
    else:
        yield None, bound


def value_at(value: Any, path: str, bound: Bound | None = None) -> Any:
    """Return what stands at a path; in lists that of the bound element, else of the first, or of the pair so called.

    Lists of pairs, `[{"key": "a", "value": 1}]`, are read by their keys; a value that is an object with one value that
    is not null gives that value, as `{"int_value": 1}` does in Google's exports.
    """
    return _value(value, tuple(path.split(".")), (), bound or {})


def _value(value: Any, rest: tuple[str, ...], before: tuple[str, ...], bound: Bound) -> Any:
    if isinstance(value, (list, tuple)):
        if before in bound:
            return _value(bound[before], rest, before, bound)
        for one in value:
            if rest and isinstance(one, Mapping) and _key_of(one) == rest[0]:
                inner = next((one[name] for name in _VALUES if name in one), None)
                return _value(_only(inner) if len(rest) == 1 else inner, rest[1:], (*before, rest[0]), bound)
        return _value(value[0], rest, before, bound) if value and rest else (list(value) if value else None)
    if not rest:
        return value
    if not isinstance(value, Mapping):
        return None
    name, rest = _step(value, rest)
    return _value(value.get(name), rest, (*before, name), bound)


def _step(value: Mapping[str, Any], rest: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return the next name of a path and what is left; names may hold points themselves."""
    whole = next((n for n in range(len(rest), 0, -1) if ".".join(rest[:n]) in value), 1)
    return ".".join(rest[:whole]), rest[whole:]


def _key_of(one: Mapping[str, Any]) -> str | None:
    if not any(name in one for name in _VALUES):
        return None
    key = next((one[name] for name in _KEYS if name in one), None)
    return key if isinstance(key, str) else None


def _only(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    known = [one for one in value.values() if one is not None]
    return known[0] if len(known) == 1 else value
