"""The frozen part of a model, alone and as the beginning of an embedding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tgqformer.connectors import ConnectorWidths
from tgqformer.errors import TgqError
from tgqformer.files import read_json, with_check, write_json
from tgqformer.model.caching import cache_features
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.features import embed_features
from tgqformer.model.frozen import FrozenPart, FrozenVectors
from tgqformer.store import make_store
from tgqformer.store.build import Build, build_store
from tgqformer.store.embed import embed_catalog
from tgqformer.store.embeddings import Embeddings
from tgqformer.store.sync import SyncSettings, sync
from tgqformer.synthetic.noise import NoisePlan, NoiseView

torch.set_num_threads(1)
WIDTHS = ConnectorWidths(visual=4, vector=9, metadata=6, grid=(1, 1))


def vectors(count: int = 40) -> FrozenVectors:
    torch.manual_seed(0)
    has_picture, has_text = torch.arange(count) % 5 != 1, torch.arange(count) % 7 != 1
    picture, text = torch.randn(count, 9) @ torch.randn(9, 9) + 3, torch.randn(count, 6) - 1
    return FrozenVectors(picture * has_picture[:, None], has_picture, text * has_text[:, None], has_text)


def fitted(seen: FrozenVectors, text_share: float = 0.3, most: int = 128) -> FrozenPart:
    part = FrozenPart(WIDTHS, text_share, most)
    halves = [
        FrozenVectors(*(value[rows] for value in vars(seen).values())) for rows in (slice(0, 17), slice(17, None))
    ]
    part.fit(halves)
    return part


def centred(values: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    return F.normalize(values - values[present].mean(0), dim=-1)


def test_the_cosine_is_the_mixture_of_the_two_centred_cosines():
    seen = vectors()
    found, both = fitted(seen)(seen), seen.has_picture & seen.has_text
    picture, text = centred(seen.picture, seen.has_picture)[both], centred(seen.text, seen.has_text)[both]
    wanted = 0.7 * picture @ picture.T + 0.3 * text @ text.T
    torch.testing.assert_close(found[both] @ found[both].T, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(40))


def test_a_missing_modality_is_zeros_and_items_without_any_share_a_place():
    seen = vectors()
    found = fitted(seen)(seen)
    assert (found[~seen.has_picture & seen.has_text][:, :9] == 0).all()
    assert (found[seen.has_picture & ~seen.has_text][:, 9:] == 0).all()
    assert len(found[~seen.has_picture & ~seen.has_text].unique(dim=0)) == 1
    assert fitted(seen, text_share=1.0)(seen).shape == (40, 6) and not fitted(seen, text_share=1.0).sees
    assert fitted(seen, text_share=0.0)(seen).shape == (40, 9)


def test_the_main_axes_are_kept():
    seen = vectors()
    part = fitted(seen, text_share=0.0, most=3)
    values = seen.picture[seen.has_picture]
    axes = torch.linalg.svd(values - values.mean(0))[2][:3]
    torch.testing.assert_close((part.picture.axes.T @ axes.T).abs(), torch.eye(3), atol=1e-3, rtol=0)


def begun(model: ItemEmbedder, items, share: float) -> FrozenPart:
    part = FrozenPart(model.widths, 0.4)
    part.fit([FrozenVectors.of(model.features(items))])
    model.begin_at(part, share)
    return part


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_model_that_begins_at_the_frozen_vectors_mixes_the_cosines_and_is_saved_whole(
    build, tiny_items, tmp_path, share
):
    model = build("tgq")
    learned, dim = model.encode(tiny_items), model.dim
    part = begun(model, tiny_items, share)
    frozen = part(FrozenVectors.of(model.features(tiny_items))).numpy()
    found = model.encode(tiny_items)
    assert model.dim == found.shape[1] == {0.0: part.dim, 0.25: part.dim + dim, 1.0: dim}[share]
    wanted = (1 - share) * frozen @ frozen.T + share * learned @ learned.T
    np.testing.assert_allclose(found @ found.T, wanted, atol=2e-6)
    if share == 1:
        np.testing.assert_array_equal(found, learned)
    model.save(tmp_path / "model")
    loaded = ItemEmbedder.load(tmp_path / "model")
    assert (loaded.dim, loaded.share, loaded.sees) == (model.dim, share, True)
    np.testing.assert_allclose(loaded.encode(tiny_items), found, atol=1e-6)


def test_vectors_that_begin_at_the_frozen_ones_are_not_cut(build, tiny_items, tiny_catalog, tmp_path):
    model = build("tgq")
    begun(model, tiny_items, 0.5)
    model.save(tmp_path / "model")
    model = ItemEmbedder.load(tmp_path / "model")
    embed_catalog(model, tiny_catalog, tmp_path / "e", workers=1, shown=False)
    why = f"the first 4 of the model's {model.dim} dimensions are those of what it does not learn"
    with pytest.raises(TgqError, match=why):
        model.encode(tiny_items, truncate_dim=4)
    with pytest.raises(TgqError, match=why):
        embed_catalog(model, tiny_catalog, tmp_path / "short", truncate_dim=4, shown=False)
    manifest = {name: said for name, said in read_json(tmp_path / "e/manifest.json").items() if name != "check"}
    earlier = {name: said for name, said in manifest.items() if name != "cuttable"}
    for told in (manifest, earlier):  # an earlier version did not say
        write_json(tmp_path / "e/manifest.json", with_check(told))
        embeddings = Embeddings.open(tmp_path / "e")
        for given in (None, tmp_path / "model"):
            said = "does not say whether" if told is earlier and given is None else "the first 4 of the"
            with pytest.raises(TgqError, match=said):
                build_store(embeddings, tiny_catalog, tmp_path / "store", Build(model=given, truncate_dim=4))
    assert embed_catalog(model, tiny_catalog, tmp_path / "e", shown=False).embedded == 0  # taken up all the same
    assert not (tmp_path / "store").exists()
    with pytest.raises(TgqError, match=why):
        how = SyncSettings(model=tmp_path / "model", new_version=True, dim=4)
        sync(tiny_catalog, make_store(tmp_path / "store"), model, how)
    assert model.encode(tiny_items, truncate_dim=model.dim).shape == (12, model.dim)


def test_cached_vectors_are_those_of_whole_batches(build, tiny_catalog, tiny_items, tmp_path):
    model = build("tgq")
    part = begun(model, tiny_items, 0.5)
    view = NoiseView(tiny_catalog, "mixed", NoisePlan(share=0.0))
    features = cache_features(tiny_catalog, model.encoders, model.language, [view], tmp_path, shown=False)
    every = np.arange(12)
    alone, whole = features.vectors(every), FrozenVectors.of(features.batch(every))
    for name, value in vars(whole).items():
        torch.testing.assert_close(getattr(alone, name), value)
    exact = embed_features(model, features, every, "mixed", precision="bfloat16", shown=False)[:, : part.dim]
    np.testing.assert_allclose(exact, 0.5**0.5 * part(alone).numpy(), atol=1e-6)  # never in half precision
