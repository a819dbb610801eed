"""Frozen encoders: pictures and texts to tokens and global vectors, cached on disk.

Caches are `cache.VisualCache` and `cache.TextCache`. To add an encoder: one file, one line in `VISION` or `TEXT`, and
one in `load_vision` or `load_text` if it has its own saved form.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from tgqformer.config import options_of, parse
from tgqformer.encoders.base import JointSpace, TextEncoder, TextFeatures, VisionEncoder, VisualFeatures
from tgqformer.errors import TgqError, nearest

if TYPE_CHECKING:
    from tgqformer.encoders.joint import JointEncoder

T = TypeVar("T")
Maker: TypeAlias = tuple[Callable[..., Any], Callable[..., T]]
"""What declares an encoder's options as keyword-only parameters, and what makes the encoder with them."""
Makers: TypeAlias = Mapping[str, Callable[[], Maker[T]]]
"""Name -> what imports it."""

__all__ = [
    "JointSpace",
    "TextEncoder",
    "TextFeatures",
    "VisionEncoder",
    "VisualFeatures",
    "check_encoders",
    "load_text",
    "load_vision",
    "make_joint",
    "make_text",
    "make_vision",
]


def _efficientnet() -> Maker[VisionEncoder]:
    from tgqformer.encoders.efficientnet import EfficientNetEncoder

    return EfficientNetEncoder, EfficientNetEncoder.make


def _hub_vision() -> Maker[VisionEncoder]:
    from tgqformer.encoders.huggingface import HuggingFaceVision

    return HuggingFaceVision, HuggingFaceVision.make


def _minilm() -> Maker[TextEncoder]:
    from tgqformer.encoders.minilm import make_minilm

    return make_minilm, make_minilm


def _hub_text() -> Maker[TextEncoder]:
    from tgqformer.encoders.huggingface import HuggingFaceText

    return HuggingFaceText, HuggingFaceText.make


def _hub_joint() -> Maker[JointEncoder]:
    from tgqformer.encoders.joint import read_joint

    return read_joint, read_joint


HUB = "hf:<folder or hub id>"
VISION: Makers[VisionEncoder] = {"efficientnet-lite0": _efficientnet, HUB: _hub_vision}
TEXT: Makers[TextEncoder] = {"minilm": _minilm, HUB: _hub_text}
JOINT: Makers[JointEncoder] = {HUB: _hub_joint}


def make_vision(name: str, **options: Any) -> VisionEncoder:
    """Make a vision encoder: "efficientnet-lite0" (packaged) or "hf:<folder or hub id>".

    Options: device, precision; levels; for hf: also fit. Raises TgqError for an unknown name or option.
    """
    return _maker(name, options, VISION, "vision encoder")()


def make_text(name: str, **options: Any) -> TextEncoder:
    """Make a text encoder: "minilm" (packaged) or "hf:<folder or hub id>".

    Options: device, precision, max_tokens; for hf: also pooling. Raises TgqError for an unknown name or option.
    """
    return _maker(name, options, TEXT, "text encoder")()


def make_joint(name: str, **options: Any) -> JointEncoder:
    """Make both towers of "hf:<folder or hub id>", a CLIP, Chinese-CLIP or SigLIP, and the space that they share.

    Options: those of the vision encoder. Raises TgqError for an unknown name or option, or another model.
    """
    return _maker(name, options, JOINT, "joint encoder")()


def check_encoders(vision: str, text: str, options: Mapping[str, Any]) -> None:
    """Refuse names, and options of the vision encoder, that are not known, before anything is made.

    vision: a vision encoder, or "joint:" and a joint encoder; then `text` is not read.
    """
    if vision.startswith("joint:"):
        _maker(vision.removeprefix("joint:"), options, JOINT, "joint encoder")
    else:
        _maker(vision, options, VISION, "vision encoder")
        _maker(text, {}, TEXT, "text encoder")


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


def _maker(name: str, options: Mapping[str, Any], known: Makers[T], kind: str) -> Callable[[], T]:
    """Return what makes the encoder of a name, its options checked by the signature of the maker."""
    source = [name.removeprefix("hf:")] if name.startswith("hf:") and name != "hf:" else []
    if not source and name not in known:
        raise TgqError(f"{kind} {name!r} is not known; {nearest(name, known)}")
    declares, make = known[HUB if source else name]()
    return functools.partial(make, *source, **vars(parse(_options(declares), options, f"{kind} {name!r}")))


@functools.cache
def _options(declares: Callable[..., Any]) -> type[Any]:
    return options_of(declares)


def _loader(folder: Path, loaders: dict[str, T], kind: str) -> T:
    from tgqformer.encoders.frozen import read_config

    saved = read_config(folder)["type"]
    if saved not in loaders:
        raise TgqError(f"{folder} holds {saved!r}, which is no {kind} encoder; known: {', '.join(loaders)}")
    return loaders[saved]
