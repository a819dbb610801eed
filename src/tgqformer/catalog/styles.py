"""How a source writes its cells, told by its columns as wholes: prices, category paths, ids, addresses of pictures."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from tgqformer.catalog.mapping import ColumnMapping
from tgqformer.catalog.nested import value_at
from tgqformer.catalog.prices import PriceStyle
from tgqformer.catalog.values import bare_text
from tgqformer.errors import option

ADDRESS = re.compile(r"(?:https?:|ftp:|s3:|gs:)?//(?=[^/\s|;,\"']+/)", re.IGNORECASE)
_MARKS = re.compile(r"[>|»›→\\]|::")
_LIST = re.compile(r"\w\s*;\s*\w|\w,\w")
_WOO_KINDS = frozenset(["simple", "variable", "variation", "grouped", "external", "subscription", ""])
_WHOLE_ID = re.compile(r"\d+\.0")
_FOUND_ADDRESS = re.compile(r"(?:https?:)?//[^\s\"'|;,]+")


@dataclass(frozen=True)
class SourceStyle:
    """What the columns of a source tell of their cells.

    prices: how prices are written. slashes: whether "/" stands between the levels of a category.
    whole_ids: whether ids are whole numbers that went through a column with gaps (`1000.0`).
    tail: how much of an address, in names from its end, must fit a file: 1, the name of the file, where no two items
    have addresses that end alike. language: of texts that are given in several.
    doubts: what was taken one way and may be meant another, in sentences.
    """

    prices: PriceStyle = PriceStyle()  # noqa: RUF009
    slashes: bool = False
    whole_ids: bool = False
    tail: int = 1
    language: str = "en"
    doubts: tuple[str, ...] = ()

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], mapping: ColumnMapping, language: str = "en") -> SourceStyle:
        """Tell the style by the first rows of a source."""
        paths = [str(cell) for column in mapping.category for cell in cells(rows, column) if isinstance(cell, str)]
        priced = (*mapping.price, *([mapping.sale_price] if mapping.sale_price else []))
        written = [cell for column in priced for cell in cells(rows, column)]
        ids, prices = [str(cell).strip() for cell in cells(rows, mapping.id)], PriceStyle.of(written)
        return cls(
            prices=prices,
            slashes=_are_levels(paths),
            whole_ids=bool(ids) and all(map(_WHOLE_ID.fullmatch, ids)),
            tail=_needed_tail(rows, mapping.pictures),
            language=language,
            doubts=(*_doubts(paths, prices.guessed), *_translated(rows)),
        )


def _doubts(paths: list[str], guessed: str | None) -> Iterator[str]:
    """Say what may be meant otherwise. guessed: a price whose mark was taken to part thousands, as that of all."""
    bare = [bare_text(path)[0] for path in paths]
    lists = [path for path in bare if _LIST.search(path)]
    if 2 * len(lists) <= len(paths):
        lists = _comma_lists(bare)
    if lists:
        yield (
            f"categories such as {lists[0][:60]!r} are taken for one name each; if they are levels, write > between "
            f"them or give each a column ({option('category')})"
        )
    if guessed is not None:
        yield f"all prices with a mark are like {guessed[:20]!r}: the mark is taken to part thousands"


def _comma_lists(paths: list[str]) -> list[str]:
    """Return categories such as `Men, Shoes` where several begin alike; `Clothing, Shoes and Jewelry` is one name."""
    lists = [path for path in paths if ", " in path and not _MARKS.search(path)]
    several = set(lists)
    tops = {path.partition(",")[0] for path in several}
    return lists if 4 * len(lists) > len(paths) and len(tops) < len(several) else []


def _translated(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Say that the columns seem to be those of WooCommerce in another language: it writes kinds in English always."""
    for column in next(iter(rows), {}):
        kinds = {str(row.get(column) or "").partition(",")[0].strip() for row in rows}
        if "variable" in kinds and kinds <= _WOO_KINDS:
            yield (
                "this may be an export of WooCommerce with column names in another language, of which most are not "
                "understood; export it while your profile's language is English"
            )


def cells(rows: Iterable[Mapping[str, Any]], column: str) -> list[Any]:
    """Return the filled cells of a column, which may be a path into objects."""
    found = [row[column] if column in row else value_at(row, column) for row in rows]
    return [cell for cell in found if cell is not None and cell != "" and cell == cell]


def names_in(address: str) -> tuple[str, ...]:
    """Return the folders and the file that an address names, without host and question."""
    try:
        path = unquote(urlsplit(address if ":" in address.split("/")[0] else f"http:{address}").path)
    except ValueError:
        return ()
    return tuple(name for name in PurePosixPath(path).parts if name not in ("/", ".", ".."))


def _are_levels(paths: list[str]) -> bool:
    """Say whether slashes part levels: in half of the cells, none of which has another mark, and with shared tops."""
    with_slash = {path for path in paths if "/" in path.strip("/ ")}
    if not with_slash or 2 * sum("/" in path for path in paths) < len(paths) or any(map(_MARKS.search, paths)):
        return False
    tops = {path.split("/")[0].strip() for path in with_slash}
    return len(tops) < len(with_slash)


def _needed_tail(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> int:
    """Return how many names from the end of an address are needed to tell the items' pictures apart."""
    of_item = [
        {names_in(address) for column in columns for address in _FOUND_ADDRESS.findall(str(row.get(column) or ""))}
        for row in rows
    ]
    deepest = max((len(names) for item in of_item for names in item), default=1)
    for tail in range(1, deepest):
        ends: dict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)
        items: dict[tuple[str, ...], set[int]] = defaultdict(set)
        for place, item in enumerate(of_item):
            for names in item:
                ends[names[-tail:]].add(names)
                items[names[-tail:]].add(place)
        if not any(len(ends[end]) > 1 and len(items[end]) > 1 for end in ends):
            return tail
    return deepest
