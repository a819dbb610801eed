"""One real run, small: drawn catalogue, packaged encoders, training, evaluation, store, search, report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from typer.testing import CliRunner

from tgqformer.catalog.catalog import Catalog
from tgqformer.cli import app
from tgqformer.config import parse
from tgqformer.errors import TgqError
from tgqformer.evaluation.results import Result, summarize
from tgqformer.evaluation.tables import percent
from tgqformer.experiments.recipe import Recipe
from tgqformer.experiments.run import Run, execute
from tgqformer.model.card import read_card
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.pairs.pairs import Pairs
from tgqformer.store import open_store
from tgqformer.store.embed import embed_catalog
from tgqformer.store.embeddings import Embeddings
from tgqformer.store.neighbours import Neighbours

ALONE = {"preset": "given", "share": 1}  # one training; what validation chooses is tested in test_folds.py
SMALL = {
    "name": "small",
    "catalog": {"source": "studio", "items": 90},
    "pairs": {"shoppers": "studio", "train": 0.6, "val": 0.1, "test": 0.3},
    "alignment": {"steps": 6, "batch": 16},
    "training": {
        "steps": 6,
        "visual_steps": 2,
        "visual_batch": 8,
        "batch": 8,
        "group": 4,
        "warmup": 1,
        "validate_every": 3,
        "checkpoint_every": 3,
    },
    "evaluation": {"views": ["mixed", "clean"], "examples": 3, "validation_pool": 20},
    "neighbours": 5,
    "models": [
        {"name": "TGQ-Former", "connector": "tgq", "preset": "gentle", "share": 0.5},
        {"name": "text only", "connector": "none"} | ALONE,
        {"name": "picture only", "connector": "mlp", "language": False} | ALONE,
        {"name": "as it is", "connector": "frozen"},
    ],
}


def recipe(**changes: object) -> Recipe:
    return parse(Recipe, {**SMALL, **changes}, "small")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.set_num_threads(1)
    return execute(recipe(), tmp_path_factory.mktemp("runs") / "small")


def test_a_run_leaves_a_table_a_report_and_a_store(run: Run) -> None:
    folder = run.folder
    table = (folder / "table.md").read_text()
    assert all(name in table for name in ("TGQ-Former", "text only", "picture only", "as it is"))
    assert all(f"no training: {name}" in table for name in ("frozen picture", "frozen text", "frozen sum", "TF-IDF"))
    first = table.splitlines()[0]
    assert (
        "over the best that needs none" in first
        and "Served is TGQ-Former (gentle training, 50 % learned and 50 % frozen)" in first
    )
    assert first in (folder / "report.html").read_text().replace("&#39;", "'")
    page = (folder / "report.html").read_text()
    assert "anchored" in page and "data:image" in page and "http://" not in page.replace("http://www.w3.org", "")
    store = open_store(folder / "store")
    assert [stats.rows for stats in store.stats()] == [90, 90, 90, 90]
    served = store.served
    assert served is not None and served.label == "TGQ-Former"


def test_the_card_of_a_served_model_is_written_from_the_figures_of_the_run(run: Run) -> None:
    folder = run.folder / "models" / "tgq-former" / "served" / "model"
    card = read_card(folder)
    assert card == ItemEmbedder.load(folder).card and "# TGQ-Former, of the run small" in card
    rows = [line.split(" | ") for line in card.splitlines() if line.startswith("| mixed | H@10 |")]
    assert len(rows) == 1
    figures = {row.model: row for row in summarize([*run.results(), *run.untrained()])
               if (row.view, row.metric) == ("mixed", "hit@10")}  # fmt: skip
    own = figures.pop("TGQ-Former")
    rival = max(figures.values(), key=lambda row: row.interval.mean)
    assert rows[0][2] == percent(own.interval)
    assert rows[0][3] == f"{percent(rival.interval)} ({rival.model.replace('no training: ', '')})"
    lead = 100 * (own.interval.mean - rival.interval.mean)
    assert rows[0][4].startswith(f"{lead:+.1f} [".replace("-", "−"))
    assert "The clicks are **simulated**" in card and "One seed" in card and "queries are few" in card
    assert "| catalogue | studio, 90 items |" in card and run.verdict() in card
    other = read_card(run.folder / "models" / "text-only" / "served" / "model")
    assert "# text only, of the run small" in other and other != card


def test_the_noise_is_on_the_pictures_that_are_served_and_nowhere_else(run: Run) -> None:
    shown, clean = Catalog.open(folder := run.folder / "shown"), run.data.catalog
    assert shown.ids() == clean.ids() and folder != clean.path
    view = run.data.views["mixed"]
    for before, after in zip(clean.items(), shown.items(), strict=True):
        rendered = view.render(before)
        assert rendered is not None
        assert (after.pictures[0].digest == before.pictures[0].digest) == (view.spec(before.id) is None)
        assert (view.spec(before.id) is None) == (not rendered.mask.any())


def test_results_are_shares_and_seen_from_files_alike(run: Run) -> None:
    result = run.evaluate(run.recipe.models[0], 0)
    again = Result.read(run.trial(run.recipe.models[0], 0).folder / "result")
    assert result.views["mixed"].values["hit@10"].tolist() == again.views["mixed"].values["hit@10"].tolist()
    for view in result.views.values():
        assert all(((column >= 0) & (column <= 1)).all() for column in view.values.values())
    assert [row["step"] for row in result.log] == [1, 2, 3, 4, 5, 6]


def test_the_frozen_connector_is_the_frozen_sum(run: Run) -> None:
    own = run.evaluate(run.recipe.models[3], 0)
    wanted = next(result for result in run.untrained() if result.model == "no training: frozen sum")
    for view in ("mixed", "clean"):
        np.testing.assert_array_equal(own.views[view].values["mrr"], wanted.views[view].values["mrr"])
    model = ItemEmbedder.load(run.trial(run.recipe.models[3], 0).folder / "model")
    assert model.language is None and model.share == 0 and not own.log


def test_text_only_does_not_see_noise(run: Run) -> None:
    result = run.evaluate(run.recipe.models[1], 0)
    mixed, clean = (result.views[name].values["mrr"] for name in ("mixed", "clean"))
    np.testing.assert_array_equal(mixed, clean)


def test_served_vectors_are_those_of_the_saved_model_on_the_shown_pictures(run: Run) -> None:
    model = ItemEmbedder.load(run.served(run.recipe.models[0]))
    shown = Catalog.open(run.folder / "shown")
    fresh = model.encode(list(shown.items(0, 12)), batch_size=4, root=shown.root)
    served = Embeddings.open(run.folder / "embeddings" / "tgq-former").vectors()[:12]
    np.testing.assert_allclose(fresh, served, atol=2e-3)
    assert model.version == Embeddings.open(run.folder / "embeddings" / "tgq-former").model_version


def test_neighbours_are_the_nearest_and_the_store_agrees(run: Run) -> None:
    table = Embeddings.open(run.folder / "embeddings" / "tgq-former")
    vectors, ids = np.asarray(table.vectors()), table.ids()
    scores = vectors[7] @ vectors.T
    scores[7] = -np.inf
    wanted = {ids[int(at)] for at in np.argsort(-scores)[:5]}
    assert {name for name, _ in Neighbours.open(run.folder / "neighbours").of(ids[7])} == wanted
    hits = open_store(run.folder / "store").table().search(vectors[7], 6)
    assert {hit.id for hit in hits} - {ids[7]} == wanted


def test_a_second_call_makes_nothing_again(run: Run) -> None:
    ours = {run.folder / name for name in ("recipe.yaml", "tgq.json", ".tgq.lock")}
    files = [path for path in run.folder.rglob("*") if path.is_file() and path not in ours]
    before = {path: path.stat().st_mtime_ns for path in files if "report" not in path.name and "table" not in path.name}
    execute(run.recipe, run.folder, "neighbours")
    after = {path: path.stat().st_mtime_ns for path in before}
    assert after == before


def test_a_changed_recipe_makes_again_what_it_touches(run: Run, tmp_path: Path) -> None:
    features = {path: path.stat().st_mtime_ns for path in (run.folder / "cache").rglob("*") if path.is_file()}
    other = recipe(models=[{"name": "TGQ-Former", "connector": "tgq", "options": {"gates": "none"}} | ALONE])
    changed = execute(other, run.folder, "train")
    saved = json.loads((changed.trial(other.models[0], 0).folder / "model" / "config.json").read_text())
    assert saved["options"] == {"gates": "none"}
    assert {path: path.stat().st_mtime_ns for path in features} == features
    execute(run.recipe, run.folder, "train")  # as the other tests expect it


def test_embedding_a_catalogue_from_raw_pictures(run: Run, tmp_path: Path) -> None:
    model = ItemEmbedder.load(run.trial(run.recipe.models[0], 0).folder / "model")
    shown = Catalog.open(run.folder / "shown")
    report = embed_catalog(model, shown, tmp_path / "e", batch_size=16, partition_size=32, shown=False)
    assert report.embedded == 90 and not report.unreadable
    whole = Embeddings.open(tmp_path / "e").vectors()
    np.testing.assert_allclose(whole[:4], model.encode(shown.items(0, 4), root=shown.root), atol=2e-3)
    again = embed_catalog(model, shown, tmp_path / "e", batch_size=16, partition_size=32, shown=False)
    assert again.embedded == 0


def test_commands_run_and_similar(run: Run, tmp_path: Path) -> None:
    runner = CliRunner()
    similar = runner.invoke(app, ["similar", "studio-00007", "--store", str(run.folder / "store"), "-k", "3"])
    assert similar.exit_code == 0 and "studio-" in similar.output
    embedded = runner.invoke(
        app,
        ["embed", str(run.folder / "shown"), "--to", str(tmp_path / "e"), "--model",
         str(run.trial(run.recipe.models[1], 0).folder / "model")],
    )  # fmt: skip
    assert embedded.exit_code == 0 and "embedded 90 items" in embedded.output
    assert "fashion" in runner.invoke(app, ["recipes"]).output


@pytest.mark.slow
def test_own_pairs_and_no_drawn_noise(run: Run, tmp_path: Path) -> None:
    Pairs(pa.concat_tables([run.data.pairs.train.table, run.data.pairs.test.table])).write(tmp_path / "pairs.parquet")
    own = recipe(
        pairs={"pairs": str(tmp_path / "pairs.parquet"), "train": 0.8, "val": 0.0, "test": 0.2},
        noise={"share": 0.0},
        evaluation={"views": ["mixed"], "examples": 2},
        models=[{"name": "MLP", "connector": "mlp"} | ALONE],
        training={"steps": 3, "visual_steps": 0, "batch": 4, "group": 2, "warmup": 1},
        alignment={"steps": 2, "batch": 8},
    )
    done = execute(own, tmp_path / "own")
    assert done.shown_catalog.path == done.data.catalog.path
    assert (tmp_path / "own" / "report.html").is_file()


def test_an_empty_file_of_pairs_is_refused_before_anything_is_encoded(tmp_path: Path) -> None:
    Pairs.of([], []).write(tmp_path / "none.parquet")
    empty = recipe(pairs={"pairs": str(tmp_path / "none.parquet")})
    with pytest.raises(TgqError, match=r"none\.parquet has no pair of which both items are in the catalogue"):
        execute(empty, tmp_path / "empty", "train")
    assert not [name for name in ("cache", "alignment", "models") if (tmp_path / "empty" / name).exists()]
