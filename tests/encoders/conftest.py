"""Pictures, and encoders small enough to count on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tgqformer.encoders import TextFeatures, VisualFeatures

torch.set_num_threads(1)


class SmallVision:
    """Tokens are the four pixels of a 2 x 2 picture, the vector is their mean; it counts what it encodes."""

    name, fit, grid, width, vector_width = "small", "pad", (2, 2), 3, 3

    def __init__(self, fingerprint: str = "small-1", scale: float = 1.0) -> None:
        self.fingerprint, self.scale = fingerprint, scale
        self.batches: list[int] = []

    def preprocess(self, picture: Image.Image) -> Tensor:
        return torch.from_numpy(np.array(picture.convert("RGB").resize((2, 2)))).permute(2, 0, 1)

    def encode(self, pixels: Tensor) -> VisualFeatures:
        self.batches.append(len(pixels))
        tokens = pixels.float().flatten(2).transpose(1, 2) * self.scale
        return VisualFeatures(tokens, tokens.mean(dim=1))

    def save(self, folder: Path) -> None:
        raise AssertionError(f"a cache saves no encoder, but asked for {folder}")


class SmallText:
    """One token a character: its code point, twice; it counts what it encodes."""

    fingerprint = "text-1"
    width = 2

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        self.texts += texts
        longest = max(1, *(len(text) for text in texts), 1)
        tokens, mask = torch.zeros(len(texts), longest, 2), torch.zeros(len(texts), longest, dtype=torch.bool)
        for i, text in enumerate(texts):
            for j, letter in enumerate(text):
                tokens[i, j], mask[i, j] = ord(letter), True
        return TextFeatures(tokens, mask, tokens.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1))


@pytest.fixture
def small_vision() -> SmallVision:
    return SmallVision()


@pytest.fixture
def small_text() -> SmallText:
    return SmallText()


@pytest.fixture
def make_small_vision() -> type[SmallVision]:
    return SmallVision


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Six smooth pictures of 60 x 80, as a shop might have them."""
    rng = np.random.default_rng(0)
    small = [Image.fromarray(rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)) for _ in range(6)]
    return [picture.resize((60, 80), Image.Resampling.BICUBIC) for picture in small]
