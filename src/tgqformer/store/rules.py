"""Rules of a list: which of the nearest items are shown, and in which order. The one module for every list.

Hard rules hide items; what is left, best first, is the pool. Soft rules (a boost, diversity) order the pool anew. The
same rules give the same list from the table of neighbours as from a search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import Field

from tgqformer.catalog.checks import MAX_LEVELS
from tgqformer.catalog.pictures import ALIKE, near_identical
from tgqformer.config import NaturalFloat, Share, parse, read_yaml, settings
from tgqformer.errors import TgqError
from tgqformer.store.base import Filter, Hit, StoreRow, StoreTable
from tgqformer.types import Bools, Doubles, Floats, Ints, Shades, Vectors

POOL = 3  # times k items that soft rules choose from
LENGTH, LISTS = 10, "lists.json"  # of the lists that are looked at beforehand, and what says how they are
MANY = 10_000  # a search for more asks first how many items there are
SLACK = 4  # times as many candidates as are needed that a search looks at first, where hard rules hide some


@settings
class Rules:
    """What a shop wants of a list.

    Args:
        one_per_group: one item of a group of variants, and none of the query's own.
        in_stock: leave out what is known to be out of stock.
        exclude: ids that are never shown.
        same_category: of the query: `require` it, `boost` it (adds `boost` to the cosine), or take `any`.
        boost: how much that is.
        category_levels: so many levels of the path make a category; 0 for all.
        price_from, price_to: the price now, in times of the query's. An item without a price, or in another currency,
            does not pass; where the query has none, all do.
        min_score: the cosine at least.
        diversity: from 0, the nearest, to 1: how much an item loses by being like one before it (maximal marginal
            relevance: Carbonell and Goldstein, SIGIR 1998).
        same_picture_once: near-identical pictures count once, the query's too.
    """

    one_per_group: bool = True
    in_stock: bool = False
    exclude: tuple[str, ...] = ()
    same_category: Literal["any", "boost", "require"] = "any"
    category_levels: Annotated[int, Field(ge=0, le=MAX_LEVELS)] = 0
    boost: Share = 0.1
    price_from: NaturalFloat | None = None
    price_to: NaturalFloat | None = None
    min_score: Annotated[float, Field(ge=-1, le=1)] | None = None
    diversity: Share = 0.0
    same_picture_once: bool = False

    def __post_init__(self) -> None:
        if self.price_from is not None and self.price_to is not None and self.price_from > self.price_to:
            raise ValueError(f"price_from is {self.price_from:g}, above price_to, {self.price_to:g}")

    @property
    def soft(self) -> bool:
        """Whether the order may be another than by cosine."""
        return self.diversity > 0 or self.same_category == "boost"

    def pool(self, k: int) -> int:
        """Return how many items must pass the hard rules for a list of k."""
        return POOL * k if self.soft else k

    def changed(self, given: Any, where: str) -> Rules:
        """Return these rules with some fields set anew. Raise TgqError for an unknown field, with the nearest one."""
        known = {one.name: getattr(self, one.name) for one in fields(self)}
        return parse(Rules, {**known, **given}, where) if given else self


PLAIN = Rules(one_per_group=False)
"""No rules at all."""


def load_rules(path: Path) -> Rules:
    """Read rules from the section `rules` of a recipe, or from a file of their own. Raise TgqError for other keys."""
    _, data = read_yaml(path, {}, "rules")
    whole = {"name", "models", "rules"} & data.keys()  # a recipe
    return parse(Rules, data.get("rules") or {} if whole else data, str(path))


def rules_beside(store: str) -> Rules:
    """Return the rules in the recipe of the run that a store belongs to; the defaults where there is none."""
    recipe = Path(store).parent / "recipe.yaml"
    return load_rules(recipe) if "://" not in store and recipe.is_file() else Rules()


def rules_of(store: str, file: Path | None, given: Iterable[str]) -> Rules:
    """Return the rules of a file, else those beside a store, with some set anew by `NAME=VALUE`.

    Raise TgqError for an unknown name, with the nearest one, or a wrong value.
    """
    rules, changes = (load_rules(file) if file is not None else rules_beside(store)), dict[str, Any]()
    for word in given:
        name, equals, value = word.partition("=")
        if not equals:
            raise TgqError(f"the rule {word!r} must be NAME=VALUE, such as diversity=0.3")
        found = yaml.safe_load(value) if value else None
        changes[name] = [str(one) for one in value.split(",")] if name == "exclude" else found
    return rules.changed(changes, "rules")


@dataclass(frozen=True)
class Columns:
    """What rules read of n items, a column a field.

    group, path, currency: numbers, the same for the same group, category path or currency; -1 for none. look: [n, 192],
    -1 where unknown. paths, groups, currencies: what the numbers stand for. price: that paid now, NaN where it is not
    known.
    """

    ids: list[str]
    group: Ints
    available: Bools
    price: Doubles
    currency: Ints
    path: Ints
    paths: dict[tuple[str, ...], int]
    look: Shades
    groups: dict[str, int]
    currencies: dict[str, int]
    _shortened: dict[int, Ints] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, rows: Iterable[StoreRow | Hit], *, pictures: bool = True) -> Columns:
        """Read the columns of some rows, in their order; the looks of pictures only where they are needed."""
        ids, prices, available = list[str](), list[float](), list[bool]()
        groups, paths, currencies = _Numbers(), _Numbers(), _Numbers()
        looks = list[bytes | None]()
        for row in rows:
            ids.append(row.id)
            price = row.sale_price if row.sale_price is not None else row.price
            prices.append(np.nan if price is None else price)
            available.append(row.availability != "out_of_stock")
            groups.add(row.item_group)
            currencies.add(row.currency)
            paths.add(row.category or None)
            looks.append(row.look if pictures else None)
        bought = np.array(available, bool), np.array(prices, np.float64)
        numbers = currencies.column(), paths.column()
        return cls(
            ids, groups.column(), *bought, *numbers, paths.known, looks_of(looks), groups.known, currencies.known
        )

    @cached_property
    def shade(self) -> Floats:
        """The mean of each look, [n]; NaN where it is not known."""
        if not self.look.strides[0]:  # one row for all: none is known
            return np.full(len(self.look), np.nan, np.float32)
        return np.where(self.look[:, 0] < 0, np.float32(np.nan), self.look.mean(1, dtype=np.float32))

    @property
    def grouped(self) -> bool:
        """Whether any item has a group."""
        return bool(self.groups)

    def patched(self, rows: Iterable[tuple[int, StoreRow | Hit]]) -> Columns:
        """Return the columns with what these rows say of the items at these places."""
        available, price = self.available.copy(), self.price.copy()
        group, path, currency = self.group.copy(), self.path.copy(), self.currency.copy()
        groups, paths, currencies = dict(self.groups), dict(self.paths), dict(self.currencies)
        look, pictured = self.look, bool(self.look.strides[0])
        for place, row in rows:
            now = Columns.of([row], pictures=pictured)
            if (look[place] != now.look[0]).any():
                look = look.copy() if look is self.look else look
                look[place] = now.look[0]
            available[place], price[place] = now.available[0], now.price[0]
            group[place] = -1 if row.item_group is None else groups.setdefault(row.item_group, len(groups))
            path[place] = paths.setdefault(row.category, len(paths)) if row.category else -1
            currency[place] = -1 if row.currency is None else currencies.setdefault(row.currency, len(currencies))
        return Columns(self.ids, group, available, price, currency, path, paths, look, groups, currencies)

    def in_category(self, query: int, places: Ints, levels: int) -> Bools:
        """Say which items have the query's category, by so many levels of the path (0 for all)."""
        own = self.path[query]
        if own < 0:
            return np.ones(len(places), bool)
        if not levels:
            return np.asarray(self.path[places] == own)
        short = self._short(levels)
        return np.asarray((self.path[places] >= 0) & (short[self.path[places]] == short[own]))

    def _short(self, levels: int) -> Ints:
        """Return a number for each path, the same for those with the same first levels; worked out once."""
        if levels not in self._shortened:
            numbers = dict[tuple[str, ...], int]()
            found = [numbers.setdefault(path[:levels], len(numbers)) for path in self.paths]
            self._shortened[levels] = np.array(found, np.int64)
        return self._shortened[levels]


@dataclass(frozen=True)
class Chosen:
    """A list by the rules: `places` [<= k] and their cosines, best first; what was left out, by the rule that hid it.

    `enough` says whether as many items passed the hard rules as the list needed.
    """

    places: Ints
    scores: Floats
    enough: bool
    hidden: dict[str, Ints] = field(default_factory=dict)
    moved: int = 0

    def told(self) -> str:
        """Say in words what the rules did; empty where they did nothing."""
        words = [f"{len(places)} by {name}" for name, places in self.hidden.items() if len(places)]
        left = f"left out: {', '.join(words)}" if words else ""
        return "; ".join(filter(None, [left, f"{self.moved} moved" if self.moved else ""]))


def choose(
    columns: Columns,
    query: int,
    places: Ints,
    scores: Floats,
    k: int,
    rules: Rules,
    vectors: Callable[[Ints], Vectors] | None = None,
) -> Chosen:
    """Choose k of the candidates `places` [m] with cosines `scores` [m], best first, for the item at place `query`.

    vectors: gives those of some places, of unit length; needed for diversity.

    Raise TgqError where they are needed and not given.
    """
    if rules.diversity and vectors is None:
        raise TgqError("lists can be diverse only where the neighbours have vectors; run `tgq neighbours` again")
    hidden: dict[str, Ints] = {}
    for name, passes in _hard(rules):
        stays = passes(columns, query, places, scores, rules)
        if not stays.all():
            hidden[name] = places[~stays]
            places, scores = places[stays], scores[stays]
    wanted = rules.pool(k)
    enough = len(places) >= wanted
    places, scores = places[:wanted], scores[:wanted]
    if not rules.soft:
        return Chosen(places, scores, enough, hidden)
    value = scores
    if rules.same_category == "boost":
        value = scores + np.asarray(rules.boost * columns.in_category(query, places, rules.category_levels), np.float32)
    if vectors is not None and rules.diversity and len(places):
        order = _marginal(value, vectors(places), k, rules.diversity)
    else:
        order = np.argsort(-value, kind="stable")[:k]
    return Chosen(places[order], scores[order], enough, hidden, int((order != np.arange(len(order))).sum()))


def listed(
    table: StoreTable, query: StoreRow, k: int, where: Filter | None, rules: Rules, *, exact: bool = False
) -> tuple[list[Hit], Chosen]:
    """Search the list of k for a row, which need not be in the table; more candidates are asked for until it is full.

    Raise TgqError for k < 1.
    """
    found, chosen = considered(table, query, k, where, rules, exact=exact)
    return [found[place - 1] for place in chosen.places.tolist()], chosen


def considered(
    table: StoreTable, query: StoreRow, k: int, where: Filter | None, rules: Rules, *, exact: bool = False
) -> tuple[list[Hit], Chosen]:
    """Return all candidates of a list, nearest first, and what the rules chose: places count from 1, 0 is the query.

    Raise TgqError for k < 1.
    """
    if k < 1:
        raise TgqError(f"k is the number of items to find, at least 1; got {k}")
    size = rules.pool(k) * (1 if rules == PLAIN else SLACK) + 1 + len(rules.exclude)
    if size > MANY:
        size = min(size, table.count() + 1)
    while True:
        hits = table.search(query.vector, size, where, exact=exact)
        found = [hit for hit in hits if hit.id != query.id]
        columns = Columns.of([query, *found], pictures=rules.same_picture_once)
        scores = np.array([hit.score for hit in found], np.float32)

        def vectors(places: Ints, found: Sequence[Hit] = found) -> Vectors:
            rows = table.get([found[place - 1].id for place in places.tolist()])
            return np.array([row.vector for row in rows], np.float32)

        chosen = choose(columns, 0, np.arange(1, len(found) + 1), scores, k, rules, vectors)
        too_low = rules.min_score is not None and bool(len(scores)) and float(scores[-1]) < rules.min_score
        if chosen.enough or len(hits) < size or too_low:
            return found, chosen
        size *= SLACK


def similar(
    table: StoreTable,
    item_id: str,
    k: int,
    where: Filter | None = None,
    rules: Rules = Rules(),  # noqa: B008
    *,
    exact: bool = False,
) -> list[Hit]:
    """Find the `k` items of a table most similar to one of its items, itself left out, by the rules.

    Raise UnknownItem; TgqError for k < 1.
    """
    [row] = table.get([item_id])
    return listed(table, row, k, where, rules, exact=exact)[0]


Passes = Callable[[Columns, int, Ints, Floats, Rules], Bools]


def _hard(rules: Rules) -> list[tuple[str, Passes]]:
    """Return the hard rules that are set, in the order in which they are asked."""
    asked: list[tuple[str, bool, Passes]] = [
        ("exclude", bool(rules.exclude), _not_excluded),
        ("min_score", rules.min_score is not None, lambda c, q, p, s, r: np.asarray(s >= np.float32(r.min_score or 0))),
        ("in_stock", rules.in_stock, lambda c, q, p, s, r: c.available[p]),
        (
            "same_category",
            rules.same_category == "require",
            lambda c, q, p, s, r: c.in_category(q, p, r.category_levels),
        ),
        ("price", rules.price_from is not None or rules.price_to is not None, _in_band),
        ("one_per_group", rules.one_per_group, lambda c, q, p, s, r: _first_of_each(c.group, q, p)),
        ("same_picture_once", rules.same_picture_once, _other_pictures),
    ]
    return [(name, passes) for name, is_set, passes in asked if is_set]


def _not_excluded(columns: Columns, query: int, places: Ints, scores: Floats, rules: Rules) -> Bools:
    out = frozenset(rules.exclude)
    return np.array([columns.ids[place] not in out for place in places.tolist()], bool)


def _in_band(columns: Columns, query: int, places: Ints, scores: Floats, rules: Rules) -> Bools:
    own = float(columns.price[query])  # not NumPy's, which warns where a product is beyond all numbers
    if np.isnan(own):
        return np.ones(len(places), bool)
    low = own * (rules.price_from or 0.0)
    high = np.inf if rules.price_to is None else own * rules.price_to
    prices = columns.price[places]
    same = columns.currency[places] == columns.currency[query]
    return np.asarray(same & (prices >= low) & (prices <= high))  # NaN is neither


def _first_of_each(number: Ints, query: int, places: Ints) -> Bools:
    """Say which items are the first of their number, and have another than the query's; those without one always."""
    seen, stays = {int(number[query])}, list[bool]()
    for one in number[places].tolist():
        stays.append(one < 0 or one not in seen)
        seen.add(one)
    return np.array(stays, bool)


def _other_pictures(columns: Columns, query: int, places: Ints, scores: Floats, rules: Rules) -> Bools:
    """Say which items have a picture unlike the query's, and unlike that of each item before that stays."""
    asked = np.concatenate([[query], places])
    shade = columns.shade[asked]
    one, other = np.nonzero(np.abs(shade[:, None] - shade) <= ALIKE)  # as near as all 64 places are, and NaN to nothing
    one, other = one[one < other], other[one < other]
    few = columns.look[:, ::24]  # a few places first: most pairs end there
    same = np.abs(few[asked[one]] - few[asked[other]]).max(-1, initial=0) <= ALIKE
    one, other = one[same], other[same]
    same = near_identical(columns.look[asked[one]], columns.look[asked[other]])
    one, other = one[same], other[same]
    stays = np.ones(len(asked), bool)
    for before, place in sorted(zip(one.tolist(), other.tolist(), strict=True), key=lambda pair: pair[1]):
        stays[place] &= not stays[before]
    return stays[1:]


def _marginal(value: Floats, vectors: Vectors, k: int, diversity: float) -> Ints:
    """Choose k of the pool [m], each by its value less its cosine with the nearest that was chosen before."""
    gain, nearest, order = (1 - diversity) * value, np.full(len(value), -np.inf, np.float32), list[int]()
    left = gain.copy()
    for _ in range(min(k, len(value))):
        best = int(left.argmax())
        order.append(best)
        gain[best] = -np.inf
        alike = np.einsum("ij,j->i", vectors, vectors[best])  # no BLAS: its threads would wait for each other
        np.maximum(nearest, alike, out=nearest)
        left = gain - diversity * nearest
    return np.array(order, np.int64)


def looks_of(looks: Sequence[bytes | None]) -> Shades:
    """Return looks as [n, 192], one row for all where none is known."""
    known = [place for place, look in enumerate(looks) if look]
    if not known:
        return np.broadcast_to(np.full(192, -1, np.int16), (len(looks), 192))
    found = np.full((len(looks), 192), -1, np.int16)
    found[known] = np.frombuffer(b"".join(look for look in looks if look), np.uint8).reshape(len(known), 192)
    return found


class _Numbers:
    """Numbers for values, in the order in which they come first; -1 for None."""

    def __init__(self) -> None:
        self.known, self._column = dict[Any, int](), list[int]()

    def add(self, value: Any) -> None:
        self._column.append(-1 if value is None else self.known.setdefault(value, len(self.known)))

    def column(self) -> Ints:
        return np.array(self._column, np.int64)
