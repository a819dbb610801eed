"""`tgq compare`: two runs, query by query."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tgqformer import config
from tgqformer.catalog.item import Item
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.cli import app
from tgqformer.errors import TgqError
from tgqformer.evaluation.metrics import Queries, evaluate
from tgqformer.evaluation.results import Result, ViewScores
from tgqformer.experiments.recipe import Recipe, load_recipe
from tgqformer.stages import mark, note_of

IDS = [f"i{at}" for at in range(40)]
QUERIES = Queries.from_edges(np.array([[at, (at + 1) % 40] for at in range(40)]))


def write(
    run: Path,
    model: str,
    noise: float,
    queries: Queries = QUERIES,
    *,
    seeds: int = 2,
    pairs: str = "p",
    steps: int = 9,
    share: float = 0.5,
) -> Path:
    """Write a run of some seeds: vectors of a circle, so that the next item is near, and noise."""
    recipe = load_recipe(
        "demo",
        (
            f"models=[{{name: {model}, connector: mlp}}]", "evaluation.views=[mixed]", f"training.steps={steps}",
            "training.warmup=0", f"seeds={list(range(seeds))}", f"noise.share={share}",
        ),
    )  # fmt: skip
    config.write(recipe, run / "recipe.yaml")
    inputs = trial_notes(recipe) | {"catalog": "c", "pairs": pairs, "views": ["mixed"]}
    for seed in range(seeds):
        turn = np.arange(40) / 40 * 2 * np.pi
        vectors = np.stack([np.cos(turn), np.sin(turn)], 1) + noise * np.random.default_rng(seed).normal(size=(40, 2))
        scores = evaluate((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), queries)
        to = run / "models" / model / f"seed-{seed}" / "result"
        Result(model, seed, {"mixed": ViewScores.of(scores, IDS)}).write(to)
        mark(to, "result", inputs=inputs, format=1, done=True)
    return run


def trial_notes(recipe: Recipe) -> dict[str, Any]:
    """Return what the note of a measured model has of its recipe; numbers of steps are worked out there."""
    training = config.plain(recipe.training.resolved(1000))
    sections = {"noise": recipe.noise, "encoders": recipe.encoders, "prompt": recipe.prompt, "model": recipe.models[0]}
    return {name: config.plain(one) for name, one in sections.items()} | {"training": training}


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


def test_what_an_earlier_recipe_left_in_the_folder_is_not_compared(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a", "mlp", 0.0), write(tmp_path / "b", "mlp", 0.0)
    write(two, "tgq", 3.0)
    write(two, "mlp", 3.0, seeds=1)  # seed 1 stays there, found by other weights
    rows = json.loads(call(one, two, "--json"))
    assert {row["model"] for row in rows} == {"mlp"}
    again = write(tmp_path / "c", "mlp", 3.0, seeds=1)
    assert rows == json.loads(call(one, again, "--json"))


def test_a_run_that_is_not_measured_as_its_recipe_says_is_refused(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a", "mlp", 0.0), write(tmp_path / "b", "mlp", 0.0)
    note = note_of(two / "models/mlp/seed-1/result") or {}
    for wrong, why in (
        ({"done": False}, "mlp, seed 1, is not measured yet as its recipe says; call `tgq run .*recipe.yaml --to"),
        ({"inputs": note["inputs"] | {"training": {"steps": 8}}}, "mlp, seed 1, is not measured yet"),
        ({"inputs": note["inputs"] | {"pairs": "yesterday's"}}, "its models were measured on different data"),
    ):
        mark(two / "models/mlp/seed-1/result", **note | wrong)
        with pytest.raises(TgqError, match=why):
            call(one, two)


def test_runs_with_other_pairs_items_or_noise_are_refused(tmp_path: Path) -> None:
    one = write(tmp_path / "a", "mlp", 0.0)
    with pytest.raises(TgqError, match="have different pairs or splits"):
        call(one, write(tmp_path / "b", "mlp", 0.0, pairs="q"))  # the same queries, but others count as found
    with pytest.raises(TgqError, match="draw other noise"):
        call(one, write(tmp_path / "c", "mlp", 0.0, share=0.2))
    for run, items in (("a", IDS), ("same", IDS), ("more", [*IDS, "new"])):
        write(tmp_path / run, "mlp", 0.0)
        with CatalogWriter(tmp_path / run / "catalog", name="shop", pack=False) as writer:
            for at in items:
                writer.add(Item(at, title=run))
        for seed in (0, 1):
            to = tmp_path / run / f"models/mlp/seed-{seed}/result"
            note = note_of(to) or {}
            mark(to, **note | {"inputs": note["inputs"] | {"catalog": run}})
    assert "mlp" in call(one, tmp_path / "same")  # better titles of the same items
    with pytest.raises(TgqError, match="search among different items"):
        call(one, tmp_path / "more")
