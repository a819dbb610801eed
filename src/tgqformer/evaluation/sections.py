"""What the report's sections say, worked out from results: plain data and plots for the template."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tgqformer.evaluation import plots
from tgqformer.evaluation.buckets import Bucket, by_label, by_noise, by_quantile
from tgqformer.evaluation.intervals import Interval
from tgqformer.evaluation.results import Comparison, Result, SummaryRow, compare, models, stacked, views
from tgqformer.evaluation.tables import NAMES, SHOWN, best, points
from tgqformer.types import Array

MAIN = "hit@10"
"""The main metric: plots and buckets show it."""

CATEGORIES = 12
"""How many categories the report shows, the largest."""

MIN_QUERIES = 5
"""Buckets with fewer queries are left out: they say nothing."""


@dataclass(frozen=True)
class TableCell:
    """One figure of a table in per cent; `half` is half of its interval, "" if it has none."""

    mean: str
    half: str
    best: bool


@dataclass(frozen=True)
class MetricTable:
    """One metric: lines of (model, color, a cell per view), and below them who leads by how much on each view."""

    metric: str
    views: list[str]
    lines: list[tuple[str, int, list[TableCell | None]]]
    leads: list[tuple[str, str]]


@dataclass(frozen=True)
class Plot:
    """A plot with its caption."""

    caption: str
    svg: Markup


@dataclass(frozen=True)
class BucketTable:
    """Main metric by bucket: columns are models, lines (bucket, queries, a cell per model with its bar 0-100)."""

    view: str
    models: list[str]
    lines: list[tuple[str, int, list[tuple[TableCell, float] | None]]]


class Leads:
    """Paired comparisons of the best model with the others, each pair worked out once."""

    def __init__(self, results: Sequence[Result], rows: Sequence[SummaryRow]) -> None:
        self._results, self._rows = results, rows
        self._known: dict[tuple[str, str], list[Comparison]] = {}

    def pair(self, a: str, b: str, view: str, metric: str) -> Comparison | None:
        """Return the comparison of a with b, None where they share no view or metric."""
        if (a, b) not in self._known:
            self._known[a, b] = compare(self._results, a, b)
        return next((c for c in self._known[a, b] if (c.view, c.metric) == (view, metric)), None)

    def of(self, view: str, metric: str) -> Comparison | None:
        """Compare the best model of a view with the next best; None where there is only one."""
        ranked = sorted((r for r in self._rows if (r.view, r.metric) == (view, metric)), key=lambda r: -r.interval.mean)
        return self.pair(ranked[0].model, ranked[1].model, view, metric) if len(ranked) > 1 else None


def headlines(rows: Sequence[SummaryRow], leads: Leads) -> list[str]:
    """Say in a sentence per view who is best in the main metric and by how much."""
    sentences = []
    for view in dict.fromkeys(r.view for r in rows):
        ranked = [r for r in rows if (r.view, r.metric) == (view, MAIN)]
        if not ranked:
            continue
        top = max(ranked, key=lambda r: r.interval.mean)
        text = f"{view}: {top.model} has a match among the first ten for {100 * top.interval.mean:.1f} % of queries"
        lead = leads.of(view, MAIN)
        if lead is not None:
            margin = points(lead.difference).replace(" ", "\u00a0")
            if lead.difference.apart_from_zero:
                text += f", {margin} points over {lead.b}"
            elif lead.difference.mean == 0:
                text += f"; so has {lead.b}"
            else:
                text += f"; its lead over {lead.b} may be chance ({margin})"
        sentences.append(text + ".")
    return sentences


def tables(rows: Sequence[SummaryRow], leads: Leads) -> list[MetricTable]:
    """Lay the shown metrics out, the main one first."""
    columns, names = list(dict.fromkeys(r.view for r in rows)), list(dict.fromkeys(r.model for r in rows))
    found = {(r.model, r.view, r.metric): r.interval for r in rows}
    made = []
    for metric in (m for m in SHOWN if any(r.metric == m for r in rows)):
        tops = {view: best(rows, view, metric) for view in columns}
        lines = [
            (name, color, [_cell(found.get((name, view, metric)), tops[view]) for view in columns])
            for color, name in enumerate(names)
        ]
        made.append(MetricTable(NAMES[metric], columns, lines, _leads(leads, columns, metric)))
    return made


def _cell(interval: Interval | None, top: float | None) -> TableCell | None:
    if interval is None:
        return None
    half = "" if math.isnan(interval.low) else f"{100 * interval.half:.1f}"
    return TableCell(f"{100 * interval.mean:.1f}", half, interval.mean == top)


def _leads(leads: Leads, columns: Iterable[str], metric: str) -> list[tuple[str, str]]:
    found = [leads.of(view, metric) for view in columns]
    texts = [(points(lead.difference), f"{lead.a} over {lead.b}") if lead else ("", "") for lead in found]
    return texts if any(found) else []


def differences(rows: Sequence[SummaryRow], leads: Leads) -> MetricTable | None:
    """Compare the model that is best on the first view with every other, on the main metric."""
    columns = list(dict.fromkeys(r.view for r in rows if r.metric == MAIN))
    names = list(dict.fromkeys(r.model for r in rows))
    if not columns or len(names) < 3:
        return None
    first = max((r for r in rows if (r.view, r.metric) == (columns[0], MAIN)), key=lambda r: r.interval.mean).model
    lines = []
    for color, name in enumerate(names):
        if name != first:
            found = [leads.pair(first, name, view, MAIN) for view in columns]
            cells = [TableCell(points(c.difference), "", c.difference.apart_from_zero) if c else None for c in found]
            lines.append((name, color, cells))
    return MetricTable(first, columns, lines, [])


def view_bars(rows: Sequence[SummaryRow]) -> list[Plot]:
    """Draw the main metric with its intervals, a plot per view."""
    names = list(dict.fromkeys(r.model for r in rows))
    top = max((_top(r.interval) for r in rows if r.metric == MAIN), default=1.0)
    made = []
    for view in dict.fromkeys(r.view for r in rows):
        own = [r for r in rows if (r.view, r.metric) == (view, MAIN)]
        series = [_series(r.model, names.index(r.model), [0.0], [r.interval]) for r in own]
        if series:
            alt = f"{NAMES[MAIN]} on the {view} view: " + ", ".join(f"{s.name} {s.y[0]:.1f}" for s in series)
            label = f"{NAMES[MAIN]}, %"
            few = len(series) <= 6  # as many as have room for their names side by side
            drawn = plots.bars(alt, series, y=label, top=top) if few else plots.ranking(alt, series, x=label, top=top)
            made.append(Plot(view, drawn))
    return made


def _top(interval: Interval) -> float:
    return 100 * (interval.mean if math.isnan(interval.high) else max(interval.mean, interval.high))


def _series(name: str, color: int, x: Sequence[float], intervals: Sequence[Interval]) -> plots.Series:
    y, low, high = ([100 * v for v in part] for part in zip(*((i.mean, i.low, i.high) for i in intervals), strict=True))
    return plots.Series(name, color, x, y, low, high)


def training_curves(results: Sequence[Result]) -> list[Plot]:
    """Draw the loss and every validation metric over the steps, a line per model and seed."""
    keys = ["loss", *sorted({k for r in results for row in r.log for k in row if k.startswith("val_")})]
    names, made = models(results), []
    for key in keys:
        series = []
        for result in results:
            steps = [(row["step"], row[key]) for row in result.log if key in row]
            if steps:
                x, y = zip(*steps, strict=True)
                many = sum(other.model == result.model for other in results) > 1
                series.append(plots.Series(result.model, names.index(result.model), x, y, faint=many))
        if series:
            caption = "Training loss" if key == "loss" else f"Validation {NAMES.get(key[4:], key[4:])}"
            made.append(Plot(caption, plots.lines(f"{caption} over the steps", series, x="step", y="", markers=False)))
    return made


def severity_curves(results: Sequence[Result]) -> list[Plot]:
    """Draw the main metric over the severity of the query's noise, a plot per kind and view that knows them."""
    made = []
    for view in views(results):
        curves: dict[str, list[plots.Series]] = {}
        for color, name in enumerate(models(results)):
            for kind, steps in _noise_buckets(results, name, view).items():
                series = _series(name, color, [s for s, _ in steps], [b.interval for _, b in steps])
                curves.setdefault(kind, []).append(series)
        top = max((max(line.high) for lines in curves.values() for line in lines), default=100)
        for kind, lines in curves.items():
            alt = f"{NAMES[MAIN]} over the severity of {kind} noise on the {view} view"
            ticks = ["none", *map(str, range(1, 1 + int(max(x for line in lines for x in line.x))))]
            drawn = plots.lines(alt, lines, x="severity", y=f"{NAMES[MAIN]}, %", ticks=ticks, top=top)
            made.append(Plot(f"{kind} ({view})", drawn))
    return made


def _noise_buckets(results: Sequence[Result], name: str, view: str) -> dict[str, list[tuple[int, Bucket]]]:
    facts = _facts(results, name, view, "kind", "severity")
    if facts is None:
        return {}
    curves = by_noise(stacked(results, name, view, MAIN), *facts)
    kept = {kind: [(s, b) for s, b in curve if b.queries >= MIN_QUERIES] for kind, curve in curves.items()}
    return {kind: curve for kind, curve in kept.items() if len(curve) > 1}


def agreement_curves(results: Sequence[Result]) -> list[Plot]:
    """Draw the main metric over quarters of the queries' picture-title agreement, a plot per view that knows it."""
    made = []
    for view in views(results):
        series, ticks = [], []
        for color, name in enumerate(models(results)):
            facts = _facts(results, name, view, "agreement")
            found = by_quantile(stacked(results, name, view, MAIN), facts[0]) if facts else []
            if len(found) > 1:
                series.append(_series(name, color, list(range(len(found))), [b.interval for b in found]))
                ticks = [b.name.replace(" to ", "\nto ") for b in found]
        if series:
            alt = f"{NAMES[MAIN]} by the agreement of picture and title on the {view} view"
            label = "agreement of picture and title"
            made.append(Plot(view, plots.lines(alt, series, x=label, y=f"{NAMES[MAIN]}, %", ticks=ticks)))
    return made


def category_tables(results: Sequence[Result]) -> list[BucketTable]:
    """Lay the main metric out by the largest categories, a table per view that knows them."""
    made = []
    for view in views(results):
        columns = {}
        for name in models(results):
            facts = _facts(results, name, view, "category")
            if facts is not None:
                found = by_label(stacked(results, name, view, MAIN), facts[0])[:CATEGORIES]
                columns[name] = {b.name: b for b in found if b.queries >= MIN_QUERIES}
        if any(columns.values()):
            made.append(_category_table(view, columns))
    return made


def _category_table(view: str, columns: dict[str, dict[str, Bucket]]) -> BucketTable:
    sizes = {name: bucket.queries for found in columns.values() for name, bucket in found.items()}
    lines = []
    for name, queries in sizes.items():
        found = [column.get(name) for column in columns.values()]
        top = max(b.interval.mean for b in found if b)
        cells = [_cell(b.interval, top) if b else None for b in found]
        lines.append((name, queries, [(c, float(c.mean)) if c else None for c in cells]))
    return BucketTable(view, list(columns), lines)


def _facts(results: Sequence[Result], name: str, view: str, *wanted: str) -> list[Array] | None:
    """Return the wanted facts of a model's queries on a view, None unless it has them all and the main metric."""
    for result in results:
        if result.model == name and view in result.views:
            found = result.views[view]
            known = MAIN in found.values and all(fact in found.facts for fact in wanted)
            return [found.facts[fact] for fact in wanted] if known else None
    return None
