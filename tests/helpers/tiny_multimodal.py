"""Tiny random image-text-to-text models in the layout of the hub, none of which needs torchvision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

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


def write_multimodal(kind: str, folder: Path) -> None:
    """Write a model of this kind: llava, idefics3, smolvlm, internvl, qwen2_vl, qwen2_5_vl, qwen3_vl."""
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
