"""Features of a whole catalogue on disk, and embedding a whole catalogue."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item, Picture
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.errors import TgqError
from tgqformer.files import read_json, with_check, write_json
from tgqformer.model.caching import cache_features
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.features import CatalogFeatures, embed_features
from tgqformer.model.prompt import Prompt
from tgqformer.store import embed
from tgqformer.store.embed import embed_catalog
from tgqformer.store.embeddings import Embeddings
from tgqformer.synthetic.noise import NoisePlan, NoiseView

torch.set_num_threads(1)
EVERY = np.arange(12)
PLAN = NoisePlan(share=0.5, kinds=("poster", "clutter"))


class Counting:
    """An encoder that counts the pictures or texts it is given."""

    def __init__(self, encoder) -> None:
        self.encoder, self.count = encoder, 0

    def __getattr__(self, name: str):
        return getattr(self.encoder, name)

    def encode(self, batch):
        self.count += len(batch)
        return self.encoder.encode(batch)


def views(catalog: Catalog, *names: str) -> list[NoiseView]:
    return [NoiseView(catalog, name, PLAN) for name in names]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def cached(build, tiny_catalog, tmp_path_factory) -> CatalogFeatures:
    model = build("tgq")
    folder, shown = tmp_path_factory.mktemp("cache"), views(tiny_catalog, "clean", "mixed", "noised")
    return cache_features(tiny_catalog, model.encoders, model.language, shown, folder, shown=False)


def test_there_is_a_row_for_every_picture_of_every_view(cached, tiny_catalog):
    assert set(cached.rows) == {"clean", "mixed", "noised"} and len(cached) == 12
    wears = np.array([PLAN.is_noised(name) for name in tiny_catalog.ids()])
    pictured = np.array([n not in (3, 7) for n in range(12)])
    assert {rows.shape for rows in cached.rows.values()} == {(12, 1)}
    for rows in (rows[:, 0] for rows in cached.rows.values()):
        assert ((rows >= 0) == pictured).all() and len(set(rows[pictured])) == pictured.sum()
    clean, mixed, noised = (cached.rows[name][:, 0] for name in ("clean", "mixed", "noised"))
    assert ((mixed == noised) == (wears | ~pictured)).all() and ((mixed == clean) == (~wears | ~pictured)).all()


@pytest.mark.parametrize("name", ["text only", "mlp", "picture only", "qformer", "tgq", "tgq, light"])
def test_cached_features_embed_as_raw_items_do(build, cached, tiny_items, name):
    model = build(name)
    raw = model.encode(tiny_items)
    assert np.allclose(embed_features(model, cached, EVERY, "clean", batch_size=5, shown=False), raw, atol=1e-4)
    order = np.array([7, 0, 5, 3, 11, 0])
    found = embed_features(model, cached, order, "clean", batch_size=4, shown=False)
    assert np.allclose(found, raw[order], atol=1e-4)


def test_a_view_is_embedded_as_it_is_shown(build, cached, tiny_catalog, tiny_items):
    model = build("tgq")
    found = {view: embed_features(model, cached, EVERY, view, shown=False) for view in ("clean", "mixed", "noised")}
    wears = np.array([bool(item.pictures) and PLAN.is_noised(item.id) for item in tiny_items])
    assert wears.any() and not wears.all()
    assert np.allclose(found["mixed"][~wears], found["clean"][~wears], atol=1e-5)
    assert np.allclose(found["mixed"][wears], found["noised"][wears], atol=1e-5)
    assert (np.abs(found["mixed"] - found["clean"]).max(1)[wears] > 1e-4).all()


def test_an_item_may_have_another_text_or_none(build, cached):
    model, features = build("tgq"), cached
    own = embed_features(model, features, EVERY, "mixed", shown=False)
    swapped = embed_features(model, features, EVERY, "mixed", texts=EVERY[::-1].copy(), shown=False)
    bare = embed_features(model, features, EVERY, "mixed", texts=np.full(12, -1), shown=False)
    same = embed_features(model, features, EVERY, "mixed", texts=EVERY, shown=False)
    np.testing.assert_array_equal(own, same)
    assert (np.abs(own - swapped).max(1) > 1e-3).sum() >= 8 and (np.abs(own - bare).max(1) > 1e-3).sum() >= 8


def test_some_places_of_a_picture_may_be_those_of_another_view(build, cached):
    clean, noised = (cached.batch(EVERY, view) for view in ("clean", "noised"))
    places = np.random.default_rng(0).random(clean.visual.shape[:2]) < 0.4
    spliced = cached.batch(EVERY, "clean", spliced=("noised", places))
    assert torch.equal(spliced.visual[places], noised.visual[places])
    assert torch.equal(spliced.visual[~places], clean.visual[~places])
    assert torch.equal(spliced.vector, clean.vector)
    model = build("tgq")
    found = embed_features(model, cached, EVERY, "clean", spliced=("noised", places), batch_size=5, shown=False)
    for at in EVERY:  # whatever the order of the batches, each item has its own places
        alone = ("noised", places[at : at + 1])
        one = embed_features(model, cached, EVERY[at : at + 1], "clean", spliced=alone, shown=False)
        np.testing.assert_allclose(found[at], one[0], atol=1e-5)
    assert np.abs(found - embed_features(model, cached, EVERY, "clean", shown=False)).max() > 1e-3


def test_the_empty_item_has_neither(build, cached):
    model = build("tgq")
    empty = cached.empty()
    assert len(empty) == 1 and not empty.has_picture.any() and not empty.metadata_mask.any()
    with torch.inference_mode():
        assert np.allclose(model(empty).embedding, model.encode([Item("x")]), atol=1e-4)
    assert cached.pictures(EVERY).states.shape == (12, 0, 1)


def test_a_second_call_encodes_nothing(build, tiny_catalog, tmp_path):
    model = build("mlp")
    for expected in (True, False):
        vision, text = Counting(model.encoders.vision), Counting(model.encoders.text)
        encoders = replace(model.encoders, vision=vision, text=text)
        language = Counting(model.language)
        found = cache_features(
            tiny_catalog, encoders, language, views(tiny_catalog, "clean", "mixed"), tmp_path, shown=False
        )  # type: ignore[arg-type]
        assert (vision.count > 0, text.count > 0, language.count > 0) == (expected,) * 3
    wears = sum(PLAN.is_noised(f"i{n}") for n in range(12) if n not in (3, 7))
    assert len(found.visual) == 10 + wears and len(found.metadata) == 11  # two items have no text, "" is one


def test_without_language_model_there_are_no_states(build, tiny_catalog, tmp_path):
    model = build("picture only")
    found = cache_features(tiny_catalog, model.encoders, None, views(tiny_catalog, "clean"), tmp_path, shown=False)
    assert found.states is None and found.batch(EVERY, "clean").states.shape == (12, 0, 1)
    assert np.allclose(embed_features(model, found, EVERY, "clean", shown=False),
                       model.encode(tiny_catalog.items()), atol=1e-4)  # fmt: skip


def test_metadata_that_is_cut_for_the_template_is_cached_as_it_is_read(build, tmp_path):
    model = build("mlp")
    model.encoders = replace(model.encoders, prompt=Prompt(template="{metadata} red shoe"))
    with CatalogWriter(tmp_path / "catalog", name="long", pack=True) as writer:
        for n, title in enumerate(("bag " * 200, "bag " * 300, "blue bag", "")):
            writer.add(Item(f"i{n}", title))
    catalog = Catalog.open(tmp_path / "catalog")
    found = cache_features(
        catalog, model.encoders, model.language, views(catalog, "clean"), tmp_path / "cache", shown=False
    )
    assert len(found.states) == 3 and len(found.metadata) == 4  # two are cut to the same
    embedded = embed_features(model, found, np.arange(4), "clean", shown=False)
    np.testing.assert_allclose(embedded, model.encode(catalog), atol=1e-4)


def broken_catalog(path: Path, items: list[Item]) -> Catalog:
    """The tiny items, with the picture of number 4 damaged after it was checked."""
    bad = Picture("f" * 32, None, items[4].pictures[0].data[:40])  # type: ignore[index]
    with CatalogWriter(path, name="broken", pack=True) as writer:
        for n, item in enumerate(items):
            writer.add(replace(item, pictures=(bad,)) if n == 4 else item)
    return Catalog.open(path)


def test_a_picture_that_cannot_be_read_names_its_item(build, tiny_items, tmp_path):
    model, catalog = build("mlp"), broken_catalog(tmp_path / "shop", tiny_items)
    with pytest.raises(TgqError, match="item 'i4', view 'clean'"):
        cache_features(
            catalog, model.encoders, model.language, views(catalog, "clean"), tmp_path / "cache", shown=False
        )


def test_a_catalogue_is_embedded_in_partitions(build, tiny_catalog, tiny_items, tmp_path):
    model = build("tgq")
    report = embed_catalog(model, tiny_catalog, tmp_path / "out", batch_size=3, partition_size=5, shown=False)
    table = Embeddings.open(tmp_path / "out")
    assert report.embedded == 12 and not report.unreadable and not (tmp_path / "out" / "unreadable.json").exists()
    assert table.partitions == 3 and not table.missing() and table.ids() == tiny_catalog.ids()
    assert np.allclose(table.vectors(), model.encode(tiny_items), atol=1e-5)
    again = embed_catalog(model, tiny_catalog, tmp_path / "out", batch_size=3, partition_size=5, shown=False)
    assert again.embedded == 0
    embed_catalog(model, tiny_catalog, tmp_path / "short", truncate_dim=4, shown=False)
    assert np.allclose(
        Embeddings.open(tmp_path / "short").vectors(), model.encode(tiny_items, truncate_dim=4), atol=1e-5
    )


def test_nothing_drops_out_of_a_model_that_was_training(build, tiny_catalog, tiny_items, tmp_path):
    model = build("tgq")
    wanted, view = model.encode(tiny_items), NoiseView(tiny_catalog, "mixed", NoisePlan(share=0.0))
    model.train()
    embed_catalog(model, tiny_catalog, tmp_path / "out", shown=False)
    features = cache_features(tiny_catalog, model.encoders, model.language, [view], tmp_path / "cache", shown=False)
    for found in (
        Embeddings.open(tmp_path / "out").vectors(),
        embed_features(model, features, np.arange(12), "mixed", shown=False),
    ):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert model.training


def test_half_precision_is_near_and_is_not_mixed_in(build, tiny_catalog, tmp_path):
    model = build("tgq")
    embed_catalog(model, tiny_catalog, tmp_path / "whole", shown=False)
    embed_catalog(model, tiny_catalog, tmp_path / "half", precision="bfloat16", shown=False)
    whole, half = Embeddings.open(tmp_path / "whole").vectors(), Embeddings.open(tmp_path / "half").vectors()
    assert not np.array_equal(whole, half) and ((whole * half).sum(1) > 0.999).all()
    with pytest.raises(TgqError, match=r"precision 'bfloat16', not 'float32'.* must not be mixed"):
        embed_catalog(model, tiny_catalog, tmp_path / "half", shown=False)
    embed_catalog(model, tiny_catalog, tmp_path / "half", shown=False, overwrite=True)
    assert np.array_equal(Embeddings.open(tmp_path / "half").vectors(), whole)


def test_embeddings_from_before_there_was_a_choice_are_in_float32(build, tiny_catalog, tmp_path):
    model = build("mlp")
    embed_catalog(model, tiny_catalog, tmp_path / "out", shown=False)
    told = read_json(tmp_path / "out/manifest.json")
    kept = {name: value for name, value in told.items() if name not in ("precision", "check")}
    write_json(tmp_path / "out/manifest.json", with_check(kept))
    assert embed_catalog(model, tiny_catalog, tmp_path / "out", shown=False).embedded == 0
    assert Embeddings.open(tmp_path / "out").manifest.precision == "float32"


def test_another_model_or_width_is_not_mixed_in(build, tiny_catalog, tmp_path):
    model = build("mlp")
    embed_catalog(model, tiny_catalog, tmp_path / "out", shown=False)
    with pytest.raises(TgqError, match="must not be mixed"):
        embed_catalog(model, tiny_catalog, tmp_path / "out", truncate_dim=4, shown=False)
    model.version = "another"
    with pytest.raises(TgqError, match="must not be mixed"):
        embed_catalog(model, tiny_catalog, tmp_path / "out", shown=False)


def test_an_unreadable_picture_is_embedded_by_text_and_remembered(build, tiny_items, tmp_path, monkeypatch):
    model, catalog = build("mlp"), broken_catalog(tmp_path / "shop", tiny_items)
    write = Embeddings.write

    def dying(self, partition, *rest):
        if partition == 1:
            raise KeyboardInterrupt
        write(self, partition, *rest)

    monkeypatch.setattr(Embeddings, "write", dying)
    with pytest.raises(KeyboardInterrupt):
        embed_catalog(model, catalog, tmp_path / "out", partition_size=5, shown=False)
    monkeypatch.undo()
    report = embed_catalog(model, catalog, tmp_path / "out", partition_size=5, shown=False)
    assert report.embedded == 7 and set(report.unreadable) == {"i4"}  # found by the first call, kept by the second
    assert set(json.loads((tmp_path / "out" / "unreadable.json").read_text())) == {"i4"}
    found = Embeddings.open(tmp_path / "out").vectors()
    assert np.allclose(found[4], model.encode([replace(tiny_items[4], pictures=())])[0], atol=1e-5)


def test_the_catalogue_streams(build, tiny_catalog, tmp_path, monkeypatch):
    """No more items are read ahead than the threads have batches in hand."""
    model, seen, done = build("mlp"), [0], [0]
    prepared = embed.embed_prepared

    def watched(model, items, pixels, precision):
        found = prepared(model, items, pixels, precision)
        done[0] += len(items)
        return found

    def items(self, *bounds, **options):
        for item in original(self, *bounds, **options):
            seen[0] += 1
            assert seen[0] - done[0] <= 2 * (1 + 2) + 2
            yield item

    original = Catalog.items
    monkeypatch.setattr(Catalog, "items", items)
    monkeypatch.setattr(embed, "embed_prepared", watched)
    embed_catalog(model, tiny_catalog, tmp_path / "out", batch_size=2, workers=1, shown=False)
    assert seen[0] == done[0] == 12


KILLED = """
import os, signal, sys
from pathlib import Path
from tgqformer.catalog.catalog import Catalog
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.store.embed import embed_catalog
from tgqformer.store.embeddings import Embeddings

write = Embeddings.write
def dying(self, partition, *rest):
    if partition == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, partition, *rest)
Embeddings.write = dying
model, catalog = ItemEmbedder.load(sys.argv[1]), Catalog.open(sys.argv[2])
embed_catalog(model, catalog, Path(sys.argv[3]), partition_size=5, shown=False)
"""


def test_a_killed_job_goes_on_where_it_was(build, tiny_catalog, tiny_items, tmp_path):
    build("mlp").save(tmp_path / "model")
    words = [str(tmp_path / "model"), str(tiny_catalog.path), str(tmp_path / "out")]
    killed = subprocess.run([sys.executable, "-c", KILLED, *words], env=dict(os.environ), check=False)
    assert killed.returncode == -signal.SIGKILL
    model = ItemEmbedder.load(tmp_path / "model")
    assert Embeddings.open(tmp_path / "out").missing() == [2]
    report = embed_catalog(model, tiny_catalog, tmp_path / "out", partition_size=5, shown=False)
    assert report.embedded == 2
    assert np.allclose(Embeddings.open(tmp_path / "out").vectors(), model.encode(tiny_items), atol=1e-5)
