"""Does it sell? What shoppers did with answers, by model version and set of rules, with intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from tgqformer.evaluation.intervals import Interval, of_lift, of_ratio
from tgqformer.files import write_text
from tgqformer.service.events import Event

PLACES = 20  # positions that are told
_VIEW, _CLICK, _CART, _BUY = range(4)
_COLUMN = {"view": _VIEW, "click": _CLICK, "cart": _CART, "buy": _BUY}


@dataclass(frozen=True)
class PlaceSales:
    """Lists that were seen down to a place, counted from 1, and clicks there; `ctr` is their ratio."""

    place: int
    views: int
    clicks: int
    ctr: Interval


@dataclass(frozen=True)
class Sales:
    """What became of the lists of one model version by one set of rules.

    units: visitors; where events name none, items that lists were asked for. ctr, carts, buys: for each list that was
    seen. coverage: the share of the items that stood in a list that was seen; None where their number is not known.
    lift: how much the CTR is above that of the lists that were seen most, as a share; None for those.
    """

    version: str
    rules: str
    views: int
    units: int
    ctr: Interval
    carts: Interval
    buys: Interval
    coverage: float | None
    places: list[PlaceSales]
    lift: Interval | None


class _Tally:
    """Counts of one version by one set of rules, by unit."""

    def __init__(self) -> None:
        self.units = defaultdict[str, list[int]](lambda: [0, 0, 0, 0])
        self.places = defaultdict[int, dict[str, list[int]]](lambda: defaultdict(lambda: [0, 0]))
        self.marks = set[int]()

    def add(self, event: Event) -> None:
        column, unit = _COLUMN[event.event], event.unit
        if column != _VIEW or event.item is None:
            self.units[unit][column] += 1
        if column == _VIEW:
            seen = range(len(event.shown)) if event.position is None else [event.position - 1]
            self.marks.update(event.shown[place] for place in seen)
            for place in seen:
                if place < PLACES:
                    self.places[place + 1][unit][_VIEW] += 1
        elif column == _CLICK and event.position is not None and event.position <= PLACES:
            self.places[event.position][unit][_CLICK] += 1

    def column(self, number: int) -> list[int]:
        return [counts[number] for counts in self.units.values()]

    def at(self, place: int) -> PlaceSales:
        views, clicks = (list(one) for one in zip(*self.places[place].values(), strict=True))
        return PlaceSales(place, sum(views), sum(clicks), of_ratio(clicks, views))


def sales_of(events: Iterable[Event], says: Mapping[str, str], items: Mapping[str, int]) -> list[Sales]:
    """Return what became of all lists, those that were seen most first.

    says: what a set of rules says, by its short name. items: how many each model version has.
    """
    tallies = defaultdict[tuple[str, str], _Tally](_Tally)
    for event in events:
        tallies[event.version, event.rules].add(event)
    found = sorted(tallies.items(), key=lambda one: (-sum(one[1].column(_VIEW)), one[0]))
    return [_sales(name, tally, found[0][1], says, items) for name, tally in found]


def _sales(
    name: tuple[str, str], tally: _Tally, most: _Tally, says: Mapping[str, str], items: Mapping[str, int]
) -> Sales:
    views, clicks, carts, buys = (tally.column(number) for number in range(4))
    known = items.get(name[0])
    return Sales(
        version=name[0],
        rules=says.get(name[1], name[1]),
        views=sum(views),
        units=len(views),
        ctr=of_ratio(clicks, views),
        carts=of_ratio(carts, views),
        buys=of_ratio(buys, views),
        coverage=len(tally.marks) / known if known else None,
        places=[tally.at(place) for place in sorted(tally.places)],
        lift=None if tally is most else of_lift((clicks, views), (most.column(_CLICK), most.column(_VIEW))),
    )


def percent(found: Interval | None, *, signed: bool = False) -> str:
    """Write an interval in percent; empty where there is none."""
    if found is None or found.mean != found.mean:
        return ""
    sign = "+" if signed else ""
    mean, low, high = (f"{100 * one:{sign}.2f}" for one in (found.mean, found.low, found.high))
    return mean if found.low != found.low else f"{mean} ({low} to {high})"


HEAD = ("model version", "rules", "lists seen", "visitors", "CTR %", "lift %", "carts %", "buys %", "coverage %")


def cells(sales: Sales) -> tuple[str, ...]:
    """Return the cells of a line, by `HEAD`."""
    coverage = "" if sales.coverage is None else f"{100 * sales.coverage:.1f}"
    counts = (f"{sales.views:,}", f"{sales.units:,}")
    rates = (percent(sales.ctr), percent(sales.lift, signed=True), percent(sales.carts), percent(sales.buys))
    return (sales.version, sales.rules, *counts, *rates, coverage)


def write_sales_page(to: Path, found: Iterable[Sales]) -> None:
    """Write the report as one page, with the CTR at each place."""
    listed = list(found)
    parts = [_STYLE, "<main><h1>Does it sell?</h1>", f"<p>{_ABOUT}</p>", _table(HEAD, [cells(one) for one in listed])]
    for one in listed:
        rows = [(str(at.place), f"{at.views:,}", f"{at.clicks:,}", percent(at.ctr)) for at in one.places]
        parts.append(f"<h2>{escape(one.version)} {escape(one.rules)}</h2>")
        parts.append(_table(("place", "seen", "clicks", "CTR %"), rows))
    parts += [f'<div popover id="{_named(word)}" role="note">{escape(means)}</div>' for word, means in _MEANS.items()]
    write_text(to, "\n".join([*parts, "</main></html>"]) + "\n")


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    first = "".join(f'<th scope="col">{_term(word)}</th>' for word in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(word)}</td>' for word in row)}</tr>" for row in rows)
    table = f"<table><thead><tr>{first}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="group" aria-label="Table">{table}</div>'


def _term(word: str) -> str:
    """Return the head of a column, with its meaning one hover, or one key, away."""
    if word not in _MEANS:
        return escape(word)
    means = escape(_MEANS[word])
    return f'<button class="term" type="button" popovertarget="{_named(word)}" title="{means}">{escape(word)}</button>'


def _named(word: str) -> str:
    return "term-" + "".join(letter for letter in word if letter.isalpha())


_MEANS = {
    "rules": "The rules of the lists, where they are not the defaults.",
    "lists seen": "How many lists were seen.",
    "visitors": "Visitors; where events name none, the items that lists were asked for. What one does counts together.",
    "CTR %": "Clicks for each hundred lists that were seen, with a 95 % interval.",
    "lift %": "How much higher the CTR is than that of the first line.",
    "carts %": "Items put into a cart for each hundred lists that were seen.",
    "buys %": "Items bought for each hundred lists that were seen.",
    "coverage %": "The share of the items of the store that stood in some list that was seen.",
    "place": "The place of an item in the list, counted from 1.",
    "seen": "How often an item at this place was viewed.",
    "clicks": "How often it was clicked.",
}
_ABOUT = (
    "CTR: clicks for each list that was seen. Lift: against the first line. In brackets: 95 % intervals; what one"
    " visitor does counts together."
)
_STYLE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>Does it sell?</title>
<style>body{font:16px/1.5 system-ui;margin:2rem auto;max-width:72rem;padding:0 1rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse}
:focus-visible{outline:2.5px solid;outline-offset:2px}
.term{font:inherit;color:inherit;background:none;border:0;padding:.2rem 0;min-height:1.5rem;cursor:help;
  text-decoration:underline dotted}
[popover]{max-width:min(26rem,90vw);padding:.9rem 1.1rem;border:1px solid #8888;border-radius:8px}
td,th{padding:.3rem .7rem;text-align:left;border-bottom:1px solid #8888}
</style>"""
