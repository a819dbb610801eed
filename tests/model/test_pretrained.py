"""Pretrained models: packed upon the encoders of other packages, and loaded by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tgqformer import Catalog, Item, ItemEmbedder, packages
from tgqformer.catalog import CatalogWriter
from tgqformer.catalog.pictures import PictureError
from tgqformer.errors import TgqError
from tgqformer.experiments.recipe import load_recipe
from tgqformer.experiments.run import execute
from tgqformer.files import read_json
from tgqformer.model.encoding import make_encoders
from tgqformer.model.language import LoRA, make_language
from tgqformer.model.pretrained import load_packed, pack
from tgqformer.model.prompt import Prompt


@pytest.fixture(scope="module")
def items() -> list[Item]:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 40, 30, 3), np.uint8)
    return [Item(title=f"thing {n}", picture=Image.fromarray(one)) for n, one in enumerate(pixels)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model upon the packaged encoders whose adapters were moved, as training does."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    encoders = make_encoders("efficientnet-lite0", "minilm", Prompt(), {})
    language = make_language("minilm", lora=LoRA(rank=4))
    model = ItemEmbedder("qformer", {"dim": 32, "heads": 2}, encoders.widths, language, encoders=encoders)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora" in name:
                weight.normal_(std=0.05)
    folder = tmp_path_factory.mktemp("saved") / "model"
    model.eval().save(folder)
    return folder


@pytest.fixture(scope="module")
def packed(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "model"
    pack(saved, folder)
    return folder


def test_a_packed_model_embeds_as_the_saved_one(saved: Path, packed: Path, items: list[Item]) -> None:
    before, after = (model.encode(items) for model in (ItemEmbedder.load(saved), load_packed(packed)))
    assert (before * after).sum(1).min() > 0.9999
    assert np.abs(before[0] - before[1]).max() > 1e-3
    size, whole = (sum(path.stat().st_size for path in at.rglob("*") if path.is_file()) for at in (packed, saved))
    assert size < whole / 20
    factors = load_file(packed / "language.safetensors")
    assert factors and {value.shape[key.endswith(".up")] for key, value in factors.items()} == {4}


def test_only_what_stands_upon_the_packages_is_packed(build, tmp_path: Path) -> None:
    build("qformer", lm="bert").save(tmp_path / "model")
    with pytest.raises(TgqError, match="does not stand upon efficientnet-lite0, minilm"):
        pack(tmp_path / "model", tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_what_was_trained_as_a_whole_is_not_packed(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "model")
    (tmp_path / "model" / "tgq.json").unlink()
    path = tmp_path / "model" / "language" / "model.safetensors"
    weights = load_file(path)
    name = next(key for key in weights if key.endswith("layer.5.output.dense.weight"))
    weights[name] += torch.randn_like(weights[name])
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(TgqError, match=r"changed by rank \d+; at most 64 can be packed"):
        pack(tmp_path / "model", tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_a_damaged_file_is_told(packed: Path, tmp_path: Path) -> None:
    shutil.copytree(packed, tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(TgqError, match="is damaged"):
        load_packed(tmp_path / "model")


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TgqError, match=r"no pretrained model 'smal'.*'?small"):
        ItemEmbedder.pretrained("smal")
    monkeypatch.setitem(packages.PRETRAINED, "small", "no_such_package")
    with pytest.raises(TgqError, match="is not installed; run: pip install tgqformer-small"):
        ItemEmbedder.pretrained("small")


def test_the_small_model_looks_at_both_and_knows_like_from_unlike() -> None:
    model = ItemEmbedder.pretrained("small")
    red, blue = (Image.new("RGB", (60, 80), colour) for colour in ("firebrick", "navy"))
    shirts = [Item(title="Men Casual Shirt", picture=red), Item(title="Men Formal Shirt", picture=red)]
    others = [Item(title="Men Casual Shirt", picture=blue), Item(title="Women Silver Earrings", picture=blue)]
    near = model.encode([*shirts, *others])
    scores = near[0] @ near.T
    assert scores[1] > scores[3] and scores[2] > scores[3] and scores[2] < 0.999
    assert model.version == ItemEmbedder.pretrained().version


@pytest.mark.slow
def test_a_run_takes_a_pretrained_model_as_it_is(tmp_path: Path) -> None:
    small = "catalog.items=60", "evaluation.views=[mixed]", "evaluation.examples=1", "alignment.steps=2"
    run = execute(load_recipe("quick", small), tmp_path / "run", "neighbours")
    assert run.verdict().split(":")[0] in ("pretraining pays", "cannot tell whether pretraining pays")
    trial = tmp_path / "run" / "models" / "pretrained" / "seed-0"
    items = list(Catalog.open(tmp_path / "run" / "catalog").items(0, 4))
    served, alone = ItemEmbedder.load(trial / "model"), ItemEmbedder.pretrained("small")
    found, learned = served.encode(items), alone.projection.out_features
    assert served.share == read_json(trial / "choice.json")["share"] and served.frozen is not None
    scale = (served.share / alone.share) ** 0.5
    np.testing.assert_allclose(found[:, -learned:], scale * alone.encode(items)[:, -learned:], atol=1e-5)
    assert not list(trial.rglob("log.jsonl"))


def test_a_pretrained_model_wants_the_encoders_that_it_stands_upon(tmp_path: Path, tiny_model) -> None:
    changes = "catalog.items=30", f"encoders.vision=hf:{tiny_model('vit')}"
    with pytest.raises(TgqError, match="stands upon the encoders efficientnet-lite0 and minilm"):
        execute(load_recipe("quick", changes), tmp_path / "run", "train")
    with pytest.raises(TgqError, match="there is no pretrained model 'tiny'"):
        execute(load_recipe("quick", ("models=[{name: x, pretrained: tiny}]",)), tmp_path / "other", "train")
    assert not (tmp_path / "other").exists()


def test_pictures_of_items(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), "red").save(tmp_path / "red.png")
    data = (tmp_path / "red.png").read_bytes()
    by_path, by_bytes = Item(picture=tmp_path / "red.png"), Item(picture=data)
    assert by_path == by_bytes == Item(picture=str(tmp_path / "red.png"))
    assert len(Item(picture=data, pictures=by_path.pictures).pictures) == 2
    with pytest.raises(PictureError, match=r"there is no file nowhere\.png"):
        Item(picture="nowhere.png")


def test_a_whole_catalogue_knows_where_its_pictures_are(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (9, 9), "red").save(tmp_path / "photos" / "red.png")
    item = Item("1", title="x", picture=tmp_path / "photos" / "red.png")
    with CatalogWriter(tmp_path / "shop", name="shop", pack=False, root=tmp_path / "photos") as writer:
        writer.add(Item("1", title="x", pictures=(type(item.pictures[0])(item.pictures[0].digest, "red.png"),)))
    model = ItemEmbedder.load(saved)
    found = model.encode(Catalog.open(tmp_path / "shop"))
    np.testing.assert_allclose(found, model.encode([item]), atol=1e-6)


def test_a_catalogue_wants_an_id(tmp_path: Path) -> None:
    with (
        pytest.raises(TgqError, match="an item 'x' has no id"),
        CatalogWriter(tmp_path / "shop", name="shop", pack=False) as writer,
    ):
        writer.add(Item(title="x"))
