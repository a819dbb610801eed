"""Results as lines of cells, as Markdown and as CSV. Figures are per cent."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from tgqformer.evaluation.intervals import Interval
from tgqformer.evaluation.results import Result, SummaryRow, compare, models, views

SHOWN = ("hit@10", "hit@100", "mrr", "ndcg@10")
"""The metrics that tables for people show."""

NAMES = (
    {"mrr": "MRR", "ndcg@10": "nDCG@10"}
    | {f"hit@{k}": f"H@{k}" for k in (10, 50, 100)}
    | {f"recall@{k}": f"recall@{k}" for k in (10, 100)}
)
"""How a metric is written for people."""


def percent(interval: Interval) -> str:
    """Write an interval in per cent: `60.0 ± 1.5`, the half-width left out where there is none."""
    mean = f"{100 * interval.mean:.1f}"
    return mean if math.isnan(interval.low) else f"{mean} ± {100 * interval.half:.1f}"


def points(interval: Interval) -> str:
    """Write a difference in points, with its bounds: `+2.9 [1.7, 4.0]`."""
    bounds = "" if math.isnan(interval.low) else f" [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
    return f"{100 * interval.mean:+.1f}{bounds}".replace("-", "−")


def best(rows: Sequence[SummaryRow], view: str, metric: str) -> float | None:
    """Return the highest mean of a metric on a view, None if nobody has it."""
    return max((r.interval.mean for r in rows if (r.view, r.metric) == (view, metric)), default=None)


def lines_of(rows: Sequence[SummaryRow]) -> tuple[list[str], list[list[str]]]:
    """Lay rows out as one line per model and view, for a terminal: the headers, and the cells."""
    headers, lines = _grid(rows)
    return headers, [[text for text, _ in line] for line in lines]


def _grid(rows: Sequence[SummaryRow]) -> tuple[list[str], list[list[tuple[str, bool]]]]:
    """Lay rows out as one line per model and view: (headers, cells with whether they are the best of the view)."""
    cells = {(r.model, r.view, r.metric): r.interval for r in rows}
    lines = []
    for model, view in dict.fromkeys((r.model, r.view) for r in sorted(rows, key=lambda r: _place(rows, r))):
        line = [(view, False), (model, False)]
        for metric in SHOWN:
            interval = cells.get((model, view, metric))
            text = "" if interval is None else percent(interval)
            line.append((text, interval is not None and interval.mean == best(rows, view, metric)))
        lines.append(line)
    return ["view", "model", *(NAMES.get(metric, metric) for metric in SHOWN)], lines


def _place(rows: Sequence[SummaryRow], row: SummaryRow) -> int:
    return list(dict.fromkeys(r.view for r in rows)).index(row.view)


def markdown(rows: Sequence[SummaryRow]) -> str:
    """Write the rows of `summarize` as a Markdown table; the best of each view is bold."""
    headers, lines = _grid(rows)
    written = [f"| {' | '.join(headers)} |", f"|{'|'.join('---' if i < 2 else '--:' for i in range(len(headers)))}|"]
    for line in lines:
        cells = (f"**{text}**" if top else text.replace("|", r"\|") for text, top in line)
        written.append(f"| {' | '.join(cells)} |")
    return "\n".join([*written, "", caption(rows), ""])


def differences_markdown(results: Sequence[Result]) -> str:
    """Write how far the first model is ahead of each other one, per view: points with their paired 95 % interval."""
    names, columns = models(results), views(results)
    heads = [f"{names[0]} against", *columns]
    written = [f"| {' | '.join(heads)} |", f"|---|{'|'.join('--:' for _ in columns)}|"]
    for other in names[1:]:
        found = {c.view: points(c.difference) for c in compare(results, names[0], other) if c.metric == SHOWN[0]}
        written.append(f"| {other} | {' | '.join(found.get(view, '') for view in columns)} |")
    return "\n".join(written) + "\n"


def csv_text(rows: Sequence[SummaryRow]) -> str:
    """Write the rows of `summarize` as CSV, all metrics, unrounded shares between 0 and 1."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["model", "view", "metric", "mean", "low", "high", "seeds", "queries", "over"])
    for r in rows:
        bounds = (r.interval.mean, r.interval.low, r.interval.high)
        writer.writerow([r.model, r.view, r.metric, *bounds, r.seeds, r.queries, r.over])
    return out.getvalue()


def caption(rows: Sequence[SummaryRow]) -> str:
    """Say what the figures are: unit, queries, seeds, and what the intervals are over."""
    if not rows:
        return "no results"
    queries, seeds = _span([r.queries for r in rows]), _span([r.seeds for r in rows])
    over = " or ".join(sorted({r.over for r in rows}))
    plural = "" if seeds == "1" else "s"
    return f"per cent; mean ± half of the 95 % interval over {over}; {queries} queries, {seeds} seed{plural}"


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"
