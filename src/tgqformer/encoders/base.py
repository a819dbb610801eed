"""The seam of the frozen encoders: what a vision encoder and a text encoder must offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL.Image import Image
from torch import Tensor, nn

from tgqformer.pixels import Fit


@dataclass(frozen=True)
class VisualFeatures:
    """What a vision encoder sees in B pictures.

    tokens (Tensor): [B, P, Dv], row-major over the grid.
    vector (Tensor): [B, Dg], the global vector.
    """

    tokens: Tensor
    vector: Tensor


@dataclass(frozen=True)
class TextFeatures:
    """What a text encoder reads in B texts.

    tokens (Tensor): [B, T, Dt].
    mask (Tensor): bool [B, T], True where a token is real; an empty text has no real token.
    vector (Tensor): [B, Dt], the pooled text (zeros for an empty text).
    """

    tokens: Tensor
    mask: Tensor
    vector: Tensor


class VisionEncoder(Protocol):
    """A frozen picture encoder.

    `fit` says how a picture becomes square. `fingerprint` changes whenever weights, preprocessing, levels or precision
    change: it keys the token cache.
    `grid` is (rows, columns) of the P tokens; `width` is Dv; `vector_width` is Dg.
    """

    name: str
    fingerprint: str
    fit: Fit
    grid: tuple[int, int]
    width: int
    vector_width: int

    def preprocess(self, picture: Image) -> Tensor:
        """Turn one picture into pixels [3, h, w] of the dtype that `encode` takes; called from several threads."""
        ...

    def encode(self, pixels: Tensor) -> VisualFeatures:
        """Encode pixels [B, 3, h, w]; deterministic, no gradient."""
        ...

    def save(self, folder: Path) -> None:
        """Write all that `encoders.load_vision(folder)` needs: config, safetensors, preprocessing."""
        ...


class TextEncoder(Protocol):
    """A frozen text encoder. `width` is Dt; `max_tokens` bounds T; `fingerprint` keys the cache."""

    name: str
    fingerprint: str
    width: int
    max_tokens: int

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """Encode B texts, padded to the longest of them; no gradient."""
        ...

    def save(self, folder: Path) -> None:
        """Write all that `encoders.load_text(folder)` needs: config, safetensors, tokenizer."""
        ...


class JointSpace(nn.Module, ABC):
    """Projections of a joint image-text encoder (CLIP, Chinese-CLIP, SigLIP) into its shared space of width J."""

    width: int
    config: dict[str, Any]
    """The type, and what the constructor needs to make it again."""

    @abstractmethod
    def pictures(self, features: VisualFeatures) -> tuple[Tensor, Tensor]:
        """Project to (tokens [B, P, J], vector [B, J]), not normalised."""

    @abstractmethod
    def texts(self, features: TextFeatures) -> Tensor:
        """Project to [B, J], not normalised."""


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save a tokenizer without how it was loaded and asked last, so that equal models have equal files."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:  # each call sets these two
        backend.no_truncation()
        backend.no_padding()
    for key in ("max_length", "stride", "truncation_strategy", "is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(key, None)
    tokenizer.save_pretrained(folder)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own progress bars and load reports off the screen: what matters is checked here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
