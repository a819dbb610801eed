"""Few validation queries: folds choose; and what is served is fitted on all pairs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_recipe import write_clicks, write_recipe, write_table

from tgqformer.evaluation.results import read_log
from tgqformer.experiments import folds
from tgqformer.experiments.dataset import Dataset
from tgqformer.experiments.folds import everything, folds_of
from tgqformer.experiments.presets import kept_share
from tgqformer.experiments.recipe import load_recipe
from tgqformer.experiments.run import Run, execute
from tgqformer.model.version import version_of
from tgqformer.store import open_store
from tgqformer.training.settings import TrainingSettings

ITEMS = 48


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[[str], Path]) -> Run:
    """The run of a small shop, with two trainings to choose from and a share of the frozen vectors."""
    torch.set_num_threads(1)
    shop = tmp_path_factory.mktemp("shop")
    write_table(shop, ITEMS)
    write_clicks(shop, ITEMS, 90)
    training = {"visual_steps": 0, "validate_every": 1}
    shares = {"train": 0.5, "val": 0.25, "test": 0.25}
    recipe = write_recipe(shop, tiny_model, pairs=shares, training=training, model={})
    return execute(load_recipe(recipe), shop / "run", "neighbours")


def queries(data: Dataset) -> list[str]:
    """Return the ids of the queries of validation."""
    assert data.any_validation is not None
    pool, asked = data.any_validation
    return [data.catalog.ids()[int(pool[at])] for at in asked.query]


def test_every_item_that_is_no_test_item_validates_in_one_fold(run: Run) -> None:
    data, validated = run.data, []
    for fold in folds_of(data):
        assert fold.pairs.split.part("test") == data.pairs.split.part("test")
        held = set(fold.pairs.split.part("val"))
        assert not held & set(fold.pairs.train.ids()), "what validates is not trained on"
        asked = queries(fold)
        assert fold.validation is fold.any_validation, "whatever the share is"
        assert asked and set(asked) <= held
        validated += asked
        assert not set(fold.pairs.train.ids()) & set(data.pairs.split.part("test"))
    assert len(validated) == len(set(validated)), "an item validates once"
    assert set(validated) > set(queries(data))


def test_no_folds_where_queries_are_enough(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folds, "FEW_QUERIES", 2)
    assert folds_of(run.data) == []


def test_everything_is_all_pairs(run: Run) -> None:
    sets, whole = run.data.pairs, everything(run.data).pairs
    parts = [sets.train, sets.val, sets.test, sets.cross]
    assert len(whole.train) == sum(map(len, parts)) and not len(whole.test)
    assert set(whole.train.ids()) == set().union(*(part.ids() for part in parts))


def test_folds_choose_and_the_served_model_is_fitted_on_all_pairs(run: Run) -> None:
    trial = run.folder / "models" / "tgq-former" / "seed-0"
    choice = json.loads((trial / "choice.json").read_text())
    assert choice["folds"] == folds.FOLDS and choice["preset"] in ("gentle", "given")
    logs = [trial / choice["preset"] / f"fold-{at}" / "log.jsonl" for at in range(folds.FOLDS)]
    kept = [[row["kept_step"] for row in read_log(log) if "kept_step" in row][-1] for log in logs]
    assert choice["until"] == pytest.approx(np.mean(kept) / 4)
    last = max(1, round(4 * choice["until"]))
    assert read_log(trial / "log.jsonl")[-1]["step"] == last
    assert read_log(trial.parent / "served" / "log.jsonl")[-1]["step"] == last
    assert not list(trial.rglob("checkpoint"))
    served = trial.parent / "served" / "model"
    store = open_store(run.folder / "store").served
    assert store is not None and store.model_version == version_of(served) != version_of(trial / "model")
    config = json.loads((served / "config.json").read_text())
    assert config["share"] == choice["share"]
    assert run.verdict().endswith("fitted again on all pairs.")


def test_a_training_that_was_stopped_early_counts_by_the_steps_that_it_should_take(run: Run, tmp_path: Path) -> None:
    settings = TrainingSettings(steps=10, warmup=0, patience=2)
    rows = [json.dumps({"step": step, "kept_step": min(step, 2)}) for step in range(1, 5)]
    (tmp_path / "log.jsonl").write_text("\n".join(rows))
    assert kept_share(tmp_path, settings, run.data) == 0.2  # the refit follows the schedule of all ten
