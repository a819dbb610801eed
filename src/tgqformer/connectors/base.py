"""The seam of the connectors: what goes in, what comes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

TOKENS = 4
"""K, how many tokens a connector gives where nothing else is said; each takes another number as its option `tokens`."""


@dataclass(frozen=True)
class ConnectorInput:
    """What a connector may use of B items.

    visual (Tensor): [B, P, Dv], standardised visual tokens; of connectors that `attend`, perhaps of M pictures: P · M.
    vector (Tensor): [B, Dg], the global vector of the picture.
    has_picture (Tensor): bool [B]; where False, `visual` and `vector` are zeros and mean nothing.
    metadata (Tensor): [B, T, Dt], text tokens of the metadata.
    metadata_mask (Tensor): bool [B, T], True where a token is real.
    agreement_map (Tensor): [B, P], κ·a[p]: how well each visual token agrees with the metadata; None without alignment.
    visual_mask (Tensor): bool [B, P], False for tokens of no picture; None where there is one picture an item.
    agreement (Tensor): [B], s: how well the picture agrees with the metadata; None without alignment.
    """

    visual: Tensor
    vector: Tensor
    has_picture: Tensor
    metadata: Tensor
    metadata_mask: Tensor
    agreement_map: Tensor | None = None
    agreement: Tensor | None = None
    visual_mask: Tensor | None = None


@dataclass(frozen=True)
class ConnectorOutput:
    """What a connector gives to the language model, and what it looked at.

    tokens (Tensor): [B, K, D], the visual tokens for the LM; K may be 0.
    attention (Mapping): stream -> [B, heads, Q, P], where each query looked last.
    gates (Mapping): stream -> [B, D], the modulation of each stream.
    redundancy (Tensor): scalar, the redundancy loss of the batch; None where the connector has none.
    """

    tokens: Tensor
    attention: Mapping[str, Tensor] = field(default_factory=dict)
    gates: Mapping[str, Tensor] = field(default_factory=dict)
    redundancy: Tensor | None = None


@dataclass(frozen=True)
class ConnectorWidths:
    """The widths that the encoders fix: Dv, Dg, Dt, and the grid (rows, columns) of the P visual tokens."""

    visual: int
    vector: int
    metadata: int
    grid: tuple[int, int]


@dataclass(frozen=True)
class PictureWord:
    """What a connector says that wants an embedding of the picture alone beside that of the item (NoteLLM-2).

    Args:
        prompt: the prompt for the picture's word, which the LM reads after the visual tokens.
        weight: share of the picture's loss, from 0 to below 1; the item's has the rest.
        fusion: whether the picture's global vector is fused into both embeddings late.
    """

    prompt: str
    weight: float
    fusion: bool

    def __post_init__(self) -> None:
        if not 0 <= self.weight < 1:
            raise ValueError(f"the weight of the picture's loss is from 0 to below 1, found {self.weight}")
        if not self.prompt.strip():
            raise ValueError("the prompt for the picture's word must not be empty")


class Connector(nn.Module, ABC):
    """Visual tokens + metadata tokens -> K tokens of width D: the base class of all connectors.

    The options of a connector are the keyword-only parameters of its `__init__`; the first parameter is the widths.
    `check_connector` checks options by the types of these parameters.
    """

    tokens: int
    """K, how many tokens it gives; 0 for none."""
    width: int
    """D."""
    guided: bool = False
    """Whether it uses the agreement of picture and metadata; only then a model is given an alignment."""
    attends: bool = False
    """Whether it can take the tokens of several pictures: its queries attend to them, with the bias of `spread`."""
    learns: bool = True
    """Whether a model with it learns anything; else its embedding is the frozen vector alone."""
    picture_word: PictureWord | None = None
    """What it asks of the model beside reading its tokens."""

    __call__: Callable[..., ConnectorOutput]

    @abstractmethod
    def forward(self, inputs: ConnectorInput) -> ConnectorOutput:
        """Connect B items."""
