"""A run of behaviour judged as a source of similar items, with its report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from browsing import assert_accessible, needs_browser
from typer.testing import CliRunner

from tgqformer.catalog.catalog import Catalog
from tgqformer.cli import app
from tgqformer.collaborative.run import load_run, train_run
from tgqformer.collaborative.settings import Preset
from tgqformer.config import parse
from tgqformer.errors import TgqError
from tgqformer.evaluation.results import Result
from tgqformer.experiments.study.similar import judge
from tgqformer.pairs.interactions import read_interactions
from tgqformer.pairs.pairs import Pairs, mine_pairs

MODELS = {
    "item-knn": {},
    "lightgcn": {"options": {"dim": 8, "layers": 2}, "training": {"epochs": 25, "batch": 64, "lr": 0.05}},
}


def trained(tmp_path: Path, model: str, ids: list[str]) -> Path:
    """A run on a log in which the users of a group touch the items of one third of the catalogue."""
    rng, third = np.random.default_rng(0), len(ids) // 3
    lines = ["user,item,time"]
    for user in range(60):
        own = rng.choice(third, min(4, third), replace=False) + third * (user % 3)
        lines += [f"u{user},{ids[item]},{when}" for when, item in enumerate(own, 1_700_000_000)]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    plain = {"name": model, "model": model, "split": {"kind": "leave-one-out"}, **MODELS[model]}
    train_run(parse(Preset, plain, "test"), tmp_path / "run", data=tmp_path / "log.csv", shown=False)
    return tmp_path / "run"


@pytest.mark.parametrize("model", sorted(MODELS))
def test_a_run_is_judged_by_held_out_items_and_by_pairs(tmp_path: Path, model: str) -> None:
    ids = [f"i{at}" for at in range(30)]
    folder = trained(tmp_path, model, ids)
    judged = judge(load_run(folder))
    assert judged.result.views["all"].values["hit@10"].mean() > 0.6  # by chance 0.34
    assert "warm" in judged.result.views
    pairs = judge(load_run(folder), Pairs.of(["i0", "i1"], ["i2", "elsewhere"]))
    assert sorted(pairs.result.views["all"].query) == ["i0", "i2"]
    with pytest.raises(TgqError, match="one shop"):
        judge(load_run(folder), Pairs.of(["x"], ["y"]))


def test_pairs_of_the_log_that_it_was_trained_on_are_told(tmp_path: Path) -> None:
    folder = trained(tmp_path, "item-knn", [f"i{at}" for at in range(30)])
    mined = mine_pairs(read_interactions(tmp_path / "log.csv"))
    judged = judge(load_run(folder), mined)
    assert judged.known > 0.8 and judged.warning is not None and "were clicked together in the log" in judged.warning
    held = judge(load_run(folder), Pairs.of(["i0", "i1", "i0"], ["i12", "i13", "i1"]))
    assert held.known <= 1 / 3 and held.warning is None
    assert judge(load_run(folder)).warning is None
    mined.write(tmp_path / "pairs.parquet")
    result = CliRunner().invoke(app, ["collab", "evaluate", str(folder), "--pairs", str(tmp_path / "pairs.parquet")])
    assert result.exit_code == 0 and "how well it remembers" in " ".join(result.output.split())
    assert "how well it remembers" in (folder / "report.html").read_text()


def test_the_command_writes_a_report_with_pictures(tmp_path: Path, tiny_catalog: Catalog) -> None:
    ids = tiny_catalog.ids()
    folder = trained(tmp_path, "item-knn", ids)
    result = CliRunner().invoke(app, ["collab", "evaluate", str(folder), "--catalog", str(tiny_catalog.path)])
    assert result.exit_code == 0, result.output
    page = (folder / "report.html").read_text()
    assert "Neighbours" in page and "H@10" in page and "similar items" in result.output
    assert set(Result.read(folder / "similar").views) >= {"all"}


@needs_browser
def test_axe_finds_nothing(tmp_path: Path, tiny_catalog: Catalog) -> None:
    folder = trained(tmp_path, "item-knn", tiny_catalog.ids())
    result = CliRunner().invoke(app, ["collab", "evaluate", str(folder), "--catalog", str(tiny_catalog.path)])
    assert result.exit_code == 0, result.output
    assert_accessible(folder / "report.html")
