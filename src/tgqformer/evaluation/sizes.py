"""What connectors and whole systems cost at real sizes, counted on the meta device: no weights, no network, no memory.

Sizes of published models are written out here from their public configurations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from tgqformer.connectors import CONNECTORS, TOKENS, ConnectorInput, ConnectorWidths, make_connector
from tgqformer.encoders.efficientnet import EfficientNetLite0
from tgqformer.evaluation.cost import Cost, count_flops, on_meta, parameters
from tgqformer.progress import track

TEXT = 64
"""Tokens of metadata and prompt, in every system."""


@dataclass(frozen=True)
class Backbone:
    """Encoders and language model that a connector stands between.

    widths: what the encoders give. metadata: text tokens T. vision, text: the frozen encoders' models on the meta
    device. language: configuration of the LM.
    """

    name: str
    widths: ConnectorWidths
    metadata: int
    vision: nn.Module
    text: Any
    language: Any


def packaged() -> Backbone:
    """EfficientNet-Lite0, MiniLM as text encoder, SmolLM2-135M: what is installed with the package."""
    import transformers as hf

    minilm = hf.BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    smollm = hf.LlamaConfig(**_decoder(576, 30, 9, 3, 1536), vocab_size=49152)
    widths = ConnectorWidths(visual=496, vector=1280, metadata=384, grid=(7, 7))
    return Backbone(
        "EfficientNet-Lite0, MiniLM, SmolLM2-135M", widths, TEXT, on_meta(EfficientNetLite0()), minilm, smollm
    )


def published() -> Backbone:
    """Chinese-CLIP ViT-B/16 at 224 pixels with its RoBERTa, and Qwen3-Embedding-0.6B: what the paper names."""
    import transformers as hf

    sides = {"patch_size": 16, "image_size": 224}
    tower = hf.ChineseCLIPVisionConfig(**_transformer(768, 12, 12, 3072), **sides)
    with torch.device("meta"):
        vision = hf.ChineseCLIPVisionModel(tower).eval()
    roberta = hf.BertConfig(vocab_size=21128)
    qwen = hf.Qwen3Config(**_decoder(1024, 28, 16, 8, 3072), head_dim=128, vocab_size=151669)
    widths = ConnectorWidths(visual=768, vector=512, metadata=768, grid=(14, 14))
    return Backbone("ViT-B/16, RoBERTa, Qwen3-Embedding-0.6B", widths, TEXT, vision, roberta, qwen)


def connector_costs(backbone: Backbone, tokens: int = TOKENS, names: Sequence[str] | None = None) -> list[Cost]:
    """Count parameters and operations per item of connectors at K tokens, everything else at its default.

    names: of connectors; None for all. The agreement map and a picture's own word are the model's, not counted here.
    """
    costs = []
    for name in track(names or list(CONNECTORS), "counting connectors", shown=names is None):
        torch.manual_seed(0)
        options = {} if name in ("none", "frozen") else {"tokens": tokens}
        connector = make_connector(name, backbone.widths, options).eval()
        batch = _inputs(backbone)
        flops = count_flops(lambda connector=connector, batch=batch: connector(batch)) / len(batch.visual)  # type: ignore[misc]
        costs.append(Cost(name, *parameters(connector), {"connector": flops}))
    return costs


@cache
def system_costs(tokens: int = TOKENS) -> tuple[Cost, ...]:
    """Count whole systems: TGQ-Former at two sizes beside two multimodal models, all on `TEXT` tokens of text.

    It takes some ten seconds; a second call with the same number gives what the first one counted.

    Parts: "vision tower", "text encoder" (of the metadata, for the connector), "connector" (for multimodal models what
    brings the picture to the LM), "language model".
    """
    systems = (lambda: _ours(packaged(), tokens), lambda: _ours(published(), tokens), internvl3_2b, qwen3_vl_4b)
    return tuple(count() for count in track(systems, "counting systems", len(systems)))


@torch.no_grad()
def _ours(backbone: Backbone, tokens: int) -> Cost:
    (connector,) = connector_costs(backbone, tokens, ["tgq"])
    text, language = _text_model(backbone.text), _text_model(backbone.language)
    width = int(backbone.language.hidden_size)
    entry = 2 * tokens * 256 * width  # the model's own layer between connector and LM
    flops = {
        "vision tower": count_flops(lambda: backbone.vision(_meta(1, 3, 224, 224))),
        "text encoder": _text_flops(text, backbone.metadata),
        "connector": connector.flops["connector"] + entry,
        "language model": _text_flops(language, tokens + TEXT),
    }
    whole = sum(parameters(part)[0] for part in (backbone.vision, text, language)) + connector.parameters
    return Cost(f"TGQ-Former ({backbone.name})", whole, connector.trainable, flops)


@torch.no_grad()
def internvl3_2b() -> Cost:
    """InternVL3-2B: InternViT-300M at one tile of 448 pixels, 256 visual tokens, Qwen2.5-1.5B."""
    import transformers as hf

    config = hf.InternVLConfig(
        text_config={"model_type": "qwen2", **_decoder(1536, 28, 12, 2, 8960), "vocab_size": 151674},
        vision_config={**_transformer(1024, 24, 16, 4096), "image_size": [448, 448], "patch_size": [14, 14]},
        image_seq_length=256,
        downsample_ratio=0.5,
    )
    model = _on_meta(config)
    pixels = _meta(1, 3, 448, 448)
    tower = count_flops(lambda: model.vision_tower(pixel_values=pixels))
    flops = {
        "vision tower": tower,
        "connector": count_flops(lambda: model.get_image_features(pixel_values=pixels)) - tower,
        "language model": _text_flops(model.language_model, 256 + TEXT),
    }
    return Cost("InternVL3-2B", *parameters(model), flops)


@torch.no_grad()
def qwen3_vl_4b() -> Cost:
    """Qwen3-VL-4B: 784 patches of a picture of 448 pixels, merged four to one; four mergers, one for each depth."""
    import transformers as hf

    patching = {"patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 2304}
    layers = {"depth": 24, "num_heads": 16, "deepstack_visual_indexes": [5, 11, 17]}
    widths = {"hidden_size": 1024, "intermediate_size": 4096, "out_hidden_size": 2560}
    config = hf.Qwen3VLConfig(
        text_config={**_decoder(2560, 36, 32, 8, 9728), "head_dim": 128, "vocab_size": 151936},
        vision_config={**patching, **layers, **widths},
    )
    model, patches = _on_meta(config), 28 * 28
    states = _meta(patches, 1024)
    mergers = [model.visual.merger, *model.visual.deepstack_merger_list]
    flops = {
        "vision tower": count_flops(lambda: _qwen_tower(model.visual, patches)),
        "connector": count_flops(lambda: [merge(states) for merge in mergers]),
        "language model": _text_flops(model.language_model, patches // 4 + TEXT),
    }
    return Cost("Qwen3-VL-4B", *parameters(model), flops)


def projection_flops(patches: int = 196, visual: int = 768, width: int = 1024) -> int:
    """Operations of one linear layer from every patch of ViT-B/16 to the LM: the paper's 0.31 G beside the tower."""
    layer = nn.Linear(visual, width, device="meta")
    return count_flops(lambda: layer(_meta(1, patches, visual)))


def _transformer(width: int, layers: int, heads: int, inner: int) -> dict[str, int]:
    """Return the sizes of a transformer by the names that Hugging Face gives them."""
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    return {**sizes, "intermediate_size": inner}


def _decoder(width: int, layers: int, heads: int, key_heads: int, inner: int) -> dict[str, int]:
    return {**_transformer(width, layers, heads, inner), "num_key_value_heads": key_heads}


def _qwen_tower(tower: Any, patches: int) -> None:
    """Run the tower's layers without its reading of the grid, which needs numbers."""
    states = tower.patch_embed(_meta(patches, 3 * 2 * 16 * 16))
    lengths, angles = torch.tensor([0, patches], dtype=torch.int32), _meta(patches, 64)
    for block in tower.blocks:
        states = block(states, cu_seqlens=lengths, position_embeddings=(angles, angles))


def _text_model(config: Any) -> Any:
    model = _on_meta(config)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model


def _text_flops(model: Any, length: int) -> int:
    """Operations of a text model on `length` embedded tokens, attention counted in full."""
    states, mask = _meta(1, length, model.config.hidden_size), _meta(1, 1, length, length)
    return count_flops(lambda: model(inputs_embeds=states, attention_mask=mask, use_cache=False))


def _on_meta(config: Any) -> Any:
    from transformers import AutoModel

    with torch.device("meta"):
        return AutoModel.from_config(config).eval()


def _meta(*shape: int) -> Tensor:
    return torch.zeros(*shape, device="meta")


def _inputs(backbone: Backbone, batch: int = 8) -> ConnectorInput:
    """A batch of the backbone's shapes; connectors are small, so they run on the CPU."""
    widths = backbone.widths
    places = widths.grid[0] * widths.grid[1]
    return ConnectorInput(
        visual=torch.zeros(batch, places, widths.visual),
        vector=torch.zeros(batch, widths.vector),
        has_picture=torch.ones(batch).bool(),
        metadata=torch.zeros(batch, backbone.metadata, widths.metadata),
        metadata_mask=torch.ones(batch, backbone.metadata).bool(),
        agreement_map=torch.zeros(batch, places),
        agreement=torch.zeros(batch),
    )
