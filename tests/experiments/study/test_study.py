"""A small study from the drawn catalogue to the report; and the lists that a shop serves."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from itertools import pairwise
from math import comb
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from browsing import assert_accessible, needs_browser
from typer.testing import CliRunner

from tgqformer.cli import app
from tgqformer.collaborative.blend import Blend
from tgqformer.collaborative.lists import Lists
from tgqformer.errors import TgqError
from tgqformer.experiments.study import shop
from tgqformer.experiments.study import study as study_module
from tgqformer.experiments.study.log import StudyLog
from tgqformer.experiments.study.page import Findings, write_report
from tgqformer.experiments.study.settings import Study, load_study, shipped_studies
from tgqformer.experiments.study.study import StudyRun
from tgqformer.stages import only_one
from tgqformer.store.embeddings import Embeddings, fingerprint_of
from tgqformer.store.neighbours import Neighbours

torch.set_num_threads(1)
SMALL = {
    "name": "small",
    "log": {"shoppers": "studio", "sessions_per_item": 3.0, "sharpness": 1.0},
    "content": {"recipe": "demo", "set": ["catalog.items=110", "noise.share=0"]},
    "protocol": {"few": 0.3, "new": 0.2, "validation_items": 0.4, "k": 40},
    "systems": [
        {"name": "item-kNN", "model": "item-knn", "by": "next"},
        {"name": "LightGCN", "model": "lightgcn", "options": {"dim": 8, "layers": 2},
         "training": {"epochs": 3, "batch": 256, "lr": 0.01, "evaluate_every": 1}},
        {"name": "PinSage", "model": "pinsage", "options": {"dim": 8, "hidden": 8, "neighbours": 4, "negatives": 20},
         "training": {"epochs": 1, "batch": 256}},
        {"name": "PinSage + content", "model": "pinsage", "content": True,
         "options": {"dim": 8, "hidden": 8, "neighbours": 4, "negatives": 20, "hide": 0.2},
         "training": {"epochs": 2, "batch": 256}},
        {"name": "no importance", "model": "pinsage", "content": True, "ablation": True,
         "options": {"dim": 8, "hidden": 8, "neighbours": 4, "negatives": 20, "importance": False},
         "training": {"epochs": 1, "batch": 256}},
    ],
    "join": {
        "spreads": {"spread": {"content": "content", "behaviour": "item-kNN", "share": 0.5}},
        "alike": {"ranks fused": ["content", "item-kNN"]},
        "blends": {"blend": ["content", "item-kNN", "spread"]},
    },
    "seeds": [0, 1],
}  # fmt: skip


def test_an_error_about_the_log_names_the_key_of_the_study(tmp_path: Path) -> None:
    (tmp_path / "clicks.csv").write_text("who,what\n1,2\n")
    study = {**SMALL, "log": {"interactions": "clicks.csv"}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(study))
    with pytest.raises(TgqError, match=r"no column looks like the session; name it with log\.read\.session"):
        _ = StudyRun(load_study(str(tmp_path / "small.yaml")), tmp_path / "study").interactions
    loaded = load_study(str(tmp_path / "small.yaml"), ("log.read={session: who, item: what}",))
    assert len(StudyRun(loaded, tmp_path / "again").interactions) == 1


def looks(truth: Path, log: StudyLog, seed: int) -> np.ndarray:
    """In the place of a trained content model: kind and colour, blurred."""
    table = pq.read_table(truth)
    columns = (table[name].to_pylist() for name in ("id", "kind", "colour"))
    rows = {name: (kind, colour) for name, kind, colour in zip(*columns, strict=True)}
    words = sorted({word for row in rows.values() for word in row})
    vectors = np.array([[word in rows[name] for word in words] for name in log.ids], np.float32)
    return (vectors + np.random.default_rng(seed).normal(size=vectors.shape) * 0.2).astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudyRun]:
    folder = tmp_path_factory.mktemp("joined")
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    patch = pytest.MonkeyPatch()

    def fake(recipe: object, data: Path, log: StudyLog, seed: int, *_: object) -> np.ndarray:
        return looks(data / "catalog" / "truth.parquet", log, seed)

    patch.setattr(study_module, "content_vectors", fake)
    made = StudyRun(load_study(str(folder / "small.yaml")), folder / "study")
    write_report(made)
    yield made
    patch.undo()


def test_a_study_leaves_a_report_and_tables(run: StudyRun) -> None:
    page = (run.folder / "report.html").read_text()
    assert "brand-new" in page and "Joined against the best single one" in page and "no importance" in page
    assert "<script" not in page and "data:image" in page
    table = (run.folder / "table.md").read_text()
    assert "| blend |" in table and "Points of H@10 over the best single one" in table
    assert (run.folder / "table.csv").is_file() and (run.folder / "study.yaml").is_file()


def test_behaviour_knows_nothing_of_new_items_and_joins_do(run: StudyRun) -> None:
    found = Findings(run, run.results())
    assert found.single("brand-new") == "content"
    asked = run.log.test.at(run.log.buckets(run.log.test)["brand-new"])
    pool = len(run.log.ids) - 1
    chance = [1 - comb(pool - count, 10) / comb(pool, 10) for count in np.diff(asked.positives.indptr).tolist()]
    assert found.mean("item-kNN", "brand-new").interval.mean == pytest.approx(np.mean(chance), rel=1e-6)
    assert found.mean("blend", "brand-new").interval.mean > 0.5 * found.mean("content", "brand-new").interval.mean
    new = np.flatnonzero(run.log.bucket == 2)
    assert (run.lists("item-kNN", 0).items[new] == -1).all()
    assert (run.lists("blend", 0).items[new, 0] >= 0).all()
    assert (run.vectors("PinSage + content", 0)[new] != 0).any(1).all()
    assert (run.vectors("LightGCN", 0)[new] == 0).all()
    assert (run.vectors("spread", 0)[new] != 0).any(1).all()


def test_models_that_count_have_one_seed(run: StudyRun) -> None:
    assert run.seeds_of("item-kNN") == (0,) and run.seeds_of("LightGCN") == (0, 1)
    assert run.chosen() in ("blend", "spread", "ranks fused", "PinSage + content")


def test_what_is_done_is_not_done_again(run: StudyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    again = StudyRun(load_study(str(run.folder / "study.yaml")), run.folder)
    monkeypatch.setattr("tgqformer.experiments.study.systems.train_epochs", None)
    assert [r.views["warm"].query for r in again.results()] == [r.views["warm"].query for r in run.results()]


def test_another_bound_of_few_clicks_parts_the_same_queries_anew(run: StudyRun) -> None:
    shutil.copytree(run.folder, (folder := run.folder.with_name("few")))
    whole = dataclasses.replace(run.study.protocol, few=0.0, validation_items=0.5)  # no click is taken from the others
    found = []
    for few in (3, 8):
        protocol = dataclasses.replace(whole, few_clicks=few)
        other = StudyRun(dataclasses.replace(run.study, protocol=protocol), folder)
        found.append((other.log.fingerprint, other.result("item-kNN", 0).views, other.blend("blend", 0)))
        asked = {name: len(places) for name, places in other.log.buckets(other.log.test).items()}
        assert {name: len(view.query) for name, view in found[-1][1].items() if name in asked} == asked
    assert found[0][0] == found[1][0] and len(found[0][1]["warm"].query) != len(found[1][1]["warm"].query)
    assert (found[0][2].few, found[1][2].few) == (3, 8)


def test_the_settings_of_a_study_that_is_at_work_stay(run: StudyRun, tmp_path: Path) -> None:
    StudyRun(run.study, tmp_path)
    before = (tmp_path / "study.yaml").read_text()
    with only_one(tmp_path), pytest.raises(TgqError, match="another tgq is at work"):
        StudyRun(run.study, tmp_path, changes=("catalog.items=90",))
    assert (tmp_path / "study.yaml").read_text() == before


def test_the_study_that_is_written_holds_the_changes_of_its_content(run: StudyRun, tmp_path: Path) -> None:
    made = StudyRun(run.study, tmp_path / "study", changes=("catalog.items=90",), data=tmp_path / "shop's data")
    again = StudyRun(load_study(str(tmp_path / "study" / "study.yaml")), tmp_path / "study")
    assert made.recipe.catalog.items == again.recipe.catalog.items == 90
    page = (run.folder / "report.html").read_text()
    assert f"tgq collab study {run.folder / 'study.yaml'} --to {run.folder}" in page and "--run" not in page


def test_settings_that_contradict_are_refused(tmp_path: Path) -> None:
    for change, words in (
        ("join={blends: {x: [content, nobody]}}", "unknown sources"),
        ("join={blends: {PinSage: [content]}}", "its name is taken"),
        ("log={}", "one of shoppers"),
        ("protocol.new=0.9", "leave something"),
        ("protocol.test=0", "greater than 0"),
        ("protocol.k=3", "greater than or equal to 10"),
        ("seeds=[]", "seeds"),
        ("systems=[]", "systems"),
        ("join={blends: {Blend: [content], blend: [content]}}", "kept in one folder, 'blend'"),
        ("protocol.fwe=0.1", "did you mean"),
    ):
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
        with pytest.raises(TgqError, match=words):
            load_study(str(tmp_path / "small.yaml"), (change,))
    with pytest.raises(TgqError, match="no model"):
        load_study(str(tmp_path / "small.yaml"), ("content.model=none such",)).content.load()


@pytest.mark.parametrize("name", sorted(shipped_studies()))
def test_shipped_studies_load(name: str) -> None:
    study = load_study(name)
    assert isinstance(study, Study) and study.content.load().models


def test_a_shop_joins_its_embeddings_with_its_log(run: StudyRun, tmp_path: Path) -> None:
    ids, vectors = run.log.ids, run.content(0)
    made = Embeddings.create(
        tmp_path / "embeddings", dim=vectors.shape[1], model_version="v1", ids_fingerprint=fingerprint_of(ids),
        count=len(ids),
    )  # fmt: skip
    made.write(0, ids, vectors)
    log = run.folder / "log" / "log.parquet"
    command = ["collab", "join", str(tmp_path / "embeddings"), "--log", str(log), "-k", "20"]
    more = ["--to", str(tmp_path / "lists"), "--parquet", str(tmp_path / "lists.parquet")]
    result = CliRunner().invoke(app, [*command, *more])
    assert result.exit_code == 0, result.output
    lists = Neighbours.open(tmp_path / "lists" / "neighbours")
    assert lists.manifest.model_version == "v1" and lists.manifest.width == 20 and len(lists) == len(ids)
    near = lists.of(ids[0])
    assert near[0][1] == 1.0 and all(a[1] >= b[1] for a, b in pairwise(near))
    assert ids[0] not in [name for name, _ in near] and len({name for name, _ in near}) == 20
    vectors = Embeddings.open(tmp_path / "lists" / "embeddings")
    assert vectors.model_version.startswith("v1-joined-") and vectors.ids() == ids
    assert np.linalg.norm(vectors.vectors(), axis=1) == pytest.approx(1.0, abs=1e-5)
    learned = tmp_path / "lists" / "blend.json"
    again = CliRunner().invoke(app, [*command, "--to", str(tmp_path / "again"), "--blend", str(learned)])
    assert again.exit_code == 0 and Neighbours.open(tmp_path / "again" / "neighbours").of(ids[0])[:3] == [
        (n, pytest.approx(s, rel=1e-4)) for n, s in near[:3]
    ]
    assert Blend.read(learned).sources == ("content", "item-kNN", "spread, a little", "spread, much")


def test_short_lists_are_filled_by_content_then_by_any() -> None:
    short = Lists(np.array([[2, -1, -1], [-1, -1, -1]], np.int32), np.array([[3.0, 0, 0], [0, 0, 0]], np.float32))
    near = Lists(np.array([[1, -1], [3, 0]], np.int32), np.zeros((2, 2), np.float32))
    found = shop.filled(Lists(short.items[[0, 1, 0, 0]], short.scores[[0, 1, 0, 0]]),
                        Lists(near.items[[0, 1, 0, 0]], near.scores[[0, 1, 0, 0]]), 3)  # fmt: skip
    assert found.items[0].tolist() == [2, 1, 3] and found.items[1].tolist() == [3, 0, 2]
    assert (np.diff(found.scores) < 0).all() and found.scores[0, 0] == 1.0


@needs_browser
def test_axe_finds_nothing(run: StudyRun) -> None:
    assert_accessible(run.folder / "report.html")
