"""NoteLLM-2: a Q-Former whose picture gets an embedding of its own beside the whole item's (arXiv 2405.16789)."""

from __future__ import annotations

from tgqformer.config import Natural, Positive, Share
from tgqformer.connectors.base import TOKENS, Connector, ConnectorInput, ConnectorOutput, ConnectorWidths, PictureWord
from tgqformer.connectors.qformer import QFormer


class NoteLLM2(Connector):
    """The connector of NoteLLM-2 is a plain Q-Former; what is special happens in the model (`picture_word`).

    The prompt wants one word for the picture, then one word for the whole item (mICL prompt). The picture's global
    vector is fused into both late; both are trained. See `model/picture_word.py`.

    Args:
        widths: what the encoders give.
        tokens: K; NoteLLM-2 has 16. dim, heads, blocks, hidden, cross_every, value_path, prior, agreement_bias, beta,
            dropout: of the Q-Former.
        word: the prompt for the picture's word.
        weight: share of the picture's loss; NoteLLM-2 weighs the whole item 9 to 1.
        fusion: whether the global vector is fused in.
    """

    attends = True

    def __init__(
        self,
        widths: ConnectorWidths,
        *,
        tokens: Positive = TOKENS,
        dim: Positive = 256,
        heads: Positive = 4,
        blocks: Natural = 1,
        hidden: Positive | None = None,
        cross_every: Positive = 1,
        value_path: bool = True,
        prior: bool = True,
        agreement_bias: bool = False,
        beta: float = 2.0,
        dropout: Share = 0.0,
        word: str = "Compress this picture into one word:",
        weight: float = 0.1,
        fusion: bool = True,
    ) -> None:
        super().__init__()
        self.qformer = QFormer(
            widths,
            tokens=tokens,
            dim=dim,
            heads=heads,
            blocks=blocks,
            hidden=hidden,
            cross_every=cross_every,
            value_path=value_path,
            prior=prior,
            agreement_bias=agreement_bias,
            beta=beta,
            dropout=dropout,
        )
        self.tokens, self.width, self.guided = tokens, dim, agreement_bias
        self.picture_word = PictureWord(word, weight, fusion)

    def forward(self, inputs: ConnectorInput) -> ConnectorOutput:
        """Return [B, K, D] and the attention of the stream `query`."""
        return self.qformer(inputs)
