"""Which pictures of an item a model looks at: the first, the mean of all, or all at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_shop import packed, png

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.config import parse
from tgqformer.errors import TgqError
from tgqformer.experiments.recipe import Recipe
from tgqformer.model.caching import cache_features
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.features import embed_features
from tgqformer.model.prompt import Prompt
from tgqformer.store.content import seen_of
from tgqformer.synthetic.noise import NoisePlan, noise_views

A, B, C = (packed(png(color)) for color in ("red", "blue", "gold"))
ITEMS = [
    Item("m1", "red shirt", pictures=(A,)),
    Item("m2", "red shirt", pictures=(A, B, C)),
    Item("m3", "red shirt", pictures=(B, A)),
    Item("m4", "red shirt", pictures=(A, B)),
    Item("m5", "red shirt", pictures=(A, A)),
    Item("m6", "red shirt"),
]
ATTENDING = ["tgq", "tgq, light", "qformer", "text-qformer", "notellm2"]
MEAN = [*ATTENDING, "mlp", "picture only", "resampler", "c-abstractor", "mean"]
WAYS = [("mean", name) for name in MEAN] + [("attend", name) for name in ATTENDING]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    path = tmp_path_factory.mktemp("several") / "catalog"
    with CatalogWriter(path, name="several", pack=True) as writer:
        for item in ITEMS:
            writer.add(item)
    return Catalog.open(path)


def looking(build, tiny_encoders, name: str, how: str) -> ItemEmbedder:
    return build(name, encoders=replace(tiny_encoders, prompt=Prompt(pictures=how)))


def test_the_first_picture_alone_counts_by_default(build) -> None:
    m1, m2, m3, m4, m5, m6 = build("tgq").encode(ITEMS)
    assert np.allclose(m1, m2, atol=1e-5) and np.allclose(m1, m4, atol=1e-5) and np.allclose(m1, m5, atol=1e-5)
    assert not np.allclose(m1, m3, atol=1e-3) and not np.allclose(m1, m6, atol=1e-3)


@pytest.mark.parametrize(("how", "name"), WAYS)
def test_all_pictures_count_and_their_order_does_not(build, tiny_encoders, how: str, name: str) -> None:
    m1, m2, m3, m4, m5, m6 = looking(build, tiny_encoders, name, how).encode(ITEMS)
    assert np.allclose(m3, m4, atol=1e-4), "the order of two pictures"
    assert np.allclose(m1, m5, atol=1e-5), "the same picture twice"
    for other in (m2, m3, m6):
        assert np.abs(m1 - other).max() > 1e-3
    assert np.abs(m2 - m3).max() > 1e-3


@pytest.mark.parametrize(("how", "name"), WAYS)
def test_an_item_with_one_picture_is_as_with_the_first(build, tiny_encoders, how: str, name: str) -> None:
    model = looking(build, tiny_encoders, name, how)
    beside, alone = model.encode(ITEMS), model.encode(ITEMS[:1])
    assert np.allclose(beside[0], alone[0], atol=1e-4), "what stands beside it in a batch makes no difference"
    model.encoders = tiny_encoders
    assert np.allclose(alone, model.encode(ITEMS[:1]), atol=1e-5)


@pytest.mark.parametrize(("how", "name"), [("first", "tgq"), ("mean", "tgq"), ("attend", "tgq"), ("attend", "qformer")])
def test_the_cache_holds_all_pictures(
    build, tiny_encoders, catalog: Catalog, tmp_path: Path, how: str, name: str
) -> None:
    model = looking(build, tiny_encoders, name, how)
    shown = noise_views(catalog, NoisePlan(share=0.5, seed=1, kinds=("poster",)), {"clean": None, "noised": None})
    features = cache_features(catalog, model.encoders, model.language, shown, tmp_path, shown=False)
    every = np.arange(len(ITEMS))
    found = embed_features(model, features, every, "clean", batch_size=4, shown=False)
    assert np.allclose(found, model.encode(ITEMS), atol=1e-4)
    noised = embed_features(model, features, every, "noised", shown=False)
    assert (np.abs(noised - found).max(1) > 1e-4).tolist() == [True] * 5 + [False]
    kept = len(features.visual)
    assert kept == (2 if how == "first" else 3) + 5, "each content once, and five first pictures noised"
    frozen = features.vectors(every, "clean")
    assert frozen.has_picture.tolist() == [True] * 5 + [False]
    assert bool((frozen.picture[0] == frozen.picture[1]).all()) == (how == "first")
    empty = features.pictures(every[5:], "clean")
    assert not empty.has_picture.any() and empty.visual.shape[1] == tiny_encoders.vision.grid[0] ** 2


def test_what_is_spliced_is_spliced_where_several_are_attended_to(
    build, tiny_encoders, catalog: Catalog, tmp_path: Path
) -> None:
    model = looking(build, tiny_encoders, "tgq", "attend")
    shown = noise_views(catalog, NoisePlan(share=0.5, seed=1, kinds=("poster",)), {"clean": None, "noised": None})
    features = cache_features(catalog, model.encoders, model.language, shown, tmp_path, shown=False)
    every, places = np.arange(len(ITEMS)), np.ones((len(ITEMS), 9), bool)
    whole = features.batch(every, "clean", spliced=("noised", places))
    assert (whole.visual == features.batch(every, "noised").visual).all()


def test_the_setting_is_saved_with_the_model(build, tiny_encoders, tmp_path: Path) -> None:
    model = looking(build, tiny_encoders, "tgq", "attend")
    model.save(tmp_path / "model")
    loaded = ItemEmbedder.load(tmp_path / "model")
    assert loaded.encoders is not None and loaded.encoders.prompt.pictures == "attend"
    assert np.allclose(loaded.encode(ITEMS), model.encode(ITEMS), atol=1e-5)


def test_a_sync_sees_the_pictures_that_the_model_sees() -> None:
    first, everything = Prompt(), Prompt(pictures="mean")
    assert seen_of(ITEMS[0], first) == seen_of(ITEMS[1], first) == seen_of(ITEMS[0], everything)
    assert len({seen_of(item, everything) for item in ITEMS}) == 5  # m5 is as m1
    assert seen_of(ITEMS[0], first) != seen_of(ITEMS[5], first)


@pytest.mark.parametrize("connector", ["mlp", "linear", "mean", "resampler", "c-abstractor"])
def test_a_connector_that_reads_one_grid_is_refused(build, tiny_encoders, connector: str) -> None:
    plain = {
        "name": "x", "catalog": {}, "pairs": {"shoppers": "studio"}, "prompt": {"pictures": "attend"},
        "models": [{"name": "one", "connector": connector}],
    }  # fmt: skip
    with pytest.raises(TgqError, match=f"connector '{connector}' reads the grid of one picture.*tgq"):
        parse(Recipe, plain, "recipe")
    with pytest.raises(TgqError, match="reads the grid of one picture"):
        looking(build, tiny_encoders, "mlp", "attend")


def test_a_word_that_is_none_is_refused() -> None:
    with pytest.raises(TgqError, match="'means' is not known; did you mean 'mean'"):
        parse(Prompt, {"pictures": "means"}, "prompt")
