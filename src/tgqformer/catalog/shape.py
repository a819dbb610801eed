"""The shape of a table in a text file: its delimiter, and the line that names the columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

LOOK = 30
"""So many lines are looked at."""
_DELIMITERS = (",", ";", "\t", "|")
_DECLARED = re.compile(r"^\ufeff?\"?sep=(.)\"?\s*$", re.IGNORECASE)
_TYPED = re.compile(r":(token|token_seq|float|float_seq)$")
_DATA = re.compile(r"[-+]?[\d.,:/eE+-]*\d[\d.,:/TZeE +-]*")


@dataclass(frozen=True, slots=True)
class TableShape:
    """How a table stands in its file.

    delimiter: between the cells. header: place of the line that names the columns, from 0.
    names: its cells as they are. known: how many of them are usual names.
    """

    delimiter: str
    header: int
    names: tuple[str, ...]
    known: int

    @property
    def headless(self) -> bool:
        """Whether the line that should name the columns looks like data."""
        return self.known == 0 and any(_DATA.fullmatch(name.strip()) for name in self.names)


def plain_name(name: str) -> str:
    """Return a column name for comparison: small letters and digits, without `g:` before and RecBole's type behind."""
    return re.sub(r"[\W_]", "", _TYPED.sub("", name.strip().lower()).removeprefix("g:"))


def shape_of(
    lines: Sequence[str], usual: Collection[str], *, delimiters: Sequence[str] = _DELIMITERS
) -> TableShape | None:
    """Find out the shape from the first lines of a file; None where all are empty.

    The header is the first line, or a later one that holds two usual names or more, where the lines before it hold
    none: spreadsheets put titles there, or `sep=;`. The delimiter is the one that gives the header most usual names,
    then the one that cuts the lines below into as many cells.

    Args:
        lines: of the file, the first ones. usual: names of columns, as `plain_name` gives them.
        delimiters: which are tried.
    """
    first = next((place for place, line in enumerate(lines) if line.strip("\r\n \t\ufeff")), None)
    if first is None:
        return None
    declared = _DECLARED.match(lines[first])
    if declared:
        delimiters, first = (declared[1],), first + 1
    places = range(first, min(first + 10, len(lines)))
    best: TableShape | None = None
    for place in places:
        found = max((_shape(lines, place, one, usual) for one in delimiters), key=lambda shape: shape[0])[1]
        if best is None or (best.known == 0 and found.known >= 2):
            best = found
    return best


def _shape(
    lines: Sequence[str], place: int, delimiter: str, usual: Collection[str]
) -> tuple[tuple[int, float, int], TableShape]:
    names = cells_of(lines[place], delimiter)
    known = sum(plain_name(name) in usual for name in names)
    below = [line for line in lines[place + 1 :] if line.strip()]
    alike = sum(len(cells_of(line, delimiter)) == len(names) for line in below) / max(len(below), 1)
    score = (known, alike if len(names) > 1 else 0.0, lines[place].count(delimiter))
    return score, TableShape(delimiter, place, tuple(names), known)


def cells_of(line: str, delimiter: str) -> list[str]:
    """Return the cells of one line; a quote that is open at its end is closed there."""
    line = line.strip("\r\n\ufeff")
    if delimiter == " ":
        return line.split()
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return line.split(delimiter)
