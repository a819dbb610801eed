"""A training that goes on from yesterday's weights, and vectors that stay comparable with yesterday's."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from tiny_recipe import MODEL, write_clicks, write_recipe, write_table

from tgqformer import stages
from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.importer import import_catalog
from tgqformer.errors import TgqError
from tgqformer.evaluation.results import read_log
from tgqformer.experiments import Until
from tgqformer.experiments.recipe import load_recipe
from tgqformer.experiments.run import execute
from tgqformer.files import read_json
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.version import version_of
from tgqformer.store import open_store
from tgqformer.store.sync import SyncSettings, sync

ITEMS = 36


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[[str], Path]) -> Path:
    """A small shop and the run of its first night, which had nothing to go on from."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("shop")
    write_table(folder, ITEMS)
    training = {"validate_every": 2, "lr": 0.01, "from": "run"}
    shares = {"train": 0.5, "val": 0.25, "test": 0.25}
    write_recipe(folder, tiny_model, pairs=shares, training=training, model={"share": 0.5, "preset": "given"})
    write_clicks(folder, ITEMS, 60)
    execute(load_recipe(folder / "shop.yaml"), folder / "first", "index")
    return folder


@pytest.fixture
def night(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Run the shop's recipe in a copy of the first night's folder, or another; return the stages that were made."""
    shutil.rmtree(shop / "run", ignore_errors=True)
    shutil.copytree(shop / "first", shop / "run")

    def run(*changes: str, to: str = "run", until: Until = "embed", sessions: int = 60) -> list[str]:
        write_clicks(shop, ITEMS, sessions)
        said = Console(file=StringIO(), width=200)
        monkeypatch.setattr(stages, "console", said)
        execute(load_recipe(shop / "shop.yaml", changes), shop / to, until)
        text = said.file.getvalue()  # type: ignore[attr-defined]
        return re.findall(r"^(.+): made in", text, re.MULTILINE)

    return run


def model_of(shop: Path, which: str = "seed-0", run: str = "run") -> Path:
    return shop / run / "models" / "tgq-former" / which / "model"


def test_each_night_goes_on_from_the_weights_of_the_night_before(shop: Path, night: Callable[..., list[str]]) -> None:
    assert (model_of(shop).parent / "visual" / "log.jsonl").exists(), "the first night starts afresh"
    assert night() == [], "the first night again"
    kept = shop / "run" / "models" / "tgq-former" / "earlier"
    for sessions in (70, 80):
        before = {which: version_of(model_of(shop, which)) for which in ("seed-0", "served")}
        made = night(sessions=sessions)
        assert [name for name in made if name.startswith("earlier weights")] == [
            "earlier weights of TGQ-Former, seed-0",
            "earlier weights of TGQ-Former, served",
        ]
        for which, version in before.items():
            assert version_of(kept / which / "weights" / "model") == version != version_of(model_of(shop, which))
        assert not (model_of(shop).parent / "visual").exists(), "the connector has learned alone"
        assert night(sessions=sessions) == [], "the same weights are found again"


def test_what_was_chosen_before_stays_chosen(shop: Path, night: Callable[..., list[str]]) -> None:
    auto = f"models=[{yaml.safe_dump(MODEL, default_flow_style=True).strip()}]"
    night(auto, to="auto", until="train")
    found = read_json(model_of(shop, run="auto").parent / "choice.json")
    assert found["folds"] == 4
    night(auto, to="auto", sessions=70)
    again = read_json(model_of(shop, run="auto").parent / "choice.json")
    assert not list(model_of(shop, run="auto").parent.rglob("fold-*")), "nothing is chosen anew"
    assert [again[key] for key in ("preset", "share", "until")] == [found[key] for key in ("preset", "share", "until")]
    assert again["preset_why"] == "as for the earlier model"
    assert ItemEmbedder.load(model_of(shop, "served", "auto")).share == found["share"]


def test_a_killed_night_goes_on_from_the_same_weights(
    shop: Path, night: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = version_of(model_of(shop))
    with monkeypatch.context() as patch:
        patch.setattr("tgqformer.experiments.trial.Trial.fit", lambda _: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            night(sessions=70)
    assert not model_of(shop).exists()
    night(sessions=80, until="train")  # another day, before anything was trained
    kept = shop / "run" / "models" / "tgq-former" / "earlier" / "seed-0" / "weights" / "model"
    assert version_of(kept) == before != version_of(model_of(shop))


def test_another_run_may_be_gone_on_from(shop: Path, night: Callable[..., list[str]]) -> None:
    night(f"training.from={shop / 'run'}", to="next", until="train", sessions=70)
    kept = shop / "next" / "models" / "tgq-former" / "earlier" / "seed-0" / "weights" / "model"
    assert version_of(kept) == version_of(model_of(shop)) != version_of(model_of(shop, run="next"))
    with pytest.raises(TgqError, match=r"training\.from: .*other has no trained TGQ-Former .*no folder of a run"):
        night(f"training.from={shop / 'other'}", to="third", until="train")
    named = MODEL | {"name": "TGQ", "preset": "given"}
    with pytest.raises(TgqError, match=r"has no trained TGQ \(seed-0\); its models are tgq-former"):
        night(
            f"training.from={shop / 'run'}",
            f"models=[{yaml.safe_dump(named, default_flow_style=True).strip()}]",
            until="train",
        )


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("models=[{name: TGQ-Former, connector: mlp, preset: given}]", "the connector tgq, this one mlp"),
        (
            "models=[{name: TGQ-Former, connector: tgq, options: {dim: 8, heads: 2}, preset: given}]",
            "the connector's options {'dim': 16, 'heads': 2}, this one {'dim': 8",
        ),
        ("prompt.fields=[title]", "the prompt"),
        ("encoders.vision_options={levels: [1]}", "the vision encoder"),
        ("language.max_tokens=12", "the language model is another one"),
        ("pairs.seed=5", "on another split .*knows items of today's test"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    shop: Path, night: Callable[..., list[str]], change: str, error: str
) -> None:
    before = version_of(model_of(shop))
    with pytest.raises(TgqError, match=error):
        night(change, until="train")
    kept = shop / "run" / "models" / "tgq-former" / "earlier" / "seed-0" / "weights" / "model"
    assert version_of(kept) == before, "nothing is lost"


def test_compatible_needs_something_to_be_compatible_with(shop: Path) -> None:
    with pytest.raises(TgqError, match=r"training: compatible says with what"):
        load_recipe(shop / "shop.yaml", ("training.compatible=1", "training.from=null"))
    assert load_recipe(shop / "shop.yaml").training.from_ == "run"
    with pytest.raises(TgqError, match=r"'training.form' is not a key here; did you mean 'from'"):
        load_recipe(shop / "shop.yaml", ("training.form=run",))


def test_new_vectors_may_stand_among_old_ones(shop: Path, night: Callable[..., list[str]]) -> None:
    old = ItemEmbedder.load(model_of(shop, "served"))
    night("training.compatible=1", f"training.from={shop / 'run'}", to="compatible", sessions=70)
    night(f"training.from={shop / 'run'}", to="plain", sessions=70)
    new, plain = (ItemEmbedder.load(model_of(shop, "served", run)) for run in ("compatible", "plain"))
    assert new.compatible == (old.version,) and plain.compatible == () == old.compatible
    rows = read_log(model_of(shop, "served", "compatible").parent / "log.jsonl")
    assert all("compatible" in row for row in rows)
    catalog = Catalog.open(shop / "run" / "catalog")
    assert new.frozen is not None and old.frozen is not None
    torch.testing.assert_close(new.frozen.state_dict(), old.frozen.state_dict())

    store = open_store(str(shop / "run" / "store"))
    assert store.served is not None and store.served.model_version == old.version
    with pytest.raises(TgqError, match="vectors of two models must not be mixed"):
        sync(catalog, store, plain, SyncSettings(), shown=False)
    report = sync(catalog, store, new, SyncSettings(model=model_of(shop, "served", "compatible")), shown=False)
    assert report.embedded == 0 and report.version.models == (old.version, new.version)
    again = open_store(str(shop / "run" / "store")).served
    assert again is not None and again.models == (old.version, new.version)
    assert again.model == str(model_of(shop, "served", "compatible").resolve())
    with pytest.raises(TgqError, match="came after it"):
        sync(catalog, store, old, SyncSettings(), shown=False)

    with (shop / "more.csv").open("w") as file:
        file.write("id,title,category\n" + "".join(f"i{n},{n % 6} thing,kind {n % 3}\n" for n in range(1, ITEMS + 1)))
    import_catalog(shop / "more.csv", shop / "more", mapping={"id": "id", "title": "title", "category": "category"})
    before = {row.id: row.vector for row in store.table().get(["i1", "i7"])}
    more = Catalog.open(shop / "more")
    report = sync(more, store, new, SyncSettings(), shown=False)
    assert (report.embedded, report.deleted, report.same) == (1, 1, ITEMS - 1)
    rows_now = {row.id: row.vector for row in store.table().get(["i1", "i7", f"i{ITEMS}"])}
    assert all(np.array_equal(rows_now[name], vector) for name, vector in before.items()), "old vectors stay"
    fresh = new.encode([item for item in more.items() if item.id == f"i{ITEMS}"])[0]
    np.testing.assert_allclose(rows_now[f"i{ITEMS}"], fresh, atol=1e-5)
