"""Whole multimodal models as embedders: tiny random ones in the layout of the hub, no torchvision."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from tgqformer.catalog.item import Item, Picture
from tgqformer.catalog.pictures import read_picture
from tgqformer.errors import TgqError
from tgqformer.model.base import Embedder
from tgqformer.model.multimodal import load_multimodal
from tgqformer.model.prompt import Prompt

torch.set_num_threads(1)
KINDS = ["llava", "idefics3", "smolvlm", "internvl", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"]
HIDDEN = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL = {"image_size": 16, "patch_size": 4}
FILMS = {"depth": 1, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2}
WORDS = ["[PAD]", "[UNK]", "</s>", "red", "blue", "green", "shirt", "shoe", "bag", "a", "of", "acme", ".", ">", ":",
         "This", "product", "in", "one", "word"]  # fmt: skip
QWEN = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
INTERN = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
          "video_token": "<video>"}  # fmt: skip
CHAT = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
)
NUMBERS = "transformers.models.smolvlm.processing_smolvlm.num2words"  # an extra package; only films have it read
Saved = Callable[[str], Path]


def tokenizer(special: list[str], **named: Any) -> Any:
    words = {word: i for i, word in enumerate([*WORDS, *special])}
    fast = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=fast, unk_token="[UNK]", pad_token="[PAD]", eos_token="</s>",
        additional_special_tokens=special, **named,
    )  # fmt: skip


def parts(kind: str) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Config, image processor, tokenizer, and what stands in processor_config.json."""
    special = {"llava": ["<image>"], "internvl": list(INTERN.values())}.get(kind, QWEN)
    if kind in ("idefics3", "smolvlm"):
        special = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    at = {word: len(WORDS) + i for i, word in enumerate(special)}
    text = {**HIDDEN, "num_key_value_heads": 1, "max_position_embeddings": 512, "vocab_size": len(WORDS) + len(special),
            "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 2}  # fmt: skip
    if kind == "llava":
        config = hf.LlavaConfig(
            text_config=hf.LlamaConfig(**text), image_token_id=at["<image>"], vision_feature_layer=-1,
            vision_config=hf.CLIPVisionConfig(**HIDDEN, **SMALL), image_seq_length=16,
        )  # fmt: skip
        images = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
        said = {"patch_size": 4, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
        return config, images, tokenizer(special), said
    if kind in ("idefics3", "smolvlm"):
        config = (hf.Idefics3Config if kind == "idefics3" else hf.SmolVLMConfig)(
            text_config={"model_type": "llama", **text}, vision_config={**HIDDEN, **SMALL}, scale_factor=2,
            image_token_id=at["<image>"], pad_token_id=0,
        )  # fmt: skip
        made = Idefics3ImageProcessorPil if kind == "idefics3" else SmolVLMImageProcessorPil
        images = made(size={"longest_edge": 16}, max_image_size={"longest_edge": 16})
        return config, images, tokenizer(special), {"image_seq_len": 4}
    if kind == "internvl":
        config = hf.InternVLConfig(
            text_config={"model_type": "qwen2", **text}, image_token_id=at["<IMG_CONTEXT>"], image_seq_length=4,
            vision_config={**HIDDEN, "image_size": [16, 16], "patch_size": [4, 4]}, downsample_ratio=0.5,
        )  # fmt: skip
        images = GotOcr2ImageProcessorPil(size={"height": 16, "width": 16}, crop_to_patches=False)
        return config, images, tokenizer(special, extra_special_tokens=INTERN), {"image_seq_length": 4}
    return (*_qwen(kind, text, at), {"chat_template": CHAT})


def _qwen(kind: str, text: dict[str, Any], at: dict[str, int]) -> tuple[Any, Any, Any]:
    text = {**text, "head_dim": 8, "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1],
                                                        "rope_theta": 1e4}}  # fmt: skip
    vision: dict[str, Any] = {**FILMS, "hidden_size": 16, "out_hidden_size": 16, "intermediate_size": 24}
    if kind == "qwen2_vl":
        vision = {**FILMS, "hidden_size": 16, "embed_dim": 16, "mlp_ratio": 2}
    elif kind == "qwen2_5_vl":
        vision |= {"window_size": 16, "fullatt_block_indexes": [0]}
    else:
        vision |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
    made = {"qwen2_vl": hf.Qwen2VLConfig, "qwen2_5_vl": hf.Qwen2_5_VLConfig, "qwen3_vl": hf.Qwen3VLConfig}[kind]
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    config = made(
        text_config=text, vision_config=vision, **{name: at[word] for name, word in zip(names, QWEN, strict=True)}
    )
    images = Qwen2VLImageProcessorPil(
        size={"shortest_edge": 16 * 16, "longest_edge": 32 * 32}, patch_size=4, merge_size=2, temporal_patch_size=2
    )
    return config, images, tokenizer(QWEN)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Give a function that writes a tiny multimodal model once."""
    folders: dict[str, Path] = {}

    def write(kind: str) -> Path:
        if kind not in folders:
            folder = folders[kind] = tmp_path_factory.mktemp(kind)
            config, images, words, said = parts(kind)
            torch.manual_seed(0)
            model = hf.AutoModelForImageTextToText.from_config(config)
            with torch.no_grad():
                for weight in model.parameters():
                    weight.add_(torch.randn_like(weight) * 0.15)
            for part in (model, images, words):
                part.save_pretrained(folder)
            (folder / "processor_config.json").write_text(json.dumps(said))
            if "chat_template" in said:
                (folder / "chat_template.jinja").write_text(said["chat_template"])
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
    with pytest.raises(TgqError, match="cannot be loaded"):
        load_multimodal("nobody/has-this-model")
    broken = Item("the broken one", "red shirt", pictures=(Picture("0" * 32, None, b"no picture"),))
    with pytest.raises(TgqError, match="the picture of item 'the broken one' cannot be read"):
        load_multimodal(saved("llava"), precision="float32").encode([tiny_items[0], broken])
