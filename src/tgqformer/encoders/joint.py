"""The shared space of a joint image-text encoder: CLIP, Chinese-CLIP or SigLIP, with their own projections.

The global vectors are projected exactly as the model does it. Patch tokens were never trained to be projected; what is
done with them follows MaskCLIP (Zhou, Loy and Dai, "Extract Free Dense Labels from CLIP", ECCV 2022,
https://arxiv.org/abs/2112.01071), which reads a dense map out of a frozen CLIP by giving each place the way that the
global vector takes: for CLIP and Chinese-CLIP each patch token of the last layer goes through the layer norm and the
projection of the CLS token (MaskCLIP also drops the last attention; we keep the tower whole); for SigLIP each patch
token goes through the attention head as if the head attended to that token alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tgqformer.encoders.base import JointSpace, TextFeatures, VisualFeatures
from tgqformer.encoders.frozen import Device, Precision, read_config, resolve_device, write_config
from tgqformer.encoders.huggingface import (
    HuggingFaceText,
    HuggingFaceVision,
    read_model,
    read_tokenizer,
)
from tgqformer.errors import TgqError
from tgqformer.files import atomic_path
from tgqformer.pixels import Fit, read_processor

CLIP_TYPE, SIGLIP_TYPE = "joint-clip", "joint-siglip"
CLIP_KINDS = ("clip", "chinese_clip")


@dataclass(frozen=True)
class JointEncoder:
    """The two towers of a joint encoder and the space that they share."""

    vision: HuggingFaceVision
    text: HuggingFaceText
    space: JointSpace


class ClipSpace(JointSpace):
    """CLIP's and Chinese-CLIP's space: tokens by the CLS token's layer norm and projection, vectors by the projection.

    vision_width: width of one level of visual tokens; of tokens of several levels the first `vision_width` channels
    (the last layer) are projected.
    """

    def __init__(self, vision_width: int, text_width: int, width: int, epsilon: float) -> None:
        super().__init__()
        self.width, self.vision_width = width, vision_width
        self.norm = nn.LayerNorm(vision_width, eps=epsilon)
        self.visual_projection = nn.Linear(vision_width, width, bias=False)
        self.text_projection = nn.Linear(text_width, width, bias=False)
        self.config = {
            "type": CLIP_TYPE,
            "vision_width": vision_width,
            "text_width": text_width,
            "width": width,
            "epsilon": epsilon,
        }

    @classmethod
    def of(cls, model: Any) -> ClipSpace:
        """Copy the projections of a `CLIPModel` or `ChineseCLIPModel`."""
        norm, visual, text = model.vision_model.post_layernorm, model.visual_projection, model.text_projection
        space = cls(visual.in_features, text.in_features, visual.out_features, norm.eps)
        space.norm.load_state_dict(norm.state_dict())
        space.visual_projection.load_state_dict(visual.state_dict())
        space.text_projection.load_state_dict(text.state_dict())
        return space

    @torch.no_grad()
    def pictures(self, features: VisualFeatures) -> tuple[Tensor, Tensor]:
        """Project tokens [B, P, Dv] and vector [B, Dg] to [B, P, J] and [B, J], in float32, not normalised."""
        tokens = self.norm(features.tokens[..., : self.vision_width].float())
        return self.visual_projection(tokens), self.visual_projection(features.vector.float())

    @torch.no_grad()
    def texts(self, features: TextFeatures) -> Tensor:
        """Project vector [B, Dt] to [B, J], in float32, not normalised."""
        projected: Tensor = self.text_projection(features.vector.float())
        return projected


class SiglipSpace(JointSpace):
    """SigLIP's space: both vectors are in it as they come; a token takes the head's way as its only token.

    That way is value and output projection of the head's attention, then its feed-forward with a residual.
    """

    def __init__(self, vision_width: int, inner: int, activation: str, epsilon: float) -> None:
        super().__init__()
        from transformers.activations import ACT2FN

        self.width = self.vision_width = vision_width
        self.value = nn.Linear(vision_width, vision_width)
        self.out = nn.Linear(vision_width, vision_width)
        self.norm = nn.LayerNorm(vision_width, eps=epsilon)
        self.fc1 = nn.Linear(vision_width, inner)
        self.fc2 = nn.Linear(inner, vision_width)
        self.activation = ACT2FN[activation]
        self.config = {
            "type": SIGLIP_TYPE,
            "vision_width": vision_width,
            "inner": inner,
            "activation": activation,
            "epsilon": epsilon,
        }

    @classmethod
    def of(cls, model: Any) -> SiglipSpace:
        """Copy the attention pooling head of a `SiglipModel`."""
        head, config = model.vision_model.head, model.config.vision_config
        width = config.hidden_size
        space = cls(width, config.intermediate_size, config.hidden_act, head.layernorm.eps)
        weight, bias = head.attention.in_proj_weight, head.attention.in_proj_bias
        space.value.load_state_dict({"weight": weight[2 * width :], "bias": bias[2 * width :]})
        space.out.load_state_dict(head.attention.out_proj.state_dict())
        space.norm.load_state_dict(head.layernorm.state_dict())
        space.fc1.load_state_dict(head.mlp.fc1.state_dict())
        space.fc2.load_state_dict(head.mlp.fc2.state_dict())
        return space

    @torch.no_grad()
    def pictures(self, features: VisualFeatures) -> tuple[Tensor, Tensor]:
        """Project tokens [B, P, Dv] to [B, P, J]; the vector [B, J] is in the space already. Both float32."""
        attended = self.out(self.value(features.tokens[..., : self.vision_width].float()))
        tokens = attended + self.fc2(self.activation(self.fc1(self.norm(attended))))
        return tokens, features.vector.float()

    @torch.no_grad()
    def texts(self, features: TextFeatures) -> Tensor:
        """Return the vector [B, J], which is in the space already, in float32."""
        return features.vector.float()


def read_joint(
    source: str,
    *,
    levels: tuple[int, ...] = (),
    fit: Fit = "pad",
    precision: Precision = "auto",
    device: Device = "auto",
) -> JointEncoder:
    """Make both towers and the space of a model folder or hub id, read once; options as for the towers.

    Raises TgqError if the model cannot be read or is no CLIP, Chinese-CLIP or SigLIP.
    """
    model, name = read_model(source), f"hf:{source}"
    space = _space_of(model, name).eval().requires_grad_(False).to(resolve_device(device))
    processor, tokenizer = read_processor(source), read_tokenizer(source)
    vision = HuggingFaceVision(
        model.vision_model, processor, name, levels=levels, fit=fit, precision=precision, device=device
    )
    text = HuggingFaceText(model.text_model, tokenizer, name, precision=precision, device=device)
    return JointEncoder(vision, text, space)


def save_space(space: JointSpace, folder: Path) -> None:
    """Write `config.json` and `model.safetensors` of a space; the towers save themselves."""
    write_config(folder, space.config)
    with atomic_path(folder / "model.safetensors") as unfinished:
        save_file({name: tensor.cpu().contiguous() for name, tensor in space.state_dict().items()}, unfinished)


def load_space(folder: Path, *, device: str = "auto") -> JointSpace:
    """Load what `save_space` wrote; raises TgqError if there is none."""
    config = read_config(folder)
    known: dict[str, type[JointSpace]] = {CLIP_TYPE: ClipSpace, SIGLIP_TYPE: SiglipSpace}
    kind = config.pop("type")
    if kind not in known:
        raise TgqError(f"{folder} holds {kind!r}, which is no joint space; known: {', '.join(known)}")
    space = known[kind](**config)
    space.load_state_dict(load_file(folder / "model.safetensors"))
    return space.eval().requires_grad_(False).to(resolve_device(device))


def _space_of(model: Any, name: str) -> JointSpace:
    kind = model.config.model_type
    if kind in CLIP_KINDS:
        return ClipSpace.of(model)
    if kind == "siglip" and getattr(model.vision_model, "head", None) is not None:
        return SiglipSpace.of(model)
    raise TgqError(f"{name} ({kind}) is no joint image-text encoder that is known; use CLIP, Chinese-CLIP or SigLIP")
