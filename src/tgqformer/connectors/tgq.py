"""TGQ-Former: the item's own metadata says where in the picture to look (Guo et al., KDD 2026, arXiv 2605.17366)."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from tgqformer.connectors.attention import Block, CrossAttention, ValuePath
from tgqformer.connectors.base import TOKENS, ConnectorInput, ConnectorOutput, ConnectorWidths
from tgqformer.connectors.bias import AgreementBias, GridPrior, agreement_bias
from tgqformer.encoders.base import TextFeatures


class Anchors(nn.Module):
    """The metadata, compressed: A learned latents attend to the text tokens and give `Qa [B, A, D]`.

    A latent that has no token to attend to stays as it is.
    """

    def __init__(self, queries: int, dim: int, metadata_dim: int, heads: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, queries, dim) * 0.5)
        self.attention = CrossAttention(dim, metadata_dim, heads)
        self.out = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, metadata: Tensor, mask: Tensor) -> Tensor:
        """metadata (Tensor): [B, T, Dt]; mask (Tensor): bool [B, T], or [B, A, T] by latent. Returns [B, A, D]."""
        pooled, _ = self.attention(self.latents, metadata, mask)
        has_text = mask.any(-1)
        has_text = has_text[:, None, None] if mask.ndim == 2 else has_text[..., None]
        anchors: Tensor = self.norm(self.latents + self.out(pooled) * has_text)
        return anchors


def share_out(queries: int, fields: int) -> Tensor:
    """Tell which of A queries reads which of F metadata fields: bool [A, F].

    Each field gets A / F queries of its own, as evenly as it goes; with fewer queries than fields, neighbouring fields
    share one.
    """
    reads = torch.zeros(queries, fields, dtype=torch.bool)
    for step in range(max(queries, fields)):
        query, field = (step, step * fields // queries) if queries >= fields else (step * queries // fields, step)
        reads[query, field] = True
    return reads


class Waves(nn.Module):
    """A number between −1 and 1 as eight of the size of 1: `√2·sin` and `√2·cos` of π, 2π, 4π, 8π times it."""

    width = 8

    def forward(self, x: Tensor) -> Tensor:
        """x (Tensor): [B, 1]. Returns [B, 8]."""
        angle = x * (math.pi * 2.0 ** torch.arange(4, device=x.device))
        return math.sqrt(2) * torch.cat([angle.sin(), angle.cos()], -1)


class Gate(nn.Module):
    """`csig(MLP([parts]))` with `csig(x) = 2·sigmoid(x) − 1`; zero at the start, so a fresh gate changes nothing.

    Args:
        widths: of the parts. dim: D.
        balanced: every part has the same say at the start, whatever its width, and a part of width 1 is given as
            `Waves`. As published, the agreement s is one of some 1,800 inputs, and varies the least of all.
    """

    def __init__(self, widths: list[int], dim: int, *, balanced: bool = False) -> None:
        super().__init__()
        single = Waves if balanced else nn.Identity
        self.norms = nn.ModuleList(nn.LayerNorm(width) if width > 1 else single() for width in widths)
        widths = [Waves.width if balanced and width == 1 else width for width in widths]
        first, last = nn.Linear(sum(widths), dim), nn.Linear(dim, dim)
        if balanced:
            share = torch.cat([torch.full((width,), (sum(widths) / len(widths) / width) ** 0.5) for width in widths])
            first.weight.data *= share
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(first, nn.GELU(), last)

    def forward(self, *parts: Tensor) -> Tensor:
        """parts: Tensors [B, width]. Returns [B, D], between -1 and 1."""
        x = torch.cat([norm(part) for norm, part in zip(self.norms, parts, strict=True)], -1)
        raw: Tensor = self.mlp(x)
        return 2 * torch.sigmoid(raw) - 1


class Modulation(nn.Module):
    """A vector [..., D] -> (scale, shift) of D channels (FiLM, arXiv 1709.07871); zero at the start."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        last = nn.Linear(dim, 2 * dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), last)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (Tensor): [..., D]. Returns two of [..., D]."""
        scale, shift = self.mlp(x).chunk(2, -1)
        return scale, shift


def redundancy(anchored: Tensor, exploratory: Tensor) -> Tensor:
    """Mean over the dimensions of the squared correlation, over the batch, of the two streams' means.

    anchored, exploratory (Tensor): [B, D]. Returns a scalar between 0 and 1; 0 for fewer than two items.
    """
    if len(anchored) < 2:
        return anchored.new_zeros(())
    a, e = (x - x.mean(0) for x in (anchored, exploratory))
    correlation: Tensor = (a * e).sum(0) / (a.norm(dim=0) * e.norm(dim=0)).clamp_min(1e-6)
    return correlation.square().mean()


def overlap(weights: Tensor, anchored: int) -> Tensor:
    """How much the two streams look at the same places: mean cosine of their mean attention maps (ours).

    weights (Tensor): [B, heads, A + E, P]; the first `anchored` queries are the anchored ones. Returns a scalar from 0
    to 1; 0 for no item.
    """
    if not len(weights):
        return weights.new_zeros(())
    a, e = (weights[:, :, part].mean((1, 2)) for part in (slice(None, anchored), slice(anchored, None)))
    return nn.functional.cosine_similarity(a, e, dim=-1).mean()


def split_tokens(tokens: int | None, anchored: int | None, exploratory: int | None) -> tuple[int, int]:
    """Split K tokens into (A, E): half and half, the odd one anchored; what one stream is given, the other is left.

    Raises:
        ValueError: if the three contradict each other, or nothing is left to look with.
    """
    whole = TOKENS if tokens is None else tokens
    if anchored is not None and exploratory is not None and tokens is None:
        whole = anchored + exploratory
    if anchored is None:
        anchored = (whole + 1) // 2 if exploratory is None else whole - exploratory
    rest = whole - anchored
    if exploratory not in (None, rest) or min(anchored, rest) < 0:
        found = f"{anchored} anchored and {rest if exploratory is None else exploratory} exploratory queries"
        raise ValueError(f"{found} do not make {whole} tokens; give two of tokens, anchored, exploratory")
    if whole < 1:
        raise ValueError("TGQ-Former needs at least one query")
    return anchored, rest


def _given_fields(inputs: ConnectorInput) -> TextFeatures:
    if inputs.fields is None:
        raise ValueError("anchors: fields reads ConnectorInput.fields, which were not given")
    return inputs.fields


class TGQFormer(nn.Module):
    """Anchored queries made of the metadata and exploratory queries shared by all items attend to the visual tokens.

    The paper's parts: `gates`, the redundancy loss (weighed in training), `streams`. Ours: `value_path`, `prior`,
    `agreement_bias`; tokens of several levels and the alignment stage come from outside.

    Args:
        widths: what the encoders give.
        tokens: K, 4 by default; A = K / 2 of them are anchored.
        anchored, exploratory: A and E where they are not halves. One alone leaves the rest of K to the other, so that
            `exploratory: 0` is anchored only and `anchored: 0` exploratory only, whatever K is.
        dim: D. heads, blocks: of the transformer; 0 blocks leave the value path alone (the light form).
        streams: whether the two streams see each other in self-attention.
        gates: reliability-aware modulation: both, one, or none.
        gate_inputs: whether their inputs are taken side by side (`joined`, the paper) or weigh alike (`balanced`).
        value_path, prior, agreement_bias: our additions, each with its switch.
        modulate: whether the metadata change what the value path takes, as scale and shift of its channels: of its
            `tokens`, before they are pooled, or of what each query `pooled`, by the query's own state.
        anchored_prior: whether the anchored queries start as cells of a pooled grid too, so that each looks at another
            part of what the title names.
        guide: whether the agreement bias guides the anchored queries alone, or the exploratory ones too.
        beta, beta_exploratory: where the agreement bias of each stream starts.
        trust: whether the bias is weighed by a learned function of the agreement s.
        anchors: what the anchored queries are made of: the whole text (`pooled`), or each of its own metadata field
            (`fields`, see `share_out`), so that brand, kind and material look for themselves.
        field_bias: with `anchors: fields`, whether a query's agreement bias is that of its field's text alone.
        agreement_feature: whether each visual token also carries its own agreement, along a learned direction.
        redundant: what the redundancy loss compares: the streams' pooled vectors (the paper) or their attention maps.
        dropout: probability in the residual branches.
    """

    guided = True
    reads: Tensor

    def __init__(
        self,
        widths: ConnectorWidths,
        *,
        tokens: int | None = None,
        anchored: int | None = None,
        exploratory: int | None = None,
        dim: int = 256,
        heads: int = 4,
        blocks: int = 1,
        streams: Literal["joint", "separate"] = "joint",
        gates: Literal["both", "anchored", "exploratory", "none"] = "both",
        gate_inputs: Literal["joined", "balanced"] = "joined",
        value_path: bool = True,
        modulate: Literal["none", "tokens", "pooled"] = "none",
        prior: bool = True,
        anchored_prior: bool = False,
        agreement_bias: bool = True,
        guide: Literal["anchored", "all"] = "anchored",
        beta: float = 2.0,
        beta_exploratory: float = 0.5,
        trust: bool = False,
        anchors: Literal["pooled", "fields"] = "pooled",
        field_bias: bool = False,
        agreement_feature: bool = False,
        redundant: Literal["vectors", "attention"] = "vectors",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        anchored, exploratory = split_tokens(tokens, anchored, exploratory)
        if blocks == 0 and not value_path:
            raise ValueError("TGQ-Former needs a block or the value path")
        self.by_field = anchors == "fields"
        if self.by_field and not (anchored and widths.fields):
            raise ValueError("anchors: fields needs anchored queries, and a prompt that reads at least one field")
        if field_bias and not self.by_field:
            raise ValueError("field_bias belongs to anchors: fields")
        self.field_bias = field_bias
        reads = share_out(anchored, widths.fields) if self.by_field else torch.zeros(anchored, 0)
        self.register_buffer("reads", reads, persistent=False)
        self.anchored, self.exploratory, self.heads, self.streams = anchored, exploratory, heads, streams
        self.tokens, self.width = anchored + exploratory, dim
        self.anchors = Anchors(anchored, dim, widths.metadata, heads) if anchored else None
        self.queries = nn.Parameter(torch.randn(1, exploratory, dim) * 0.5) if exploratory else None
        self.norm = nn.LayerNorm(dim) if exploratory else None  # a weight that nothing reads would stop DDP
        self.blocks = nn.ModuleList(
            Block(dim, widths.visual, heads, hidden=4 * dim, dropout=dropout) for _ in range(blocks)
        )
        self.value_path = ValuePath(dim, widths.visual, heads) if value_path else None
        if modulate != "none" and not (value_path and anchored):
            raise ValueError("modulate needs the value path, and anchored queries")
        self.modulate, self.modulation = modulate, None if modulate == "none" else Modulation(dim)
        self.prior = GridPrior(exploratory, widths.grid, heads) if prior and exploratory else None
        self.anchored_prior = GridPrior(anchored, widths.grid, heads) if anchored_prior and anchored else None
        self.redundant = redundant
        self.agreement_bias = AgreementBias(heads, beta, trust=trust) if agreement_bias and anchored else None
        guided = agreement_bias and exploratory and guide == "all"
        self.exploratory_bias = AgreementBias(heads, beta_exploratory, trust=trust) if guided else None
        self.agreement_direction = nn.Parameter(torch.zeros(widths.visual)) if agreement_feature else None
        stream_widths = [dim] * (bool(anchored) + bool(exploratory))
        gate_anchored = anchored and gates in ("both", "anchored")
        gate_exploratory = exploratory and gates in ("both", "exploratory")
        gate = partial(Gate, dim=dim, balanced=gate_inputs == "balanced")
        self.gate_anchored = gate([1, widths.vector, *stream_widths]) if gate_anchored else None
        self.gate_exploratory = gate([widths.vector, dim]) if gate_exploratory else None

    def forward(self, inputs: ConnectorInput) -> ConnectorOutput:
        """Give [B, A + E, D], anchored first, and the attention of the streams `anchored` and `exploratory`."""
        queries, bias = self._queries(inputs), self._bias(inputs)
        visual = inputs.visual
        if self.agreement_direction is not None:
            known = inputs.agreement_map if inputs.agreement_map is not None else visual.new_zeros(visual.shape[:2])
            visual = visual + (known - known.mean(1, keepdim=True))[..., None] * self.agreement_direction
        z, weights = self._attend(queries, visual, bias)
        za, ze = z.split([self.anchored, self.exploratory], 1)  # type: ignore[no-untyped-call]
        gates = self._gates(inputs, za, ze)
        za, ze = (stream * (1 + gates[name][:, None]) if name in gates else stream
                  for name, stream in (("anchored", za), ("exploratory", ze)))  # fmt: skip
        return ConnectorOutput(
            torch.cat([za, ze], 1),
            attention=self._by_stream(weights),
            gates=gates,
            redundancy=self._redundancy(za, ze, weights, inputs.has_picture),
        )

    def _queries(self, inputs: ConnectorInput) -> Tensor:
        batch, streams = len(inputs.visual), []
        if self.anchors is not None and self.by_field:
            fields = _given_fields(inputs)
            seen = (self.reads[None, :, :, None] & fields.mask[:, None]).flatten(2)
            streams.append(self.anchors(fields.tokens.flatten(1, 2).float(), seen))
        elif self.anchors is not None:
            streams.append(self.anchors(inputs.metadata, inputs.metadata_mask))
        if self.queries is not None and self.norm is not None:
            streams.append(self.norm(self.queries).expand(batch, -1, -1))
        return torch.cat(streams, 1)

    def _bias(self, inputs: ConnectorInput) -> Tensor | None:
        """Additive attention bias [B, heads, A + E, P]: agreement for the anchored, grid prior for the exploratory."""
        if not any((self.agreement_bias, self.prior, self.anchored_prior, self.exploratory_bias)):
            return None
        batch, tokens, _ = inputs.visual.shape
        anchored = inputs.visual.new_zeros(batch, self.heads, self.anchored, tokens)
        exploratory = inputs.visual.new_zeros(batch, self.heads, self.exploratory, tokens)
        if self.agreement_bias is not None:
            anchored = anchored + agreement_bias(self.agreement_bias, inputs, self._query_maps(inputs))
        if self.anchored_prior is not None:
            anchored = anchored + self.anchored_prior()
        if self.prior is not None:
            exploratory = exploratory + self.prior()
        if self.exploratory_bias is not None:
            exploratory = exploratory + agreement_bias(self.exploratory_bias, inputs)
        return torch.cat([anchored, exploratory], 2)

    def _query_maps(self, inputs: ConnectorInput) -> Tensor | None:
        """κ·a [B, A, P] of the fields that each anchored query reads, their mean; None for the item's own map."""
        if not self.field_bias or inputs.field_maps is None:
            return None
        present = self.reads[None] & _given_fields(inputs).mask.any(-1)[:, None]  # [B, A, F]
        share = present / present.sum(-1, keepdim=True).clamp_min(1)
        return share @ inputs.field_maps

    def _attend(self, x: Tensor, visual: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        seen = self._seen(x.device)
        weights, of_tokens = None, None
        if self.modulation is not None and self.modulate == "tokens":
            of_tokens = self.modulation(x[:, : self.anchored].mean(1))
        for block in self.blocks:
            x, weights = block(x, visual, None, bias, seen)
        if self.value_path is not None:
            pooled, weights = self.value_path(x, visual, None, bias, of_tokens)
            if self.modulation is not None and self.modulate == "pooled":
                scale, shift = self.modulation(x)
                pooled = torch.addcmul(shift, pooled, 1 + scale)
            x = x + pooled
        return x, weights

    def _seen(self, device: torch.device) -> Tensor | None:
        if self.streams == "joint":
            return None
        stream = torch.arange(self.tokens, device=device) < self.anchored
        return stream[:, None] == stream[None, :]

    def _gates(self, inputs: ConnectorInput, za: Tensor, ze: Tensor) -> dict[str, Tensor]:
        means = [stream.mean(1) for stream in (za, ze) if stream.shape[1]]
        gates = {}
        if self.gate_anchored is not None:
            agreement = inputs.agreement if inputs.agreement is not None else inputs.vector.new_zeros(len(za))
            gates["anchored"] = self.gate_anchored(agreement[:, None], inputs.vector, *means)
        if self.gate_exploratory is not None:
            gates["exploratory"] = self.gate_exploratory(inputs.vector, means[-1])
        return gates

    def _by_stream(self, weights: Tensor | None) -> dict[str, Tensor]:
        if weights is None:
            return {}
        anchored, exploratory = weights.split([self.anchored, self.exploratory], 2)  # type: ignore[no-untyped-call]
        streams = {"anchored": anchored, "exploratory": exploratory}
        return {name: stream for name, stream in streams.items() if stream.shape[2]}

    def _redundancy(self, za: Tensor, ze: Tensor, weights: Tensor | None, has_picture: Tensor) -> Tensor | None:
        if not (self.anchored and self.exploratory):
            return None
        if self.redundant == "attention" and weights is not None:
            return overlap(weights[has_picture], self.anchored)
        return redundancy(za.mean(1)[has_picture], ze.mean(1)[has_picture])
