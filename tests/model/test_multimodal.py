"""Whole multimodal models as embedders: tiny random ones in the layout of the hub, no torchvision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_multimodal import write_multimodal

from tgqformer.catalog.item import Item, Picture
from tgqformer.catalog.pictures import read_picture
from tgqformer.errors import TgqError
from tgqformer.model.base import Embedder
from tgqformer.model.multimodal import load_multimodal
from tgqformer.model.prompt import Prompt

torch.set_num_threads(1)
KINDS = ["llava", "idefics3", "smolvlm", "internvl", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"]
NUMBERS = "transformers.models.smolvlm.processing_smolvlm.num2words"  # an extra package; only films have it read
Saved = Callable[[str], Path]


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Give a function that writes a tiny multimodal model once."""
    folders: dict[str, Path] = {}

    def write(kind: str) -> Path:
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp(kind)
            write_multimodal(kind, folders[kind])
        return folders[kind]

    return write


@pytest.mark.parametrize("kind", KINDS)
def test_items_of_every_sort_are_embedded(
    saved: Saved, tiny_items: list[Item], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NUMBERS, str)
    model: Embedder = load_multimodal(saved(kind), precision="float32")
    found = model.encode(tiny_items, batch_size=5)  # items 3, 5 and 7 miss picture, text, both
    assert found.shape == (12, 16) == (12, model.dim) and found.dtype == np.float32 and np.isfinite(found).all()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    for n in (0, 3, 5, 7):
        np.testing.assert_allclose(model.encode([tiny_items[n]])[0], found[n], atol=1e-4)
    item = tiny_items[0]
    other_picture, other_text = replace(item, pictures=tiny_items[1].pictures), replace(item, title="green bag")
    near = model.encode([other_picture, other_text])
    assert not np.allclose(near[0], found[0], atol=1e-3) and not np.allclose(near[1], found[0], atol=1e-3)


def test_it_is_the_last_layer_at_the_last_token(saved: Saved, tiny_items: list[Item]) -> None:
    model = load_multimodal(saved("llava"), prompt=Prompt(("title",), template="a {metadata} of"), precision="float32")
    item = tiny_items[0]
    picture = read_picture(item.pictures[0], None)
    inputs = model.processor(text="<image>\na red shirt of", images=[picture], return_tensors="pt")
    with torch.inference_mode():
        states = model.model(**inputs, output_hidden_states=True).hidden_states[-1]
    wanted = torch.nn.functional.normalize(states[0, -1], dim=-1)
    np.testing.assert_allclose(model.encode([item])[0], wanted, atol=1e-5)
    short = model.encode([item], truncate_dim=4)[0]
    np.testing.assert_allclose(short, wanted[:4] / wanted[:4].norm(), atol=1e-5)
    assert model.encode([]).shape == (0, 16)


def test_large_pictures_are_shrunk_before_they_cost(saved: Saved) -> None:
    model = load_multimodal(saved("qwen2_vl"), longest_side=20, precision="float32")
    large = Image.new("RGB", (400, 100), "red")
    shrunk = model._shrink(large)
    assert shrunk is not None and shrunk.size == (20, 5) and large.size == (400, 100)
    small = Image.new("RGB", (20, 8))
    assert model._shrink(small) is small
    model.longest_side = None
    assert model._shrink(large) is large


def test_the_version_names_model_prompt_and_picture_size(saved: Saved) -> None:
    folder = saved("llava")
    one = load_multimodal(folder, precision="float32").version
    assert load_multimodal(folder, precision="float32").version == one
    others = (
        load_multimodal(folder, precision="float32", prompt=Prompt(template="{metadata} in one word")),
        load_multimodal(folder, precision="float32", longest_side=None),
        load_multimodal(folder, precision="bfloat16"),
        load_multimodal(saved("idefics3"), precision="float32"),
    )
    assert len({one, *(other.version for other in others)}) == 5


def test_half_precision_is_near(saved: Saved, tiny_items: list[Item]) -> None:
    full, half = (load_multimodal(saved("llava"), precision=p) for p in ("float32", "bfloat16"))
    cosine = (full.encode(tiny_items) * half.encode(tiny_items)).sum(1)
    assert cosine.min() > 0.99


def test_what_cannot_be_loaded_or_read_is_named(
    saved: Saved, tiny_model: Saved, tmp_path: Path, tiny_items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NUMBERS, None)
    with pytest.raises(TgqError, match="pip install num2words"):
        load_multimodal(saved("smolvlm"))
    with pytest.raises(TgqError, match="cannot be loaded"):
        load_multimodal(tmp_path)
    with pytest.raises(TgqError, match="no processor of pictures and text for model type 'llama'"):
        load_multimodal(tiny_model("llama"))
    with pytest.raises(TgqError, match="the hub does not give 'nobody/has-this-model'"):
        load_multimodal("nobody/has-this-model")
    broken = Item("the broken one", "red shirt", pictures=(Picture("0" * 32, None, b"no picture"),))
    with pytest.raises(TgqError, match="the picture of item 'the broken one' cannot be read"):
        load_multimodal(saved("llava"), precision="float32").encode([tiny_items[0], broken])
