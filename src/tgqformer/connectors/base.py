"""The seam of the connectors: what goes in, what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

TOKENS = 4
"""K, how many tokens a connector gives where nothing else is said; each takes another number as its option `tokens`."""


@dataclass(frozen=True)
class ConnectorInput:
    """What a connector may use of B items.

    visual (Tensor): [B, P, Dv], standardised visual tokens.
    vector (Tensor): [B, Dg], the global vector of the picture.
    has_picture (Tensor): bool [B]; where False, `visual` and `vector` are zeros and mean nothing.
    metadata (Tensor): [B, T, Dt], text tokens of the metadata.
    metadata_mask (Tensor): bool [B, T], True where a token is real.
    agreement_map (Tensor): [B, P], κ·a[p]: how well each visual token agrees with the metadata; None without alignment.
    agreement (Tensor): [B], s: how well the picture agrees with the metadata; None without alignment.
    """

    visual: Tensor
    vector: Tensor
    has_picture: Tensor
    metadata: Tensor
    metadata_mask: Tensor
    agreement_map: Tensor | None = None
    agreement: Tensor | None = None


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
    """The widths that the encoders fix: Dv, Dg, Dt and the grid (rows, columns) of the P visual tokens."""

    visual: int
    vector: int
    metadata: int
    grid: tuple[int, int]


class Connector(Protocol):
    """Visual tokens + metadata tokens -> K tokens of width D. Implementations are `nn.Module`s.

    `guided` says whether it uses metadata and agreement; only then a model is given an alignment.
    """

    guided: bool
    tokens: int
    width: int

    def __call__(self, inputs: ConnectorInput) -> ConnectorOutput:
        """Connect B items."""
        ...
