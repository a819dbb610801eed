"""A real bench, tiny: tuned, run, killed, gone on with, and one cell done again to the last digit."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tiny_multimodal import write_multimodal
from typer.testing import CliRunner

from tgqformer.cli import app
from tgqformer.errors import TgqError
from tgqformer.experiments.bench.bench import Bench
from tgqformer.experiments.bench.cell import read_cell
from tgqformer.experiments.bench.grid import Tuning, load_bench
from tgqformer.experiments.bench.tasks import CellTask
from tgqformer.experiments.recipe import load_recipe
from tgqformer.experiments.trial import Trial
from tgqformer.files import read_json, write_json
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.stages import mark, note_of

PROBES = ["clean", "poster-5", "noised", "cover", "spill", "no-text", "wrong-text"]
TINY: dict[str, Any] = {
    "name": "tiny",
    "base": "demo",
    "set": {
        "catalog.items": 60,
        "pairs": {"train": 0.6, "val": 0.1, "test": 0.3},
        "alignment": {"steps": 3, "batch": 16},
        "training": {"steps": 3, "visual_steps": 2, "visual_batch": 8, "batch": 8, "group": 4, "warmup": 1,
                     "validate_every": 3, "checkpoint_every": 2},
        "evaluation": {
            "views": ["mixed", "clean"], "probes": PROBES, "probe_queries": 9,
            "validation_pool": 20,
        },
    },
    "languages": {"minilm": {"name": "minilm"}},
    "models": [{"name": "TGQ-Former", "connector": "tgq"}, {"name": "text only", "connector": "none"}],
    "tuning": {"lr": [0.001, 0.002]},
    "headline": {"model": "TGQ-Former", "language": "minilm"},
    "grids": [{"title": "all", "languages": ["minilm"], "seeds": 1}],
}  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_model) -> Bench:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("bench")
    write_multimodal("llava", folder / "llava")
    whole = {"name": "whole multimodal model", "multimodal": str(folder / "llava")}
    part = Transformer(str(tiny_model("bert")))
    SentenceTransformer(modules=[part, Pooling(16, "mean")], device="cpu").save(str(folder / "texts"))
    texts = {"name": "their texts", "multimodal": f"sentence-transformers:{folder / 'texts'}"}
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**TINY, "models": [*TINY["models"], whole, texts]}))
    bench = Bench(load_bench(str(folder / "tiny.yaml")), folder / "out")
    bench.report()
    return bench


def test_a_bench_leaves_tables_a_report_and_a_folder_for_each_cell(done: Bench) -> None:
    table = (done.folder / "table.md").read_text()
    assert "text only" in table and "no training: frozen sum" in table
    page = (done.folder / "report.html").read_text()
    assert "Posters and clutter on a query" in page and "no training: TF-IDF" in page
    assert "Equal treatment" in page and "0.001: " in page and "<script" not in page
    for cell in done.cells:
        folder = done.folder / "cells" / cell.path
        assert {"recipe.yaml", "metrics.json", "versions.json"} <= {path.name for path in folder.iterdir()}
        assert not (folder / "checkpoint").exists()


def test_the_learning_rate_with_the_best_validation_is_taken(done: Bench) -> None:
    for row in read_json(done.folder / "tuning.json"):
        if row["model"] in ("whole multimodal model", "their texts"):
            assert len(row["tried"]) == 1  # it is taken as it is
            continue
        assert len(row["tried"]) == 2
        assert row["tried"][str(row["lr"])] == max(row["tried"].values())
    measured = read_cell(done.folder / "cells" / done.cells[0].path)
    assert measured.lr in (0.001, 0.002) and 0 <= measured.validation <= 1


def test_probes_change_the_query_alone(done: Bench) -> None:
    tgq, text, whole, theirs = (read_cell(done.folder / "cells" / cell.path) for cell in done.cells)
    assert set(tgq.result.probes) == set(PROBES)
    assert len(tgq.result.probes["clean"].query) == 9
    own = dict(zip(text.result.views["mixed"].query, text.result.views["mixed"].values["mrr"], strict=True))
    seen = text.result.probes["poster-5"]  # text alone sees no sticker
    assert [own[name] for name in seen.query] == seen.values["mrr"].tolist()
    assert (text.result.probes["wrong-text"].values["mrr"] != seen.values["mrr"]).any()
    mixed, probes = whole.result.views["mixed"], whole.result.probes
    assert set(probes) == set(PROBES) - {"cover", "spill"}  # it has tokens of its own
    poster, bare = (probes[name].values["mrr"] for name in ("poster-5", "no-text"))
    own = dict(zip(mixed.query, mixed.values["mrr"], strict=True))
    asked = [own[name] for name in probes["poster-5"].query]
    assert poster.tolist() != asked and bare.tolist() != asked  # a whole model sees picture and text
    own = dict(zip(theirs.result.views["mixed"].query, theirs.result.views["mixed"].values["mrr"], strict=True))
    seen = theirs.result.probes["poster-5"]  # one of texts sees no sticker
    assert [own[name] for name in seen.query] == seen.values["mrr"].tolist()
    assert "even attention" in tgq.attention and set(tgq.gates) == {"anchored", "exploratory"}


def test_cover_and_spill_take_each_place_of_the_grid_from_one_of_two_views(
    done: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = done.data(done.cells[0].setting)
    recipe = load_recipe(str(done.folder / "cells" / done.cells[0].path / "recipe.yaml"))
    trial, places = Trial(recipe, data, recipe.models[0], 0, tmp_path), data.touched
    assert places.shape == (9, 49) and 0 < places.mean() < 1
    model, embed, asked = trial.build(), trial.embed, []

    def noted(model: ItemEmbedder, positions: Any, view: str = "mixed", *, spliced: Any = None, **more: Any) -> Any:
        asked.append((view, spliced))
        return embed(model, positions, view, spliced=spliced, **more)

    monkeypatch.setattr(trial, "embed", noted)
    probes = trial.measure(model).probes
    (base, (other, cover)), (same, (again, spill)) = [(view, spliced) for view, spliced in asked if spliced]
    assert (base, other, same, again) == ("clean", "noised", "clean", "noised")
    np.testing.assert_array_equal(cover, places)
    np.testing.assert_array_equal(spill, ~places)
    kinds = {name: list(probes[name].facts["kind"]) for name in ("clean", "noised", "cover", "spill")}
    assert kinds["cover"] == kinds["spill"] == kinds["noised"] != kinds["clean"] == [""] * 9
    monkeypatch.setitem(data.__dict__, "touched", np.zeros_like(places))
    assert trial.measure(model).probes["cover"].values["mrr"].tolist() == probes["clean"].values["mrr"].tolist()


def test_a_cell_done_again_has_the_same_metrics_to_the_last_digit(done: Bench, tmp_path: Path) -> None:
    cell = done.folder / "cells" / done.cells[0].path
    runner = CliRunner()
    again = runner.invoke(app, ["bench", "--cell", str(cell), "--to", str(tmp_path / "again")])
    assert again.exit_code == 0 and "to the last digit" in again.output
    assert (tmp_path / "again" / "metrics.json").read_bytes() == (cell / "metrics.json").read_bytes()
    copy = done.folder / "cells" / "other" / "other" / "tokens-4" / "tgq" / "seed-0"
    shutil.copytree(cell, copy)
    changed = read_json(copy / "metrics.json")
    changed["views"]["mixed"]["mrr"] += 1e-12
    write_json(copy / "metrics.json", changed)
    differs = runner.invoke(app, ["bench", "--cell", str(copy)])
    assert [one.name for one in copy.parent.iterdir()] == ["seed-0"]  # it leaves nothing in the bench
    shutil.rmtree(done.folder / "cells" / "other")
    assert differs.exit_code != 0 and "views.mixed.mrr" in str(differs.exception)


def test_what_is_done_is_not_done_again_and_what_was_killed_is(done: Bench) -> None:
    first, second, *_ = (done.folder / "cells" / cell.path for cell in done.cells)
    kept = (second / "metrics.json").stat().st_mtime_ns
    metrics = (first / "metrics.json").read_bytes()
    mark(first, **(note_of(first) or {}) | {"done": False})  # as if killed before the end
    (first / "metrics.json").unlink()
    Bench(done.bench, done.folder).report()
    assert (second / "metrics.json").stat().st_mtime_ns == kept
    assert (first / "metrics.json").read_bytes() == metrics


def test_a_report_of_a_part_leaves_out_what_other_settings_made(
    done: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(done.folder, tmp_path / "out")
    texts = next(model for model in done.bench.models if model.name == "text only")
    own = replace(texts, training={"lr": 0.004})
    models = tuple(own if model is texts else model for model in done.bench.models)
    again = Bench(replace(done.bench, models=models), tmp_path / "out", only=["/text-only/"])
    assert len(again.run()) == len(done.cells)  # what was not changed is still of this bench
    (row,) = (row for row in read_json(tmp_path / "out" / "tuning.json") if row["model"] == "text only")
    assert row["lr"] == 0.004 and list(row["tried"]) == ["0.004"]  # nothing to choose
    changed = replace(again.bench, set=again.bench.set | {"training.steps": 2, "training.validate_every": 2})
    found = Bench(changed, tmp_path / "out", only=["/text-only/"]).run()
    assert [(cell.model, measured.lr) for cell, measured in found.items()] == [("text only", 0.004)]
    assert "3 done cells are of other settings or data" in " ".join(capsys.readouterr().err.split())
    shutil.rmtree(tmp_path / "out" / "data" / "pairs")
    unsure = replace(changed, set=changed.set | {"pairs.train": 0.7, "pairs.val": 0.0})
    with pytest.raises(TgqError, match=r"no validation pairs tell which of tuning\.lr is best"):
        Bench(unsure, tmp_path / "out").run()


def test_another_multimodal_model_in_the_same_folder_is_measured_anew(done: Bench) -> None:
    (cell,) = (cell for cell in done.cells if cell.model == "whole multimodal model")
    rate = done.bench.tuning.lr[0]
    assert Bench(done.bench, done.folder)._stage(CellTask(cell, rate)).is_done()
    config = Path(str(done.bench.model(cell.model).multimodal)) / "config.json"
    before = config.read_text()
    config.write_text(before + "\n")
    assert not Bench(done.bench, done.folder)._stage(CellTask(cell, rate)).is_done()
    config.write_text(before)


@pytest.mark.slow
def test_cells_side_by_side_and_a_part_of_them(done: Bench) -> None:
    first, second, third, fourth = (done.folder / "cells" / cell.path for cell in done.cells)
    before = [read_json(folder / "metrics.json")["views"]["mixed"]["mrr"] for folder in (first, second)]
    for folder in (first, second, third, fourth):
        shutil.rmtree(folder)
    made = Bench(done.bench, done.folder, only=["/TGQ-Former/", "/text-only/"], jobs=2)
    assert len(made.cells) == 2 and len(made.every) == 4
    assert len(made.run()) == 2 and not third.exists()
    after = [read_json(folder / "metrics.json")["views"]["mixed"]["mrr"] for folder in (first, second)]
    assert after == pytest.approx(before, abs=0.02)  # another number of threads sums in another order
    assert read_json(first / "data.json")["threads"] >= 1
    assert {row["model"] for row in read_json(done.folder / "tuning.json")} >= {"whole multimodal model"}
    assert len(Bench(done.bench, done.folder).run()) == 4


@pytest.mark.slow
def test_an_error_in_a_worker_reaches_the_user(done: Bench, tmp_path: Path) -> None:
    wrong = replace(done.bench.models[0], training={"lr": 1e30, "clip": 1e30, "precision": "float32"})
    bench = replace(done.bench, models=(wrong, *done.bench.models[1:]), tuning=Tuning((1e-3,)))
    with pytest.raises(TgqError, match=r"^TGQ-Former · minilm, 4 tokens · seed 0: .* at step \d.*learning rate"):
        Bench(bench, tmp_path / "wrong", jobs=2).run()


def test_the_command_says_what_it_needs() -> None:
    runner = CliRunner()
    assert "small" in runner.invoke(app, ["bench", "--list"]).output
    for arguments, words in (
        (["bench"], "name a bench"),
        (["bench", "small", "--catalog", "x.csv"], "--log and --pairs"),
        (["bench", "--cell", "/nowhere"], "is not a cell"),
        (["bench", "small", "--cell", "/nowhere"], "just as it was made; leave BENCH away"),
        (["bench", "small", "--only", "tokens-5/"], "a path is catalogue/minilm/tokens-4/tgq-former/seed-0"),
        (["bench", "small", "--only", "/mlp/", "--only", "/mpl/"], "no cell of small has '/mpl/'"),
    ):
        failed = runner.invoke(app, arguments)
        assert failed.exit_code != 0 and words in str(failed.exception)
