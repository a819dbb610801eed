"""The files of a finished evaluation, one folder per model and seed, and what is worked out from them.

A folder holds `metrics.json` (means per view), `queries.parquet` (every metric of every query, with what is known of
the query) and `log.jsonl` (the training curve, one row per logged step).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tgqformer.errors import TgqError
from tgqformer.evaluation.intervals import (
    RESAMPLES,
    Interval,
    difference_of_resampled,
    over_queries,
    over_seeds,
    resample,
)
from tgqformer.evaluation.metrics import METRICS, Scores
from tgqformer.files import atomic_path, read_json, write_json, write_text
from tgqformer.types import Array, ArrayLike, Doubles

FACTS = {"kind": pa.string(), "severity": pa.int64(), "category": pa.string(), "agreement": pa.float64()}
"""What may be known of a query, and its type: noise kind ("" for none), severity 1-5 (0), category, agreement (NaN)."""
PROBE = "probe:"
"""Stands before the name of a probe in the column `view` of `queries.parquet`."""


@dataclass(frozen=True)
class ViewScores:
    """The scores of Q queries on one view of the catalogue (mixed, clean, noised).

    query: ids [Q]. values: metric -> float64 [Q]. facts: some of `FACTS` -> array [Q].
    """

    query: Sequence[str]
    values: Mapping[str, Doubles]
    facts: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.facts:
            if name not in FACTS:
                raise TgqError(f"a query has no fact {name!r}; give some of {', '.join(FACTS)}")
        for name, column in (*self.values.items(), *self.facts.items()):
            if len(column) != len(self.query):
                raise TgqError(f"{name} has {len(column)} values for {len(self.query)} queries; give one each")

    @classmethod
    def of(cls, scores: Scores, ids: Sequence[str], facts: Mapping[str, ArrayLike] | None = None) -> ViewScores:
        """Make a view from scores; ids: of the whole pool [N]; facts: over the queries of `scores` [Q]."""
        known = {name: np.asarray(column) for name, column in (facts or {}).items()}
        return cls([ids[i] for i in scores.query.tolist()], scores.values, known)


@dataclass(frozen=True)
class Result:
    """One evaluated model of one seed.

    views: scores on each look at the whole catalogue. probes: scores of queries that were changed, in the mixed pool.
    log: rows such as {"step": 10, "loss": 2.1, "lr": 1e-3, "val_hit@10": 0.4}.
    """

    model: str
    seed: int
    views: Mapping[str, ViewScores]
    log: Sequence[Mapping[str, float]] = ()
    probes: Mapping[str, ViewScores] = field(default_factory=dict)

    @property
    def probed(self) -> Result:
        """The probes instead of the views, so that they are summed up and compared alike."""
        return Result(self.model, self.seed, self.probes)

    def write(self, folder: Path) -> None:
        """Write the folder's files, each atomically and `metrics.json` last; other files in it are left alone."""
        with atomic_path(folder / "queries.parquet") as unfinished:
            pq.write_table(_table({**self.views, **{PROBE + k: v for k, v in self.probes.items()}}), unfinished)
        if self.log:
            write_text(folder / "log.jsonl", "".join(json.dumps(dict(row)) + "\n" for row in self.log))
        head = {"model": self.model, "seed": self.seed, "views": _means(self.views), "probes": _means(self.probes)}
        write_json(folder / "metrics.json", head)

    @classmethod
    def read(cls, folder: Path) -> Result:
        """Read what `write` wrote; a missing `log.jsonl` gives an empty log."""
        if not (folder / "metrics.json").is_file():
            raise TgqError(f"{folder} holds no metrics.json; evaluate the model first, or name another folder")
        head = read_json(folder / "metrics.json")
        table, probes = pq.read_table(folder / "queries.parquet"), list(head.get("probes", {}))
        views, probed = _views(table, list(head["views"])), _views(table, [PROBE + name for name in probes])
        log = read_log(folder / "log.jsonl")
        return cls(head["model"], int(head["seed"]), views, log, dict(zip(probes, probed.values(), strict=True)))


def _means(views: Mapping[str, ViewScores]) -> dict[str, dict[str, float]]:
    return {
        name: {"queries": len(view.query)} | {metric: float(v.mean()) for metric, v in view.values.items()}
        for name, view in views.items()
    }


def read_results(folder: Path) -> list[Result]:
    """Read every result below a folder, sorted by model and seed.

    Raises:
        TgqError: if there is none, or two are of one model and seed, as where a bench has several settings.
    """
    found: dict[tuple[str, int], tuple[Path, Result]] = {}
    for path in sorted(folder.rglob("metrics.json")):
        result = Result.read(path.parent)
        other, _ = found.setdefault((result.model, result.seed), (path.parent, result))
        if other != path.parent:
            two = f"{other.relative_to(folder)} and {path.parent.relative_to(folder)}"
            raise TgqError(
                f"{two} in {folder} are both {result.model}, seed {result.seed}; name a folder that holds each once"
            )
    if not found:
        raise TgqError(f"no result lies below {folder}; evaluate a model first, or name another folder")
    return [found[key][1] for key in sorted(found)]


def read_log(path: Path) -> list[dict[str, float]]:
    """Read a training log; an unfinished last line (the run was killed) is dropped."""
    rows = []
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise TgqError(f"{path}, line {number} is no JSON ({error}); mend or delete the line") from error
    return rows


def _table(views: Mapping[str, ViewScores]) -> pa.Table:
    tables = []
    for name, view in views.items():
        columns = {"view": pa.array([name] * len(view.query)), "query": pa.array([str(q) for q in view.query])}
        columns |= {metric: pa.array(values) for metric, values in view.values.items()}
        columns |= {fact: pa.array(column).cast(FACTS[fact]) for fact, column in view.facts.items()}
        tables.append(pa.table(columns))
    return pa.concat_tables(tables, promote_options="default")


def _views(table: pa.Table, names: Sequence[str]) -> dict[str, ViewScores]:
    views = {}
    where = np.asarray(table["view"].to_pylist())
    for name in names:
        part = table.filter(pa.array(where == name))
        columns = {c: part[c] for c in part.column_names if part[c].null_count < len(part)}
        values = {metric: columns[metric].to_numpy() for metric in METRICS if metric in columns}
        facts = {fact: np.asarray(columns[fact].to_pylist()) for fact in FACTS if fact in columns}
        views[name] = ViewScores(part["query"].to_pylist(), values, facts)
    return views


@dataclass(frozen=True)
class SummaryRow:
    """The mean of one metric of one model on one view. `over` says what the interval is over: "seeds" or "queries"."""

    model: str
    view: str
    metric: str
    interval: Interval
    seeds: int
    queries: int
    over: str


def models(results: Iterable[Result]) -> list[str]:
    """List the models in the order in which they come."""
    return list(dict.fromkeys(result.model for result in results))


def views(results: Iterable[Result]) -> list[str]:
    """List the views in the order in which they come."""
    return list(dict.fromkeys(view for result in results for view in result.views))


def stacked(results: Iterable[Result], model: str, view: str, metric: str) -> Doubles:
    """Return a metric of a model's seeds on one view, [S, Q]; raises TgqError if the seeds have different queries."""
    found = [r.views[view] for r in results if r.model == model and view in r.views and metric in r.views[view].values]
    if not found:
        raise TgqError(f"{model} has no {metric} on the {view} view; evaluate it, or leave it out")
    if any(list(other.query) != list(found[0].query) for other in found[1:]):
        raise TgqError(f"the seeds of {model} were evaluated on different queries ({view}); evaluate them again")
    return np.stack([each.values[metric] for each in found])


def summarize(results: Sequence[Result], *, resamples: int = RESAMPLES) -> list[SummaryRow]:
    """Return the mean and 95 % interval of every model, view and metric.

    Over two seeds or more the interval is Student's t over the seeds' means; with a single seed it is the bootstrap
    over queries, and says so.
    """
    rows = []
    for model in models(results):
        for view in views(r for r in results if r.model == model):
            first = next(r.views[view] for r in results if r.model == model and view in r.views)
            for metric in first.values:
                values = stacked(results, model, view, metric)
                seeds = len(values) > 1
                interval = over_seeds(values.mean(axis=1)) if seeds else over_queries(values, resamples=resamples)
                over = "seeds" if seeds else "queries"
                rows.append(SummaryRow(model, view, metric, interval, values.shape[0], values.shape[1], over))
    return rows


@dataclass(frozen=True)
class Comparison:
    """How much better model `a` is than model `b`: absolute, and relative to `b`, each with its interval."""

    a: str
    b: str
    view: str
    metric: str
    difference: Interval
    relative: Interval


def compare(
    results: Sequence[Result], a: str, b: str, *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Comparison]:
    """Compare two models query by query on every view and metric that both have (`intervals.difference`)."""
    rows = []
    for view in views(r for r in results if r.model == a):
        of_a, of_b = (_first(results, model, view) for model in (a, b))
        if of_a is None or of_b is None:
            continue
        if list(of_a.query) != list(of_b.query):
            raise TgqError(f"{a} and {b} were evaluated on different queries ({view}); evaluate them on the same")
        metrics = [metric for metric in of_a.values if metric in of_b.values]
        rows += _compare_view(results, (a, b), view, metrics, resamples, seed)
    return rows


def _first(results: Sequence[Result], model: str, view: str) -> ViewScores | None:
    return next((r.views[view] for r in results if r.model == model and view in r.views), None)


def _compare_view(
    results: Sequence[Result], pair: tuple[str, str], view: str, metrics: Sequence[str], resamples: int, seed: int
) -> list[Comparison]:
    """Resample once for all metrics of a view: they share their queries."""
    blocks = [stacked(results, model, view, metric) for metric in metrics for model in pair]
    means = np.split(
        resample(np.concatenate(blocks), resamples=resamples, seed=seed), np.cumsum([len(b) for b in blocks])[:-1]
    )
    rows = []
    for i, metric in enumerate(metrics):
        point = float(blocks[2 * i].mean()), float(blocks[2 * i + 1].mean())
        two, queries = (means[2 * i], means[2 * i + 1]), blocks[0].shape[1]
        absolute = difference_of_resampled(point, *two, queries=queries, seed=seed + 1)
        relative = difference_of_resampled(point, *two, queries=queries, relative=True, seed=seed + 1)
        rows.append(Comparison(*pair, view, metric, absolute, relative))
    return rows
