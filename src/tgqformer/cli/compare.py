"""`tgq compare`: two runs side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tgqformer.cli.sheets import Column, Sheet
from tgqformer.errors import TgqError, nearest

if TYPE_CHECKING:
    from tgqformer.evaluation.results import Result


def compare(
    before: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    after: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of another run, on the same test queries.")],
    metric: Annotated[
        str, typer.Option(help="One of hit@10, hit@50, hit@100, mrr, ndcg@10, recall@10, recall@100.")
    ] = "hit@10",
) -> Sheet:
    """Compare two runs, model by model and query by query: which is ahead, by how much, and how sure that is.

    The table shows one metric, `--json` all of them. Both must ask the same test queries: the same catalogue, pairs
    and split. What may differ is how they were trained.

    Example:

        tgq compare runs/shop runs/shop-longer
    """
    from tgqformer.evaluation.metrics import METRICS
    from tgqformer.experiments.measured import MeasuredRun

    if metric not in METRICS:
        raise TgqError(f"there is no metric {metric!r}; {nearest(metric, METRICS)}")
    runs = MeasuredRun.open(before), MeasuredRun.open(after)
    runs[0].check_same_task(runs[1])
    two = [run.results for run in runs]
    names = [list(dict.fromkeys(result.model for result in results)) for results in two]
    both = [name for name in names[0] if name in names[1]]
    if not both:
        raise TgqError(
            f"no model stands in both runs: {', '.join(names[0])} in {before}; {', '.join(names[1])} in {after}"
        )
    rows = [row for name in both for row in _rows(two, name)]
    return _sheet(rows, metric)


def _rows(two: list[list[Result]], name: str) -> list[dict[str, Any]]:
    """Return for one model a row for each view and metric, in per cent; the difference is that of the second run."""
    from tgqformer.evaluation.results import compare as query_by_query
    from tgqformer.evaluation.results import stacked
    from tgqformer.evaluation.tables import points

    marks = list(zip(two, ("the first run", "the second run"), strict=True))
    own = [replace(result, model=mark) for results, mark in marks for result in results if result.model == name]
    rows = []
    for found in query_by_query(own, marks[1][1], marks[0][1]):
        means = [100 * float(stacked(own, mark, found.view, found.metric).mean()) for _, mark in marks]
        lead = found.difference
        rows.append(
            {
                "model": name,
                "view": found.view,
                "metric": found.metric,
                "first": means[0],
                "second": means[1],
                "difference": 100 * lead.mean,
                "low": 100 * lead.low,
                "high": 100 * lead.high,
                "text": points(lead),
            }
        )
    return rows


def _sheet(rows: list[dict[str, Any]], metric: str) -> Sheet:
    from tgqformer.evaluation.tables import NAMES

    columns = (
        Column("model", cut=True),
        Column("view"),
        Column("first run", ".1f"),
        Column("second run", ".1f"),
        Column("difference", "s"),
    )
    keys = ("model", "view", "first", "second", "text")
    cells = [[row[key] for key in keys] for row in rows if row["metric"] == metric]
    about = f"{NAMES[metric]} in per cent; differences are paired, with 95 % over queries and seeds"
    return Sheet(columns, cells, note=about, data=rows)
