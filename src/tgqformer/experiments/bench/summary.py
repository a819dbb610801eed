"""What a bench found: tables by setting, the headline, curves over severity, tokens and cost."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tgqformer.evaluation import plots
from tgqformer.evaluation.intervals import Interval, difference, over_queries, over_seeds
from tgqformer.evaluation.results import Comparison, Result, SummaryRow, compare, models, stacked, summarize
from tgqformer.evaluation.sections import MAIN, Plot
from tgqformer.evaluation.tables import NAMES, markdown, percent, points
from tgqformer.experiments.bench.cell import Measured
from tgqformer.experiments.bench.grid import BenchRecipe, Cell, Setting
from tgqformer.types import Doubles

Cells = Mapping[Cell, Measured]
Untrained = Mapping[str, Sequence[Result]]


@dataclass(frozen=True)
class SettingTable:
    """All models of one setting. rows: as `summarize` gives them. untrained: what needs no training, beside them."""

    setting: Setting
    results: Sequence[Result]
    rows: Sequence[SummaryRow]
    untrained: Sequence[Result] = ()

    def whole(self) -> SettingTable:
        """The same with what needs no training among the models."""
        rows = [*self.rows, *summarize(self.untrained)]
        return SettingTable(self.setting, [*self.results, *self.untrained], rows)


@dataclass(frozen=True)
class Lead:
    """The headline model against the strongest other connector, on one view or probe."""

    view: str
    other: str
    mean: Interval
    comparison: Comparison


@dataclass(frozen=True)
class Room:
    """How far the best score in clean pictures is above the strongest other connector on the mixed view.

    best, clean: who finds most in clean pictures, and how much. other: the strongest other connector on the mixed view.
    points: the difference, a share, above 0. relative: in parts of the other's.
    """

    best: str
    clean: Interval
    other: str
    points: float
    relative: float


def tables(bench: BenchRecipe, cells: Cells, untrained: Untrained | None = None) -> list[SettingTable]:
    """One table a setting, models in the order of the bench; the text-only model stands in each of its language.

    untrained: what needs no training, by the name of the noise.
    """
    made, seeing = [], [cell.setting for cell in cells if bench.model(cell.model).connector != "none"]
    there = {(setting.language, setting.noise) for setting in seeing}
    alone = [cell.setting for cell in cells if (cell.setting.language, cell.setting.noise) not in there]
    for setting in dict.fromkeys([*seeing, *alone]):
        results = [
            measured.result
            for model in bench.models
            for cell, measured in cells.items()
            if cell.model == model.name and _belongs(bench, cell, setting)
        ]
        beside = (untrained or {}).get(setting.noise, ())
        made.append(SettingTable(setting, results, summarize(results), beside))
    return made


def _belongs(bench: BenchRecipe, cell: Cell, setting: Setting) -> bool:
    own = cell.setting
    if bench.model(cell.model).connector == "none":
        return (own.language, own.noise) == (setting.language, setting.noise)
    return own == setting


def connectors(bench: BenchRecipe, table: SettingTable) -> SettingTable:
    """A table without the variants; whole where there is nothing else to compare."""
    own = [result for result in table.results if not bench.model(result.model).ablation]
    if len(models(own)) < 2:
        return table
    rows = [row for row in table.rows if not bench.model(row.model).ablation]
    return SettingTable(table.setting, own, rows, table.untrained)


def leads(bench: BenchRecipe, table: SettingTable) -> list[Lead]:
    """Compare the headline model with the strongest other connector on every view; ablations of it do not count."""
    rivals = [m.name for m in bench.models if m.name != bench.headline.model and not m.ablation]
    present, found = models(table.results), []
    if bench.headline.model not in present:
        return []
    for view in dict.fromkeys(row.view for row in table.rows):
        ranked = [row for row in table.rows if row.view == view and row.metric == MAIN and row.model in rivals]
        own = next((r for r in table.rows if (r.model, r.view, r.metric) == (bench.headline.model, view, MAIN)), None)
        if not ranked or own is None:
            continue
        best = max(ranked, key=lambda row: row.interval.mean).model
        compared = next(
            c for c in compare(table.results, bench.headline.model, best) if (c.view, c.metric) == (view, MAIN)
        )
        found.append(Lead(view, best, own.interval, compared))
    return found


def of_headline(bench: BenchRecipe, made: Sequence[SettingTable]) -> SettingTable | None:
    """The table of the headline's setting."""
    wanted = Setting(bench.headline.language, bench.headline.noise, bench.headline.tokens)
    return next((table for table in made if table.setting == wanted), None)


def ablation_lines(bench: BenchRecipe, table: SettingTable) -> list[tuple[str, list[str]]]:
    """Each variant of the headline model: its difference from it in the main metric, a cell per view."""
    present, views = models(table.results), list(dict.fromkeys(row.view for row in table.rows))
    lines = []
    for model in bench.models:
        if model.ablation and model.name in present and bench.headline.model in present:
            found = compare(table.results, model.name, bench.headline.model)
            by_view = {c.view: points(c.difference) for c in found if c.metric == MAIN}
            lines.append((model.name, [by_view.get(view, "") for view in views]))
    return lines


def loss_lines(table: SettingTable) -> list[tuple[str, str]]:
    """How much each model loses from clean to noised, in points, with its interval over queries and seeds."""
    lines = []
    for name in models(table.results):
        own = [r for r in table.results if r.model == name and {"clean", "noised"} <= r.views.keys()]
        if own:
            lines.append((name, _change(*(stacked(own, name, view, MAIN) for view in ("clean", "noised")))))
    return lines


NOISE_PROBES = ("clean", "noised", "cover", "spill")
NOISE_PARTS = ("the noised picture", "only where noise touches it", "only where it does not")


def noise_lines(table: SettingTable) -> list[tuple[str, list[str]]]:
    """What noise does to the queries of each model, against the clean ones, in points: a text for each `NOISE_PARTS`.

    Second products are left out: the product itself is moved and made smaller for them. A model has a line if all of
    `NOISE_PROBES` were measured for it.
    """
    lines = []
    for name in models(table.results):
        own = [r.probed for r in table.results if r.model == name and set(NOISE_PROBES) <= r.probes.keys()]
        still = own[0].views["noised"].facts["kind"] != "distractor" if own else np.zeros(0, bool)
        if still.any():
            clean, *noised = (stacked(own, name, probe, MAIN)[:, still] for probe in NOISE_PROBES)
            lines.append((name, [_change(clean, found) for found in noised]))
    return lines


def room(bench: BenchRecipe, table: SettingTable) -> Room | None:
    """How far clean pictures are above the strongest other connector on the mixed view; None where they are not."""
    own = {model.name for model in bench.models if not (model.ablation or model.multimodal)}
    scores = {
        view: {row.model: row.interval for row in table.rows if (row.view, row.metric) == (view, MAIN)}
        for view in ("clean", "mixed")
    }
    best = max(scores["clean"].keys() & own, key=lambda name: scores["clean"][name].mean, default=None)
    rivals = scores["mixed"].keys() & own - {bench.headline.model}
    other = max(rivals, key=lambda name: scores["mixed"][name].mean, default=None)
    if best is None or other is None:
        return None
    clean, mixed = scores["clean"][best], scores["mixed"][other].mean
    return Room(best, clean, other, clean.mean - mixed, clean.mean / mixed - 1) if clean.mean > mixed > 0 else None


def probe_lines(table: SettingTable) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The main metric of every model by every probe that is no step of a severity: (probes, lines)."""
    probed = [result.probed for result in table.results]
    rows = summarize([result for result in probed if result.views])
    names = [view for view in dict.fromkeys(row.view for row in rows) if not view[-1:].isdigit()]
    cells = {(row.model, row.view): percent(row.interval) for row in rows if row.metric == MAIN}
    shown = models(result for result in probed if result.views)
    return names, [(name, [cells.get((name, probe), "") for probe in names]) for name in shown]


def severity_plots(table: SettingTable) -> list[Plot]:
    """The main metric over the severity of the query's noise, 0 to 5, one plot a kind; the pool stays mixed."""
    probed = [result.probed for result in table.results if result.probes]
    kinds = dict.fromkeys(view.rpartition("-")[0] for result in probed for view in result.views if view[-1:].isdigit())
    curves: dict[str, list[plots.Series]] = {}
    for kind in kinds:
        for color, name in enumerate(models(table.results)):
            steps = [
                (severity, _interval(probed, name, view))
                for severity, view in enumerate(("clean", *(f"{kind}-{s}" for s in range(1, 6))))
                if any(result.model == name and view in result.views for result in probed)
            ]
            if steps:
                curves.setdefault(kind, []).append(_series(name, color, *zip(*steps, strict=True)))
    top = max((max(line.high) for lines in curves.values() for line in lines), default=100.0)
    ticks, y, drawn = ["none", *"12345"], f"{NAMES[MAIN]}, %", []
    for kind, lines in curves.items():
        alt = f"{NAMES[MAIN]} over the severity of {kind} noise on the query"
        drawn.append(Plot(kind, plots.lines(alt, lines, x="severity", y=y, ticks=ticks, top=top)))
    return drawn


def token_plots(bench: BenchRecipe, made: Sequence[SettingTable]) -> list[Plot]:
    """The main metric on the mixed catalogue over the token budget, one plot a language model."""
    plotted = []
    names = [model.name for model in bench.models if model.connector != "none"]
    for language in dict.fromkeys(table.setting.language for table in made):
        wanted = language, bench.headline.noise, "mixed", MAIN
        rows = [
            (table.setting.tokens, row)
            for table in made
            for row in table.rows
            if (table.setting.language, table.setting.noise, row.view, row.metric) == wanted
        ]
        budgets = sorted({tokens for tokens, _ in rows})
        if len(budgets) < 2:
            continue
        lines = []
        for color, name in enumerate(names):
            own = [(budgets.index(tokens), row.interval) for tokens, row in rows if row.model == name]
            own.sort(key=lambda pair: pair[0])
            if len(own) > 1:
                lines.append(_series(name, color, *zip(*own, strict=True)))
        if lines:
            alt = f"{NAMES[MAIN]} over the number of visual tokens, {language}"
            drawn = plots.lines(alt, lines, x="visual tokens", y=f"{NAMES[MAIN]}, %", ticks=[str(b) for b in budgets])
            plotted.append(Plot(language, drawn))
    return plotted


def cost_plot(table: SettingTable, cells: Cells) -> Plot | None:
    """The main metric on the mixed catalogue against the FLOPs of connector and language model."""
    points_ = []
    for color, name in enumerate(models(table.results)):
        cost = next((m.cost for c, m in cells.items() if c.model == name and c.setting == table.setting), None)
        row = next((r for r in table.rows if (r.model, r.view, r.metric) == (name, "mixed", MAIN)), None)
        if cost is not None and row is not None:
            flops = (cost.get("connector", 0.0) + cost.get("language model", 0.0)) / 1e6
            points_.append(_series(name, color, [flops], [row.interval]))
    if len(points_) < 2:
        return None
    alt = f"{NAMES[MAIN]} against FLOPs: " + ", ".join(f"{s.name} {s.x[0]:.0f} M, {s.y[0]:.1f}" for s in points_)
    drawn = plots.lines(alt, points_, x="MFLOPs an item, connector and LM", y=f"{NAMES[MAIN]}, %")
    return Plot(table.setting.title, drawn)


def inside_lines(table: SettingTable, cells: Cells) -> list[tuple[str, str, str, str]]:
    """(model, stream, share of attention inside the noise, the noise's share of the picture), mean over seeds."""
    lines = []
    for name in models(table.results):
        own = [m.attention for c, m in cells.items() if c.model == name and c.setting == table.setting]
        for stream in own[0] if own else ():
            if stream != "even attention":
                inside, even = (100 * float(np.mean([one[key] for one in own])) for key in (stream, "even attention"))
                lines.append((name, stream, f"{inside:.1f} %", f"{even:.1f} %"))
    return lines


def gate_lines(table: SettingTable, cells: Cells) -> list[tuple[str, str, list[str]]]:
    """(model, stream, [mean factor, spread over channels, spread over items]), mean over seeds."""
    lines = []
    for name in models(table.results):
        own = [m.gates for c, m in cells.items() if c.model == name and c.setting == table.setting and m.gates]
        for stream in own[0] if own else ():
            keys = ("mean", "over_channels", "over_items")
            lines.append((name, stream, [f"{float(np.mean([one[stream][key] for one in own])):.3f}" for key in keys]))
    return lines


def markdown_of(bench: BenchRecipe, cells: Cells, untrained: Untrained | None = None) -> str:
    """Return all tables as Markdown."""
    parts, headline = [f"# Bench {bench.name}\n"], bench.headline.model
    for table in tables(bench, cells, untrained):
        views = list(dict.fromkeys(row.view for row in table.rows))
        probes, probed = probe_lines(table)
        ahead = [
            (lead.view, [lead.other, points(lead.comparison.difference), points(lead.comparison.relative)])
            for lead in leads(bench, table)
        ]
        losses = [(name, [loss]) for name, loss in loss_lines(table)]
        parts += [
            f"## {table.setting.title}\n\n{markdown(table.whole().rows)}",
            *_listed(
                f"{headline} against the strongest other connector, H@10, paired, 95 %",
                ["view", "strongest other", "points", "relative, %"],
                ahead,
            ),
            *_listed(
                f"Variants, against {headline}, points of H@10", ["variant", *views], ablation_lines(bench, table)
            ),
            *_listed("From clean to noised, points of H@10", ["model", "loss"], losses),
            *_listed(
                "Posters and clutter on a query, points of H@10 against the clean one, in the mixed pool",
                ["model", *NOISE_PARTS],
                noise_lines(table),
            ),
            *_listed("Changed queries in the mixed pool, H@10", ["model", *probes], probed),
        ]
    return "\n".join(parts)


def _listed(title: str, names: Sequence[str], lines: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """A Markdown table with a title before it; nothing without lines."""
    rows = [f"| {' | '.join(names)} |", "|---|" + "--:|" * (len(names) - 1)]
    rows += [f"| {name} | {' | '.join(found)} |" for name, found in lines]
    return [f"{title}:\n\n" + "\n".join(rows) + "\n"] if lines else []


def csv_of(bench: BenchRecipe, cells: Cells, untrained: Untrained | None = None) -> str:
    """All figures as CSV: shares from 0 to 1, views and probes."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["language", "noise", "tokens", "model", "view", "metric", "mean", "low", "high", "seeds", "queries", "over"]
    )
    for table in tables(bench, cells, untrained):
        own = table.setting
        probed = summarize([result.probed for result in table.results if result.probes])
        for prefix, rows in (("", table.whole().rows), ("probe:", probed)):
            for r in rows:
                found = (r.interval.mean, r.interval.low, r.interval.high, r.seeds, r.queries, r.over)
                writer.writerow([own.language, own.noise, own.tokens, r.model, prefix + r.view, r.metric, *found])
    return out.getvalue()


def _change(before: Doubles, after: Doubles) -> str:
    """How far the same model's scores [S, Q] move, in points, with an interval over queries and seeds."""
    moved = after - before
    return points(difference(moved, np.zeros_like(moved[:1])))


def _interval(results: Sequence[Result], name: str, view: str) -> Interval:
    values = stacked(results, name, view, MAIN)
    return over_seeds(values.mean(axis=1)) if len(values) > 1 else over_queries(values)


def _series(name: str, color: int, x: Sequence[float], intervals: Sequence[Interval]) -> plots.Series:
    y, low, high = ([100 * v for v in part] for part in zip(*((i.mean, i.low, i.high) for i in intervals), strict=True))
    return plots.Series(name, color, list(x), y, low, high)
