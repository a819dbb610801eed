"""Groups of products that are one: near-identical pictures, equal or nearly equal titles. For people to look at.

Nothing compares every item with every other: titles meet by keys, looks of pictures in a tree. Which pictures are
near-identical is what the rule `same_picture_once` goes by, too.
"""

from __future__ import annotations

import base64
import csv
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item
from tgqformer.catalog.pictures import ALIKE, PictureError, near_identical, read_picture
from tgqformer.errors import TgqError
from tgqformer.files import atomic_path, write_text
from tgqformer.types import Array, Ints, Shades

By = Literal["both", "picture", "title"]
WORDS = {
    "both": "near-identical first pictures, and titles that are equal or one word apart",
    "picture": "near-identical first pictures",
    "title": "equal titles",
}
_FEW = 64  # pictures that are compared pair by pair; more go into a tree
_SIDE = 150  # pixels of a picture on the page
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Twin:
    """One item of a group; same_file: its first picture is that of the group's first item to the byte."""

    id: str
    title: str | None
    brand: str | None
    price: float | None
    item_group: str | None
    picture: str | None
    same_file: bool


def find_duplicates(catalog: Catalog, by: By = "both", *, variants: bool = False) -> list[list[str]]:
    """Return groups of ids, the largest first, items in their order. A group's pictures are like its first item's.

    by: see `WORDS`; word order, capitals, accents and signs do not tell titles apart, a word with a digit does.
    variants: also groups of one `item_group` alone, which are known to be one product.

    Raise TgqError where no item has what is compared.
    """
    table = catalog.table(["id", "title", "item_group", "pictures"])
    titles, pictures = table["title"].to_pylist(), table["pictures"].to_pylist()
    looks = [(of[0]["look"] if of else None) for of in pictures]
    able = [
        place
        for place, (title, look) in enumerate(zip(titles, looks, strict=True))
        if (by == "title" or look) and (by == "picture" or (title and _words(title)))
    ]
    if not able:
        raise TgqError(f"no item of {catalog.path} has the {'title and picture' if by == 'both' else by} to compare")
    blocks = [np.array(able, np.int64)]
    words = {} if by == "picture" else {place: _words(titles[place]) for place in able}

    def by_title(block: Ints) -> list[Ints]:
        return _linked([words[place] for place in block.tolist()], near=by == "both")

    def by_look(block: Ints) -> list[Ints]:
        shades = np.frombuffer(b"".join(looks[place] or b"" for place in block.tolist()), np.uint8)
        return _alike(shades.reshape(len(block), -1))

    first = {"both": (by_title, by_look), "picture": (by_look,), "title": (by_title,)}[by]
    for parted in first:
        blocks = _refined(blocks, parted)
    if by == "both":  # titles that only others of the block held together part again
        blocks = _refined(blocks, by_title)
    ids, groups = table["id"].to_pylist(), table["item_group"].to_pylist()
    found = [block.tolist() for block in blocks]
    kept = [one for one in found if variants or len({groups[at] or (at,) for at in one}) > 1]
    return [[ids[at] for at in one] for one in sorted(kept, key=lambda one: (-len(one), one[0]))]


def _refined(blocks: list[Ints], parted: Callable[[Ints], list[Ints]]) -> list[Ints]:
    """Return the parts of all blocks."""
    return [block[part] for block in blocks for part in parted(block)]


def _words(title: str) -> tuple[str, ...]:
    """Return the words of a title, sorted, without accents, capitals and signs."""
    plain = "".join(one for one in unicodedata.normalize("NFKD", title) if not unicodedata.combining(one))
    return tuple(sorted(_WORD.findall(plain.casefold())))


def _linked(words: Sequence[tuple[str, ...]], *, near: bool) -> list[Ints]:
    """Return the groups [>= 2] of titles that share a key: all words or, with `near`, all but one that has no digit."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    keys, owners = list[int](), list[int]()
    for place, own in enumerate(words):
        drawn = {own, *_shorter(own)} if near else {own}
        keys += map(hash, drawn)
        owners += [place] * len(drawn)
    order = np.argsort(np.array(keys, np.int64), kind="stable")
    key, owner = np.array(keys, np.int64)[order], np.array(owners, np.int64)[order]
    same = key[1:] == key[:-1]
    edges = (np.ones(int(same.sum()), np.int8), (owner[:-1][same], owner[1:][same]))
    _, labels = connected_components(coo_array(edges, shape=(len(words), len(words))), directed=False)
    return _groups(np.asarray(labels, np.int64))


def _shorter(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield a title of three words or more without one of them, unless that has a digit: sizes and models differ."""
    if len(words) >= 3:
        for place, word in enumerate(words):
            if not any(map(str.isdigit, word)):
                yield words[:place] + words[place + 1 :]


def _groups(labels: Ints) -> list[Ints]:
    """Return the places of each label that stands twice or more."""
    order = np.argsort(labels, kind="stable")
    ends = np.flatnonzero(np.diff(labels[order])) + 1
    return [part for part in np.split(order, ends) if len(part) > 1]


def _alike(shades: Array) -> list[Ints]:
    """Return the groups [>= 2] of looks [n, 192]: each is like the first of its group, and that like none before it."""
    unique, first, inverse = np.unique(shades, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)  # as they stand, not as they are sorted
    own = unique[order].astype(np.int16)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return _groups(_leaders(own)[rank[inverse.reshape(-1)]])


def _leaders(looks: Shades) -> Ints:
    """Return the place of the first look that each is like, among those that are like none before them."""
    leader = np.full(len(looks), -1, np.int64)
    tree = None
    if len(looks) > _FEW:
        from scipy.spatial import KDTree

        centre = looks.reshape(-1, 8, 8, 3)[:, 2:6, 2:6, 1].reshape(len(looks), -1)  # where products differ most
        tree = KDTree(centre)
    for place in range(len(looks)):
        if leader[place] >= 0:
            continue
        near = np.arange(place, len(looks))
        if tree is not None:
            near = np.array(tree.query_ball_point(centre[place], ALIKE + 1e-3, p=np.inf), np.int64)
        near = near[leader[near] < 0]
        leader[near[near_identical(looks[near], looks[place : place + 1])]] = place
    return leader


def described(catalog: Catalog, groups: Iterable[Sequence[str]]) -> list[list[Twin]]:
    """Return what is told of each item of groups of ids."""
    parts = [list(one) for one in groups]
    items = iter(catalog.take([name for one in parts for name in one], pictures=False))
    return [_twins([next(items) for _ in one]) for one in parts]


def _twins(items: list[Item]) -> list[Twin]:
    digests = [item.pictures[0].digest if item.pictures else None for item in items]
    return [
        Twin(
            item.id,
            item.title,
            item.brand,
            item.price,
            item.item_group,
            item.pictures[0].path if item.pictures else None,
            digest is not None and digest == digests[0],
        )
        for item, digest in zip(items, digests, strict=True)
    ]


def write_csv(path: Path, groups: Sequence[Sequence[Twin]]) -> None:
    """Write a row an item: the number of its group, from 1, and what is told of it."""
    with atomic_path(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["group", *Twin.__dataclass_fields__])
        table.writeheader()
        table.writerows({"group": number, **asdict(one)} for number, twins in enumerate(groups, 1) for one in twins)


def write_lines(path: Path, groups: Sequence[Sequence[Twin]]) -> None:
    """Write a list of groups as JSON, each a list of its items."""
    write_text(path, json.dumps([[asdict(one) for one in twins] for twins in groups], ensure_ascii=False, indent=1))


def write_duplicates_page(path: Path, catalog: Catalog, groups: Sequence[Sequence[Twin]], by: By, shown: int) -> None:
    """Write a page of the first groups, with pictures; no script, nothing from outside."""
    first = groups[:shown]
    items = iter(catalog.take([one.id for twins in first for one in twins]))
    cards = [[(one, _thumbnail(next(items), catalog.root)) for one in twins] for twins in first]
    loader = PackageLoader("tgqformer.catalog", ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.get_template("duplicates.html").render(
        name=catalog.name,
        words=WORDS[by],
        groups=cards,
        total=len(groups),
        items=sum(map(len, groups)),
        of=len(catalog),
    )
    write_text(path, page)


def _thumbnail(item: Item, root: Path | None) -> str | None:
    try:
        image = read_picture(item.pictures[0], root) if item.pictures else None
    except PictureError:  # it was there when the catalogue was made; the page shows none
        return None
    if image is None:
        return None
    image.thumbnail((_SIDE, _SIDE))
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()
