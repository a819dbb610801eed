"""TGQ-Former: the item's own metadata says where in the picture to look (Guo et al., KDD 2026, arXiv 2605.17366)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from tgqformer.config import Natural, Positive, Share
from tgqformer.connectors.attention import CrossAttention, QFormerBlock, ValuePath, drawn
from tgqformer.connectors.base import TOKENS, Connector, ConnectorInput, ConnectorOutput, ConnectorWidths
from tgqformer.connectors.bias import AgreementBias, GridPrior, repeated, spread


class Anchors(nn.Module):
    """The metadata, compressed: A learned latents attend to the text tokens and give `Qa [B, A, D]`.

    A latent that has no token to attend to stays as it is.
    """

    def __init__(self, queries: int, dim: int, metadata_dim: int, heads: int) -> None:
        super().__init__()
        self.latents = drawn(1, queries, dim)
        self.attention = CrossAttention(dim, metadata_dim, heads)
        self.out = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, metadata: Tensor, mask: Tensor) -> Tensor:
        """metadata (Tensor): [B, T, Dt]; mask (Tensor): bool [B, T]. Returns [B, A, D]."""
        pooled, _ = self.attention(self.latents, metadata, mask)
        has_text = mask.any(-1)[:, None, None]
        anchors: Tensor = self.norm(self.latents + self.out(pooled) * has_text)
        return anchors


class ReliabilityGate(nn.Module):
    """`csig(MLP([parts]))` with `csig(x) = 2·sigmoid(x) − 1`; zero at the start, so a fresh gate changes nothing.

    Args:
        widths: of the parts. dim: D.
    """

    def __init__(self, widths: list[int], dim: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) if width > 1 else nn.Identity() for width in widths)
        first, last = nn.Linear(sum(widths), dim), nn.Linear(dim, dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(first, nn.GELU(), last)

    def forward(self, *parts: Tensor) -> Tensor:
        """parts: Tensors [B, width]. Returns [B, D], between -1 and 1."""
        x = torch.cat([norm(part) for norm, part in zip(self.norms, parts, strict=True)], -1)
        raw: Tensor = self.mlp(x)
        return 2 * torch.sigmoid(raw) - 1


def redundancy(anchored: Tensor, exploratory: Tensor) -> Tensor:
    """Mean over the dimensions of the squared correlation, over the batch, of the two streams' means.

    anchored, exploratory (Tensor): [B, D]. Returns a scalar between 0 and 1; 0 for fewer than two items.
    """
    if len(anchored) < 2:
        return anchored.new_zeros(())
    a, e = (x - x.mean(0) for x in (anchored, exploratory))
    correlation: Tensor = (a * e).sum(0) / (a.norm(dim=0) * e.norm(dim=0)).clamp_min(1e-6)
    return correlation.square().mean()


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


class TGQFormer(Connector):
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
        value_path, prior, agreement_bias: our additions, each with its switch.
        beta: where the agreement bias of the anchored queries starts.
        dropout: probability in the residual branches.
    """

    guided = attends = True

    def __init__(
        self,
        widths: ConnectorWidths,
        *,
        tokens: Natural | None = None,
        anchored: Natural | None = None,
        exploratory: Natural | None = None,
        dim: Positive = 256,
        heads: Positive = 4,
        blocks: Natural = 1,
        streams: Literal["joint", "separate"] = "joint",
        gates: Literal["both", "anchored", "exploratory", "none"] = "both",
        value_path: bool = True,
        prior: bool = True,
        agreement_bias: bool = True,
        beta: float = 2.0,
        dropout: Share = 0.0,
    ) -> None:
        super().__init__()
        anchored, exploratory = split_tokens(tokens, anchored, exploratory)
        if blocks == 0 and not value_path:
            raise ValueError("TGQ-Former needs a block or the value path")
        self.anchored, self.exploratory, self.heads, self.streams = anchored, exploratory, heads, streams
        self.tokens, self.width = anchored + exploratory, dim
        self.anchors = Anchors(anchored, dim, widths.metadata, heads) if anchored else None
        self.queries = drawn(1, exploratory, dim) if exploratory else None
        self.norm = nn.LayerNorm(dim) if exploratory else None  # a weight that nothing reads would stop DDP
        self.blocks = nn.ModuleList(
            QFormerBlock(dim, widths.visual, heads, hidden=4 * dim, dropout=dropout) for _ in range(blocks)
        )
        self.value_path = ValuePath(dim, widths.visual, heads) if value_path else None
        self.prior = GridPrior(exploratory, widths.grid, heads) if prior and exploratory else None
        self.agreement_bias = AgreementBias(heads, beta) if agreement_bias and anchored else None
        means = [dim] * (bool(anchored) + bool(exploratory))
        gate_anchored = anchored and gates in ("both", "anchored")
        gate_exploratory = exploratory and gates in ("both", "exploratory")
        self.gate_anchored = ReliabilityGate([1, widths.vector, *means], dim) if gate_anchored else None
        self.gate_exploratory = ReliabilityGate([widths.vector, dim], dim) if gate_exploratory else None

    def forward(self, inputs: ConnectorInput) -> ConnectorOutput:
        """Return [B, A + E, D], anchored first, and the attention of the streams `anchored` and `exploratory`."""
        z, weights = self._attend(self._queries(inputs), inputs.visual, self._bias(inputs))
        za, ze = z[:, : self.anchored], z[:, self.anchored :]
        gates = self._gates(inputs, za, ze)
        if "anchored" in gates:
            za = za * (1 + gates["anchored"][:, None])
        if "exploratory" in gates:
            ze = ze * (1 + gates["exploratory"][:, None])
        loss = None
        if self.anchored and self.exploratory and not torch.compiler.is_exporting():
            loss = redundancy(za.mean(1)[inputs.has_picture], ze.mean(1)[inputs.has_picture])
        return ConnectorOutput(torch.cat([za, ze], 1), self._by_stream(weights), gates, loss)

    def _queries(self, inputs: ConnectorInput) -> Tensor:
        streams = []
        if self.anchors is not None:
            streams.append(self.anchors(inputs.metadata, inputs.metadata_mask))
        if self.queries is not None and self.norm is not None:
            streams.append(self.norm(self.queries).expand(inputs.visual.shape[0], -1, -1))
        return torch.cat(streams, 1)

    def _bias(self, inputs: ConnectorInput) -> Tensor | None:
        """Additive attention bias [B, heads, A + E, P]: agreement for the anchored, grid prior for the exploratory."""
        if self.agreement_bias is None and self.prior is None:
            return spread(inputs, None)
        batch, tokens, _ = inputs.visual.shape
        anchored = inputs.visual.new_zeros(batch, self.heads, self.anchored, tokens)
        exploratory = inputs.visual.new_zeros(batch, self.heads, self.exploratory, tokens)
        if self.agreement_bias is not None:
            anchored = anchored + self.agreement_bias(inputs)
        if self.prior is not None:
            exploratory = exploratory + repeated(self.prior(), tokens)
        return spread(inputs, torch.cat([anchored, exploratory], 2))

    def _attend(self, x: Tensor, visual: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        seen, weights = self._seen(x.device), None
        for block in self.blocks:
            x, weights = block(x, visual, bias, seen)
        return (x, weights) if self.value_path is None else self.value_path(x, visual, bias)

    def _seen(self, device: torch.device) -> Tensor | None:
        """Which queries see each other in self-attention, bool [A + E, A + E]; None for all."""
        if self.streams == "joint":
            return None
        stream = torch.arange(self.tokens, device=device) < self.anchored
        return stream[:, None] == stream[None, :]

    def _gates(self, inputs: ConnectorInput, za: Tensor, ze: Tensor) -> dict[str, Tensor]:
        means = [stream.mean(1) for stream in (za, ze) if stream.shape[1]]
        gates = {}
        if self.gate_anchored is not None:
            agreement = inputs.agreement if inputs.agreement is not None else inputs.vector.new_zeros(za.shape[0])
            gates["anchored"] = self.gate_anchored(agreement[:, None], inputs.vector, *means)
        if self.gate_exploratory is not None:
            gates["exploratory"] = self.gate_exploratory(inputs.vector, means[-1])
        return gates

    def _by_stream(self, weights: Tensor | None) -> dict[str, Tensor]:
        if weights is None:
            return {}
        streams = {"anchored": weights[:, :, : self.anchored], "exploratory": weights[:, :, self.anchored :]}
        return {name: stream for name, stream in streams.items() if stream.shape[2]}
