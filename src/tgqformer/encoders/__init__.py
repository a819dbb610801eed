"""Frozen encoders: pictures and texts to tokens and global vectors, cached on disk.

Joint image-text encoders (CLIP, Chinese-CLIP, SigLIP) are made by `joint.make_joint`, caches by `cache.VisualCache` and
`cache.TextCache`. To add an encoder: one file, one line in `VISION` or `TEXT`, and one in `load_vision`
or `load_text` if it has its own saved form.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from tgqformer.encoders.base import JointSpace, TextEncoder, TextFeatures, VisionEncoder, VisualFeatures
from tgqformer.errors import TgqError

T = TypeVar("T")

__all__ = [
    "JointSpace", "TextEncoder", "TextFeatures", "VisionEncoder", "VisualFeatures", "load_text", "load_vision",
    "make_text", "make_vision",
]  # fmt: skip


def _efficientnet() -> Callable[..., VisionEncoder]:
    from tgqformer.encoders.efficientnet import EfficientNetEncoder

    return EfficientNetEncoder.packaged


def _minilm() -> Callable[..., TextEncoder]:
    from tgqformer.encoders.minilm import make_minilm

    return make_minilm


VISION: dict[str, Callable[[], Callable[..., VisionEncoder]]] = {"efficientnet-lite0": _efficientnet}
TEXT: dict[str, Callable[[], Callable[..., TextEncoder]]] = {"minilm": _minilm}


def make_vision(name: str, **options: Any) -> VisionEncoder:
    """Make a vision encoder: "efficientnet-lite0" (packaged) or "hf:FOLDER-OR-HUB-ID".

    Options: device, precision; levels; for hf: also fit. Raises TgqError for an unknown name or option.
    """
    if name.startswith("hf:"):
        from tgqformer.encoders.huggingface import HuggingFaceVision

        _check(name, HuggingFaceVision.__init__, options, besides={"tower", "processor", "name"})
        return HuggingFaceVision.from_pretrained(name.removeprefix("hf:"), **options)
    make = _known(name, VISION, "vision")()
    _check(name, make, options)
    return make(**options)


def make_text(name: str, **options: Any) -> TextEncoder:
    """Make a text encoder: "minilm" (packaged) or "hf:FOLDER-OR-HUB-ID".

    Options: device, precision, max_tokens; for hf: also pooling. Raises TgqError for an unknown name or option.
    """
    if name.startswith("hf:"):
        from tgqformer.encoders.huggingface import HuggingFaceText

        _check(name, HuggingFaceText.__init__, options, besides={"tower", "tokenizer", "name"})
        return HuggingFaceText.from_pretrained(name.removeprefix("hf:"), **options)
    make = _known(name, TEXT, "text")()
    _check(name, make, options)
    return make(**options)


def load_vision(folder: Path, *, device: str = "auto") -> VisionEncoder:
    """Load the vision encoder that `save` wrote to `folder`; raises TgqError if there is none."""
    from tgqformer.encoders import efficientnet, huggingface

    loaders: dict[str, Callable[..., VisionEncoder]] = {
        efficientnet.TYPE: efficientnet.EfficientNetEncoder.load,
        huggingface.VISION_TYPE: huggingface.HuggingFaceVision.load,
    }
    return _loader(folder, loaders, "vision")(folder, device=device)


def load_text(folder: Path, *, device: str = "auto") -> TextEncoder:
    """Load the text encoder that `save` wrote to `folder`; raises TgqError if there is none."""
    from tgqformer.encoders import huggingface

    loaders: dict[str, Callable[..., TextEncoder]] = {huggingface.TEXT_TYPE: huggingface.HuggingFaceText.load}
    return _loader(folder, loaders, "text")(folder, device=device)


def _known(name: str, table: dict[str, T], kind: str) -> T:
    if name in table:
        return table[name]
    near = get_close_matches(name, table, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise TgqError(f"There is no {kind} encoder {name!r}{hint} Known: {', '.join(table)}, hf:FOLDER-OR-HUB-ID")


def _check(name: str, make: Callable[..., Any], options: dict[str, Any], besides: set[str] | None = None) -> None:
    known = [key for key in inspect.signature(make).parameters if key not in {"self", *(besides or ())}]
    for key in options:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TgqError(f"Encoder {name} has no option {key!r}{hint} Known: {', '.join(known)}")


def _loader(folder: Path, loaders: dict[str, T], kind: str) -> T:
    from tgqformer.encoders.frozen import read_config

    saved = read_config(folder)["type"]
    if saved not in loaders:
        raise TgqError(f"{folder} holds {saved!r}, which is no {kind} encoder; known: {', '.join(loaders)}")
    return loaders[saved]
