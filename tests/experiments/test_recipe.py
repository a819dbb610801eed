"""Recipes: every shipped one loads, every wrong key is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tgqformer.config import parse, write
from tgqformer.errors import TgqError
from tgqformer.experiments.recipe import Recipe, load_recipe, shipped_recipes
from tgqformer.model.prompt import Prompt

SMALL: dict[str, Any] = {
    "name": "small", "catalog": {"source": "studio"}, "pairs": {"shoppers": "studio"},
    "models": [{"name": "TGQ-Former", "connector": "tgq"}, {"name": "text", "connector": "none"}],
}  # fmt: skip


def changed(place: str, value: Any) -> dict[str, Any]:
    """The small recipe with the value at `place` (dots between keys and numbers) set."""
    data = yaml.safe_load(yaml.safe_dump(SMALL))
    *path, last = place.split(".")
    at = data
    for key in path:
        at = at[int(key)] if key.isdigit() else at.setdefault(key, {})
    at[int(last) if last.isdigit() else last] = value
    return data


def test_there_are_shipped_recipes():
    assert {"demo", "fashion"} <= set(shipped_recipes())


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_loads_by_name_and_by_path(name):
    recipe = load_recipe(name)
    assert recipe == load_recipe(str(shipped_recipes()[name])) and recipe.name == name


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_a_recipe_written_out_is_the_same_recipe(name, tmp_path):
    recipe = load_recipe(name, ("prompt.attributes=[fit, sleeve]", "language.layers=3", "training.lr=3e-4"))
    write(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(str(tmp_path / "recipe.yaml")) == recipe
    written = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    assert written["training"]["beta_lr"] == recipe.training.beta_lr  # every default is written out


def test_sections_are_what_they_say():
    recipe = parse(Recipe, changed("prompt.fields", ["title", "category"]), "here")
    assert recipe.prompt == Prompt(("title", "category")) and recipe.seeds == (0,)
    assert [model.connector for model in recipe.models] == ["tgq", "none"]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("traning", {}, "'traning' is not a key here; did you mean 'training'"),
        ("training.step", 5, "'training.step' .*did you mean 'steps'"),
        ("models.1.conector", "mlp", r"'models\.1\.conector' .*did you mean 'connector'"),
        ("prompt.templat", "x", "'prompt.templat' .*did you mean 'template'"),
        ("noise.xyzzy", 1, "'noise.xyzzy' .*known are share, kinds, severities, donors, seed"),
        ("encoders.visio", "x", "did you mean 'vision'"),
        ("models.0.connector", "qfromer", "did you mean 'qformer'"),
        ("models.0.options", {"anchord": 2}, "'anchord' is not a key here; did you mean 'anchored'"),
        (7, 1, "'7' is not a key here"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(place, value, message):
    data = {**SMALL, place: value} if isinstance(place, int) else changed(place, value)
    with pytest.raises(TgqError, match=f"here: .*{message}"):
        parse(Recipe, data, "here")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("training", None, "training: must be a section of keys, found None"),
        ("training", 5, "training: must be a section of keys, found 5"),
        ("models.0", "tgq", "must be a section of keys, found 'tgq'"),
        ("models", "tgq", "models"),
        ("training.steps", "many", r"training\.steps: .*integer.*'many'"),
        ("training.steps", 2.5, r"training\.steps"),
        ("training.precision", "int4", r"training\.precision"),
        ("noise.kinds", ["sticker"], r"noise\.kinds"),
        ("noise.share", 1.5, r"noise\.share"),
        ("noise.severities", [6], r"noise\.severities"),
        ("training.batch", 10, "must be a multiple of group"),
        ("training.group", 0, r"training\.group: .*greater than 0"),
        ("alignment.batch", 1, r"alignment\.batch: .*greater than or equal to 2"),
        ("prompt.template", "x", "must contain"),
        ("prompt.fields", ["titel"], "fields"),
        ("pairs.pairs", "x.csv", "exactly one of shoppers, interactions, pairs"),
        ("pairs.test", 0.5, "add up to 1"),
        ("models", [], "give at least one"),
        ("models.1.name", "TGQ former", "TGQ"),
        ("evaluation.views", ["clean"], "must hold mixed"),
        ("seeds", [], "give at least one"),
        ("seeds", [1, 1], "each once"),
        ("neighbours", 0, "neighbours: input should be greater than 0"),
    ],
)
def test_a_wrong_value_is_named(place, value, message):
    data = changed(place, value)
    if value == "TGQ former":
        data["models"][0]["name"], message = "tgq-former", "would be kept in one folder"
    with pytest.raises(TgqError, match=f"here: .*{message}"):
        parse(Recipe, data, "here")


@pytest.mark.parametrize("missing", ["name", "catalog", "pairs", "models"])
def test_what_must_be_there_is_named(missing):
    data = {key: value for key, value in SMALL.items() if key != missing}
    with pytest.raises(TgqError, match=f"here: {missing} is missing"):
        parse(Recipe, data, "here")


def test_changes_are_set_on_top():
    recipe = load_recipe(
        "demo", ("training.steps=300", "training.lr=1e-4", "seeds=[3, 4]", "noise.share=0", "prompt.cut_words=colours")
    )
    assert (recipe.training.steps, recipe.training.lr, recipe.seeds, recipe.noise.share) == (300, 1e-4, (3, 4), 0)
    assert recipe.prompt.cut_words == "colours" and recipe.training.group == load_recipe("demo").training.group


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.steps", "must be section.key=value"), ("name.first=x", "'name' is not a section"),
        ("training.stepz=1", "did you mean 'steps'"), ("training.steps=[1", "the value is not YAML"),
        ("training=5", "must be a section of keys"), ("training.lr=", r"training\.lr"),
    ],
)  # fmt: skip
def test_a_wrong_change_is_named(change, message):
    with pytest.raises(TgqError, match=message):
        load_recipe("demo", (change,))


@pytest.mark.parametrize("content", [b"a: [1", b"\xff\xfe\x00", b"- a\n- b", b"", b"a: \x00"])
def test_files_that_are_no_recipe_are_refused(tmp_path: Path, content: bytes):
    (tmp_path / "r.yaml").write_bytes(content)
    with pytest.raises(TgqError, match=r"r\.yaml"):
        load_recipe(str(tmp_path / "r.yaml"))


def test_a_recipe_that_is_not_there_is_named_with_those_that_are(tmp_path):
    with pytest.raises(TgqError, match=r"no recipe file 'fashon', .*did you mean 'fashion'"):
        load_recipe("fashon")
    with pytest.raises(TgqError, match="no recipe file"):
        load_recipe(str(tmp_path))
