"""Frozen encoders from Hugging Face: any vision transformer (CLIP, Chinese-CLIP, SigLIP, DINOv2, ViT), any text model.

Weights are read from safetensors only. Pictures go through the PIL image processors, so torchvision is never needed.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from tgqformer.config import Positive
from tgqformer.encoders.base import TextFeatures, VisualFeatures, quiet, save_tokenizer
from tgqformer.encoders.frozen import (
    Device,
    Precision,
    dtype_name,
    fingerprint_of,
    read_config,
    resolve_device,
    resolve_precision,
    write_config,
)
from tgqformer.encoders.words import check_words, places_in
from tgqformer.errors import TgqError
from tgqformer.parallel import TOKENIZING
from tgqformer.pixels import Fit, as_rgb, letterbox, read_processor, unreadable, without_ends

Pooling = Literal["auto", "mean", "cls", "pooler"]
VISION_TYPE, TEXT_TYPE = "huggingface-vision", "huggingface-text"
TOWER = "tower"
DEFAULT_TOKENS = 64


class HuggingFaceVision:
    """A frozen Hugging Face vision transformer as a `VisionEncoder`.

    tokens: the patch tokens of the last layer (no CLS, no registers), row-major [B, P, Dv]; with `levels`, the hidden
    states of these layers (0 = embeddings, -2 = last but one) are joined behind them. vector: the pooled output where
    the tower has one (CLIP's normalised CLS, SigLIP's attention head), else CLS, else the mean of the patches.

    fit="pad": the picture is made square with white before the tower's own processor, so nothing is cut off;
    fit="crop": it is left to the processor, which for CLIP crops the middle. precision "auto" is bfloat16 where the
    hardware has it.
    """

    def __init__(
        self,
        tower: Any,
        processor: Any,
        name: str,
        *,
        levels: tuple[int, ...] = (),
        fit: Fit = "pad",
        precision: Precision = "auto",
        device: Device = "auto",
    ) -> None:
        self.name, self.levels, self.fit = name, tuple(levels), fit
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        self.processor = processor
        self.tower = _freeze(tower, self.device, self.dtype)
        self.grid, self.prefix = self._layout()
        probe = self.encode(self._probe()[None])
        self.width, self.vector_width = probe.tokens.shape[-1], probe.vector.shape[-1]
        self.config = {
            "type": VISION_TYPE,
            "name": name,
            "class": type(tower).__name__,
            "levels": list(self.levels),
            "fit": fit,
            "precision": dtype_name(self.dtype),
        }
        decides = {
            **self.config,
            "name": None,
            "tower": _architecture(tower),
            "processor": json.loads(processor.to_json_string()),
        }
        self.fingerprint = fingerprint_of(decides, self.tower.state_dict())

    @classmethod
    def make(cls, source: str, **options: Any) -> HuggingFaceVision:
        """Read a model folder or hub id, the vision tower of it if it has two; options as in the constructor.

        Raises TgqError if it cannot be read.
        """
        model = read_model(source)
        return cls(getattr(model, "vision_model", model), read_processor(source), f"hf:{source}", **options)

    @classmethod
    def load(cls, folder: Path, *, device: str = "auto") -> HuggingFaceVision:
        """Load what `save` wrote."""
        config = read_config(folder)
        tower = read_model(str(folder / TOWER), config["class"])
        processor = read_processor(str(folder / TOWER))
        options = {key: config[key] for key in ("levels", "fit", "precision")}
        return cls(tower, processor, config["name"], device=device, **options)

    def preprocess(self, picture: Image.Image) -> Tensor:
        """Turn a picture into float pixels [3, h, w] by the tower's own PIL processor."""
        square = letterbox(picture) if self.fit == "pad" else without_ends(as_rgb(picture))
        return torch.from_numpy(np.asarray(self.processor(images=square)["pixel_values"][0], dtype=np.float32))

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> VisualFeatures:
        """Encode pixels [B, 3, h, w]; tokens and vector come back in float32, on the encoder's device."""
        return self.seen(pixels)

    def seen(self, pixels: Tensor) -> VisualFeatures:
        """Encode pixels in a form that can be traced."""
        out = self._forward(pixels)
        layers = [out.last_hidden_state, *(out.hidden_states[level] for level in self.levels)]
        tokens = torch.cat([layer[:, self.prefix :] for layer in layers], dim=-1)
        return VisualFeatures(tokens.float(), self._pooled(out).float())

    def save(self, folder: Path) -> None:
        """Write `config.json` and `tower/` (config, safetensors, preprocessing)."""
        write_config(folder, self.config)
        with quiet():
            self.tower.save_pretrained(folder / TOWER)
        self.processor.save_pretrained(folder / TOWER)

    def _forward(self, pixels: Tensor) -> Any:
        return self.tower(pixel_values=pixels.to(self.device, self.dtype), output_hidden_states=bool(self.levels))

    def _pooled(self, out: Any) -> Tensor:
        pooled: Tensor | None = getattr(out, "pooler_output", None)
        if pooled is not None:
            return pooled
        hidden: Tensor = out.last_hidden_state
        return hidden[:, 0] if self.prefix else hidden.mean(dim=1)

    def _probe(self, width: int = 64) -> Tensor:
        return self.preprocess(Image.new("RGB", (width, 64), (255, 255, 255)))

    @torch.inference_mode()
    def _layout(self) -> tuple[tuple[int, int], int]:
        """Find the grid of patches and the number of tokens before them, and check the levels."""
        pixels, wanted = self._probe(), "use a vision transformer (CLIP, SigLIP, DINOv2, ViT)"
        if self._probe(192).shape != pixels.shape:
            raise TgqError(f"the image processor of {self.name} gives pictures of several sizes; take fit: pad")
        try:
            out = self._forward(pixels[None])
        except (TypeError, ValueError, RuntimeError) as error:
            size = " x ".join(map(str, pixels.shape[1:]))
            raise TgqError(f"{self.name} does not read pictures of {size} pixels ({error}); {wanted}") from error
        patch: Any = getattr(self.tower.config, "patch_size", None)
        rows, columns = (side // patch for side in pixels.shape[1:]) if isinstance(patch, int) else (0, 0)
        tokens = out.last_hidden_state.shape[1] if out.last_hidden_state.dim() == 3 else 0
        if not 0 < rows * columns <= tokens:
            raise TgqError(f"{self.name} gives no patch tokens; {wanted}")
        states = len(out.hidden_states) if self.levels else 0
        wrong = [level for level in self.levels if not -states <= level < states]
        if wrong:
            raise TgqError(f"{self.name}: there is no layer {wrong[0]}; levels may be 0 to {states - 1}")
        return (rows, columns), tokens - rows * columns


class HuggingFaceText:
    """A frozen Hugging Face text model as a `TextEncoder`.

    tokens: the last hidden states, special tokens included, padded at the right to the longest text. vector: their
    mean over real tokens ("mean"), the first token ("cls"), or what the model itself pools ("pooler"); "auto" takes
    what CLIP, Chinese-CLIP and SigLIP were trained with, and the mean for all others. A blank text has no token and a
    zero vector. `max_tokens` cuts long texts. precision "auto" is bfloat16 where the hardware has it; texts are short,
    so float32 is the default.
    """

    def __init__(
        self,
        tower: Any,
        tokenizer: Any,
        name: str,
        *,
        pooling: Pooling = "auto",
        max_tokens: Positive | None = None,
        precision: Precision = "float32",
        device: Device = "auto",
    ) -> None:
        self.name = name
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        kind = str(tower.config.model_type)
        # SigLIP was trained on texts padded to full length, with the padding attended to.
        self._full_length = kind.startswith("siglip")
        if getattr(tower.config, "is_encoder_decoder", False):
            raise TgqError(f"{name} also writes ({kind}), so it is no text encoder; use BERT, CLIP or a language model")
        if pooling == "pooler" and _pooling(kind) != "pooler":
            raise TgqError(f"{name} ({kind}) pools no text itself; give pooling: mean or cls")
        self.pooling = _pooling(kind) if pooling == "auto" else pooling
        self.max_tokens = self._longest(tower.config, max_tokens)
        self.tokenizer = _plain_tokenizer(tokenizer)
        check_words(name, self.tokenizer, places_in(tower))
        self.tower = _freeze(tower, self.device, self.dtype)
        self.width = int(tower.config.hidden_size)
        self._accepted = set(inspect.signature(self.tower.forward).parameters)
        self.config = {
            "type": TEXT_TYPE,
            "name": name,
            "class": type(tower).__name__,
            "pooling": self.pooling,
            "max_tokens": self.max_tokens,
            "precision": dtype_name(self.dtype),
        }
        decides = {**self.config, "name": None, "tower": _architecture(tower)}
        self.fingerprint = fingerprint_of(decides, self.tower.state_dict(), tokenizer=tokenizer_rules(self.tokenizer))

    @classmethod
    def make(cls, source: str, **options: Any) -> HuggingFaceText:
        """Read a model folder or hub id, the text tower of it if it has two; options as in the constructor.

        Raises TgqError if it cannot be read.
        """
        model = read_model(source)
        return cls(getattr(model, "text_model", model), read_tokenizer(source), f"hf:{source}", **options)

    @classmethod
    def load(cls, folder: Path, *, device: str = "auto") -> HuggingFaceText:
        """Load what `save` wrote."""
        config = read_config(folder)
        tower = read_model(str(folder / TOWER), config["class"])
        options = {key: config[key] for key in ("pooling", "max_tokens", "precision")}
        return cls(tower, read_tokenizer(str(folder / TOWER)), config["name"], device=device, **options)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """Encode B texts; all comes back in float32 (mask: bool), on the encoder's device."""
        real = [i for i, text in enumerate(texts) if text.strip()]
        if not real:
            tokens = torch.zeros(len(texts), 1, self.width, device=self.device)
            return TextFeatures(tokens, tokens[..., 0].bool(), tokens[:, 0].clone())
        some, _ = self._encode([texts[i] for i in real])
        if len(real) == len(texts):
            return some
        spread = [part.new_zeros(len(texts), *part.shape[1:]) for part in (some.tokens, some.mask, some.vector)]
        for whole, part in zip(spread, (some.tokens, some.mask, some.vector), strict=True):
            whole[real] = part
        return TextFeatures(*spread)

    @torch.inference_mode()
    def encode_with_layer(self, texts: Sequence[str], layer: int) -> tuple[TextFeatures, Tensor] | None:
        """Return `encode(texts)`, and the states behind a layer [B, T, Dt]; None where a text is blank or was cut."""
        if not all(text.strip() for text in texts) or self._full_length:
            return None
        features, states = self._encode(list(texts), layer)
        return None if features.tokens.shape[1] == self.max_tokens else (features, states)

    def save(self, folder: Path) -> None:
        """Write `config.json` and `tower/` (config, safetensors, tokenizer)."""
        write_config(folder, self.config)
        with quiet():
            self.tower.save_pretrained(folder / TOWER)
        save_tokenizer(self.tokenizer, folder / TOWER)

    def _encode(self, texts: list[str], layer: int | None = None) -> tuple[TextFeatures, Tensor]:
        """Return the features of texts, and the states behind a layer (by default the last)."""
        with TOKENIZING:
            batch = self.tokenizer(
                texts,
                padding="max_length" if self._full_length else "longest",
                truncation=True,
                max_length=self.max_tokens,
                return_attention_mask=True,
                return_tensors="pt",
            ).to(self.device)
        return self._forward(batch, layer)

    def read(self, ids: Tensor, mask: Tensor) -> TextFeatures:
        """Encode token ids [B, T] with their mask [B, T], in a form that can be traced."""
        return self._forward({"input_ids": ids, "attention_mask": mask})[0]

    def _forward(self, batch: Mapping[str, Tensor], layer: int | None = None) -> tuple[TextFeatures, Tensor]:
        mask = batch["attention_mask"].bool()
        inputs = {key: value for key, value in batch.items() if key in self._accepted}
        if self._full_length:
            inputs.pop("attention_mask", None)
        out = self.tower(**inputs, output_hidden_states=layer is not None)
        hidden = out.last_hidden_state.float() * mask[..., None]
        if self.pooling == "mean":
            vector = hidden.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        else:
            vector = hidden[:, 0] if self.pooling == "cls" else out.pooler_output.float()
        return TextFeatures(hidden, mask, vector), hidden if layer is None else out.hidden_states[layer]

    def _longest(self, config: Any, asked: int | None) -> int:
        positions = getattr(config, "max_position_embeddings", None) or DEFAULT_TOKENS
        if self._full_length:
            return int(positions)
        return int(min(positions, asked or DEFAULT_TOKENS))


def read_model(source: str, class_name: str | None = None, **options: Any) -> Any:
    """Read a Hugging Face model, in float32, from safetensors; `class_name` names the class where it is known.

    Raises TgqError if it cannot be reached or read, or if the files lack weights that are used.
    """
    import transformers

    loader = getattr(transformers, class_name or "AutoModel")
    try:
        with quiet():
            model, info = loader.from_pretrained(
                source,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                trust_remote_code=False,
                **options,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:  # the last two: files that do not fit
        raise unreadable(source, error) from error
    check_complete(source, info)
    return model


def check_complete(source: str, info: Mapping[str, Any]) -> None:
    """Raise TgqError if transformers made up weights that are used, as the `info` of a loading says."""
    lacking = sorted(key for key in info["missing_keys"] if "pooler." not in key and "lm_head." not in key)
    if lacking:
        raise TgqError(f"The files of {source!r} lack weights, first {lacking[0]!r}; give the complete model")


def check_pretrained(source: str, *, pictures: bool) -> None:
    """Check that a saved model is in a folder or on the hub, without reading its weights.

    Args:
        source: folder or hub id. pictures: whether it reads pictures, so that it needs an image processor; others need
            a tokenizer.

    Raises:
        TgqError: for what is not there, and a tokenizer that is not the model's.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise unreadable(source, error) from error
    if pictures:
        read_processor(source)
    else:
        check_words(source, read_tokenizer(source), getattr(config.get_text_config(), "vocab_size", None))


def read_tokenizer(source: str) -> Any:
    """Read the tokenizer of a model; raises TgqError where there is none."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # the library `tokenizers` raises it as it is
        raise unreadable(source, error) from error
    if not tokenizer.get_vocab().keys() - tokenizer.added_tokens_encoder.keys():
        # Without any file transformers makes an empty one for many kinds of models: all texts would be alike.
        raise TgqError(f"The Hugging Face model {source!r} has no words: its tokenizer files are missing; add them")
    return tokenizer


def _freeze(tower: Any, device: torch.device, dtype: torch.dtype) -> Any:
    # A dense pooler is often missing from the files, then random: it is never used, so it goes.
    if getattr(tower, "pooler", None) is not None:
        tower.pooler = None
    return tower.eval().requires_grad_(False).to(device, dtype)


def _architecture(tower: Any) -> dict[str, Any]:
    """Return the tower's config without what says nothing about its output."""
    aside = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")
    return {key: value for key, value in tower.config.to_dict().items() if key not in aside}


def _pooling(kind: str) -> Pooling:
    if kind.startswith("chinese_clip"):
        return "cls"
    return "pooler" if kind.startswith(("clip", "siglip")) else "mean"


def _plain_tokenizer(tokenizer: Any) -> Any:
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def tokenizer_rules(tokenizer: Any) -> str:
    """Return what decides a tokenizer's output, as JSON."""
    if not tokenizer.is_fast:
        return json.dumps([type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())])
    return _rules_of(tokenizer.backend_tokenizer.to_str())


@lru_cache(maxsize=2)
def _rules_of(written: str) -> str:
    """Return the rules in a tokenizer's own JSON; padding and truncation are set by each call, so they are left out."""
    rules = json.loads(written)
    return json.dumps({key: rules[key] for key in rules.keys() - {"padding", "truncation"}}, sort_keys=True)
