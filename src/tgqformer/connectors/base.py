"""The seam of the connectors: what goes in, what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from tgqformer.encoders.base import TextFeatures

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
    fields (TextFeatures): each of the F metadata fields by itself, tokens [B, F, T, Dt], mask bool [B, F, T], vector
        [B, F, Dt]; None where the connector did not ask for it, see `reads_fields`.
    field_maps (Tensor): [B, F, P], κ·a[p] of each field's own text; None without alignment or fields,
        and where the connector did not ask for it, see `reads_field_maps`.
    """

    visual: Tensor
    vector: Tensor
    has_picture: Tensor
    metadata: Tensor
    metadata_mask: Tensor
    agreement_map: Tensor | None = None
    agreement: Tensor | None = None
    fields: TextFeatures | None = None
    field_maps: Tensor | None = None


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
    """The widths that the encoders fix: Dv, Dg, Dt, the grid (rows, columns) of the P visual tokens, and F.

    `fields` is how many metadata fields the prompt reads, 0 where this is not known.
    """

    visual: int
    vector: int
    metadata: int
    grid: tuple[int, int]
    fields: int = 0


@dataclass(frozen=True)
class PictureWord:
    """What a connector says that wants an embedding of the picture alone beside that of the item (NoteLLM-2).

    Args:
        prompt: what the LM reads behind the visual tokens, to be asked for the picture's word.
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


class Connector(Protocol):
    """Visual tokens + metadata tokens -> K tokens of width D. Implementations are `nn.Module`s.

    `guided` says whether it uses the agreement of picture and metadata; only then a model is given an alignment. A
    connector may also have a `picture_word` (`PictureWord`), see `wanted_picture_word`, and may ask for the metadata
    field by field, see `reads_fields`.
    """

    guided: bool
    tokens: int
    width: int

    def __call__(self, inputs: ConnectorInput) -> ConnectorOutput:
        """Connect B items."""
        ...


def wanted_picture_word(connector: object) -> PictureWord | None:
    """What a connector asks of the model beside reading its tokens; most ask nothing."""
    word: PictureWord | None = getattr(connector, "picture_word", None)
    return word


def reads_fields(connector: object) -> bool:
    """Whether a connector asks for each metadata field by itself (`ConnectorInput.fields`); most do not."""
    return bool(getattr(connector, "by_field", False))


def reads_field_maps(connector: object) -> bool:
    """Whether a connector asks where the picture agrees with each field (`ConnectorInput.field_maps`); most do not."""
    return bool(getattr(connector, "field_bias", False))
