"""The grid of a bench: what its YAML may say, and which cells it asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tgqformer.cli.bench import _own
from tgqformer.errors import TgqError
from tgqformer.experiments.bench.grid import (
    Cell,
    Setting,
    base_recipe,
    cells_of,
    chosen,
    is_probed,
    load_bench,
    recipe_of,
    shipped_benches,
)  # fmt: skip

SMALL: dict[str, Any] = {
    "name": "b",
    "base": "demo",
    "set": {"catalog.items": 50, "training": {"steps": 20, "warmup": 2}},
    "languages": {"minilm": {"name": "minilm"}, "small": {"name": "smollm2", "layers": 4}},
    "noises": {"catalogue": {}, "twins": {"donors": "same_category"}},
    "models": [
        {"name": "TGQ-Former", "connector": "tgq"},
        {"name": "no gates", "connector": "tgq", "options": {"gates": "none"}, "training": {"redundancy": 0.1},
         "ablation": True, "tuned_as": "TGQ-Former"},
        {"name": "text only", "connector": "none"},
    ],
    "tuning": {"lr": [0.001, 0.002]},
    "headline": {"model": "TGQ-Former", "language": "minilm"},
    "grids": [
        {"title": "all", "languages": ["minilm", "small"], "seeds": 2},
        {"title": "tokens", "languages": ["minilm"], "models": ["TGQ-Former"], "tokens": [2, 4], "noises": ["twins"],
         "seeds": 1},
    ],
}  # fmt: skip


def written(tmp_path: Path, **changes: Any) -> str:
    path = tmp_path / "bench.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}))
    return str(path)


def test_every_combination_is_a_cell(tmp_path: Path) -> None:
    cells = [cell for _, cell in cells_of(load_bench(written(tmp_path)))]
    assert len(cells) == 2 * 2 * 3 + 2
    assert Cell(Setting("small", "catalogue", 4), "no gates", 1) in cells
    assert len({cell.path for cell in cells}) == len(set(cells))


def test_a_cell_is_a_recipe_of_one_model(tmp_path: Path) -> None:
    bench = load_bench(written(tmp_path))
    recipe = recipe_of(bench, Cell(Setting("small", "twins", 2), "no gates", 7), 0.002)
    assert recipe.seeds == (7,) and recipe.noise.donors == "same_category" and recipe.language.layers == 4
    assert recipe.models[0].options == {"gates": "none", "tokens": 2}
    assert recipe.training.lr == 0.002 and recipe.training.redundancy == 0.1 and recipe.training.steps == 20
    assert recipe.catalog.items == 50 and recipe.training.warmup == 2


def test_without_a_noise_of_its_own_a_bench_has_that_of_its_base(tmp_path: Path) -> None:
    cell = Cell(Setting("minilm", "catalogue", 4), "text only", 0)
    for more, share in (({}, 0.5), ({"noise.share": 0}, 0)):
        bench = load_bench(written(tmp_path, noises={"twins": {}}, set={**SMALL["set"], **more}))
        assert recipe_of(bench, cell, 1e-3).noise.share == share
    paper = load_bench("paper")  # on a shop's pictures as they are
    assert {recipe_of(paper, cell, 1e-3).noise.share for _, cell in cells_of(paper)} == {0}


def test_text_only_is_given_no_token_budget(tmp_path: Path) -> None:
    bench = load_bench(written(tmp_path))
    assert recipe_of(bench, Cell(Setting("minilm", "catalogue", 4), "text only", 0), 1e-3).models[0].options == {}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"grid": []}, "'grid' is not a key here; did you mean 'grids'"),
        ({"models": [{"name": "x", "conector": "tgq"}]}, "did you mean 'connector'"),
        ({"models": [{"name": "x", "connector": "tgg"}]}, "tgq"),
        ({"languages": {"minilm": {"nam": "minilm"}}}, "did you mean 'name'"),
        ({"headline": {"model": "nobody", "language": "minilm"}}, "'nobody' is not one of the models"),
        ({"grids": [{"title": "t", "languages": ["klingon"]}]}, "'klingon' is not one of the languages"),
        ({"grids": [{"title": "t", "languages": ["minilm"], "seeds": 0}]}, r"grids\.0\.seeds: .*greater than 0"),
        ({"grids": []}, "grids: .*at least 1"),
        ({"grids": [{"title": "t", "languages": []}]}, r"grids\.0\.languages: .*at least 1"),
        ({"headline": {"model": "TGQ-Former", "language": "minilm", "tokens": 8}}, "no grid has TGQ-Former with .* 8"),
        ({"languages": {**SMALL["languages"], "Mini LM": {}, "mini-lm": {}}}, "kept in one folder, 'mini-lm'"),
        ({"noises": {"twins": {}, "Twins": {"share": 0.9}}}, "kept in one folder, 'twins'"),
        ({"set": {"language.name": "smollm2"}}, "does not read language.name of its base; set languages"),
        ({"set": {"training": {"lr": 0.1}}}, "does not read training.lr of its base; set tuning.lr"),
        ({"set": {"noise.share": 0}}, "does not read noise.share of its base; set noises"),
        ({"set": {"rules": {"mmr": 0.5}}}, "does not read rules.mmr of its base; set it in a recipe"),
        ({"models": [{"name": "s", "pretrained": "small"}]}, "s: pretrained is for a run"),
        ({"models": [{"name": "s", "connector": "tgq", "share": 0.5}]}, "s: share is for a run"),
        ({"set": {"training.stepps": 3}}, "did you mean 'training.steps'|did you mean 'steps'"),
        ({"base": "nothing"}, "no recipe file 'nothing'"),
        ({"models": [{"name": "x", "connector": "tgq", "training": {"lrr": 1}}],
          "headline": {"model": "x", "language": "minilm"}, "grids": [{"title": "t", "languages": ["minilm"]}]}, "lrr"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_runs(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(TgqError, match=words):
        load_bench(written(tmp_path, **changes))


@pytest.mark.parametrize("base", ["small", "paper"])  # shoppers, and the catalogue's own lists
def test_own_data_stand_where_the_base_has_others(base: str) -> None:
    for given, kind in (((None, "pairs.parquet"), "pairs"), (("clicks.csv", None), "interactions")):
        pairs = base_recipe(load_bench(base, tuple(_own("shop.csv", *given)))).pairs
        found = {key: getattr(pairs, key) for key in ("shoppers", "interactions", "pairs", "related")}
        assert [key for key, value in found.items() if value is not None] == [kind]


def test_files_that_are_no_bench(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- 1")
    (tmp_path / "broken.yaml").write_text("a: [")
    for name, words in (("list.yaml", "must hold sections"), ("broken.yaml", "is not YAML")):
        with pytest.raises(TgqError, match=words):
            load_bench(str(tmp_path / name))
    with pytest.raises(TgqError, match="did you mean 'small'"):
        load_bench("smal")


def test_a_part_of_the_cells(tmp_path: Path) -> None:
    bench = load_bench(written(tmp_path))
    every = [cell for _, cell in cells_of(bench)]
    assert chosen(bench, ()) == every
    assert {cell.seed for cell in chosen(bench, ["/SEED-1/"])} == {1}
    assert [cell.setting for cell in chosen(bench, ["tokens/"])] == [Setting("minilm", "twins", n) for n in (2, 4)]
    both = chosen(bench, ["small/tokens-4/no-gates/seed-0", "/text-only/"])
    assert len(both) == 1 + 4 and not chosen(bench, ["nothing"])


def test_probes_are_for_the_seeds_that_ask_for_them(tmp_path: Path) -> None:
    grids = [
        {"title": "all", "languages": ["minilm"], "seeds": 3, "probes": 1},
        {"title": "tokens", "languages": ["minilm"], "models": ["TGQ-Former"], "tokens": [2, 4], "seeds": 2},
    ]
    setting: dict[str, Any] = {**SMALL["set"], "evaluation": {"probes": ["no-text"]}}
    bench = load_bench(written(tmp_path, grids=grids, set=setting))

    def probed(model: str, tokens: int, seed: int) -> bool:
        cell = Cell(Setting("minilm", "catalogue", tokens), model, seed)
        return bool(recipe_of(bench, cell, 1e-3).evaluation.probes) and is_probed(bench, cell)

    assert [probed("no gates", 4, seed) for seed in range(3)] == [True, False, False]
    assert [probed("TGQ-Former", 4, seed) for seed in range(3)] == [True, True, False]  # the second grid asks too
    assert probed("TGQ-Former", 2, 1) and not probed("no gates", 2, 0)
    assert probed("text only", 2, 0)  # which is the same under every budget


@pytest.mark.parametrize("name", sorted(shipped_benches()))
def test_shipped_benches_load(name: str) -> None:
    bench = load_bench(name)
    assert base_recipe(bench).evaluation.probes and list(cells_of(bench))
    assert set(shipped_benches()) == {"explore", "fashion", "headline", "paper", "published", "small", "studio"}


@pytest.mark.parametrize("name", sorted(shipped_benches().keys() - {"explore", "published"}))  # a part of them
def test_shipped_benches_compare_at_least_ten_connectors(name: str) -> None:
    bench = load_bench(name)
    assert len({model.connector for model in bench.models}) >= 10
    assert max(grid.seeds for grid in bench.grids) >= 5


def test_changes_on_top_reach_into_the_base(tmp_path: Path) -> None:
    bench = load_bench(written(tmp_path), ("set.catalog.source=shop.csv", "tuning.lr=[0.01]"))
    recipe = base_recipe(bench)
    assert (
        recipe.catalog.source == str(Path.cwd() / "shop.csv")
        and recipe.catalog.items == 50
        and bench.tuning.lr == (0.01,)
    )
