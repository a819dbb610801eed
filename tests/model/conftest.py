"""Tiny embedders: random encoders and language models, every connector."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tgqformer.connectors import make_connector
from tgqformer.encoders.alignment import Alignment
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.encoding import Encoders, make_encoders
from tgqformer.model.language import LoRA, make_language
from tgqformer.model.prompt import Prompt

torch.set_num_threads(1)

# name -> (connector, options, with language model)
MODELS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "frozen": ("frozen", {}, False),
    "text only": ("none", {}, True),
    "mlp": ("mlp", {"dim": 8}, True),
    "picture only": ("mlp", {"dim": 8}, False),
    "qformer": ("qformer", {"dim": 8, "heads": 2}, True),
    "mean": ("mean", {}, True),
    "text-qformer": ("text-qformer", {"dim": 8, "heads": 2, "agreement_bias": True}, True),
    "resampler": ("resampler", {"dim": 8, "heads": 2}, True),
    "c-abstractor": ("c-abstractor", {"dim": 8, "blocks": 1}, True),
    "notellm2": ("notellm2", {"dim": 8, "heads": 2, "word": "red shirt of"}, True),
    "tgq": ("tgq", {"dim": 8, "heads": 2}, True),
    "tgq, light": ("tgq", {"dim": 8, "heads": 2, "blocks": 0, "gates": "none"}, True),
}
Build = Callable[..., ItemEmbedder]


@pytest.fixture(scope="session")
def tiny_encoders(tiny_model: Callable[[str], Path]) -> Encoders:
    exact = {"precision": "float32", "device": "cpu", "levels": [1]}
    return make_encoders(f"hf:{tiny_model('vit')}", f"hf:{tiny_model('bert')}", Prompt(), exact)


@pytest.fixture(scope="session")
def build(tiny_model: Callable[[str], Path], tiny_encoders: Encoders) -> Build:
    """Give a function that builds a tiny embedder whose every weight has left its start."""

    def built(
        name: str, *, lm: str = "bert", frozen: int = 1, dim: int | None = None, encoders: Encoders | None = None
    ) -> ItemEmbedder:
        torch.manual_seed(3)
        connector, options, with_language = MODELS[name]
        encoders = encoders or tiny_encoders
        language = None
        if with_language:
            language = make_language(f"hf:{tiny_model(lm)}", lora=LoRA(rank=2, dropout=0.1), frozen_layers=frozen)
        alignment: Any = None
        if make_connector(connector, encoders.widths, options).guided:
            joint = encoders.space is not None
            alignment = encoders.alignment() if joint else Alignment(encoders.widths.visual, encoders.widths.metadata)
        model = ItemEmbedder(
            connector, options, encoders.widths, language, alignment=alignment, encoders=encoders, dim=dim
        )
        with torch.no_grad():
            for weight in model.trainable().values():
                weight.add_(torch.randn_like(weight) * 0.1)
        return model.eval()

    return built
