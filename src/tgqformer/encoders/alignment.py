"""Where in the picture the named product is, and whether it is there at all: the alignment of pictures and titles."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgqformer.contrastive import info_nce
from tgqformer.encoders.base import JointSpace, TextFeatures, VisualFeatures


class TokenNorm(nn.Module):
    """Standardise visual tokens per channel with the mean and spread seen in training pictures.

    Levels of an encoder differ in scale by orders of magnitude; unstandardised, the loudest level drowns the rest.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def fit(self, tokens: Tensor) -> None:
        """Take mean and spread from tokens [n, P, Dv]; a channel that never moves keeps its scale of 1.

        Without any token (a catalogue without pictures) nothing changes.
        """
        flat = tokens.flatten(0, 1).double()
        if len(flat) < 2:
            return
        spread = flat.std(0)
        self.mean.copy_(flat.mean(0))
        self.scale.copy_(torch.where(spread > 1e-6, 1 / spread.clamp_min(1e-6), torch.ones_like(spread)))

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (Tensor): [B, P, Dv], any float type. Returns a new float32, clipped at ten spreads."""
        return (tokens.float() - self.mean).mul_(self.scale).clamp_(-10, 10)  # in place: tokens are the widest of all


class Projection(nn.Module):
    """A small head into the shared space: LayerNorm -> hidden -> GELU -> width, L2-normalised."""

    def __init__(self, width_in: int, width: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(width_in), nn.Linear(width_in, hidden), nn.GELU(), nn.Linear(hidden, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (Tensor): [..., width_in]. Returns [..., width] of unit length."""
        return F.normalize(self.net(x), dim=-1)


class Alignment(nn.Module):
    """Two small projections, trained contrastively on the catalogue's own picture-title pairs (ours).

    `c[p] = cos(text, token p)`; the score of a picture and a title is `Σp softmax(κ·c)p · c[p]`, so a title matches a
    picture when some place in it does. κ and the temperature are learned.

    Args:
        visual: Dv. text: width of the pooled text vector. width: of the shared space. hidden: of the heads.
    """

    def __init__(self, visual: int, text: int, *, width: int = 64, hidden: int = 256) -> None:
        super().__init__()
        self.visual = Projection(visual, width, hidden)
        self.text = Projection(text, width, hidden)
        self.log_kappa = nn.Parameter(torch.tensor(10.0).log())
        self.log_temperature = nn.Parameter(torch.tensor(0.07).log())

    def forward(self, visual: Tensor, text: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Say where and how well each picture agrees with its own text.

        visual (Tensor): [B, P, Dv], standardised tokens; text (Tensor): [B, Dt], pooled; mask (Tensor): bool [B, P],
        False for tokens of no picture.

        Returns:
            (κ·a [B, P], s [B]).
        """
        c = torch.einsum("bpj,bj->bp", self.visual(visual), self.text(text))
        return self._score(c if mask is None else c.masked_fill(~mask, -1.0), mask)

    def scores(self, visual: Tensor, text: Tensor) -> Tensor:
        """Score every picture against every text: visual [B, P, Dv], text [C, Dt] -> [B, C]."""
        c = torch.einsum("bpj,cj->bcp", self.visual(visual), self.text(text))
        return self._score(c)[1]

    def loss(self, visual: Tensor, text: Tensor, same: Tensor) -> Tensor:
        """Return the InfoNCE loss of a batch of picture-title pairs, see `info_nce`.

        same (Tensor): bool [B, B], True where two items' texts are equal and must not count as negatives.
        """
        return info_nce(self.scores(visual, text) / self.log_temperature.exp().clamp_min(0.01), same)

    def _score(self, c: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        agreement_map = self.log_kappa.exp() * c
        logits = agreement_map if mask is None else agreement_map.masked_fill(~mask, torch.finfo(c.dtype).min)
        return agreement_map, (logits.softmax(-1) * c).sum(-1)


class JointAlignment(nn.Module):
    """The agreement that a joint image-text encoder (CLIP, Chinese-CLIP, SigLIP) brings along; nothing is trained.

    `a[p]` is the cosine of the text and visual token p, both projected into the encoder's own space; `s` is the cosine
    of its two global vectors.

    Args:
        space: the encoder's projections. kappa: sharpness of `a` as an attention bias; the cosines of such encoders
            differ by a few hundredths between places, so it is higher than the learned alignment's start.
    """

    def __init__(self, space: JointSpace, kappa: float = 30.0) -> None:
        super().__init__()
        self.space, self.kappa = space, kappa

    @torch.no_grad()
    def forward(self, picture: VisualFeatures, text: TextFeatures) -> tuple[Tensor, Tensor]:
        """Take features as the encoder gave them; return (κ·a [B, P], s [B])."""
        tokens, vector = self.space.pictures(picture)
        wanted = F.normalize(self.space.texts(text), dim=-1)
        places = torch.einsum("bpj,bj->bp", F.normalize(tokens, dim=-1), wanted)
        return self.kappa * places, (F.normalize(vector, dim=-1) * wanted).sum(-1)
