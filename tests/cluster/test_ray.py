"""Partitions as tasks of a Ray cluster of simulated nodes, one of which is lost during the work."""

from __future__ import annotations

import os
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import ray
from doc_runs import Terminal, walk_page
from doc_shop import write_shop
from scripts import load_script
from small_shop import ITEMS, draw, save_models
from tiny_recipe import write_pictured
from typer.testing import CliRunner

from tgqformer.catalog import Catalog
from tgqformer.catalog.parts import ImportWork, import_in_parts
from tgqformer.cli import app
from tgqformer.cluster.ray import LOSSES, Cluster, on_cluster
from tgqformer.cluster.work import Maker, fill_here
from tgqformer.config import parse
from tgqformer.errors import TgqError
from tgqformer.experiments.bench.bench import Bench
from tgqformer.experiments.bench.grid import BenchRecipe
from tgqformer.experiments.caching import fill_cache, open_cache
from tgqformer.experiments.recipe import load_recipe
from tgqformer.experiments.run import execute
from tgqformer.pairs.pairs import Pairs
from tgqformer.store.embeddings import Embeddings

pytestmark = pytest.mark.slow

BENCH: dict[str, Any] = {
    "name": "tiny",
    "base": "demo",
    "set": {
        "catalog.items": 60,
        "pairs": {"train": 0.6, "val": 0.1, "test": 0.3},
        "training": {"steps": 2, "batch": 8, "group": 4, "warmup": 1, "validate_every": 0},
        "evaluation": {"views": ["mixed"], "validation_pool": 20},
    },
    "languages": {"minilm": {"name": "minilm"}},
    "models": [{"name": "text only", "connector": "none"}],
    "tuning": {"lr": [0.001]},
    "headline": {"model": "text only", "language": "minilm"},
    "grids": [{"title": "all", "languages": ["minilm"], "seeds": 2}],
}


@pytest.fixture(scope="module")
def faults() -> ModuleType:
    return load_script("faults_nodes")


@pytest.fixture(scope="module")
def cluster(faults: ModuleType) -> Iterator[tuple[Any, list[Any]]]:
    with faults.nodes(2) as started:
        yield started


@pytest.mark.slow
def test_a_lost_node_changes_no_byte(
    faults: ModuleType, cluster: tuple[Any, list[Any]], tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    draw(tmp_path / "catalog")
    save_models(tiny_model("vit"), tiny_model("bert"), tmp_path / "models")
    stages = {
        "embed": faults.embedding(tmp_path / "models/seed-1/model", tmp_path / "catalog", 1),
        "neighbours": faults.nearest(tmp_path / "embeddings", 300, 10),
    }
    for name, stage in stages.items():
        stage(tmp_path / name, lambda opened: None)
        faults.kill_once(stage, tmp_path / f"{name}-killed", *cluster, 0.0, 0)
        assert faults.content(tmp_path / f"{name}-killed") == faults.content(tmp_path / name)


@pytest.mark.slow
def test_a_lost_node_changes_no_byte_of_a_token_cache(
    faults: ModuleType, cluster: tuple[Any, list[Any]], tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    recipe = load_recipe(write_pictured(tmp_path, tiny_model))
    execute(recipe, tmp_path / "pairs", "pairs")

    def stage(to: Path, maker: Callable[..., Maker | None]) -> None:
        shutil.copytree(tmp_path / "pairs", to)
        opened = partial(open_cache, recipe=recipe, size=4, workers=1)
        fill_cache(recipe, to, maker(opened), size=4)

    stage(tmp_path / "whole", lambda opened: None)
    faults.kill_once(stage, tmp_path / "killed", *cluster, 0.0, 0)
    whole = faults.content(tmp_path / "whole/cache")
    assert faults.content(tmp_path / "killed/cache") == whole and len(whole) > 15


@pytest.mark.slow
def test_a_lost_node_changes_no_byte_of_an_import(
    faults: ModuleType, cluster: tuple[Any, list[Any]], tmp_path: Path
) -> None:
    write_shop(tmp_path, 60)

    def stage(to: Path, maker: Callable[..., Maker | None]) -> None:
        make = maker(ImportWork) or fill_here
        import_in_parts(tmp_path / "shop.csv", to, make, size=4, alone=True, root=tmp_path / "photos", name="shop")

    stage(tmp_path / "whole", lambda opened: None)
    faults.kill_once(stage, tmp_path / "killed", *cluster, 0.0, 0)
    whole, killed = (faults.content(tmp_path / one) for one in ("whole", "killed"))
    for told in (whole, killed):
        del told["report.json"], told["report.html"]  # which say how long it took
    assert killed == whole and len(Catalog.open(tmp_path / "killed")) == 60


def test_the_commands_of_the_page(
    cluster: tuple[Any, list[Any]],
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_shop(tmp_path, ITEMS)
    draw(tmp_path / "catalogs/shop")
    model, _ = save_models(tiny_model("vit"), tiny_model("bert"), tmp_path / "models")
    execute(load_recipe(write_pictured(tmp_path, tiny_model)), Path("runs/shop"), "pairs")
    this = {"local": "auto", "4": "1"}  # this cluster, whose nodes have one core each
    walk_page("docs/cluster.md", Terminal(instead={"small": str(model), **this}), "Ray")
    assert len(Embeddings.open(tmp_path / "embeddings").ids()) == ITEMS and (tmp_path / "neighbours").is_dir()
    assert (tmp_path / "nearly/approximate.json").exists() and len(Pairs.read(tmp_path / "pairs.parquet")) > 10
    assert list((tmp_path / "runs/shop/cache/visual").glob("*/part-*"))
    assert len(Catalog.open(tmp_path / "catalogs/large")) == ITEMS


def test_tasks_are_done_told_and_given_up(cluster: tuple[Any, list[Any]]) -> None:
    def opened() -> Callable[[int], int]:
        def do(task: int) -> int:
            if task == 2:
                raise TgqError("the second task cannot be done")
            if task == 3:
                os._exit(1)
            return task * task

        return do

    assert sorted(on_cluster(Cluster("auto"), opened, [0, 1, 4])) == [(0, 0), (1, 1), (4, 16)]
    with pytest.raises(TgqError, match=r"^the second task cannot be done$"):
        list(on_cluster(Cluster("auto"), opened, [0, 2]))
    lost = Counter[str]()
    with pytest.raises(TgqError, match=f"task 3 was lost {LOSSES + 1} times"):
        list(on_cluster(Cluster("auto"), opened, [3], lost))
    assert lost["tasks"] == LOSSES + 1


@pytest.mark.slow
def test_cells_of_a_bench_are_tasks_too(cluster: tuple[Any, list[Any]], tmp_path: Path) -> None:
    bench = parse(BenchRecipe, BENCH, "tiny")
    here, there = Bench(bench, tmp_path / "here"), Bench(bench, tmp_path / "there", cluster=Cluster("auto"))
    one, other = here.run(), there.run()
    assert one.keys() == other.keys() and len(one) == 2
    for cell, measured in one.items():
        found, known = (result.result.views["mixed"].values["mrr"] for result in (other[cell], measured))
        assert found == pytest.approx(known, abs=0.02)  # another number of threads sums in another order


def test_an_address_where_nobody_listens_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # the cluster of the other tests
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
        with pytest.raises(TgqError, match=f"--cluster {address}: no Ray cluster answers there"):
            list(on_cluster(Cluster(address), lambda: abs, [1]))


def test_options_that_contradict_are_refused(tmp_path: Path) -> None:
    embed = f"embed {tmp_path} --model {tmp_path} --to {tmp_path}/e --cluster local"
    for more, why in (("--workers 2", "leave --workers out"), ("--shard 1/2", "--shard and --cluster do not go")):
        result = CliRunner().invoke(app, [*embed.split(), *more.split()])
        assert isinstance(result.exception, TgqError) and why in str(result.exception)
    result = CliRunner().invoke(
        app, ["bench", "small", "--to", str(tmp_path / "b"), "--jobs", "2", "--cluster", "local"]
    )
    assert "--jobs and --cluster do not go together" in str(result.exception)
