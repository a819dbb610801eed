"""The report of a study: report.html, table.md, table.csv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tgqformer.catalog.item import Item
from tgqformer.collaborative.blend import BUCKETS
from tgqformer.collaborative.lists import Lists
from tgqformer.evaluation import plots, sections
from tgqformer.evaluation.pictures import thumbnail
from tgqformer.evaluation.report import versions, write_page
from tgqformer.evaluation.results import Comparison, Result, SummaryRow, compare, summarize, views
from tgqformer.evaluation.sections import MAIN, MetricTable, Plot, TableCell
from tgqformer.evaluation.tables import NAMES, caption, csv_text, markdown, percent, points
from tgqformer.experiments.study.study import ALL, CONTENT, StudyRun
from tgqformer.files import write_text
from tgqformer.objects import in_shell
from tgqformer.synthetic.noise import NoiseView, noise_views

GROUPS = {"content": 0, "behaviour": 6, "joined": 1}
"""Groups of sources, and the colour of each."""
EXAMPLES, WIDTH = 2, 6
NOTES = (
    "Everybody trains on the same log: the first part of the sessions, by time. A share of the items lost every click "
    "there (brand-new), a share kept one to three (few clicks). The content model learns from the same pairs, which "
    "hold no brand-new item. Weights of blends and the end of trainings come from later sessions, for validation; "
    "items that ask there never ask in the test.",
    "Queries are items of the last sessions, their positives are their partners there. Every item but the query is in "
    "the pool. What a list does not hold stands in no order behind it, and ties are averaged.",
    "A brand-new item asks with its content alone, and the content model has learned from these clicks already. All "
    "that joining can win there comes from better vectors of the other items, so its lead is smaller than where the "
    "item that asks has clicks itself, and may be none. Look at recall@10 (table.csv) beside H@10 there: "
    "clicks draw the items of a list together, which can find more partners for fewer queries.",
)


class Findings:
    """What the results of a study say.

    Args:
        run: the study. results: of all its sources and seeds.
    """

    def __init__(self, run: StudyRun, results: Sequence[Result]) -> None:
        self.run, self.results = run, results
        self.rows = summarize(results)
        self.buckets = views(results)
        systems = run.study.systems
        self.variants = [system.name for system in systems if system.ablation]
        self.behaviour = [system.name for system in systems if not system.content and not system.ablation]
        self.joined = [name for name in run.names() if name not in (CONTENT, *self.behaviour, *self.variants)]
        self._compared: dict[tuple[str, str], list[Comparison]] = {}

    def mean(self, name: str, bucket: str) -> SummaryRow:
        """H@10 of a source in a bucket."""
        return next(r for r in self.rows if (r.model, r.view, r.metric) == (name, bucket, MAIN))

    def single(self, bucket: str) -> str:
        """The best single source of a bucket, on the test itself: nothing joined is favoured by its choice."""
        return max([CONTENT, *self.behaviour], key=lambda name: self.mean(name, bucket).interval.mean)

    def gap(self, a: str, b: str, bucket: str) -> Comparison:
        """How far a is ahead of b, in H@10."""
        if (a, b) not in self._compared:
            chosen = [result for result in self.results if result.model in (a, b)]
            self._compared[a, b] = compare([_main(result) for result in chosen], a, b)
        return next(c for c in self._compared[a, b] if (c.view, c.metric) == (bucket, MAIN))

    def group(self, name: str) -> str:
        """The group of a source."""
        return "content" if name == CONTENT else "behaviour" if name in self.behaviour else "joined"

    def shown(self) -> list[SummaryRow]:
        """The rows of the large table: without variants."""
        return [row for row in self.rows if row.model not in self.variants]


def write_report(run: StudyRun) -> Path:
    """Judge everything and write report.html, table.md and table.csv; gives the page's path."""
    results, chosen = run.results(), run.chosen()
    found = Findings(run, results)
    write_text(run.folder / "table.md", markdown(found.shown()) + _joins_markdown(found) + _variants_markdown(found))
    write_text(run.folder / "table.csv", csv_text(found.rows))
    return write_page(
        run.folder / "report.html",
        "joined.html",
        {
            "title": f"{run.study.name}: content and behaviour joined, {len(run.log.ids):,} items",
            "headlines": _headlines(found, chosen),
            "settings": _settings(run, chosen),
            "groups": list(GROUPS.items()),
            "tables": _tables(found),
            "bars": _bars(found),
            "caption": caption(found.shown()),
            "joins": _joins(found),
            "singles": [(bucket, found.single(bucket)) for bucket in found.buckets],
            "variants": _variants(found),
            "weights": _weights(run, chosen),
            "examples": _examples(found, chosen),
            "notes": NOTES,
            "commands": [_command(run)],
            "versions": versions(),
        },
    )


def _command(run: StudyRun) -> str:
    words = f"tgq collab study {in_shell(run.folder / 'study.yaml')} --to {in_shell(run.folder)}"
    return words if run.data == run.folder / "data" else f"{words} --run {in_shell(run.data)}"


def _main(result: Result) -> Result:
    """The main metric alone: resampling the others takes most of the time."""
    kept = {name: type(view)(view.query, {MAIN: view.values[MAIN]}) for name, view in result.views.items()}
    return Result(result.model, result.seed, kept)


def _headlines(found: Findings, chosen: str) -> list[str]:
    lines = []
    for bucket in (name for name in found.buckets if name != ALL):
        single = found.single(bucket)
        gap = found.gap(chosen, single, bucket).difference
        sure = f"{points(gap)} points against" if gap.apart_from_zero else f"perhaps by chance {points(gap)} against"
        reached = percent(found.mean(chosen, bucket).interval)
        lines.append(f"{bucket}: {chosen} has a match among the first ten for {reached} % of queries, {sure} {single}.")
    return lines


def _settings(run: StudyRun, chosen: str) -> dict[str, object]:
    log, protocol = run.log, run.study.protocol
    queries = ", ".join(f"{len(places):,} {name}" for name, places in log.buckets(log.test).items())
    return {
        "catalogue": f"{run.recipe.catalog.source}, {len(log.ids):,} items",
        "training log": f"{len(log.train):,} sessions, {len(log.train.indices):,} clicks",
        "items": ", ".join(f"{int((log.bucket == at).sum()):,} {name}" for at, name in enumerate(BUCKETS)),
        "queries": queries,
        "few clicks": f"1 to {protocol.few_clicks}",
        "content model": run.recipe.models[0].name,
        "recommended, best on validation": chosen,
        "seeds": len(run.seeds),
    }


def _tables(found: Findings) -> list[MetricTable]:
    rows = found.shown()
    made = sections.tables(rows, sections.Leads([_main(r) for r in found.results], []))
    return [
        MetricTable(
            table.metric, table.views, [(name, GROUPS[found.group(name)], cells) for name, _, cells in table.lines], []
        )
        for table in made
    ]


def _bars(found: Findings) -> list[Plot]:
    rows = [row for row in found.shown() if row.metric == MAIN]
    top, made = max(100 * row.interval.mean for row in rows), []
    for bucket in found.buckets:
        ranked = sorted((r for r in rows if r.view == bucket), key=lambda r: -r.interval.mean)
        series = [
            plots.Series(
                r.model,
                GROUPS[found.group(r.model)],
                [0.0],
                [100 * r.interval.mean],
                [100 * r.interval.low],
                [100 * r.interval.high],
            )
            for r in ranked
        ]
        alt = f"{NAMES[MAIN]}, {bucket}: " + ", ".join(f"{s.name} {s.y[0]:.1f}" for s in series)
        made.append(Plot(bucket, plots.ranking(alt, series, x=f"{NAMES[MAIN]}, %", top=top)))
    return made


def _joins(found: Findings) -> MetricTable | None:
    lines = [
        (name, GROUPS["joined"], [_gap_cell(found, name, found.single(bucket), bucket) for bucket in found.buckets])
        for name in found.joined
    ]
    return MetricTable(MAIN, found.buckets, lines, []) if lines else None


def _variants(found: Findings) -> MetricTable | None:
    """The model whose variants were trained, against them, content alone, and itself without content."""
    base = _base(found)
    if base is None:
        return None
    others = [CONTENT, *_twins(found, base), *found.variants]
    lines = [(name, 4, [_gap_cell(found, base, name, bucket) for bucket in found.buckets]) for name in others]
    return MetricTable(base, found.buckets, lines, [])


def _base(found: Findings) -> str | None:
    systems = found.run.study.systems
    models = {system.model for system in systems if system.ablation}
    return next((s.name for s in systems if s.content and not s.ablation and s.model in models), None)


def _twins(found: Findings, base: str) -> list[str]:
    systems = {system.name: system for system in found.run.study.systems}
    return [name for name in found.behaviour if systems[name].model == systems[base].model]


def _gap_cell(found: Findings, a: str, b: str, bucket: str) -> TableCell | None:
    gap = found.gap(a, b, bucket).difference
    return TableCell(points(gap), "", gap.apart_from_zero)


def _joins_markdown(found: Findings) -> str:
    singles = ", ".join(f"{bucket} {found.single(bucket)}" for bucket in found.buckets)
    return _plain(_joins(found), "joined", f"Points of H@10 over the best single one ({singles}) [95 %]:")


def _variants_markdown(found: Findings) -> str:
    table = _variants(found)
    return _plain(table, "against", f"Points of H@10 of {table.metric if table else ''} over [95 %]:")


def _plain(table: MetricTable | None, head: str, title: str) -> str:
    if table is None:
        return ""
    lines = [f"\n{title}\n", f"| {head} | {' | '.join(table.views)} |", f"|---|{'--:|' * len(table.views)}"]
    for name, _, cells in table.lines:
        lines.append(f"| {name} | {' | '.join(cell.mean if cell else '' for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _weights(run: StudyRun, chosen: str) -> dict[str, Any] | None:
    if chosen not in run.study.join.blends:
        return None
    blend = run.blend(chosen, run.seeds[0])
    codes = sorted(blend.weights)
    lines = [(fact, [float(blend.weights[code][at]) for code in codes]) for at, fact in enumerate(blend.facts())]
    return {"name": chosen, "buckets": [BUCKETS[code] for code in codes], "lines": lines}


def _examples(found: Findings, chosen: str) -> list[tuple[str, int, dict[str, Any], list[Any]]]:
    """Queries of each bucket, drawn by chance, not chosen: content, the bucket's best single one, and the join."""
    run, made = found.run, []
    view = noise_views(run.catalog, run.recipe.noise, {"mixed": None})[0]
    queries, seed = run.log.test, run.seeds[0]
    for bucket, places in run.log.buckets(queries).items():
        names = list(dict.fromkeys([CONTENT, found.single(bucket), chosen]))
        lists = {name: run.lists(name, seed) for name in names}
        for at in np.random.default_rng(0).permutation(places)[:EXAMPLES].tolist():
            query, partners = int(queries.query[at]), set(queries.positives.row(at).tolist())
            rows = [_row(name, lists[name], query, partners, run, view) for name in names]
            made.append((bucket, int(run.log.clicks[query]), _card(run, view, query), rows))
    return made


def _row(name: str, lists: Lists, query: int, partners: set[int], run: StudyRun, view: NoiseView) -> tuple[Any, ...]:
    found = [int(item) for item in lists.items[query, :WIDTH] if item >= 0]
    cards = [_card(run, view, item, hit=item in partners) for item in found]
    return name, cards, sum(item in partners for item in found)


def _card(run: StudyRun, view: NoiseView, position: int, *, hit: bool = False) -> dict[str, Any]:
    item: Item = run.catalog.take_positions(np.array([position]))[0]
    shown = view.render(item)
    picture = thumbnail(shown.picture) if shown is not None else None
    return {"id": item.id, "title": item.title or "", "picture": picture, "hit": hit, "score": ""}
