"""A log that is cut by time: what was known before is asked for what is clicked after."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tiny_recipe import write_recipe, write_table

from tgqformer.errors import TgqError
from tgqformer.evaluation.untrained import PREFIX
from tgqformer.experiments.dataset import KNOWN_ITEM, NEW_ITEM, Dataset
from tgqformer.experiments.described import settings_of_run
from tgqformer.experiments.folds import everything, folds_of, name_of, part_of
from tgqformer.experiments.recipe import load_recipe
from tgqformer.experiments.run import Run, execute

OLD, ITEMS, SESSIONS = 36, 48, 120
"""Items from OLD on are first clicked in the last quarter of the sessions."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[[str], Path]) -> Run:
    """The run of a small shop whose log is cut by time."""
    torch.set_num_threads(1)
    shop, draw = tmp_path_factory.mktemp("shop"), random.Random(0)
    write_table(shop, ITEMS, likes=4)
    with (shop / "clicks.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["session", "item", "time"])
        for session in range(SESSIONS):
            offered = range(ITEMS if session >= 0.75 * SESSIONS else OLD)
            liked = [n for n in offered if n % 4 == session % 4]
            rows.writerows(
                [f"s{session}", f"i{n}", 1_700_000_000 + 3600 * session + at]
                for at, n in enumerate(draw.sample(liked, 3))
            )
    pairs = {"by": "time", "train": 0.6, "val": 0.2, "test": 0.2}
    training = {"visual_steps": 0, "validate_every": 1}
    recipe = write_recipe(shop, tiny_model, pairs=pairs, training=training, model={"preset": "gentle"})
    return execute(load_recipe(recipe), shop / "run", "report")


def test_periods_hold_the_pairs_of_their_time(run: Run) -> None:
    sets = run.data.pairs
    late = {f"i{n}" for n in range(OLD, ITEMS)}
    assert len(sets.train) and len(sets.val) and len(sets.test) and not len(sets.cross)
    assert not late & set(sets.train.ids()), "an item that came later is no part of training"
    assert late & set(sets.test.ids())
    assert set(sets.split.part("test")) <= late


def test_new_and_known_items_are_asked_apart(run: Run) -> None:
    data, ids = run.data, run.data.catalog.ids()
    assert data.new_items is not None and data.known_items is not None
    new = {ids[int(at)] for at in data.new_items.query}
    known = {ids[int(at)] for at in data.known_items.query}
    assert new <= set(data.pairs.split.part("test")) and not new & known
    assert known <= set(data.pairs.train.ids())
    assert {ids[int(at)] for at in data.queries.query} >= new | known


def test_of_too_many_queries_some_are_drawn(run: Run) -> None:
    recipe = replace(run.recipe, evaluation=replace(run.recipe.evaluation, queries=5))
    few, every = Dataset(recipe, run.folder), run.data.queries
    assert len(few.queries) == 5 < len(every)
    for query, row in zip(few.queries.query, range(5), strict=True):
        whole = int(np.flatnonzero(every.query == query)[0])
        assert few.queries.positives.row(row).tolist() == every.positives.row(whole).tolist()
    assert all(len(view) <= 5 for view in few.asked.values())
    assert settings_of_run(recipe, few, {})["test queries"] == f"5 of {len(every)}, drawn at random"
    assert settings_of_run(run.recipe, run.data, {})["test queries"] == f"all {len(every)}"


def test_what_shoppers_clicked_together_before_stands_in_the_table(run: Run) -> None:
    found = {result.model: result for result in run.untrained()}
    counted = found[f"{PREFIX}co-clicks"].views
    assert set(counted) == {"mixed", NEW_ITEM, KNOWN_ITEM}
    hits = {view: float(np.mean(scores.values["hit@10"])) for view, scores in counted.items()}
    assert hits[KNOWN_ITEM] > hits[NEW_ITEM], "nothing was counted of a new item: all others are equal"
    trained = run.results()[0].views
    assert set(trained) == set(counted)
    assert "co-clicks" in (run.folder / "table.md").read_text()
    assert "on mixed" in run.verdict()
    assert "by time" in (run.folder / "report.html").read_text()


def test_no_pair_of_the_test_period_is_trained_on_or_chosen_by(run: Run) -> None:
    data = run.data
    before = {tuple(pair.values()) for part in (data.pairs.train, data.pairs.val) for pair in rows(part.table)}
    test = {tuple(pair.values()) for pair in rows(data.pairs.test.table)} - before
    assert test
    folds = folds_of(data)
    assert folds
    for fold in folds:
        used = {tuple(pair.values()) for part in (fold.pairs.train, fold.pairs.val) for pair in rows(part.table)}
        assert used and not used & test
    assert data.any_validation is not None and data.any_validation is data.validation
    pool, asked = data.any_validation
    first, other = pool[asked.query[asked.positives.rows()]], pool[asked.positives.indices]
    names = np.array(data.catalog.ids())
    edges = {tuple(sorted(pair)) for pair in zip(names[first].tolist(), names[other].tolist(), strict=True)}
    assert edges and not edges & test
    whole = everything(data)
    assert {tuple(pair.values()) for pair in rows(whole.pairs.train.table)} == before | test
    for part in (folds[-1], whole):  # as another process opens them
        again = part_of(Dataset(data.recipe, data.folder), name_of(part))
        assert again.pairs.train.table.equals(part.pairs.train.table)


def rows(table: Any) -> list[dict[str, str]]:
    """Return the two items of each pair."""
    found: list[dict[str, str]] = table.select(["a", "b"]).to_pylist()
    return found


def test_only_a_log_can_be_cut(tmp_path: Path) -> None:
    recipe = {"name": "x", "catalog": {"source": "studio"}, "pairs": {"shoppers": "studio", "by": "time"}}
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(recipe | {"models": [{"name": "frozen", "connector": "frozen"}]}))
    with pytest.raises(TgqError, match="only a log of interactions can be split by time"):
        load_recipe(path)
