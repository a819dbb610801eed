"""Results: written and read back the same, summed up and compared as worked out by hand."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from tgqformer.cli.sheets import results_sheet
from tgqformer.errors import TgqError
from tgqformer.evaluation.intervals import Interval
from tgqformer.evaluation.metrics import METRICS, Queries, evaluate
from tgqformer.evaluation.results import Result, ViewScores, compare, read_log, read_results, stacked, summarize
from tgqformer.evaluation.tables import csv_text, differences_markdown, markdown, percent, points


def made(model: str, seed: int, signal: float) -> Result:
    """Evaluate vectors of 60 items in 20 groups; `signal` is how far a group stands together."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(20, 8))
    groups = np.repeat(np.arange(20), 3)
    queries = Queries.from_pairs(np.arange(0, 60, 3), np.arange(1, 60, 3))
    ids = [f"item-{i}" for i in range(60)]
    views = {}
    for view, share in (("mixed", 1.0), ("noised", 0.5)):
        vectors = (centres[groups] * signal * share + rng.normal(size=(60, 8))).astype(np.float32)
        facts = {"kind": ["", "poster"] * 20, "severity": [0, 2] * 20, "agreement": [0.5, np.nan] * 20}
        views[view] = ViewScores.of(evaluate(vectors, queries), ids, facts if view == "mixed" else None)
    return Result(model, seed, views, [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5, "val_hit@10": 0.25}])


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return [made(model, seed, signal) for model, signal in (("good", 3.0), ("poor", 0.5)) for seed in range(3)]


def test_a_result_is_read_as_it_was_written(tmp_path: Path, results: list[Result]) -> None:
    for result in results:
        result.write(tmp_path / f"{result.model}-{result.seed}")
    read = read_results(tmp_path)
    assert [(r.model, r.seed) for r in read] == [(m, s) for m in ("good", "poor") for s in range(3)]
    for before, after in zip(results, read, strict=True):
        assert list(after.log) == list(before.log)
        assert list(after.views) == ["mixed", "noised"]
        for name, view in before.views.items():
            assert after.views[name].query == view.query
            assert list(after.views[name].values) == list(METRICS)
            for metric in METRICS:
                np.testing.assert_array_equal(after.views[name].values[metric], view.values[metric])
        facts = after.views["mixed"].facts
        assert facts["kind"].tolist() == ["", "poster"] * 20
        assert facts["severity"].tolist() == [0, 2] * 20
        np.testing.assert_array_equal(facts["agreement"], [0.5, np.nan] * 20)
        assert after.views["noised"].facts == {}


def test_metrics_json_holds_the_means_and_other_files_stay(tmp_path: Path, results: list[Result]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    results[0].write(tmp_path)
    mixed = json.loads((tmp_path / "metrics.json").read_text())["views"]["mixed"]
    assert mixed["queries"] == 40
    assert mixed["hit@10"] == pytest.approx(results[0].views["mixed"].values["hit@10"].mean())
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_what_is_missing_is_explained(tmp_path: Path, results: list[Result]) -> None:
    with pytest.raises(TgqError, match=r"metrics\.json"):
        Result.read(tmp_path)
    with pytest.raises(TgqError, match="no result"):
        read_results(tmp_path)
    for tokens in ("tokens-2", "tokens-4"):
        results[0].write(tmp_path / "cells" / tokens / "good")
    with pytest.raises(TgqError, match=r"tokens-2/good and tokens-4/good in .* are both good, seed 0"):
        read_results(tmp_path / "cells")
    assert read_results(tmp_path / "cells/tokens-4")[0].model == "good"
    with pytest.raises(TgqError, match="has no hit@10"):
        stacked(results, "good", "clean", "hit@10")
    with pytest.raises(TgqError, match="no fact 'colour'"):
        ViewScores(["a"], {}, {"colour": np.array(["red"])})
    with pytest.raises(TgqError, match="one each"):
        ViewScores(["a", "b"], {"mrr": np.zeros(3)})


def test_a_log_may_end_in_the_middle_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"st')
    assert read_log(path) == [{"step": 1}]
    path.write_text('{"st\n{"step": 1}\n')
    with pytest.raises(TgqError, match="line 1"):
        read_log(path)


def test_summary_is_over_seeds_or_says_that_it_is_not(results: list[Result]) -> None:
    rows = {(r.model, r.view, r.metric): r for r in summarize(results, resamples=100)}
    row = rows["good", "mixed", "hit@10"]
    means = [r.views["mixed"].values["hit@10"].mean() for r in results[:3]]
    assert (row.over, row.seeds, row.queries) == ("seeds", 3, 40)
    assert row.interval.mean == pytest.approx(np.mean(means))
    assert row.interval.half == pytest.approx(4.3027 * np.std(means, ddof=1) / np.sqrt(3), abs=1e-4)
    assert summarize(results[:1], resamples=100)[0].over == "queries"


def test_comparison_of_two_models(results: list[Result]) -> None:
    rows = {(r.view, r.metric): r for r in compare(results, "good", "poor", resamples=300)}
    assert set(rows) == {(view, metric) for view in ("mixed", "noised") for metric in METRICS}
    row = rows["mixed", "mrr"]
    good, poor = (stacked(results, model, "mixed", "mrr").mean() for model in ("good", "poor"))
    assert row.difference.mean == pytest.approx(good - poor)
    assert row.relative.mean == pytest.approx(good / poor - 1)
    assert 0 < row.difference.low < row.difference.mean < row.difference.high


def test_models_on_different_queries_are_not_compared(results: list[Result]) -> None:
    other = ViewScores(["x"], {"mrr": np.ones(1)})
    with pytest.raises(TgqError, match="different queries"):
        compare([*results, Result("new", 0, {"mixed": other})], "good", "new")
    with pytest.raises(TgqError, match="different queries"):
        stacked([results[0], Result("good", 9, {"mixed": other})], "good", "mixed", "mrr")
    assert compare([*results, Result("new", 0, {"clean": other})], "good", "new") == []


def test_tables_hold_the_figures_and_mark_the_best(results: list[Result]) -> None:
    rows = summarize(results, resamples=100)
    text = markdown(rows)
    best = next(r for r in rows if (r.model, r.view, r.metric) == ("good", "mixed", "hit@10"))
    assert f"| mixed | good | **{percent(best.interval)}**" in text
    assert "95 % interval over seeds; 40 queries, 3 seeds" in text
    sheet = results_sheet(rows, "Results")
    assert sheet.columns[-1].name == "nDCG@10" and sheet.data[0]["interval"]["mean"] == rows[0].interval.mean
    assert percent(best.interval) in [cell for line in sheet.rows for cell in line]
    read = list(csv.DictReader(io.StringIO(csv_text(rows))))
    assert len(read) == 2 * 2 * len(METRICS)
    assert float(read[0]["mean"]) == rows[0].interval.mean
    assert "no results" in markdown([])


def test_figures_are_written_as_people_read_them() -> None:
    assert percent(Interval(0.6, 0.585, 0.615)) == "60.0 ± 1.5"
    assert percent(Interval(0.6, float("nan"), float("nan"))) == "60.0"
    assert points(Interval(0.029, 0.017, 0.04)) == "+2.9 [1.7, 4.0]"
    assert points(Interval(-0.029, float("nan"), float("nan"))) == "−2.9"


def test_differences_are_written_for_the_first_model_against_each_other() -> None:
    query = [f"q{i}" for i in range(40)]
    hits = {"a": np.ones(40), "b": np.tile([1.0, 0.0], 20)}
    results = [
        Result(model, seed, {"mixed": ViewScores(query, {"hit@10": hits[model]})}, [])
        for model in ("a", "b")
        for seed in (0, 1)
    ]
    written = differences_markdown(results).splitlines()
    assert written[0] == "| a against | mixed |"
    assert written[2].startswith("| b | +50.0 [") and len(written) == 3
