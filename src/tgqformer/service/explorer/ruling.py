"""What the rules did to a list, item by item: which they hid or moved, and by which rule, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tgqformer.store.base import Hit, StoreRow, StoreTable
from tgqformer.store.rules import Rules, considered

WORDS = {
    "exclude": "on the list of excluded ids",
    "in_stock": "out of stock",
    "same_category": "another category",
    "price": "outside the price band",
    "same_picture_once": "the same picture as one that stands before it",
}


@dataclass(frozen=True)
class Hidden:
    """A near item that the list does not show: where it would stand without rules, and why it does not."""

    hit: Hit
    place: int
    why: str


@dataclass(frozen=True)
class Ruled:
    """What rules did to a list. moved: id -> from where, and by which rule. hidden: nearest first."""

    moved: dict[str, str]
    hidden: list[Hidden]


def ruled(table: StoreTable, query: StoreRow, k: int, rules: Rules) -> Ruled:
    """Compare the list of k with the k nearest, which it would be without rules; blocking."""
    found, chosen = considered(table, query, k, None, rules)
    out = {place: name for name, places in chosen.hidden.items() for place in places.tolist()}
    passing = [place for place in range(1, len(found) + 1) if place not in out]
    shown = chosen.places.tolist()
    soft = _soft(rules)
    moved = {
        found[place - 1].id: f"moved {'up' if was > now else 'down'} from {was}. by {soft}"
        for now, place in enumerate(shown, 1)
        if (was := passing.index(place) + 1) != now
    }
    hidden = []
    for place, hit in enumerate(found[:k], 1):
        if place in out:
            why = _why(out[place], hit, query, [found[one - 1] for one in passing if one < place], rules)
            hidden.append(Hidden(hit, place, f"hidden: {why}"))
        elif place not in shown:
            hidden.append(Hidden(hit, place, f"moved down by {soft}"))
    return Ruled(moved, hidden)


def _soft(rules: Rules) -> str:
    """Name the rules that order a list anew."""
    boost = "the boost of the same category" if rules.same_category == "boost" else ""
    return " and ".join(filter(None, ["diversity" if rules.diversity else "", boost]))


def _why(rule: str, hit: Hit, query: StoreRow, before: Sequence[Hit], rules: Rules) -> str:
    if rule == "min_score":
        return f"the cosine is under {rules.min_score:g}"
    if rule == "one_per_group":
        twin = next((one for one in before if one.item_group == hit.item_group), None)
        return f"same group as {'this product' if twin is None else twin.title or twin.id}"
    return WORDS[rule]
