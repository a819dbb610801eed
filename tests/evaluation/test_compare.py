"""`tgq compare`: two runs, query by query."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tgqformer.cli import app
from tgqformer.errors import TgqError
from tgqformer.evaluation.metrics import Queries, evaluate
from tgqformer.evaluation.results import Result, ViewScores

IDS = [f"i{at}" for at in range(40)]
QUERIES = Queries.from_edges(np.array([[at, (at + 1) % 40] for at in range(40)]))


def write(run: Path, model: str, noise: float, queries: Queries = QUERIES) -> Path:
    """Write the results of two seeds: vectors of a circle, so that the next item is near, and noise."""
    for seed in (0, 1):
        turn = np.arange(40) / 40 * 2 * np.pi
        vectors = np.stack([np.cos(turn), np.sin(turn)], 1) + noise * np.random.default_rng(seed).normal(size=(40, 2))
        scores = evaluate((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), queries)
        Result(model, seed, {"mixed": ViewScores.of(scores, IDS)}).write(
            run / "models" / model / f"seed-{seed}" / "result"
        )
    return run


def call(*words: str | Path) -> str:
    result = CliRunner().invoke(app, ["compare", *map(str, words)])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_the_better_run_is_ahead_by_what_its_figures_say(tmp_path: Path) -> None:
    worse, better = write(tmp_path / "a", "mlp", 3.0), write(tmp_path / "b", "mlp", 0.0)
    rows = {row["metric"]: row for row in json.loads(call(worse, better, "--json"))}
    hit = rows["hit@10"]
    assert hit["second"] == 100 and hit["first"] < 60
    assert hit["difference"] == pytest.approx(hit["second"] - hit["first"])
    assert 0 < hit["low"] < hit["difference"] < hit["high"]
    shown = call(worse, better)
    assert "mlp" in shown and "100.0" in shown and hit["text"] in shown
    assert f"{rows['mrr']['second']:.1f}" in call(worse, better, "--metric", "mrr")


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    run = write(tmp_path / "a", "mlp", 0.0)
    with pytest.raises(TgqError, match=r"no model stands in both runs: mlp in .*; tgq in"):
        call(run, write(tmp_path / "b", "tgq", 0.0))
    with pytest.raises(TgqError, match="evaluated on different queries"):
        call(run, write(tmp_path / "c", "mlp", 0.0, QUERIES.at(np.arange(20))))
    with pytest.raises(TgqError, match=r"did you mean 'hit@10'"):
        call(run, run, "--metric", "hit@1")
    with pytest.raises(TgqError, match="is not the folder of a run"):
        call(run, tmp_path)
