"""The pictures of a row: their sources are looked for below a folder, read and checked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tgqformer.catalog.addresses import fetched_file
from tgqformer.catalog.checks import MAX_PICTURES, Findings
from tgqformer.catalog.item import Picture
from tgqformer.catalog.pictures import PictureError, check, read_file, resolve
from tgqformer.catalog.rows import DraftItem, PictureSource
from tgqformer.catalog.styles import ADDRESS, names_in

_SIZE = re.compile(r"_(?:\d+x\d*|x\d+|pico|icon|thumb|small|compact|medium|large|grande|master)(?=\.\w+$)")


def with_pictures(draft: DraftItem, root: Path, *, keep: bool, tail: int = 1) -> DraftItem:
    """Read and check the pictures of a draft; those that cannot be read are dropped and told in `found`.

    Safe to call from several threads. `tail`: see `SourceStyle`.
    With `keep` the pictures keep their bytes; without, only those that have no path.
    """
    item = draft.item
    if item is None:
        return draft
    pictures: dict[str, Picture] = {}
    sources = [part for source in draft.sources for part in _parts(source, root)]
    draft.named = len(sources)
    for source in sources:
        try:
            picture, notes = _inspect(source, root, keep, tail)
        except PictureError as error:
            draft.found.append((f"picture-{error.kind}", error.reason))
            if error.kind in ("remote", "ambiguous"):
                draft.remote += addresses_in([source])
            continue
        if picture.digest in pictures:
            draft.found.append(("picture-repeated", f"{picture.path or 'packed bytes'}: the same picture again"))
            continue
        draft.found += notes
        pictures[picture.digest] = picture
    if pictures:
        draft.item = replace(item, pictures=tuple(pictures.values()))
    if not (pictures or item.title or item.brand or item.category or item.attributes):
        draft.reject = ("empty", "no text and no readable picture")
    return draft


def _parts(source: PictureSource, root: Path) -> tuple[PictureSource, ...]:
    """Return the pictures that a cell means: the file of its whole name, where there is one, else its parts."""
    if not source.parts:
        return (source,)
    try:
        whole = resolve(source.names[0], root).is_file()
    except (PictureError, OSError, ValueError):
        whole = False
    return (replace(source, parts=()),) if whole else source.parts[:MAX_PICTURES]


def _inspect(source: PictureSource, root: Path, keep: bool, tail: int) -> tuple[Picture, Findings]:
    if source.fault is not None:
        raise source.fault
    path, data = (None, source.data) if source.data is not None else _first_file(source.names, root, tail)
    name = path or (source.names[0] if source.names else "packed bytes")
    try:
        seen = check(data)
    except PictureError as error:
        raise PictureError(error.kind, f"{name}: {error.reason}") from error
    if seen.width < 2 or seen.height < 2:
        raise PictureError("tiny", f"{name}: {seen.width} x {seen.height} pixels")
    kept = data if keep or path is None else None
    notes = [(kind, f"{name}: {words}") for kind, words in seen.notes]
    return Picture(Picture.digest_of(data), path, kept, seen.look), notes


def _first_file(names: tuple[str, ...], root: Path, tail: int) -> tuple[str, bytes]:
    """Read the first of the names that is a file. Raise PictureError with the reason of the first local name."""
    first: PictureError | None = None
    for name in _spellings(names, tail, root):
        try:
            path = resolve(name, root)
            data = read_file(path)
        except PictureError as error:
            first = first if first is not None and first.kind != "missing" else error
            continue
        relative = os.path.relpath(path, os.path.abspath(root)).replace(os.sep, "/")  # noqa: PTH100
        if relative.encode("utf-8", "replace").decode() == relative:
            return relative, data
        first = PictureError("missing", f"{relative!r} is not a name in UTF-8; rename the file")
    address = next((name for name in names if ADDRESS.match(name)), None)
    if address is not None and (first is None or first.kind == "missing"):
        last = names_in(address)[-1:]
        if tail > 1 and last and (root / last[0]).is_file():
            raise PictureError("ambiguous", f"{address[:200]}: addresses of several items end in {last[0]!r}")
        raise PictureError("remote", f"{address[:200]} is not on this disk")
    raise first or PictureError("missing", "no file name")


def addresses_in(sources: Iterable[PictureSource]) -> list[str]:
    """Return the address of each picture that has one."""
    every = (next(filter(ADDRESS.match, part.names), None) for one in sources for part in (one.parts or (one,)))
    return [address for address in every if address is not None]


def _spellings(names: tuple[str, ...], tail: int, root: Path) -> Iterable[str]:
    """Return the local names to try, most of a path first.

    An address has the file that it was fetched to; else at least `tail` names from its end must fit. A path from
    Windows is tried with slashes; one that begins with a slash below the folder; a name with a question (`?v=1`) or a
    size (`_1024x1024`) also without it.
    """
    for name in names:
        if ADDRESS.match(name):
            if (fetched := fetched_file(name, root)) is not None:
                yield fetched
            yield from _ends(names_in(name), tail)
            continue
        yield name
        plain = name.replace("\\", "/").partition("?")[0]
        if plain.startswith("/"):
            yield from _ends(tuple(part for part in plain.split("/") if part not in ("", ".", "..")), 1)
        elif plain != name:
            yield plain


def _ends(parts: tuple[str, ...], tail: int) -> Iterable[str]:
    for start in range(max(len(parts) - tail + 1, 0)):
        name = "/".join(parts[start:])
        yield name
        if (unsized := _SIZE.sub("", name)) != name:
            yield unsized
