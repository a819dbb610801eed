"""No connector: the language model reads the metadata alone."""

from __future__ import annotations

from torch import nn

from tgqformer.connectors.base import ConnectorInput, ConnectorOutput, ConnectorWidths


class NoConnector(nn.Module):
    """No visual token at all: text only."""

    guided = False

    def __init__(self, widths: ConnectorWidths) -> None:
        super().__init__()
        self.tokens, self.width = 0, 1

    def forward(self, inputs: ConnectorInput) -> ConnectorOutput:
        """Give [B, 0, 1]."""
        return ConnectorOutput(inputs.visual.new_zeros(len(inputs.visual), 0, 1))
