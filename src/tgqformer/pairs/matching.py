"""Whether a log and a catalogue name items alike; where they do not, what is different."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tgqformer.errors import TgqError, option

FEW = 0.02
"""A smaller share of known items is plainly not meant: it is told."""
_SAMPLE = 100_000
_FORMS: dict[str, Callable[[str], str]] = {
    "zeros at the front": lambda name: name.lstrip("0") or "0",
    "a .0 at the end": lambda name: re.sub(r"\.0+$", "", name),
    "capitals": str.lower,
    "spaces or quotes": lambda name: re.sub(r"[\s'\"=]", "", name),
    "what stands before the last separator": lambda name: re.split(r"[-_:/#.]", name.rstrip("/"))[-1],
    "what stands behind the first separator": lambda name: re.split(r"[-_:/#.]", name)[0],
    "letters before the number": lambda name: re.sub(r"^\D+(?=\d)", "", name),
}
"""What may be different between two spellings of an id, and the spelling without it."""


def check_items(found: pa.Array, known: Sequence[str], what: str) -> str | None:
    """Compare the items of a log or a list with those of a catalogue.

    Args:
        found: the ids that are named, each once. known: those of the catalogue. what: names `found`, for people.

    Returns:
        A warning where few are known; None where all is well.

    Raises:
        TgqError: where none is known, with samples of both and what seems to be different.
    """
    names = pc.unique(found).to_pylist()
    common = int(pc.sum(pc.is_in(pa.array(names, pa.string()), value_set=pa.array(known, pa.string()))).as_py() or 0)
    if not names or common > FEW * min(len(names), len(known)):
        return None
    sides = f"{what}: {_some(names)}; the catalogue: {_some(known)}"
    hint = _difference(names, known)
    if common == 0:
        raise TgqError(f"no item of {what} is in the catalogue. {sides}. {hint}")
    return (
        f"only {common:,} of the {len(names):,} items of {what} are in the catalogue ({len(known):,}). {sides}. {hint}"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:3]) + (" …" if len(names) > 3 else "")


def _difference(names: Sequence[str], known: Sequence[str]) -> str:
    """Say which form of the ids would match most, with an example."""
    best, example = 0, ""
    there = set(known)
    unknown = [name for name in names[:_SAMPLE] if name not in there]
    for what, form in _FORMS.items():
        forms = {form(name): name for name in known[:_SAMPLE]}
        alike = [(name, forms[form(name)]) for name in unknown if form(name) in forms]
        if len(alike) > best:
            best, (left, right) = len(alike), alike[0]
            example = f"They differ in {what}: {left!r} here, {right!r} there ({best:,} would match)"
    return example or f"Check the column of the item ({option('item')}) and that both are of the same shop"
